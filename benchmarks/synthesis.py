"""Pictures/s of the synthesis on one CPU core, and the time it takes to make the authors' published data set again.

Times are CPU times of one thread, so what else the machine does disturbs them little.

Run: python benchmarks/synthesis.py [--pictures 16384]
"""

import argparse
import time

import numpy as np
from machine import describe
from rich.console import Console
from rich.table import Table

from rnnspn.config import LAYOUTS
from rnnspn.data.authors_2015 import SIZES, authors_2015
from rnnspn.data.mnist import Mnist, load_mnist
from rnnspn.data.sequences import Sequences

BATCHES = (8, 32, 128, 512, 2048)
ROUNDS = 5


def pictures_per_second(mnist: Mnist, layout: str, batch: int, pictures: int) -> float:
    """Return the best of a few rounds."""
    supply = Sequences(mnist, "train", layout=layout)
    count = max(1, pictures // batch)
    durations = []
    for _ in range(ROUNDS):
        began = time.process_time()
        for first in range(0, count * batch, batch):
            supply.pictures(np.arange(first, first + batch))
        durations.append(time.process_time() - began)
    return count * batch / min(durations)


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pictures", type=int, default=16_384, help="pictures a round")
    options = parser.parse_args()
    machine = describe()
    mnist = load_mnist()
    console = Console(highlight=False)
    console.print(f"{machine}; NumPy {np.__version__}; one core, best of {ROUNDS} rounds", soft_wrap=True)

    speeds = Table("batch", *(f"layout {layout}" for layout in LAYOUTS), title="synthesis, pictures/s")
    for batch in BATCHES:
        rates = (pictures_per_second(mnist, layout, batch, options.pictures) for layout in LAYOUTS)
        speeds.add_row(str(batch), *(f"{rate:,.0f}" for rate in rates))
    console.print(speeds)

    durations = Table("split", "pictures", "seconds", title="authors-2015")
    for split, size in SIZES.items():
        began = time.process_time()
        authors_2015(mnist, split)
        durations.add_row(split, f"{size:,}", f"{time.process_time() - began:.1f}")
    console.print(durations)


if __name__ == "__main__":
    main()
