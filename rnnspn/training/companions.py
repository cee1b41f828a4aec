"""Lines of digits of every size, synthesised, which a run on a folder of pictures learns from beside them.

A few hundred labelled pictures show what characters look like, but nobody says where to look for them. In synthesised
pictures that is known, and a line of any characters looks much like a line of digits from a distance.

Shapes: n pictures, T steps, S x S pixels of the larger pictures that they are cut from, H x W pixels.
"""

import math
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from rnnspn.config import ModelConfig, TrainConfig
from rnnspn.data.mnist import Mnist
from rnnspn.data.sequences import DIGIT, Sequences
from rnnspn.training.batches import UNNAMED, WHOLE, Batches, Pictures, Share, SynthesisedBatches, zooms_around
from rnnspn.training.distortion import Purpose, generator_for, moved

_MARGIN = 30  # pixels of a larger picture beside its line
_RANGE = 3.5  # the largest digits are so many times as large as the smallest
_TILT = math.radians(5)  # standard deviations
_GAIN = 0.3
_FINER = 2  # samples along each side of a pixel


class CompanionBatches:
    """New lines of digits at every step, made on the device: their places are known, their labels are left out.

    Where sequences may be shorter than T, the lines of each step have a length of their own, from 1 to T digits.

    Args:
        mnist: The digits, on the device.
        model: Gives T, H and W.
        config: Gives batch and seed.
        device: Where the digits are.
        share: Which pictures of each batch to make.
    """

    def __init__(
        self, mnist: Mnist, model: ModelConfig, config: TrainConfig, device: torch.device, share: Share = WHOLE
    ) -> None:
        shortest = model.steps if model.blank is None else 1
        config = replace(config, distortion=0.0)
        self._larger = [
            SynthesisedBatches(lines(mnist, config.seed, steps), config, device, share, at_once=shortest == model.steps)
            for steps in range(shortest, model.steps + 1)
        ]
        self._steps = model.steps
        self._config = config
        self._share = share
        self._size = model.height, model.width

    def at(self, step: int) -> Pictures:
        """Return the share of the batch of a step."""
        length = np.random.default_rng((self._config.seed, step)).integers(len(self._larger))
        larger = self._larger[length].at(step)
        views = draw_views(self._config.batch, self._config.seed, step)[self._share]
        assert larger.centres is not None
        images, centres, sides = seen_from_afar(larger.images, larger.centres, views, self._size)
        centres = F.pad(centres, (0, 0, 0, self._steps - centres.shape[1]), value=math.nan)
        labels = larger.labels.new_full(centres.shape[:2], UNNAMED)
        return Pictures(images, labels, centres, zooms_around(sides, self._size))


class MixedBatches:
    """Batches of one's own pictures, and companions after them."""

    def __init__(self, own: Batches, companions: CompanionBatches) -> None:
        self._own = own
        self._companions = companions

    def at(self, step: int) -> Pictures:
        """Return the share of the batch of a step; what nobody says of one's own pictures is NaN."""
        own, others = self._own.at(step), self._companions.at(step)
        unknown = torch.full((*own.labels.shape, 2), math.nan, device=own.images.device)
        centres = unknown if own.centres is None else own.centres
        zooms = unknown[:, 0] if own.zooms is None else own.zooms
        assert others.centres is not None
        assert others.zooms is not None
        return Pictures(
            torch.cat([own.images, others.images]),
            torch.cat([own.labels, others.labels]),
            torch.cat([centres, others.centres]),
            torch.cat([zooms, others.zooms]),
        )


def lines(mnist: Mnist, seed: int, steps: int) -> Sequences:
    """Return a supply of larger pictures of so many digits in a line."""
    side = DIGIT * steps + _MARGIN
    return Sequences(mnist, "train", seed, steps=steps, height=side, width=side)


def draw_views(count: int, seed: int, step: int) -> Tensor:
    """Draw how each larger picture of a batch is to be seen.

    Args:
        count: Pictures in the batch, n.
        seed: Seed of a run.
        step: Every step has its own views, which depend on nothing but the seed and the step.

    Returns:
        float (n, 5), a row for each picture.
    """
    generator = generator_for(Purpose.VIEWS, seed, step)
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
    size_at, right_at, down_at, tilt, gain = views.to(images.device).unbind(1)
    cos, sin = torch.cos(_TILT * tilt), torch.sin(_TILT * tilt)
    turn = torch.stack([cos, -sin, sin, cos], -1).reshape(-1, 2, 2)  # from ours to the larger picture's directions
    pixels = (images.shape[-1] - 1) / 2  # of the larger picture, from its middle to its border
    ours = torch.tensor([width, height], device=images.device)

    middle = (centres[:, :1] + centres[:, -1:]) / 2
    line = (centres - middle) @ turn * pixels / DIGIT  # around its middle, in sides of a digit
    reach = line.abs().amax(1) + 0.5
    largest = min(width / centres.shape[1], height / 2)
    sides = torch.minimum(largest * _RANGE ** (size_at - 1), (ours / 2 / reach).amin(-1))
    place = (ours / 2 - sides.unsqueeze(-1) * reach) * (2 * torch.stack([right_at, down_at], -1) - 1)

    turn = turn * (DIGIT / sides).reshape(-1, 1, 1)  # and from ours to the larger picture's pixels
    shift = middle[:, 0] - (turn @ place.unsqueeze(-1)).squeeze(-1) / pixels
    theta = torch.cat([turn * (ours - 1 / _FINER) / 2 / pixels, shift.unsqueeze(-1)], -1)
    finer = moved(images, theta, (_FINER * height, _FINER * width)).unsqueeze(1)
    pictures = F.avg_pool2d(finer, _FINER).squeeze(1) * torch.exp(_GAIN * gain).reshape(-1, 1, 1)
    centres = (line * sides.reshape(-1, 1, 1) + place.unsqueeze(1)) / ((ours - 1) / 2)
    return pictures.round().clamp(0, 255).byte(), centres, sides
