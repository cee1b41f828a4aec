from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from rnnspn.data.mnist import load_mnist
from rnnspn.data.sequences import Sequences
from rnnspn.inference import cpu, cuda, model_file, providers
from rnnspn.inference.rewrites.blocks import bring_to_blocks, channel_block
from rnnspn.inference.rewrites.pooling import pool_by_differences, pool_first
from tests.inference.rewrites.chains import answers, chain, changed, rewritten
from tests.inference.test_session import BOTH, _runtime

POOLED = ["Conv", "MaxPool", "Add", "Relu", "Conv", "MaxPool", "Add", "Relu", "Conv"]


def kinds(model: bytes) -> list[str]:
    onnx.checker.check_model(onnx.load_from_string(model), full_check=True)
    return [node.op_type for node in onnx.load_from_string(model).graph.node]


def test_a_model_reads_the_same_to_the_bit() -> None:
    content = model_file.load("bundled").content
    turned = rewritten(content, pool_first)
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
    turned = rewritten(model, pool_first)
    assert kinds(turned) == POOLED
    images = np.random.default_rng(0).normal(size=(3, 1, 30, 30)).astype(np.float32)
    np.testing.assert_array_equal(answers(turned, images)[0], answers(model, images)[0])
    assert rewritten(turned, pool_first) == turned


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
    assert rewritten(model, pool_first) == model


@pytest.mark.parametrize("between", [(), ("Relu",), ("MaxPool",), ("Sigmoid", "MaxPool"), ("Relu", "Relu", "MaxPool")])
def test_other_chains_are_left_as_they_are(between: tuple[str, ...]) -> None:
    assert rewritten(chain(*between), pool_first) == chain(*between)


def test_a_bias_that_others_read_too_stays() -> None:
    def share(graph: onnx.GraphProto) -> None:
        graph.node.append(helper.make_node("Neg", ["bias0"], ["negative"]))
        graph.output.append(helper.make_tensor_value_info("negative", TensorProto.FLOAT, ["C"]))

    turned = rewritten(changed(chain("Relu", "MaxPool"), share), pool_first)
    assert kinds(turned) == ["Conv", "Relu", "MaxPool", "Conv", "MaxPool", "Add", "Relu", "Conv", "Neg"]


def test_cuda_alone_gets_it_so(monkeypatch: pytest.MonkeyPatch) -> None:
    model = chain("Relu", "MaxPool")
    asked = _runtime(monkeypatch, BOTH, BOTH)
    given: list[onnx.ModelProto] = []
    monkeypatch.setattr(cuda, "pool_first", given.append)
    providers.open_session(model, "cuda", Path("m.onnx"))
    providers.open_session(model, "cpu", Path("m.onnx"))
    assert [proto.SerializeToString() for proto in given] == [model]
    assert len(asked) == 1


