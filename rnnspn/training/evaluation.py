"""What a network reads.

Shapes: n pictures, T steps, H x W pixels.
"""

import torch

from rnnspn.models.networks import Network
from rnnspn.scores import Answers, Score
from rnnspn.training.batches import Pictures

BATCH = 250


@torch.no_grad()
def answer(network: Network, images: torch.Tensor) -> Answers:
    """Read pictures with a network in evaluation mode.

    Args:
        network: On the pictures' device.
        images: uint8 (n, H, W).
    """
    batches = [network(as_input(batch)).logits.softmax(-1).max(-1) for batch in torch.split(images, BATCH)]
    digits = torch.cat([batch.indices for batch in batches])
    confidence = torch.cat([batch.values.prod(-1) for batch in batches])
    return Answers(digits.cpu().numpy(), confidence.cpu().numpy())


def score_network(network: Network, pictures: Pictures) -> Score:
    """Count the errors of a network in evaluation mode.

    Args:
        network: On the pictures' device.
        pictures: uint8 (n, H, W) with labels (n, T).

    Returns:
        The counts per digit, sequence and position.
    """
    return Score.of(answer(network, pictures.images).digits, pictures.labels.cpu().numpy())


def as_input(images: torch.Tensor) -> torch.Tensor:
    """Turn grey levels, uint8 (n, H, W), into a network's input, float32 (n, 1, H, W) from 0 to 1."""
    return images.unsqueeze(1).float() / 255
