from collections.abc import Callable

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from exporters.from_onnx import checkpoint_of
from rnnspn.config import ModelConfig
from rnnspn.inference import cpu, model_file, providers
from rnnspn.inference.rewrites.sampling import sample_by_gathers
from rnnspn.models.networks import Network
from tests.exporters.conftest import build_graph
from tests.inference.rewrites.chains import changed, rewritten


def exported(corner: tuple[float, float] | None = None, **config: object) -> bytes:
    """Return a network with random weights, or whose glimpses are one point, x and y."""
    torch.manual_seed(3)
    network = Network(ModelConfig(**config)).eval()  # type: ignore[arg-type]
    if network.localisation is not None:  # glimpses all over, and beyond the picture
        torch.nn.init.normal_(network.localisation.affine.weight, std=0.2 if corner is None else 0.0)
    model = build_graph(network)
    if corner is not None:
        (bias,) = [tensor for tensor in model.graph.initializer if tensor.name.endswith("localisation.affine.bias")]
        replace(bias, [0, 0, corner[0], 0, 0, corner[1]])
    return model.SerializeToString()


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
    written = rewritten(model, sample_by_gathers)
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


@pytest.mark.parametrize("corner", [(-3.0, -3.0), (3.0, 3.0), (-3.0, 3.0), (1.0, -1.0)])
@pytest.mark.parametrize(("height", "width"), [(100, 100), (60, 140)])
def test_points_beyond_the_picture_take_its_border(height: int, width: int, corner: tuple[float, float]) -> None:
    model = exported(corner, family="ffn-spn", downsample=3, height=height, width=width)
    written = rewritten(model, sample_by_gathers)
    assert written != model
    images = np.random.default_rng(2).integers(1, 256, (2, height, width), dtype=np.uint8)
    ours, theirs = sampled(written, images)[0], sampled(model, images)[0]
    np.testing.assert_allclose(ours, theirs, atol=0.02, rtol=0)
    x, y = (size - 1 if place > 0 else 0 for place, size in zip(corner, (width, height), strict=True))
    np.testing.assert_allclose(ours[1], float(images[1, y, x]), atol=0.02, rtol=0)


def constant(graph: onnx.GraphProto, reader: str, place: int) -> onnx.TensorProto:
    """Return a constant that the only node of a kind reads."""
    (node,) = [node for node in graph.node if node.op_type == reader]
    return next(tensor for tensor in graph.initializer if tensor.name == node.input[place])


def replace(tensor: onnx.TensorProto, value: object) -> None:
    tensor.CopyFrom(numpy_helper.from_array(np.asarray(value, numpy_helper.to_array(tensor).dtype), tensor.name))


def other_bounds(graph: onnx.GraphProto) -> None:
    replace(constant(graph, "Clip", 1), -0.5)


def bounds_of_one_axis(graph: onnx.GraphProto) -> None:
    replace(constant(graph, "Clip", 2), [0.99])


def no_bounds(graph: onnx.GraphProto) -> None:
    (clip,) = [node for node in graph.node if node.op_type == "Clip"]
    del clip.input[1:]


def nearest(graph: onnx.GraphProto) -> None:
    (sample,) = [node for node in graph.node if node.op_type == "GridSample"]
    next(one for one in sample.attribute if one.name == "mode").s = b"nearest"


def computed_grid(graph: onnx.GraphProto) -> None:
    graph.node.insert(0, helper.make_node("Neg", ["grid"], ["computed"]))
    (product,) = [node for node in graph.node if node.op_type == "MatMul" and "grid" in node.input]
    product.input[1] = "computed"


def open_columns(graph: onnx.GraphProto) -> None:
    (sample,) = [node for node in graph.node if node.op_type == "GridSample"]
    (reshape,) = [node for node in graph.node if sample.input[1] in node.output]
    tensor = next(tensor for tensor in graph.initializer if tensor.name == reshape.input[1])
    replace(tensor, [0, numpy_helper.to_array(tensor)[1], -1, 2])


def inverted_pictures(graph: onnx.GraphProto) -> None:
    (sample,) = [node for node in graph.node if node.op_type == "GridSample"]
    graph.node.insert(list(graph.node).index(sample), helper.make_node("Neg", [sample.input[0]], ["inverted"]))
    sample.input[0] = "inverted"


def points_shown(graph: onnx.GraphProto) -> None:
    (clip,) = [node for node in graph.node if node.op_type == "Clip"]
    graph.output.append(helper.make_tensor_value_info(clip.output[0], TensorProto.FLOAT, None))


def lower_pictures(graph: onnx.GraphProto) -> None:
    graph.input[0].type.tensor_type.shape.dim[1].dim_value = 90


@pytest.mark.parametrize(
    "change",
    [
        other_bounds,
        bounds_of_one_axis,
        no_bounds,
        nearest,
        computed_grid,
        open_columns,
        inverted_pictures,
        points_shown,
        lower_pictures,
    ],
)
def test_what_samples_in_another_way_is_left_to_the_runtime(change: Callable[[onnx.GraphProto], None]) -> None:
    model = exported(family="ffn-spn", downsample=4)
    assert rewritten(model, sample_by_gathers) != model
    other = changed(model, change)
    assert rewritten(other, sample_by_gathers) == other


def test_pictures_of_one_row_are_left_to_the_runtime() -> None:
    def flatten(graph: onnx.GraphProto) -> None:
        graph.input[0].type.tensor_type.shape.dim[1].dim_value = 1

    model = changed(exported(family="ffn-spn", downsample=3, height=60, width=140), flatten)
    assert rewritten(model, sample_by_gathers) == model


def test_a_network_without_glimpses_is_left_as_it_is() -> None:
    model = exported(family="conv", downsample=None)
    assert rewritten(model, sample_by_gathers) == model


@pytest.mark.parametrize("opset", [18, 20, 22])
def test_the_bundled_model_is_sampled_so_when_it_is_opened(opset: int, monkeypatch: pytest.MonkeyPatch) -> None:
    content = build_graph(checkpoint_of(model_file.bundled()).network(), opset).SerializeToString()
    opened: list[bytes] = []
    original = cpu.rewritten
    monkeypatch.setattr(cpu, "rewritten", lambda model: opened.append(original(model)) or opened[-1])
    providers.open_session(content, "cpu", model_file.bundled())
    assert "GridSample" not in [node.op_type for node in onnx.load_from_string(opened[0]).graph.node]
