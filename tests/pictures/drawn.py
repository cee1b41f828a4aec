"""Small pictures to fit, 100 pixels a side unless they say otherwise."""

import numpy as np


def disc(size: int = 100, ink: int = 255, paper: int = 0) -> np.ndarray:
    """Return a disc of half the side."""
    y, x = np.mgrid[:size, :size]
    return np.where((x - size / 2) ** 2 + (y - size / 2) ** 2 < (size / 4) ** 2, ink, paper).astype(np.uint8)


def noise(seed: int, high: int = 256) -> np.ndarray:
    """Return levels below `high` at random, inside a black border."""
    levels = np.random.default_rng(seed).integers(0, high, (100, 100), np.uint8)
    levels[[0, -1]], levels[:, [0, -1]] = 0, 0
    return levels
