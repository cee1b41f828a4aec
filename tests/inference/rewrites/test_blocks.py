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
from rnnspn.inference.rewrites.blocks import bring_to_blocks, channel_block
from tests.inference.rewrites.chains import CHANNELS, answers, chain, changed, rewritten

IMAGES = np.random.default_rng(2).normal(size=(2, 1, 30, 30)).astype(np.float32)


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
    full = rewritten(model, bring_to_blocks, block)
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
    parted = rewritten(model, bring_to_blocks, block)
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
    found = channels(rewritten(chain("Relu", filters=filters), bring_to_blocks, 4))
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
    assert rewritten(model, bring_to_blocks, 8) == model


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
    assert rewritten(model, bring_to_blocks, 8) == model


def test_odd_nodes_are_left_to_the_runtime() -> None:
    def add(graph: onnx.GraphProto) -> None:
        graph.node.insert(0, helper.make_node("Constant", [], ["one"], value_float=1.0))
        graph.node.append(helper.make_node("Relu", ["images"], []))
        graph.node.append(helper.make_node("Relu", ["loop"], ["loop"]))
        graph.node.append(helper.make_node("Split", ["images"], ["con", "v1"], num_outputs=2))

    models = chain("Relu"), changed(chain("Relu"), add)
    plain, odd = (rewritten(model, bring_to_blocks, 8) for model in models)
    assert changed(plain, add) == odd


def in_integers(*between: str, scales: int = 0, shared: bool = False) -> Callable[[onnx.GraphProto], None]:
    """Let the second convolution of a chain compute with integers, as `w8a8` does.

    Args:
        *between: What stands between the first two.
        scales: Of the features, one for each channel; 0 for one of all.
        shared: Whether the weights are an output too.
    """

    def change(graph: onnx.GraphProto) -> None:
        last = ".".join(["conv0", *between])
        (kernel,) = [tensor for tensor in graph.initializer if tensor.name == "kernel1"]
        values = numpy_helper.to_array(kernel)
        step = np.abs(values).max(axis=(1, 2, 3)) / 63
        kernel.CopyFrom(
            numpy_helper.from_array(np.round(values / step[:, None, None, None]).astype(np.int8), "stored1")
        )
        constants = {
            "steps1": step.astype(np.float32),
            "step": np.full(scales, 0.05, np.float32) if scales else np.array(0.05, np.float32),
            "zero": np.zeros(scales, np.uint8) if scales else np.array(0, np.uint8),
        }
        graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in constants.items())
        (second,) = [node for node in convolutions(graph) if node.output[0] == "conv1"]
        place = list(graph.node).index(second)
        for node in (
            helper.make_node("DequantizeLinear", ["rounded", "step", "zero"], ["features"], axis=1),
            helper.make_node("QuantizeLinear", [last, "step", "zero"], ["rounded"], axis=1),
            helper.make_node("DequantizeLinear", ["stored1", "steps1"], ["kernel1"], axis=0),
        ):
            graph.node.insert(place, node)
        second.input[0] = "features"
        if shared:
            graph.output.append(helper.make_tensor_value_info("kernel1", TensorProto.FLOAT, values.shape))

    return change


@pytest.mark.parametrize("between", [("Relu",), ("MaxPool", "Relu"), ("Relu", "MaxPool")], ids=str)
@pytest.mark.parametrize("scales", [0, 1])
@pytest.mark.parametrize(("filters", "block", "filled"), [(CHANNELS, 8, 8), ((5, 12, 4), 4, 8), ((9, 12, 4), 8, 16)])
def test_channels_are_filled_before_integers_and_the_numbers_stay_the_same(
    filters: tuple[int, ...], block: int, filled: int, scales: int, between: tuple[str, ...]
) -> None:
    model = changed(chain(*between, filters=filters), in_integers(*between, scales=scales))
    full = rewritten(model, bring_to_blocks, block)
    assert channels(full) == [(1, filled), (filled, 12), (12, 4)]  # what integers give is in no layout of blocks
    onnx.checker.check_model(full)
    pads = [node for node in onnx.load_from_string(full).graph.node if node.op_type == "Pad"]
    assert [node.input[0] for node in pads] == ["kernel0", "bias0", "stored1"]
    np.testing.assert_allclose(answers(full, IMAGES)[0], answers(model, IMAGES)[0], atol=1e-5, rtol=0)


@pytest.mark.parametrize("how", [{"scales": 5}, {"shared": True}], ids=str)
def test_channels_before_integers_of_another_kind_are_left_alone(how: dict[str, int]) -> None:
    model = changed(chain("Relu"), in_integers("Relu", **how))  # type: ignore[arg-type]
    assert rewritten(model, bring_to_blocks, 8) == model


def test_what_a_file_says_of_sizes_before_is_forgotten() -> None:
    def describe(graph: onnx.GraphProto) -> None:
        graph.value_info.append(helper.make_tensor_value_info("conv0", TensorProto.FLOAT, ["N", 5, 28, 28]))

    full = rewritten(changed(chain("Relu"), describe), bring_to_blocks, 8)
    onnx.checker.check_model(onnx.load_from_string(full), full_check=True)
    assert channels(full)[0] == (1, 8)


def test_blocks_of_one_change_nothing() -> None:
    model = chain("Relu")
    assert rewritten(model, bring_to_blocks, 1) == model


@pytest.mark.parametrize(
    ("block", "found"), [(1, [(1, 20), (20, 20)]), (8, [(1, 24), (24, 24)]), (16, [(1, 16), (16, 32)])]
)
def test_the_bundled_model_is_brought_to_blocks_when_it_is_opened_and_reads_the_same(
    block: int, found: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    content = model_file.bundled().read_bytes()
    pictures = Sequences(load_mnist(), "test", seed=5).pictures(np.arange(64))[0]
    monkeypatch.setattr(cpu, "channel_block", lambda: block)
    session = providers.open_session(content, "cpu", Path("model.onnx"))
    assert list(dict.fromkeys(channels(cpu.rewritten(content))))[:2] == found
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
