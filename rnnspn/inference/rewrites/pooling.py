"""Convolution, ReLU and 2 x 2 pooling, in the order and the form that a runtime is fastest at.

ONNX Runtime on CUDA does neither bias nor ReLU inside the convolution: each of the two reads and writes all of its
output once more, and after pooling that is a quarter. The largest of some numbers, plus a bias, is the largest of the
sums, also when these are rounded, so nothing changes.

ONNX Runtime on x86 adds and rectifies inside the convolution, but writes all of its output for the pooling to read
again. Of the four numbers that are pooled, since max(a, b) = b + relu(a - b),

    max(a, b, c, d) = d + relu(c - d + relu(b - c + relu(a - b)))

and a convolution is linear: a - b is its output for the difference of the pictures at the two places. So four
convolutions in steps of two pixels, each of which adds the one before and rectifies, give the pooled output, and
nothing that is written takes more room than that. It is done where pictures have one channel, as their differences cost
little then. The numbers come out of other sums, and so round otherwise.
"""

from collections.abc import Iterator
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

from rnnspn.inference.rewrites.nodes import readers_of, replace_nodes, stored_shapes

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, NodeProto, ValueInfoProto

    from rnnspn.inference.rewrites.nodes import Replaced

_KINDS = ("Conv", "Relu", "MaxPool")
_PLACES = ((0, 0), (0, 1), (1, 1), (1, 0))
"""Rows and columns of the outputs that are pooled together."""
_HALVING = {"kernel_shape": [2, 2], "strides": [2, 2]}
_PLAIN = {
    "auto_pad": b"NOTSET",
    "ceil_mode": 0,
    "dilations": [1, 1],
    "group": 1,
    "pads": [0, 0, 0, 0],
    "storage_order": 0,
    "strides": [1, 1],
}
"""What is so where an attribute is not given."""


class _Pooled(NamedTuple):
    """A convolution, and the ReLU and the pooling after it, in either order, that nothing else reads from.

    Attributes:
        convolution, relu, pool: The nodes.
        between: The value between the latter two.
        result: The last one's output.
    """

    convolution: "NodeProto"
    relu: "NodeProto"
    pool: "NodeProto"
    between: str
    result: str


def pool_first(model: "ModelProto") -> None:
    """Turn Conv, Relu, MaxPool (or Conv, MaxPool, Relu) into a Conv without its bias, MaxPool, Add, Relu."""
    from onnx import helper

    readers = readers_of(model.graph)
    biases = {
        tensor.name: tensor
        for tensor in model.graph.initializer
        if len(readers[tensor.name]) == 1 and len(tensor.dims) == 1
    }
    replaced: Replaced = {}
    for convolution, relu, pool, between, result in list(_pooled(model.graph)):
        bias = biases.get(convolution.input[2]) if len(convolution.input) > 2 else None
        if bias is None:
            continue
        name = convolution.output[0]
        bias.dims.extend([1, 1])  # rows and columns
        add = helper.make_node("Add", [f"{name}.pooled", bias.name], [f"{name}.biased"], f"{name}.add")
        nodes = [_copy(pool, [name], f"{name}.pooled"), add, _copy(relu, [f"{name}.biased"], result)]
        del convolution.input[2]
        replaced |= {between: [], result: nodes}
    replace_nodes(model, replaced)


