"""Bytes in, a word out: the reading of pictures and models, held to its word, for whoever makes up the bytes."""

import contextlib
import hashlib
import io
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnx
from PIL import Image

from rnnspn.contract import ModelMetadata
from rnnspn.errors import ImageError, ModelFileError
from rnnspn.inference import cpu, cuda, model_file
from rnnspn.pictures import images
from tests import handmade
from tests.torture.reading import CODES

HEIGHT, WIDTH = 60, 80


def read_picture(data: bytes, place: Path) -> str:
    """Read bytes as a picture and hold the reader to its word.

    Args:
        data: The contents of the file.
        place: Where to write it.

    Returns:
        `read`, or the code of the ImageError.

    Raises:
        AssertionError: The result is not what was promised.
    """
    place.write_bytes(data)
    try:
        fitted = images.load(place, HEIGHT, WIDTH)
    except ImageError as error:
        return _code(error)
    left, top, width, height, source_width, source_height = fitted.letterbox
    assert fitted.pixels.shape == (HEIGHT, WIDTH), fitted.pixels.shape
    assert fitted.pixels.dtype == np.uint8, fitted.pixels.dtype
    assert 0 <= left < left + width <= WIDTH, fitted.letterbox
    assert 0 <= top < top + height <= HEIGHT, fitted.letterbox
    assert source_width >= 1 <= source_height, fitted.letterbox
    outside = fitted.pixels.copy()
    outside[top : top + height, left : left + width] = 0
    assert not outside.any(), "there is ink outside the picture"
    return "read"


def check_model(data: bytes, place: Path) -> str:
    """Read bytes as a model and hold the validator to its word.

    Args:
        data: The contents of the file.
        place: Where to write it.

    Returns:
        `accepted` or `refused`.

    Raises:
        AssertionError: What was accepted is not what was given, or not what the contract says.
    """
    place.write_bytes(data)
    try:
        model = model_file.load(place)
    except ModelFileError as error:
        _assert_line(error)
        return "refused"
    assert model.content == data
    assert model.sha256 == hashlib.sha256(data).hexdigest()
    assert ModelMetadata.from_json(model.metadata.to_json()) == model.metadata
    graph = onnx.ModelProto.FromString(data).graph
    outputs = {"digits", "probabilities"} | ({"theta"} if model.metadata.family != "conv" else set())
    assert [value.name for value in graph.input] == ["images"]
    assert {value.name for value in graph.output} == outputs
    assert not any(tensor.external_data for tensor in graph.initializer)
    for rewrite in (cpu.rewritten, cuda.rewritten):
        with contextlib.suppress(ValueError, TypeError, IndexError):  # the runtime judges those as they are
            assert onnx.ModelProto.FromString(rewrite(data)).graph.output == graph.output
    return "accepted"


TARGETS: dict[str, Callable[[bytes, Path], str]] = {"picture": read_picture, "model": check_model}


def seeds(target: str) -> Iterator[bytes]:
    """Yield good inputs to start from: small pictures of every format and mode, or small models of every family."""
    if target == "model":
        for facts in ({}, {"family": "ffn-spn"}, {"family": "conv", "downsample": None}):
            yield handmade.build(handmade.metadata(height=4, width=6, alphabet="01", **facts)).SerializeToString()
        return
    gradient = Image.fromarray(np.arange(0, 240, 5, np.uint8).reshape(6, 8))
    for mode, form in (
        *((mode, "PNG") for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")),
        *((mode, "TIFF") for mode in ("1", "L", "P", "RGB", "CMYK", "LAB", "F", "I;16")),
        *((mode, "JPEG") for mode in ("L", "RGB", "CMYK")),
        *((mode, "PPM") for mode in ("1", "L", "RGB")),
        *((mode, "BMP") for mode in ("1", "L", "P", "RGB")),
        *((mode, form) for form in ("GIF", "WEBP") for mode in ("L", "RGBA")),
    ):
        stream = io.BytesIO()
        gradient.convert("RGB" if mode == "LAB" else mode).save(stream, form)
        yield stream.getvalue()


def _code(error: ImageError) -> str:
    _assert_line(error)
    assert error.code in CODES, error.code
    return error.code


def _assert_line(error: Exception) -> None:
    assert "\n" not in str(error), error
    assert 0 < len(str(error)) < 1000, error
