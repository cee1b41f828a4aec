from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from rnnspn.data.mnist import load_mnist
from rnnspn.data.sequences import Sequences
from rnnspn.inference import cuda, model_file, providers
from rnnspn.inference.pooling import pooled_first
from tests.inference.test_layout import chain, changed
from tests.inference.test_session import BOTH, _runtime

POOLED = ["Conv", "MaxPool", "Add", "Relu", "Conv", "MaxPool", "Add", "Relu", "Conv"]


def kinds(model: bytes) -> list[str]:
    onnx.checker.check_model(onnx.load_from_string(model), full_check=True)
    return [node.op_type for node in onnx.load_from_string(model).graph.node]


def answers(model: bytes, images: np.ndarray) -> list[np.ndarray]:
    """Run every node as it stands."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return session.run(None, {"images": images})


def test_a_model_reads_the_same_to_the_bit() -> None:
    content = model_file.load("bundled").content
    turned = pooled_first(content)
    pictures = Sequences(load_mnist(), "test").pictures(np.arange(64))[0]
    for ours, theirs in zip(answers(turned, pictures), answers(content, pictures), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    graph = onnx.load_from_string(turned).graph
    makers = {output: node for node in graph.node for output in node.output}
    pools = [makers.get(node.input[0]) for node in graph.node if node.op_type == "MaxPool"]
    convolutions = [node for node in pools if node is not None and node.op_type == "Conv"]
    assert [len(node.input) for node in convolutions] == [2, 2, 2, 2]
    assert kinds(turned).count("Add") == kinds(content).count("Add") + len(convolutions)


@pytest.mark.parametrize("between", [("Relu", "MaxPool"), ("MaxPool", "Relu")])
def test_pooling_comes_first_wherever_it_stood(between: tuple[str, str]) -> None:
    model = chain(*between)
    turned = pooled_first(model)
    assert kinds(turned) == POOLED
    images = np.random.default_rng(0).normal(size=(3, 1, 30, 30)).astype(np.float32)
    np.testing.assert_array_equal(answers(turned, images)[0], answers(model, images)[0])
    assert pooled_first(turned) == turned


def compute_the_biases(graph: onnx.GraphProto) -> None:
    for number in (0, 1):
        graph.node.insert(0, helper.make_node("Neg", [f"bias{number}"], [f"computed{number}"]))
    for node in graph.node:
        if node.op_type == "Conv" and node.input[2] != "bias2":
            node.input[2] = node.input[2].replace("bias", "computed")


def leave_the_biases_out(graph: onnx.GraphProto) -> None:
    for node in graph.node:
        if node.op_type == "Conv":
            del node.input[2]
    for tensor in [tensor for tensor in graph.initializer if tensor.name.startswith("bias")]:
        graph.initializer.remove(tensor)


def give_places_too(graph: onnx.GraphProto) -> None:
    for node in graph.node:
        if node.op_type == "MaxPool":
            node.output.append(f"{node.output[0]}.places")


def show_what_is_pooled(graph: onnx.GraphProto) -> None:
    for name in ("conv0.Relu", "conv1.Relu"):
        graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, [*"NCHW"]))


def read_a_convolution_twice(graph: onnx.GraphProto) -> None:
    for number in (0, 1):
        graph.node.append(helper.make_node("Neg", [f"conv{number}"], [f"other{number}"]))
        graph.output.append(helper.make_tensor_value_info(f"other{number}", TensorProto.FLOAT, [*"NCHW"]))


@pytest.mark.parametrize(
    "change", [compute_the_biases, leave_the_biases_out, give_places_too, show_what_is_pooled, read_a_convolution_twice]
)
def test_what_cannot_be_turned_is_left_as_it_is(change: Callable[[onnx.GraphProto], None]) -> None:
    model = changed(chain("Relu", "MaxPool"), change)
    onnx.checker.check_model(onnx.load_from_string(model), full_check=True)
    assert pooled_first(model) == model


@pytest.mark.parametrize("between", [(), ("Relu",), ("MaxPool",), ("Sigmoid", "MaxPool"), ("Relu", "Relu", "MaxPool")])
def test_other_chains_are_left_as_they_are(between: tuple[str, ...]) -> None:
    assert pooled_first(chain(*between)) == chain(*between)


def test_a_bias_that_others_read_too_stays() -> None:
    def share(graph: onnx.GraphProto) -> None:
        graph.node.append(helper.make_node("Neg", ["bias0"], ["negative"]))
        graph.output.append(helper.make_tensor_value_info("negative", TensorProto.FLOAT, ["C"]))

    turned = pooled_first(changed(chain("Relu", "MaxPool"), share))
    assert kinds(turned) == ["Conv", "Relu", "MaxPool", "Conv", "MaxPool", "Add", "Relu", "Conv", "Neg"]


def test_cuda_alone_gets_it_so(monkeypatch: pytest.MonkeyPatch) -> None:
    model = chain("Relu", "MaxPool")
    asked = _runtime(monkeypatch, BOTH, BOTH)
    given: list[bytes] = []
    monkeypatch.setattr(cuda, "pooled_first", lambda content: (given.append(content), content)[1])
    providers.open_session(model, "cuda", Path("m.onnx"))
    providers.open_session(model, "cpu", Path("m.onnx"))
    assert given == [model]
    assert len(asked) == 1
