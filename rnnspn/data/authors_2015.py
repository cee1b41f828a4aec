"""The data set the authors published in 2015, made again bit for bit.

Their script (github.com/skaae/recurrent-spatial-transformer-code) draws from NumPy's legacy generator, one number at a
time. Each of those draws takes 32-bit words of the Mersenne Twister, keeps the lowest bits that can hold the largest
legal value, and tries again while the result is too large. Doing just that on the raw words gives the same numbers in
a fraction of the time.
"""

import itertools
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from rnnspn.data.mnist import SPLITS, Mnist
from rnnspn.data.sequences import Placement, render
from rnnspn.errors import ConfigError

SIZES = {"train": 60_000, "validation": 10_000, "test": 10_000}

_SEED = 1234
_PATCH_POOL = 100_000
_THROWN_AWAY = 400
_DIGITS, _PATCHES, _CANVAS = 3, 8, 100
_CHUNK = 1024  # pictures drawn at once: the arrays of indices stay small


def authors_2015(mnist: Mnist, split: str) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Make one split of the authors' published data set.

    Args:
        mnist: The digits.
        split: `train`, `validation` or `test`.

    Returns:
        Pictures, uint8 (n, 100, 100), and labels, uint8 (n, 3).

    Source: section 4 of the paper and the authors' script; the SHA-256 of every part is in the tests.
    """
    placement = authors_2015_placement(split)
    images = np.empty((len(placement.digit), _CANVAS, _CANVAS), np.uint8)
    for first in range(0, len(images), _CHUNK):
        chunk = slice(first, first + _CHUNK)
        images[chunk], _ = render(mnist, Placement(*(field[chunk] for field in placement)), _CANVAS, _CANVAS)
    return images, mnist.labels[placement.digit]


def authors_2015_placement(split: str) -> Placement:
    """Draw where every digit and patch of one split of the published data set comes from and goes to.

    Args:
        split: `train`, `validation` or `test`.

    Returns:
        The placement of all its pictures.

    Raises:
        ConfigError: There is no such split.
    """
    if split not in SIZES:
        raise ConfigError(f"expected split to be one of {', '.join(SIZES)}; got {split!r}")
    words = _mersenne_twister_words()
    pool = np.array([[_below(words, 110_000), _below(words, 19), _below(words, 19)] for _ in range(_PATCH_POOL)])
    draws = []
    for name, count in (("thrown away", _THROWN_AWAY), *SIZES.items()):
        digits = len(SPLITS["train" if name == "thrown away" else name])
        draws = [_draw_sequence(words, digits) for _ in range(count)]
        if name == split:
            break
    return _placement(split, np.array(draws), pool)


def _mersenne_twister_words() -> Iterator[int]:
    generator = np.random.RandomState(_SEED)
    blocks = (generator.randint(0, 2**32, size=2**16, dtype=np.uint32).tolist() for _ in itertools.count())
    return itertools.chain.from_iterable(blocks)


def _below(words: Iterator[int], limit: int) -> int:
    """Draw a whole number from 0 up to, but not including, `limit`."""
    mask = (1 << (limit - 1).bit_length()) - 1
    while (value := next(words) & mask) >= limit:
        pass
    return value


def _draw_sequence(words: Iterator[int], digits: int) -> list[int]:
    draw = [_below(words, digits) for _ in range(_DIGITS)]
    draw += [_below(words, 16), _below(words, 100), _below(words, 28) - 14]
    for _ in range(_PATCHES):
        draw += [_below(words, _PATCH_POOL), _below(words, 91), _below(words, 91)]
    return draw


def _placement(split: str, draws: NDArray[np.int64], pool: NDArray[np.int64]) -> Placement:
    digits, (x, y, slope) = draws[:, :_DIGITS], draws[:, _DIGITS : _DIGITS + 3].T
    patches = draws[:, _DIGITS + 3 :].reshape(-1, _PATCHES, 3)
    source = pool[patches[..., 0]]  # (n, 8, 3): digit, x, y
    steps = np.arange(_DIGITS)
    return Placement(
        digit=SPLITS[split].start + digits,
        digit_x=x[:, None] + 28 * steps,
        digit_y=np.clip(y[:, None] + slope[:, None] * steps, 0, _CANVAS - 28),
        patch_digit=source[..., 0] % SPLITS["test"].start,  # the pool is train + validation + train
        patch_from_x=source[..., 1],
        patch_from_y=source[..., 2],
        patch_x=patches[..., 1],
        patch_y=patches[..., 2],
    )
