"""What a benchmark ran on, in one line, and which network it takes unless told otherwise."""

import datetime
import os
import platform
from pathlib import Path

MODEL = Path(__file__).parents[1] / "assets" / "models" / "rnn-spn-d3.onnx"


def describe(device: str = "cpu") -> str:
    """Return processor, cores, matrix extensions and date; for CUDA the GPU's name too."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    model = next((line.split(": ")[1] for line in lines if line.startswith("model name")), platform.processor())
    flags = next((line.split(": ")[1].split() for line in lines if line.startswith("flags")), [])
    extensions = [name for flag, name in (("avx512f", "AVX-512"), ("amx_tile", "AMX")) if flag in flags]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    parts = [model, f"{cores} cores", *extensions, datetime.date.today().isoformat()]
    if device == "cuda":
        import torch

        parts.insert(0, torch.cuda.get_device_name())
    return ", ".join(parts)
