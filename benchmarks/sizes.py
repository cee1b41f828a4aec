"""How large, how fast and how often wrong trained networks of several sizes are, in float32 and in 8 bits.

One core: sessions of one thread, in turn, batches of 16, medians. All cores: as `rnnspn predict` runs the file. The
sequences are the accuracy gate's, the errors those that the run folders hold; `rnnspn evaluate RUN --split test` logs a
look at the test set.

Run: python benchmarks/sizes.py RUN... [--rounds 9]
"""

import argparse
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from machine import describe
from rewrites import measure
from rich.console import Console
from rich.table import Table

from exporters.precision import Precision
from exporters.to_onnx import STORED_WEIGHTS, ExportConfig, export
from rnnspn.data.mnist import load_mnist
from rnnspn.data.sequences import Sequences
from rnnspn.inference import model_file, timing
from rnnspn.inference.providers import open_session
from rnnspn.inference.session import open_engine
from rnnspn.models.networks import parameter_count
from rnnspn.training.checkpoint import Checkpoint, in_run

PRECISIONS: tuple[Precision, ...] = ("fp32", "int8", "w8a8")
BATCH = 16
SECONDS = 3.0


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", type=Path, nargs="+", help="run folders")
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args()
    pictures = Sequences(load_mnist(), "test", seed=1).pictures(np.arange(256))[0]
    with tempfile.TemporaryDirectory() as folder:
        models = {
            (run, precision): model_file.load(make(run, precision, Path(folder)))
            for run in options.runs
            for precision in PRECISIONS
        }
    sessions = {" ".join(map(str, key)): open_session(model.content, "cpu", key[0]) for key, model in models.items()}
    seconds = measure(sessions, pictures[:BATCH], options.rounds)
    columns = ("run", "weights", "", "size", "sequences right", "validation", "test", "one core", "all cores")
    table = Table(*columns)
    for (run, precision), model in models.items():
        engine = open_engine(model, "cpu")
        together = timing.measure(engine, pictures, engine.batch, decode=False, seconds=SECONDS)
        about = model.metadata
        cost = models[run, "int8" if precision == "fp32" else precision].metadata.parity[STORED_WEIGHTS]
        table.add_row(
            run.name,
            f"{parameter_count(Checkpoint.load(in_run(run)).network()):,}",
            precision,
            f"{len(model.content) / 1e6:.2f} MB",
            f"{cost['full' if precision == 'fp32' else 'reduced']:.2%}",
            error(about.training.get("validation")),
            error(about.test_error),
            f"{BATCH / seconds[f'{run} {precision}']:,.0f}",
            f"{together.images_per_second:,.0f}",
        )
    print(f"{describe()}; onnxruntime {onnxruntime.__version__}; errors per digit in float32, speeds in images/s")
    Console(width=140).print(table)


def make(run: Path, precision: Precision, folder: Path) -> Path:
    """Export a run, whatever its bits cost."""
    target = folder / f"{run.name}-{precision}.onnx"
    export(in_run(run), target, ExportConfig(precision=precision, max_accuracy_drop=100))
    return target


def error(score: dict[str, Any] | None) -> str:
    """Return an error per digit with its interval."""
    if score is None:
        return "-"
    low, high = score["digit_error_interval"]
    return f"{score['digit_error']:.2%} ({low:.2%} to {high:.2%})"


if __name__ == "__main__":
    main()
