"""Change a good model at random: cut it, flip its bits, or change its graph."""

import random
from collections.abc import Callable, Iterator

import onnx
from onnx import AttributeProto

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


def scrambled(content: bytes, number: int, chance: random.Random) -> Iterator[tuple[str, bytes]]:
    """Yield files whose graph was changed at random: whether they still run is open, that nothing dies is not."""
    for _ in range(number):
        model = onnx.ModelProto.FromString(content)
        names = []
        for _ in range(chance.randint(1, 2)):
            name = chance.choice(sorted(_SCRAMBLES))
            names.append(f"{name} {_SCRAMBLES[name](model, chance)}")
        yield ", ".join(names), model.SerializeToString()


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
