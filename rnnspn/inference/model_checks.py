"""What an exported model has to be before ONNX Runtime sees a byte of it."""

import math
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from rnnspn import contract
from rnnspn.contract import ModelMetadata
from rnnspn.errors import ModelFileError

if TYPE_CHECKING:
    from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, SparseTensorProto, TensorProto, ValueInfoProto

_STANDARD_DOMAINS = ("", "ai.onnx")
_ORT_MARK = b"ORTM"
"""At byte 4, it makes ONNX Runtime take a file for one of its own format, which nothing here could check."""


def expect_sound(content: bytes) -> ModelMetadata:
    """Check a model's bytes against the contract, and return what it says about itself.

    Raises:
        ModelFileError: They are no ONNX model, or break the contract; it does not name the file.
    """
    model = _parse(content)
    metadata = _metadata(model)  # first: what nobody here made needs no other advice
    _check_safe(model)
    _check_numbers(model)
    _check_tensors(model.graph, metadata)
    return metadata


def _parse(content: bytes) -> "ModelProto":
    import onnx

    if content[4:8] == _ORT_MARK:
        raise ModelFileError("expected an .onnx file, got one in ORT format; name the .onnx file it was made from")
    model = onnx.ModelProto()
    try:
        model.ParseFromString(content)
    except Exception:  # protobuf's DecodeError, whose package ships no type information
        raise ModelFileError("not an ONNX model, or a damaged one; export the model again") from None
    if not model.graph.node:
        raise ModelFileError("not an ONNX model, or an empty one; export the model again")
    if any(isinstance(name, bytes) for name in _names(model)):  # so protobuf gives a string that is no UTF-8
        raise ModelFileError("a damaged ONNX model, with names that are no text; export the model again")
    return model


def _check_safe(model: "ModelProto") -> None:
    """Refuse whatever would make the runtime open other files or run code from elsewhere."""
    from onnx import defs

    domains = {opset.domain for opset in model.opset_import}
    domains.update(node.domain for graph in _graphs(model.graph) for node in graph.node)
    if custom := sorted(domains - set(_STANDARD_DOMAINS)):
        raise ModelFileError(
            f"expected only standard operators, got the domains {_shown(custom)}; export the model again"
        )
    if model.functions or model.training_info:
        raise ModelFileError("expected no local functions and nothing for training; export the model again")
    if len(model.opset_import) > 1:
        raise ModelFileError("expected one set of operators, got several; export the model again")
    opset = max((opset.version for opset in model.opset_import), default=0)
    newest = defs.onnx_opset_version()
    if not contract.OPSET <= opset <= newest:
        raise ModelFileError(f"expected opset {contract.OPSET} to {newest}, got {opset}; export the model again")
    if any(_is_bad_split(node) for graph in _graphs(model.graph) for node in graph.node):
        raise ModelFileError("expected a Split to name as many outputs as it has; export the model again")
    if any(tensor.data_location or tensor.external_data for tensor in _tensors(model)):
        raise ModelFileError("expected one self-contained file, got external data; export the model again")
    if branching := sorted({node.op_type for node in model.graph.node if any(map(_has_graph, node.attribute))}):
        raise ModelFileError(f"expected no loops and no branches, got {_shown(branching)}; export the model again")


def _check_numbers(model: "ModelProto") -> None:
    """Refuse weights that are no numbers: whatever such a model reads would look like a reading."""
    import numpy as np
    from onnx import TensorProto, numpy_helper

    floats = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.DOUBLE)
    numbers = [number for attribute in _attributes(model.graph) for number in (attribute.f, *attribute.floats)]
    if not all(map(math.isfinite, numbers)):
        raise ModelFileError("expected numbers that are finite, got others; export the model again")
    for tensor in _tensors(model):
        if tensor.data_type not in floats:
            continue
        try:
            values = numpy_helper.to_array(tensor)
        except Exception:  # its size contradicts its contents
            raise ModelFileError("a damaged ONNX model, with weights cut short; export the model again") from None
        with np.errstate(invalid="ignore"):  # NumPy warns of some that are no numbers
            finite = np.isfinite(values.astype(np.float64)).all()
        if not finite:
            raise ModelFileError(
                f"expected weights that are finite numbers, got others in {_shown([tensor.name]) or 'a constant'}; "
                "train the model again"
            )


