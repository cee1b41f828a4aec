"""Wall time from random weights to a validation error per digit, with `rnnspn train --recipe best`.

Validation counts: it is what a user waits for. Start-up does not.

Run: python benchmarks/time_to_accuracy.py [--target 1.5] [--epochs N] [--batch N] [--seeds 3] [--first-seed 0]
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

from machine import describe

from rnnspn.training import hardware, runs
from rnnspn.training.loop import Trainer
from rnnspn.training.recipes import BEST
from rnnspn.training.tally import Observer


def main() -> None:
    """Train once for each seed and print the times."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--target", type=float, default=1.5, help="validation error per digit, in per cent")
    parser.add_argument("--epochs", type=int, default=None, help="length of the schedule; the recipe's by default")
    parser.add_argument("--batch", type=int, default=BEST.batch, help="pictures a step")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first-seed", type=int, default=0)
    options = parser.parse_args()
    device = hardware.pick_device("auto")
    print(describe(device.type))
    times = []
    for seed in range(options.first_seed, options.first_seed + options.seeds):
        seconds, error, epochs = train(options.target / 100, seed, device, epochs=options.epochs, batch=options.batch)
        reached = "reached" if error <= options.target / 100 else "NOT reached"
        print(f"seed {seed}: {seconds:,.0f} s, {epochs} epochs, {error:.2%}: {reached}", flush=True)
        times.append(seconds if error <= options.target / 100 else float("inf"))
    print(f"median {statistics.median(times):,.0f} s to {options.target:g} %, {options.seeds} seeds")


def train(target: float, seed: int, device: object, **changes: int | None) -> tuple[float, float, int]:
    """Train until the target is reached or the schedule ends; return seconds, best error and epochs."""
    config = runs.new_config("rnn-spn", "best", seed=seed, **changes)
    errors: list[float] = []
    observer = Observer(
        on_epoch=lambda record: errors.append(record["validation_digit_error"]),
        should_stop=lambda: bool(errors) and min(errors) <= target,
    )
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(Path(folder), config, device, observer, checkpoint_seconds=float("inf"))
        began = time.perf_counter()
        trainer.run()
        return time.perf_counter() - began, min(errors), len(errors)


if __name__ == "__main__":
    main()
