"""A hundred thousand pictures in one run: memory and open files stay as they are, and so does the speed."""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from rnnspn.data.mnist import load_mnist
from rnnspn.data.sequences import Sequences
from tests.torture.record import ROOT, Options, Outcome

GROWTH_MIB = 10.0
"""Largest growth of the resident memory, once the run is under way."""
SLOWEST = 0.8
"""Least speed of the last fifth, as a share of the first fifth's."""
PREDICT = (sys.executable, "-m", "cli.main", "predict", "--model", "bundled", "--provider", "cpu", "--quiet")

_DIFFERENT = 300
_BEGUN = 0.1
_PAUSE_S = 0.05


class Sample(NamedTuple):
    """What a process had at one moment."""

    seconds: float
    records: int
    resident_mib: float
    descriptors: int


def torture_by_load(options: Options) -> Outcome:
    """Read so many paths, hard links to a few hundred pictures, and watch the process."""
    outcome = Outcome({"pictures": options.count, "different files": min(_DIFFERENT, options.count)})
    with tempfile.TemporaryDirectory() as name:
        pictures, target = Path(name) / "pictures", Path(name) / "out.jsonl"
        link_pictures(pictures, options.count)
        command = [*PREDICT, str(pictures), "--output", str(target)]
        samples = watch(command, target.with_name(f"{target.name}.partial"))
        records = target.read_bytes().count(b"\n") if target.exists() else 0
    if records != options.count:
        outcome.failures.append(f"{records} records of {options.count} pictures")
    judge(samples, options.count, outcome)
    return outcome


def link_pictures(folder: Path, count: int) -> None:
    """Make a folder of so many paths to a few hundred synthesised pictures."""
    folder.mkdir()
    pixels, _ = Sequences(load_mnist(), "test", seed=1).pictures(np.arange(min(_DIFFERENT, count)))
    names = [folder / f"{number:06}.png" for number in range(count)]
    for picture, name in zip(pixels, names, strict=False):
        Image.fromarray(picture).save(name)
    for number in range(len(pixels), count):
        os.link(names[number % len(pixels)], names[number])


def watch(command: Sequence[str], growing: Path) -> list[Sample]:
    """Run a command and look at it again and again, from its first record in the growing file to its end."""
    samples: list[Sample] = []
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL) as process:
        while process.poll() is None and not growing.exists():
            time.sleep(_PAUSE_S)
        if growing.exists():
            with growing.open("rb") as stream:
                records = 0
                while process.poll() is None:
                    records += stream.read().count(b"\n")
                    if records and (sample := _sample(process.pid, records)):
                        samples.append(sample)
                    time.sleep(_PAUSE_S)
    return samples


def _sample(pid: int, records: int) -> Sample | None:
    try:
        status = Path(f"/proc/{pid}/status").read_text()
        descriptors = len(list(Path(f"/proc/{pid}/fd").iterdir()))
    except OSError:
        return None
    resident = next((line.split()[1] for line in status.splitlines() if line.startswith("VmRSS:")), None)
    return Sample(time.monotonic(), records, int(resident) / 1024, descriptors) if resident else None


def judge(samples: Sequence[Sample], count: int, outcome: Outcome) -> None:
    """Note growth and speed, and what of it is too much."""
    under_way = [sample for sample in samples if _BEGUN * count <= sample.records < count]  # then it shuts down
    if len(under_way) < 3 or under_way[-1].records < 0.9 * count:
        outcome.failures.append(f"only {len(under_way)} looks at the run")
        return
    growth = max(sample.resident_mib for sample in under_way) - under_way[0].resident_mib
    descriptors = [sample.descriptors for sample in under_way]
    share = _speed(samples, 0.8 * count, count) / _speed(samples, 0, 0.2 * count)
    outcome.tried |= {
        "resident memory, MiB": round(under_way[0].resident_mib, 1),
        "growth of it, MiB": round(growth, 1),
        "open files": f"{min(descriptors)} to {max(descriptors)}",
        "speed, images/s": round(_speed(samples, 0, count)),
        "speed of the last fifth / the first": round(share, 2),
    }
    if growth > GROWTH_MIB:
        outcome.failures.append(f"resident memory grew by {growth:.1f} MiB, allowed {GROWTH_MIB:g}")
    if max(descriptors) > min(descriptors) + 1:  # the picture that is being read
        outcome.failures.append(f"open files went from {min(descriptors)} to {max(descriptors)}")
    if share < SLOWEST:
        outcome.failures.append(f"the last fifth ran at {share:.2f} of the first fifth's speed, allowed {SLOWEST:g}")


def _speed(samples: Sequence[Sample], first: float, last: float) -> float:
    """Return records a second between two numbers of records."""
    part = [sample for sample in samples if first <= sample.records <= last]
    if len(part) < 2 or part[-1].seconds == part[0].seconds:
        return float("nan")
    return (part[-1].records - part[0].records) / (part[-1].seconds - part[0].seconds)
