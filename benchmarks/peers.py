"""This project's runtime beside its alternatives: the same weights, the same pictures, the same cores.

Every peer runs in a process of its own, finds its best batch size (OpenVINO its best number of streams before, out of
its own choice, 1, the cores and twice the cores), and reports images/s; the peers take turns over several rounds.
PyTorch's and OpenVINO's rows appear where those packages are installed.

Run: python benchmarks/peers.py [--checkpoint RUN/model.safetensors] [--only NAMES] [--rounds 5] [--chart FILE.png]
       [--json FILE]
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from machine import MODEL, describe
from peer_models import write_models
from rich.console import Console
from rich.table import Table

from rnnspn.errors import RnnspnError
from rnnspn.inference import model_file, session, timing
from rnnspn.inference.cores import available_cores

PEERS = {
    "rnnspn": "rnnspn on ONNX Runtime, float32",
    "rnnspn-w8a8": "rnnspn on ONNX Runtime, 8-bit integers (w8a8)",
    "rnnspn-openvino": "rnnspn on OpenVINO's plug-in, float32",
    "rnnspn-openvino-bfloat16": "rnnspn on OpenVINO's plug-in, bfloat16",
    "onnxruntime": "ONNX Runtime's defaults, the same file",
    "onnxruntime-naive": "ONNX Runtime's defaults, a naive export (nn.GRU, three GridSamples)",
    "torch": "PyTorch eager, channels_last, float32",
    "torch-bfloat16": "PyTorch eager, channels_last, bfloat16",
    "torch-compile": "torch.compile, channels_last, float32",
    "openvino": "OpenVINO in throughput mode, float32, the same file",
    "openvino-plain": "OpenVINO in throughput mode, float32, the file without our rewrites",
    "openvino-bfloat16": "OpenVINO in throughput mode, bfloat16, the same file",
    "openvino-w8a8": "OpenVINO in throughput mode, the same w8a8 file",
    "openvino-plain-bfloat16": "OpenVINO in throughput mode, bfloat16, the file without our rewrites",
}
OURS = {"float32": "rnnspn", "bfloat16": "rnnspn-openvino-bfloat16", "w8a8": "rnnspn-w8a8"}
BATCHES = (1, 8, 16, 32, 64, 128)
STREAMS_BATCH = 32
SWEEPS = 3
"""Times that every batch size is tried, in turn: machines are noisy."""
SWEEP_SECONDS, MEASURE_SECONDS = 0.4, 2.0


def main() -> None:
    """Measure and print; with --peer, be one of the peers."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoint", type=Path, default=MODEL)
    parser.add_argument("--only", help=f"names of peers out of {', '.join(PEERS)}; all of them by default")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--chart", type=Path)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--peer", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.peer:
        print(json.dumps(measure(options.peer, options.folder)))
        return
    wanted = options.only.split(",") if options.only else list(PEERS)
    if unknown := set(wanted) - set(PEERS):
        parser.error(f"expected peers out of {', '.join(PEERS)}; got {', '.join(sorted(unknown))}")
    with tempfile.TemporaryDirectory() as name:
        peers = [peer for peer in PEERS if peer in wanted and available(peer)]
        write_models(Path(name), options.checkpoint, OURS["bfloat16"] in peers)
        results = take_turns(peers, Path(name), options.rounds)
    report(results, options.rounds)
    if options.json:
        document = {"machine": describe(), "rounds": options.rounds, "images_per_second": results}
        options.json.write_text(json.dumps(document, indent=2) + "\n")
    if options.chart:
        draw(results, options.chart)


def available(peer: str) -> bool:
    """Tell whether a peer can run here: its package is installed, and its precision is not one that is emulated."""
    import torch  # not for the peers that do without it

    from rnnspn.training.hardware import is_fast_in_bfloat16

    if precision(peer) == "bfloat16" and not is_fast_in_bfloat16(torch.device("cpu")):
        return False
    if not peer.startswith("rnnspn-openvino"):
        return find_spec(peer.partition("-")[0]) is not None
    try:
        session.open_engine(model_file.load(MODEL), "openvino")
    except RnnspnError:
        return False
    return True


def take_turns(peers: list[str], folder: Path, rounds: int) -> dict[str, list[float]]:
    """Run every peer once a round; return its images/s, round by round."""
    results: dict[str, list[float]] = {peer: [] for peer in peers}
    for _ in range(rounds):
        for peer in peers:
            command = [sys.executable, __file__, "--peer", peer, "--folder", str(folder)]
            done = subprocess.run(command, capture_output=True, text=True, check=False, env=dict(os.environ))
            if done.returncode:
                print(f"{peer} failed: {done.stderr.strip().splitlines()[-1:]}", file=sys.stderr)
                continue
            found = json.loads(done.stdout.splitlines()[-1])
            results[peer].append(found["images_per_second"])
            print(f"{peer:24} {found['images_per_second']:10,.0f} images/s, batch {found['batch']}", file=sys.stderr)
    return {peer: values for peer, values in results.items() if values}


def measure(peer: str, folder: Path) -> dict[str, float]:
    """Find a peer's best batch size and time it."""
    pictures = np.load(folder / "pictures.npy")
    throughput = runner(peer, folder, pictures)
    sweeps = [{batch: throughput(batch, SWEEP_SECONDS) for batch in BATCHES} for _ in range(SWEEPS)]
    best = max(BATCHES, key=lambda batch: statistics.median(sweep[batch] for sweep in sweeps))
    return {"batch": best, "images_per_second": throughput(best, MEASURE_SECONDS)}


Throughput = Callable[[int, float], float]


