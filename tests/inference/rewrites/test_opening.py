"""What a session on the CPU is opened of."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from rnnspn.errors import ModelFileError
from rnnspn.inference import cpu, model_file, providers
from tests import handmade
from tests.inference.rewrites.chains import chain, changed

onnxruntime = pytest.importorskip("onnxruntime")
CONTENT = handmade.build().SerializeToString()


def steps(content: bytes) -> int:
    """Return how many digits a session reads that is opened of a model."""
    session = providers.open_session(content, "cpu", Path("model.onnx"))
    return session.get_outputs()[0].shape[1]


def test_a_session_is_opened_of_what_was_rewritten(monkeypatch: pytest.MonkeyPatch) -> None:
    other = handmade.build(handmade.metadata(steps=5)).SerializeToString()
    monkeypatch.setattr(cpu, "rewritten", lambda _: other)
    assert steps(CONTENT) == 5


def test_a_model_that_cannot_be_rewritten_is_opened_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: bytes) -> bytes:
        raise IndexError("list index out of range")

    monkeypatch.setattr(cpu, "rewritten", fail)
    assert steps(CONTENT) == 3
    with pytest.raises(ModelFileError, match=r"model\.onnx: ONNX Runtime refuses it: .*(protobuf|Protobuf)"):
        steps(b"no model")


def test_want_of_memory_is_not_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: bytes) -> bytes:
        raise MemoryError

    monkeypatch.setattr(cpu, "rewritten", fail)
    with pytest.raises(MemoryError):
        cpu.on_cpu(onnxruntime, CONTENT, onnxruntime.SessionOptions())


def in_halves(graph: onnx.GraphProto) -> None:
    """Let a chain compute in float16."""
    for tensor in graph.initializer:
        tensor.CopyFrom(
            onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(tensor).astype(np.float16), tensor.name)
        )
    graph.node.insert(0, helper.make_node("Cast", ["images"], ["halves"], to=TensorProto.FLOAT16))
    graph.node[1].input[0] = "halves"
    last = graph.node[-1]
    last.output[0], result = "last", last.output[0]
    graph.node.append(helper.make_node("Cast", ["last"], [result], to=TensorProto.FLOAT))


def named_as_differences_are(graph: onnx.GraphProto) -> None:
    graph.node.append(helper.make_node("Neg", ["images"], ["images.moved00"]))
    graph.output.append(helper.make_tensor_value_info("images.moved00", TensorProto.FLOAT, ["N", 1, 30, 30]))


@pytest.mark.parametrize("change", [in_halves, named_as_differences_are])
@pytest.mark.parametrize("block", [1, 8, 16])
def test_what_nobody_foresaw_runs_as_it_is(block: int, change, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu, "channel_block", lambda: block)
    model = changed(chain("Relu", "MaxPool"), change)
    images = {"images": np.random.default_rng(0).normal(size=(3, 1, 30, 30)).astype(np.float32)}
    plain = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    ours = providers.open_session(model, "cpu", Path("model.onnx"))
    np.testing.assert_allclose(ours.run(None, images)[0], plain.run(None, images)[0], atol=1e-2)


def test_a_model_is_rewritten_once() -> None:
    content = model_file.load("bundled").content
    for _ in range(3):
        providers.open_session(content, "cpu", Path("model.onnx"))
    assert cpu.rewritten.cache_info().misses == 1
