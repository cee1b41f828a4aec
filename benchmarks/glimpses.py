"""Where a model's errors come from: the place of its glimpses, what it makes of one, or handwriting it has not seen.

Reads new pictures of the training and of the validation digits as they are; with every glimpse put exactly on its
digit; and with the answers of five glimpses, next to each other, averaged. The side of a glimpse, in pixels of the
picture, is the root of its area: how far the network has zoomed in.

Run: python benchmarks/glimpses.py [MODEL] [--count 20000]
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from machine import MODEL, describe
from rich.console import Console
from rich.table import Table
from torch import Tensor

from exporters.from_onnx import checkpoint_of
from rnnspn.data.mnist import load_mnist
from rnnspn.data.sequences import Sequences, render
from rnnspn.models.networks import Network
from rnnspn.models.spatial_transformer import sample_glimpses
from rnnspn.training.evaluation import as_input

BATCH = 500
SEED = 9991  # no run has trained with it
STEP_PIXELS = 1.2
NEIGHBOURS = ((0, 0), (1, 0), (-1, 0), (0, 1), (0, -1))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path, nargs="?", default=MODEL, help="an rnn-spn")
    parser.add_argument("--count", type=int, default=20_000)
    options = parser.parse_args()
    network = checkpoint_of(options.model).network().eval()
    columns = (
        "digits",
        "as it is",
        "on the digits",
        "five averaged",
        "scatter x, pixels",
        "scatter y, pixels",
        "side, pixels",
    )
    table = Table(*columns, title=f"{options.model}, {options.count:,} pictures, errors per digit")
    for split in ("train", "validation"):
        table.add_row(split, *measure(network, split, options.count))
    print(describe())
    Console(width=120).print(table)


@torch.inference_mode()
def measure(network: Network, split: str, count: int) -> list[str]:
    """Return the three errors and, by step, how far glimpses scatter around their digits and how large they are."""
    config, mnist = network.config, load_mnist()
    supply = Sequences(mnist, split, SEED, steps=config.steps, height=config.height, width=config.width)
    wrong, distances, sides = torch.zeros(3), [], []
    pixels = torch.tensor([config.width, config.height]) - 1
    for first in range(0, count, BATCH):
        place = supply.place(np.arange(first, min(first + BATCH, count)))
        pictures, labels = (torch.from_numpy(array) for array in render(mnist, place, config.height, config.width))
        centres = torch.from_numpy(place.centres(config.height, config.width)).float()
        images = as_input(pictures)
        theta = network.localisation(images)
        around = [
            probabilities(network, images, moved(theta, theta[..., 2] + torch.tensor(offset) * STEP_PIXELS / 50))
            for offset in NEIGHBOURS
        ]
        on_the_digits = probabilities(network, images, moved(theta, centres))
        for index, answer in enumerate((around[0], on_the_digits, torch.stack(around).mean(0))):
            wrong[index] += (answer.argmax(-1) != labels).sum()
        distances.append((theta[..., 2] - centres) * pixels / 2)
        sides.append((torch.linalg.det(theta[..., :2]).abs() * pixels.prod()).sqrt())
    scatter = torch.cat(distances).std(0)  # (T, 2)
    errors = [f"{error:.2%}" for error in (wrong / (count * config.steps)).tolist()]
    columns = (scatter[:, 0], scatter[:, 1], torch.cat(sides).median(0).values)
    return errors + [", ".join(f"{pixels:.1f}" for pixels in column.tolist()) for column in columns]


def moved(theta: Tensor, centres: Tensor) -> Tensor:
    """Return the matrices with their glimpses moved to other centres."""
    return torch.cat([theta[..., :2], centres.unsqueeze(-1)], dim=-1)


def probabilities(network: Network, images: Tensor, theta: Tensor) -> Tensor:
    """Return what the classifier makes of glimpses."""
    glimpses = sample_glimpses(images, theta, network.grid, network.config.glimpse_size)
    return network.classifier(glimpses).reshape(len(images), network.config.steps, -1).softmax(-1)


if __name__ == "__main__":
    main()
