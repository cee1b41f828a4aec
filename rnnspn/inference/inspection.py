"""What an exported model says about itself, for people and programs."""

import math
from collections import Counter
from dataclasses import asdict
from typing import Any

from rnnspn.inference.model_file import ModelFile


def inspect(model: ModelFile) -> dict[str, Any]:
    """Return a model's tensors, operators, size and metadata as a dictionary that JSON can hold.

    Args:
        model: A checked model.
    """
    import onnx

    graph = (parsed := onnx.load_from_string(model.content)).graph
    return {
        "path": str(model.path),
        "sha256": model.sha256,
        "size_bytes": len(model.content),
        "opset": max(opset.version for opset in parsed.opset_import),
        "ir_version": parsed.ir_version,
        "inputs": {value.name: _tensor(value) for value in graph.input},
        "outputs": {value.name: _tensor(value) for value in graph.output},
        "nodes": len(graph.node),
        "operators": dict(sorted(Counter(node.op_type for node in graph.node).items())),
        "weights": sum(math.prod(tensor.dims) for tensor in graph.initializer),
        "metadata": asdict(model.metadata),
    }


def _tensor(value: Any) -> str:
    from onnx import helper

    tensor = value.type.tensor_type
    shape = ", ".join(dimension.dim_param or str(dimension.dim_value) for dimension in tensor.shape.dim)
    return f"{helper.tensor_dtype_to_np_dtype(tensor.elem_type)} ({shape})"