def test_a_session_on_cuda_is_opened_of_what_was_rewritten(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[bytes] = []
    _runtime(monkeypatch, BOTH, BOTH)
    original = cuda._session
    monkeypatch.setattr(cuda, "_session", lambda *given, **named: opened.append(given[1]) or original(*given, **named))
    providers.open_session(chain("Relu", "MaxPool"), "cuda", Path("m.onnx"))
    assert kinds(opened[0]) == POOLED


def sized(model: bytes, height: int, width: int) -> bytes:
    """Return a model of pictures of another size."""

    def resize(graph: onnx.GraphProto) -> None:
        for axis, size in ((2, height), (3, width)):
            graph.input[0].type.tensor_type.shape.dim[axis].dim_value = size

    return changed(model, resize)


@pytest.mark.parametrize("stored", [np.float32, np.float16, np.int8])
@pytest.mark.parametrize("between", [("Relu", "MaxPool"), ("MaxPool", "Relu")], ids=str)
@pytest.mark.parametrize(("height", "width"), [(30, 30), (29, 32), (31, 31)])  # of what is pooled, even and odd
def test_differences_pool_pictures_of_one_channel_and_the_numbers_stay_the_same(
    height: int, width: int, between: tuple[str, str], stored: type
) -> None:
    model = sized(chain(*between, stored=stored), height, width)
    turned = rewritten(model, pool_by_differences)
    assert (kinds(turned).count("Conv"), kinds(turned).count("MaxPool")) == (6, 1)
    images = np.random.default_rng(0).normal(size=(3, 1, height, width)).astype(np.float32)
    np.testing.assert_allclose(answers(turned, images)[0], answers(model, images)[0], atol=1e-5, rtol=0)
    assert kinds(rewritten(turned, pool_by_differences)) == kinds(turned)


def test_channels_that_go_two_ways_share_the_differences() -> None:
    parted = rewritten(chain("Relu", "MaxPool", filters=(5, 12, 4)), bring_to_blocks, 4)
    turned = rewritten(parted, pool_by_differences)
    slices = [node for node in onnx.load_from_string(turned).graph.node if node.op_type == "Slice"]
    assert sum(node.input[0] == "images" for node in slices) == 4
    assert (kinds(turned).count("Conv"), kinds(turned).count("MaxPool")) == (11, 1)
    images = np.random.default_rng(0).normal(size=(3, 1, 30, 30)).astype(np.float32)
    np.testing.assert_allclose(answers(turned, images)[0], answers(parted, images)[0], atol=1e-5, rtol=0)


def loaded(model: bytes, folder: Path) -> list[str]:
    """Return the kinds of nodes that the runtime runs."""
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(folder / "loaded.onnx")
    options.log_severity_level = 3
    onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return [node.op_type for node in onnx.load(folder / "loaded.onnx").graph.node]


@pytest.mark.skipif(channel_block() == 1, reason="only on x86 does the runtime add inside a convolution")
@pytest.mark.parametrize("batch", [False, True], ids=["a batch of its own", "a batch that nobody knows"])
def test_the_runtime_adds_and_rectifies_inside_the_convolutions(batch: bool, tmp_path: Path) -> None:
    def hide(graph: onnx.GraphProto) -> None:
        """Lead the pictures through a node after which their number is not known, as that of glimpses."""
        graph.initializer.append(onnx.numpy_helper.from_array(np.array([-1, 1, 30, 30]), "shape"))
        graph.node.insert(0, helper.make_node("Reshape", ["images", "shape"], ["hidden"]))
        graph.node[1].input[0] = "hidden"

    model = chain("Relu", "MaxPool", filters=(16, 16, 16))
    turned = rewritten(changed(model, hide) if batch else model, pool_by_differences)
    found = loaded(turned, tmp_path)
    assert (found.count("Conv"), found.count("MaxPool")) == (6, 1)
    assert not {"Add", "Relu"}.intersection(found)


def padded(graph: onnx.GraphProto) -> None:
    give(graph, "Conv", pads=[1, 1, 1, 1])


def dilated(graph: onnx.GraphProto) -> None:
    give(graph, "Conv", dilations=[2, 2])


def in_steps(graph: onnx.GraphProto) -> None:
    give(graph, "Conv", strides=[2, 2])


def pooled_by_three(graph: onnx.GraphProto) -> None:
    give(graph, "MaxPool", kernel_shape=[3, 3])


def pooled_in_steps_of_one(graph: onnx.GraphProto) -> None:
    give(graph, "MaxPool", strides=[1, 1])


def pooled_beyond_the_border(graph: onnx.GraphProto) -> None:
    give(graph, "MaxPool", pads=[1, 1, 1, 1])


def pooled_to_the_last_row(graph: onnx.GraphProto) -> None:
    give(graph, "MaxPool", ceil_mode=1)


def padded_by_name(graph: onnx.GraphProto) -> None:
    give(graph, "Conv", auto_pad="SAME_UPPER")


def of_two_channels_each_by_itself(graph: onnx.GraphProto) -> None:
    graph.input[0].type.tensor_type.shape.dim[1].dim_value = 2
    give(graph, "Conv", group=2)


def compute_the_kernels(graph: onnx.GraphProto) -> None:
    graph.node.insert(0, helper.make_node("Neg", ["kernel0"], ["computed"]))
    graph.node[1].input[1] = "computed"


def of_pictures_of_two_channels(graph: onnx.GraphProto) -> None:
    graph.input[0].type.tensor_type.shape.dim[1].dim_value = 2
    (kernel,) = [tensor for tensor in graph.initializer if tensor.name == "kernel0"]
    twice = np.repeat(onnx.numpy_helper.to_array(kernel), 2, axis=1)
    kernel.CopyFrom(onnx.numpy_helper.from_array(twice, "kernel0"))


def give(graph: onnx.GraphProto, kind: str, **attributes: object) -> None:
    """Set attributes of the first node of a kind."""
    node = next(node for node in graph.node if node.op_type == kind)
    others = [attribute for attribute in node.attribute if attribute.name not in attributes]
    del node.attribute[:]
    node.attribute.extend([*others, *(helper.make_attribute(*one) for one in attributes.items())])


@pytest.mark.parametrize(
    "change",
    [
        padded,
        dilated,
        in_steps,
        padded_by_name,
        pooled_by_three,
        pooled_in_steps_of_one,
        pooled_beyond_the_border,
        pooled_to_the_last_row,
        compute_the_kernels,
        of_pictures_of_two_channels,
        of_two_channels_each_by_itself,
        give_places_too,
        show_what_is_pooled,
        read_a_convolution_twice,
    ],
)
def test_what_differences_do_not_pool_is_left_as_it_is(change: Callable[[onnx.GraphProto], None]) -> None:
    model = changed(chain("Relu", "MaxPool", filters=(6, 12, 4)), change)
    onnx.checker.check_model(onnx.load_from_string(model), full_check=True)
    assert rewritten(model, pool_by_differences) == model


@pytest.mark.parametrize("between", [(), ("Relu",), ("MaxPool",), ("Sigmoid", "MaxPool"), ("Relu", "Relu", "MaxPool")])
def test_differences_do_not_pool_other_chains(between: tuple[str, ...]) -> None:
    assert rewritten(chain(*between), pool_by_differences) == chain(*between)


@pytest.mark.parametrize(("block", "pools"), [(1, 5), (8, 3), (16, 3)])
def test_the_bundled_model_is_pooled_so_where_the_runtime_has_blocks_of_channels(
    block: int, pools: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cpu, "channel_block", lambda: block)
    content = model_file.load("bundled").content
    turned = cpu.rewritten(content)
    assert kinds(turned).count("MaxPool") == pools
    pictures = Sequences(load_mnist(), "test").pictures(np.arange(64))[0]
    for ours, theirs in zip(answers(turned, pictures), answers(content, pictures), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=2e-5, rtol=0)
