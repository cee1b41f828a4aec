"""How large, how fast and how often wrong trained networks of several sizes are, each exported through its gates.

One core: sessions of one thread, in turn, batches of 32, medians. All cores: as `rnnspn predict` runs the file. The
errors are those that the run folders hold; `rnnspn evaluate RUN --split test` logs a look at the test set.

Run: python benchmarks/sizes.py RUN... [--rounds 9]
"""

import argparse
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from machine import describe
from rewrites import measure
from rich.console import Console
from rich.table import Table

from exporters.precision import store_weights
from exporters.to_onnx import export
from rnnspn.data.mnist import load_mnist
from rnnspn.data.sequences import Sequences
from rnnspn.inference import model_file, timing
from rnnspn.inference.providers import open_session
from rnnspn.inference.session import open_engine
from rnnspn.models.networks import parameter_count
from rnnspn.training.checkpoint import Checkpoint, in_run

BATCH = 32
SECONDS = 3.0


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", type=Path, nargs="+", help="run folders")
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args()
    pictures = Sequences(load_mnist(), "test", seed=1).pictures(np.arange(256))[0]
    with tempfile.TemporaryDirectory() as folder:
        models = {run: model_file.load(make(run, Path(folder))) for run in options.runs}
    sessions = {str(run): open_session(model.content, "cpu", run) for run, model in models.items()}
    seconds = measure(sessions, pictures[:BATCH], options.rounds)
    table = Table("run", "weights", "float32", "int8", "validation", "test", "one core", "all cores")
    for run, model in models.items():
        engine = open_engine(model, "cpu")
        together = timing.measure(engine, pictures, engine.batch, decode=False, seconds=SECONDS)
        about = model.metadata
        table.add_row(
            run.name,
            f"{parameter_count(Checkpoint.load(in_run(run)).network()):,}",
            f"{len(model.content) / 1e6:.2f} MB",
            f"{int8_size(model.content) / 1e6:.2f} MB",
            error(about.training.get("validation")),
            error(about.test_error),
            f"{BATCH / seconds[str(run)]:,.0f}",
            f"{together.images_per_second:,.0f}",
        )
    print(f"{describe()}; onnxruntime {onnxruntime.__version__}; errors per digit, speeds in images/s")
    Console(width=120).print(table)


def make(run: Path, folder: Path) -> Path:
    """Export a run."""
    target = folder / f"{run.name}.onnx"
    export(in_run(run), target)
    return target


def int8_size(content: bytes) -> int:
    """Return the size of the file with weights of eight bits, in bytes."""
    return int(store_weights(onnx.load_from_string(content), "int8").ByteSize())


def error(score: dict[str, Any] | None) -> str:
    """Return an error per digit with its interval."""
    if score is None:
        return "-"
    low, high = score["digit_error_interval"]
    return f"{score['digit_error']:.2%} ({low:.2%} to {high:.2%})"


if __name__ == "__main__":
    main()
