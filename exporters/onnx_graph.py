"""The graph that ships: a network between raw grey levels and readings.

Everything that exists only for the export lives here. The network already runs its steps unrolled, samples all glimpses
of a picture at once and classifies them in one pass, so the graph has one GridSample and no loop. `ExportedNetwork`
makes it compute the same function with less work.

Shapes: N pictures, T steps, G glimpses a picture, H x W pixels, K classes.
"""

import copy
import logging
import warnings

import onnx
import torch
from onnxscript import optimizer
from torch import Tensor, nn
from torch.nn import functional as F

from rnnspn import contract
from rnnspn.errors import ParityError
from rnnspn.models.layers import conv_size, pool_size
from rnnspn.models.networks import Network
from rnnspn.models.readout import read_out
from rnnspn.models.spatial_transformer import base_grid

GRID = "grid"
"""The constant that makes points of theta."""
_TRACED_BATCH = 4
_FORBIDDEN = ("Loop", "If", "Scan", "GRU", "AffineGrid", "Shape")


class ExportedNetwork(nn.Module):
    """A network from uint8 pictures to the outputs of the contract, rewritten for speed without changing what it says.

    Four rewrites, each exact up to rounding; `benchmarks/rewrites.py` times every one of them:

    - the division by 255 goes into the weights of the convolutions that see grey levels;
    - glimpses are sampled only where the classifier looks: its pooling drops the last rows and columns of odd sizes;
    - on square pictures, sampling with zeros outside and coordinates scaled to pixels' edges is the faster kernel; on
      the clamped grid it is the same;
    - the points of a glimpse are its six numbers times one wide matrix, instead of a tall grid times a matrix of two
      columns, which no product of matrices is fast at.

    Args:
        network: In evaluation mode; it is left as it is.
        fold, trim, rescale, widen: Which of the rewrites to apply, in the order above.
    """

    grid: Tensor

    def __init__(
        self,
        network: Network,
        *,
        fold: bool = True,
        trim: bool = True,
        rescale: bool = True,
        widen: bool = True,
    ) -> None:
        super().__init__()
        config = network.config
        self.network = network = copy.deepcopy(network)
        self.divisor = 1 if fold else 255
        if fold:
            first = [network.classifier.conv1]
            if network.localisation is not None:
                first.append(network.localisation.extract.conv1)
            for convolution in first:
                convolution.weight.data /= 255
        height, width = config.glimpse_size
        self.seen = (seen_size(height), seen_size(width)) if trim else (height, width)
        grid = base_grid(height, width).reshape(height, width, 3)[: self.seen[0], : self.seen[1]]
        self.rescale = rescale and config.height == config.width
        self.edge = (config.width - 1) / config.width if self.rescale else 1.0  # of the outermost pixel's centre
        grid = grid.reshape(-1, 3) * self.edge  # (h*w, 3)
        self.widen = widen
        if widen:  # (6, h*w*2): row (c, k) holds what theta[c, k] adds to each coordinate
            grid = torch.einsum("pk,cd->ckpd", grid, torch.eye(2)).reshape(6, -1)
        self.register_buffer(GRID, grid)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Read pictures.

        Args:
            images: uint8 (N, H, W), grey levels.

        Returns:
            Digits, int64 (N, T), probabilities, float32 (N, T, K), and, except for `conv`, theta,
            float32 (N, G, 2, 3).
        """
        network, config = self.network, self.network.config
        levels = images.unsqueeze(1).float() / self.divisor
        theta = None if network.localisation is None else network.localisation(levels)
        glimpses = levels if theta is None else self._sample(levels, theta)
        logits = network.classifier(glimpses).reshape(-1, config.steps, config.classes)
        probabilities = logits.softmax(-1)
        outputs = (read_out(probabilities, config.blank), probabilities)
        return outputs if theta is None else (*outputs, theta)

    def _sample(self, levels: Tensor, theta: Tensor) -> Tensor:
        """Return the seen part of every glimpse, float (N*G, 1, h, w)."""
        height, width = self.seen
        points = theta.flatten(-2) @ self.grid if self.widen else self.grid @ theta.transpose(-1, -2)
        points = points.clamp(-self.edge, self.edge).reshape(-1, theta.shape[1] * height, width, 2)
        padding = "zeros" if self.rescale else "border"
        sampled = F.grid_sample(levels, points, mode="bilinear", padding_mode=padding, align_corners=not self.rescale)
        return sampled.reshape(-1, 1, height, width)


def seen_size(size: int) -> int:
    """Return how many of a glimpse's `size` rows (or columns) reach the classifier's dense layer."""
    pooled = pool_size(conv_size(pool_size(conv_size(size))))
    return ((pooled * 2) + 2) * 2 + 2


def build_graph(
    network: Network, opset: int = contract.OPSET, *, activate: bool = True, **rewrites: bool
) -> onnx.ModelProto:
    """Export a network's graph, free of anything that names the machine it was made on.

    Args:
        network: In evaluation mode, on the CPU, float32.
        opset: Version of the standard operators.
        activate: Put each ReLU before its pooling: the same numbers, and runtimes do it inside the convolution.
        **rewrites: Rewrites of `ExportedNetwork` to leave out, for measuring them.

    Returns:
        The model, without metadata; batch is its only dynamic axis.

    Raises:
        ParityError: The exporter did not make the graph that was expected of it.
    """
    config = network.config
    outputs = [contract.DIGITS, contract.PROBABILITIES] + ([contract.THETA] if config.glimpses else [])
    example = torch.zeros(_TRACED_BATCH, config.height, config.width, dtype=torch.uint8)
    for name in ("torch.onnx", "onnxscript"):  # they warn of optional packages and skipped optimisations
        logging.getLogger(name).setLevel(logging.ERROR)
    alone = config.steps == 1  # there the product of the GRU's first state would take the place of its weights
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # deprecations inside the exporter
        program = torch.onnx.export(
            ExportedNetwork(network, **rewrites).eval(),
            (example,),
            dynamo=True,
            opset_version=opset,
            input_names=[contract.IMAGES],
            output_names=outputs,
            dynamic_shapes={"images": {0: torch.export.Dim("N")}},
            optimize=not alone,
            verbose=False,
        )
    assert program is not None
    optimizer.optimize_ir(
        program.model,
        input_size_limit=2**20,
        should_fold=lambda node: False if alone and node.op_type in ("MatMul", "Gemm") else None,
    )
    model = program.model_proto
    model.ir_version = onnx.helper.find_min_ir_version_for(model.opset_import)  # for runtimes as old as can be
    if activate:
        _activate_before_pooling(model.graph)
    strip(model)
    _check_shape(model, config.glimpses > 0)
    return model


def strip(model: onnx.ModelProto) -> None:
    """Remove metadata and notes: the exporter's stack traces carry paths of this machine."""
    graph = model.graph
    for item in (model, graph, *graph.node, *graph.initializer, *graph.input, *graph.output, *graph.value_info):
        item.ClearField("metadata_props")
        item.ClearField("doc_string")
    model.producer_name, model.producer_version = "rnnspn", ""


