"""What is ink in a picture, and what its background: levels from 0, the background, to 255, the strongest ink.

docs/pictures.md gives the rule in words, for clients in other languages.

Shapes: h x w pixels.
"""

from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

Polarity = Literal["auto", "dark-on-light", "light-on-dark"]
Pixels = NDArray[np.uint8]
Numbers = NDArray[np.int32] | NDArray[np.int64]

_LIGHT = 192
"""Levels of backgrounds from which on ink is expected to be dark."""
_AROUND = 8
"""Surroundings reach as far as the picture's smaller side in so many parts."""
_RARE = 200
"""One pixel in so many is no ink, even when blurred by a pixel to every side: a speck or a highlight."""
_SHADE = 64
"""The border's lighter quarter is background only if it is no more levels above the middle; else ink crosses it."""
_LEAST_CONTRAST = 85
"""Levels are stretched as if ink were at least this far from its background: an empty sheet's grain stays faint."""


def expect_polarity(polarity: str) -> None:
    """Raise ValueError for what is no polarity."""
    if polarity not in get_args(Polarity):
        raise ValueError(f"expected the polarity {', '.join(get_args(Polarity))}; got {polarity!r}")


def is_on_light(levels: Pixels, cover: Pixels | None) -> bool:
    """Tell whether ink is dark here: what stands out from the background, or from its surroundings, is ink.

    Args:
        levels: uint8 (h, w), grey, multiplied by the cover where there is one.
        cover: uint8 (h, w), alpha, or None where all is opaque.
    """
    if cover is not None and _border(cover).mean() < 128:
        visible = cover.sum(dtype=np.int64)
        return bool(visible and levels.sum(dtype=np.int64) / visible < 0.5)
    paper = int(_border(levels)[levels.shape[0] + levels.shape[1] - 1])
    if 0 < paper < 255 and cover is None:
        blurred = _blurred(levels)
        below, above = _more_one_sided(
            _below_and_above(blurred - 9 * paper),  # ink of any width, on an even background
            _below_and_above(_outstanding(blurred)),  # fine ink, in any light
        )
        if 4 * max(below, above) > 5 * min(below, above):
            return below > above
    return paper > 127


def stretched(levels: Pixels, told: bool) -> Pixels:
    """Make the background 0 and the strongest ink 255; one that is 0 already stays as it is.

    Args:
        levels: uint8 (h, w), ink lighter than its background.
        told: Whether the polarity was told, which may be wrong.
    """
    border = _border(levels)
    middle, paper = (int(border[index]) for index in (border.size // 2 - 1, border.size * 3 // 4))
    if paper - middle > _SHADE:
        paper = middle
    if paper == 0:
        return levels
    if told and middle >= _LIGHT:
        below, above = _below_and_above(_blurred(levels) - 9 * middle)
        if below >= above:
            return levels
    span = max(int(levels.max()) - paper, _LEAST_CONTRAST)
    stretched: Pixels = (np.clip((levels - float(paper)) * 255 / span, 0, 255) + 0.5).astype(np.uint8)
    return stretched


def _border(levels: Pixels) -> Pixels:
    """Return the levels of the outermost rows and columns, in order."""
    border = np.concatenate([levels[0], levels[-1], levels[:, 0], levels[:, -1]])
    border.sort()
    return border


def _more_one_sided(*pairs: tuple[int, int]) -> tuple[int, int]:
    """Return the first of two pairs, or the second where that has the larger quotient of its numbers."""
    (most, least), (other_most, other_least) = (sorted(pair, reverse=True) for pair in pairs)
    return pairs[other_most * least > most * other_least]


def _below_and_above(differences: Numbers) -> tuple[int, int]:
    """Return how far what is not too rare to be ink is on either side."""
    rare = differences.size // _RARE
    ordered = np.partition(differences, (rare, -1 - rare), axis=None)
    return max(0, -int(ordered[rare])), max(0, int(ordered[-1 - rare]))


def _blurred(levels: Pixels) -> NDArray[np.int32]:
    """Return the sums of the nine levels around each place, int32 (h, w), in which specks fade and strokes stay."""
    padded = np.pad(levels, 1, mode="edge").astype(np.int32)
    rows = padded[:-2] + padded[1:-1] + padded[2:]
    blurred: NDArray[np.int32] = rows[:, :-2] + rows[:, 1:-1] + rows[:, 2:]
    return blurred


def _outstanding(values: NDArray[np.int32]) -> Numbers:
    """Return how far each value is above the mean of its surroundings, times their number, (h, w).

    Shade and light change from place to place; ink is what differs from what is next to it.
    """
    reach = min(values.shape) // _AROUND
    side = 2 * reach + 1
    height, width = values.shape
    kind = np.int32 if 9 * 255 * side * side < 2**31 else np.int64
    sums = np.zeros((height + side, width + side), kind)  # of all above and left of a place; may wrap, and back
    padded = np.pad(values, reach, mode="edge")
    np.cumsum(np.cumsum(padded, 0, dtype=kind), 1, dtype=kind, out=sums[1:, 1:])
    around = sums[side:, side:] - sums[:-side, side:] - sums[side:, :-side] + sums[:-side, :-side]
    outstanding: Numbers = values * kind(side * side) - around
    return outstanding
