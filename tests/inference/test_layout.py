import platform
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from rnnspn.data.mnist import load_mnist
from rnnspn.data.sequences import Sequences
from rnnspn.inference import cpu, model_file, providers
from rnnspn.inference.layout import blocked, channel_block

CHANNELS = (5, 12, 4)
"""Filters of three convolutions, one after the other."""


def chain(
    *between: str, taps: tuple[str, ...] = (), stored: type = np.float32, filters: tuple[int, ...] = CHANNELS
) -> bytes:
    """Return a model of three convolutions with operators between them.

    Args:
        *between: Those operators.
        taps: Outputs beside the last one.
        stored: What the weights are stored in.
        filters: Of the convolutions.
    """
    chance = np.random.default_rng(1)
    nodes, constants, value, inputs = [], [], "images", 1
    for number, outputs in enumerate(filters):
        kernel, name = chance.normal(scale=0.3, size=(outputs, inputs, 3, 3)), f"kernel{number}"
        if stored is np.int8:
            scale = np.abs(kernel).max(axis=(1, 2, 3), keepdims=True) / 127
            constants.append(numpy_helper.from_array(scale.astype(np.float32), f"{name}.scale"))
            nodes.append(helper.make_node("Cast", [f"{name}.stored"], [f"{name}.cast"], to=TensorProto.FLOAT))
            nodes.append(helper.make_node("Mul", [f"{name}.cast", f"{name}.scale"], [name]))
            kernel, name = np.round(kernel / scale), f"{name}.stored"
        elif stored is np.float16:
            nodes.append(helper.make_node("Cast", [f"{name}.stored"], [name], to=TensorProto.FLOAT))
            name = f"{name}.stored"
        constants.append(numpy_helper.from_array(kernel.astype(stored), name))
        constants.append(numpy_helper.from_array(chance.normal(size=outputs).astype(np.float32), f"bias{number}"))
        names = [value, f"kernel{number}", f"bias{number}"]
        nodes.append(helper.make_node("Conv", names, [f"conv{number}"], group=1))
        value, inputs = f"conv{number}", outputs
        for kind in between if number < 2 else ():
            window = {"kernel_shape": [2, 2], "strides": [2, 2]} if kind == "MaxPool" else {}
            nodes.append(helper.make_node(kind, [value], [f"{value}.{kind}"], **window))
            value = f"{value}.{kind}"
    results = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [*"NCHW"]) for name in (value, *taps)]
    images = helper.make_tensor_value_info("images", TensorProto.FLOAT, ["N", 1, 30, 30])
    graph = helper.make_graph(nodes, "chain", [images], results, constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10).SerializeToString()


def changed(model: bytes, change: Callable[[onnx.GraphProto], None]) -> bytes:
    proto = onnx.load_from_string(model)
    change(proto.graph)
    return proto.SerializeToString()


