"""How well a larger network that is shown where the digits are can tell them in clutter.

Six convolutions with batch normalisation, of many times the multiplications of the paper's classifier, name digits in
crops of 36 x 36 pixels around their true places. It is a yardstick for a small network that has to find them first,
not a limit: trained for longer, it would make fewer errors.

Run: python benchmarks/ceiling.py [--digits 1300000] [--width 24] [--count 10000]
"""

import argparse
import math
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch
from clutter import with_patches
from machine import describe
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import Tensor, nn
from torch.nn import functional as F

from rnnspn.data.mnist import Mnist, load_mnist
from rnnspn.data.sequences import DIGIT, PATCHES, Sequences, render
from rnnspn.training.distortion import distorted

AROUND = 4
"""Pixels around a digit."""
SIDE = DIGIT + 2 * AROUND
BATCH = 86
"""Pictures, of three digits each."""
PEAK = 2e-3
WARM_UP = 0.05
DISTORTION = 1.2
AVERAGE = 0.999
SEED, OTHER_SEED = 5, 9991


def main() -> None:
    """Train and measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--digits", type=int, default=1_300_000, help="digits to learn from, each seen many times")
    parser.add_argument("--width", type=int, default=24, help="filters of the first two convolutions")
    parser.add_argument("--count", type=int, default=10_000, help="pictures to count errors on")
    options = parser.parse_args()
    mnist = load_mnist()
    network = train(mnist, options.digits, options.width)
    table = Table("digits", f"{PATCHES} patches", "none", title=f"errors per digit, {options.count:,} pictures")
    for split in ("train", "validation"):
        table.add_row(split, *(errors(network, mnist, split, options.count, patches) for patches in (PATCHES, 0)))
    print(describe())
    Console(width=120).print(table)


def make(width: int) -> nn.Module:
    """Return the network: crops, float (n, 1, 36, 36), to logits, float (n, 10)."""
    layers: list[nn.Module] = []
    inputs = 1
    for filters in (width, 2 * width, 4 * width):
        for before in (inputs, filters):
            convolution = nn.Conv2d(before, filters, 3, padding=1, bias=False)
            layers += [convolution, nn.BatchNorm2d(filters), nn.ReLU()]
        layers.append(nn.MaxPool2d(2))
        inputs = filters
    side = SIDE // 2 // 2 // 2
    layers += [nn.Flatten(), nn.Dropout(0.3), nn.Linear(inputs * side * side, 10)]
    return nn.Sequential(*layers).to(memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]


def train(mnist: Mnist, digits: int, width: int) -> nn.Module:
    """Train on new pictures of the training digits, and return the average of the weights."""
    torch.manual_seed(1)
    network, average = make(width), make(width)
    average.load_state_dict(network.state_dict())
    optimiser = torch.optim.AdamW(network.parameters(), lr=PEAK, betas=(0.9, 0.99), weight_decay=0.02)
    steps = digits // (3 * BATCH)
    for step, (crops, labels) in enumerate(track(batches(mnist, steps), total=steps)):
        done = step / steps
        optimiser.param_groups[0]["lr"] = PEAK * min(1, done / WARM_UP + 0.02) * (1 + math.cos(math.pi * done)) / 2
        network.train()
        with torch.autocast("cpu", torch.bfloat16):
            logits = network(crops)
        optimiser.zero_grad()
        F.cross_entropy(logits.float(), labels).backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        share = 1 - min(AVERAGE, (1 + step) / (10 + step))
        with torch.no_grad():
            for kept, new in zip(average.state_dict().values(), network.state_dict().values(), strict=True):
                kept.copy_(torch.lerp(kept, new, share) if kept.is_floating_point() else new)
    return average.eval()


def batches(mnist: Mnist, steps: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield crops, up to a pixel off their digits, of pictures whose digits are bent anew every epoch, and labels."""
    supply, chance = Sequences(mnist, "train", SEED), np.random.default_rng(0)
    per_epoch = 60_000 // BATCH
    for step in range(steps):
        if step % per_epoch == 0:
            bent = replace(supply, mnist=distorted(mnist, DISTORTION, SEED, step // per_epoch))
        place = bent.place(np.arange(step * BATCH, (step + 1) * BATCH))
        pictures, labels = render(bent.mnist, place, supply.height, supply.width)
        x, y = (edge + chance.integers(-1, 2, edge.shape) for edge in (place.digit_x, place.digit_y))
        yield cut(pictures, x, y), torch.from_numpy(labels.reshape(-1).astype(np.int64))


def cut(pictures: np.ndarray, x: np.ndarray, y: np.ndarray) -> Tensor:
    """Return crops, float (n * T, 1, 36, 36), around digits with their left and top edges at x and y, int (n, T)."""
    margin, edge = AROUND + 1, np.arange(SIDE)
    padded = np.pad(pictures, ((0, 0), (margin, margin), (margin, margin)))
    rows, columns = (start[:, :, None] + 1 + edge for start in (y, x))
    crops = padded[np.arange(len(pictures))[:, None, None, None], rows[..., None], columns[:, :, None]]
    levels = torch.from_numpy(crops.reshape(-1, 1, SIDE, SIDE)).float() / 255
    return levels.contiguous(memory_format=torch.channels_last)


@torch.inference_mode()
def errors(network: nn.Module, mnist: Mnist, split: str, count: int, patches: int) -> str:
    """Return the share and number of digits named wrongly, in pictures of which only the first patches are drawn."""
    supply, wrong = Sequences(mnist, split, OTHER_SEED), 0
    for first in range(0, count, BATCH):
        place = supply.place(np.arange(first, min(first + BATCH, count)))
        pictures, labels = render(mnist, with_patches(place, patches), supply.height, supply.width)
        with torch.autocast("cpu", torch.bfloat16):
            named = network(cut(pictures, place.digit_x, place.digit_y)).argmax(-1)
        wrong += int((named.numpy() != labels.reshape(-1)).sum())
    return f"{wrong / (3 * count):.2%} ({wrong:,})"


if __name__ == "__main__":
    main()
