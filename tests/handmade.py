"""A small exported model made by hand, with answers that can be worked out on paper.

The picture is cut into T vertical strips. The digit of a strip is its mean level in tenths of white: 0 for 0 to 0.1,
9 for 0.9 and up. The quadrilateral of step t covers strip t and moves down with the picture's mean level.
"""

from dataclasses import replace

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from rnnspn.contract import METADATA_KEY, OPSET, ModelMetadata

METADATA = ModelMetadata(
    family="rnn-spn",
    downsample=3,
    steps=3,
    alphabet="0123456789",
    height=100,
    width=100,
    training={"recipe": "by hand"},
    test_error=None,
    checkpoint_sha256="0" * 64,
    versions={"onnx": onnx.__version__},
    parity={},
)
SHARPNESS = 200.0
SHIFT = 0.5
"""How far, in the model's coordinates, a white picture moves the quadrilaterals down."""


def metadata(**changes: object) -> ModelMetadata:
    """Return the metadata of the usual model with some fields changed."""
    return replace(METADATA, **changes)  # type: ignore[arg-type]


def build(facts: ModelMetadata = METADATA) -> onnx.ModelProto:
    """Build the model for a family, number of steps and size."""
    steps, classes, height, width = facts.steps, len(facts.alphabet), facts.height, facts.width
    glimpses = {"conv": 0, "ffn-spn": 1}.get(facts.family, steps)
    levels, offsets = _strip_classifier(steps, classes, height, width)
    constants = {
        "flat": np.array([0, height * width], np.int64),
        "white": np.array(255, np.float32),
        "levels": levels,
        "offsets": offsets,
        "scores_shape": np.array([0, steps, classes], np.int64),
    }
    nodes = [
        helper.make_node("Cast", ["images"], ["bytes"], to=TensorProto.FLOAT),
        helper.make_node("Div", ["bytes", "white"], ["unit"]),
        helper.make_node("Reshape", ["unit", "flat"], ["pixels"]),
        helper.make_node("MatMul", ["pixels", "levels"], ["weighted"]),
        helper.make_node("Add", ["weighted", "offsets"], ["scores"]),
        helper.make_node("Reshape", ["scores", "scores_shape"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["probabilities"], axis=-1),
        helper.make_node("ArgMax", ["logits"], ["digits"], axis=-1, keepdims=0),
    ]
    outputs = [
        helper.make_tensor_value_info("digits", TensorProto.INT64, ["N", steps]),
        helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["N", steps, classes]),
    ]
    if glimpses:
        moves, bases = _strip_quads(glimpses, height, width)
        constants |= {"moves": moves, "bases": bases, "theta_shape": np.array([0, glimpses, 2, 3], np.int64)}
        nodes += [
            helper.make_node("MatMul", ["pixels", "moves"], ["moved"]),
            helper.make_node("Add", ["moved", "bases"], ["matrices"]),
            helper.make_node("Reshape", ["matrices", "theta_shape"], ["theta"]),
        ]
        outputs.append(helper.make_tensor_value_info("theta", TensorProto.FLOAT, ["N", glimpses, 2, 3]))
    inputs = [helper.make_tensor_value_info("images", TensorProto.UINT8, ["N", height, width])]
    weights = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "handmade", inputs, outputs, weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=9)
    helper.set_model_props(model, {METADATA_KEY: facts.to_json()})
    onnx.checker.check_model(model, full_check=True)
    return model


def strips(levels: list[float], height: int = 100, width: int = 100) -> NDArray[np.uint8]:
    """Return a picture (H, W) whose vertical strips have these levels, from 0 to 1."""
    return np.tile(np.array(levels)[_strip_of(width, len(levels))] * 255, (height, 1)).round().astype(np.uint8)


def picture_of(digits: str, height: int = 100, width: int = 100) -> NDArray[np.uint8]:
    """Return a picture (H, W) on a clean black border that the model reads as these digits."""
    inside = np.zeros((height, width))
    inside[1:-1, 1:-1] = 1
    strip = _strip_of(width, len(digits))
    for step, digit in enumerate(digits):
        part = strip == step
        inside[:, part] *= (int(digit) + 0.5) / 10 / inside[:, part].mean()
    return np.minimum(inside * 255, 255).round().astype(np.uint8)


def _strip_of(width: int, steps: int) -> NDArray[np.int64]:
    return np.arange(width) * steps // width


def _strip_classifier(
    steps: int, classes: int, height: int, width: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Score of class k at strip mean m: -(m - centre)^2 without its m^2, which is linear in the pixels."""
    centres = (np.arange(classes) + 0.5) / classes
    member = np.tile(_strip_of(width, steps) == np.arange(steps)[:, None], (height, 1, 1)).transpose(0, 2, 1)
    means = member.reshape(height * width, steps, 1) / member.sum((0, 1))[:, None]
    weights = SHARPNESS * 2 * means * centres
    offsets = np.tile(-SHARPNESS * centres**2, steps)
    return weights.reshape(height * width, -1).astype(np.float32), offsets.astype(np.float32)


def _strip_quads(glimpses: int, height: int, width: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    bases = np.zeros((glimpses, 6), np.float32)
    bases[:, 0], bases[:, 4] = 1 / glimpses, 0.5
    bases[:, 2] = -1 + (2 * np.arange(glimpses) + 1) / glimpses
    moves = np.zeros((height * width, glimpses, 6), np.float32)
    moves[:, :, 5] = SHIFT / (height * width)
    return moves.reshape(height * width, -1), bases.reshape(-1)
