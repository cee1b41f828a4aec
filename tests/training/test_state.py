from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from rnnspn.config import DataConfig, family_config
from rnnspn.errors import CheckpointError
from rnnspn.training import learner
from rnnspn.training.batches import Pictures
from rnnspn.training.checkpoint import STATE_FILE, Checkpoint, RunConfig
from rnnspn.training.loop import Trainer
from rnnspn.training.recipes import train_config

CPU = torch.device("cpu")
HEIGHT, WIDTH = 60, 56
RECIPES = ("best", "paper")


def small_trainer(folder: Path, recipe: str, family: str = "rnn-spn") -> Trainer:
    sizes = {"height": HEIGHT, "width": WIDTH, "classifier_filters": 4, "classifier_units": 9, "gru_units": 8}
    model = family_config(family, **sizes, **({"localisation_filters": 4} if family != "conv" else {}))
    return Trainer(folder, RunConfig(model, DataConfig(), train_config(recipe, model, batch=4, dropout=0.2)), CPU)


def train(trainer: Trainer, steps: int) -> None:
    for _ in range(steps):
        chance = torch.Generator().manual_seed(trainer.tally.step)
        images = torch.randint(0, 256, (4, HEIGHT, WIDTH), dtype=torch.uint8, generator=chance)
        pictures = Pictures(images, torch.randint(0, 10, (4, 3), generator=chance))
        trainer.learner.take_step(trainer.tally.step, pictures)
        trainer.tally.step += 1


def contents(trainer: Trainer) -> bytes:
    trainer.save()
    return (trainer.folder / STATE_FILE).read_bytes()


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Return a checkpoint after one step, for each recipe."""
    checkpoints = {}
    for recipe in RECIPES:
        trainer = small_trainer(tmp_path_factory.mktemp(recipe), recipe)
        train(trainer, 1)
        checkpoints[recipe] = contents(trainer)
    return checkpoints


def refusal(path: Path, content: bytes, recipe: str, change: Callable[[Checkpoint], object]) -> str:
    """Change a good checkpoint and return why it cannot be resumed."""
    path.write_bytes(content)
    checkpoint = Checkpoint.load(path)
    change(checkpoint)
    checkpoint.save(path)
    with pytest.raises(CheckpointError) as refused:
        small_trainer(path.parent, recipe).restore()
    assert "\n" not in str(refused.value)
    return str(refused.value)


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("family", ["rnn-spn", "ffn-spn", "conv"])
def test_a_restored_trainer_takes_the_next_steps_to_the_same_bytes(tmp_path: Path, family: str, recipe: str) -> None:
    trainer = small_trainer(tmp_path / "run", recipe, family)
    train(trainer, 2)
    trainer.save()
    restored = small_trainer(tmp_path / "run", recipe, family)
    train(restored, 1)  # leaves traces that restoring has to remove
    restored.restore()
    restored.folder = tmp_path / "restored"
    assert restored.tally == trainer.tally
    assert contents(restored) == contents(trainer)
    for one in (trainer, restored):
        train(one, 2)
    assert contents(restored) == contents(trainer)


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_run_stopped_before_its_first_step_goes_on_from_there(tmp_path: Path, recipe: str) -> None:
    trainer = small_trainer(tmp_path, recipe)
    trainer.save()
    restored = small_trainer(tmp_path, recipe)
    restored.restore()
    for one in (trainer, restored):
        train(one, 1)
    assert contents(trainer) == contents(restored)


def test_restored_tensors_are_laid_out_in_memory_like_the_weights_they_belong_to(tmp_path: Path) -> None:
    trainer = small_trainer(tmp_path, "best")
    train(trainer, 1)
    trainer.save()
    restored = small_trainer(tmp_path, "best")
    restored.restore()
    filters = [
        weight for group in restored.learner.optimiser.param_groups for weight in group["params"] if weight.ndim == 4
    ]
    assert any(not weight.is_contiguous() for weight in filters)
    for weight in filters:
        assert restored.learner.optimiser.state[weight]["exp_avg"].stride() == weight.stride()


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("part", ["weights/", "average/", "optimiser/"])
def test_a_checkpoint_with_a_tensor_missing_left_over_or_of_another_shape_is_refused(
    tmp_path: Path, good: dict[str, bytes], recipe: str, part: str
) -> None:
    path = tmp_path / STATE_FILE
    path.write_bytes(good[recipe])
    name = max(name for name in Checkpoint.load(path).tensors if name.startswith(part))
    for change in (
        lambda tensors: tensors.pop(name),
        lambda tensors: tensors.update({f"{part}0/other": torch.zeros(3)}),
        lambda tensors: tensors.update({name: torch.zeros(2, 3, 4, 5, 6)}),
    ):
        said = refusal(path, good[recipe], recipe, lambda checkpoint, change=change: change(checkpoint.tensors))
        assert said.startswith(f"{path}: ")
        assert part in said


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_checkpoint_without_all_that_the_optimiser_kept_is_refused(
    tmp_path: Path, good: dict[str, bytes], recipe: str
) -> None:
    def forget(checkpoint: Checkpoint) -> None:
        for name in [name for name in checkpoint.tensors if name.startswith("optimiser/")]:
            del checkpoint.tensors[name]

    assert "optimiser/0/" in refusal(tmp_path / STATE_FILE, good[recipe], recipe, forget)


@pytest.mark.parametrize(
    "notes",
    [{}, {"tally": None}, {"tally": {"step": 1, "pace": 2}}, {"tally": {"step": "one"}}, {"tally": [1, 2]}],
)
def test_a_checkpoint_that_does_not_say_how_far_it_came_is_refused(
    tmp_path: Path, good: dict[str, bytes], notes: dict[str, object]
) -> None:
    def replace(checkpoint: Checkpoint) -> None:
        checkpoint.notes.clear()
        checkpoint.notes.update(notes)

    assert "lacks part of the state" in refusal(tmp_path / STATE_FILE, good["best"], "best", replace)


def test_resuming_without_a_checkpoint_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="there is no checkpoint"):
        small_trainer(tmp_path, "best").restore()


def test_what_was_recorded_of_other_tensors_is_not_replayed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recordings: list[str] = []

    def recorded(step: Callable[[Pictures], torch.Tensor]) -> Callable[[Pictures], torch.Tensor]:
        name = f"recording {len(recordings)}"
        recordings.append(name)
        return lambda pictures: (recordings.append(f"a step of {name}"), step(pictures))[1]

    monkeypatch.setattr(learner, "RecordedStep", recorded)
    trainer = small_trainer(tmp_path, "best")
    trainer.learner._records = True
    trainer.save()
    trainer.restore()
    train(trainer, 1)
    trainer.restore()
    train(trainer, 1)
    assert recordings == ["recording 0", "a step of recording 0", "recording 2", "a step of recording 2"]
