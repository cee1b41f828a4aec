"""Sessions of ONNX Runtime on the provider that was asked for, or the reason why there can be none.

The runtime falls back to the CPU in silence; a provider counts here only when the session itself says that it runs.
"""

import contextlib
import ctypes
import io
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from rnnspn.errors import MissingPackageError, ModelFileError, OutOfMemoryError, ProviderError, is_want_of_memory
from rnnspn.inference import pinned
from rnnspn.inference.cores import available_cores
from rnnspn.inference.layout import channel_block, filled
from rnnspn.inference.pooling import pooled_first

if TYPE_CHECKING:
    from onnxruntime import InferenceSession, SessionOptions

Provider = Literal["auto", "cpu", "cuda", "cuda-tf32", "openvino", "openvino-bfloat16"]
"""What runs a model. `auto` takes `cuda` where it works, else `cpu`. These and `openvino` compute in float32, with 23
bits after the point, and what a file has in integers in those; `cuda-tf32` multiplies with 10, `openvino-bfloat16` with
7."""

BATCHES = {"cpu": 16, "cuda": 256, "cuda-tf32": 256, "openvino": 32, "openvino-bfloat16": 32}
"""Pictures a call for the best throughput: on a CPU, more leave the cache of a core."""

_FULL_NAMES = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "cuda-tf32": "CUDAExecutionProvider",
    "openvino": "OpenVINOExecutionProvider",
    "openvino-bfloat16": "OpenVINOExecutionProvider",
}
_OPENVINO_LIBRARY = "rnnspn-openvino"
NO_PROCESSOR = "OpenVINO's provider finds no processor that it runs on, which are Intel's"
"""Why OpenVINO does not run where nothing is wrong."""
_WITH_OPENVINO: list[Any] = []
"""The runtime, once it has loaded OpenVINO's plug-in."""
_FATAL = 4
"""ONNX Runtime's log level that leaves stderr to us; its exceptions carry what matters."""


def open_session(model: bytes, provider: str, path: Path) -> "InferenceSession":
    """Open a session that runs on exactly one provider.

    On the CPU it has one thread, as one session for each thread that calls beats one session of many threads, and the
    model's channels are filled up to the processor's blocks.

    Args:
        model: The serialised model.
        provider: One of `Provider` but `auto`.
        path: Where the model came from, for messages.

    Raises:
        MissingPackageError: ONNX Runtime is not installed.
        ModelFileError: ONNX Runtime refuses the model.
        OutOfMemoryError: There is too little memory for the model.
        ProviderError: The provider cannot run here; the message says what to do.
    """
    runtime = onnxruntime()
    options = runtime.SessionOptions()
    options.log_severity_level = _FATAL
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.load_model_format", "ONNX")  # whatever the bytes look like
    if provider.startswith("cuda"):
        return _on_cuda(runtime, model, options, tf32=provider.endswith("tf32"))
    if provider.startswith("openvino"):
        return _on_openvino(runtime, model, options, "bf16" if provider.endswith("bfloat16") else "f32")
    block = channel_block()
    try:
        model = filled(model, block)
        return runtime.InferenceSession(model, options, providers=[_FULL_NAMES["cpu"]], enable_fallback=False)
    except Exception as error:
        if is_want_of_memory(error):
            raise want_of_memory(path, error) from error
        raise ModelFileError(f"{path}: ONNX Runtime refuses it: {one_line(error)}; export it again") from error


def _on_cuda(runtime: Any, model: bytes, options: "SessionOptions", tf32: bool) -> "InferenceSession":
    if _FULL_NAMES["cuda"] not in runtime.get_available_providers():
        raise ProviderError(
            "this onnxruntime has no CUDA provider; for an NVIDIA GPU: "
            "pip uninstall onnxruntime && pip install 'rnnspn[gpu]'"
        )
    driver = cuda_driver()
    if not driver:
        raise ProviderError("no NVIDIA driver runs on this machine; see that nvidia-smi works, or use --provider cpu")
    missed = io.StringIO()
    try:
        model = pooled_first(model)
        # Libraries from the pip packages are only found when they are loaded beforehand; it prints what it misses.
        with contextlib.redirect_stdout(missed):
            runtime.preload_dlls()
        try:
            session = _cuda_session(runtime, model, options, tf32, recording=True)
        except Exception:  # a model with a node that CUDA has no kernel for cannot be recorded
            session = _cuda_session(runtime, model, options, tf32, recording=False)
    except Exception as error:
        raise ProviderError(f"CUDA does not start here: {one_line(error)}; {_missing(missed)}") from error
    return _active(session, "cuda", f"the driver is for {driver}; {_missing(missed)}")


