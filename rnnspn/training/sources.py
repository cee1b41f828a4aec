"""What a run learns from, and what it is validated on: synthesis, the authors' pictures or a folder of one's own."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from rnnspn.config import AUTHORS_2015, SYNTHESIS, DataConfig, ModelConfig, TrainConfig
from rnnspn.data.authors_2015 import authors_2015
from rnnspn.data.examples import Examples
from rnnspn.data.held_out import fits_authors_2015, held_out, sequences
from rnnspn.data.labelled_folder import labelled_folder
from rnnspn.data.mnist import load_mnist
from rnnspn.errors import ConfigError, DataError
from rnnspn.training.batches import WHOLE, Batches, FixedBatches, Pictures, Share, SynthesisedBatches
from rnnspn.training.companions import CompanionBatches, MixedBatches


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
    if data.is_own:
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
    first = config.labelled_per_batch
    # a patch may hold a character, and then nobody could say where a line of any length ends
    clutter = config.distortion if model.blank is None else 0.0
    if first == config.batch:
        return FixedBatches(own, config, config.distortion, clutter, share)
    try:
        mnist = load_mnist()
    except DataError as error:
        raise DataError(f"{error}, or learn without companions: --set companions=0") from None
    digits = mnist if device.type == "cpu" else mnist.to(device)
    positions = np.arange(config.batch)[share]
    labelled = replace(config, batch=first)
    alone = FixedBatches(own, labelled, config.distortion, clutter, positions[positions < first])
    others = replace(config, batch=config.batch - first)
    return MixedBatches(alone, CompanionBatches(digits, model, others, device, positions[positions >= first] - first))


def held_out_pictures(split: str, data: DataConfig, model: ModelConfig, device: torch.device) -> Pictures:
    """Return the pictures of a held-out split on a device; see `held_out`."""
    return _on(device, held_out(split, data, model))


def _on(device: torch.device, examples: Examples) -> Pictures:
    images, labels = (torch.as_tensor(array, device=device) for array in (examples.images, examples.labels))
    centres = None if examples.centres is None else torch.as_tensor(examples.centres, device=device)
    return Pictures(images, labels, centres)
