"""How close `rnnspn predict` comes to decoding and inference alone, and how fast it starts.

Writes PNGs of synthesised test pictures into a temporary folder, then times, in turn and several times over: decoding
them alone on one core, inference alone on all; reading them in this process, also decoded in others; and the whole
command.

Run: python benchmarks/prediction.py [--count 10000] [--runs 5] [--model bundled]
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from machine import describe
from PIL import Image

from rnnspn.data.mnist import load_mnist
from rnnspn.data.sequences import Sequences
from rnnspn.inference.predictor import Predictor
from rnnspn.pictures import images

ROOT = Path(__file__).parents[1]
COMMAND = [sys.executable, "-m", "cli.main"]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--model", default="bundled")
    options = parser.parse_args()
    predictor = Predictor.load(options.model, provider="cpu")
    workers = predictor.engine.workers
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        pixels = write_pictures(folder, options.count)
        paths = sorted(map(str, folder.glob("*.png")))
        one = paths[0]
        results = measure(
            options.runs,
            {
                "decoding, one core": lambda: decode_all(paths),
                "inference, all cores": lambda: infer_all(predictor, pixels, workers),
                "predicting, in process": lambda: sum(len(batch) for batch in predictor.stream(paths)),
                "the same, isolated": lambda: sum(len(batch) for batch in predictor.stream(paths, isolated=True)),
                "rnnspn predict FOLDER": lambda: command("predict", name, "--model", options.model, "--format", "text"),
                "rnnspn predict ONE": lambda: command("predict", one, "--model", options.model, "--format", "text"),
                "rnnspn --help": lambda: command("--help"),
            },
        )
    print(describe())
    print(f"{options.count} PNGs of 100x100, {workers} workers, medians of {options.runs}")
    for what, seconds in results.items():
        per_second = f"{options.count / seconds:10,.0f} images/s" if "ONE" not in what and "help" not in what else ""
        print(f"{what:24} {seconds:7.3f} s {per_second}")
    alone = results["decoding, one core"] / workers + results["inference, all cores"]
    for what in ("predicting, in process", "rnnspn predict FOLDER"):
        print(f"{what} / (decoding + inference alone) = {results[what] / alone:.2f}")


def measure(runs: int, actions: dict[str, Callable[[], object]]) -> dict[str, float]:
    """Run every action in turn, once to warm up and `runs` times; return the median seconds of each."""
    seconds: dict[str, list[float]] = {name: [] for name in actions}
    for run in range(runs + 1):
        for name, action in actions.items():
            began = time.perf_counter()
            action()
            if run:
                seconds[name].append(time.perf_counter() - began)
    return {name: statistics.median(values) for name, values in seconds.items()}


def write_pictures(folder: Path, count: int) -> np.ndarray:
    """Write PNGs and return their pixels, uint8 (count, 100, 100)."""
    pixels, _ = Sequences(load_mnist(), "test", seed=1).pictures(np.arange(count))
    for number, picture in enumerate(pixels):
        Image.fromarray(picture).save(folder / f"{number:06}.png")
    return pixels


def decode_all(paths: list[str]) -> None:
    """Decode and fit every picture, on one core: the threads of one interpreter would only get in each other's way."""
    for path in paths:
        images.load(path, 100, 100)


def infer_all(predictor: Predictor, pixels: np.ndarray, workers: int) -> None:
    """Run the model on every picture, on all cores."""
    with ThreadPoolExecutor(workers) as pool:
        for _ in pool.map(predictor.engine.run, split(pixels, predictor.engine.batch)):
            pass


def split(items: np.ndarray, size: int) -> list[np.ndarray]:
    """Cut into parts of `size`."""
    return [items[start : start + size] for start in range(0, len(items), size)]


def command(*arguments: str) -> None:
    """Run the program to its end."""
    caching = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    subprocess.run([*COMMAND, *arguments], cwd=ROOT, check=True, capture_output=True, env=caching)


if __name__ == "__main__":
    main()
