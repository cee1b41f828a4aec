"""Reading a graph's nodes, and putting others in their place."""

from collections import defaultdict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, NodeProto

    Replaced = dict[str, list[NodeProto]]
    """By a node's first output, what stands in its place."""

_WIDENING = ("Cast", "Mul", "DequantizeLinear")
"""What makes weights of those that are stored in fewer bits, of the same shape."""
_SIZING = ("Pad", "Slice")
"""What rewriting fills and cuts them with."""


def replace_nodes(model: "ModelProto", replaced: "Replaced") -> None:
    """Put other nodes in the place of some, and drop the constants that nothing reads then."""
    if not replaced:
        return
    nodes = [one for node in model.graph.node for one in replaced.get("".join(node.output[:1]), [node])]
    read = {name for node in nodes for name in node.input} | {value.name for value in model.graph.output}
    for tensor in [tensor for tensor in model.graph.initializer if tensor.name not in read]:
        model.graph.initializer.remove(tensor)
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    model.graph.ClearField("value_info")  # sizes of before


def readers_of(graph: "GraphProto") -> "defaultdict[str, list[NodeProto | None]]":
    """Return the nodes that read each value; None stands for whoever reads an output of the graph."""
    readers: defaultdict[str, list[NodeProto | None]] = defaultdict(list)
    for node in graph.node:
        for name in node.input:
            readers[name].append(node)
    for value in graph.output:
        readers[value.name].append(None)
    return readers


def stored_shapes(graph: "GraphProto") -> dict[str, tuple[int, ...]]:
    """Return the shapes of constants and of what is made of them, as they are stored: not yet filled or cut."""
    shapes = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type in _WIDENING + _SIZING and node.input and node.input[0] in shapes and len(node.output) == 1:
            shapes[node.output[0]] = shapes[node.input[0]]
    return shapes
