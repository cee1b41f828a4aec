"""Sessions on NVIDIA GPUs, or the reason why there can be none."""

import contextlib
import ctypes
import io
from typing import TYPE_CHECKING, Any

from rnnspn.errors import ProviderError
from rnnspn.inference import pinned
from rnnspn.inference.rewrites.pooling import pool_first
from rnnspn.inference.runtime import active, one_line

if TYPE_CHECKING:
    from onnxruntime import InferenceSession, SessionOptions

NAME = "CUDAExecutionProvider"


def on_cuda(runtime: Any, model: bytes, options: "SessionOptions", *, tf32: bool) -> "InferenceSession":
    """Open a session on the first GPU, which pools before it rectifies.

    Args:
        runtime: The module `onnxruntime`.
        model: The serialised model.
        options: The session's.
        tf32: Whether it multiplies in TensorFloat-32.

    Raises:
        ProviderError: CUDA does not run here; the message says what to do.
    """
    if NAME not in runtime.get_available_providers():
        raise ProviderError(
            "this onnxruntime has no CUDA provider; for an NVIDIA GPU: "
            "pip uninstall onnxruntime && pip install 'rnnspn[gpu]'"
        )
    newest = driver()
    if not newest:
        raise ProviderError("no NVIDIA driver runs on this machine; see that nvidia-smi works, or use --provider cpu")
    missed = io.StringIO()
    try:
        model = rewritten(model)
        # Libraries from the pip packages are only found when they are loaded beforehand; it prints what it misses.
        with contextlib.redirect_stdout(missed):
            runtime.preload_dlls()
        try:
            session = _session(runtime, model, options, tf32, recording=True)
        except Exception:  # a model with a node that CUDA has no kernel for cannot be recorded
            session = _session(runtime, model, options, tf32, recording=False)
    except Exception as error:
        raise ProviderError(f"CUDA does not start here: {one_line(error)}; {_missing(missed)}") from error
    return active(session, NAME, f"the driver is for {newest}; {_missing(missed)}")


def rewritten(model: bytes) -> bytes:
    """Return a model, serialised, as it runs fastest on a GPU; it says the same."""
    import onnx

    proto = onnx.load_from_string(model)
    pool_first(proto)
    content: bytes = proto.SerializeToString()
    return content


def driver() -> str:
    """Return the newest CUDA that the NVIDIA driver runs, or nothing without a driver."""
    library, version = pinned.driver(), ctypes.c_int()
    try:
        if library is None or library.cuDriverGetVersion(ctypes.byref(version)):
            return ""
    except AttributeError:
        return ""
    return f"up to CUDA {version.value // 1000}.{version.value % 1000 // 10}"


def settings(*, tf32: bool, recording: bool) -> dict[str, str]:
    """Return the options of the CUDA provider: whether it multiplies in TensorFloat-32 and records its kernels."""
    return {
        "use_tf32": str(int(tf32)),
        "enable_cuda_graph": str(int(recording)),
        "cudnn_conv_algo_search": "HEURISTIC",  # no trial of every algorithm at the first batch of each size
    }


def _session(runtime: Any, model: bytes, options: "SessionOptions", tf32: bool, recording: bool) -> "InferenceSession":
    # The runtime's fallback would print on stdout, among the results, and run on another provider than we say.
    session: InferenceSession = runtime.InferenceSession(
        model, options, providers=[(NAME, settings(tf32=tf32, recording=recording))], enable_fallback=False
    )
    return session


def _missing(printed: io.StringIO) -> str:
    """Return what to do about the first library that the runtime printed that it misses."""
    mend = "pip install --upgrade 'rnnspn[gpu]' and see that nvidia-smi works"
    failures = [line for line in printed.getvalue().splitlines() if "failed" in line.lower()]
    return f"{' '.join(failures[0].split())[:200].rstrip('.')}; {mend}" if failures else mend
