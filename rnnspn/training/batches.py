"""The batch of any step of a run.

A batch is a pure function of its step, so a resumed run sees exactly what an uninterrupted one would have seen.
A process that trains beside others makes its share of a batch alone.

Shapes: B pictures, T steps, H x W pixels.
"""

import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rnnspn.config import TrainConfig
from rnnspn.data.sequences import Sequences, render
from rnnspn.training.distortion import cluttered, distorted, draw_jolts, draw_patches, jolted

Share = slice | NDArray[np.int64]
"""Which pictures of a batch."""
WHOLE = slice(None)
"""The share of a process that trains alone."""
UNNAMED = -100
"""Label of what is none of the model's characters: its place is learned, and no more."""
_ROOM = 1.2
"""Side of a glimpse in sides of a digit, as the recipe's 0.34 of 100 pixels is for digits of 28."""
_LEAST_PIXELS = 3.0
"""Characters that are less far apart are marked wrongly."""
_PIXELS_AT_ONCE = 4096 * 100 * 100
"""Synthesised on a GPU about so many at a time: of a batch alone, launching the kernels would take longest."""


@dataclass(frozen=True)
class Pictures:
    """Labelled pictures.

    Attributes:
        images: uint8 (B, H, W).
        labels: int64 (B, T).
        centres: Where the digits are, float (B, T, 2): (x, y) as theta counts them, NaN after the end and in pictures
            of which nobody knows; None where that is all of them.
        zooms: Scale of a glimpse that holds a digit, float (B, 2): across and down, NaN where nobody knows, and nothing
            draws the glimpse; None where it is the configuration's for all.
    """

    images: Tensor
    labels: Tensor
    centres: Tensor | None = None
    zooms: Tensor | None = None

    @property
    def tensors(self) -> dict[str, Tensor]:
        """What there is, by name."""
        return {name: tensor for name, tensor in vars(self).items() if tensor is not None}

    def some(self, chosen: Tensor) -> "Pictures":
        """Return the pictures of the given indices."""
        centres = None if self.centres is None else self.centres[chosen]
        return Pictures(self.images[chosen], self.labels[chosen], centres)


class Batches(Protocol):
    """Anything that can make this process's share of the training batch of a step."""

    def at(self, step: int) -> Pictures:
        """Return the share of the batch of a step, counted from 0 over the whole run."""


class SynthesisedBatches:
    """New pictures at every step, made on the device, of digits bent anew every epoch.

    Args:
        sequences: The supply.
        config: Gives batch, epoch, seed and distortion.
        device: Where the digits are.
        share: Which pictures of each batch to make.
        at_once: Whether a GPU makes many batches at a time; of no use where few of them are asked for.
    """

    def __init__(
        self,
        sequences: Sequences,
        config: TrainConfig,
        device: torch.device,
        share: Share = WHOLE,
        *,
        at_once: bool = True,
    ) -> None:
        self._sequences = sequences
        self._config = config
        self._device = device
        self._share = share
        self._bent: tuple[int, Sequences] = (-1, sequences)
        pixels = config.batch * sequences.height * sequences.width
        self._steps_at_once = math.ceil(_PIXELS_AT_ONCE / pixels) if at_once and device.type != "cpu" else 1
        self._made: dict[int, Pictures] = {}

    def at(self, step: int) -> Pictures:
        """Return the share of the batch of a step."""
        if step not in self._made:
            epoch, since = divmod(step, self._config.steps_per_epoch)
            first = step - since % self._steps_at_once
            last = min(first + self._steps_at_once, (epoch + 1) * self._config.steps_per_epoch)
            self._made = dict(
                zip(range(first, last), self._make(range(first, last), self._of_epoch(epoch)), strict=True)
            )
        return self._made[step]

    def _make(self, steps: range, sequences: Sequences) -> list[Pictures]:
        first, last = steps.start * self._config.batch, steps.stop * self._config.batch
        # NumPy's indexing is the faster one on the CPU
        on_cpu = self._device.type == "cpu"
        indices = np.arange(first, last) if on_cpu else torch.arange(first, last, device=self._device)
        place = sequences.place(indices.reshape(len(steps), -1)[:, self._share].reshape(-1))
        images, labels = render(sequences.mnist, place, sequences.height, sequences.width)
        centres = torch.as_tensor(place.centres(sequences.height, sequences.width)).float()
        tensors = torch.as_tensor(images), torch.as_tensor(labels).long(), centres
        return [
            Pictures(*parts) for parts in zip(*(tensor.tensor_split(len(steps)) for tensor in tensors), strict=True)
        ]

    def _of_epoch(self, epoch: int) -> Sequences:
        config = self._config
        if config.distortion and self._bent[0] != epoch:
            sequences = self._sequences
            digits = distorted(sequences.mnist, config.distortion, config.seed, epoch, sequences.split)
            self._bent = epoch, replace(sequences, mnist=digits)
        return self._bent[1]


