from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from rnnspn.config import ModelConfig, family_config
from rnnspn.models.layers import Dropout
from rnnspn.models.networks import Network, parameter_count

FAMILIES = ["rnn-spn", "ffn-spn"]


@pytest.mark.parametrize(
    ("config", "count"),
    [
        (family_config("rnn-spn", downsample=3, classifier_units=400), 1_678_800),
        (family_config("ffn-spn", downsample=2), 3_622_716),
    ],
    ids=FAMILIES,
)
def test_networks_have_the_published_number_of_weights(config: ModelConfig, count: int) -> None:
    assert parameter_count(Network(config)) == count


@pytest.mark.parametrize("family", [*FAMILIES, "conv"])
def test_a_new_network_has_glorot_uniform_weights_and_no_biases(family: str) -> None:
    torch.manual_seed(0)
    layers = {
        name: layer
        for name, layer in Network(family_config(family)).named_modules()
        if isinstance(layer, torch.nn.Conv2d | torch.nn.Linear) and ".gru." not in name and ".affine" not in name
    }
    assert len(layers) >= 7
    for name, layer in layers.items():
        fans = (layer.weight.shape[0] + layer.weight.shape[1]) * layer.weight[0, 0].numel()
        bound = (6 / fans) ** 0.5
        assert 0.9 * bound < layer.weight.abs().max().item() <= bound * 1.0001, name
        assert layer.weight.std().item() == pytest.approx(bound / 3**0.5, rel=0.15), name
        assert not layer.bias.any(), name


CLASSIFIER = [
    f"classifier.{layer}.{kind}" for layer in ("conv1", "conv2", "conv3", "hidden") for kind in ("bias", "weight")
]
EXTRACTOR = [f"localisation.extract.conv{k}.{kind}" for k in (1, 2, 3) for kind in ("bias", "weight")]
AFFINE = ["localisation.affine.bias", "localisation.affine.weight"]


@pytest.mark.parametrize(
    ("family", "heads", "others"),
    [
        (
            "rnn-spn",
            1,
            [f"localisation.gru.{name}" for name in ("hidden.weight", "initial", "input.bias", "input.weight")]
            + EXTRACTOR + AFFINE,
        ),
        ("ffn-spn", 3, ["localisation.hidden.bias", "localisation.hidden.weight", *EXTRACTOR, *AFFINE]),
        ("conv", 3, []),
    ],
)  # fmt: skip
def test_weights_keep_the_names_that_checkpoints_know(family: str, heads: int, others: list[str]) -> None:
    logits = [f"classifier.logits.{k}.{kind}" for k in range(heads) for kind in ("bias", "weight")]
    assert sorted(Network(family_config(family)).state_dict()) == sorted(CLASSIFIER + logits + others)


@st.composite
def configs(draw: Any) -> ModelConfig:
    """Draw a small network of any family, shape, number of steps and alphabet."""
    family = draw(st.sampled_from(["rnn-spn", "ffn-spn", "conv"]))
    downsample = None if family == "conv" else draw(st.integers(1, 4))
    smallest = max(36, 18 * (downsample or 1))
    return family_config(
        family,
        downsample=downsample,
        steps=draw(st.integers(1, 8)),
        height=draw(st.integers(smallest, smallest + 40)),
        width=draw(st.integers(smallest, smallest + 40)),
        alphabet="0123456789ABCDEFGHIJ"[: draw(st.integers(2, 20))],
        gru_units=draw(st.integers(1, 9)),
        localisation_filters=draw(st.integers(1, 4)),
        localisation_units=draw(st.integers(1, 9)),
        classifier_filters=draw(st.integers(1, 4)),
        classifier_units=draw(st.integers(1, 9)),
    )


