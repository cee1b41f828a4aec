"""Pool before the bias and ReLU, for a runtime that does neither inside the convolution, as ONNX Runtime on CUDA.

There each of the two reads and writes the whole output of a convolution once more; after 2 x 2 pooling it is a quarter.
The largest of some numbers, plus a bias, is the largest of the sums, also when these are rounded, so nothing changes.
"""

from collections import defaultdict
from collections.abc import Iterator
from typing import TYPE_CHECKING

from rnnspn.inference.layout import with_nodes

if TYPE_CHECKING:
    from onnx import GraphProto, NodeProto

    from rnnspn.inference.layout import Replaced

_KINDS = ("Conv", "Relu", "MaxPool")


def pooled_first(model: bytes) -> bytes:
    """Turn Conv, Relu, MaxPool (or Conv, MaxPool, Relu) into a Conv without its bias, MaxPool, Add, Relu.

    Args:
        model: A serialised model.

    Returns:
        The model, serialised; the same bytes where there is nothing to turn.
    """
    import onnx

    proto = onnx.load_from_string(model)
    graph = proto.graph
    readers = _readers(graph)
    biases = {
        tensor.name: tensor for tensor in graph.initializer if len(readers[tensor.name]) == 1 and len(tensor.dims) == 1
    }
    replaced: Replaced = {}
    for convolution, middle, last in list(_pooled(graph, readers)):
        bias = biases.get(convolution.input[2]) if len(convolution.input) > 2 else None
        if bias is None:
            continue
        name, result = convolution.output[0], last.output[0]
        bias.dims.extend([1, 1])  # rows and columns
        pool, relu = onnx.NodeProto(), onnx.NodeProto()
        pool.CopyFrom(middle if middle.op_type == "MaxPool" else last)
        relu.CopyFrom(last if middle.op_type == "MaxPool" else middle)
        add = onnx.helper.make_node("Add", [f"{name}.pooled", bias.name], [f"{name}.biased"], f"{name}.add")
        pool.input[:], pool.output[:] = [name], [f"{name}.pooled"]
        relu.input[:], relu.output[:] = [f"{name}.biased"], [result]
        del convolution.input[2]
        replaced |= {middle.output[0]: [], result: [pool, add, relu]}
    return with_nodes(proto, replaced) if replaced else model


def _readers(graph: "GraphProto") -> "defaultdict[str, list[NodeProto | None]]":
    """Return the nodes that read each value; None stands for whoever reads an output of the graph."""
    readers: defaultdict[str, list[NodeProto | None]] = defaultdict(list)
    for node in graph.node:
        for name in node.input:
            readers[name].append(node)
    for value in graph.output:
        readers[value.name].append(None)
    return readers


def _pooled(
    graph: "GraphProto", readers: "dict[str, list[NodeProto | None]]"
) -> "Iterator[tuple[NodeProto, NodeProto, NodeProto]]":
    """Yield each convolution with the ReLU and the pooling after it, in either order, that nothing else reads from."""
    for node in graph.node:
        chain: list[NodeProto] = [node]
        while len(chain) < len(_KINDS) and len(chain[-1].output) == 1:
            following, *others = readers[chain[-1].output[0]] or [None]
            if following is None or others or len(following.output) != 1:
                break
            chain.append(following)
        kinds = [one.op_type for one in chain]
        if kinds[0] == _KINDS[0] and sorted(kinds) == sorted(_KINDS):
            yield chain[0], chain[1], chain[2]
