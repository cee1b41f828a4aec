import json
import signal
import time
from pathlib import Path

import pytest

from rnnspn.scores import Score
from rnnspn.training import reproduction
from rnnspn.training.reproduction import Plan, Result, Row
from tests.cli.program import rnnspn, rnnspn_here, start

ONE_ROW = ["reproduce", "--quick", "--rows", "rnn-spn-d4", "--out", "table"]


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder in which a quick row was killed once it had a checkpoint, and then finished."""
    folder = tmp_path_factory.mktemp("workplace")
    process = start(folder, *ONE_ROW)
    deadline = time.monotonic() + 120
    while not (folder / "table/rnn-spn-d4/checkpoint.safetensors").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not (folder / "table/rnn-spn-d4.json").exists()
    code, out, err = rnnspn(folder, *ONE_ROW)
    assert code == 0, err
    (folder / "out").write_text(out)
    return folder


def test_a_killed_row_goes_on_and_the_table_says_it_is_no_result(workplace: Path) -> None:
    out = (workplace / "out").read_text()
    assert "NOT the result" in out
    assert "not a result" in next(line for line in out.splitlines() if "rnn-spn-d4" in line)
    epochs = (workplace / "table/rnn-spn-d4/metrics.jsonl").read_text().splitlines()
    assert len(epochs) == 1
    assert json.loads((workplace / "table/table1.json").read_text())["is_the_result"] is False


def test_repeating_the_command_only_reads(workplace: Path) -> None:
    before = (workplace / "table/rnn-spn-d4/checkpoint.safetensors").stat().st_mtime_ns
    code, out, _ = rnnspn(workplace, *ONE_ROW, "--json")
    assert code == 0
    (row,) = json.loads(out)["rows"]
    assert (row["row"], row["test"]["digits"]) == ("rnn-spn-d4", 30_000)
    assert (workplace / "table/rnn-spn-d4/checkpoint.safetensors").stat().st_mtime_ns == before


def test_a_stop_that_is_asked_for_while_a_row_is_tested_ends_after_that_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def tested(row: Row, plan: Plan, *_: object) -> Result:
        signal.raise_signal(signal.SIGTERM)
        return Result(row, plan.config(row, 0.3), Score(1, 0, 1, 0, (0,), (1,)), {0.3: 0.1}, 1, "somewhere")

    monkeypatch.setattr(reproduction, "run_row", tested)
    code, _, err = rnnspn_here(tmp_path, "reproduce", "--quick", "--rows", "rnn-spn-d4,rnn-spn-d3")
    assert code == 130
    assert "interrupted after rnn-spn-d4; the same command goes on from there" in err
    code, _, err = rnnspn_here(tmp_path, "reproduce", "--quick", "--rows", "rnn-spn-d4")
    assert code == 0, err


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--rows", "rnn-spn-d9"], "expected rows out of"),
        (["--search-dropout", "some"], "expected dropout rates"),
        (["--search-dropout", "2", "--rows", "conv"], "expected a dropout rate"),
        (["--epochs", "0"], "expected epochs"),
        (["--quick", "--epochs", "3"], "leave out --epochs"),
        (["--seed", "5", "--quick", "--rows", "rnn-spn-d4", "--out", "table"], "another plan"),
    ],
)
def test_bad_input_is_one_line(workplace: Path, arguments: list[str], complaint: str) -> None:
    code, out, err = rnnspn_here(workplace, "reproduce", *arguments)
    assert (code, out) == (2, "")
    assert len(err.splitlines()) == 1
    assert complaint in err
