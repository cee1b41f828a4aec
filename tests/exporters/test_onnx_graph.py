import numpy as np
import pytest
import torch

from exporters.onnx_graph import ExportedNetwork, build_graph, seen_size
from exporters.parity import check_parity, parity_pictures, plain_session
from rnnspn.config import family_config
from rnnspn.models.networks import Network
from tests.exporters.conftest import lively_network

REWRITES = ("fold", "trim", "rescale", "widen")


def outputs(reader: ExportedNetwork, pictures: np.ndarray) -> list[torch.Tensor]:
    with torch.no_grad():
        return list(reader.eval()(torch.from_numpy(pictures)))


@pytest.mark.parametrize("rewrite", REWRITES)
@pytest.mark.parametrize("scale", [1.0, 30.0], ids=["trained", "far outside"])
def test_each_rewrite_alone_changes_nothing(rewrite: str, scale: float) -> None:
    network = lively_network(family_config("rnn-spn"), scale)
    pictures = parity_pictures(network.config)[-40:]
    plain = outputs(ExportedNetwork(network, **dict.fromkeys(REWRITES, False)), pictures)
    rewritten = outputs(ExportedNetwork(network, **{name: name == rewrite for name in REWRITES}), pictures)
    for ours, theirs in zip(rewritten[1:], plain[1:], strict=True):
        torch.testing.assert_close(ours, theirs, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("size", range(18, 51))
def test_the_classifier_sees_exactly_the_part_that_is_sampled(size: int) -> None:
    torch.manual_seed(0)
    classifier = Network(family_config("rnn-spn", downsample=1, height=size + 30, width=size + 30)).classifier
    crops = torch.rand(1, 1, size, size, requires_grad=True)
    x = torch.nn.functional.max_pool2d(classifier.conv1(crops), 2)
    x = torch.nn.functional.max_pool2d(classifier.conv2(x), 2)
    classifier.conv3(x).square().sum().backward()
    rows = crops.grad[0, 0].abs().sum(1).nonzero()
    assert int(rows.max()) + 1 == seen_size(size)


def test_pictures_that_are_not_square_pass_the_gate() -> None:
    network = lively_network(family_config("rnn-spn", height=80, width=112))
    parity = check_parity(build_graph(network).SerializeToString(), network, parity_pictures(network.config))
    assert parity.max_difference["probabilities"] < 1e-5


def test_the_network_itself_is_left_as_it_is() -> None:
    network = lively_network(family_config("rnn-spn"))
    before = {name: weight.clone() for name, weight in network.state_dict().items()}
    ExportedNetwork(network)
    for name, weight in network.state_dict().items():
        assert torch.equal(weight, before[name]), name


@pytest.mark.parametrize("family", ["rnn-spn", "conv"])
def test_every_relu_follows_its_convolution_and_the_numbers_stay_the_same(family: str) -> None:
    network = lively_network(family_config(family))
    as_it_is, rewritten = build_graph(network, activate=False), build_graph(network)
    makers = {output: node.op_type for node in rewritten.graph.node for output in node.output}
    before = [makers.get(node.input[0]) for node in rewritten.graph.node if node.op_type == "Relu"]
    assert before.count("Conv") >= 3
    assert "MaxPool" not in before
    pictures = {"images": parity_pictures(network.config)[-9:]}
    answers = [plain_session(model.SerializeToString()).run(None, pictures) for model in (rewritten, as_it_is)]
    for ours, theirs in zip(*answers, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-6, rtol=0)


def test_a_graph_reads_blanks_only_at_the_end() -> None:
    torch.manual_seed(0)
    network = Network(family_config("rnn-spn", steps=4, alphabet="01␣", gru_units=8, classifier_units=16)).eval()
    with torch.no_grad():
        network.classifier.logits[0].weight *= 30
        network.localisation.affine.weight.normal_(0, 0.3)
    model = build_graph(network).SerializeToString()
    pictures = parity_pictures(network.config)
    check_parity(model, network, pictures)
    outputs = dict(zip(("digits", "probabilities"), plain_session(model).run(None, {"images": pictures}), strict=False))
    ended = outputs["digits"] == 2
    assert (ended[:, :-1] <= ended[:, 1:]).all()
    plain = outputs["probabilities"].argmax(-1) == 2
    assert (plain[:, :-1] > plain[:, 1:]).any(), "no picture that it would matter for"
