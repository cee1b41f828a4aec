import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from rnnspn.alphabet import BLANK
from rnnspn.config import DataConfig, ModelConfig, family_config
from rnnspn.data.mnist import load_mnist
from rnnspn.data.sequences import Sequences
from rnnspn.errors import CheckpointError, DataError, OutputError, TrainingError
from rnnspn.models.networks import Network
from rnnspn.training import distortion, learner, loop
from rnnspn.training.batches import UNNAMED, Pictures
from rnnspn.training.checkpoint import MODEL_FILE, STATE_FILE, Checkpoint, RunConfig
from rnnspn.training.loop import Trainer
from rnnspn.training.optimisation import loss_of
from rnnspn.training.recipes import train_config
from rnnspn.training.tally import Observer

CPU = torch.device("cpu")
FEW_DIGITS = {"train": range(2_000)}
"""Those that are bent; all of them would take seconds."""


def small_run(recipe: str, **overrides: object) -> RunConfig:
    model = family_config("rnn-spn", gru_units=24, localisation_filters=4, classifier_filters=6, classifier_units=24)
    short = {"epochs": 2, "epoch_images": 192, "batch": 32, "distortion": 0.0}
    train = train_config(recipe, model, **(short | overrides))
    return RunConfig(model, DataConfig(seed=5), train)


def few_pictures(split: str, data: DataConfig, model: ModelConfig, device: torch.device) -> Pictures:
    """Validate on a few pictures: what is tested here is the loop, not the network."""
    images, labels = Sequences(load_mnist(), split).pictures(np.arange(50))
    return Pictures(torch.from_numpy(images), torch.from_numpy(labels).long())


@pytest.fixture(autouse=True)
def short_validation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "held_out_pictures", few_pictures)
    monkeypatch.setattr(distortion, "SPLITS", FEW_DIGITS)


def stop_after(steps: int) -> Observer:
    asked = iter(range(1, 1_000_000))
    return Observer(should_stop=lambda: next(asked) == steps)


