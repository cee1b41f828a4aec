"""The graph that ships: a network between raw grey levels and readings.

Everything that exists only for the export lives here. The network already runs its steps unrolled, samples all glimpses
of a picture at once and classifies them in one pass, so the graph has one GridSample and no loop.

Shapes: N pictures, T steps, G glimpses a picture, H x W pixels, K classes.
"""

import logging
import warnings

import onnx
import torch
from onnxscript import optimizer
from torch import Tensor, nn

from rnnspn import contract
from rnnspn.models.networks import Network

_TRACED_BATCH = 4
_FORBIDDEN = ("Loop", "If", "Scan", "GRU", "AffineGrid", "Shape")


class Reader(nn.Module):
    """A network from uint8 pictures to the outputs of the contract."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Read pictures.

        Args:
            images: uint8 (N, H, W), grey levels.

        Returns:
            Digits, int64 (N, T), probabilities, float32 (N, T, K), and, except for `conv`, theta,
            float32 (N, G, 2, 3).
        """
        logits, theta = self.network(images.unsqueeze(1).float() / 255)
        probabilities = logits.softmax(-1)
        outputs = (probabilities.argmax(-1), probabilities)
        return outputs if theta is None else (*outputs, theta)


def build_graph(network: Network, opset: int = contract.OPSET) -> onnx.ModelProto:
    """Export a network's graph, free of anything that names the machine it was made on.

    Args:
        network: In evaluation mode, on the CPU, float32.
        opset: Version of the standard operators.

    Returns:
        The model, without metadata; batch is its only dynamic axis.

    Raises:
        RuntimeError: The exporter did not make the graph that was expected of it.
    """
    config = network.config
    outputs = [contract.DIGITS, contract.PROBABILITIES] + ([contract.THETA] if config.glimpses else [])
    example = torch.zeros(_TRACED_BATCH, config.height, config.width, dtype=torch.uint8)
    for name in ("torch.onnx", "onnxscript"):  # they warn of optional packages and skipped optimisations
        logging.getLogger(name).setLevel(logging.ERROR)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # deprecations inside the exporter
        program = torch.onnx.export(
            Reader(network).eval(),
            (example,),
            dynamo=True,
            opset_version=opset,
            input_names=[contract.IMAGES],
            output_names=outputs,
            dynamic_shapes={"images": {0: torch.export.Dim("N")}},
            verbose=False,
        )
    assert program is not None
    optimizer.optimize(program.model, input_size_limit=2**20)
    model = program.model_proto
    _strip(model)
    _check_shape(model, config.glimpses > 0)
    return model


def _strip(model: onnx.ModelProto) -> None:
    """Remove the exporter's notes: its stack traces carry paths of this machine."""
    graph = model.graph
    for item in (model, graph, *graph.node, *graph.initializer, *graph.input, *graph.output, *graph.value_info):
        item.ClearField("metadata_props")
        item.ClearField("doc_string")
    model.producer_name, model.producer_version = "rnnspn", ""


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
        raise RuntimeError(
            f"torch {torch.__version__} exported {', '.join(faults)}; use the versions of constraints.txt"
        )
    onnx.checker.check_model(model, full_check=True)
