import random
import sys
from pathlib import Path

import pytest

from tests.torture.kills import MAIN, Program, kill_predicting, linked_pictures, predicting
from tests.torture.record import Outcome

NAIVE = """
import sys, time
target, mode, resume = sys.argv[2], sys.argv[3], "--resume" in sys.argv
lines = [f"{number}\\n" for number in range(40)]
place = target if mode == "in place" else target + ".partial"
with open(place, "a" if mode == "appended" else "w") as stream:
    for line in lines:
        stream.write(line)
        stream.flush()
        time.sleep(0.01)
if mode != "in place":
    import os
    os.replace(place, target)
"""


def test_a_killed_predict_is_gone_on_with_to_the_same_bytes(tmp_path: Path) -> None:
    outcome = Outcome()
    program = predicting(linked_pictures(tmp_path / "pictures", 2000), tmp_path / "out", "jsonl")
    kill_predicting(program, tmp_path / "out", 3, random.Random(1), outcome)
    assert outcome.failures == []
    assert outcome.tried["predict, jsonl: killed"] == 3


@pytest.mark.parametrize(
    ("mode", "found"),
    [("in place", "neither the old nor the new results"), ("appended", "no beginning of the results")],
)
def test_a_program_that_loses_or_doubles_records_is_found_out(tmp_path: Path, mode: str, found: str) -> None:
    command = [sys.executable, "-c", NAIVE, "--output", str(tmp_path / "out" / "results"), mode]
    outcome = Outcome()
    program = Program("naive", command, [*command, "--resume"], (0.15, 0.4))
    kill_predicting(program, tmp_path / "out", 4, random.Random(2), outcome)
    assert any(found in failure for failure in outcome.failures)


def test_a_program_that_cannot_start_is_found_out(tmp_path: Path) -> None:
    outcome = Outcome()
    command = [*MAIN, "predict", str(tmp_path), "--output", str(tmp_path / "results")]
    with pytest.raises(RuntimeError, match="expected pictures, found none"):
        kill_predicting(Program("broken", command, command, (0.1, 0.2)), tmp_path / "out", 1, random.Random(3), outcome)
