"""What a run learns from: the batch of any step, and the pictures it is validated on.

A batch is a pure function of its step, so a resumed run sees exactly what an uninterrupted one would have seen.
A process that trains beside others makes its share of a batch alone.

Shapes: B pictures, T steps, H x W pixels.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from rnnspn.config import AUTHORS_2015, SYNTHESIS, DataConfig, ModelConfig, TrainConfig
from rnnspn.data.authors_2015 import authors_2015
from rnnspn.data.examples import Examples, fits_authors_2015, held_out, labelled_folder, sequences
from rnnspn.data.mnist import load_mnist
from rnnspn.data.sequences import Sequences, render
from rnnspn.errors import ConfigError
from rnnspn.training.distortion import distorted, draw_jolts, jolted

WHOLE = slice(None)
"""The share of a process that trains alone."""


@dataclass(frozen=True)
class Pictures:
    """Labelled pictures.

    Attributes:
        images: uint8 (B, H, W).
        labels: int64 (B, T).
        centres: Where the digits are, float (B, T, 2): (x, y) as theta counts them, NaN in pictures of which nobody
            knows; None where that is all of them.
    """

    images: Tensor
    labels: Tensor
    centres: Tensor | None = None

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
    """

    def __init__(self, sequences: Sequences, config: TrainConfig, device: torch.device, share: slice = WHOLE) -> None:
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

    def __init__(self, pictures: Pictures, config: TrainConfig, distortion: float = 0.0, share: slice = WHOLE) -> None:
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
        if not self._distortion:
            return pictures
        jolts = draw_jolts(self._config.batch, self._distortion, self._config.seed, step)[self._share]
        images, centres = jolted(pictures.images, pictures.centres, jolts)
        return Pictures(images, pictures.labels, centres)

    def _order(self, number: int) -> Tensor:
        if number in self._orders:
            return self._orders[number]
        order = np.random.default_rng((self._config.seed, number)).permutation(len(self._pictures.images))
        return torch.from_numpy(order).to(self._pictures.images.device)


def training_batches(
    data: DataConfig, model: ModelConfig, config: TrainConfig, device: torch.device, share: slice = WHOLE
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
        return FixedBatches(_on(device, own), config, config.distortion, share)
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
