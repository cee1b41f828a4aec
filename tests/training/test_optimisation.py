import math

import pytest
import torch
from torch import nn

from rnnspn.config import family_config
from rnnspn.models.networks import Network, Output
from rnnspn.training.batches import UNNAMED, Pictures
from rnnspn.training.optimisation import (
    RMSprop,
    WeightAverage,
    clip_gradients,
    dropout_rate,
    learning_rate,
    loss_of,
    stray,
)
from rnnspn.training.recipes import train_config

RNN = family_config("rnn-spn")
PAPER = train_config("paper", RNN)
BEST = train_config("best", RNN)


def test_rmsprop_follows_its_formula() -> None:
    weight = nn.Parameter(torch.tensor([1.0, -2.0]))
    optimiser = RMSprop([weight], lr=torch.tensor(0.1))
    expected, mean_square = [1.0, -2.0], [0.0, 0.0]
    for gradient in ([0.5, -3.0], [0.25, 1.0]):
        weight.grad = torch.tensor(gradient)
        optimiser.step()
        for i, g in enumerate(gradient):
            mean_square[i] = 0.9 * mean_square[i] + 0.1 * g * g
            expected[i] -= 0.1 * g / math.sqrt(mean_square[i] + 1e-6)
    assert weight.tolist() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(("epoch", "divisor"), [(0, 1), (31, 1), (32, 1.5), (43, 1.5), (44, 1.5**2), (56, 1.5**3)])
def test_the_papers_learning_rate_is_divided_after_epoch_31_and_every_12_from_then_on(
    epoch: int, divisor: float
) -> None:
    assert learning_rate(PAPER, epoch * PAPER.steps_per_epoch) == pytest.approx(5e-4 / divisor)


def test_one_cycle_rises_to_its_peak_and_falls_to_nothing() -> None:
    steps = BEST.epochs * BEST.steps_per_epoch
    rates = [learning_rate(BEST, step) for step in range(steps)]
    peak = rates.index(max(rates))
    assert max(rates) == pytest.approx(BEST.learning_rate, rel=1e-3)
    assert peak == 100
    assert rates[: peak + 1] == sorted(rates[: peak + 1])
    assert rates[peak:] == sorted(rates[peak:], reverse=True)
    assert rates[-1] < 1e-6


def test_dropout_rises_over_the_first_five_epochs_of_the_papers_rnn_spn() -> None:
    config = train_config("paper", RNN, dropout=0.4)
    rates = [dropout_rate(config, int(epoch * config.steps_per_epoch)) for epoch in (0, 2.5, 5, 100)]
    assert rates == pytest.approx([0, 0.2, 0.4, 0.4])
    assert dropout_rate(train_config("paper", family_config("ffn-spn"), dropout=0.4), 0) == 0.4


def test_the_papers_loss_adds_its_epsilon_inside_the_logarithm() -> None:
    logits = torch.tensor([[[50.0, 0.0], [0.0, 50.0]]])
    loss, _ = loss_of(Output(logits, None), Pictures(torch.empty(1, 4, 4), torch.tensor([[0, 0]])), PAPER)
    assert loss.item() == pytest.approx(-(math.log(1 + 1e-5) + math.log(1e-5)) / 2, rel=1e-4)


def test_label_smoothing_spreads_a_share_of_each_label() -> None:
    logits = torch.tensor([[[2.0, 0.0, -1.0]]])
    pictures = Pictures(torch.empty(1, 4, 4), torch.tensor([[0]]))
    config = train_config("best", RNN, label_smoothing=0.3)
    logs = logits.log_softmax(-1).flatten()
    loss, _ = loss_of(Output(logits, None), pictures, config)
    assert loss.item() == pytest.approx(-(0.8 * logs[0] + 0.1 * logs[1] + 0.1 * logs[2]).item())


def test_glimpses_are_drawn_to_the_digits_where_their_places_are_known() -> None:
    config = train_config("best", RNN, place_weight=2.0, zoom_weight=0.0)
    labels, centres = torch.tensor([[3]]), torch.tensor([[[0.5, -0.25]]])
    theta = torch.zeros(1, 1, 2, 3, requires_grad=True)
    output, images = Output(torch.zeros(1, 1, 10), theta), torch.empty(1, 4, 4)
    loss, classification = loss_of(output, Pictures(images, labels, centres), config)
    assert (loss - classification).item() == pytest.approx(2.0 * (0.5**2 + 0.25**2))
    loss.backward()
    assert theta.grad is not None
    assert theta.grad[0, 0].tolist() == [[0.0, 0.0, -2.0], [0.0, 0.0, 1.0]]
    loss, classification = loss_of(output, Pictures(images, labels), config)
    assert loss.item() == classification.item()


