import math
from dataclasses import replace

import pytest
import torch

from rnnspn.errors import TrainingError
from rnnspn.training.batches import Pictures
from rnnspn.training.learner import Learner, expect_finite
from rnnspn.training.optimisation import learning_rate, make_optimiser
from rnnspn.training.processes import Processes
from tests.training.test_loop import CPU, small_run

RUN = small_run("best", weight_average=0.9, weight_decay=0.05, dropout=0.2)
PICTURES = Pictures(torch.zeros(4, 100, 100, dtype=torch.uint8), torch.zeros(4, 3, dtype=torch.int64))


def learner_of(process: int = 0, processes: int = 1, seed: int = 0) -> Learner:
    run = replace(RUN, train=replace(RUN.train, seed=seed))
    return Learner(run, CPU, Processes(process, processes))


@pytest.mark.parametrize(("rate", "advice"), [(1e9, "0.001"), (1.5e-3, "0.0005")])
def test_where_training_came_to_nothing_the_advice_is_sensible(rate: float, advice: str) -> None:
    expect_finite(3.0, rate)
    with pytest.raises(TrainingError, match=rf"--set learning_rate={advice}$"):
        expect_finite(math.inf, rate)


def test_a_step_has_its_own_learning_rate() -> None:
    learner = learner_of()
    for step in (0, 1, 7):
        learner.take_step(step, PICTURES)
        rates = [group["lr"].item() for group in learner.optimiser.param_groups]
        assert rates == pytest.approx([learning_rate(RUN.train, step)] * 2)


def test_the_average_is_short_at_first_and_as_long_as_configured_in_the_end() -> None:
    learner = learner_of()
    name = "classifier.hidden.weight"
    expected = learner.average.weights[name].clone()
    for step in (0, 1, 2, 5_000):
        learner.take_step(step, PICTURES)
        share = 1 - min(0.9, (step + 1) / (step + 10))
        expected += share * (learner.network.state_dict()[name] - expected)
    torch.testing.assert_close(learner.average.weights[name], expected)


def test_every_step_process_and_seed_drops_units_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Processes, "parallel", lambda self, network: network)

    def drawn(step: int, *who: int) -> tuple[float, ...]:
        learner = learner_of(*who)
        monkeypatch.setattr(learner, "_step", lambda pictures: torch.rand(4))
        return tuple(learner.take_step(step, PICTURES).tolist())

    draws = [drawn(step, process, 3) for step in range(5) for process in range(3)]
    assert len(set(draws)) == 15
    assert drawn(2) != drawn(2, 0, 1, 1)
    assert drawn(2) == drawn(2)


def test_only_matrices_and_filters_decay() -> None:
    learner = learner_of()
    decays = {
        weight: group["weight_decay"]
        for group in make_optimiser(learner.network, RUN.train).param_groups
        for weight in group["params"]
    }
    assert {decays[weight] for weight in learner.network.parameters() if weight.ndim > 1} == {0.05}
    assert {decays[weight] for weight in learner.network.parameters() if weight.ndim <= 1} == {0.0}


def test_weights_that_are_no_numbers_end_a_run() -> None:
    learner = learner_of()
    learner.expect_finite()
    learner.average.weights["classifier.hidden.bias"][1] = math.nan
    with pytest.raises(TrainingError, match="no finite number"):
        learner.expect_finite()
