"""Sample glimpses by arithmetic and gathers, which ONNX Runtime computes several points at a time with on a CPU.

Its GridSample takes one point after the other. What stands in its place takes the same four pixels around each point
with the same weights, which come out of other sums and so round otherwise. The file keeps its GridSample: other
providers, and other runtimes, do that well.

Shapes: N pictures of H x W pixels, G glimpses of P points each.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rnnspn.inference.rewrites.nodes import replace_nodes

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, NodeProto

    from rnnspn.inference.rewrites.nodes import Replaced

_CHAIN = ("MatMul", "Clip", "Reshape", "GridSample")
_SOURCE = ("Unsqueeze", "Cast")
_NAME = "gathered"
"""What the names of new values begin with."""


@dataclass(frozen=True)
class _Sampling:
    """What samples glimpses in a graph, in the way of exported files.

    Attributes:
        nodes: From the product of theta, (N, G, 6), with the grid to GridSample.
        grid: That matrix, float32 (6, 2 P): x and y of each point in turn.
        height: H.
        width: W.
        columns: Of the points of a glimpse.
        align_corners: Whether -1 and 1 are the centres of the outermost pixels; else they are their outer edges.
    """

    nodes: "list[NodeProto]"
    grid: Any
    height: int
    width: int
    columns: int
    align_corners: bool


def sample_by_gathers(model: "ModelProto") -> None:
    """Write out the sampling of glimpses, where they are sampled in the way of exported files."""
    sampling = _find(model.graph)
    if sampling is None:
        return
    replaced: Replaced = {node.output[0]: [] for node in sampling.nodes}
    replaced[sampling.nodes[-1].output[0]] = _written_out(model.graph, sampling)
    replace_nodes(model, replaced)


def _find(graph: "GraphProto") -> _Sampling | None:
    """Return what samples glimpses; None if it does not stand as exported files have it, or others read of it."""
    import numpy as np
    import onnx

    makers = {name: node for node in graph.node for name in node.output}
    constants = {tensor.name: tensor for tensor in graph.initializer}
    read = [name for node in graph.node for name in node.input] + [value.name for value in graph.output]

    def chain(last: "NodeProto | None", kinds: tuple[str, ...]) -> "list[NodeProto]":
        """Return the nodes of those kinds, each feeding the next, up to the last; none where there are others."""
        found: list[NodeProto] = []
        for kind in reversed(kinds):
            if last is None or last.op_type != kind or not last.input:
                return []
            found.insert(0, last)
            last = makers.get(last.input[-1 if kind == "GridSample" else 0])
        return found

    nodes = next(filter(None, (chain(node, _CHAIN) for node in graph.node)), [])
    source = chain(makers.get(nodes[-1].input[0]), _SOURCE) if nodes else []
    if not source or any(read.count(node.output[0]) != 1 for node in nodes[:-1]):
        return None
    sample = nodes[-1]
    sizes = {value.name: [size.dim_value for size in value.type.tensor_type.shape.dim] for value in graph.input}
    pictures = sizes.get(source[0].input[0], [])
    names = [name for one in nodes[:-1] for name in one.input[1:]]
    shapes = [list(constants[name].dims) for name in names if name in constants]
    if len(pictures) != 3 or len(names) != 4 or [len(shape) for shape in shapes] != [2, 0, 0, 1] or shapes[-1] != [4]:
        return None
    height, width = pictures[1:]
    grid, *bounds, points = (onnx.numpy_helper.to_array(constants[name]) for name in names)
    settings = {one.name: onnx.helper.get_attribute_value(one) for one in sample.attribute}
    align_corners = bool(settings.get("align_corners"))
    edge = 1.0 if align_corners else 1 - 1 / width  # of the outermost pixels' centres
    is_known = (
        settings.get("mode") in (b"bilinear", b"linear")  # by opset
        and (align_corners or height == width)
        and min(height, width) > 1
        and points[2] > 0
        and np.allclose(bounds, [-edge, edge], rtol=0, atol=1e-6)
    )
    return _Sampling(nodes, grid, height, width, int(points[2]), align_corners) if is_known else None


def _written_out(graph: "GraphProto", sampling: _Sampling) -> "list[NodeProto]":
    """Return what stands in for the nodes of a sampling; its constants are added to the graph."""
    import numpy as np
    from onnx import TensorProto, helper, numpy_helper

    nodes: list[NodeProto] = []

    def constant(value: Any, dtype: type[np.generic] = np.float32) -> str:
        name = f"{_NAME}.constant{len(graph.initializer)}"
        graph.initializer.append(numpy_helper.from_array(np.asarray(value, dtype), name))
        return name

    def apply(kind: str, *inputs: str, **attributes: Any) -> str:
        name = f"{_NAME}.{kind}{len(nodes)}"
        nodes.append(helper.make_node(kind, inputs, [name], **attributes))
        return name

    def along(axis: int, size: int) -> tuple[str, str]:
        """Return, of all points, the pixel before it along an axis and how far it is beyond, both (N, G P)."""
        scale = (size - 1 if sampling.align_corners else size) / 2  # pixels for each unit of theta
        points = apply("MatMul", product.input[0], constant(sampling.grid[:, axis::2] * scale))
        points = apply("Add", apply("Reshape", points, flat), constant((size - 1) / 2))
        points = apply("Clip", points, constant(0), constant(np.nextafter(np.float32(size - 1), np.float32(0))))
        pixels = apply("Cast", points, to=TensorProto.INT32)
        return pixels, apply("Sub", points, apply("Cast", pixels, to=TensorProto.FLOAT))

    def between(first: str, second: str, share: str) -> str:
        return apply("Add", first, apply("Mul", share, apply("Sub", second, first)))

    product, *_, sample = sampling.nodes
    flat, width = constant([0, -1], np.int64), sampling.width
    (column, right), (row, down) = along(0, width), along(1, sampling.height)
    first = apply("Add", apply("Mul", row, constant(width, np.int32)), column)
    levels = apply("Reshape", sample.input[0], flat)
    corners = [apply("Add", first, constant(step, np.int32)) for step in (0, 1, width, width + 1)]
    above, above_right, below, below_right = (apply("GatherElements", levels, corner, axis=1) for corner in corners)
    sampled = between(between(above, above_right, right), between(below, below_right, right), down)
    shape = constant([0, 1, -1, sampling.columns], np.int64)
    nodes.append(helper.make_node("Reshape", [sampled, shape], sample.output))
    return nodes
