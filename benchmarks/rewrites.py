"""What each rewrite of the exported graph is worth on this machine.

Exports a network as it is, with one rewrite at a time, with all but one, and with all; runs every file on one thread,
in turn, several times over. The time of sampling depends on where the glimpses lie: give a trained checkpoint.

Run: python benchmarks/rewrites.py [CHECKPOINT] [--batch 32] [--rounds 21]
"""

import argparse
import random
import statistics
import time
from pathlib import Path

import numpy as np
import onnxruntime
from machine import MODEL, describe
from rich.console import Console
from rich.table import Table

from exporters.from_onnx import checkpoint_of
from exporters.onnx_graph import build_graph
from rnnspn.data.mnist import load_mnist
from rnnspn.data.sequences import Sequences
from rnnspn.inference.rewrites.blocks import bring_to_blocks, channel_block
from rnnspn.inference.rewrites.pooling import pool_by_differences
from rnnspn.inference.rewrites.sampling import sample_by_gathers
from rnnspn.models.networks import Network

REWRITES = {
    "fold": "1/255 in the weights",
    "trim": "only what pooling keeps of a glimpse",
    "rescale": "zeros outside, scaled coordinates",
    "widen": "a glimpse's points as one wide product",
    "activate": "ReLU before pooling, inside the convolution",
    "gather": "sampling by gathers, when the file is loaded; with fold and widen alone",
    "block": "channels in whole blocks, when the file is loaded",
    "differ": "pooling by differences, when the file is loaded; with activate alone",
}
LOADED = ("gather", "block", "differ")
"""Those that stand in no file."""
RUNS = 20


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoint", type=Path, nargs="?", default=MODEL)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=21)
    options = parser.parse_args()
    network = checkpoint_of(options.checkpoint).network()
    pictures = Sequences(load_mnist(), "test", seed=1).pictures(np.arange(options.batch))[0]
    choices = {"none": set(), **{name: {name} for name in REWRITES if name not in ("gather", "differ")}}
    for several in (("fold", "widen"), ("fold", "widen", "gather"), ("activate", "differ")):
        choices[", ".join(several)] = set(several)
    choices |= {f"all but {name}": REWRITES.keys() - {name} for name in REWRITES} | {"all": set(REWRITES)}
    sessions = {name: open_session(network, chosen, channel_block()) for name, chosen in choices.items()}
    sessions |= {f"all, in blocks of {block}": open_session(network, set(REWRITES), block) for block in (8, 16)}
    seconds = measure(sessions, pictures, options.rounds)
    table = Table("rewrites", "images/s", "ratio", title=f"{options.checkpoint}, batch {options.batch}")
    for name, value in seconds.items():
        table.add_row(name, f"{options.batch / value:,.0f}", f"{seconds['none'] / value:.2f}")
    print(f"{describe()}; onnxruntime {onnxruntime.__version__}, one thread, median of {options.rounds} rounds")
    Console().print(table)
    for name, what in REWRITES.items():
        print(f"{name}: {what}")


def open_session(network: Network, chosen: set[str], block: int) -> onnxruntime.InferenceSession:
    """Export with the chosen rewrites and load the file on one thread, brought to blocks of some size."""
    exported = {name: name in chosen for name in REWRITES if name not in LOADED}
    model = build_graph(network, **exported)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    if "gather" in chosen:
        sample_by_gathers(model)
    if "block" in chosen:
        bring_to_blocks(model, block)
    if "differ" in chosen:
        pool_by_differences(model)
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def measure(sessions: dict[str, onnxruntime.InferenceSession], pictures: np.ndarray, rounds: int) -> dict[str, float]:
    """Run every session once to warm up and `rounds` times, in another order each; return median seconds of a call."""
    seconds: dict[str, list[float]] = {name: [] for name in sessions}
    chance = random.Random(0)
    for turn in range(rounds + 1):
        for name, session in chance.sample(list(sessions.items()), len(sessions)):
            began = time.perf_counter()
            for _ in range(RUNS):
                session.run(None, {"images": pictures})
            if turn:
                seconds[name].append((time.perf_counter() - began) / RUNS)
    return {name: statistics.median(values) for name, values in seconds.items()}


if __name__ == "__main__":
    main()
