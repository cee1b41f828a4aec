"""Bring a picture into the form a model was trained on: H x W grey levels, light ink on a background of 0.

Two coordinate systems: the model's (x, y) from -1 to +1, the centres of the first and the last pixel of its H x W
input; and pixels of the picture as it is displayed (after its EXIF orientation), x to the right and y down, where
(0, 0) is the centre of the top left pixel.
"""

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops

from rnnspn.errors import ImageError
from rnnspn.inference import decoding
from rnnspn.inference.decoding import Decoded

Polarity = Literal["auto", "dark-on-light", "light-on-dark"]
Pixels = NDArray[np.uint8]
Source = str | os.PathLike[str] | bytes | bytearray | memoryview | Image.Image | NDArray[Any]

_DETAIL = 3
"""A JPEG decodes at a reduced size only while that leaves this many pixels for each one of the model's."""
_DARK, _LIGHT = 64, 192
"""Levels of backgrounds below which ink is expected to be light, and from which on dark."""
_AROUND = 8
"""Surroundings reach as far as the picture's smaller side in so many parts."""
_RARE = 200
"""One pixel in so many is no ink: a speck or a highlight."""
_RAREST = 2000
"""One in so many, where the background is so light or dark that ink is expected on the other side: a thin stroke."""
_SHADE = 64
"""The border's lighter quarter is background only if it is no more levels above the middle; else ink crosses it."""
_LEAST_CONTRAST = 85
"""Levels are stretched as if ink were at least this far from its background: an empty sheet's grain stays faint."""


class Placement(NamedTuple):
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
    def fitting(cls, source_width: int, source_height: int, width: int, height: int) -> "Placement":
        """Scale a picture to fit width x height with its aspect kept, and centre it."""
        scale = min(width / source_width, height / source_height)
        fitted_width = min(width, max(1, round(source_width * scale)))
        fitted_height = min(height, max(1, round(source_height * scale)))
        left, top = (width - fitted_width) // 2, (height - fitted_height) // 2
        return cls(left, top, fitted_width, fitted_height, source_width, source_height)


def to_source(
    points: NDArray[np.floating[Any]], placements: Sequence[Placement], height: int, width: int
) -> NDArray[np.float64]:
    """Map the model's coordinates to pixels of the pictures as displayed.

    Args:
        points: float (N, T, P, 2), (x, y) from -1 to +1, P points for each of T steps; points outside stay outside.
        placements: Where each of the N pictures lies in its input.
        height: Input height H in pixels.
        width: Input width W in pixels.

    Returns:
        float64 (N, T, P, 2), (x, y) in pixels; (0, 0) is the centre of the top left pixel.
    """
    left, top, fitted_width, fitted_height, source_width, source_height = np.array(placements, np.float64).T
    offsets = np.stack([left, top], axis=-1)[:, None, None]  # (N, 1, 1, 2)
    scales = np.stack([source_width / fitted_width, source_height / fitted_height], axis=-1)[:, None, None]
    pixels = (points.astype(np.float64) + 1) / 2 * (width - 1, height - 1)
    mapped: NDArray[np.float64] = (pixels + 0.5 - offsets) * scales - 0.5
    return mapped


def to_input(
    points: NDArray[np.floating[Any]], placements: Sequence[Placement], height: int, width: int
) -> NDArray[np.float64]:
    """Map pixels of the pictures as displayed to the model's coordinates: the inverse of `to_source`.

    Args:
        points: float (N, P, 2), (x, y) in pixels; P points for each picture.
        placements: Where each of the N pictures lies in its input.
        height: Input height H in pixels.
        width: Input width W in pixels.

    Returns:
        float64 (N, P, 2), (x, y) from -1 to +1 inside the input.
    """
    left, top, fitted_width, fitted_height, source_width, source_height = np.array(placements, np.float64).T
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
        placement: Where the picture lies in it.
    """

    pixels: Pixels
    placement: Placement


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


def expect_polarity(polarity: str) -> None:
    """Raise ValueError for what is no polarity."""
    if polarity not in get_args(Polarity):
        raise ValueError(f"expected the polarity {', '.join(get_args(Polarity))}; got {polarity!r}")


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
    placement = Placement.fitting(decoded.width, decoded.height, width, height)
    size = (placement.width, placement.height)
    grey = decoded.image if decoded.image.mode == "L" else decoded.image.convert("L")
    cover = None
    alpha = decoded.image.getchannel("A") if "A" in decoded.image.getbands() else None
    if alpha is not None and alpha.getextrema() != (255, 255):
        grey = ImageChops.multiply(grey, alpha)
        cover = _resized(alpha, size, decoded.box)
    levels = _resized(grey, size, decoded.box)
    if polarity == "dark-on-light" or (polarity == "auto" and _is_on_light(levels, cover)):
        # With `levels` already weighted by the cover, this is the inverse of the picture laid over white.
        levels = (255 if cover is None else np.maximum(cover, levels)) - levels
    levels = _stretched(levels, told=polarity != "auto")
    if size == (width, height):
        return Fitted(levels, placement)
    pixels = np.zeros((height, width), np.uint8)
    rows, columns = slice(placement.top, placement.top + size[1]), slice(placement.left, placement.left + size[0])
    pixels[rows, columns] = levels
    return Fitted(pixels, placement)


def _resized(image: Image.Image, size: tuple[int, int], box: tuple[float, float, float, float]) -> NDArray[np.uint8]:
    if image.size != size:
        image = image.resize(size, Image.Resampling.BICUBIC, box, reducing_gap=3.0)
    levels: NDArray[np.uint8] = np.asarray(image)
    return levels


def _border(levels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the levels of the outermost rows and columns, in order."""
    border = np.concatenate([levels[0], levels[-1], levels[:, 0], levels[:, -1]])
    border.sort()
    return border