def convolutions(graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    return [node for node in graph.node if node.op_type == "Conv"]


def run(model: bytes) -> list[np.ndarray]:
    onnxruntime = pytest.importorskip("onnxruntime")
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    return session.run(None, {"images": np.random.default_rng(2).normal(size=(2, 1, 30, 30)).astype(np.float32)})


def channels(model: bytes) -> list[tuple[int, int]]:
    """Return the channels that each convolution takes, and those that it makes."""
    graph = onnx.shape_inference.infer_shapes(onnx.load_from_string(model), strict_mode=True, data_prop=True).graph
    values = [*graph.input, *graph.value_info, *graph.output]
    shapes = {value.name: value.type.tensor_type.shape.dim for value in values}
    sizes = {name: shape[1].dim_value for name, shape in shapes.items() if len(shape) == 4}
    return [(sizes[node.input[0]], sizes[node.output[0]]) for node in convolutions(graph)]


@pytest.mark.parametrize("stored", [np.float32, np.float16, np.int8])
@pytest.mark.parametrize("between", [(), ("Relu",), ("MaxPool", "Relu"), ("Relu", "MaxPool")], ids=str)
@pytest.mark.parametrize(("block", "first", "second"), [(3, 6, 12), (6, 6, 12), (8, 8, 16), (10, 10, 20), (16, 5, 16)])
def test_filled_convolutions_have_whole_blocks_and_the_numbers_stay_the_same(
    block: int, first: int, second: int, between: tuple[str, ...], stored: type
) -> None:
    model = chain(*between, stored=stored)
    full = blocked(model, block)
    assert channels(full) == [(1, first), (first, second), (second, CHANNELS[2])]
    onnx.checker.check_model(full)
    np.testing.assert_allclose(run(full)[0], run(model)[0], atol=1e-4, rtol=0)


@pytest.mark.parametrize("stored", [np.float32, np.float16, np.int8])
@pytest.mark.parametrize("between", [(), ("Relu",), ("MaxPool", "Relu"), ("Relu", "MaxPool")], ids=str)
@pytest.mark.parametrize(("block", "whole", "second"), [(4, 4, 12), (8, 8, 16)])
def test_few_channels_beyond_whole_blocks_go_another_way_and_the_numbers_stay_the_same(
    block: int, whole: int, second: int, between: tuple[str, ...], stored: type
) -> None:
    model = chain(*between, stored=stored, filters=(whole + 1, 12, 4))
    parted = blocked(model, block)
    assert channels(parted) == [(1, whole), (whole, second), (1, 1), (1, second), (second, 4)]
    onnx.checker.check_model(parted)
    np.testing.assert_allclose(run(parted)[0], run(model)[0], atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    ("filters", "filled"),
    [
        ((6, 12, 4), 8),  # filling costs a third
        ((3, 12, 4), 4),  # there is no whole block
        ((12, 5, 4), 8),  # those before would be convolved twice
    ],
)
def test_channels_are_not_parted_where_filling_is_cheaper(filters: tuple[int, ...], filled: int) -> None:
    found = channels(blocked(chain("Relu", filters=filters), 4))
    assert len(found) == len(filters)
    assert filled in [made for _, made in found]


@pytest.mark.parametrize(
    "model",
    [
        chain("Sigmoid"),  # makes a half of a zero
        chain("Relu", taps=("conv0", "conv1")),  # somebody else reads the channels as they are
        chain("Relu", taps=("conv0.Relu", "conv1.Relu")),
    ],
    ids=["sigmoid", "convolution read elsewhere", "activation read elsewhere"],
)
def test_channels_that_zeros_would_change_are_left_alone(model: bytes) -> None:
    assert blocked(model, 8) is model


def in_groups(graph: onnx.GraphProto) -> None:
    for node in convolutions(graph):
        node.attribute[0].i = 5


def without_bias(graph: onnx.GraphProto) -> None:
    for node in convolutions(graph):
        node.input[2] = ""


def with_indices(graph: onnx.GraphProto) -> None:
    for node in graph.node:
        if node.op_type == "MaxPool":
            node.output.append(f"{node.output[0]}.indices")


def flat(graph: onnx.GraphProto) -> None:
    for tensor in graph.initializer:
        if tensor.name.startswith("kernel"):
            del tensor.dims[-1]


def nameless(graph: onnx.GraphProto) -> None:
    for node in convolutions(graph):
        node.input[1] = "no such weights"


@pytest.mark.parametrize("change", [in_groups, without_bias, with_indices, flat, nameless])
def test_convolutions_of_another_kind_are_left_to_the_runtime(change: Callable[[onnx.GraphProto], None]) -> None:
    model = changed(chain("MaxPool"), change)
    assert blocked(model, 8) is model


def test_odd_nodes_are_left_to_the_runtime() -> None:
    def add(graph: onnx.GraphProto) -> None:
        graph.node.insert(0, helper.make_node("Constant", [], ["one"], value_float=1.0))
        graph.node.append(helper.make_node("Relu", ["images"], []))
        graph.node.append(helper.make_node("Relu", ["loop"], ["loop"]))
        graph.node.append(helper.make_node("Split", ["images"], ["con", "v1"], num_outputs=2))

    plain, odd = (blocked(model, 8) for model in (chain("Relu"), changed(chain("Relu"), add)))
    assert changed(plain, add) == odd


def test_blocks_of_one_change_nothing() -> None:
    model = chain("Relu")
    assert blocked(model, 1) is model


@pytest.mark.parametrize(
    ("block", "found"), [(1, [(1, 20), (20, 20)]), (8, [(1, 24), (24, 24)]), (16, [(1, 16), (16, 32)])]
)
def test_the_bundled_model_is_brought_to_blocks_when_it_is_opened_and_reads_the_same(
    block: int, found: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    content = model_file.bundled().read_bytes()
    pictures = Sequences(load_mnist(), "test", seed=5).pictures(np.arange(64))[0]
    opened: list[bytes] = []
    monkeypatch.setattr(cpu, "channel_block", lambda: block)
    monkeypatch.setattr(cpu, "blocked", lambda *arguments: opened.append(blocked(*arguments)) or opened[-1])
    session = providers.open_session(content, "cpu", Path("model.onnx"))
    assert channels(opened[0])[:2] == found
    plain = pytest.importorskip("onnxruntime").InferenceSession(content, providers=["CPUExecutionProvider"])
    answers = [one.run(None, {"images": pictures}) for one in (session, plain)]
    for ours, theirs in zip(*answers, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=2e-5, rtol=0)


@pytest.mark.parametrize(
    ("machine", "found", "block"),
    [
        ("x86_64", ["SSE42", "AVX2"], 8),
        ("AMD64", ["X86_V3"], 8),
        ("x86_64", ["AVX2", "AVX512F", "AVX512_SKX"], 16),
        ("AMD64", ["X86_V3", "X86_V4"], 16),
        ("aarch64", ["NEON", "ASIMDHP"], 1),
        ("arm64", [], 1),
        ("x86_64", None, 8),
    ],
)
def test_the_block_follows_the_processor(
    machine: str, found: list[str] | None, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(platform, "machine", lambda: machine)
    extensions = {"baseline": ["SSE2"], "found": found, "not found": ["AVX512_SPR"]}
    known = {} if found is None else {"SIMD Extensions": extensions}  # NumPy leaves out what is empty
    monkeypatch.setattr(np, "show_config", lambda mode: known)
    assert channel_block() == block