def test_a_picture_of_unknown_places_draws_no_glimpse() -> None:
    config = train_config("best", RNN, place_weight=2.0, zoom_weight=0.0)
    labels, centres = torch.tensor([[3], [3]]), torch.tensor([[[0.5, -0.25]], [[math.nan, math.nan]]])
    theta = torch.zeros(2, 1, 2, 3, requires_grad=True)
    output = Output(torch.zeros(2, 1, 10), theta)
    loss, classification = loss_of(output, Pictures(torch.empty(2, 4, 4), labels, centres), config)
    assert (loss - classification).item() == pytest.approx(0.5**2 + 0.25**2)
    loss.backward()
    assert theta.grad is not None
    assert theta.grad[:, 0, :, 2].tolist() == [[-1.0, 0.5], [0.0, 0.0]]


def test_what_has_no_name_is_no_mistake() -> None:
    logits, labels = torch.zeros(2, 2, 10), torch.tensor([[3, 3], [UNNAMED, UNNAMED]])
    logits[0, :, 3] = 50.0
    loss, _ = loss_of(Output(logits, None), Pictures(torch.empty(2, 4, 4), labels), BEST)
    assert loss.item() == pytest.approx(0)


def test_glimpses_are_drawn_to_the_size_of_what_they_look_at_where_it_is_known() -> None:
    config = train_config("best", RNN, place_weight=0.0, zoom_weight=2.0, zoom=0.5)
    labels, theta = torch.tensor([[3], [3]]), torch.zeros(2, 1, 2, 3, requires_grad=True)
    output, images = Output(torch.zeros(2, 1, 10), theta), torch.empty(2, 4, 4)
    loss, classification = loss_of(output, Pictures(images, labels), config)
    assert (loss - classification).item() == pytest.approx(2 * 2 * 0.5**2)
    zooms = torch.tensor([[0.1, 0.3], [math.nan, math.nan]])
    loss, classification = loss_of(output, Pictures(images, labels, zooms=zooms), config)
    assert (loss - classification).item() == pytest.approx(0.1**2 + 0.3**2)  # of two pictures, the mean, twice
    loss.backward()
    assert theta.grad is not None
    assert theta.grad[0, 0].flatten().tolist() == pytest.approx([-0.2, 0, 0, 0, -0.6, 0])
    assert theta.grad[1].abs().sum() == 0


@pytest.mark.parametrize("zoom", [0.4, math.nan])
def test_plain_crops_inside_the_picture_do_not_stray(zoom: float) -> None:
    theta = torch.tensor([[[0.4, 0.0, 0.3], [0.0, 0.4, -0.75]]]).unsqueeze(0)
    assert stray(theta, torch.full((1, 2), zoom)).item() == pytest.approx(0)


def test_a_glimpse_of_unknown_size_is_held_inside_too() -> None:
    theta = torch.tensor([[[0.4, 0.0, 1.5], [0.0, 0.4, 0.0]]]).unsqueeze(0)
    assert stray(theta, torch.full((1, 2), math.nan)).item() == pytest.approx(0.25)


@pytest.mark.parametrize(("row", "column"), [(0, 0), (0, 1), (1, 0), (1, 1), (0, 2), (1, 2)])
def test_every_way_of_straying_has_a_gradient_back(row: int, column: int) -> None:
    theta = torch.tensor([[0.4, 0.0, 0.0], [0.0, 0.4, 0.0]])
    theta[row, column] += 2.0
    theta = theta.reshape(1, 1, 2, 3).requires_grad_()
    stray(theta, torch.full((1, 2), 0.4)).backward()
    assert theta.grad is not None
    assert theta.grad[0, 0, row, column] > 0


def test_gradients_are_clipped_by_element_then_by_norm() -> None:
    weight = nn.Linear(100, 1, bias=False)
    weight.weight.grad = torch.full((1, 100), 7.0)
    clip_gradients(weight, PAPER)
    assert weight.weight.grad.norm().item() == pytest.approx(5.0, rel=1e-3)
    weight.weight.grad = torch.tensor([[7.0] + [0.0] * 99])
    clip_gradients(weight, PAPER)
    assert weight.weight.grad.norm().item() == pytest.approx(1.0, rel=1e-3)


def test_the_weight_average_lags_behind_and_catches_up() -> None:
    network = Network(family_config("rnn-spn", gru_units=4, classifier_units=4))
    average = WeightAverage(network, 0.9)
    with torch.no_grad():
        network.classifier.hidden.bias.fill_(1.0)
    seen = []
    for step in range(200):
        average.prepare(step)
        average.update(network)
        seen.append(average.weights["classifier.hidden.bias"][0].item())
    assert 0 < seen[0] < 1
    assert seen == sorted(seen)
    assert seen[-1] == pytest.approx(1.0, abs=1e-4)