def _is_on_light(levels: NDArray[np.uint8], cover: NDArray[np.uint8] | None) -> bool:
    if cover is not None and _border(cover).mean() < 128:
        visible = cover.sum(dtype=np.int64)
        return bool(visible and levels.sum(dtype=np.int64) / visible < 0.5)
    paper = int(_border(levels)[levels.shape[0] + levels.shape[1] - 1])
    if 0 < paper < 255 and cover is None:
        rare = _RAREST if paper >= _LIGHT else _RARE, _RAREST if paper < _DARK else _RARE
        below, above = _more_one_sided(
            _below_and_above(levels - np.int32(paper), *rare),  # ink of any width, on an even background
            _below_and_above(_outstanding(levels), *rare),  # fine ink, in any light
        )
        if 4 * max(below, above) > 5 * min(below, above):
            return below > above
    return paper > 127


def _more_one_sided(*pairs: tuple[int, int]) -> tuple[int, int]:
    """Return the first of two pairs, or the second where that has the larger quotient of its numbers."""
    (most, least), (other_most, other_least) = (sorted(pair, reverse=True) for pair in pairs)
    return pairs[other_most * least > most * other_least]


def _below_and_above(
    differences: NDArray[np.int32], rare_below: int = _RARE, rare_above: int = _RARE
) -> tuple[int, int]:
    """Return how far what is not too rare to be ink is on either side."""
    low, high = differences.size // rare_below, differences.size - 1 - differences.size // rare_above
    ordered = np.partition(differences, (low, high), axis=None)
    return max(0, -int(ordered[low])), max(0, int(ordered[high]))


def _outstanding(levels: NDArray[np.uint8]) -> NDArray[np.int32]:
    """Return how far each level is above the mean of its surroundings, times their number, int32 (h, w).

    Shade and light change from place to place; ink is what differs from what is next to it.
    """
    reach = min(levels.shape) // _AROUND
    side = 2 * reach + 1
    height, width = levels.shape
    sums = np.zeros((height + side, width + side), np.int32)  # of all that is above and left of a place
    padded = np.pad(levels, reach, mode="edge")
    np.cumsum(np.cumsum(padded, 0, dtype=np.int32), 1, dtype=np.int32, out=sums[1:, 1:])
    around = sums[side:, side:] - sums[:-side, side:] - sums[side:, :-side] + sums[:-side, :-side]
    outstanding: NDArray[np.int32] = levels * np.int32(side * side) - around
    return outstanding


def _stretched(levels: NDArray[np.uint8], told: bool) -> NDArray[np.uint8]:
    """Make the background 0 and ink 255; a polarity that was told may be wrong, and ink may cover the border."""
    border = _border(levels)
    middle, paper = (int(border[index]) for index in (border.size // 2 - 1, border.size * 3 // 4))
    if paper - middle > _SHADE:
        paper = middle
    if paper == 0:
        return levels
    if told and middle >= _LIGHT:
        below, above = _below_and_above(levels - np.int32(middle))
        if below >= above:
            return levels
    span = max(int(levels.max()) - paper, _LEAST_CONTRAST)
    stretched: NDArray[np.uint8] = (np.clip((levels - float(paper)) * 255 / span, 0, 255) + 0.5).astype(np.uint8)
    return stretched
