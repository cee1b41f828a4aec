"""What a run learns from: the batch of any step, and the pictures it is validated on.

A batch is a pure function of its step, so a resumed run sees exactly what an uninterrupted one would have seen.
A process that trains beside others makes its share of a batch alone.

Shapes: B pictures, T steps, H x W pixels.
"""

import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rnnspn.config import AUTHORS_2015, SYNTHESIS, DataConfig, ModelConfig, TrainConfig
from rnnspn.data.authors_2015 import authors_2015
from rnnspn.data.examples import Examples, fits_authors_2015, held_out, labelled_folder, sequences
from rnnspn.data.mnist import Mnist, load_mnist
from rnnspn.data.sequences import Sequences, render
from rnnspn.errors import ConfigError
from rnnspn.training.companions import canvas_side, draw_views, seen_from_afar
from rnnspn.training.distortion import distorted, draw_jolts, jolted

Share = slice | NDArray[np.int64]
"""Which pictures of a batch."""
WHOLE = slice(None)
"""The share of a process that trains alone."""
UNNAMED = -100
"""Label of what is none of the model's characters: its place is learned, and no more."""
_ROOM = 1.2
"""Side of a glimpse in sides of a digit, as the recipe's 0.34 of 100 pixels is for digits of 28."""


@dataclass(frozen=True)
class Pictures:
    """Labelled pictures.

    Attributes:
        images: uint8 (B, H, W).
        labels: int64 (B, T).
        centres: Where the digits are, float (B, T, 2): (x, y) as theta counts them, NaN in pictures of which nobody
            knows; None where that is all of them.
        zooms: Scale of a glimpse that holds a digit, float (B, 2): across and down, NaN in pictures of which nobody
            knows; None where every picture has the run's own.
    """

    images: Tensor
    labels: Tensor
    centres: Tensor | None = None
    zooms: Tensor | None = None

    def some(self, chosen: Tensor) -> "Pictures":
        """Return the pictures of the given indices."""
        centres, zooms = (None if known is None else known[chosen] for known in (self.centres, self.zooms))
        return Pictures(self.images[chosen], self.labels[chosen], centres, zooms)


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
    """

    def __init__(self, sequences: Sequences, config: TrainConfig, device: torch.device, share: Share = WHOLE) -> None:
        self._sequences = sequences
        self._config = config
        self._device = device
        self._share = share
        self._bent: tuple[int, Sequences] = (-1, sequences)

    def at(self, step: int) -> Pictures:
        """Return the share of the batch of a step."""
        first, last = step * self._config.batch, (step + 1) * self._config.batch
        sequences = self._of_epoch(step // self._config.steps_per_epoch)
        # NumPy's indexing is the faster one on the CPU
        on_cpu = self._device.type == "cpu"
        indices = np.arange(first, last) if on_cpu else torch.arange(first, last, device=self._device)
        place = sequences.place(indices[self._share])
        images, labels = render(sequences.mnist, place, sequences.height, sequences.width)
        centres = torch.as_tensor(place.centres(sequences.height, sequences.width)).float()
        return Pictures(torch.as_tensor(images), torch.as_tensor(labels).long(), centres)

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
        share: Which pictures of each batch to return.
    """

    def __init__(self, pictures: Pictures, config: TrainConfig, distortion: float = 0.0, share: Share = WHOLE) -> None:
        self._pictures = pictures
        self._config = config
        self._distortion = distortion
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
        zooms = None if centres is None else _zooms_by_spacing(centres, (images.shape[1], images.shape[2]))
        return Pictures(images, pictures.labels, centres, zooms)

    def _order(self, number: int) -> Tensor:
        if number in self._orders:
            return self._orders[number]
        order = np.random.default_rng((self._config.seed, number)).permutation(len(self._pictures.images))
        return torch.from_numpy(order).to(self._pictures.images.device)


