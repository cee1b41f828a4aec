import itertools
import json
import signal
import subprocess
import sys
import weakref
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from rnnspn.config import DataConfig, ModelConfig
from rnnspn.data.examples import Examples
from rnnspn.data.mnist import load_mnist
from rnnspn.data.sequences import Sequences
from rnnspn.errors import CheckpointError, ConfigError
from rnnspn.scores import Score
from rnnspn.training import loop, reproduction
from rnnspn.training.batches import Pictures
from rnnspn.training.learner import Learner
from rnnspn.training.recipes import BEST
from rnnspn.training.reproduction import ROWS, Plan, Result, Row, finished, parse_rates, pick_rows, run_row, write_table
from rnnspn.training.tally import Observer

CPU = torch.device("cpu")
ROOT = Path(__file__).parents[2]
SMALL = next(row for row in ROWS if row.name == "rnn-spn-d4")


def few(split: str, data: DataConfig, model: ModelConfig) -> Examples:
    images, labels = Sequences(load_mnist(), split).pictures(np.arange(40))
    return Examples(f"few {split}", images, labels.astype(np.int64))


def few_on(split: str, data: DataConfig, model: ModelConfig, device: torch.device) -> Pictures:
    examples = few(split, data, model)
    return Pictures(torch.from_numpy(examples.images), torch.from_numpy(examples.labels))


@pytest.fixture(autouse=True)
def small_and_fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "held_out_pictures", few_on)
    monkeypatch.setattr(reproduction, "held_out", few)
    monkeypatch.setattr(reproduction, "QUICK", reproduction.QUICK | {"distortion": 0.0})


def plan(folder: Path, **changes: object) -> Plan:
    return Plan(**({"folder": folder, "recipe": "best", "quick": True} | changes))


def test_the_table_is_the_papers() -> None:
    errors = {row.name: round(100 * row.paper_error, 1) for row in ROWS}
    assert errors == {
        "rnn-spn-d1": 1.8, "rnn-spn-d2": 1.5, "rnn-spn-d3": 1.8, "rnn-spn-d4": 2.3,
        "ffn-spn-d1": 4.4, "ffn-spn-d2": 2.0, "ffn-spn-d3": 2.9, "ffn-spn-d4": 5.3,
        "conv": 2.9,
    }  # fmt: skip


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
@pytest.mark.parametrize("recipe", ["paper", "best"])
def test_every_row_has_a_legal_run_of_its_family(row: Row, recipe: str) -> None:
    config = Plan(folder=Path("runs"), recipe=recipe).config(row, 0.1)
    assert (config.model.family, config.model.downsample) == (row.family, row.downsample)
    assert config.train.recipe == recipe
    assert config.train.dropout == 0.1
    assert config.data.source == {"paper": "authors-2015", "best": "synthesis"}[recipe]
    assert bool(config.train.zoom_weight) == (recipe == "best" and row.family == "rnn-spn")


def test_a_finished_row_is_never_trained_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = run_row(SMALL, plan(tmp_path), CPU, Observer())
    assert first is not None
    monkeypatch.setattr(reproduction, "Trainer", None)
    assert run_row(SMALL, plan(tmp_path), CPU, Observer()) == first
    (look,) = (tmp_path / "rnn-spn-d4" / "test.jsonl").read_text().splitlines()
    assert json.loads(look)["wrong_digits"] == first.score.wrong_digits


def test_a_stopped_row_goes_on_to_the_same_end(tmp_path: Path) -> None:
    asked = iter(range(100))
    assert run_row(SMALL, plan(tmp_path / "a"), CPU, Observer(should_stop=lambda: next(asked) == 1)) is None
    steps: list[int] = []
    resumed = run_row(SMALL, plan(tmp_path / "a"), CPU, Observer(should_stop=lambda: bool(steps.append(1)) or False))
    whole = run_row(SMALL, plan(tmp_path / "b"), CPU, Observer())
    assert resumed == whole
    weights = [(tmp_path / run / "rnn-spn-d4" / "model.safetensors").read_bytes() for run in "ab"]
    assert weights[0] == weights[1]
    total = resumed.config.train.steps_per_epoch
    assert len(steps) == total - 2  # two were done before


KILLED = """
import sys, torch
from pathlib import Path
from rnnspn.training import loop, reproduction
from rnnspn.training.tally import Observer
from tests.training.test_reproduction import SMALL, THREE_EPOCHS, few, few_on, plan
loop.held_out_pictures, reproduction.held_out, reproduction.QUICK = few_on, few, THREE_EPOCHS
observer = Observer(should_stop=lambda: print("step", flush=True) or False)
reproduction.run_row(SMALL, plan(Path(sys.argv[1])), torch.device("cpu"), observer)
"""
THREE_EPOCHS = {"epochs": 3, "epoch_images": 256, "distortion": 0.0}


