"""The spatial transformer: affine grid and bilinear sampling (section 3 of the paper).

Shapes: B pictures, G glimpses a picture, H x W input pixels, h x w glimpse pixels.
"""

import torch
from torch import Tensor
from torch.nn import functional as F


def base_grid(height: int, width: int) -> Tensor:
    """Return the regular grid G of eq. 2, each point augmented with a 1.

    Args:
        height: Glimpse height h in pixels.
        width: Glimpse width w in pixels.

    Returns:
        float32 (h*w, 3): rows (x, y, 1); -1 and +1 are the centres of the first and the last pixel.
    """
    y, x = torch.meshgrid(torch.linspace(-1, 1, height), torch.linspace(-1, 1, width), indexing="ij")
    return torch.stack([x, y, torch.ones_like(x)], dim=-1).reshape(-1, 3)


def sample_glimpses(images: Tensor, theta: Tensor, grid: Tensor, size: tuple[int, int]) -> Tensor:
    """Sample every glimpse of every picture in one pass (eq. 3).

    Points outside the picture read the nearest border pixel; clamping the grid keeps that exact at any distance and
    equal in every runtime.

    Args:
        images: float (B, 1, H, W).
        theta: float (B, G, 2, 3), the affine matrices; rows are (x, y).
        grid: float (h*w, 3), from `base_grid`.
        size: Glimpse size (h, w) in pixels.

    Returns:
        float (B*G, 1, h, w), the glimpses of a picture side by side.
    """
    height, width = size
    glimpses = theta.shape[1]
    with torch.autocast(images.device.type, enabled=False):  # positions need more than bfloat16's 8 bits
        points = (grid @ theta.transpose(-1, -2)).clamp(-1, 1)  # (B, G, h*w, 2)
    points = points.reshape(-1, glimpses * height, width, 2)
    sampled = F.grid_sample(images, points, mode="bilinear", padding_mode="border", align_corners=True)
    return sampled.reshape(-1, 1, height, width)  # (B, 1, G*h, w) -> (B*G, 1, h, w)
