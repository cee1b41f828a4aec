import warnings

import pytest
import torch

from rnnspn.config import DataConfig, family_config
from rnnspn.training.batches import Batches, ahead
from rnnspn.training.checkpoint import RunConfig
from rnnspn.training.learner import Learner
from rnnspn.training.processes import Processes
from rnnspn.training.recipes import train_config
from rnnspn.training.recorded import RecordedStep
from rnnspn.training.sources import training_batches

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="records on CUDA alone"),
]

STEPS = 12


def trained(config: RunConfig, steps: int = STEPS, *, record: bool) -> dict[str, torch.Tensor]:
    """Train a few steps; return the weights and their average."""
    device = torch.device("cuda", torch.cuda.current_device())
    learner = Learner(config, device, Processes(), record=record)
    learner.network.train()
    for step, pictures in enumerate(ahead(supply(config, device), range(steps), device)):
        learner.take_step(step, pictures)
    if record:
        assert isinstance(learner._step, RecordedStep)
        assert learner._step._graph is not None
    return {name: tensor.clone() for name, tensor in learner.state().items() if not name.startswith("optimiser/")}


def supply(config: RunConfig, device: torch.device) -> Batches:
    return training_batches(config.data, config.model, config.train, device)


@pytest.fixture(autouse=True)
def exact(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave nothing to chance but the order of sums."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", True)
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", False)  # and put back what a learner sets


@pytest.mark.parametrize("recipe", ["best", "paper"])
@pytest.mark.parametrize("family", ["rnn-spn", "ffn-spn", "conv"])
def test_recorded_steps_learn_what_others_do(family: str, recipe: str) -> None:
    model = family_config(family)
    train = train_config(
        recipe, model, batch=32, epoch_images=32 * STEPS, dropout=0.3, dropout_ramp_epochs=1, precision="float32",
        distortion=0.0,
    )  # fmt: skip
    config = RunConfig(model, DataConfig(), train)
    begun = trained(config, 0, record=False)
    recorded, plain, again = (trained(config, record=record) for record in (True, False, False))
    # sums on a GPU come in any order, and differences grow from step to step: two plain runs differ too
    by_chance = apart(plain, again) / apart(plain, begun)
    assert apart(recorded, plain) / apart(plain, begun) < 0.01 + 3 * by_chance < 0.3


def apart(some: dict[str, torch.Tensor], others: dict[str, torch.Tensor]) -> float:
    """Return the distance between two sets of weights."""
    return float(torch.cat([(some[name] - others[name]).flatten() for name in others]).norm())


def test_nothing_in_a_step_waits_for_the_device() -> None:
    model = family_config("rnn-spn")
    config = RunConfig(model, DataConfig(), train_config("best", model, batch=32, dropout=0.3, distortion=0.0))
    device = torch.device("cuda", torch.cuda.current_device())
    learner = Learner(config, device, Processes(), record=False)
    learner.network.train()
    batches = supply(config, device)
    learner.take_step(0, batches.at(0))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that this is a prototype
        torch.cuda.set_sync_debug_mode("error")
    try:
        for step in range(1, 4):
            learner.take_step(step, batches.at(step))
    finally:
        torch.cuda.set_sync_debug_mode("default")
