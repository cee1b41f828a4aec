"""Which processor this is, and how many of its cores this process may really use."""

import math
import os
import platform
from pathlib import Path

_CPU_INFO = Path("/proc/cpuinfo")
_CGROUPS = Path("/sys/fs/cgroup")
_MEMBERSHIP = Path("/proc/self/cgroup")


def processor_name(cpu_info: Path = _CPU_INFO) -> str:
    """Return the maker's name of the processor, or its architecture where Linux does not tell.

    Args:
        cpu_info: What Linux says of its processors.
    """
    try:
        lines = cpu_info.read_text().splitlines()
    except OSError:
        lines = []
    names = (line.partition(": ")[2] for line in lines if line.startswith("model name"))
    return next(names, "") or platform.machine()


def available_cores(cgroups: Path = _CGROUPS, membership: Path = _MEMBERSHIP) -> int:
    """Count the cores left by the affinity mask and the container's limit.

    Args:
        cgroups: Where the control groups are mounted.
        membership: The file that names this process's group.

    Returns:
        The number of cores, at least 1; a part of a core counts as one.
    """
    granted = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    limits = [*_version_2_limits(cgroups, membership), *_version_1_limits(cgroups)]
    return max(1, min([granted, *(math.ceil(limit) for limit in limits)]))


def _version_2_limits(cgroups: Path, membership: Path) -> list[float]:
    """Read `cpu.max` of this process's group and of every group above it: the tightest one holds."""
    try:
        lines = membership.read_text().splitlines()
    except OSError:
        lines = []
    own = next((line[3:] for line in lines if line.startswith("0::")), "/")
    group = cgroups / own.lstrip("/")
    limits = []
    for folder in (group, *group.parents):
        if not folder.is_relative_to(cgroups):
            break
        try:
            quota, period = (folder / "cpu.max").read_text().split()
            limits.append(float(quota) / float(period))
        except (OSError, ValueError):  # no such group, or "max": no limit here
            continue
    return limits


def _version_1_limits(cgroups: Path) -> list[float]:
    try:
        quota = float((cgroups / "cpu" / "cpu.cfs_quota_us").read_text())
        period = float((cgroups / "cpu" / "cpu.cfs_period_us").read_text())
    except (OSError, ValueError):
        return []
    return [quota / period] if quota > 0 and period > 0 else []