def runner(peer: str, folder: Path, pictures: np.ndarray) -> Throughput:
    """Return a function of batch size and seconds that gives a peer's images/s."""
    if peer.startswith("rnnspn"):
        name, _, provider = peer.removesuffix("-w8a8").partition("-")
        return ours(folder / f"{peer if peer.endswith('w8a8') else name}.onnx", pictures, provider or "cpu")
    if peer.startswith("onnxruntime"):
        return onnxruntime_defaults(folder / ("naive.onnx" if "naive" in peer else "rnnspn.onnx"), pictures)
    if peer.startswith("torch"):
        return pytorch(folder / "network.safetensors", pictures, peer.partition("-")[2])
    name = "plain" if "plain" in peer else OURS["w8a8"] if peer.endswith("w8a8") else "rnnspn"
    return openvino(folder / f"{name}.onnx", pictures, "bf16" if precision(peer) == "bfloat16" else "f32")


def ours(model: Path, pictures: np.ndarray, provider: str) -> Throughput:
    """Run as `rnnspn predict` does."""
    engine = session.open_engine(model_file.load(model), provider)
    return lambda batch, seconds: (
        timing.measure_calls(engine.run, timing.batches_of(pictures, batch), engine.workers, seconds).images_per_second
    )


def onnxruntime_defaults(model: Path, pictures: np.ndarray) -> Throughput:
    """Run one session with the runtime's own settings.

    Left to itself, it pins a thread to every core of the machine, those outside this process's affinity mask too.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    if available_cores() < (os.cpu_count() or 1):
        options.intra_op_num_threads = available_cores()
    session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    return looped(lambda batch: session.run(None, {"images": batch}), pictures)


def pytorch(checkpoint: Path, pictures: np.ndarray, variant: str) -> Throughput:
    """Run the network itself."""
    import torch

    from rnnspn.training.checkpoint import Checkpoint
    from rnnspn.training.evaluation import as_input

    network = Checkpoint.load(checkpoint).network().eval()
    if variant == "compile":
        network = torch.compile(network, dynamic=False)  # code of its own for every batch size

    @torch.inference_mode()
    def run(batch: np.ndarray) -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=variant == "bfloat16"):
            network(as_input(torch.from_numpy(batch))).logits.softmax(-1).max(-1)

    return looped(run, pictures)


def openvino(model: Path, pictures: np.ndarray, hint: str) -> Throughput:
    """Run OpenVINO's own runtime in its throughput mode, with the streams that are fastest."""
    import openvino

    def compiled(streams: dict[str, str]) -> Throughput:
        settings = {"PERFORMANCE_HINT": "THROUGHPUT", "INFERENCE_PRECISION_HINT": hint, **streams}
        queue = openvino.AsyncInferQueue(openvino.compile_model(str(model), "CPU", settings))

        def throughput(batch: int, seconds: float) -> float:
            batches = cut(pictures, batch)
            queue.start_async({0: batches[0]})
            queue.wait_all()
            began, done = time.perf_counter(), 0
            while time.perf_counter() - began < seconds:
                for part in batches[:16]:
                    queue.start_async({0: part})
                    done += batch
            queue.wait_all()
            return done / (time.perf_counter() - began)

        return throughput

    cores = available_cores()
    choices = [{}, *({"NUM_STREAMS": str(count)} for count in sorted({1, cores, 2 * cores}))]  # {}: its own choice
    return max(map(compiled, choices), key=lambda throughput: throughput(STREAMS_BATCH, SWEEP_SECONDS))


def looped(run: Callable[[np.ndarray], object], pictures: np.ndarray) -> Throughput:
    """Call again and again from one thread."""

    def throughput(batch: int, seconds: float) -> float:
        batches = cut(pictures, batch)
        for part in batches[:2]:
            run(part)
        began, calls = time.perf_counter(), 0
        while time.perf_counter() - began < seconds:
            run(batches[calls % len(batches)])
            calls += 1
        return calls * batch / (time.perf_counter() - began)

    return throughput


def cut(pictures: np.ndarray, batch: int) -> list[np.ndarray]:
    """Cut into full batches."""
    return [pictures[start : start + batch] for start in range(0, len(pictures) - batch + 1, batch)]


def precision(peer: str) -> str:
    """Return what a peer computes in."""
    return next((name for name in OURS if peer.endswith(name)), "float32")


def report(results: dict[str, list[float]], rounds: int) -> None:
    """Print the medians, and ours over theirs at the same precision."""
    medians = {peer: statistics.median(values) for peer, values in results.items()}
    table = Table("", "images/s", "least to most", "ours / theirs")
    for peer, value in sorted(medians.items(), key=lambda item: -item[1]):
        spread = f"{min(results[peer]):,.0f} to {max(results[peer]):,.0f}"
        own = medians.get(OURS[precision(peer)])
        table.add_row(PEERS[peer], f"{value:,.0f}", spread, f"{own / value:.2f}" if own else "")
    print(f"{describe()}; medians of {rounds} rounds, each at its best batch of {', '.join(map(str, BATCHES))}")
    Console(width=120).print(table)


def draw(results: dict[str, list[float]], path: Path) -> None:
    """Draw the medians as bars."""
    from matplotlib.figure import Figure

    ordered = sorted(results, key=lambda peer: statistics.median(results[peer]))
    figure = Figure(figsize=(9, 0.45 * len(ordered) + 1), layout="constrained")
    axes = figure.subplots()
    values = [statistics.median(results[peer]) for peer in ordered]
    colours = ["tab:orange" if peer.startswith("rnnspn") else "tab:gray" for peer in ordered]
    bars = axes.barh([PEERS[peer] for peer in ordered], values, color=colours)
    axes.bar_label(bars, [f"{value:,.0f}" for value in values], padding=3)
    axes.set_xlabel("images/s")
    axes.margins(x=0.12)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main()
