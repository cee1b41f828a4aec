"""Computing with integers of 8 bits: the convolutions between features, and the large dense layers.

Written as standard QuantizeLinear and DequantizeLinear nodes around float32 operators, from which runtimes make their
integer kernels. Weights have 7 bits: on x86 processors without VNNI, pairs of products with weights of 8 would overflow
their 16-bit sums, and the same file would read otherwise there. All that leads to a glimpse after the GRU, theta, grid
and sampling, stays float32, and so do the convolutions of one channel, which integers make slower, and the last layer.

Shapes: n pictures, H x W pixels.
"""

import contextlib
import logging
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from exporters.onnx_graph import GRID, exchange
from rnnspn import contract
from rnnspn.config import DataConfig
from rnnspn.data.held_out import sequences
from rnnspn.data.labelled_folder import labelled_folder
from rnnspn.data.mnist import load_mnist
from rnnspn.training.checkpoint import RunConfig

PICTURES = 1024
"""Ranges of features are taken from so many."""
_BATCH = 64
_LEAST_WEIGHTS = 16_384
"""Of a dense layer: smaller ones gain nothing."""
_BETWEEN = ("Relu", "MaxPool")


def calibration_pictures(config: RunConfig) -> NDArray[np.uint8]:
    """Return pictures like those that a run has learned from, of the training split, uint8 (n, H, W).

    Raises:
        DataError: MNIST is missing, or the folder's pictures are.
    """
    model = config.model
    if config.data.is_own:
        own = labelled_folder(Path(config.data.source), model, "train").images  # in order: neighbours are alike
        return own[np.linspace(0, len(own) - 1, min(len(own), PICTURES)).astype(np.int64)]
    pictures: NDArray[np.uint8]
    pictures, _ = sequences(load_mnist(), "train", DataConfig(layout=config.data.layout), model).pictures(
        np.arange(PICTURES)
    )
    return pictures


def quantise(model: onnx.ModelProto, pictures: NDArray[np.uint8]) -> onnx.ModelProto:
    """Return the model with integers inside.

    Args:
        model: A float32 model of `build_graph`; it is left as it is.
        pictures: What the ranges of its features are taken from, uint8 (n, H, W).
    """
    plain = onnx.ModelProto()
    plain.CopyFrom(model)
    nodes = _computing(plain.graph)
    _pool_first(plain.graph, nodes)
    with tempfile.TemporaryDirectory() as folder, _quiet_and_as_it_was():
        from onnxruntime.quantization import QuantFormat, QuantType, quantize_static

        source, target = Path(folder, "float32.onnx"), Path(folder, "integers.onnx")
        onnx.save(plain, source)
        quantize_static(
            source,
            target,
            _Pictures(pictures),
            quant_format=QuantFormat.QDQ,
            nodes_to_quantize=nodes,
            op_types_to_quantize=["Conv", "Gemm", *_BETWEEN],
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            per_channel=True,
            reduce_range=True,
        )
        quantised = onnx.load(target)
    del quantised.metadata_props[:]
    own = [opset for opset in quantised.opset_import if opset.domain in ("", "ai.onnx")]
    del quantised.opset_import[:]
    quantised.opset_import.extend(own)
    quantised.producer_name, quantised.producer_version = model.producer_name, model.producer_version
    quantised.ir_version = model.ir_version
    onnx.checker.check_model(quantised, full_check=True)
    return quantised


@contextlib.contextmanager
def _quiet_and_as_it_was() -> Iterator[None]:
    """Keep the module path and the root logger from the runtime's tools, which change both and advise what is done."""
    root, path = logging.getLogger(), sys.path.copy()
    level, handlers = root.level, root.handlers.copy()
    root.setLevel(logging.ERROR)
    try:
        yield
    finally:
        root.setLevel(level)
        root.handlers[:], sys.path[:] = handlers, path


class _Pictures:
    """Gives batches to the runtime's calibration."""

    def __init__(self, pictures: NDArray[np.uint8]) -> None:
        self._batches: Iterator[NDArray[np.uint8]] = (
            pictures[first : first + _BATCH] for first in range(0, len(pictures), _BATCH)
        )

    def get_next(self) -> dict[str, Any] | None:
        """Return the next batch by the name of the model's input; None after the last."""
        batch = next(self._batches, None)
        return None if batch is None else {contract.IMAGES: batch}


def _computing(graph: onnx.GraphProto) -> list[str]:
    """Return the names of the nodes that are to compute with integers: layers, and what stands between convolutions."""
    shapes = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    leading = _leading_to_layers(graph)
    names: list[str] = []
    features: set[str] = set()
    for node in graph.node:
        weight = shapes.get(node.input[1], ()) if len(node.input) > 1 else ()
        if (node.op_type == "Conv" and weight[1] > 1) or (node.op_type in _BETWEEN and node.input[0] in features):
            names.append(node.name)
            features.add(node.output[0])
        elif node.op_type == "Gemm" and np.prod(weight) >= _LEAST_WEIGHTS and node.output[0] in leading:
            names.append(node.name)
    return names


def _leading_to_layers(graph: onnx.GraphProto) -> set[str]:
    """Return the values that another layer is computed from: not the last ones, and no matrices theta."""
    leading: set[str] = set()
    for node in reversed(graph.node):
        is_layer = node.op_type in ("Conv", "Gemm") or (node.op_type == "MatMul" and node.input[1] != GRID)
        if is_layer or (node.op_type != "GridSample" and leading.intersection(node.output)):
            leading.update(node.input)
    return leading


def _pool_first(graph: onnx.GraphProto, integers: list[str]) -> None:
    """Turn Conv, Relu, MaxPool into Conv, MaxPool, Relu where they compute in float32: the same numbers.

    Else the runtime moves the rounding to integers up to the larger side of the pooling, and out of its fast layout.
    """
    readers = {name: node for node in graph.node for name in node.input}
    for node in graph.node:
        relu = readers.get(node.output[0]) if node.op_type == "Conv" and node.name not in integers else None
        pool = readers.get(relu.output[0]) if relu and relu.op_type == "Relu" else None
        if relu and pool and pool.op_type == "MaxPool":
            exchange(relu, pool)
