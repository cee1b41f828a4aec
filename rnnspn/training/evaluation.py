"""How good a model is on held-out pictures.

Shapes: n pictures, T steps, H x W pixels.
"""

import datetime
import hashlib
from pathlib import Path

import torch

from rnnspn.config import AUTHORS_2015, SYNTHESIS
from rnnspn.models.networks import Network
from rnnspn.scores import Score
from rnnspn.training.batches import Pictures, held_out_pictures, uses_authors_2015
from rnnspn.training.checkpoint import Checkpoint, log_test_score

BATCH = 250


@torch.no_grad()
def score_network(network: Network, pictures: Pictures) -> Score:
    """Count the errors of a network in evaluation mode.

    Args:
        network: On the pictures' device.
        pictures: uint8 (n, H, W) with labels (n, T).

    Returns:
        The counts per digit, sequence and position.
    """
    read = [network(as_input(images)).logits.argmax(-1) for images in torch.split(pictures.images, BATCH)]
    return Score.of(torch.cat(read).cpu().numpy(), pictures.labels.cpu().numpy())


def score_checkpoint(path: Path, split: str) -> tuple[str, Score]:
    """Count a checkpoint's errors on a held-out split; a look at the test set is logged in the run folder.

    Args:
        path: A run's `model.safetensors`.
        split: `validation` or `test`.

    Returns:
        The name of the data set, and the counts.

    Raises:
        CheckpointError: The checkpoint cannot be read.
        DataError: MNIST is missing.
        OutputError: The look at the test set cannot be logged.
    """
    checkpoint = Checkpoint.load(path)
    config = checkpoint.config
    name = AUTHORS_2015 if uses_authors_2015(config.data, config.model) else SYNTHESIS
    score = score_network(
        checkpoint.network(), held_out_pictures(split, config.data, config.model, torch.device("cpu"))
    )
    if split == "test":
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        log_test_score(path.parent, hashlib.sha256(path.read_bytes()).hexdigest(), name, score, now)
    return name, score


def as_input(images: torch.Tensor) -> torch.Tensor:
    """Turn grey levels, uint8 (n, H, W), into a network's input, float32 (n, 1, H, W) from 0 to 1."""
    return images.unsqueeze(1).float() / 255
