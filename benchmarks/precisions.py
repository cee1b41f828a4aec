"""How large, how right and how fast a network's file is in each precision, on each provider.

Every file passes the gates of `rnnspn export`, which count the sequences read right; the files take turns, medians.

Run: python benchmarks/precisions.py [CHECKPOINT] [--rounds 5]
"""

import argparse
import statistics
import tempfile
from pathlib import Path
from typing import get_args

import numpy as np
from machine import MODEL, describe
from rich.console import Console
from rich.table import Table

from exporters.from_onnx import checkpoint_of
from exporters.precision import Precision
from exporters.to_onnx import STORED_WEIGHTS, ExportConfig, export
from rnnspn.data.mnist import load_mnist
from rnnspn.data.sequences import Sequences
from rnnspn.errors import ProviderError
from rnnspn.inference import model_file, timing
from rnnspn.inference.session import Engine, open_engine

PROVIDERS = ("cpu", "openvino", "cuda")
SECONDS = 2.0
SIDE = 100
"""Of a picture, in pixels."""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoint", type=Path, nargs="?", default=MODEL)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    pictures = Sequences(load_mnist(), "test", seed=1).pictures(np.arange(512))[0]
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "model.safetensors"
        checkpoint_of(options.checkpoint).save(source)
        files = {precision: Path(folder) / f"{precision}.onnx" for precision in get_args(Precision)}
        for precision, path in files.items():
            export(source, path, ExportConfig(precision=precision))
        models = {precision: model_file.load(path) for precision, path in files.items()}
    engines = {provider: found for provider in PROVIDERS if (found := open_all(models, provider))}
    speeds = {provider: measure(found, pictures, options.rounds) for provider, found in engines.items()}
    table = Table("", "size", "sequences right", "centres off, pixels", *(f"{name}, images/s" for name in speeds))
    exact = engines["cpu"]["fp32"].run(pictures).theta
    counted = models["int8"].metadata.parity[STORED_WEIGHTS]
    for precision, model in models.items():
        right = model.metadata.parity.get(STORED_WEIGHTS, {"reduced": counted["full"]})["reduced"]
        found = (f"{speed[precision]:,.0f}" for speed in speeds.values())
        off = strayed(engines["cpu"][precision].run(pictures).theta, exact)
        table.add_row(precision, f"{len(model.content) / 1e6:.2f} MB", f"{right:.2%}", off, *found)
    print(f"{describe()}; {counted['sequences']:,} sequences; medians of {options.rounds} rounds")
    Console(width=120).print(table)


def strayed(theta: np.ndarray, exact: np.ndarray) -> str:
    """Return how far the centres of glimpses, are from others, along an axis: the median, and 99 of 100."""
    away = np.abs(theta - exact)[..., 2] * (SIDE - 1) / 2
    return ", ".join(f"{pixels:.2f}" for pixels in np.quantile(away, (0.5, 0.99)))


def open_all(models: dict[str, model_file.ModelFile], provider: str) -> dict[str, Engine]:
    """Open every file on a provider; none where it does not run."""
    try:
        return {precision: open_engine(model, provider) for precision, model in models.items()}
    except ProviderError:
        return {}


def measure(engines: dict[str, Engine], pictures: np.ndarray, rounds: int) -> dict[str, float]:
    """Run every engine in turn; return the median images/s of each."""
    found: dict[str, list[float]] = {precision: [] for precision in engines}
    for _ in range(rounds):
        for precision, engine in engines.items():
            timed = timing.measure(engine, pictures, engine.batch, decode=False, seconds=SECONDS)
            found[precision].append(timed.images_per_second)
    return {precision: statistics.median(values) for precision, values in found.items()}


if __name__ == "__main__":
    main()
