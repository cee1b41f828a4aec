import sys
from pathlib import Path

import pytest

from tests.torture.load import Sample, judge, torture_by_load, watch
from tests.torture.record import Options, Outcome


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="no /proc on this system")
def test_thousands_of_pictures_leave_memory_and_open_files_as_they_are(tmp_path: Path) -> None:
    outcome = torture_by_load(Options(seed=0, quick=True, cache=tmp_path, flips=0, mutants=0, kills=0, count=12_000))
    assert [failure for failure in outcome.failures if "speed" not in failure] == []  # others may use the machine too
    assert outcome.tried["speed, images/s"] > 0


def _samples(resident_mib: float = 0, descriptors: int = 0, slowness: float = 0) -> list[Sample]:
    """Return a run of 100 looks at 1,000 pictures in which something grows by so much."""
    seconds = 0.0
    samples = []
    for number in range(1, 101):
        seconds += 1 + slowness * number / 100
        share = number / 100
        samples.append(Sample(seconds, number * 10, 200 + resident_mib * share, 20 + int(descriptors * share)))
    return samples


@pytest.mark.parametrize(
    ("grows", "found"),
    [
        ({}, []),
        ({"resident_mib": 15}, ["resident memory grew by 13.3 MiB, allowed 10"]),
        ({"descriptors": 50}, ["open files went from 25 to 69"]),
        ({"slowness": 1}, ["the last fifth ran at 0.58 of the first fifth's speed, allowed 0.8"]),
    ],
)
def test_what_grows_is_found_out(grows: dict[str, float], found: list[str]) -> None:
    outcome = Outcome()
    judge(_samples(**grows), 1000, outcome)
    assert outcome.failures == found


def test_a_run_that_was_hardly_seen_proves_nothing() -> None:
    outcome = Outcome()
    judge(_samples()[:50], 1000, outcome)
    assert outcome.failures == ["only 41 looks at the run"]


def test_a_program_that_keeps_what_it_read_is_seen_to_grow(tmp_path: Path) -> None:
    growing = tmp_path / "out"
    script = (
        "import sys, time\nkept = []\n"
        "with open(sys.argv[1], 'w') as stream:\n"
        "    for number in range(40):\n"
        "        kept.append(bytearray(b'x' * 2**20))\n"
        "        print(number, file=stream, flush=True)\n"
        "        time.sleep(0.03)\n"
    )
    outcome = Outcome()
    judge(watch([sys.executable, "-c", script, str(growing)], growing), 40, outcome)
    assert any("resident memory grew" in failure for failure in outcome.failures)
