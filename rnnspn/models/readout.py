"""From the probabilities of every step to a sequence of classes.

Shapes: B pictures, T steps, K classes.
"""

import torch
from torch import Tensor

_LEAST = 1e-30


def read_out(probabilities: Tensor, blank: int | None) -> Tensor:
    """Return the most probable sequence of each picture; where sequences may be shorter, blanks only end it.

    Args:
        probabilities: float (B, T, K).
        blank: The class of what is after the end; None where all sequences have T characters.

    Returns:
        Class indices, int64 (B, T).
    """
    if blank is None:
        return probabilities.argmax(-1)
    length = log_likelihoods(probabilities, blank).argmax(-1, keepdim=True)
    characters = _without(blank, probabilities).argmax(-1)
    steps = torch.arange(probabilities.shape[1], device=probabilities.device)
    return torch.where(steps < length, characters, blank)


def log_likelihoods(probabilities: Tensor, blank: int) -> Tensor:
    """Return how likely the best sequence of each length is.

    Args:
        probabilities: float (B, T, K).
        blank: The class of what is after the end.

    Returns:
        float (B, T + 1), for lengths from 0 to T.
    """
    steps = probabilities.shape[1]
    character = _without(blank, probabilities).amax(-1).clamp_min(_LEAST).log()  # (B, T)
    end = probabilities[..., blank].clamp_min(_LEAST).log()
    inside = torch.ones(steps, steps + 1, dtype=end.dtype, device=end.device).triu(1)  # (t, length): t < length
    return character @ inside + end @ (1 - inside)


def _without(blank: int, probabilities: Tensor) -> Tensor:
    others = torch.ones(probabilities.shape[-1], dtype=probabilities.dtype, device=probabilities.device)
    others[blank] = 0
    return probabilities * others
