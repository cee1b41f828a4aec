"""Whether OpenVINO's plug-in can be tested here: it has to be installed, and runs on Intel's processors alone."""

from importlib.util import find_spec

import onnxruntime
import pytest


def _why_not() -> str:
    if find_spec("onnxruntime_ep_openvino") is None:
        return "onnxruntime-ep-openvino is not installed"
    vendors = {device.device.vendor for device in onnxruntime.get_ep_devices()}
    return "" if any("Intel" in vendor for vendor in vendors) else f"a processor of {', '.join(vendors)}, not of Intel"


needs_openvino = pytest.mark.skipif(bool(_why_not()), reason=_why_not() or "OpenVINO runs here")
