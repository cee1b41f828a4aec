import platform
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from rnnspn.data.mnist import load_mnist
from rnnspn.data.sequences import Sequences
from rnnspn.inference import layout, model_file, providers
from rnnspn.inference.layout import channel_block, filled

CHANNELS = (3, 5, 4)
"""Filters of three convolutions, one after the other."""


def chain(*between: str, taps: tuple[str, ...] = (), stored: int = TensorProto.FLOAT) -> bytes:
    """Return a model of three convolutions with operators between them; `taps` are outputs beside the last one."""
    chance = np.random.default_rng(1)
    nodes, weights, value, inputs = [], [], "images", 1
    for number, filters in enumerate(CHANNELS):
        kernel = chance.normal(scale=0.3, size=(filters, inputs, 3, 3)).astype(np.float32)
        kind = helper.tensor_dtype_to_np_dtype(stored)
        weights += [
            numpy_helper.from_array(kernel.astype(kind), f"weight{number}"),
            numpy_helper.from_array(chance.normal(size=filters).astype(np.float32), f"bias{number}"),
        ]
        nodes.append(helper.make_node("Cast", [f"weight{number}"], [f"kernel{number}"], to=TensorProto.FLOAT))
        names = [value, f"kernel{number}", f"bias{number}"]
        nodes.append(helper.make_node("Conv", names, [f"conv{number}"], group=1))
        value, inputs = f"conv{number}", filters
        for kind in between if number < 2 else ():
            window = {"kernel_shape": [2, 2], "strides": [2, 2]} if kind == "MaxPool" else {}
            nodes.append(helper.make_node(kind, [value], [f"{value}.{kind}"], **window))
            value = f"{value}.{kind}"
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [*"NCHW"]) for name in (value, *taps)]
    images = helper.make_tensor_value_info("images", TensorProto.FLOAT, ["N", 1, 30, 30])
    graph = helper.make_graph(nodes, "chain", [images], outputs, weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10).SerializeToString()


def run(model: bytes) -> list[np.ndarray]:
    onnxruntime = pytest.importorskip("onnxruntime")
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    return session.run(None, {"images": np.random.default_rng(2).normal(size=(2, 1, 30, 30)).astype(np.float32)})


def widths(model: bytes) -> list[int]:
    """Return the channels that each convolution makes, and those that the last one takes."""
    graph = onnx.load_from_string(model).graph
    makers = {node.output[0]: node for node in graph.node}
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}

    def shape(name: str) -> np.ndarray:
        if name in constants:
            return np.array(constants[name].shape)
        maker = makers[name]
        amounts = constants[maker.input[1]].reshape(2, -1).sum(0) if maker.op_type == "Pad" else 0
        return shape(maker.input[0]) + amounts

    kernels = [shape(node.input[1]) for node in graph.node if node.op_type == "Conv"]
    return [int(kernel[0]) for kernel in kernels] + [int(kernels[-1][1])]


@pytest.mark.parametrize("stored", [TensorProto.FLOAT, TensorProto.FLOAT16], ids=["float32", "float16"])
@pytest.mark.parametrize("between", [(), ("Relu",), ("MaxPool", "Relu"), ("Relu", "MaxPool")], ids=str)
@pytest.mark.parametrize("block", [4, 8, 16])
def test_filled_convolutions_have_whole_blocks_and_the_numbers_stay_the_same(
    block: int, between: tuple[str, ...], stored: int
) -> None:
    model = chain(*between, stored=stored)
    full = filled(model, block)
    first, second = (-(-channels // block) * block for channels in CHANNELS[:2])
    assert widths(full) == [first, second, CHANNELS[2], second]
    onnx.checker.check_model(full)
    np.testing.assert_allclose(run(full)[0], run(model)[0], atol=1e-4, rtol=0)


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
    assert widths(filled(model, 8)) == widths(model)
    for ours, theirs in zip(run(filled(model, 8)), run(model), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_convolutions_in_groups_are_left_alone() -> None:
    proto = onnx.load_from_string(chain("Relu"))
    for node in proto.graph.node:
        if node.op_type == "Conv":
            next(attribute for attribute in node.attribute if attribute.name == "group").i = 5
    assert "Pad" not in [
        node.op_type for node in onnx.load_from_string(filled(proto.SerializeToString(), 8)).graph.node
    ]


def test_nodes_without_inputs_or_outputs_are_left_to_the_runtime() -> None:
    proto = onnx.load_from_string(chain("Relu"))
    proto.graph.node.insert(0, helper.make_node("Constant", [], ["one"], value_float=1.0))
    proto.graph.node.append(helper.make_node("Relu", ["conv0"], []))
    proto.graph.node.append(helper.make_node("Relu", ["loop"], ["loop"]))
    kinds = [node.op_type for node in onnx.load_from_string(filled(proto.SerializeToString(), 8)).graph.node]
    assert kinds[0] == "Constant"
    assert kinds[-2:] == ["Relu", "Relu"]


def test_blocks_of_one_change_nothing() -> None:
    assert onnx.load_from_string(filled(chain("Relu"), 1)) == onnx.load_from_string(chain("Relu"))


@pytest.mark.parametrize("block", [8, 16])
def test_the_bundled_model_reads_the_same_whatever_the_processors_blocks_are(
    block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = model_file.bundled().read_bytes()
    pictures = Sequences(load_mnist(), "test", seed=5).pictures(np.arange(64))[0]
    answers = []
    for blocked in (1, block):
        monkeypatch.setattr(providers, "channel_block", lambda blocked=blocked: blocked)
        answers.append(providers.open_session(content, "cpu", Path("model.onnx")).run(None, {"images": pictures}))
    for ours, theirs in zip(*answers, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5, rtol=0)
    localisation = widths(filled(content, block))[:2]
    assert localisation == [-(-20 // block) * block] * 2


@pytest.mark.parametrize(
    ("machine", "found", "block"),
    [
        ("x86_64", ["SSE42", "AVX2"], 8),
        ("AMD64", ["X86_V3"], 8),
        ("x86_64", ["AVX2", "AVX512F", "AVX512_SKX"], 16),
        ("AMD64", ["X86_V3", "X86_V4"], 16),
        ("aarch64", ["NEON", "ASIMDHP"], 1),
        ("arm64", [], 1),
    ],
)
def test_the_block_follows_the_processor(
    machine: str, found: list[str], block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(platform, "machine", lambda: machine)
    extensions = {"baseline": ["SSE2"], "found": found, "not found": ["AVX512_SPR"]}
    monkeypatch.setattr(layout.np, "show_config", lambda mode: {"SIMD Extensions": extensions})
    assert channel_block() == block