class FixedBatches:
    """A fixed set, held on the device: pass after pass, each in an order of its own.

    Args:
        pictures: The set, n pictures.
        config: Gives batch and seed.
        distortion: How far every picture is moved, turned and stretched each time, 0 for not at all.
        clutter: How much clutter is laid over every picture each time, 0 for none.
        share: Which pictures of each batch to return.
    """

    def __init__(
        self,
        pictures: Pictures,
        config: TrainConfig,
        distortion: float = 0.0,
        clutter: float = 0.0,
        share: Share = WHOLE,
    ) -> None:
        self._pictures = pictures
        self._config = config
        self._distortion = distortion
        self._clutter = clutter
        self._share = share
        self._orders: dict[int, Tensor] = {}

    def at(self, step: int) -> Pictures:
        """Return the share of the batch of a step; a batch may end one pass and begin the next."""
        count, first = len(self._pictures.images), step * self._config.batch
        last = first + self._config.batch
        passes = range(first // count, (last - 1) // count + 1)
        orders = {number: self._order(number) for number in passes}
        self._orders = orders
        chosen = torch.cat(
            [orders[number][max(0, first - number * count) : last - number * count] for number in passes]
        )
        pictures = self._pictures.some(chosen[self._share])
        images, centres = pictures.images, pictures.centres
        if self._distortion:
            jolts = draw_jolts(self._config.batch, self._distortion, self._config.seed, step)[self._share]
            images, centres = jolted(images, centres, jolts)
        if self._clutter:
            patches = draw_patches(self._config.batch, self._clutter, self._config.seed, step)[self._share]
            images = cluttered(images, self._pictures.images, patches)
        zooms = None if centres is None else _zooms_by_spacing(centres, (images.shape[1], images.shape[2]))
        if zooms is not None and not self._config.companions:  # nothing else shows how large a glimpse should be
            zooms = torch.where(zooms.isnan(), self._config.zoom, zooms)
        return Pictures(images, pictures.labels, centres, zooms)

    def _order(self, number: int) -> Tensor:
        if number in self._orders:
            return self._orders[number]
        order = np.random.default_rng((self._config.seed, number)).permutation(len(self._pictures.images))
        return torch.from_numpy(order).to(self._pictures.images.device)


def ahead(batches: Batches, steps: range, device: torch.device) -> Iterator[Pictures]:
    """Yield the batches of `steps`, each made in the background while the one before is used.

    On a GPU, work that was only launched is in the background already.
    """
    if device.type != "cpu":
        yield from map(batches.at, steps)
        return
    with ThreadPoolExecutor(1, thread_name_prefix="batches") as background:
        coming = background.submit(batches.at, steps.start)
        for step in steps:
            pictures = coming.result()
            if step + 1 < steps.stop:
                coming = background.submit(batches.at, step + 1)
            yield pictures


def zooms_around(sides: Tensor, size: tuple[int, int]) -> Tensor:
    """Return the scales, float (B, 2), of square glimpses around characters with sides in pixels, float (B,)."""
    return torch.stack([_ROOM * sides / (pixels - 1) for pixels in reversed(size)], -1)


def _zooms_by_spacing(centres: Tensor, size: tuple[int, int]) -> Tensor | None:
    """Return the scales of glimpses by how far characters are apart; None where there is but one.

    Returns:
        float (B, 2): across; down they are NaN, as nobody knows how tall the characters are.
    """
    steps = centres.shape[1]
    if steps == 1:
        return None
    pixels = torch.tensor([size[1] - 1, size[0] - 1], device=centres.device) / 2
    apart = ((centres[:, 1] - centres[:, 0]) * pixels).norm(dim=-1)  # all are as far apart as the first two
    length = (~centres[..., 0].isnan()).sum(1).clamp_min(1)
    zooms = zooms_around(torch.minimum(apart, size[1] / length), size)
    zooms[:, 1] = math.nan
    zooms[apart < _LEAST_PIXELS] = math.nan
    return zooms
