"""What a benchmark ran on, in one line, and which network it takes unless told otherwise."""

import datetime
from pathlib import Path

from rnnspn.inference.cores import available_cores, processor_name

MODEL = Path(__file__).parents[1] / "assets" / "models" / "rnn-spn-d3.onnx"


def describe(device: str = "cpu") -> str:
    """Return processor, cores, matrix extensions and date; for CUDA the GPU's name too."""
    info = Path("/proc/cpuinfo")
    flags = set(info.read_text().split()) if info.exists() else set()
    extensions = [name for flag, name in (("avx512f", "AVX-512"), ("amx_tile", "AMX")) if flag in flags]
    parts = [processor_name(), f"{available_cores()} cores", *extensions, datetime.date.today().isoformat()]
    if device == "cuda":
        import torch

        parts.insert(0, torch.cuda.get_device_name())
    return ", ".join(parts)
