"""Cluttered sequences of MNIST digits, synthesised without end (section 4 of the paper).

Every picture is a pure function of (seed, split, index): its random numbers are a hash of these three, so any worker,
restart or shard draws the same one. The code runs alike on NumPy arrays and on torch tensors of any device.

Shapes: n pictures, T digits of 28 x 28 pixels, P patches of 9 x 9 pixels, H x W canvas pixels.
"""

import sys
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from rnnspn.config import LAYOUTS, MAX_STEPS
from rnnspn.data.mnist import SPLITS, Mnist
from rnnspn.errors import ConfigError

DIGIT = 28
PATCH = 9
PATCHES = 8
PATCH_OFFSETS = DIGIT - PATCH  # a patch starts at 0 to 18 in its digit
MAX_SLOPE = 14

_GOLDEN, _MIX_1, _MIX_2 = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB

Array = Any
"""A NumPy array or a torch tensor."""


class Placement(NamedTuple):
    """Where every digit and every patch of a batch comes from and goes to.

    Attributes:
        digit: int (n, T), index into MNIST.
        digit_x: int (n, T), left edge in pixels.
        digit_y: int (n, T), top edge in pixels.
        patch_digit: int (n, P), index into MNIST of the digit the patch is cut from.
        patch_from_x: int (n, P), left edge within that digit.
        patch_from_y: int (n, P), top edge within that digit.
        patch_x: int (n, P), left edge on the canvas.
        patch_y: int (n, P), top edge on the canvas.
    """

    digit: Array
    digit_x: Array
    digit_y: Array
    patch_digit: Array
    patch_from_x: Array
    patch_from_y: Array
    patch_x: Array
    patch_y: Array

    def centres(self, height: int, width: int) -> Array:
        """Return the centres of the digits, (x, y) as theta counts them from -1 to +1: float (n, T, 2)."""
        xp, middle = _namespace(self.digit_x), (DIGIT - 1) / 2
        x, y = ((self.digit_x + middle) * (2 / (width - 1)) - 1), ((self.digit_y + middle) * (2 / (height - 1)) - 1)
        return xp.stack([x, y], -1)


@dataclass(frozen=True)
class Sequences:
    """An endless, seeded supply of pictures of one split.

    Attributes:
        mnist: The digits; `mnist.to(device)` makes the pictures on that device.
        split: One of `SPLITS`: which digits are used.
        seed: Seed of everything random.
        layout: `authors` (what Table 1 was measured on) or `paper` (the text).
        steps: Digits in a sequence, T.
        height: Canvas height H in pixels.
        width: Canvas width W in pixels.
    """

    mnist: Mnist
    split: str
    seed: int = 0
    layout: str = "authors"
    steps: int = 3
    height: int = 100
    width: int = 100

    def __post_init__(self) -> None:
        if self.split not in SPLITS:
            raise ConfigError(f"expected split to be one of {', '.join(SPLITS)}; got {self.split!r}")
        if self.layout not in LAYOUTS:
            raise ConfigError(f"expected layout to be one of {', '.join(LAYOUTS)}; got {self.layout!r}")
        if not 1 <= self.steps <= MAX_STEPS:
            raise ConfigError(f"expected 1 to {MAX_STEPS} digits in a sequence, got {self.steps}")
        if self.width <= DIGIT * self.steps or self.height < DIGIT:
            raise ConfigError(
                f"{self.steps} digits of {DIGIT} pixels need a canvas wider than {DIGIT * self.steps} and at least "
                f"{DIGIT} high, got {self.width}x{self.height}"
            )

    def pictures(self, indices: Array) -> tuple[Array, Array]:
        """Make the pictures of the given indices.

        Args:
            indices: int64 (n,), an array of the same kind and device as the digits.

        Returns:
            Pictures, uint8 (n, H, W), and labels, uint8 (n, T).
        """
        return render(self.mnist, self.place(indices), self.height, self.width)

    def place(self, indices: Array) -> Placement:
        """Draw the placement of the given indices; arguments as for `pictures`."""
        xp, device = _namespace(indices), indices.device
        key = _mix(_mix(self.seed) + list(SPLITS).index(self.split) + 1)
        draw = _Draws(_words(key, indices, xp.arange(self.steps + 3 + 5 * PATCHES, device=device)))
        split = SPLITS[self.split]
        digit = draw(self.steps, len(split)) + split.start
        x, y, slope = self._draw_line(draw)
        steps = xp.arange(self.steps, device=device)
        if self.layout == "authors":
            patch_digit = (
                draw(PATCHES, 110_000) % SPLITS["test"].start
            )  # train + validation + train, whatever the split
        else:
            patch_digit = draw(PATCHES, len(split)) + split.start
        return Placement(
            digit=digit,
            digit_x=x + DIGIT * steps,
            digit_y=(y + slope * steps).clip(0, self.height - DIGIT),
            patch_digit=patch_digit,
            patch_from_x=draw(PATCHES, PATCH_OFFSETS),
            patch_from_y=draw(PATCHES, PATCH_OFFSETS),
            patch_x=draw(PATCHES, self.width - PATCH),
            patch_y=draw(PATCHES, self.height - PATCH),
        )

    def _draw_line(self, draw: "_Draws") -> tuple[Array, Array, Array]:
        """Draw the first digit's place and the slope, each int (n, 1)."""
        room = self.width - DIGIT * self.steps
        if self.layout == "authors":
            return draw(1, room), draw(1, self.height), draw(1, 2 * MAX_SLOPE) - MAX_SLOPE
        x, y = draw(1, room + 1), draw(1, self.height - DIGIT + 1)
        return x, y, _namespace(x).asarray(_SLOPES, device=x.device)[draw(1, len(_SLOPES))]


