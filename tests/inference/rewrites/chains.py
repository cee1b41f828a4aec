"""Small models of convolutions, and changes of them."""

from collections.abc import Callable

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

CHANNELS = (5, 12, 4)
"""Filters of three convolutions, one after the other."""


def chain(
    *between: str, taps: tuple[str, ...] = (), stored: type = np.float32, filters: tuple[int, ...] = CHANNELS
) -> bytes:
    """Return a model of three convolutions with operators between them.

    Args:
        *between: Those operators.
        taps: Outputs beside the last one.
        stored: What the weights are stored in.
        filters: Of the convolutions.
    """
    chance = np.random.default_rng(1)
    nodes, constants, value, inputs = [], [], "images", 1
    for number, outputs in enumerate(filters):
        kernel, name = chance.normal(scale=0.3, size=(outputs, inputs, 3, 3)), f"kernel{number}"
        if stored is np.int8:
            scale = np.abs(kernel).max(axis=(1, 2, 3), keepdims=True) / 127
            constants.append(numpy_helper.from_array(scale.astype(np.float32), f"{name}.scale"))
            nodes.append(helper.make_node("Cast", [f"{name}.stored"], [f"{name}.cast"], to=TensorProto.FLOAT))
            nodes.append(helper.make_node("Mul", [f"{name}.cast", f"{name}.scale"], [name]))
            kernel, name = np.round(kernel / scale), f"{name}.stored"
        elif stored is np.float16:
            nodes.append(helper.make_node("Cast", [f"{name}.stored"], [name], to=TensorProto.FLOAT))
            name = f"{name}.stored"
        constants.append(numpy_helper.from_array(kernel.astype(stored), name))
        constants.append(numpy_helper.from_array(chance.normal(size=outputs).astype(np.float32), f"bias{number}"))
        names = [value, f"kernel{number}", f"bias{number}"]
        nodes.append(helper.make_node("Conv", names, [f"conv{number}"], group=1))
        value, inputs = f"conv{number}", outputs
        for kind in between if number < 2 else ():
            window = {"kernel_shape": [2, 2], "strides": [2, 2]} if kind == "MaxPool" else {}
            nodes.append(helper.make_node(kind, [value], [f"{value}.{kind}"], **window))
            value = f"{value}.{kind}"
    results = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [*"NCHW"]) for name in (value, *taps)]
    images = helper.make_tensor_value_info("images", TensorProto.FLOAT, ["N", 1, 30, 30])
    graph = helper.make_graph(nodes, "chain", [images], results, constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10).SerializeToString()


def rewritten(model: bytes, rewrite: Callable[..., None], *arguments: object) -> bytes:
    """Return what a rewriting makes of a model."""
    proto = onnx.load_from_string(model)
    rewrite(proto, *arguments)
    return proto.SerializeToString()


def changed(model: bytes, change: Callable[[onnx.GraphProto], None]) -> bytes:
    proto = onnx.load_from_string(model)
    change(proto.graph)
    return proto.SerializeToString()


def answers(model: bytes, images: np.ndarray) -> list[np.ndarray]:
    """Run every node as it stands."""
    onnxruntime = pytest.importorskip("onnxruntime")
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return session.run(None, {"images": images})
