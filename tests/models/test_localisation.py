import pytest
import torch
from torch import Tensor, nn

from rnnspn.config import family_config
from rnnspn.models.localisation import GRU, AffineHead, FeatureExtractor, FeedForwardLocalisation, RecurrentLocalisation
from tests.models.lasagne import GATES, TURNS, Case, case

FEATURES_TOLERANCE = 5e-6
STATE_TOLERANCE = 3e-6


def torch_states(gru: GRU, features: Tensor, steps: int, negated: bool = True) -> Tensor:
    """Run PyTorch's cell with our weights: its update gate is z = 1 - u, and its hidden biases are 0."""
    cell = nn.GRUCell(gru.input.in_features, gru.initial.numel())
    sign = -1 if negated else 1
    with torch.no_grad():
        for theirs, ours in ((cell.weight_ih, gru.input.weight), (cell.weight_hh, gru.hidden.weight)):
            reset, update, new = ours.chunk(3)
            theirs.copy_(torch.cat([reset, sign * update, new]))
        reset, update, new = gru.input.bias.chunk(3)
        cell.bias_ih.copy_(torch.cat([reset, sign * update, new]))
        cell.bias_hh.zero_()
    hidden, states = gru.initial.expand(len(features), -1), []
    for _ in range(steps):
        hidden = cell(features, hidden)
        states.append(hidden)
    return torch.stack(states, dim=1)


def lively_gru() -> tuple[GRU, Tensor]:
    torch.manual_seed(0)
    gru = GRU(30, 16)
    nn.init.normal_(gru.input.bias)
    nn.init.normal_(gru.initial)
    return gru, torch.randn(5, 30)


def test_the_gru_agrees_with_pytorchs_cell_at_every_step() -> None:
    gru, features = lively_gru()
    torch.testing.assert_close(gru(features, 6), torch_states(gru, features, 6), rtol=0, atol=1e-6)


def test_an_update_gate_the_other_way_round_would_be_noticed() -> None:
    gru, features = lively_gru()
    assert (gru(features, 6) - torch_states(gru, features, 6, negated=False)).abs().max() > 0.1


def test_a_new_gru_has_small_random_matrices_and_nothing_else() -> None:
    torch.manual_seed(0)
    gru = GRU(400, 100)
    for weight in (gru.input.weight, gru.hidden.weight):
        assert weight.std().item() == pytest.approx(0.1, rel=0.02)
        assert abs(weight.mean().item()) < 2e-3
    assert not gru.input.bias.any()
    assert not gru.initial.any()


def golden_states(golden: Case, **mapping: object) -> Tensor:
    localisation = golden.network(**mapping).localisation  # type: ignore[arg-type]
    assert isinstance(localisation, RecurrentLocalisation)
    return localisation.gru(golden["act/l_conv2_loc"].flatten(1), 3)


@torch.no_grad()
def test_gru_states_agree_with_theirs() -> None:
    golden = case("rnn-spn")
    torch.testing.assert_close(golden_states(golden), golden["act/l_gru"], rtol=0, atol=STATE_TOLERANCE)


@pytest.mark.parametrize("gates", [(GATES[1], GATES[0], GATES[2]), (GATES[0], GATES[2], GATES[1])])
@torch.no_grad()
def test_gates_in_another_order_would_be_noticed(gates: tuple[str, ...]) -> None:
    golden = case("rnn-spn")
    assert (golden_states(golden, gates=gates) - golden["act/l_gru"]).abs().max() > 1000 * STATE_TOLERANCE


@pytest.mark.parametrize("family", ["rnn-spn", "ffn-spn"])
@torch.no_grad()
def test_features_agree_with_theirs(family: str) -> None:
    golden = case(family)
    features = golden.network().localisation.extract(golden.images)
    torch.testing.assert_close(features, golden["act/l_conv2_loc"].flatten(1), rtol=0, atol=FEATURES_TOLERANCE)


@torch.no_grad()
def test_kernels_that_are_not_flipped_would_be_noticed() -> None:
    golden = case("rnn-spn")
    network = golden.network(turns=TURNS | {"convolution": lambda weight: weight})
    features = network.localisation.extract(golden.images)
    assert (features - golden["act/l_conv2_loc"].flatten(1)).abs().max() > 1000 * FEATURES_TOLERANCE


@torch.no_grad()
def test_the_feed_forward_hidden_layer_agrees_with_theirs() -> None:
    golden = case("ffn-spn")
    localisation = golden.network().localisation
    assert isinstance(localisation, FeedForwardLocalisation)
    hidden = localisation.hidden(golden["act/l_conv2_loc"].flatten(1)).relu()
    torch.testing.assert_close(hidden, golden["act/l_dense_loc"], rtol=0, atol=FEATURES_TOLERANCE)


@pytest.mark.parametrize(
    ("height", "width", "features"), [(100, 100, 20 * 9 * 9), (36, 36, 20), (37, 52, 20 * 1 * 3), (68, 100, 20 * 5 * 9)]
)
def test_the_number_of_features_is_what_the_layers_leave(height: int, width: int, features: int) -> None:
    extractor = FeatureExtractor(family_config("rnn-spn", height=height, width=width, downsample=1))
    assert extractor.features == features
    assert extractor(torch.rand(1, 1, height, width)).shape == (1, features)


@pytest.mark.parametrize("family", ["rnn-spn", "ffn-spn"])
@pytest.mark.parametrize("scale", [1.0, 0.45])
def test_the_first_glimpses_of_a_new_network_are_centred_whatever_it_sees(family: str, scale: float) -> None:
    kind = RecurrentLocalisation if family == "rnn-spn" else FeedForwardLocalisation
    localisation = kind(family_config(family))
    if scale != 1.0:
        localisation.affine.start_at(scale)
    theta = localisation(torch.rand(4, 1, 100, 100))
    expected = torch.tensor([[scale, 0.0, 0.0], [0.0, scale, 0.0]])
    torch.testing.assert_close(theta, expected.expand_as(theta), rtol=0, atol=0)


def test_the_affine_layer_gives_rows_of_a_matrix() -> None:
    head = AffineHead(4)
    with torch.no_grad():
        head.bias.copy_(torch.arange(6.0))
    assert head(torch.zeros(2, 3, 4))[1, 2].tolist() == [[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]]


@pytest.mark.parametrize("family", ["rnn-spn", "ffn-spn"])
def test_theta_is_float32_in_mixed_precision_too(family: str) -> None:
    localisation = case(family).network().localisation
    assert localisation is not None
    with torch.autocast("cpu", torch.bfloat16):
        assert localisation(torch.rand(2, 1, 100, 100)).dtype == torch.float32
