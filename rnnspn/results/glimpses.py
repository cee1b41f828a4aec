"""The crops a model sees, sampled again from its affine matrices: bilinear, corners aligned, border clamped."""

import numpy as np
from numpy.typing import NDArray


def sample(pixels: NDArray[np.uint8], theta: NDArray[np.float64], height: int, width: int) -> NDArray[np.uint8]:
    """Sample one glimpse (eq. 2 and 3 of the paper, section 3).

    Args:
        pixels: uint8 (H, W), the model's input.
        theta: float (2, 3), the affine matrix; rows are (x, y).
        height: Glimpse height h in pixels.
        width: Glimpse width w in pixels.

    Returns:
        uint8 (h, w).
    """
    full_height, full_width = pixels.shape
    y, x = np.meshgrid(np.linspace(-1, 1, height), np.linspace(-1, 1, width), indexing="ij")
    points = np.stack([x, y, np.ones_like(x)], axis=-1) @ theta.T  # (h, w, 2)
    points = (np.clip(points, -1, 1) + 1) / 2 * (full_width - 1, full_height - 1)
    left, top = np.moveaxis(np.floor(points).astype(np.intp), -1, 0)
    right, bottom = np.minimum(left + 1, full_width - 1), np.minimum(top + 1, full_height - 1)
    along, down = points[..., 0] - left, points[..., 1] - top
    levels = pixels.astype(np.float64)
    upper = levels[top, left] * (1 - along) + levels[top, right] * along
    lower = levels[bottom, left] * (1 - along) + levels[bottom, right] * along
    sampled: NDArray[np.uint8] = (upper * (1 - down) + lower * down).round().astype(np.uint8)
    return sampled