def render(mnist: Mnist, place: Placement, height: int, width: int) -> tuple[Array, Array]:
    """Draw the pictures of a placement: patches, a later one over an earlier one, plus digits, clipped at 255.

    Args:
        mnist: The digits.
        place: Where everything goes, n pictures.
        height: Canvas height H in pixels.
        width: Canvas width W in pixels.

    Returns:
        Pictures, uint8 (n, H, W), and labels, uint8 (n, T).
    """
    xp, device = _namespace(mnist.images), mnist.images.device
    count, steps = place.digit.shape
    pixels, digits = mnist.images.reshape(-1), mnist.images.reshape(-1, DIGIT**2)
    canvas = xp.zeros(count * height * width, dtype=mnist.images.dtype, device=device)
    first = xp.arange(count, device=device) * (height * width)

    def square(side: int, row: int) -> Array:  # flat offsets of its pixels, in rows of `row` pixels
        edge = xp.arange(side, device=device)
        return (edge[:, None] * row + edge).reshape(-1)

    source, target = square(PATCH, DIGIT), square(PATCH, width)
    for k in range(place.patch_digit.shape[1]):
        corner = (place.patch_digit[:, k] * DIGIT + place.patch_from_y[:, k]) * DIGIT + place.patch_from_x[:, k]
        place_on_canvas = first + place.patch_y[:, k] * width + place.patch_x[:, k]
        canvas[place_on_canvas[:, None] + target] = xp.take(pixels, corner[:, None] + source)
    target = square(DIGIT, width)
    for t in range(steps):
        where = (first + place.digit_y[:, t] * width + place.digit_x[:, t])[:, None] + target
        below = xp.take(canvas, where)
        total = below + digits[place.digit[:, t]]  # uint8: wraps around where the sum passes 255
        canvas[where] = xp.where(total < below, 255, total)
    return canvas.reshape(count, height, width), mnist.labels[place.digit]


def _namespace(array: Array) -> Any:
    """Return the module whose functions make arrays of the same kind: numpy or torch."""
    return np if isinstance(array, np.ndarray) else sys.modules["torch"]


class _Draws:
    """Turns columns of random words into uniform whole numbers, left to right."""

    def __init__(self, words: Array) -> None:
        self._words = words
        self._used = 0

    def __call__(self, count: int, limit: int) -> Array:
        words = self._words[:, self._used : self._used + count]
        self._used += count
        return (words * limit) >> 32


def _words(key: int, indices: Array, draws: Array) -> Array:
    """Return 32 random bits for every index and draw, int64 (n, len(draws)): SplitMix64 in counter mode.

    Source: Steele, Lea and Flood, Fast splittable pseudorandom number generators, OOPSLA 2014.
    """
    x = (indices[:, None] * 64 + draws) * _signed(_GOLDEN) + _signed(key)
    x = (x ^ _shift(x, 30)) * _signed(_MIX_1)
    x = (x ^ _shift(x, 27)) * _signed(_MIX_2)
    return _shift(x ^ _shift(x, 31), 32)


def _mix(x: int) -> int:
    """Hash one 64-bit word, as `_words` does."""
    x = (x + _GOLDEN) % 2**64
    x = (x ^ (x >> 30)) * _MIX_1 % 2**64
    x = (x ^ (x >> 27)) * _MIX_2 % 2**64
    return x ^ (x >> 31)


def _shift(x: Array, bits: int) -> Array:
    """Shift 64-bit words right, filling with zeros."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)


def _signed(word: int) -> int:
    return word - 2**64 if word >= 2**63 else word


_SLOPES = np.round(DIGIT * np.tan(np.radians((np.arange(2**14) + 0.5) / 2**14 * 90 - 45))).astype(np.int64)
"""Pixels per digit at equally likely angles within 45 degrees; a table, so that every device agrees."""
