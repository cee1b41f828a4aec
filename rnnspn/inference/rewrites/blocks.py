"""Bring a model's convolutions to the blocks of channels that this processor computes with at a time.

ONNX Runtime keeps a convolution and the pooling after it in one blocked layout only where their channels fill whole
blocks. How large a block is depends on the processor, so it is done when a model is loaded: the file holds the network
as it is. Channels are filled up with zeros that the next convolution multiplies by zeros, which changes no number. Few
that are over after whole blocks go a way of their own instead, and the next convolution is the sum of two.
"""

import platform
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from rnnspn.inference.rewrites.nodes import replace_nodes, stored_shapes

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, NodeProto

    from rnnspn.inference.rewrites.nodes import Replaced

_KEEPING_ZEROS = ("Relu", "MaxPool")
_ROUNDING = ("QuantizeLinear", "DequantizeLinear")
"""What may stand between two convolutions; the latter with one scale for all channels."""
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


def bring_to_blocks(model: "ModelProto", block: int) -> None:
    """Bring every convolution in floats that feeds another one, and nothing else, to whole blocks of channels.

    Nodes that the runtime folds away when it loads the model fill and cut weights, whatever these are stored in.

    Args:
        model: It is changed.
        block: Channels of a block.
    """
    links = list(_links(model.graph))
    replaced: Replaced = {}
    for link in links:
        if not link.is_better_parted(block) and 0 < -link.channels % block <= link.channels:  # else it costs too much
            _fill(model.graph, link, -link.channels % block, replaced)
    for link in links:
        if link.is_better_parted(block):
            _part(model.graph, link, link.channels - link.channels % block, replaced)
    replace_nodes(model, replaced)


class _Link(NamedTuple):
    """A convolution in floats that feeds another one, and nothing else.

    Attributes:
        first: The one.
        between: What stands between the two.
        second: The other.
        channels: Between them.
        is_first_of_all: Whether `first` takes pictures of one channel.
        in_floats: Whether `second` computes in floats, and nothing is rounded before it.
    """

    first: "NodeProto"
    between: "tuple[NodeProto, ...]"
    second: "NodeProto"
    channels: int
    is_first_of_all: bool
    in_floats: bool

    def is_better_parted(self, block: int) -> bool:
        """Tell whether filling up would cost more than half as much again, and a second way next to nothing."""
        return (
            self.channels > block
            and -self.channels % block > self.channels / 2
            and self.is_first_of_all
            and self.in_floats
        )


def _links(graph: "GraphProto") -> "Iterator[_Link]":
    readers = Counter([name for node in graph.node for name in node.input] + [value.name for value in graph.output])
    shapes = stored_shapes(graph)
    integers = _integer_weights(graph)
    sources: dict[str, tuple[NodeProto, ...]] = {}  # the convolution whose channels a value still has, and what follows
    for node in graph.node:
        if not node.input or len(node.output) != 1:
            continue
        source = sources.get(node.input[0]) if readers[node.input[0]] == 1 else None
        if source and (node.op_type in _KEEPING_ZEROS or _is_even(node, shapes)):
            sources[node.output[0]] = (*source, node)
        elif _is_plain(node) and len(shapes.get(node.input[1], ())) == _RANK:
            own = node.input[1] not in integers or readers[node.input[1]] == 1
            if source and own:
                first, *between = source
                filters, inputs, *_ = shapes[first.input[1]]
                in_floats = node.input[1] not in integers and all(one.op_type in _KEEPING_ZEROS for one in between)
                yield _Link(first, tuple(between), node, filters, inputs == 1, in_floats)
            if node.input[1] not in integers:  # those have no layout of blocks
                sources[node.output[0]] = (node,)


def _fill(graph: "GraphProto", link: _Link, channels: int, replaced: "Replaced") -> None:
    """Add channels of zeros between two convolutions; to integers as they are stored."""
    import numpy as np
    from onnx import helper, numpy_helper

    integers = _integer_weights(graph)
    for convolution, place, axis, rank in (
        (link.first, 1, 0, _RANK),
        (link.first, 2, 0, 1),
        (link.second, 1, 1, _RANK),
    ):
        amounts = np.zeros((2, rank), np.int64)
        amounts[1, axis] = channels
        name = f"filled.{convolution.output[0]}.{place}.{axis}"
        graph.initializer.append(numpy_helper.from_array(amounts.flatten(), f"{name}.pads"))
        widening = integers.get(convolution.input[place])
        node, place = (widening, 0) if widening else (convolution, place)
        pads = helper.make_node("Pad", [node.input[place], f"{name}.pads"], [name])
        replaced.setdefault(node.output[0], [node]).insert(-1, pads)
        node.input[place] = name


def _part(graph: "GraphProto", link: _Link, whole: int, replaced: "Replaced") -> None:
    """Lead the channels between two convolutions on two ways, the first `whole` of them on one, and add the results."""
    import numpy as np
    from onnx import helper, numpy_helper

    def cut(name: str, axis: int) -> "NodeProto":
        """Return what cuts weights or a bias to the channels of this way."""
        inputs = [f"{way}.{axis}.{bound}" for bound in ("start", "end", "axes")]
        return helper.make_node("Slice", [name, *inputs], [f"{way}.{name}"])

    def copy(node: "NodeProto", *inputs: str) -> "NodeProto":
        other = type(node)()
        other.CopyFrom(node)
        other.name = f"{way}.{node.output[0]}"
        other.input[:], other.output[:] = inputs, [f"{way}.{node.output[0]}"]
        return other

    first, between, second, channels, *_ = link
    nodes, sums = replaced.get(second.output[0], [second])[:-1], []
    for start, end in ((0, whole), (whole, channels)):
        way = f"parted.{start}.{second.output[0]}"
        for axis in (0, 1):
            for bound, number in (("start", start), ("end", end), ("axes", axis)):
                graph.initializer.append(numpy_helper.from_array(np.array([number]), f"{way}.{axis}.{bound}"))
        weights, bias, kernel = cut(first.input[1], 0), cut(first.input[2], 0), cut(second.input[1], 1)
        nodes += [weights, bias, kernel, copy(first, first.input[0], weights.output[0], bias.output[0])]
        for node in (*between, second):
            nodes.append(copy(node, nodes[-1].output[0]))
        nodes[-1].input.append(kernel.output[0])
        sums.append(nodes[-1])
    sums[0].input.append(second.input[2])
    nodes.append(helper.make_node("Add", [one.output[0] for one in sums], second.output))
    replaced |= {node.output[0]: [] for node in (first, *between)} | {second.output[0]: nodes}


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
