import os
import platform
from pathlib import Path

import pytest

from rnnspn.inference.cores import available_cores, processor_name


@pytest.fixture(autouse=True)
def eight_cores(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)


def _files(folder: Path, **contents: str) -> Path:
    for name, text in contents.items():
        path = folder / name.replace("__", "/").replace("_max", ".max").replace("_cfs", ".cfs")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def test_without_limits_the_affinity_mask_counts(tmp_path):
    assert available_cores(tmp_path, tmp_path / "cgroup") == 8


@pytest.mark.parametrize(
    ("limit", "cores"), [("max 100000", 8), ("250000 100000", 3), ("50000 100000", 1), ("junk", 8)]
)
def test_the_limit_of_a_container_counts(tmp_path, limit, cores):
    assert available_cores(_files(tmp_path, cpu_max=limit), tmp_path / "cgroup") == cores


def test_the_tightest_limit_above_the_own_group_counts(tmp_path):
    _files(tmp_path, outer__cpu_max="200000 100000", outer__inner__cpu_max="400000 100000", cgroup="0::/outer/inner\n")
    assert available_cores(tmp_path, tmp_path / "cgroup") == 2


def test_the_older_kind_of_limit_counts(tmp_path):
    folder = tmp_path / "cpu"
    folder.mkdir()
    (folder / "cpu.cfs_quota_us").write_text("400000")
    (folder / "cpu.cfs_period_us").write_text("100000")
    assert available_cores(tmp_path, tmp_path / "cgroup") == 4


def test_a_processor_is_named_by_its_maker_or_its_architecture(tmp_path):
    (tmp_path / "amd").write_text("processor\t: 0\nmodel name\t: AMD EPYC 7B13\nflags\t\t: sse\nmodel name\t: other\n")
    (tmp_path / "arm").write_text("processor\t: 0\nCPU part\t: 0xd0c\n")
    assert processor_name(tmp_path / "amd") == "AMD EPYC 7B13"
    assert processor_name(tmp_path / "arm") == processor_name(tmp_path / "missing") == platform.machine()
