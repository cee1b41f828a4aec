"""ONNX Runtime itself, which prints nothing, and what it says when something fails."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rnnspn.errors import MissingPackageError, OutOfMemoryError, ProviderError

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

_WHERE = re.compile(r"^\[ONNXRuntimeError\] : \d+ : \w+ : (\S+:\d+ [^()]*\([^()]*\)( const)? )?")
_FATAL = 4
"""ONNX Runtime's log level that leaves stderr to us; its exceptions carry what matters."""


def onnxruntime() -> Any:
    """Return the module `onnxruntime`, which from then on prints nothing.

    Raises:
        MissingPackageError: It is not installed, or does not load.
    """
    try:
        import onnxruntime as runtime

        runtime.set_default_logger_severity(_FATAL)
    except Exception as error:
        if isinstance(error, ModuleNotFoundError) and error.name == "onnxruntime":
            raise MissingPackageError(
                "ONNX Runtime, which reads pictures, is not installed; pip install 'rnnspn[cpu]', "
                "or pip install 'rnnspn[gpu]' for an NVIDIA GPU"
            ) from None
        raise MissingPackageError(  # what another package left of it, or a library of the system that it misses
            f"ONNX Runtime is installed but does not load ({one_line(error)}); "
            "pip uninstall -y onnxruntime onnxruntime-gpu && pip install 'rnnspn[cpu]', or 'rnnspn[gpu]'"
        ) from error
    return runtime


def session_options() -> Any:
    """Return the options of a session of one thread, for an ONNX model."""
    chosen = onnxruntime().SessionOptions()
    chosen.log_severity_level = _FATAL
    chosen.intra_op_num_threads = chosen.inter_op_num_threads = 1
    chosen.add_session_config_entry("session.intra_op.allow_spinning", "0")
    chosen.add_session_config_entry("session.load_model_format", "ONNX")  # whatever the bytes look like
    return chosen


def active(session: "InferenceSession", name: str, mend: str) -> "InferenceSession":
    """Return a session if it runs on the provider of that name: the runtime falls back to the CPU in silence.

    Raises:
        ProviderError: It does not; `mend` says what to do.
    """
    if session.get_providers()[0] != name:
        raise ProviderError(f"{name} does not start here; {mend}")
    return session


def one_line(error: Exception) -> str:
    """Return what an exception says in one line of at most 300 characters, or its class where it says nothing.

    Of ONNX Runtime's, what it says comes after a number, a name and the line of its own source.
    """
    return _WHERE.sub("", " ".join(str(error).split()))[:300] or type(error).__name__


def want_of_memory(path: Path, error: Exception) -> OutOfMemoryError:
    """Return the error for a model that there is too little memory for."""
    return OutOfMemoryError(f"there is too little memory for {path} ({one_line(error)}); take a smaller network")