@settings(max_examples=60, deadline=None)
@given(configs(), st.integers(1, 3))
def test_any_legal_network_runs_and_has_the_shapes_it_should(config: ModelConfig, batch: int) -> None:
    network = Network(config)
    images = torch.rand(batch, 1, config.height, config.width)
    logits, theta = network(images)
    glimpses, _ = network.look(images)
    assert logits.shape == (batch, config.steps, config.classes)
    assert logits.isfinite().all()
    assert glimpses.shape == (batch * (config.glimpses or 1), 1, *config.glimpse_size)
    if config.family == "conv":
        assert theta is None
    else:
        assert theta.shape == (batch, config.glimpses, 2, 3)
    logits.sum().backward()
    assert all(weight.grad is not None for weight in network.parameters())


def lively(family: str, **overrides: Any) -> tuple[Network, Tensor]:
    torch.manual_seed(0)
    network = Network(family_config(family, **overrides)).eval()
    if network.localisation is not None:
        torch.nn.init.normal_(network.localisation.affine.weight, std=0.05)
    return network, torch.rand(5, 1, 100, 100)


@pytest.mark.parametrize("family", [*FAMILIES, "conv"])
@torch.no_grad()
def test_a_picture_is_read_the_same_in_any_company(family: str) -> None:
    network, images = lively(family)
    together = network(images).logits
    for k in range(len(images)):
        torch.testing.assert_close(network(images[k : k + 1]).logits[0], together[k], rtol=0, atol=1e-5)


@torch.no_grad()
def test_a_step_is_read_from_its_own_glimpse() -> None:
    network, images = lively("rnn-spn")
    glimpses, _ = network.look(images)
    by_step = network.classifier(glimpses).reshape(5, 3, 10)
    torch.testing.assert_close(network(images).logits, by_step)
    other = glimpses.reshape(5, 3, 1, 33, 33).clone()
    other[:, 1] = 0
    changed = (network.classifier(other.flatten(0, 1)).reshape(5, 3, 10) - by_step).abs().amax((0, 2))
    assert (changed > 1e-3).tolist() == [False, True, False]


@pytest.mark.parametrize(("family", "localisation"), [("rnn-spn", 0.3), ("ffn-spn", 0.0), ("conv", None)])
def test_dropout_goes_where_the_authors_code_has_it(family: str, localisation: float | None) -> None:
    network = Network(family_config(family))
    network.set_dropout(0.3)
    rates = {name: module.rate.item() for name, module in network.named_modules() if isinstance(module, Dropout)}
    expected = {"classifier.dropout": 0.3}
    if localisation is not None:
        expected["localisation.extract.dropout"] = localisation
    assert rates == pytest.approx(expected)


def test_dropout_drops_its_share_and_keeps_the_mean() -> None:
    dropout, ones = Dropout(), torch.ones(100, 1000)
    assert dropout(ones) is ones  # no rate is set
    dropout.set_rate(0.3)
    torch.manual_seed(0)
    dropped = dropout(ones)
    assert dropped.unique().tolist() == pytest.approx([0, 1 / 0.7])
    assert (dropped == 0).float().mean().item() == pytest.approx(0.3, abs=0.01)
    assert not torch.equal(dropout(ones), dropped)
    coarse = torch.randn(100, 1000).bfloat16()
    ratio = dropout(coarse).float() / coarse.float()
    assert dropout(coarse).dtype == torch.bfloat16
    assert ratio[ratio > 0].mean().item() == pytest.approx(1 / 0.7, rel=5e-4)
    assert dropout.eval()(ones) is ones


@torch.no_grad()
def test_dropout_works_in_training_only() -> None:
    network, images = lively("rnn-spn")
    network.set_dropout(0.5)
    assert torch.equal(network(images).logits, network(images).logits)
    network.train()
    assert not torch.equal(network(images).logits, network(images).logits)


@torch.no_grad()
def test_channels_lie_last_and_channels_first_read_the_same() -> None:
    network, images = lively("rnn-spn")
    assert network.classifier.conv1(images).is_contiguous(memory_format=torch.channels_last)
    logits = network(images).logits
    network = network.to(memory_format=torch.contiguous_format)
    assert network.classifier.conv1(images).is_contiguous()
    torch.testing.assert_close(network(images).logits, logits, rtol=0, atol=1e-5)
