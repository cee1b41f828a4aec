"""Change a good model file: cut it, flip its bits, or break one thing in its structure."""

import json
import random
from collections.abc import Callable, Iterator

import onnx
from onnx import AttributeProto, TensorProto, helper

from rnnspn.contract import METADATA_KEY

Change = Callable[[onnx.ModelProto], object]

_BIG_TENSOR = 4096
_HUGE = 2**40


def cuts(content: bytes, number: int, chance: random.Random) -> Iterator[tuple[str, bytes]]:
    """Yield the file cut short: densely near its ends, at random between."""
    places = {*range(0, 200, 9), *range(len(content) - 200, len(content), 9)}
    while len(places) < number:
        places.add(chance.randrange(len(content)))
    for place in chance.sample(sorted(places), min(number, len(places))):
        yield f"cut at {place}", content[:place]


def flips(content: bytes, number: int, chance: random.Random) -> Iterator[tuple[str, bytes]]:
    """Yield the file with one to four bits flipped: four times in five where its structure lies, else in weights."""
    structure = _structure(content)
    for _ in range(number):
        changed, places = bytearray(content), []
        inside = chance.random() < 0.8
        for _ in range(chance.randint(1, 4)):
            place = chance.choice(structure) if inside else chance.randrange(len(content))
            changed[place] ^= 1 << chance.randrange(8)
            places.append(place)
        yield f"bits flipped in {' '.join(map(str, places))}", bytes(changed)


def _structure(content: bytes) -> list[int]:
    """Return the places that are not inside a big weight tensor."""
    weights = bytearray(len(content))
    for tensor in onnx.ModelProto.FromString(content).graph.initializer:
        if len(tensor.raw_data) >= _BIG_TENSOR:
            start = content.index(tensor.raw_data)
            weights[start : start + len(tensor.raw_data)] = b"\1" * len(tensor.raw_data)
    return [place for place, inside in enumerate(weights) if not inside]


def broken(content: bytes) -> Iterator[tuple[str, bytes]]:
    """Yield files that break the contract in one thing each; every one of them has to be refused."""
    for name, change in _BREAKS.items():
        model = onnx.ModelProto.FromString(content)
        change(model)
        yield name, model.SerializeToString()


def scrambled(content: bytes, number: int, chance: random.Random) -> Iterator[tuple[str, bytes]]:
    """Yield files whose graph was changed at random: whether they still run is open, that nothing dies is not."""
    for _ in range(number):
        model = onnx.ModelProto.FromString(content)
        names = []
        for _ in range(chance.randint(1, 2)):
            name = chance.choice(sorted(_SCRAMBLES))
            names.append(f"{name} {_SCRAMBLES[name](model, chance)}")
        yield ", ".join(names), model.SerializeToString()


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
    "graphs inside graphs": _deep,
}


def _no_weights(model: onnx.ModelProto, chance: random.Random) -> str:
    tensor = chance.choice(model.graph.initializer)
    tensor.ClearField("raw_data")
    return tensor.name


def _wrong_shape(model: onnx.ModelProto, chance: random.Random) -> str:
    tensor = chance.choice(model.graph.initializer)
    if tensor.dims:
        tensor.dims[chance.randrange(len(tensor.dims))] = chance.choice([-1, 0, 1, 7, _HUGE])
    else:
        tensor.dims.append(chance.choice([-1, 0, 2, _HUGE]))
    return tensor.name


def _wrong_type(model: onnx.ModelProto, chance: random.Random) -> str:
    tensor = chance.choice(model.graph.initializer)
    tensor.data_type = chance.randrange(24)
    return tensor.name


def _wrong_values(model: onnx.ModelProto, chance: random.Random) -> str:
    tensor = chance.choice(model.graph.initializer)
    tensor.raw_data = chance.choice([b"\xff", b"\x7f", b"\x80", b"\1"]) * len(tensor.raw_data)
    return tensor.name


def _node_lost(model: onnx.ModelProto, chance: random.Random) -> str:
    at = chance.randrange(len(model.graph.node))
    name = model.graph.node[at].op_type
    del model.graph.node[at]
    return name


def _node_swapped(model: onnx.ModelProto, chance: random.Random) -> str:
    one, other = chance.sample(list(model.graph.node), 2)
    one.op_type, other.op_type = other.op_type, one.op_type
    return f"{other.op_type} {one.op_type}"


def _inputs_swapped(model: onnx.ModelProto, chance: random.Random) -> str:
    one, other = chance.sample([node for node in model.graph.node if node.input], 2)
    one.input[0], other.input[0] = other.input[0], one.input[0]
    return f"{one.op_type} {other.op_type}"


def _attribute_changed(model: onnx.ModelProto, chance: random.Random) -> str:
    node = chance.choice([node for node in model.graph.node if node.attribute])
    attribute = chance.choice(node.attribute)
    value = chance.choice([-1, 0, 1, 63, 2**31, 2**62])
    if attribute.type == AttributeProto.INTS and attribute.ints:
        attribute.ints[chance.randrange(len(attribute.ints))] = value
    elif attribute.type == AttributeProto.INT:
        attribute.i = value
    else:
        node.attribute.remove(attribute)
    return f"{node.op_type}.{attribute.name}"


_SCRAMBLES: dict[str, Callable[[onnx.ModelProto, random.Random], str]] = {
    "no weights": _no_weights,
    "wrong shape": _wrong_shape,
    "wrong type": _wrong_type,
    "wrong values": _wrong_values,
    "node lost": _node_lost,
    "operators swapped": _node_swapped,
    "inputs swapped": _inputs_swapped,
    "attribute changed": _attribute_changed,
}
