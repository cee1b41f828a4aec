"""Smaller files: weights stored in fewer bits, computed with in float32; and the gate for all that has fewer bits.

A stored weight is widened by nodes of standard operators that every runtime folds away when it loads the file, so the
small file runs as fast as the large one on every provider. The matrices theta, the grid and the sampling stay float32.

Shapes: n pictures, T steps, H x W pixels.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from exporters.onnx_graph import GRID
from exporters.parity import read_with_onnxruntime
from rnnspn import contract
from rnnspn.config import DataConfig
from rnnspn.data.examples import Examples
from rnnspn.data.held_out import held_out
from rnnspn.data.labelled_folder import labelled_folder
from rnnspn.errors import ParityError
from rnnspn.inference.providers import open_session
from rnnspn.training.checkpoint import RunConfig

Precision = Literal["fp32", "fp16", "int8", "w8a8"]
"""Of the weights; in `w8a8` of what is computed from them too."""
Reader = Callable[[NDArray[np.uint8]], NDArray[np.int64]]

_BATCH = 64
_LEAST_WEIGHTS = 2048
"""Smaller tensors gain nothing."""
_LARGEST = 127
_LAYERS = ("Conv", "Gemm", "MatMul")


@dataclass(frozen=True)
class Accuracy:
    """What fewer bits cost.

    Attributes:
        precision: `fp16` or `int8` for stored weights, `w8a8` for computing with integers, `bfloat16` for computing on
            OpenVINO.
        sequences: Sequences read; see `judging_pictures`.
        full: Share of them that float32 reads right.
        reduced: Share of them that fewer bits read right.
        changed_digits: Digits that are read otherwise.
    """

    precision: str
    sequences: int
    full: float
    reduced: float
    changed_digits: int

    def to_dict(self) -> dict[str, Any]:
        """Return the record as a dictionary that JSON can hold."""
        return asdict(self)


def store_weights(model: onnx.ModelProto, precision: Literal["fp16", "int8"]) -> onnx.ModelProto:
    """Return the model with the weights of its convolutions and dense layers stored in fewer bits.

    Args:
        model: A float32 model; it is left as it is.
        precision: `fp16`, or `int8` with a float32 scale for each output channel.
    """
    stored = onnx.ModelProto()
    stored.CopyFrom(model)
    graph = stored.graph
    weights = {node.input[1] for node in graph.node if node.op_type in _LAYERS} - {GRID} - _giving_theta(graph)
    kept, widening = [], []
    for tensor in graph.initializer:
        values = numpy_helper.to_array(tensor)
        if tensor.name not in weights or values.dtype != np.float32 or values.size < _LEAST_WEIGHTS:
            kept.append(tensor)
            continue
        constants, nodes = _as_float16(tensor.name, values) if precision == "fp16" else _as_int8(tensor.name, values)
        kept += constants
        widening += nodes
    nodes = [*widening, *graph.node]
    del graph.initializer[:]
    del graph.node[:]
    graph.initializer.extend(kept)
    graph.node.extend(nodes)
    onnx.checker.check_model(stored, full_check=True)
    return stored


def _giving_theta(graph: onnx.GraphProto) -> set[str]:
    """Return the weights of the layers whose outputs are the elements of theta."""
    weights, values = set(), {contract.THETA}
    for node in reversed(graph.node):
        if not values.isdisjoint(node.output):
            if node.op_type in _LAYERS:
                weights.add(node.input[1])
            else:
                values.update(node.input)
    return weights


def _as_float16(name: str, values: NDArray[np.float32]) -> tuple[list[TensorProto], list[onnx.NodeProto]]:
    constant = numpy_helper.from_array(values.astype(np.float16), f"{name}_stored")
    return [constant], [helper.make_node("Cast", [constant.name], [name], to=TensorProto.FLOAT)]


def _as_int8(name: str, values: NDArray[np.float32]) -> tuple[list[TensorProto], list[onnx.NodeProto]]:
    axis = _best_axis(values)
    scale = _scale(values, axis)
    integers = numpy_helper.from_array(np.round(values / scale).astype(np.int8), f"{name}_stored")
    scales = numpy_helper.from_array(scale, f"{name}_scale")
    cast = helper.make_node("Cast", [integers.name], [f"{name}_cast"], to=TensorProto.FLOAT)
    return [integers, scales], [cast, helper.make_node("Mul", [f"{name}_cast", scales.name], [name])]


def _best_axis(values: NDArray[np.float32]) -> int:
    """Return the axis along which scales lose least: the output channels, wherever a layer keeps them."""

    def loss(axis: int) -> float:
        scale = _scale(values, axis)
        return float(np.square(np.round(values / scale) * scale - values).sum())

    return min(range(min(2, values.ndim)), key=loss)


def _scale(values: NDArray[np.float32], axis: int) -> NDArray[np.float32]:
    others = tuple(other for other in range(values.ndim) if other != axis)
    largest = np.abs(values).max(axis=others, keepdims=True)
    return np.where(largest > 0, largest / _LARGEST, 1).astype(np.float32)


def judging_pictures(config: RunConfig) -> Examples:
    """Return what fewer bits are judged on: synthesised pictures of the test digits, or all of a run's own folder.

    Raises:
        DataError: MNIST is missing, or the folder's pictures are.
    """
    model = config.model
    if config.data.is_own:
        return labelled_folder(Path(config.data.source), model)
    return held_out("test", DataConfig(layout=config.data.layout), model, published=False)


def check_accuracy(full: Reader, other: Reader, examples: Examples, precision: str, max_drop: float) -> Accuracy:
    """Compare what two ways of running a model read in labelled pictures.

    Args:
        full: Reads in float32.
        other: Reads with weights stored, or values computed, in fewer bits.
        examples: The pictures.
        precision: What `other` does.
        max_drop: How many points of whole-sequence accuracy may be lost.

    Raises:
        ParityError: More are lost.
    """
    digits = [read(examples.images) for read in (full, other)]
    right = [int((read == examples.labels).all(axis=1).sum()) for read in digits]
    count, lost = len(examples.labels), right[0] - right[1]
    accuracy = Accuracy(precision, count, right[0] / count, right[1] / count, int((digits[0] != digits[1]).sum()))
    if 100 * lost > max_drop * count:
        few = f" (of so few, one is {100 / count:.2g})" if max_drop * count < 100 else ""
        raise ParityError(
            f"{precision} reads {right[1]} of {count} sequences right, float32 {right[0]}: {100 * lost / count:.2f} "
            f"points less, allowed {max_drop:g}{few}; no file was written; --max-accuracy-drop allows more"
        )
    return accuracy


def reader(model: bytes, path: Path, provider: str = "cpu") -> Reader:
    """Return a function from pictures, uint8 (n, H, W), to digits, int64 (n, T), that runs a model on a provider.

    Raises:
        MissingPackageError: ONNX Runtime is not installed.
        ModelFileError: ONNX Runtime refuses the model.
        ProviderError: The provider cannot run here.
    """
    session = open_session(model, provider, path)
    return lambda pictures: read_with_onnxruntime(session, pictures, _BATCH)[contract.DIGITS]
