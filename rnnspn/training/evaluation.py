"""What a network reads.

Shapes: n pictures, T steps, H x W pixels.
"""

import torch

from rnnspn.models.networks import Network
from rnnspn.models.readout import read_out
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
    outputs = [network(as_input(batch)) for batch in torch.split(images, BATCH)]
    probabilities = torch.cat([output.logits for output in outputs]).softmax(-1)
    digits = read_out(probabilities, network.config.blank)
    chosen = probabilities.gather(-1, digits.unsqueeze(-1)).squeeze(-1)
    looks = [output.theta for output in outputs if output.theta is not None]
    theta = torch.cat(looks).cpu().numpy() if looks else None
    return Answers(digits.cpu().numpy(), chosen.prod(-1).cpu().numpy(), theta)


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
