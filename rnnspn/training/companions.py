"""Lines of digits of every size, synthesised, which a run on a folder of pictures learns from beside them.

A few hundred labelled pictures show what characters look like, but nobody says where to look for them. In synthesised
pictures that is known, and a line of any characters looks much like a line of digits from a distance.

Shapes: n pictures, T steps, S x S pixels of the larger pictures that they are cut from, H x W pixels.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from rnnspn.data.sequences import DIGIT
from rnnspn.training.distortion import moved

_MARGIN = 30  # pixels of a larger picture beside its line
_RANGE = 3.5  # the largest digits are so many times as large as the smallest
_TILT = math.radians(5)  # standard deviations
_GAIN = 0.3
_FINER = 2  # samples along each side of a pixel


def canvas_side(steps: int) -> int:
    """Return S for lines of T digits of 28 pixels, in pixels."""
    return DIGIT * steps + _MARGIN


def draw_views(count: int, seed: int, step: int) -> Tensor:
    """Draw how each larger picture of a batch is to be seen.

    Args:
        count: Pictures in the batch, n.
        seed: Seed of a run.
        step: Every step has its own views, which depend on nothing but the seed and the step.

    Returns:
        float (n, 5), a row for each picture.
    """
    generator = torch.Generator().manual_seed((seed * 1_000_003 + step) % 2**63)
    uniform, normal = torch.rand(count, 3, generator=generator), torch.randn(count, 2, generator=generator)
    return torch.cat([uniform, normal], 1)


def seen_from_afar(
    images: Tensor, centres: Tensor, views: Tensor, size: tuple[int, int]
) -> tuple[Tensor, Tensor, Tensor]:
    """Return pictures with the line of digits at any size that fits, anywhere, tilted, fainter or stronger.

    Args:
        images: uint8 (n, S, S), 0 background.
        centres: Where the digits are, float (n, T, 2), (x, y) from -1 to +1.
        views: Rows of `draw_views`, float (n, 5).
        size: H and W in pixels.

    Returns:
        uint8 (n, H, W), the new centres, float (n, T, 2), and the sides of the digits in pixels, float (n,).
    """
    height, width = size
    last, half = images.shape[-1] - 1, torch.tensor([width - 1, height - 1], device=images.device) / 2
    size_at, right_at, down_at, tilt, gain = views.to(images.device).unbind(1)
    largest = min(width / centres.shape[1], height / 2)
    sides = largest * _RANGE ** (size_at - 1)
    scale, angle = DIGIT / sides, _TILT * tilt  # larger pictures' pixels for one of ours
    cos, sin = scale * torch.cos(angle), scale * torch.sin(angle)
    turn = torch.stack([cos, -sin, sin, cos], -1).reshape(-1, 2, 2)  # from our pixels to the larger picture's
    middle = (centres[:, :1] + centres[:, -1:]) / 2
    line = torch.linalg.solve_ex(turn, ((centres - middle) * last / 2).transpose(1, 2))[
        0
    ]  # around its middle, (n, 2, T)
    room = (half - line.abs().amax(-1) - sides[:, None] / 2).clamp_min(0)
    place = room * (2 * torch.stack([right_at, down_at], -1) - 1)  # of the line's middle from the picture's
    shift = middle[:, 0] - (turn @ place.unsqueeze(-1)).squeeze(-1) * 2 / last
    theta = torch.cat([turn * half * 2 / last, shift.unsqueeze(-1)], -1)
    finer = moved(images, theta, (_FINER * height, _FINER * width))
    pictures = F.avg_pool2d(finer, _FINER) * torch.exp(_GAIN * gain).reshape(-1, 1, 1)
    centres = (line.transpose(1, 2) + place.unsqueeze(1)) / half
    return pictures.round().clamp(0, 255).byte(), centres, sides
