"""Wall time from random weights to a validation error per digit, with `rnnspn train --recipe best`.

Validation counts: it is what a user waits for. Start-up does not.

Run: python benchmarks/time_to_accuracy.py [--target 1.5] [--epochs N] [--batch N] [--seeds 3] [--first-seed 0],
or with a process for each core: OMP_NUM_THREADS=1 torchrun --nproc-per-node=2 benchmarks/time_to_accuracy.py ...
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

from machine import describe

from rnnspn.training import hardware, runs
from rnnspn.training.checkpoint import RunConfig
from rnnspn.training.loop import Trainer
from rnnspn.training.processes import Processes
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
    processes = Processes.join(device)
    if processes.writes:
        print(describe(device.type), flush=True)
    times = []
    for seed in range(options.first_seed, options.first_seed + options.seeds):
        config = runs.new_config("rnn-spn", "best", seed=seed, epochs=options.epochs, batch=options.batch)
        epochs = train(config, options.target / 100, device, processes)
        if processes.writes:
            seconds, error = min(epochs, key=lambda epoch: epoch[1])
            reached = error <= options.target / 100
            print(
                f"seed {seed}: {seconds:,.0f} s, {len(epochs)} epochs, {error:.2%}: {'' if reached else 'NOT '}reached",
                flush=True,
            )
            times.append(seconds if reached else float("inf"))
    if processes.writes:
        print(f"median {statistics.median(times):,.0f} s to {options.target:g} %, {options.seeds} seeds")


def train(config: RunConfig, target: float, device: object, processes: Processes) -> list[tuple[float, float]]:
    """Train until the target is reached or the schedule ends; return seconds and error of each epoch.

    Of several processes, the first one's list is filled.
    """
    epochs: list[tuple[float, float]] = []
    began = time.perf_counter()
    observer = Observer(
        on_epoch=lambda record: epochs.append((time.perf_counter() - began, record["validation_digit_error"])),
        should_stop=lambda: any(error <= target for _, error in epochs),
    )
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(Path(folder), config, device, observer, float("inf"), processes)
        began = time.perf_counter()
        trainer.run()
    return epochs


if __name__ == "__main__":
    main()
