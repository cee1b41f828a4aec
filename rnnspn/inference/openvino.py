"""Sessions on OpenVINO's plug-in, which stands beside the plain runtime, or the reason why there can be none."""

import json
from typing import TYPE_CHECKING, Any

from rnnspn.errors import ProviderError
from rnnspn.inference.cores import available_cores
from rnnspn.inference.runtime import active, one_line

if TYPE_CHECKING:
    from onnxruntime import InferenceSession, SessionOptions

NAME = "OpenVINOExecutionProvider"
NO_PROCESSOR = "OpenVINO's provider finds no processor that it runs on, which are Intel's"
"""Why it does not run where nothing is wrong."""

_LIBRARY = "rnnspn-openvino"
_LOADED_INTO: list[Any] = []
"""The runtime, once it has loaded the plug-in."""


def on_openvino(runtime: Any, model: bytes, options: "SessionOptions", *, bfloat16: bool) -> "InferenceSession":
    """Open a session on OpenVINO's plug-in, with a stream for each core.

    Args:
        runtime: The module `onnxruntime`.
        model: The serialised model.
        options: The session's.
        bfloat16: Whether it multiplies in bfloat16.

    Raises:
        ProviderError: OpenVINO does not run here; the message says what to do.
    """
    settings = {
        "INFERENCE_PRECISION_HINT": "bf16" if bfloat16 else "f32",  # without it, bfloat16 wherever the processor has it
        "NUM_STREAMS": str(available_cores()),
        "INFERENCE_NUM_THREADS": str(available_cores()),
    }
    mend = "pip install --upgrade 'rnnspn[openvino]'"
    try:
        devices = _devices(runtime)
        if devices:
            options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
            options.add_provider_for_devices(devices[:1], {"load_config": json.dumps({"CPU": settings})})
            return active(runtime.InferenceSession(model, options), NAME, mend)
    except ModuleNotFoundError:
        raise ProviderError("OpenVINO's provider is not installed; pip install 'rnnspn[openvino]'") from None
    except ProviderError:
        raise
    except Exception as error:
        raise ProviderError(f"OpenVINO does not start here: {one_line(error)}; {mend}") from error
    raise ProviderError(f"{NO_PROCESSOR}; --provider cpu runs here, without bfloat16")


def _devices(runtime: Any) -> list[Any]:
    """Return the processors that the plug-in runs on; it is loaded once, as the runtime refuses a second time."""
    import onnxruntime_ep_openvino

    if not any(known is runtime for known in _LOADED_INTO):
        runtime.register_execution_provider_library(_LIBRARY, onnxruntime_ep_openvino.get_library_path())
        _LOADED_INTO.append(runtime)
    cpu = runtime.OrtHardwareDeviceType.CPU
    return [device for device in runtime.get_ep_devices() if device.ep_name == NAME and device.device.type == cpu]
