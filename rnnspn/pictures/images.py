"""Bring a picture into the form a model was trained on: H x W grey levels, light ink on a background of 0.

Two coordinate systems: the model's (x, y) from -1 to +1, the centres of the first and the last pixel of its H x W
input; and pixels of the picture as it is displayed (after its EXIF orientation), x to the right and y down, where
(0, 0) is the centre of the top left pixel.
"""

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops

from rnnspn.errors import ImageError
from rnnspn.pictures import decoding
from rnnspn.pictures.decoding import Decoded
from rnnspn.pictures.polarity import Pixels, Polarity, expect_polarity, is_on_light, stretched

Source = str | os.PathLike[str] | bytes | bytearray | memoryview | Image.Image | NDArray[Any]

_DETAIL = 3
"""A JPEG decodes at a reduced size only while that leaves this many pixels for each one of the model's."""


class Letterbox(NamedTuple):
    """Where a picture lies in the model's input.

    Attributes:
        left: Columns of background left of it.
        top: Rows of background above it.
        width: Its width in the input, in pixels.
        height: Its height in the input, in pixels.
        source_width: Its own width in pixels, as displayed.
        source_height: Its own height in pixels, as displayed.
    """

    left: int
    top: int
    width: int
    height: int
    source_width: int
    source_height: int

    @classmethod
    def fitting(cls, source_width: int, source_height: int, width: int, height: int) -> "Letterbox":
        """Scale a picture to fit width x height with its aspect kept, and centre it."""
        scale = min(width / source_width, height / source_height)
        fitted_width = min(width, max(1, round(source_width * scale)))
        fitted_height = min(height, max(1, round(source_height * scale)))
        left, top = (width - fitted_width) // 2, (height - fitted_height) // 2
        return cls(left, top, fitted_width, fitted_height, source_width, source_height)


def to_source(
    points: NDArray[np.floating[Any]], letterboxes: Sequence[Letterbox], height: int, width: int
) -> NDArray[np.float64]:
    """Map the model's coordinates to pixels of the pictures as displayed.

    Args:
        points: float (N, T, P, 2), (x, y) from -1 to +1, P points for each of T steps; points outside stay outside.
        letterboxes: Where each of the N pictures lies in its input.
        height: Input height H in pixels.
        width: Input width W in pixels.

    Returns:
        float64 (N, T, P, 2), (x, y) in pixels; (0, 0) is the centre of the top left pixel.
    """
    left, top, fitted_width, fitted_height, source_width, source_height = np.array(letterboxes, np.float64).T
    offsets = np.stack([left, top], axis=-1)[:, None, None]  # (N, 1, 1, 2)
    scales = np.stack([source_width / fitted_width, source_height / fitted_height], axis=-1)[:, None, None]
    pixels = (points.astype(np.float64) + 1) / 2 * (width - 1, height - 1)
    mapped: NDArray[np.float64] = (pixels + 0.5 - offsets) * scales - 0.5
    return mapped


def to_input(
    points: NDArray[np.floating[Any]], letterboxes: Sequence[Letterbox], height: int, width: int
) -> NDArray[np.float64]:
    """Map pixels of the pictures as displayed to the model's coordinates: the inverse of `to_source`.

    Args:
        points: float (N, P, 2), (x, y) in pixels; P points for each picture.
        letterboxes: Where each of the N pictures lies in its input.
        height: Input height H in pixels.
        width: Input width W in pixels.

    Returns:
        float64 (N, P, 2), (x, y) from -1 to +1 inside the input.
    """
    left, top, fitted_width, fitted_height, source_width, source_height = np.array(letterboxes, np.float64).T
    offsets = np.stack([left, top], axis=-1)[:, None]  # (N, 1, 2)
    scales = np.stack([fitted_width / source_width, fitted_height / source_height], axis=-1)[:, None]
    pixels = (points.astype(np.float64) + 0.5) * scales + offsets - 0.5
    mapped: NDArray[np.float64] = pixels / (width - 1, height - 1) * 2 - 1
    return mapped


