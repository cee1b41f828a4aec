"""How large, how right and how fast a network's file is in each precision, on each provider that runs here.

Every file passes the gates of `rnnspn export`; then it reads their test sequences on each provider. For speed the files
take turns; medians.

Run: python benchmarks/precisions.py [CHECKPOINT] [--rounds 5]
"""

import argparse
import statistics
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import get_args

import numpy as np
from machine import MODEL, describe
from peers import available
from rich.console import Console
from rich.table import Table

from exporters.from_onnx import checkpoint_of
from exporters.precision import Precision, judging_pictures
from exporters.to_onnx import ExportConfig, export
from rnnspn.errors import ProviderError
from rnnspn.inference import model_file, timing
from rnnspn.inference.providers import PROVIDERS
from rnnspn.inference.session import Engine, Outputs, open_engine

SECONDS = 2.0
SIDE = 100
"""Of a picture, in pixels."""
BATCH = 256
"""Of the pictures that are read to count."""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoint", type=Path, nargs="?", default=MODEL)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    checkpoint = checkpoint_of(options.checkpoint)
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "model.safetensors"
        checkpoint.save(source)
        files = {precision: Path(folder) / f"{precision}.onnx" for precision in get_args(Precision)}
        for precision, path in files.items():
            export(source, path, ExportConfig(precision=precision, bfloat16=available("rnnspn-openvino-bfloat16")))
        models = {precision: model_file.load(path) for precision, path in files.items()}
    engines = open_all(models)
    examples = judging_pictures(checkpoint.config)
    speeds = measure(engines, examples.images[:512], options.rounds)
    table = Table("", "size", "provider", "sequences right", "centres off, pixels", "images/s")
    exact = read(engines["fp32", "cpu"], examples.images)
    for (precision, provider), engine in engines.items():
        outputs = read(engine, examples.images)
        right = (outputs.digits == examples.labels).all(axis=1).mean()
        size, speed = len(models[precision].content) / 1e6, speeds[precision, provider]
        off = strayed(outputs, exact)
        table.add_row(precision, f"{size:.2f} MB", provider, f"{right:.2%}", off, f"{speed:,.0f}")
    print(f"{describe()}; {len(examples.labels):,} sequences; medians of {options.rounds} rounds")
    Console(width=120).print(table)


def open_all(models: dict[str, model_file.ModelFile]) -> dict[tuple[str, str], Engine]:
    """Open every file on every provider that runs it here."""
    engines = {}
    for precision, model in models.items():
        for provider in PROVIDERS:
            with suppress(ProviderError):
                engines[precision, provider] = open_engine(model, provider)
    return engines


def read(engine: Engine, pictures: np.ndarray) -> Outputs:
    """Run all pictures."""
    return Outputs.joined([engine.run(pictures[start : start + BATCH]) for start in range(0, len(pictures), BATCH)])


def strayed(outputs: Outputs, exact: Outputs) -> str:
    """Return how far the centres of glimpses are from the exact ones, along an axis: the median, and 99 of 100."""
    if outputs.theta is None:  # the family conv has no glimpses
        return ""
    away = np.abs(outputs.theta - exact.theta)[..., 2] * (SIDE - 1) / 2
    return ", ".join(f"{pixels:.2f}" for pixels in np.quantile(away, (0.5, 0.99)))


def measure(engines: dict[tuple[str, str], Engine], pictures: np.ndarray, rounds: int) -> dict[tuple[str, str], float]:
    """Run every engine in turn; return the median images/s of each."""
    found: dict[tuple[str, str], list[float]] = {pair: [] for pair in engines}
    for _ in range(rounds):
        for pair, engine in engines.items():
            timed = timing.measure(engine, pictures, engine.batch, decode=False, seconds=SECONDS)
            found[pair].append(timed.images_per_second)
    return {pair: statistics.median(values) for pair, values in found.items()}


if __name__ == "__main__":
    main()
