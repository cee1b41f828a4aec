"""What a network reads.

Shapes: n pictures, T steps, H x W pixels.
"""

import datetime
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from rnnspn.evaluation import Subject
from rnnspn.models.networks import Network
from rnnspn.models.readout import read_out
from rnnspn.scores import Answers, Score
from rnnspn.training.batches import Pictures
from rnnspn.training.checkpoint import Checkpoint, in_run, log_test_score
from rnnspn.training.hardware import keep_freed_memory

BATCH = 250


def trained(path: Path) -> Subject:
    """Put a checkpoint to the test; a look at the test set goes into its run folder.

    Args:
        path: A run's folder or its `model.safetensors`.

    Raises:
        CheckpointError: The checkpoint cannot be read.
    """
    keep_freed_memory()
    path = in_run(path)
    checkpoint = Checkpoint.load(path)
    network = checkpoint.network()

    def log(source: str, score: Score) -> None:
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        log_test_score(path.parent, checkpoint.sha256, source, score, now)

    def read(images: NDArray[np.uint8]) -> Answers:
        return answer(network, torch.from_numpy(images))

    return Subject(str(path), checkpoint.config.model, checkpoint.config.data, read, "pytorch", log)


@torch.no_grad()
def answer(network: Network, images: torch.Tensor) -> Answers:
    """Read pictures with a network in evaluation mode.

    Args:
        network: On the pictures' device.
        images: uint8 (n, H, W).
    """
    outputs = [network(as_input(batch)) for batch in torch.split(images, BATCH)]
    probabilities = torch.cat([output.logits for output in outputs]).softmax(-1)
    digits = read_out(probabilities, network.config.blank)
    chosen = probabilities.gather(-1, digits.unsqueeze(-1)).squeeze(-1)
    looks = [output.theta for output in outputs if output.theta is not None]
    theta = torch.cat(looks).cpu().numpy() if looks else None
    return Answers(digits.cpu().numpy(), chosen.double().prod(-1).cpu().numpy(), theta)


def score_network(network: Network, pictures: Pictures) -> Score:
    """Count the errors of a network in evaluation mode.

    Args:
        network: On the pictures' device.
        pictures: uint8 (n, H, W) with labels (n, T).

    Returns:
        The counts per digit, sequence and position.
    """
    read = answer(network, pictures.images).digits
    return Score.of(read, pictures.labels.cpu().numpy(), network.config.blank)


def as_input(images: torch.Tensor) -> torch.Tensor:
    """Turn grey levels, uint8 (n, H, W), into a network's input, float32 (n, 1, H, W) from 0 to 1."""
    return images.unsqueeze(1).float() / 255
