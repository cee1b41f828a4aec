"""What exported models are compared on: digits, all black, all white and noise; and for clients, strokes and rings."""

import numpy as np
from numpy.typing import NDArray

from rnnspn.alphabet import DIGITS
from rnnspn.data.mnist import load_mnist
from rnnspn.data.sequences import DIGIT, Sequences
from rnnspn.errors import DataError
from rnnspn.inference.timing import sample_pictures


def synthesised(count: int, steps: int, height: int, width: int) -> NDArray[np.uint8]:
    """Return pictures of any size, uint8 (count, H, W); where digits do not fit, they are cut off.

    They are of MNIST's test digits, or printed ones where that is missing.
    """
    try:
        mnist = load_mnist()
    except DataError:
        return sample_pictures(count, height, width, DIGITS)
    sequences = Sequences(mnist, "test", steps=steps, height=max(height, DIGIT), width=max(width, DIGIT * steps + 1))
    pictures: NDArray[np.uint8] = sequences.pictures(np.arange(count))[0][:, :height, :width]
    return pictures


def extremes(noise: int, height: int, width: int) -> NDArray[np.uint8]:
    """Return a black and a white picture and `noise` of noise, uint8 (2 + noise, H, W)."""
    size = (height, width)
    random = np.random.default_rng(0).integers(0, 256, (noise, *size), dtype=np.uint8)
    return np.concatenate([np.zeros((1, *size), np.uint8), np.full((1, *size), 255, np.uint8), random])


def strokes(seed: int, height: int = 24, width: int = 40) -> NDArray[np.uint8]:
    """Return a picture of some bars, darker or lighter than a background in uneven light, uint8 (height, width)."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    levels: NDArray[np.float64] = random.integers(0, 256) + random.integers(-120, 121) * (x / (width - 1) - 0.5)
    levels += (seed % 3 == 1) * random.integers(-120, 121) * (y / (height - 1) - 0.5)
    levels += random.integers(-3, 4, (height, width))
    for _ in range(random.integers(1, 5)):
        top, left = random.integers(0, height - 2), random.integers(0, width - 2)
        thickness, length, ink = random.integers(1, 5), random.integers(4, 30), random.integers(-150, 151)
        down, across = (thickness, length) if random.integers(2) else (length, thickness)
        levels[top : top + down, left : left + across] += ink
    picture: NDArray[np.uint8] = levels.clip(0, 255).astype(np.uint8)
    return picture


def rings(height: int, width: int) -> NDArray[np.uint8]:
    """Return black and white rings around a corner, finer and finer to the opposite one, uint8 (height, width)."""
    y, x = np.mgrid[:height, :width]
    picture: NDArray[np.uint8] = (255 * ((x * x + y * y) // max(1, (height**2 + width**2) // 400) % 2)).astype(np.uint8)
    return picture