@pytest.mark.slow
def test_a_row_killed_in_the_middle_of_an_epoch_goes_on_to_the_same_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reproduction, "QUICK", THREE_EPOCHS)
    whole = run_row(SMALL, plan(tmp_path / "whole"), CPU, Observer())
    codes = []
    for steps in (1, 3):  # two steps make an epoch
        process = subprocess.Popen(
            [sys.executable, "-c", KILLED, str(tmp_path / "killed")], stdout=subprocess.PIPE, cwd=ROOT
        )
        assert process.stdout is not None
        list(itertools.islice(process.stdout, steps))
        process.kill()
        codes.append(process.wait())
        process.stdout.close()
    assert codes == [-signal.SIGKILL, -signal.SIGKILL]
    assert finished(plan(tmp_path / "killed")) == []
    run_row(SMALL, plan(tmp_path / "killed"), CPU, Observer())
    assert finished(plan(tmp_path / "killed")) == [whole]
    weights = [(tmp_path / run / "rnn-spn-d4" / "model.safetensors").read_bytes() for run in ("whole", "killed")]
    assert weights[0] == weights[1]
    assert len((tmp_path / "killed" / "rnn-spn-d4" / "test.jsonl").read_text().splitlines()) == 1


@pytest.mark.parametrize("killed_at", [0, 4, 10, 13])
def test_a_kill_costs_at_most_one_checkpoint_interval(
    killed_at: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [0.0]
    seconds_a_step, interval = 10.0, 30.0

    def take_step(learner: Learner, step: int, pictures: Pictures) -> torch.Tensor:
        if step == killed_at:
            raise KeyboardInterrupt
        clock[0] += seconds_a_step
        for weight in learner.network.parameters():
            weight.grad = torch.zeros_like(weight)
        learner.optimiser.step()
        return torch.ones(2)

    ten_steps = {"epochs": 2, "epoch_images": 10 * 128, "distortion": 0.0}
    monkeypatch.setattr(reproduction, "QUICK", ten_steps)
    monkeypatch.setattr(loop, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    monkeypatch.setattr(Learner, "take_step", take_step)
    with pytest.raises(KeyboardInterrupt):
        run_row(SMALL, plan(tmp_path), CPU, Observer())
    again = loop.Trainer(tmp_path / SMALL.name, plan(tmp_path).config(SMALL, 0.0), CPU)
    again.restore()
    lost = seconds_a_step * (killed_at - again.tally.step)
    assert 0 <= lost <= interval


def test_the_dropout_rate_is_chosen_on_the_validation_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    errors = iter([0.5, 0.2, 0.4, 0.1])

    def scripted(network: object, pictures: Pictures) -> Score:
        wrong = round(next(errors) * 120)
        return Score(120, wrong, 40, min(40, wrong), (wrong, 0, 0), (40,) * 3)

    learners: weakref.WeakSet[Learner] = weakref.WeakSet()

    class Counted(Learner):
        def __init__(self, *arguments: object) -> None:
            assert not learners  # each would hold much of a device's memory
            learners.add(self)
            super().__init__(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(loop, "Learner", Counted)
    monkeypatch.setattr(loop, "score_network", scripted)
    result = run_row(SMALL, plan(tmp_path, search=(0.1, 0.2, 0.3)), CPU, Observer())
    assert result is not None
    assert result.config.train.dropout == 0.2
    assert result.validation_errors == {0.1: 0.5, 0.2: 0.2, 0.3: 0.4}
    looks = sorted(path.parent.name for path in tmp_path.glob("*/test.jsonl"))
    assert looks == ["rnn-spn-d4-dropout-0.2"]  # the others never saw the test set
    for known in ((0.1, 0.2, 0.3), ()):
        assert run_row(SMALL, plan(tmp_path, search=known), CPU, Observer()) == result
    longer = run_row(SMALL, plan(tmp_path, search=(0.2, 0.4)), CPU, Observer())  # trains one more
    assert longer is not None
    assert longer.config.train.dropout == 0.4
    assert longer.validation_errors == {0.1: 0.5, 0.2: 0.2, 0.3: 0.4, 0.4: 0.1}


def test_a_search_takes_a_row_that_was_trained_without_one(tmp_path: Path) -> None:
    alone = run_row(SMALL, plan(tmp_path), CPU, Observer())
    assert alone is not None
    rate = alone.config.train.dropout
    both = run_row(SMALL, plan(tmp_path, search=(rate, 0.1)), CPU, Observer())
    assert both is not None
    assert set(both.validation_errors) == {rate, 0.1}
    folders = sorted(path.name for path in tmp_path.iterdir() if path.is_dir())
    assert folders == ["rnn-spn-d4", "rnn-spn-d4-dropout-0.1"]


def test_a_search_of_one_row_leaves_the_others_in_the_table(tmp_path: Path) -> None:
    other = next(row for row in ROWS if row.name == "rnn-spn-d3")
    alone = run_row(other, plan(tmp_path), CPU, Observer())
    searched = plan(tmp_path, search=(0.1,))
    result = run_row(SMALL, searched, CPU, Observer())
    assert finished(searched) == [result, alone]
    assert [row["row"] for row in json.loads(write_table(searched).read_text())["rows"]] == ["rnn-spn-d4", "rnn-spn-d3"]


def test_a_finished_row_whose_model_is_gone_says_what_to_do(tmp_path: Path) -> None:
    run_row(SMALL, plan(tmp_path), CPU, Observer())
    (tmp_path / "rnn-spn-d4.json").unlink()
    (tmp_path / "rnn-spn-d4" / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"finished and its model\.safetensors is gone; remove the folder"):
        run_row(SMALL, plan(tmp_path), CPU, Observer())


def test_the_recipes_own_epochs_are_the_result_however_they_are_given() -> None:
    plans = [Plan(folder=Path(), recipe="best", epochs=epochs) for epochs in (None, BEST.epochs, BEST.epochs + 1)]
    assert [made.is_the_result for made in plans] == [True, True, False]
    assert plans[0].config(SMALL, 0.0) == plans[1].config(SMALL, 0.0)


def test_rates_that_cannot_be_are_known_before_anything_is_trained(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"expected a dropout rate from 0 to below 1, got 1\.5"):
        run_row(SMALL, plan(tmp_path, search=(0.1, 1.5)), CPU, Observer())
    assert list(tmp_path.iterdir()) == []


def test_a_result_of_another_plan_is_refused(tmp_path: Path) -> None:
    run_row(SMALL, plan(tmp_path), CPU, Observer())
    with pytest.raises(CheckpointError, match="another plan"):
        run_row(SMALL, plan(tmp_path, seed=1), CPU, Observer())


def test_a_run_of_another_configuration_is_refused(tmp_path: Path) -> None:
    run_row(SMALL, plan(tmp_path), CPU, Observer())
    (tmp_path / "rnn-spn-d4.json").unlink()
    with pytest.raises(CheckpointError, match="another configuration"):
        run_row(SMALL, plan(tmp_path, seed=1), CPU, Observer())


def test_a_result_whose_rates_are_no_table_is_one_clear_error(tmp_path: Path) -> None:
    run_row(SMALL, plan(tmp_path), CPU, Observer())
    path = tmp_path / "rnn-spn-d4.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"validation_digit_error_by_dropout": [0.1]}))
    with pytest.raises(CheckpointError, match="not a readable result"):
        finished(plan(tmp_path))


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"config": 3}', "{"])
def test_a_damaged_result_is_one_clear_error(tmp_path: Path, text: str) -> None:
    (tmp_path / "rnn-spn-d4.json").write_text(text)
    with pytest.raises(CheckpointError, match="not a readable result"):
        run_row(SMALL, plan(tmp_path), CPU, Observer())


def test_the_table_holds_what_is_finished_and_says_whether_it_counts(tmp_path: Path) -> None:
    result = run_row(SMALL, plan(tmp_path), CPU, Observer())
    assert finished(plan(tmp_path)) == [result]
    document = json.loads(write_table(plan(tmp_path)).read_text())
    assert document["is_the_result"] is False
    assert [row["row"] for row in document["rows"]] == ["rnn-spn-d4"]
    assert document["rows"][0]["test"]["digits"] == 120
    assert document["rows"][0]["verdict"] is None


@pytest.mark.parametrize(("wrong", "verdict"), [(300, "better"), (520, "equal"), (560, "equal"), (900, "worse")])
def test_a_verdict_allows_for_chance_and_for_the_papers_rounding(wrong: int, verdict: str) -> None:
    row = Row("rnn-spn", 3, 0.018)
    score = Score(30_000, wrong, 10_000, wrong, (wrong, 0, 0), (10_000,) * 3)
    config = Plan(folder=Path()).config(row, 0.0)
    assert Result(row, config, score, 0.02, 1, "none").verdict == verdict


def test_rows_are_picked_by_name_in_the_order_given() -> None:
    assert [row.name for row in pick_rows("conv, rnn-spn-d2")] == ["conv", "rnn-spn-d2"]
    assert pick_rows(None) == ROWS
    with pytest.raises(ConfigError, match="expected rows out of"):
        pick_rows("rnn-spn-d9")


def test_dropout_rates_are_read_and_checked() -> None:
    assert parse_rates("0, 0.25") == (0.0, 0.25)
    assert parse_rates(None) == ()
    with pytest.raises(ConfigError, match="dropout rates such as"):
        parse_rates("0,much")
    with pytest.raises(ConfigError, match="expected a dropout rate"):
        Plan(folder=Path()).config(SMALL, 1.5)