def pool_by_differences(model: "ModelProto") -> None:
    """Turn a Conv of one channel, Relu and 2 x 2 MaxPool into four Conv of differences, each with an Add and a Relu."""
    from onnx import helper

    shapes = stored_shapes(model.graph)
    replaced: Replaced = {}
    sources: dict[str, _Differences] = {}  # by the pictures that are convolved
    for convolution, relu, pool, between, result in list(_pooled(model.graph)):
        plain = _has(convolution, _PLAIN) and _has(pool, _PLAIN | _HALVING)
        if not plain or shapes.get(convolution.input[1], ())[1:2] != (1,):
            continue
        pictures, kernel, *bias = convolution.input
        name = convolution.output[0]
        replaced |= {name: [], between: [], result: []}
        if pictures not in sources:
            sources[pictures] = _differences(model.graph, pictures)
            replaced[name] = sources[pictures].nodes
        before = ""
        for number, difference in enumerate(sources[pictures].values):
            is_last = number == len(_PLACES) - 1
            nodes = [_copy(convolution, [difference, kernel, *(bias if is_last else [])], f"{name}.convolved{number}")]
            _set_strides(nodes[0])
            if before:
                nodes.append(helper.make_node("Add", [before, nodes[0].output[0]], [f"{name}.summed{number}"]))
            before = result if is_last else f"{name}.beyond{number}"
            nodes.append(_copy(relu, [nodes[-1].output[0]], before))
            replaced[result] += nodes
    replace_nodes(model, replaced)
    model.graph.value_info.extend(size for source in sources.values() for size in source.sizes)


class _Differences(NamedTuple):
    """What pictures have more at each of the places than at the next one, and the pictures at the last place.

    Attributes:
        values: Their names; each is float (N, 1, H - 1, W - 1).
        nodes: What computes them.
        sizes: What is known of values between; the runtime adds inside a convolution only what it knows to be of one
            size.
    """

    values: list[str]
    nodes: "list[NodeProto]"
    sizes: "list[ValueInfoProto]"


def _differences(graph: "GraphProto", pictures: str) -> _Differences:
    """Return the differences of pictures, float (N, 1, H, W); constants are added to the graph."""
    import numpy as np
    from onnx import TensorProto, helper, numpy_helper

    def constant(name: str, *numbers: int) -> str:
        graph.initializer.append(numpy_helper.from_array(np.array(numbers), f"{pictures}.{name}"))
        return f"{pictures}.{name}"

    found = _Differences([], [], [])
    axes, end = constant("axes", 2, 3), np.iinfo(np.int64).max
    moved = [f"{pictures}.moved{row}{column}" for row, column in _PLACES]
    for name, (row, column) in zip(moved, _PLACES, strict=True):
        starts = constant(f"starts{row}{column}", row, column)
        ends = constant(f"ends{row}{column}", *(end if place else -1 for place in (row, column)))
        found.nodes.append(helper.make_node("Slice", [pictures, starts, ends, axes], [name]))
        size = helper.make_tensor_value_info(name, TensorProto.FLOAT, [f"{pictures}.N", 1, None, None])
        found.sizes.append(size)
    for one, other in pairwise(moved):
        found.values.append(f"{one}.beyond")
        found.nodes.append(helper.make_node("Sub", [one, other], [found.values[-1]]))
    found.values.append(moved[-1])
    return found


def _pooled(graph: "GraphProto") -> Iterator[_Pooled]:
    readers = readers_of(graph)
    for node in graph.node:
        chain: list[NodeProto] = [node]
        while len(chain) < len(_KINDS) and len(chain[-1].output) == 1:
            following, *others = readers[chain[-1].output[0]] or [None]
            if following is None or others or len(following.output) != 1:
                break
            chain.append(following)
        kinds = [one.op_type for one in chain]
        if kinds[0] == _KINDS[0] and sorted(kinds) == sorted(_KINDS):
            relu, pool = chain[1:] if kinds[1] == "Relu" else reversed(chain[1:])
            yield _Pooled(chain[0], relu, pool, chain[1].output[0], chain[2].output[0])


def _copy(node: "NodeProto", inputs: list[str], output: str) -> "NodeProto":
    other = type(node)()
    other.CopyFrom(node)
    other.name = output
    other.input[:], other.output[:] = inputs, [output]
    return other


def _set_strides(convolution: "NodeProto") -> None:
    from onnx import helper

    others = [attribute for attribute in convolution.attribute if attribute.name != "strides"]
    del convolution.attribute[:]
    convolution.attribute.extend([*others, helper.make_attribute("strides", _HALVING["strides"])])


def _has(node: "NodeProto", expected: dict[str, object]) -> bool:
    """Tell whether a node's attributes are those; of the ones that are not named there, any will do."""
    from onnx import helper

    given = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
    return all(given.get(name, _PLAIN.get(name)) == value for name, value in expected.items())
