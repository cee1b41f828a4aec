"""New pictures out of old: MNIST's digits bent anew for every epoch, one's own pictures moved and cluttered each time.

Each digit gets an affine change (turned, stretched, slanted) and an elastic one (a smooth random displacement), as in
Simard, Steinkraus and Platt, Best practices for convolutional neural networks, ICDAR 2003; and a broader or finer pen.

Shapes: n digits of S x S pixels.
"""

import math
from enum import IntEnum

import torch
from torch import Tensor
from torch.nn import functional as F

from rnnspn.data.mnist import SPLITS, Mnist

_TURN = math.radians(8)  # standard deviations at strength 1
_STRETCH = 0.08
_SLANT = 0.12
_SHIFT_PIXELS = 0.9
_PEN_PIXELS = 0.3  # at either edge of a stroke
_CONTROL_POINTS = 4
_TILT = math.radians(3)  # the same for whole pictures
_ZOOM = 0.06
_SHIFT = 0.05
_GAIN = 0.15
_PATCHES = 16
_PATCH = 0.12  # side, in sides of the picture
_CHUNK = 10_000


class Purpose(IntEnum):
    """What is drawn at random; each has numbers of its own."""

    DIGITS = 0
    JOLTS = 1
    PATCHES = 2
    VIEWS = 3


def generator_for(purpose: Purpose, seed: int, step: int) -> torch.Generator:
    """Return the generator of what is drawn for a purpose at a step, or in an epoch, of a run of that seed."""
    return torch.Generator().manual_seed((seed * 1_000_003 + step + (purpose << 30)) % 2**63)


def distorted(mnist: Mnist, strength: float, seed: int, epoch: int, split: str = "train") -> Mnist:
    """Return the digits with those of a split bent; the others are as they were.

    Args:
        mnist: The digits, NumPy arrays or torch tensors of any device.
        strength: How far at most, 1 for handwriting at the edge of natural; each digit draws its own share of it.
        seed: Seed of a run.
        epoch: Every epoch has its own digits, which depend on nothing but the seed and the epoch.
        split: What is learned from: `train` or `train+validation`.
    """
    images = torch.as_tensor(mnist.images).clone()
    generator = generator_for(Purpose.DIGITS, seed, epoch)
    digits = SPLITS[split]
    for first in range(digits.start, digits.stop, _CHUNK):
        chunk = images[first : min(first + _CHUNK, digits.stop)]
        share = (strength * torch.rand(len(chunk), 1, generator=generator)).to(images.device)
        grid = _bent_grid(share, chunk.shape[-1], generator)
        bent = F.grid_sample(chunk.float().unsqueeze(1), grid, mode="bicubic", align_corners=True)  # stays sharp
        pixels = _PEN_PIXELS * share * torch.randn(len(chunk), 1, generator=generator).to(images.device)
        chunk.copy_(_with_another_pen(bent, pixels).squeeze(1).round().clamp(0, 255))
    return Mnist(images if isinstance(mnist.images, Tensor) else images.numpy(), mnist.labels)


def draw_jolts(count: int, strength: float, seed: int, step: int) -> Tensor:
    """Draw how each picture of a batch is to be changed.

    Args:
        count: Pictures in the batch, n.
        strength: How far, 1 for as far as a camera held by hand.
        seed: Seed of a run.
        step: Every step has its own changes, which depend on nothing but the seed and the step.

    Returns:
        float (n, 7), a row for each picture.
    """
    generator = generator_for(Purpose.JOLTS, seed, step)
    return strength * torch.randn(count, 7, generator=generator)


def jolted(images: Tensor, centres: Tensor | None, jolts: Tensor) -> tuple[Tensor, Tensor | None]:
    """Return pictures moved, turned, stretched and slanted a little, and made fainter or stronger, each by itself.

    Args:
        images: uint8 (n, H, W), 0 background.
        centres: What lies where in them, float (n, T, 2), (x, y) from -1 to +1, or None; it moves with them.
        jolts: Rows of `draw_jolts`, float (n, 7).
    """
    turn, stretch, aspect, slant, right, down, gain = jolts.unbind(1)
    theta = _affine(
        turn=_TILT * turn,
        scales=(torch.exp(_ZOOM * (stretch + aspect / 2)), torch.exp(_ZOOM * (stretch - aspect / 2))),
        slant=_SLANT / 2 * slant,
        shift=(_SHIFT * right, _SHIFT * down),
    )
    theta = theta.to(images.device)
    gains = torch.exp(_GAIN * gain).to(images.device).reshape(-1, 1, 1)
    pictures = (moved(images, theta, (images.shape[1], images.shape[2])) * gains).round().clamp(0, 255).byte()
    if centres is not None:  # theta says where each point comes from
        came_from = (centres - theta[:, None, :, 2]).transpose(1, 2)  # (n, 2, T)
        centres = torch.linalg.solve_ex(theta[..., :2], came_from)[0].transpose(1, 2)  # without waiting for a GPU
    return pictures, centres


