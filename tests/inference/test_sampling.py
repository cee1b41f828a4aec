import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from exporters.onnx_graph import build_graph
from rnnspn.config import ModelConfig
from rnnspn.inference.sampling import gathered
from rnnspn.models.networks import Network
from tests.inference.test_layout import changed


def exported(**config: object) -> bytes:
    torch.manual_seed(3)
    network = Network(ModelConfig(**config)).eval()  # type: ignore[arg-type]
    if network.localisation is not None:
        torch.nn.init.normal_(network.localisation.affine.weight, std=0.2)  # glimpses all over, and beyond the picture
    return build_graph(network).SerializeToString()


def sampled(model: bytes, images: np.ndarray) -> list[np.ndarray]:
    """Return the glimpses and what the model says, every node computed as it stands."""
    proto = onnx.load_from_string(model)
    proto.graph.output.append(helper.make_tensor_value_info("grid_sampler", TensorProto.FLOAT, None))
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(["grid_sampler", "digits", "probabilities", "theta"], {"images": images})


@pytest.mark.parametrize(
    "config",
    [
        {"family": "rnn-spn", "downsample": 3},
        {"family": "ffn-spn", "downsample": 2},
        {"family": "rnn-spn", "downsample": 2, "height": 60, "width": 140},
        {"family": "rnn-spn", "downsample": 3, "steps": 5, "height": 140, "width": 80},
    ],
    ids=str,
)
def test_glimpses_stay_the_same(config: dict[str, object]) -> None:
    model = exported(**config)
    written = gathered(model)
    onnx.checker.check_model(onnx.load_from_string(written), full_check=True)
    kinds = [node.op_type for node in onnx.load_from_string(written).graph.node]
    assert (kinds.count("GridSample"), kinds.count("GatherElements")) == (0, 4)
    height, width = config.get("height", 100), config.get("width", 100)
    images = np.random.default_rng(1).integers(0, 256, (7, height, width), dtype=np.uint8)
    ours, theirs = sampled(written, images), sampled(model, images)
    assert np.ptp(theirs[0]) > 200
    np.testing.assert_allclose(ours[0], theirs[0], atol=0.02, rtol=0)  # of 255, where neighbours differ as noise does
    for one, other in zip(ours[2:], theirs[2:], strict=True):  # digits that are not clear may be others
        np.testing.assert_allclose(one, other, atol=1e-4, rtol=0)


@pytest.mark.parametrize("corner", [(-3.0, -3.0), (3.0, 3.0), (-3.0, 3.0)])
def test_points_beyond_the_picture_take_its_border(corner: tuple[float, float]) -> None:
    model = changed(exported(family="ffn-spn", downsample=4), lambda graph: aim(graph, corner))
    images = np.random.default_rng(2).integers(1, 256, (2, 100, 100), dtype=np.uint8)
    ours, theirs = sampled(gathered(model), images)[0], sampled(model, images)[0]
    np.testing.assert_allclose(ours, theirs, atol=0.02, rtol=0)
    x, y = (99 if place > 0 else 0 for place in corner)
    np.testing.assert_allclose(ours[0], float(images[0, y, x]), atol=0.02, rtol=0)


def aim(graph: onnx.GraphProto, corner: tuple[float, float]) -> None:
    """Let every point of a glimpse be the one."""
    grid = next(tensor for tensor in graph.initializer if tensor.name == "grid")
    grid.CopyFrom(numpy_helper.from_array(np.zeros(grid.dims, np.float32), "grid"))
    product = next(node for node in graph.node if "grid" in node.input)
    shifted = product.output[0]
    product.output[0] = f"{shifted}.before"
    points = np.tile(np.array(corner, np.float32), grid.dims[1] // 2)
    graph.initializer.append(numpy_helper.from_array(points, "corner"))
    place = list(graph.node).index(product)
    graph.node.insert(place + 1, helper.make_node("Add", [product.output[0], "corner"], [shifted]))
