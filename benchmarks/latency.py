"""What more threads would bring to a caller who gives few pictures at a time.

One session each, with the runtime's threads asleep or spinning while they wait for work; in turn, medians.

Run: python benchmarks/latency.py [MODEL] [--rounds 5]
"""

import argparse
import statistics
import time
from pathlib import Path

import numpy as np
import onnxruntime
from machine import MODEL, describe
from rich.console import Console
from rich.table import Table

from rnnspn.data.mnist import load_mnist
from rnnspn.data.sequences import Sequences
from rnnspn.inference.cores import available_cores
from rnnspn.inference.cpu import rewritten

BATCHES = (1, 2, 4, 8)
CALLS = 100


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path, nargs="?", default=MODEL)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    content = rewritten(options.model.read_bytes())
    cores = available_cores()
    choices = {"1 thread": (1, 0), f"{cores} threads, asleep": (cores, 0), f"{cores} threads, spinning": (cores, 1)}
    sessions = {name: open_session(content, *choice) for name, choice in choices.items()}
    pictures = Sequences(load_mnist(), "test", seed=1).pictures(np.arange(max(BATCHES)))[0]
    seconds: dict[tuple[int, str], list[float]] = {}
    for _ in range(options.rounds):
        for name, session in sessions.items():
            for batch in BATCHES:
                seconds.setdefault((batch, name), []).append(call_time(session, pictures[:batch]))
    table = Table("pictures", *sessions, title="ms a call")
    for batch in BATCHES:
        table.add_row(f"{batch}", *(f"{1e3 * statistics.median(seconds[batch, name]):.2f}" for name in sessions))
    print(f"{describe()}; onnxruntime {onnxruntime.__version__}; medians of {options.rounds} rounds of {CALLS} calls")
    Console().print(table)


def open_session(content: bytes, threads: int, spinning: int) -> onnxruntime.InferenceSession:
    """Load a model on some threads."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.add_session_config_entry("session.intra_op.allow_spinning", str(spinning))
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def call_time(session: onnxruntime.InferenceSession, pictures: np.ndarray) -> float:
    """Return the median seconds of a call."""
    taken = []
    for _ in range(CALLS):
        began = time.perf_counter()
        session.run(None, {"images": pictures})
        taken.append(time.perf_counter() - began)
    return statistics.median(taken)


if __name__ == "__main__":
    main()