def _shown(names: "Iterable[str]") -> str:
    """Return names that a file gives, fit for one line on a terminal."""
    return ", ".join(name if name.isprintable() else repr(name)[1:-1] for name in names)


def _has_graph(attribute: "AttributeProto") -> bool:
    return attribute.HasField("g") or bool(attribute.graphs)


def _is_bad_split(node: "NodeProto") -> bool:
    """Tell whether a Split contradicts itself: ONNX Runtime does not refuse that, it ends the process."""
    return node.op_type == "Split" and any(
        attribute.name == "num_outputs" and attribute.i != len(node.output) for attribute in node.attribute
    )


def _metadata(model: "ModelProto") -> ModelMetadata:
    documents = [entry.value for entry in model.metadata_props if entry.key == contract.METADATA_KEY]
    if len(documents) != 1:
        raise ModelFileError("not a model made by rnnspn export: its metadata is missing")
    return ModelMetadata.from_json(documents[0])


def _check_tensors(graph: "GraphProto", metadata: ModelMetadata) -> None:
    from onnx import TensorProto

    steps, classes = metadata.steps, len(metadata.alphabet)
    inputs = {contract.IMAGES: (TensorProto.UINT8, (metadata.height, metadata.width))}
    outputs = {
        contract.DIGITS: (TensorProto.INT64, (steps,)),
        contract.PROBABILITIES: (TensorProto.FLOAT, (steps, classes)),
    }
    if metadata.family != "conv":
        glimpses = 1 if metadata.family == "ffn-spn" else steps
        outputs[contract.THETA] = (TensorProto.FLOAT, (glimpses, 2, 3))
    for kind, found, expected in (("input", graph.input, inputs), ("output", graph.output, outputs)):
        names = [value.name for value in found]
        if sorted(names) != sorted(expected):
            wanted = ", ".join(expected)
            raise ModelFileError(f"expected the {kind}s {wanted}, got {_shown(names)}; export the model again")
        for value in found:
            _check_tensor(value, *expected[value.name])


def _check_tensor(value: "ValueInfoProto", element: int, shape: tuple[int, ...]) -> None:
    tensor = value.type.tensor_type
    sizes = [dimension.dim_value if dimension.HasField("dim_value") else "N" for dimension in tensor.shape.dim]
    if tensor.elem_type != element or sizes != ["N", *shape]:
        wanted = ", ".join(map(str, ("N", *shape)))
        got = f"{_type_name(tensor.elem_type)} ({', '.join(map(str, sizes))})"
        expected = f"{_type_name(element)} ({wanted})"
        raise ModelFileError(f"expected {value.name} to be {expected}, got {got}; export the model again")


def _type_name(element: int) -> str:
    from onnx import TensorProto

    return TensorProto.DataType.Name(element) if element in TensorProto.DataType.values() else f"type {element}"


def _names(model: "ModelProto") -> "Iterator[str]":
    yield from (opset.domain for opset in model.opset_import)
    for graph in _graphs(model.graph):
        yield from (tensor.name for tensor in graph.initializer)
        for node in graph.node:
            yield from (node.op_type, node.domain, node.name, *node.input, *node.output)
            yield from (attribute.name for attribute in node.attribute)
        for value in (*graph.input, *graph.output):
            yield value.name
            yield from (dimension.dim_param for dimension in value.type.tensor_type.shape.dim)


def _graphs(graph: "GraphProto") -> "Iterator[GraphProto]":
    yield graph
    for attribute in _attributes(graph):
        for inner in (attribute.g, *attribute.graphs):
            if inner.node or inner.initializer:
                yield from _graphs(inner)


def _attributes(graph: "GraphProto") -> "Iterator[AttributeProto]":
    return (attribute for node in graph.node for attribute in node.attribute)


def _tensors(model: "ModelProto") -> "Iterator[TensorProto]":
    for graph in _graphs(model.graph):
        yield from graph.initializer
        yield from _dense(graph.sparse_initializer)
        for attribute in _attributes(graph):
            yield from (attribute.t, *attribute.tensors)
            yield from _dense((attribute.sparse_tensor, *attribute.sparse_tensors))


def _dense(sparse: "Iterable[SparseTensorProto]") -> "Iterator[TensorProto]":
    for tensor in sparse:
        yield from (tensor.values, tensor.indices)