class CompanionBatches:
    """New lines of digits of every size at every step, without labels; see `rnnspn.training.companions`.

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
        side = canvas_side(model.steps)
        supply = Sequences(mnist, "train", config.seed, steps=model.steps, height=side, width=side)
        self._large = SynthesisedBatches(supply, replace(config, distortion=0.0), device, share)
        self._config = config
        self._share = share
        self._size = model.height, model.width

    def at(self, step: int) -> Pictures:
        """Return the share of the batch of a step."""
        large = self._large.at(step)
        assert large.centres is not None
        views = draw_views(self._config.batch, self._config.seed, step)[self._share]
        images, centres, sides = seen_from_afar(large.images, large.centres, views, self._size)
        return Pictures(images, torch.full_like(large.labels, UNNAMED), centres, _zooms(sides, self._size))


class MixedBatches:
    """Batches that are put together from a batch of one kind and one of another."""

    def __init__(self, first: Batches, second: Batches) -> None:
        self._parts = first, second

    def at(self, step: int) -> Pictures:
        """Return the batch of a step; what only one part knows is unknown in the other."""
        first, second = (part.at(step) for part in self._parts)
        count, steps = first.labels.shape
        unknown = torch.full((count, steps, 2), math.nan, device=first.images.device)
        return Pictures(
            torch.cat([first.images, second.images]),
            torch.cat([first.labels, second.labels]),
            torch.cat([unknown if first.centres is None else first.centres, second.centres]),
            torch.cat([unknown[:, 0] if first.zooms is None else first.zooms, second.zooms]),
        )


def training_batches(
    data: DataConfig, model: ModelConfig, config: TrainConfig, device: torch.device, share: Share = WHOLE
) -> Batches:
    """Return the training batches of a run.

    Args:
        data: Where the pictures come from.
        model: Gives their shape.
        config: How the run trains.
        device: Where the batches are to be.
        share: Which pictures of each batch this process trains on.

    Raises:
        ConfigError: The source does not have the model's shape.
        DataError: MNIST is missing, or a folder's pictures or labels are.
    """
    if data.source not in (SYNTHESIS, AUTHORS_2015):
        own = labelled_folder(Path(data.source), model, "train" if data.validation else None)
        return _with_companions(_on(device, own), model, config, device, share)
    splits = ("train",) if data.validation else ("train", "validation")
    mnist = load_mnist()
    if data.source == SYNTHESIS:
        digits = mnist if device.type == "cpu" else mnist.to(device)
        return SynthesisedBatches(sequences(digits, "+".join(splits), data, model), config, device, share)
    if not fits_authors_2015(model):
        raise ConfigError("authors-2015 has three digits on 100x100 pixels; use --data synthesis for other shapes")
    images, labels = zip(*(authors_2015(mnist, split) for split in splits), strict=True)
    published = Examples(AUTHORS_2015, np.concatenate(images), np.concatenate(labels).astype(np.int64))
    return FixedBatches(_on(device, published), config, share=share)


def _with_companions(
    own: Pictures, model: ModelConfig, config: TrainConfig, device: torch.device, share: Share
) -> Batches:
    """Return batches of one's own pictures, and companions beside them where the configuration says so."""
    if not config.companions:
        return FixedBatches(own, config, config.distortion, share)
    positions = np.arange(config.batch)[share]
    first = config.labelled
    alone = FixedBatches(own, replace(config, batch=first), config.distortion, positions[positions < first])
    others, rest = replace(config, batch=config.batch - first), positions[positions >= first] - first
    mnist = load_mnist()
    digits = mnist if device.type == "cpu" else mnist.to(device)
    return MixedBatches(alone, CompanionBatches(digits, model, others, device, rest))


def held_out_pictures(split: str, data: DataConfig, model: ModelConfig, device: torch.device) -> Pictures:
    """Return the pictures of a held-out split on a device; see `held_out`."""
    return _on(device, held_out(split, data, model))


def ahead(batches: Batches, steps: range) -> Iterator[Pictures]:
    """Yield the batches of `steps`, each made in the background while the one before is used."""
    with ThreadPoolExecutor(1, thread_name_prefix="batches") as background:
        coming = background.submit(batches.at, steps.start)
        for step in steps:
            pictures = coming.result()
            if step + 1 < steps.stop:
                coming = background.submit(batches.at, step + 1)
            yield pictures


def _on(device: torch.device, examples: Examples) -> Pictures:
    images, labels = (torch.as_tensor(array, device=device) for array in (examples.images, examples.labels))
    centres = None if examples.centres is None else torch.as_tensor(examples.centres, device=device)
    return Pictures(images, labels, centres)


def _zooms_by_spacing(centres: Tensor, size: tuple[int, int]) -> Tensor | None:
    """Return the scales of glimpses, float (B, 2), by how far characters are apart; None where there is but one."""
    if centres.shape[1] == 1:
        return None
    pixels = (torch.tensor([size[1] - 1, size[0] - 1], device=centres.device)) / 2
    return _zooms(((centres[:, -1] - centres[:, 0]) * pixels).norm(dim=-1) / (centres.shape[1] - 1), size)


def _zooms(sides: Tensor, size: tuple[int, int]) -> Tensor:
    """Return the scales, float (B, 2), of square glimpses around characters of these sides in pixels, float (B,)."""
    return torch.stack([_ROOM * sides / (size[1] - 1), _ROOM * sides / (size[0] - 1)], -1).clamp_max(1)
