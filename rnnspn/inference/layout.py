"""Fill a model's convolutions up to the blocks of channels that this processor computes with at a time.

ONNX Runtime keeps a convolution and the pooling after it in one blocked layout only where their channels fill whole
blocks. How large a block is depends on the processor, so it is done when a model is loaded: the file holds the network
as it is. A channel of zeros that the next convolution multiplies by zeros changes no number.
"""

import platform
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, NodeProto

_KEEPING_ZEROS = ("Relu", "MaxPool")
_ROUNDING = ("QuantizeLinear", "DequantizeLinear")
"""What may stand between two convolutions; the latter with one scale for all channels."""
_WIDENING = ("Cast", "Mul", "DequantizeLinear")
"""What makes weights of those that are stored in fewer bits, of the same shape."""
_RANK = 4
"""Of the weights of a convolution of pictures: filters, channels, rows, columns."""


def channel_block() -> int:
    """Return how many channels ONNX Runtime blocks together here: 16 with AVX-512, 8 on other x86, 1 elsewhere.

    Source: MLAS, the runtime's own kernels; on ARM only builds that ask for it have a blocked layout.
    """
    import numpy as np

    if platform.machine().lower() not in ("x86_64", "amd64"):
        return 1
    known = np.show_config(mode="dicts").get("SIMD Extensions", {})
    found = (*known.get("baseline", ()), *known.get("found", ()))
    return 16 if any(name.startswith("AVX512") or name == "X86_V4" for name in found) else 8


def filled(model: bytes, block: int) -> bytes:
    """Fill up every convolution in floats that feeds another one, and nothing else, to whole blocks of channels.

    The zeros are added by nodes that the runtime folds away when it loads the model, whatever weights are stored in.

    Args:
        model: A serialised model.
        block: Channels of a block.

    Returns:
        The model, serialised; the same bytes where there is nothing to fill.
    """
    import numpy as np
    import onnx

    proto = onnx.load_from_string(model)
    graph = proto.graph
    padding: dict[str, list[NodeProto]] = {}  # by the output of the node that they stand before
    integers = _integer_weights(graph)

    def pad(convolution: "NodeProto", place: int, axis: int, rank: int, channels: int) -> None:
        """Add channels to the weights or the bias of a convolution, along an axis; to integers as they are stored."""
        amounts = np.zeros((2, rank), np.int64)
        amounts[1, axis] = channels
        name = f"filled.{convolution.output[0]}.{place}.{axis}"
        graph.initializer.append(onnx.numpy_helper.from_array(amounts.flatten(), f"{name}.pads"))
        widening = integers.get(convolution.input[place])
        node, place = (widening, 0) if widening else (convolution, place)
        pads = onnx.helper.make_node("Pad", [node.input[place], f"{name}.pads"], [name])
        padding.setdefault(node.output[0], []).append(pads)
        node.input[place] = name

    for first, second, channels in list(_neighbours(graph)):
        missing = -channels % block
        if 0 < missing <= channels:  # else it costs more than it brings
            pad(first, 1, 0, _RANK, missing)
            pad(first, 2, 0, 1, missing)
            pad(second, 1, 1, _RANK, missing)
    if not padding:
        return model
    nodes = []
    for node in graph.node:
        if node.output:
            nodes += padding.pop(node.output[0], [])
        nodes.append(node)
    return with_nodes(proto, nodes)


def with_nodes(model: "ModelProto", nodes: "list[NodeProto]") -> bytes:
    """Return a model with other nodes, serialised."""
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    model.graph.ClearField("value_info")  # sizes of before
    content: bytes = model.SerializeToString()
    return content


def _neighbours(graph: "GraphProto") -> "Iterator[tuple[NodeProto, NodeProto, int]]":
    """Yield each convolution in floats that feeds one other, that other one, and the channels between them."""
    readers = Counter([name for node in graph.node for name in node.input] + [value.name for value in graph.output])
    shapes = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    integers = _integer_weights(graph)
    sources: dict[str, NodeProto] = {}  # the convolution whose channels a value still has
    for node in graph.node:
        if not node.input or len(node.output) != 1:
            continue
        source = sources.get(node.input[0]) if readers[node.input[0]] == 1 else None
        if node.op_type in _WIDENING and node.input[0] in shapes:
            shapes[node.output[0]] = shapes[node.input[0]]
        elif source and (node.op_type in _KEEPING_ZEROS or _is_even(node, shapes)):
            sources[node.output[0]] = source
        elif _is_plain(node) and len(shapes.get(node.input[1], ())) == _RANK:
            own = node.input[1] not in integers or readers[node.input[1]] == 1
            if source and own:
                yield source, node, shapes[source.input[1]][0]
            if node.input[1] not in integers:  # those have no layout of blocks
                sources[node.output[0]] = node


def _integer_weights(graph: "GraphProto") -> "dict[str, NodeProto]":
    """Return what widens integers that convolutions compute with, by its output."""
    stored = {tensor.name for tensor in graph.initializer}
    return {
        node.output[0]: node
        for node in graph.node
        if node.op_type == "DequantizeLinear" and node.input and node.input[0] in stored and len(node.output) == 1
    }


def _is_even(node: "NodeProto", shapes: dict[str, tuple[int, ...]]) -> bool:
    """Tell whether a node rounds all channels alike."""
    return node.op_type in _ROUNDING and len(node.input) > 1 and shapes.get(node.input[1]) in ((), (1,))


def _is_plain(node: "NodeProto") -> bool:
    """Tell whether a node is a convolution of all its channels, with a bias."""
    groups = [attribute.i for attribute in node.attribute if attribute.name == "group"]
    return node.op_type == "Conv" and len(node.input) == 3 and all(node.input) and groups in ([], [1])
