"""Break one thing in the structure of a good model."""

import json
from collections.abc import Callable, Iterator

import onnx
from onnx import TensorProto, helper

from rnnspn.contract import METADATA_KEY

Change = Callable[[onnx.ModelProto], object]


def broken(content: bytes) -> Iterator[tuple[str, bytes]]:
    """Yield files that break the contract in one thing each; every one of them has to be refused."""
    for name, change in _BREAKS.items():
        model = onnx.ModelProto.FromString(content)
        change(model)
        yield name, model.SerializeToString()


def _metadata(**changes: object) -> Change:
    def change(model: onnx.ModelProto) -> None:
        document = json.loads(model.metadata_props[0].value) | changes
        document = {key: value for key, value in document.items() if value is not ...}
        helper.set_model_props(model, {METADATA_KEY: json.dumps(document)})

    return change


def _tensor(kind: str, at: int, element: int | None = None, shape: list[object] | None = None) -> Change:
    def change(model: onnx.ModelProto) -> None:
        value = getattr(model.graph, kind)[at]
        old = value.type.tensor_type
        dims = [size.dim_param or size.dim_value for size in old.shape.dim] if shape is None else shape
        value.CopyFrom(helper.make_tensor_value_info(value.name, element or old.elem_type, dims))

    return change


def _opset(version: int) -> Change:
    return lambda model: setattr(model.opset_import[0], "version", version)


def _external(model: onnx.ModelProto) -> None:
    tensor = max(model.graph.initializer, key=lambda tensor: len(tensor.raw_data))
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="/etc/passwd")


def _external_in_attribute(model: onnx.ModelProto) -> None:
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[1], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value="../weights")
    model.graph.node.append(helper.make_node("Constant", [], ["w"], value=tensor))


def _external_in_sparse(model: onnx.ModelProto) -> None:
    sparse = model.graph.sparse_initializer.add()
    sparse.values.name = "w"
    sparse.values.external_data.add(key="location", value="weights")


def _custom_inside(model: onnx.ModelProto) -> None:
    inner = helper.make_graph([helper.make_node("Run", [], ["x"], domain="com.other")], "inner", [], [])
    model.graph.node.append(helper.make_node("If", ["c"], ["x"], then_branch=inner, else_branch=inner))


def _bad_split(model: onnx.ModelProto) -> None:
    model.graph.node.append(helper.make_node("Split", ["digits"], ["a", "b", "c"], axis=1, num_outputs=1))


def _deep(model: onnx.ModelProto) -> None:
    graph = helper.make_graph([helper.make_node("Identity", ["digits"], ["x0"])], "deep", [], [])
    for depth in range(40):
        node = helper.make_node("If", ["c"], [f"x{depth + 1}"], then_branch=graph, else_branch=graph)
        graph = helper.make_graph([node], "deep", [], [])
        if graph.ByteSize() > 2**20:
            break
    model.graph.node.append(helper.make_node("If", ["c"], ["y"], then_branch=graph, else_branch=graph))


_BREAKS: dict[str, Change] = {
    "opset 17": _opset(17),
    "opset 0": _opset(0),
    "opset -1": _opset(-1),
    "opset of the far future": _opset(2**31),
    "no opset": lambda model: model.ClearField("opset_import"),
    "IR of the far future": lambda model: setattr(model, "ir_version", 2**31),
    "a custom domain": lambda model: model.opset_import.append(helper.make_opsetid("com.other", 1)),
    "a custom node": lambda model: setattr(model.graph.node[0], "domain", "com.microsoft"),
    "a custom node inside": _custom_inside,
    "a local function": lambda model: model.functions.append(helper.make_function("", "F", ["x"], ["y"], [], [])),
    "external weights": _external,
    "external data in an attribute": _external_in_attribute,
    "external data in a sparse tensor": _external_in_sparse,
    "no metadata": lambda model: model.ClearField("metadata_props"),
    "metadata twice": lambda model: model.metadata_props.append(model.metadata_props[0]),
    "metadata that is no JSON": lambda model: setattr(model.metadata_props[0], "value", "{"),
    "metadata of deep JSON": lambda model: setattr(model.metadata_props[0], "value", "[" * 100_000),
    "metadata that is a list": lambda model: setattr(model.metadata_props[0], "value", "[]"),
    "metadata of schema 99": _metadata(schema_version=99),
    "metadata without steps": _metadata(steps=...),
    "metadata with steps 4": _metadata(steps=4),
    "metadata with steps 3.0": _metadata(steps=3.0),
    "metadata with steps 10^30": _metadata(steps=10**30),
    "metadata with no alphabet": _metadata(alphabet=""),
    "metadata with another alphabet": _metadata(alphabet="01"),
    "metadata with an alphabet of numbers": _metadata(alphabet=[*range(10)]),
    "metadata with height null": _metadata(height=None),
    "metadata with another height": _metadata(height=101),
    "metadata of another family": _metadata(family="conv"),
    "metadata of an unknown family": _metadata(family="transformer"),
    "metadata with a family that is a list": _metadata(family=[]),
    "metadata with down-sampling 0": _metadata(downsample=0),
    "metadata with down-sampling in words": _metadata(downsample="three"),
    "metadata with an alphabet that moves the cursor": _metadata(alphabet="012345678\x1b"),
    "metadata with a training that is a list": _metadata(training=[]),
    "metadata with another resize policy": _metadata(resize_policy="crop"),
    "metadata with a polarity that is a list": _metadata(polarity=["light-on-dark"]),
    "input of rank 4": _tensor("input", 0, shape=["N", 1, 100, 100]),
    "input of rank 0": _tensor("input", 0, shape=[]),
    "input of another size": _tensor("input", 0, shape=["N", 99, 100]),
    "input with a fixed N": _tensor("input", 0, shape=[1, 100, 100]),
    "input float": _tensor("input", 0, element=TensorProto.FLOAT),
    "input of an unknown type": _tensor("input", 0, element=99),
    "input renamed": lambda model: setattr(model.graph.input[0], "name", "pictures"),
    "input missing": lambda model: model.graph.ClearField("input"),
    "outputs missing": lambda model: model.graph.ClearField("output"),
    "output of another T": _tensor("output", 0, shape=["N", 4]),
    "output of another type": _tensor("output", 0, element=TensorProto.INT32),
    "no nodes": lambda model: model.graph.ClearField("node"),
    "a node that does not exist": lambda model: setattr(model.graph.node[0], "op_type", "Teleport"),
    "a node without inputs": lambda model: model.graph.node[0].ClearField("input"),
    "a loop": lambda model: model.graph.node[0].input.__setitem__(0, model.graph.output[0].name),
    "a Split of one into three": _bad_split,
    "names that are no text": lambda model: model.graph.node[0].MergeFromString(b"\x22\x02\xb2\xb2"),
    "graphs inside graphs": _deep,
}
