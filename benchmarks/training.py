"""Images/s of `rnnspn train` on this machine: whole steps, pictures synthesised on the way.

Run: python benchmarks/training.py [--family rnn-spn] [--downsample 3] [--recipe best] [--steps 60] [--set batch=256]
"""

import argparse
import statistics
import time

from machine import describe

from rnnspn.config import FAMILIES
from rnnspn.training import hardware, runs
from rnnspn.training.batches import ahead
from rnnspn.training.checkpoint import RunConfig
from rnnspn.training.learner import Learner
from rnnspn.training.processes import Processes
from rnnspn.training.recipes import RECIPES
from rnnspn.training.sources import training_batches

WARM_UP = 5
STEPS_AT_ONCE = 20
"""A GPU is waited for after so many steps, as in training."""


def main() -> None:
    """Time steps and print the median speed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--family", choices=FAMILIES, default="rnn-spn")
    parser.add_argument("--downsample", type=int, default=3)
    parser.add_argument("--recipe", choices=RECIPES, default="best")
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--set", action="append", default=[], help="as of rnnspn train")
    options = parser.parse_args()
    downsample = None if options.family == "conv" else options.downsample
    config = runs.new_config(options.family, options.recipe, downsample=downsample, **runs.parse_settings(options.set))
    speed = images_per_second(config, options.steps)
    print(describe(hardware.pick_device("auto").type))
    print(f"{options.family} d={downsample}, recipe {options.recipe}: {speed:,.0f} images/s")


def images_per_second(config: RunConfig, steps: int = 60, *, record: bool = True) -> float:
    """Return the median speed of whole steps.

    Args:
        config: The run.
        steps: How many are timed; on a GPU, groups of steps.
        record: On a GPU, whether the step is recorded as a CUDA graph.
    """
    device = hardware.pick_device("auto")
    at_once = 1 if device.type == "cpu" else STEPS_AT_ONCE
    learner = Learner(config, device, Processes(), record=record)
    batches = training_batches(config.data, config.model, config.train, device)
    durations, began = [], time.perf_counter()
    for step, pictures in enumerate(ahead(batches, range((WARM_UP + steps) * at_once), device)):
        counts = learner.take_step(step, pictures)
        if (step + 1) % at_once == 0:
            counts.tolist()  # waits for the device
            now = time.perf_counter()
            durations.append(now - began)
            began = now
    return at_once * config.train.batch / statistics.median(durations[WARM_UP:])


if __name__ == "__main__":
    main()
