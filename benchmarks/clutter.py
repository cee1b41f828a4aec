"""What clutter costs: new pictures with all their patches, with half of them and with none, and the digits it spoils.

The sheet shows digits that are read right without patches and wrongly with them, each with its label and what was read.

Run: python benchmarks/clutter.py [MODEL] [--count 12000] [--sheet FILE.png]
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from machine import MODEL, describe
from PIL import Image, ImageDraw
from rich.console import Console
from rich.table import Table

from exporters.from_onnx import checkpoint_of
from rnnspn.data.mnist import load_mnist
from rnnspn.data.sequences import DIGIT, PATCHES, Placement, Sequences, render
from rnnspn.models.networks import Network
from rnnspn.training.evaluation import answer

BATCH = 250
SEED = 77  # no run has trained with it
SHOWN, COLUMNS = 84, 14
AROUND, ZOOM, CAPTION = 10, 2, 18
"""Pixels around a digit, how often each is repeated, and the height of the line below."""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path, nargs="?", default=MODEL, help="a checkpoint or an .onnx file")
    parser.add_argument("--count", type=int, default=12_000)
    parser.add_argument("--sheet", type=Path)
    options = parser.parse_args()
    network = checkpoint_of(options.model).network().eval()
    amounts = (PATCHES, PATCHES // 2, 0)
    title = f"{options.model}, {options.count:,} pictures, errors per digit"
    table = Table("digits", *(f"{amount} patches" for amount in amounts), title=title)
    for split in ("train", "validation"):
        wrong, spoilt = measure(network, split, options.count, amounts)
        table.add_row(split, *(f"{error:.2%}" for error in wrong / (options.count * network.config.steps)))
    print(describe())
    Console(width=120).print(table)
    if options.sheet:
        draw(spoilt[:SHOWN], options.sheet)


def measure(
    network: Network, split: str, count: int, amounts: tuple[int, ...]
) -> tuple[np.ndarray, list[tuple[np.ndarray, str]]]:
    """Return the digits read wrongly by number of patches, and crops of those that the patches alone spoil."""
    config = network.config
    supply = Sequences(load_mnist(), split, SEED, steps=config.steps, height=config.height, width=config.width)
    wrong, spoilt = np.zeros(len(amounts), np.int64), []
    for first in range(0, count, BATCH):
        place = supply.place(np.arange(first, min(first + BATCH, count)))
        pictures, labels = render(supply.mnist, place, config.height, config.width)
        read = [read_with(network, supply, place, amount) for amount in amounts]
        wrong += [int((digits != labels).sum()) for digits in read]
        for picture, step in zip(*np.nonzero((read[0] != labels) & (read[-1] == labels)), strict=True):
            padded = np.pad(pictures[picture], AROUND)
            left, top = int(place.digit_x[picture, step]), int(place.digit_y[picture, step])
            side = DIGIT + 2 * AROUND
            crop = padded[top : top + side, left : left + side]
            spoilt.append((crop, f"{labels[picture, step]}, read {read[0][picture, step]}"))
    return wrong, spoilt


@torch.inference_mode()
def read_with(network: Network, supply: Sequences, place: Placement, patches: int) -> np.ndarray:
    """Return what is read, int64 (n, T), in pictures of which only the first patches are drawn."""
    pictures, _ = render(supply.mnist, with_patches(place, patches), supply.height, supply.width)
    return answer(network, torch.from_numpy(pictures)).digits


def with_patches(place: Placement, count: int) -> Placement:
    """Return a placement with the first patches of each picture alone."""
    fewer = {name: getattr(place, name)[:, :count] for name in Placement._fields if name.startswith("patch")}
    return place._replace(**fewer)


def draw(spoilt: list[tuple[np.ndarray, str]], path: Path) -> None:
    """Write the crops as one picture."""
    side = (DIGIT + 2 * AROUND) * ZOOM
    width, height = side + 4, side + CAPTION
    sheet = Image.new("L", (COLUMNS * width, -(-len(spoilt) // COLUMNS) * height), 60)
    pen = ImageDraw.Draw(sheet)
    for index, (crop, caption) in enumerate(spoilt):
        x, y = index % COLUMNS * width, index // COLUMNS * height
        sheet.paste(Image.fromarray(crop).resize((side, side), Image.Resampling.NEAREST), (x, y))
        pen.text((x + 4, y + side + 2), caption, fill=255)
    sheet.save(path)


if __name__ == "__main__":
    main()