def cuda_driver() -> str:
    """Return the newest CUDA that the NVIDIA driver runs, or nothing without a driver."""
    library, version = pinned.driver(), ctypes.c_int()
    try:
        if library is None or library.cuDriverGetVersion(ctypes.byref(version)):
            return ""
    except AttributeError:
        return ""
    return f"up to CUDA {version.value // 1000}.{version.value % 1000 // 10}"


def _missing(printed: io.StringIO) -> str:
    """Return what to do about the first library that the runtime printed that it misses."""
    mend = "pip install --upgrade 'rnnspn[gpu]' and see that nvidia-smi works"
    failures = [line for line in printed.getvalue().splitlines() if "failed" in line.lower()]
    return f"{' '.join(failures[0].split())[:200].rstrip('.')}; {mend}" if failures else mend


def cuda_settings(*, tf32: bool, recording: bool) -> dict[str, str]:
    """Return the options of the CUDA provider: whether it multiplies in TensorFloat-32 and records its kernels."""
    return {
        "use_tf32": str(int(tf32)),
        "enable_cuda_graph": str(int(recording)),
        "cudnn_conv_algo_search": "HEURISTIC",  # no trial of every algorithm at the first batch of each size
    }


def _cuda_session(
    runtime: Any, model: bytes, options: "SessionOptions", tf32: bool, recording: bool
) -> "InferenceSession":
    settings = cuda_settings(tf32=tf32, recording=recording)
    # The runtime's fallback would print on stdout, among the results, and run on another provider than we say.
    session: InferenceSession = runtime.InferenceSession(
        model, options, providers=[(_FULL_NAMES["cuda"], settings)], enable_fallback=False
    )
    return session


def _on_openvino(runtime: Any, model: bytes, options: "SessionOptions", precision: str) -> "InferenceSession":
    """Open a session on OpenVINO's plug-in, which stands beside the plain runtime."""
    settings = {
        "INFERENCE_PRECISION_HINT": precision,  # without it, bfloat16 wherever the processor has it
        "NUM_STREAMS": str(available_cores()),
        "INFERENCE_NUM_THREADS": str(available_cores()),
    }
    mend = "pip install --upgrade 'rnnspn[openvino]'"
    try:
        devices = _openvino_devices(runtime)
        if devices:
            options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
            options.add_provider_for_devices(devices[:1], {"load_config": json.dumps({"CPU": settings})})
            return _active(runtime.InferenceSession(model, options), "openvino", mend)
    except ModuleNotFoundError:
        raise ProviderError("OpenVINO's provider is not installed; pip install 'rnnspn[openvino]'") from None
    except ProviderError:
        raise
    except Exception as error:
        raise ProviderError(f"OpenVINO does not start here: {one_line(error)}; {mend}") from error
    raise ProviderError(f"{NO_PROCESSOR}; --provider cpu runs here, without bfloat16")


def _openvino_devices(runtime: Any) -> list[Any]:
    """Return the processors that the plug-in runs on; it is loaded once, as the runtime refuses a second time."""
    import onnxruntime_ep_openvino

    if not any(known is runtime for known in _WITH_OPENVINO):
        runtime.register_execution_provider_library(_OPENVINO_LIBRARY, onnxruntime_ep_openvino.get_library_path())
        _WITH_OPENVINO.append(runtime)
    cpu = runtime.OrtHardwareDeviceType.CPU
    return [
        device
        for device in runtime.get_ep_devices()
        if device.ep_name == _FULL_NAMES["openvino"] and device.device.type == cpu
    ]


def _active(session: "InferenceSession", provider: str, mend: str) -> "InferenceSession":
    if session.get_providers()[0] != _FULL_NAMES[provider]:
        raise ProviderError(f"{_FULL_NAMES[provider]} does not start here; {mend}")
    return session


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


def one_line(error: Exception) -> str:
    """Return what an exception says in one line of at most 300 characters, or its class where it says nothing."""
    return " ".join(str(error).split())[:300] or type(error).__name__


def want_of_memory(path: Path, error: Exception) -> OutOfMemoryError:
    """Return the error for a model that there is too little memory for."""
    return OutOfMemoryError(f"there is too little memory for {path} ({one_line(error)}); take a smaller network")
