"""The pictures of a run: its curves, and where the current model looks (Figure 3 of the paper)."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from rnnspn.files import replacing
from rnnspn.models.networks import Network
from rnnspn.training.evaluation import as_input

STEP_COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#999999")
"""Okabe and Ito's colour-blind-safe palette, one colour per step."""


def draw_curves(epochs: list[dict[str, Any]], path: Path) -> None:
    """Plot training loss and both error rates over the epochs.

    Args:
        epochs: The lines of metrics.jsonl.
        path: The PNG to write.

    Raises:
        OutputError: The file cannot be written.
    """
    figure = Figure(figsize=(9, 3.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    number = [record["epoch"] + 1 for record in epochs]
    left.plot(number, [record["train_loss"] for record in epochs], color=STEP_COLOURS[0], marker=".")
    left.set(xlabel="epoch", ylabel="training loss (nats a digit)", yscale="log")
    for name, label, colour in (
        ("train_digit_error", "training", STEP_COLOURS[0]),
        ("validation_digit_error", "validation", STEP_COLOURS[1]),
    ):
        right.plot(number, [100 * record[name] for record in epochs], color=colour, marker=".", label=label)
    right.set(xlabel="epoch", ylabel="digits read wrongly (%)", yscale="log")
    right.legend(frameon=False)
    for axes in (left, right):
        axes.grid(which="both", alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    _save(figure, path)


@torch.no_grad()
def draw_attention(network: Network, images: Tensor, path: Path) -> None:
    """Draw pictures, the quadrilaterals attended at each step, and the glimpses.

    Args:
        network: In evaluation mode, on the pictures' device.
        images: uint8 (n, H, W).
        path: The PNG to write.

    Raises:
        OutputError: The file cannot be written.

    Source: Figure 3 of the paper.
    """
    config = network.config
    crops, theta = network.look(as_input(images))
    count = max(1, config.glimpses)
    glimpses = crops.reshape(len(images), count, *config.glimpse_size).float().cpu().numpy()
    read = network(as_input(images)).logits.argmax(-1).tolist()
    figure = Figure(figsize=(2 * (2 + count), 2.1 * len(images)), layout="constrained")
    rows = figure.subplots(len(images), 2 + count, squeeze=False)
    for row, axes in enumerate(rows):
        picture = images[row].cpu().numpy()
        for panel, content in zip(axes, [picture, picture, *glimpses[row]], strict=True):
            panel.imshow(content, cmap="gray")
            panel.set_axis_off()
        axes[0].set_title("read " + "".join(config.alphabet[digit] for digit in read[row]), fontsize=10)
        if theta is not None:
            for step, matrix in enumerate(theta[row].cpu().numpy()):
                _draw_quadrilateral(axes[1], matrix, config.width, config.height, STEP_COLOURS[step])
                axes[2 + step].set_title(f"glimpse {step + 1}", fontsize=10, color=STEP_COLOURS[step])
    _save(figure, path)


def _draw_quadrilateral(axes: Axes, matrix: Any, width: int, height: int, colour: str) -> None:
    corners = np.array([[-1, -1, 1], [1, -1, 1], [1, 1, 1], [-1, 1, 1], [-1, -1, 1]])
    x, y = (corners @ matrix.T + 1).T / 2 * [[width - 1], [height - 1]]
    axes.plot(x, y, color=colour, linewidth=1.5)
    axes.set(xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5))


def _save(figure: Figure, path: Path) -> None:
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=110)