@dataclass(frozen=True)
class Fitted:
    """A picture as the model sees it.

    Attributes:
        pixels: uint8 (H, W), 0 background to 255 ink.
        letterbox: Where the picture lies in it.
    """

    pixels: Pixels
    letterbox: Letterbox


def load(source: Source, height: int, width: int, polarity: Polarity = "auto") -> Fitted:
    """Decode and fit one picture.

    Args:
        source: A path, a file's contents, a Pillow image, or an array as `decoding.from_array` takes it.
        height: Input height H in pixels.
        width: Input width W in pixels.
        polarity: As for `fit`.

    Raises:
        ImageError: The picture cannot be read.
    """
    if isinstance(source, np.ndarray):
        return fit(decoding.from_array(source), height, width, polarity)
    if isinstance(source, Image.Image):
        return fit(decoding.from_image(source), height, width, polarity)
    if isinstance(source, bytearray | memoryview):
        source = bytes(source)
    if not isinstance(source, str | os.PathLike | bytes):
        expected = "a path, a file's contents as bytes, a Pillow image or an array"
        raise ImageError("unsupported", f"expected {expected}; got {type(source).__name__}")
    data = source if isinstance(source, bytes) else decoding.read_bytes(source)
    return fit(decoding.decode(data, _DETAIL * max(height, width)), height, width, polarity)


def load_all(
    paths: Iterable[str], height: int, width: int, polarity: Polarity = "auto"
) -> Iterator[Fitted | ImageError]:
    """Decode and fit files, one after the other; what cannot be read is given as its error."""
    for path in paths:
        try:
            yield load(path, height, width, polarity)
        except ImageError as error:
            yield error


def fit(decoded: Decoded, height: int, width: int, polarity: Polarity = "auto") -> Fitted:
    """Make a picture grey, scale it to fit H x W with its aspect kept, and turn it light on dark.

    A dark-on-light picture is inverted. If the background is not black, the levels are stretched to put it at 0 and
    the strongest ink at 255; else they are left alone, so a light-on-dark picture of H x W pixels on black reaches the
    model bit for bit. What lies outside the picture is 0.

    Args:
        decoded: The picture.
        height: Input height H in pixels.
        width: Input width W in pixels.
        polarity: `dark-on-light`, `light-on-dark`, or `auto`: ink is what stands out, and where that is not clear a
            light border means dark ink; where it is transparent, the background is what contrasts with the visible
            part.
    """
    expect_polarity(polarity)
    letterbox = Letterbox.fitting(decoded.width, decoded.height, width, height)
    size = (letterbox.width, letterbox.height)
    grey = decoded.image if decoded.image.mode == "L" else decoded.image.convert("L")
    cover = None
    alpha = decoded.image.getchannel("A") if "A" in decoded.image.getbands() else None
    if alpha is not None and alpha.getextrema() != (255, 255):
        grey = ImageChops.multiply(grey, alpha)
        cover = scaled(alpha, size, decoded.box)
    levels = scaled(grey, size, decoded.box)
    if polarity == "dark-on-light" or (polarity == "auto" and is_on_light(levels, cover)):
        # With `levels` already weighted by the cover, this is the inverse of the picture laid over white.
        levels = (255 if cover is None else np.maximum(cover, levels)) - levels
    levels = stretched(levels, told=polarity != "auto")
    if size == (width, height):
        return Fitted(levels, letterbox)
    pixels = np.zeros((height, width), np.uint8)
    rows, columns = slice(letterbox.top, letterbox.top + size[1]), slice(letterbox.left, letterbox.left + size[0])
    pixels[rows, columns] = levels
    return Fitted(pixels, letterbox)


def scaled(image: Image.Image, size: tuple[int, int], box: tuple[float, float, float, float] | None = None) -> Pixels:
    """Scale a box of grey levels, all of them where it is None, to (width, height) pixels."""
    if image.size != size:
        image = image.resize(size, Image.Resampling.BICUBIC, box, reducing_gap=3.0)
    levels: Pixels = np.asarray(image)
    return levels