RUNS = {
    "best": small_run("best"),
    "bent": small_run("best", distortion=1.0),
    "paper": small_run("paper", dropout=0.3),
}


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return the folder of one uninterrupted run of each of RUNS."""
    folders = {}
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(loop, "held_out_pictures", few_pictures)
        monkeypatch.setattr(distortion, "SPLITS", FEW_DIGITS)
        for name, config in RUNS.items():
            folders[name] = tmp_path_factory.mktemp(name)
            assert Trainer(folders[name], config, CPU).run()
    return folders


@pytest.mark.parametrize(
    ("run", "stop"), [(run, stop) for run in ("best", "paper") for stop in (1, 6, 11)] + [("bent", 9)]
)
def test_a_stopped_and_resumed_run_ends_with_the_same_bytes(
    tmp_path: Path, uninterrupted: dict[str, Path], run: str, stop: int
) -> None:
    assert not Trainer(tmp_path, RUNS[run], CPU, stop_after(stop)).run()
    resumed = Trainer(tmp_path, RUNS[run], CPU)
    resumed.restore()
    assert resumed.run()
    for name in (MODEL_FILE, STATE_FILE, "metrics.jsonl"):
        assert (tmp_path / name).read_bytes() == (uninterrupted[run] / name).read_bytes(), name


@pytest.mark.parametrize("run", ["best", "paper"])
def test_a_run_killed_between_its_checkpoints_ends_with_the_same_bytes(
    tmp_path: Path, uninterrupted: dict[str, Path], run: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "_SECONDS_APART", math.inf)
    running, killed = tmp_path / "running", tmp_path / "killed"

    def copy(record: dict[str, Any]) -> None:
        if record["epoch"] == 1:
            shutil.copytree(running, killed)

    assert Trainer(running, RUNS[run], CPU, Observer(on_epoch=copy), checkpoint_seconds=1000).run()
    resumed = Trainer(killed, RUNS[run], CPU)
    resumed.restore()
    assert len(resumed.tally.epochs) == 1  # the end of the second epoch was not saved
    assert resumed.tally.step == RUNS[run].train.steps_per_epoch
    assert resumed.run()
    for name in (MODEL_FILE, STATE_FILE, "metrics.jsonl"):
        assert (killed / name).read_bytes() == (uninterrupted[run] / name).read_bytes(), name


def test_the_byte_comparison_notices_a_run_that_saw_other_pictures(
    tmp_path: Path, uninterrupted: dict[str, Path]
) -> None:
    Trainer(tmp_path, replace(RUNS["best"], data=DataConfig(seed=6)), CPU).run()
    a, b = (Checkpoint.load(folder / MODEL_FILE).tensors for folder in (tmp_path, uninterrupted["best"]))
    assert any(not torch.equal(a[name], b[name]) for name in a)


def test_training_lowers_the_loss_on_an_easy_task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class OneDigit:
        def at(self, step: int) -> Pictures:
            return Pictures(torch.full((32, 100, 100), 40, dtype=torch.uint8), torch.full((32, 3), 7))

    monkeypatch.setattr(loop, "training_batches", lambda *arguments: OneDigit())
    trainer = Trainer(tmp_path, small_run("best", epochs=4, learning_rate=0.02), CPU)
    trainer.run()
    losses = [record["train_loss"] for record in trainer.tally.epochs]
    assert losses[-1] < losses[0] / 2


@pytest.mark.parametrize("steps", [1, 2, 3, 7])
def test_every_report_tells_how_fast_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, steps: int) -> None:
    monkeypatch.setattr(loop.time, "monotonic", lambda: 5.0)  # a clock that stands still
    seen: list[float] = []
    observer = Observer(on_progress=lambda progress: seen.append(progress.images_per_second))
    Trainer(tmp_path, small_run("best", epochs=1, epoch_images=16 * steps, batch=16), CPU, observer).run()
    assert seen
    assert min(seen) > 0


def test_the_error_is_that_of_what_has_labels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Halves:
        def at(self, step: int) -> Pictures:
            labels = torch.tensor([[7] * 3] * 6 + [[3] * 3] * 2 + [[UNNAMED] * 3] * 8)
            return Pictures(torch.zeros(16, 100, 100, dtype=torch.uint8), labels)

    monkeypatch.setattr(loop, "training_batches", lambda *arguments: Halves())
    seen: list[float] = []
    observer = Observer(on_progress=lambda progress: seen.append(progress.error))
    short = {"epochs": 1, "epoch_images": 160, "batch": 16, "companions": 0.5, "learning_rate": 1e-12}
    trainer = Trainer(tmp_path, small_run("best", **short), CPU, observer)
    with torch.no_grad():
        trainer.learner.network.classifier.logits[0].bias[7] = 100.0  # whatever it sees
    trainer.run()
    assert trainer.tally.epochs[0]["train_digit_error"] == pytest.approx(0.25)
    assert seen == pytest.approx([0.25] * len(seen))


def test_a_loss_that_is_no_number_ends_the_run_in_one_line_and_is_not_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def diverging(*arguments: Any) -> tuple[torch.Tensor, torch.Tensor]:
        loss, classification = loss_of(*arguments)
        if trainer.tally.step == 3:
            with torch.no_grad():
                trainer.learner.network.classifier.hidden.bias[0] = math.nan
        return loss, classification

    monkeypatch.setattr(learner, "loss_of", diverging)
    trainer = Trainer(tmp_path, small_run("best"), CPU)
    with pytest.raises(TrainingError, match=r"no finite number any more; .*--set learning_rate=0.0005$"):
        trainer.run()
    assert all(tensor.isfinite().all() for tensor in Checkpoint.load(tmp_path / STATE_FILE).tensors.values())


def test_a_kill_while_validating_costs_no_step_of_longer_epochs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "_SECONDS_APART", 0.0)  # this epoch takes less than the seconds that are not saved

    def killed(*arguments: object) -> None:
        raise KeyboardInterrupt

    config = small_run("best", epochs=1)
    with monkeypatch.context() as patch:
        patch.setattr(loop, "score_network", killed)
        with pytest.raises(KeyboardInterrupt):
            Trainer(tmp_path, config, CPU).run()
    trainer = Trainer(tmp_path, config, CPU)
    trainer.restore()
    assert trainer.tally.step == config.train.steps_per_epoch
    monkeypatch.setattr(trainer.learner, "take_step", None)
    assert trainer.run()
    assert len(trainer.tally.epochs) == 1


def test_a_run_that_holds_nothing_out_keeps_its_last_weights_and_claims_no_validation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "held_out_pictures", None)
    config = replace(RUNS["best"], data=DataConfig(seed=5, validation=False))
    assert not Trainer(tmp_path, config, CPU, stop_after(8)).run()
    trainer = Trainer(tmp_path, config, CPU)
    trainer.restore()
    assert trainer.run()
    kept = Checkpoint.load(tmp_path / MODEL_FILE)
    assert kept.notes == {"epoch": 1}
    assert all(torch.equal(tensor, kept.tensors[name]) for name, tensor in trainer.learner.average.weights.items())
    records = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert not [name for record in records for name in record if "validation" in name]
    for name in ("curves.png", "attention.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")


def test_training_stops_when_patience_runs_out(tmp_path: Path) -> None:
    trainer = Trainer(tmp_path, small_run("best", epochs=30, patience=2, learning_rate=1e-12, weight_average=0.0), CPU)
    assert trainer.run()
    assert len(trainer.tally.epochs) == trainer.tally.best_epoch + 3 < 30


def test_a_run_folder_holds_what_its_docstring_says(uninterrupted: dict[str, Path]) -> None:
    config, folder = RUNS["best"], uninterrupted["best"]
    assert RunConfig.from_dict(json.loads((folder / "config.json").read_text())) == config
    records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [record["epoch"] for record in records] == [0, 1]
    for name in ("curves.png", "attention.png"):
        assert (folder / name).read_bytes().startswith(b"\x89PNG")
    network = Checkpoint.load(folder / MODEL_FILE).network()
    assert network.config == config.model


def test_a_run_can_start_from_the_weights_of_another(tmp_path: Path, uninterrupted: dict[str, Path]) -> None:
    weights = Checkpoint.load(uninterrupted["best"] / MODEL_FILE)
    trainer = Trainer(tmp_path, replace(RUNS["best"], data=DataConfig(seed=8)), CPU)
    trainer.learner.start_from(weights)
    for name, tensor in trainer.learner.network.state_dict().items():
        assert torch.equal(tensor, weights.tensors[name])
        assert torch.equal(trainer.learner.average.weights[name], weights.tensors[name])
    other = replace(RUNS["best"].model, gru_units=25)
    with pytest.raises(CheckpointError, match="with gru units 25 and not 24"):
        Trainer(tmp_path, replace(RUNS["best"], model=other), CPU).learner.start_from(weights)


def test_pictures_that_cannot_be_had_leave_no_run_behind(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text("path,label\nthere-is-none.png,123\nnor-here.png,456\n")
    data = DataConfig(source=str(tmp_path))
    with pytest.raises(DataError, match="there is no such file"):
        Trainer(tmp_path / "run", replace(RUNS["best"], data=data), CPU).run()
    assert not (tmp_path / "run").exists()


def test_two_processes_do_not_train_in_one_folder(tmp_path: Path) -> None:
    config = small_run("best")
    (tmp_path / ".0123456789abcdef.part").touch()  # of one that was killed
    seen: list[str] = []

    def start_another() -> bool:
        if not seen:
            with pytest.raises(OutputError) as refused:
                Trainer(tmp_path, replace(config, train=replace(config.train, seed=9)), CPU).run()
            seen.append(str(refused.value))
        return True

    Trainer(tmp_path, config, CPU, Observer(should_stop=start_another)).run()
    assert "another run is writing" in seen[0]
    assert Checkpoint.load(tmp_path / STATE_FILE).config == config
    assert not list(tmp_path.glob("*.part"))


def test_weights_serve_a_recurrent_network_of_any_number_of_steps(
    tmp_path: Path, uninterrupted: dict[str, Path]
) -> None:
    weights = Checkpoint.load(uninterrupted["best"] / MODEL_FILE)
    longer = replace(RUNS["best"].model, steps=2)
    trainer = Trainer(tmp_path, replace(RUNS["best"], model=longer), CPU)
    trainer.learner.start_from(weights)
    assert trainer.learner.network(torch.zeros(1, 1, longer.height, longer.width)).logits.shape[1] == 2
    for name, tensor in trainer.learner.network.state_dict().items():
        assert torch.equal(tensor, weights.tensors[name])


def test_weights_serve_another_alphabet(tmp_path: Path, uninterrupted: dict[str, Path]) -> None:
    weights = Checkpoint.load(uninterrupted["best"] / MODEL_FILE)
    other = replace(RUNS["best"].model, alphabet="A9210" + BLANK)
    trainer = Trainer(tmp_path, replace(RUNS["best"], model=other), CPU)
    fresh = {name: tensor.clone() for name, tensor in trainer.learner.network.state_dict().items()}
    trainer.learner.start_from(weights)
    for name, tensor in trainer.learner.network.state_dict().items():
        known = weights.tensors[name]
        if name.startswith("classifier.logits"):
            assert torch.equal(tensor[1:5], known[[9, 2, 1, 0]])
            assert torch.equal(tensor[[0, 5]], fresh[name][[0, 5]])
        else:
            assert torch.equal(tensor, known)


def test_another_configuration_cannot_be_resumed(tmp_path: Path) -> None:
    config = small_run("best")
    Trainer(tmp_path, config, CPU, stop_after(2)).run()
    other = Trainer(tmp_path, replace(config, train=replace(config.train, seed=9)), CPU)
    with pytest.raises(CheckpointError, match="another configuration"):
        other.restore()


def test_a_run_that_another_has_gone_on_with_meanwhile_is_left_to_it(tmp_path: Path) -> None:
    config = small_run("best")
    Trainer(tmp_path, config, CPU, stop_after(2)).run()
    late, other = Trainer(tmp_path, config, CPU), Trainer(tmp_path, config, CPU, stop_after(3))
    late.restore()
    other.restore()
    other.run()
    with pytest.raises(OutputError, match="another run has gone on"):
        late.run()
    assert Checkpoint.load(tmp_path / STATE_FILE).notes["tally"]["step"] == 5


def test_a_run_that_another_has_begun_meanwhile_is_left_to_it(tmp_path: Path) -> None:
    config = small_run("best")
    late = Trainer(tmp_path, replace(config, train=replace(config.train, seed=9)), CPU)
    Trainer(tmp_path, config, CPU, stop_after(2)).run()
    with pytest.raises(OutputError, match=r"another run has begun in .* meanwhile; choose another --out"):
        late.run()
    left = Checkpoint.load(tmp_path / STATE_FILE)
    assert (left.config.train.seed, left.notes["tally"]["step"]) == (config.train.seed, 2)


def test_a_gradient_without_bounds_at_the_end_of_an_epoch_is_found_before_it_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = small_run("best")
    trainer = Trainer(tmp_path, config, CPU)
    update = trainer.learner.average.update

    def overflow(network: Network) -> None:
        if trainer.tally.step + 1 == config.train.steps_per_epoch:
            with torch.no_grad():
                next(network.parameters()).fill_(math.inf)
        update(network)

    monkeypatch.setattr(trainer.learner.average, "update", overflow)
    with pytest.raises(TrainingError, match="no finite number"):
        trainer.run()
    assert not (tmp_path / MODEL_FILE).exists()


KILLED = """
import sys, torch
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from tests.training.test_loop import few_pictures, small_run
from rnnspn.training import loop
from rnnspn.training.loop import Trainer
from rnnspn.training.tally import Observer
loop.held_out_pictures = few_pictures
trainer = Trainer(Path(sys.argv[1]), small_run("best", epochs=3), torch.device("cpu"),
                  Observer(should_stop=lambda: print("step", flush=True) or False), checkpoint_seconds=0.0)
if (trainer.folder / "checkpoint.safetensors").exists():
    trainer.restore()
trainer.run()
"""


@pytest.mark.slow
def test_a_run_that_is_killed_again_and_again_ends_with_the_same_bytes(tmp_path: Path) -> None:
    root = str(Path(__file__).parents[2])
    Trainer(tmp_path / "whole", small_run("best", epochs=3), CPU).run()
    killed = 0
    for steps in (2, 7):
        process = subprocess.Popen(
            [sys.executable, "-c", KILLED, str(tmp_path / "killed"), root], stdout=subprocess.PIPE, cwd=root
        )
        assert process.stdout is not None
        for _ in range(steps):
            process.stdout.readline()
        time.sleep(0.003 * steps)  # land inside a step or a write
        os.kill(process.pid, signal.SIGKILL)
        killed += process.wait() == -signal.SIGKILL
        process.stdout.close()
    assert killed == 2
    resumed = Trainer(tmp_path / "killed", small_run("best", epochs=3), CPU)
    resumed.restore()
    assert resumed.tally.step > 0
    assert resumed.run()
    assert (tmp_path / "whole" / MODEL_FILE).read_bytes() == (tmp_path / "killed" / MODEL_FILE).read_bytes()
