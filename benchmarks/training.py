"""Images/s of `rnnspn train --recipe best` on this machine: whole steps, pictures synthesised on the way.

Run: python benchmarks/training.py [--steps 60] [--downsample 3]
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

from machine import describe

from rnnspn.training import hardware, runs
from rnnspn.training.batches import ahead
from rnnspn.training.loop import Trainer
from rnnspn.training.sources import training_batches

WARM_UP = 5


def main() -> None:
    """Time single steps and print the median speed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--downsample", type=int, default=3)
    options = parser.parse_args()
    speed = images_per_second(options.downsample, options.steps)
    print(describe(hardware.pick_device("auto").type))
    print(f"rnn-spn d={options.downsample}, recipe best: {speed:,.0f} images/s (median of {options.steps} steps)")


def images_per_second(downsample: int, steps: int = 60) -> float:
    """Return the median speed of whole steps."""
    config = runs.new_config("rnn-spn", "best", downsample=downsample)
    device = hardware.pick_device("auto")
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(Path(folder), config, device)
        batches = training_batches(config.data, config.model, config.train, device)
        durations, began = [], time.perf_counter()
        for pictures in ahead(batches, range(WARM_UP + steps)):
            trainer.take_step(pictures).tolist()
            trainer.tally.step += 1
            now = time.perf_counter()
            durations.append(now - began)
            began = now
    return config.train.batch / statistics.median(durations[WARM_UP:])


if __name__ == "__main__":
    main()
