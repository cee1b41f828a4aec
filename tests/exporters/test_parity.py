import copy
from collections.abc import Callable

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

from exporters import parity
from exporters.parity import BATCHES, TOLERANCE, check_parity, parity_pictures
from rnnspn import contract
from rnnspn.config import ModelConfig, family_config
from rnnspn.errors import ParityError
from rnnspn.models.networks import Network
from tests.exporters.conftest import build_graph, lively_network

CONFIGS = {
    "rnn-spn-d1": family_config("rnn-spn", downsample=1),
    "rnn-spn-d2": family_config("rnn-spn", downsample=2),
    "rnn-spn-d3": family_config("rnn-spn", downsample=3),
    "rnn-spn-d4": family_config("rnn-spn", downsample=4),
    **{f"ffn-spn-d{d}": family_config("ffn-spn", downsample=d, classifier_filters=12) for d in (1, 2, 3, 4)},
    "conv": family_config("conv", classifier_filters=12, classifier_units=40),
    "five-steps-wide": family_config("rnn-spn", downsample=2, steps=5, height=60, width=170, alphabet="0123456789X-"),
    "one-step-small": family_config("rnn-spn", downsample=1, steps=1, height=36, width=40, gru_units=32),
}


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS.keys())
def test_an_exported_network_agrees_with_pytorch_at_every_batch_size(config: ModelConfig) -> None:
    network = lively_network(config)
    found = check_parity(build_graph(network).SerializeToString(), network, parity_pictures(config)[-80:])
    assert found.pictures == 80
    assert found.batches == (1, 2, 3, 7, 64)
    assert all(0 <= difference <= TOLERANCE for difference in found.max_difference.values())
    assert (contract.THETA in found.max_difference) == (config.family != "conv")


def test_glimpses_far_outside_the_picture_agree_too() -> None:
    config, scale = CONFIGS["rnn-spn-d3"], 100.0
    network = lively_network(config, scale)
    pictures = parity_pictures(config)
    with torch.no_grad():
        theta = network(torch.from_numpy(pictures).unsqueeze(1).float() / 255).theta
    assert theta.abs().max() > 0.1 * scale
    check_parity(build_graph(network).SerializeToString(), network, pictures)


def test_the_pictures_hold_digits_black_white_and_noise() -> None:
    pictures = parity_pictures(CONFIGS["rnn-spn-d3"])
    assert (pictures == 0).all((1, 2)).any()
    assert (pictures == 255).all((1, 2)).any()
    assert len(np.unique(pictures[-1])) == 256
    assert pictures[:256].reshape(256, -1).max(1).min() > 200


@pytest.fixture(scope="module")
def network() -> Network:
    return lively_network(CONFIGS["rnn-spn-d3"])


@pytest.fixture(scope="module")
def graph(network: Network) -> bytes:
    return build_graph(network).SerializeToString()


def perturb(graph: bytes, name: str, change: Callable[[np.ndarray], np.ndarray]) -> bytes:
    damaged = onnx.ModelProto.FromString(graph)
    weight = next(item for item in damaged.graph.initializer if name in item.name)
    weight.CopyFrom(numpy_helper.from_array(change(numpy_helper.to_array(weight)), weight.name))
    return damaged.SerializeToString()


def nudge(weight: np.ndarray) -> np.ndarray:
    nudged = weight.copy()
    nudged.flat[: max(1, nudged.size // 4)] += 0.05
    return nudged


@pytest.mark.parametrize("name", ["classifier.conv2.weight", "localisation.affine.bias", "classifier.hidden.weight"])
def test_the_gate_closes_when_a_weight_differs(network: Network, graph: bytes, name: str) -> None:
    damaged = perturb(graph, name, nudge)
    with pytest.raises(ParityError, match=r"probabilities by .* at batch 1, allowed 0.0001"):
        check_parity(damaged, network, parity_pictures(network.config))


def test_steep_logits_are_held_to_the_rounding_of_pytorch_itself(
    network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parity, "TOLERANCE", 2e-6)
    steep = copy.deepcopy(network)
    with torch.no_grad():
        for weights in steep.classifier.logits[0].parameters():
            weights *= 300
    graph = build_graph(steep).SerializeToString()
    pictures = parity_pictures(network.config)
    found = check_parity(graph, steep, pictures)
    assert 2e-6 < found.max_difference["probabilities"] <= found.tolerance
    with pytest.raises(ParityError, match="probabilities by"):
        check_parity(perturb(graph, "classifier.conv2.weight", nudge), steep, pictures)


def test_the_gate_closes_on_numbers_that_are_not_finite(network: Network, graph: bytes) -> None:
    damaged = perturb(graph, "affine.bias", lambda weight: np.full_like(weight, np.nan))
    with pytest.raises(ParityError, match="theta by inf"):
        check_parity(damaged, network, parity_pictures(network.config))


def test_the_gate_closes_on_a_network_whose_own_answers_are_not_finite(network: Network, graph: bytes) -> None:
    overflowing = copy.deepcopy(network)
    with torch.no_grad():
        overflowing.classifier.hidden.weight *= 1e30  # finite, as what is loaded has to be
        overflowing.classifier.logits[0].weight *= 1e30
    assert all(weight.isfinite().all() for weight in overflowing.parameters())
    pictures = parity_pictures(network.config)
    with pytest.raises(ParityError, match="PyTorch's own answers are not all finite numbers"):
        check_parity(build_graph(overflowing).SerializeToString(), overflowing, pictures)


def test_the_gate_names_every_batch_size_that_differs(network: Network, graph: bytes) -> None:
    damaged = perturb(graph, "affine.bias", nudge)
    with pytest.raises(ParityError) as caught:
        check_parity(damaged, network, parity_pictures(network.config))
    assert all(f"theta by 0.05 at batch {batch}" in str(caught.value) for batch in BATCHES)