def draw_patches(count: int, strength: float, seed: int, step: int) -> Tensor:
    """Draw the patches that are to clutter each picture of a batch.

    Args:
        count: Pictures in the batch, n.
        strength: 1 for eight patches on average.
        seed: Seed of a run.
        step: Every step has its own patches, which depend on nothing but the seed and the step.

    Returns:
        float (n, P, 6), from 0 to 1: picture, place in it and place on the canvas, (y, x) each; and 1 if it is there.
    """
    generator = generator_for(Purpose.PATCHES, seed, step)
    patches = torch.rand(count, _PATCHES, 6, generator=generator)
    patches[..., 5] = patches[..., 5] < strength / 2
    return patches


def cluttered(images: Tensor, supply: Tensor, patches: Tensor) -> Tensor:
    """Return pictures with patches of others laid over them, as the paper's clutter is cut from other digits.

    Args:
        images: uint8 (n, H, W), 0 background.
        supply: uint8 (m, H, W), the pictures that patches are cut from.
        patches: Rows of `draw_patches`, float (n, P, 6).

    Returns:
        uint8 (n, H, W); the lighter of the two is seen.
    """
    height, width = images.shape[1:]
    edge = torch.arange(max(1, round(_PATCH * min(height, width))), device=images.device)

    def window(y: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        rows, columns = (((side - len(edge) + 1) * at).long() for at, side in ((y, height), (x, width)))
        return rows.reshape(-1, 1, 1) + edge.unsqueeze(1), columns.reshape(-1, 1, 1) + edge

    images = images.clone()
    number = torch.arange(len(images), device=images.device).reshape(-1, 1, 1)
    for chosen, from_y, from_x, to_y, to_x, there in patches.to(images.device).permute(1, 2, 0):
        source = (len(supply) * chosen).long().reshape(-1, 1, 1)
        patch = supply[source, *window(from_y, from_x)] * there.byte().reshape(-1, 1, 1)
        target = number, *window(to_y, to_x)
        images[target] = torch.maximum(images[target], patch)
    return images


def moved(images: Tensor, theta: Tensor, size: tuple[int, int]) -> Tensor:
    """Return what pictures show at other places.

    Args:
        images: uint8 (n, H, W).
        theta: Where each new pixel comes from, float (n, 2, 3), in coordinates from -1 to +1.
        size: New height and width in pixels.

    Returns:
        float (n, height, width); beyond the border all is 0.
    """
    y, x = (torch.linspace(-1, 1, pixels, device=theta.device).unsqueeze(-1) for pixels in size)
    rows = y * theta[:, None, :, 1] + theta[:, None, :, 2]
    grid = rows.unsqueeze(2) + (x * theta[:, None, :, 0]).unsqueeze(1)  # in a third of the time of affine_grid
    return F.grid_sample(images.float().unsqueeze(1), grid, align_corners=True).squeeze(1)


def _affine(turn: Tensor, scales: tuple[Tensor, Tensor], slant: Tensor, shift: tuple[Tensor, Tensor]) -> Tensor:
    """Return theta, float (n, 2, 3), of angles in radians, scales, slants and shifts, each float (n,)."""
    cos, sin = torch.cos(turn), torch.sin(turn)
    x = torch.stack([scales[0] * cos, slant - sin, shift[0]], dim=-1)
    y = torch.stack([sin, scales[1] * cos, shift[1]], dim=-1)
    return torch.stack([x, y], dim=1)


def _bent_grid(share: Tensor, side: int, generator: torch.Generator) -> Tensor:
    """Return where each pixel of each bent digit comes from, float (n, S, S, 2), -1 and +1 at the border pixels."""
    count, device = len(share), share.device  # what is drawn on the CPU is the same for every device, and little
    turn, stretch_x, stretch_y, slant = (share * torch.randn(count, 4, generator=generator).to(device)).unbind(1)
    theta = _affine(
        turn=_TURN * turn,
        scales=(torch.exp(_STRETCH * stretch_x), torch.exp(_STRETCH * stretch_y)),
        slant=_SLANT * slant,
        shift=(torch.zeros_like(turn), torch.zeros_like(turn)),
    )
    points = torch.randn(count, 2, _CONTROL_POINTS, _CONTROL_POINTS, generator=generator).to(device)
    shift = F.interpolate(points, size=(side, side), mode="bilinear", align_corners=True)
    pixels = _SHIFT_PIXELS * share.reshape(-1, 1, 1, 1)
    grid = F.affine_grid(theta, [count, 1, side, side], align_corners=True)
    return grid + (shift * pixels * 2 / (side - 1)).permute(0, 2, 3, 1)


def _with_another_pen(digits: Tensor, pixels: Tensor) -> Tensor:
    """Return digits, float (n, 1, S, S), with strokes broader by `pixels`, float (n, 1), at either edge, or finer."""
    broader = F.max_pool2d(digits, 3, stride=1, padding=1) - digits
    finer = digits + F.max_pool2d(-digits, 3, stride=1, padding=1)
    pixels = pixels.clamp(-0.5, 1).reshape(-1, 1, 1, 1)  # half a pixel less at either edge is a whole one less
    return digits + pixels.clamp_min(0) * broader + pixels.clamp_max(0) * finer
