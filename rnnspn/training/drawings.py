"""The two drawings of a run: its curves, and where its network looks."""

import math
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rnnspn.alphabet import spelled
from rnnspn.figures import draw_attention, draw_curves
from rnnspn.models.networks import Network
from rnnspn.training.checkpoint import ATTENTION_FILE, CURVES_FILE
from rnnspn.training.evaluation import answer, as_input

_SECONDS = 30.0
"""Least time between two drawings, which take a second: on a GPU, an epoch takes hardly longer."""


class Drawings:
    """Draws into a run folder.

    Args:
        folder: The run folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._drawn = -math.inf

    @property
    def due(self) -> bool:
        """Whether the last ones are old enough."""
        return time.monotonic() - self._drawn >= _SECONDS

    def draw(self, network: Network, images: Tensor, epochs: list[dict[str, Any]]) -> None:
        """Draw both.

        Args:
            network: Of the weights of the moment.
            images: uint8 (n, H, W), what it looks at.
            epochs: The records of the run's epochs.

        Raises:
            OutputError: The run folder cannot be written.
        """
        draw_curves(epochs, self.folder / CURVES_FILE)
        self._draw_attention(network, images)
        self._drawn = time.monotonic()

    @torch.no_grad()
    def _draw_attention(self, network: Network, images: Tensor) -> None:
        model = network.config
        crops, theta = network.look(as_input(images))
        read = [spelled(digits, model.alphabet) for digits in answer(network, images).digits.tolist()]
        draw_attention(
            images.cpu().numpy(),
            crops.reshape(len(images), -1, *model.glimpse_size).cpu().numpy(),
            None if theta is None else theta.cpu().numpy(),
            read,
            self.folder / ATTENTION_FILE,
        )
