"""What a machine is and is good at: where to train on it, in which precision, and how memory is kept."""

import ctypes
import os

import torch

from rnnspn.errors import ConfigError
from rnnspn.inference.cores import processor_name

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # malloc.h of glibc


def pick_device(wanted: str) -> torch.device:
    """Return the device: the one wanted; `auto` takes CUDA where there is one, under torchrun one per process.

    Raises:
        ConfigError: CUDA was asked for and there is none.
    """
    if wanted == "cuda" and not torch.cuda.is_available():
        raise ConfigError("expected a CUDA device and found none; train with --device cpu, or install torch for CUDA")
    if wanted == "auto":
        wanted = "cuda" if torch.cuda.is_available() else "cpu"
    if wanted == "cuda":
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))  # torchrun gives each process its own
        return torch.device("cuda", torch.cuda.current_device())
    return torch.device(wanted)


def name_of(device: torch.device) -> str:
    """Name what a run is trained on."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{torch.get_num_threads()} CPU threads, {processor_name()}"


def is_fast_in_bfloat16(device: torch.device) -> bool:
    """Return whether a device multiplies in bfloat16; emulating it takes a CPU six times as long as float32."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def keep_freed_memory() -> None:
    """Let this process keep the memory of freed tensors, where the C library is glibc.

    Every step frees and asks for the same few hundred megabytes. By default glibc hands them back to the kernel, which
    fills them with zeros page by page the next time: a fifth of a training step, and half of reading with a network.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if os.name == "posix" else None
    if mallopt is not None:
        mallopt(_M_MMAP_MAX, 0)
        mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)