def _activate_before_pooling(graph: onnx.GraphProto) -> None:
    """Turn Conv, MaxPool, Relu into Conv, Relu, MaxPool."""
    makers = {output: node for node in graph.node for output in node.output}
    for relu in graph.node:
        pool = makers.get(relu.input[0]) if relu.op_type == "Relu" else None
        if pool is None or pool.op_type != "MaxPool" or makers[pool.input[0]].op_type != "Conv":
            continue
        exchange(pool, relu)
    graph.ClearField("value_info")  # the sizes between the two have changed places


def exchange(first: onnx.NodeProto, second: onnx.NodeProto) -> None:
    """Let two nodes do each other's work."""
    first.op_type, second.op_type = second.op_type, first.op_type
    ours, theirs = list(first.attribute), list(second.attribute)
    for node, attributes in ((first, theirs), (second, ours)):
        node.ClearField("attribute")
        node.attribute.extend(attributes)


def _check_shape(model: onnx.ModelProto, samples: bool) -> None:
    """Refuse a graph that an exporter of another version has written differently."""
    kinds = [node.op_type for node in model.graph.node]
    faults = [f"a {kind} node" for kind in _FORBIDDEN if kind in kinds]
    if kinds.count("GridSample") != int(samples):
        faults.append(f"{kinds.count('GridSample')} GridSample nodes")
    if model.functions or any(opset.domain not in ("", "ai.onnx") for opset in model.opset_import):
        faults.append("functions or operators outside the standard")
    batches = {value.type.tensor_type.shape.dim[0].dim_param for value in (*model.graph.input, *model.graph.output)}
    if batches != {"N"}:
        faults.append(f"batch axes {sorted(batches)}")
    if faults:
        raise ParityError(
            f"torch {torch.__version__} exported {', '.join(faults)}; use the versions of constraints.txt"
        )
    onnx.checker.check_model(model, full_check=True)
