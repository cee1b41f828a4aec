"""Everything about this project that only a GPU can show, in one run and one JSON file.

Agreement with the CPU, where every node runs, throughput by batch size with copies and without, the provider's
defaults and PyTorch eager and compiled beside it, in float32 and in TF32, files in every precision, and the speed of
training. With --provider cpu the same steps run on a machine without a GPU, which proves nothing but the path. What a
file of an earlier run holds beside these is kept there.

Run: python benchmarks/gpu_check.py [--provider cuda] [--output gpu-check.json] [--seconds 2]
       [--only NAMES]
"""

import argparse
import datetime
import itertools
import json
import sys
import tempfile
import traceback
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from machine import describe
from precisions import read
from training import images_per_second

from exporters.from_onnx import checkpoint_of
from exporters.integers import calibration_pictures, quantise
from exporters.precision import judging_pictures, store_weights
from rnnspn.config import SYNTHESIS
from rnnspn.data.mnist import load_mnist
from rnnspn.data.sequences import Sequences
from rnnspn.errors import RnnspnError
from rnnspn.inference import cuda, diagnosis, model_file, providers, session, timing
from rnnspn.inference.buffers import SETS, SIZES, BufferedSession
from rnnspn.inference.model_file import ModelFile
from rnnspn.inference.session import Engine, Outputs
from rnnspn.scores import CLEAR_MARGIN, are_clear
from rnnspn.training import runs
from rnnspn.training.recipes import RECIPES
from rnnspn.training.reproduction import ROWS

PICTURES = 4096
BATCHES = (1, 64, 256, 1024, 4096)
COMPARED = (1, 3, 16, 50, 256, 300, 64, 1024)
"""Sizes of the batches that are compared: every size of buffers, full and padded, each several times, mixed."""
COMPILED_BATCHES = (1024,)
"""Each takes a minute to compile."""
TOLERANCE = CLEAR_MARGIN / 2
"""Of a probability or an element of theta: what cannot change a clear digit. Sums come in another order on a GPU."""
_TIMED = 5
"""Groups of training steps that are timed."""
SHAPE_GLUE = {"Shape", "Gather", "Concat", "Unsqueeze", "Squeeze", "Slice", "Constant"}
"""What the runtime may leave to the CPU: arithmetic with sizes; our graph has none of it."""
OTHER_SETTINGS: tuple[dict[str, str], ...] = (
    {},
    {"cudnn_conv_algo_search": "EXHAUSTIVE"},
    {"prefer_nhwc": "1"},
    {"prefer_nhwc": "1", "fuse_conv_bias": "1"},  # in NCHW the latter breaks recorded kernels
)
FULL_NAMES = {"cuda": "CUDAExecutionProvider", "cpu": "CPUExecutionProvider"}


def main() -> None:
    """Measure and write; exit 1 where CUDA disagrees with the CPU, leaves nodes to it, or records no kernels."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--provider", choices=FULL_NAMES, default="cuda")
    parser.add_argument("--model", default=model_file.BUNDLED)
    parser.add_argument("--output", type=Path, default=Path("gpu-check.json"))
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--only", help="names of checks, such as parity,placement; all of them by default")
    options = parser.parse_args()
    torch.zeros(1)  # its CUDA libraries are the ones that ONNX Runtime finds
    model = model_file.load(options.model)
    pictures = Sequences(load_mnist(), "test", seed=1).pictures(np.arange(PICTURES))[0]
    try:
        engine = session.open_engine(model, options.provider)
    except RnnspnError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(error.exit_code) from None
    checks = checks_of(engine, options.model, pictures, options.seconds)
    results: dict[str, Any] = {
        "when": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "machine": describe(),
        "device": torch.cuda.get_device_name() if engine.provider == "cuda" else "CPU",
        "versions": {"onnxruntime": onnxruntime.__version__, "torch": torch.__version__},
        "model_sha256": model.sha256,
    }
    wanted = options.only.split(",") if options.only else list(checks)
    if unknown := set(wanted) - set(checks):
        parser.error(f"expected checks out of {', '.join(checks)}; got {', '.join(sorted(unknown))}")
    if earlier := kept(options.output, {*results, *wanted}):
        results["earlier"] = earlier
    for name in wanted:
        try:
            results[name] = checks[name]()
        except Exception as error:
            traceback.print_exc()
            results[name] = {"passed": False, "failure": f"{type(error).__name__}: {error}"}
        options.output.write_text(json.dumps(results, indent=2) + "\n")  # what is measured is kept, whatever comes
        print(f"{name}: {json.dumps(results[name])}", flush=True)
    if not all(result.get("passed", True) for result in results.values() if isinstance(result, dict)):
        raise SystemExit(1)


def kept(output: Path, measured: set[str]) -> dict[str, Any]:
    """Return what a file holds of earlier runs and this one does not measure again, each check with its time."""
    if not output.exists():
        return {}
    before = json.loads(output.read_text())
    earlier = before.pop("earlier", {})
    about = {name: before.pop(name) for name in ("when", "machine", "device", "versions", "model_sha256")}
    earlier |= {name: about | {"result": result} for name, result in before.items()}
    return {name: one for name, one in earlier.items() if name not in measured}


def checks_of(engine: Engine, name: str, pictures: np.ndarray, seconds: float) -> dict[str, Callable[[], Any]]:
    """Return the checks of an engine and of the model of that name, each to be called; on the CPU, fewer of them.

    Those that compile take minutes and come last.
    """
    model, provider = engine.model, engine.provider
    everywhere: dict[str, Callable[[], Any]] = {
        "doctor": lambda: [finding.to_dict() for finding in diagnosis.diagnose()],
        "parity": lambda: parity(engine, session.open_engine(model, "cpu"), pictures),
        "placement": lambda: placement(model.content, provider, pictures[:64]),
        "throughput": lambda: throughput(engine, pictures, seconds),
        "resident": lambda: resident(model, provider, pictures, seconds),
        "defaults": lambda: defaults(model.content, provider, pictures, seconds, engine.workers),
        "precisions": lambda: precisions(model, name, provider, seconds),
        "training": lambda: training(provider == "cuda"),
    }
    compiling: dict[str, Callable[[], Any]] = {"pytorch": lambda: pytorch(name, provider, pictures, seconds)}
    if provider != "cuda":
        return everywhere | compiling
    on_a_gpu: dict[str, Callable[[], Any]] = {
        "kernels": lambda: kernels(model, pictures),
        "settings": lambda: settings(model, pictures, seconds),
        "tf32": lambda: tf32(model, pictures, seconds),
        "resident_tf32": lambda: resident(model, "cuda-tf32", pictures, seconds),
    }
    compiling["pytorch_tf32"] = lambda: pytorch(name, "cuda", pictures, seconds, tf32=True)
    return everywhere | on_a_gpu | compiling


def parity(engine: Engine, reference: Engine, pictures: np.ndarray) -> dict[str, Any]:
    """Compare a provider with the CPU on batches of mixed sizes, read one after the other and several at a time."""
    counts = list(itertools.islice(itertools.cycle(COMPARED), 5 * len(COMPARED)))
    starts = np.cumsum(counts) % (len(pictures) - max(COMPARED))
    parts = [pictures[start : start + count] for start, count in zip(starts, counts, strict=True)]
    with ThreadPoolExecutor(engine.workers) as callers:
        got = [*map(engine.run, parts), *callers.map(engine.run, parts[::-1])]
    expected = [*map(reference.run, parts)]
    return {"pictures": sum(counts)} | agreement(Outputs.joined(got), Outputs.joined([*expected, *expected[::-1]]))


def agreement(got: Outputs, expected: Outputs) -> dict[str, Any]:
    """Return how far outputs are from the CPU's, and whether that is near enough."""
    differences = {"probabilities": float(np.abs(got.probabilities - expected.probabilities).max())}
    if got.theta is not None and expected.theta is not None:
        differences["theta"] = float(np.abs(got.theta - expected.theta).max())
    clear = are_clear(expected.probabilities, blank=None)
    wrong = int((clear & (got.digits != expected.digits)).sum())
    passed = wrong == 0 and max(differences.values()) <= TOLERANCE
    return {"max_difference": differences, "wrong_clear_digits": wrong, "passed": passed}


def placement(content: bytes, provider: str, pictures: np.ndarray) -> dict[str, Any]:
    """Read from a profile which provider ran every node, of the graph as it is loaded there."""
    content = cuda.rewritten(content) if provider == "cuda" else content
    with tempfile.TemporaryDirectory() as folder:
        options = onnxruntime.SessionOptions()
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(folder) / "profile")
        runner = onnxruntime.InferenceSession(content, options, providers=[FULL_NAMES[provider]])
        runner.run(None, {"images": pictures})
        events = json.loads(Path(runner.end_profiling()).read_text())
    nodes = {
        event["name"]: (event["args"]["op_name"], event["args"]["provider"])
        for event in events
        if event.get("cat") == "Node" and "provider" in event.get("args", {})
    }
    elsewhere = Counter(kind for kind, where in nodes.values() if where != FULL_NAMES[provider])
    copies = sum(kind.startswith("Memcpy") for kind, _ in nodes.values())
    passed = bool(nodes) and set(elsewhere) <= SHAPE_GLUE and not copies
    return {"nodes": len(nodes), "elsewhere": dict(elsewhere), "copies_inside": copies, "passed": passed}


def throughput(engine: Engine, pictures: np.ndarray, seconds: float) -> list[dict[str, Any]]:
    """Time every batch size, pictures coming from the host."""
    return [timing.measure(engine, pictures, batch, decode=False, seconds=seconds).to_dict() for batch in BATCHES]


def resident(model: ModelFile, provider: str, pictures: np.ndarray, seconds: float) -> dict[str, Any]:
    """Time every size of buffers without copies, and say whether the kernels are recorded."""
    opened = providers.open_session(model.content, provider, model.path)
    session = BufferedSession(opened, provider.partition("-")[0])
    rows = []
    for size in SIZES:
        part = pictures[:size]
        for _ in range(SETS):
            session.run(part)
        timed = timing.measure_calls(lambda batch: session.repeat(len(batch)), [part], 1, seconds)
        rows.append(timed.to_dict())
    given = opened.get_provider_options()[opened.get_providers()[0]]
    recorded = given.get("enable_cuda_graph") == "1"
    return {"recorded": recorded, "passed": recorded or provider == "cpu", "rows": rows}


def settings(model: ModelFile, pictures: np.ndarray, seconds: float) -> list[dict[str, Any]]:
    """Time other settings of the provider than ours, and the graph as it is in the file, without copies.

    Each row says whether its recorded kernels agree with the CPU: one that does not is no result.
    """
    rows: list[dict[str, Any]] = []
    content, reference = model.content, session.open_engine(model, "cpu")
    for graph, others in itertools.product(("pooled first", "as in the file"), OTHER_SETTINGS):
        chosen = cuda.settings(tf32=False, recording=True) | others
        tried = {"graph": graph} | others
        try:
            loaded = cuda.rewritten(content) if graph == "pooled first" else content
            opened = onnxruntime.InferenceSession(loaded, providers=[(FULL_NAMES["cuda"], chosen)])
            runner = BufferedSession(opened, "cuda")
            for size in SIZES[-2:]:
                part = pictures[:size]
                for _ in range(SETS):
                    runner.run(part)
                timed = timing.measure_calls(lambda batch, runner=runner: runner.repeat(len(batch)), [part], 1, seconds)
                read = runner.run(part)  # by now replayed
                outputs = Outputs(*(read.get(name) for name in Outputs._fields))
                rows.append(tried | timed.to_dict() | agreement(outputs, reference.run(part)))
        except Exception as error:  # a setting that is refused is a result, too
            rows.append(tried | {"failure": f"{type(error).__name__}: {error}"})
    return rows


def kernels(model: ModelFile, pictures: np.ndarray, repeats: int = 20) -> list[dict[str, Any]]:
    """Say which kernels take how many ms of a batch of the largest size."""
    size = SIZES[-1]
    session = BufferedSession(providers.open_session(model.content, "cuda", model.path), "cuda")
    for _ in range(SETS):
        session.run(pictures[:size])
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        for _ in range(repeats):
            session.repeat(size)
    found = sorted(profile.key_averages(), key=lambda kernel: -kernel.self_device_time_total)
    return [
        {
            "kernel": kernel.key[:160],
            "calls": kernel.count / repeats,
            "ms": kernel.self_device_time_total / 1000 / repeats,
        }
        for kernel in found
    ]


def defaults(content: bytes, provider: str, pictures: np.ndarray, seconds: float, workers: int) -> list[dict[str, Any]]:
    """Time the runtime as it comes: one session with the provider's defaults, pictures coming from the host."""
    session = onnxruntime.InferenceSession(content, providers=[FULL_NAMES[provider]])
    rows = []
    for batch in BATCHES:
        parts = timing.batches_of(pictures, batch)
        timed = timing.measure_calls(lambda part: session.run(None, {"images": part}), parts, workers, seconds)
        rows.append(timed.to_dict())
    return rows


def precisions(model: ModelFile, name: str, provider: str, seconds: float) -> list[dict[str, Any]]:
    """Time the model in every precision, pictures coming from the host, and count the sequences that it reads right."""
    full, config = onnx.load_from_string(model.content), checkpoint_of(path_of(name)).config
    files = {
        "fp32": full,
        "fp16": store_weights(full, "fp16"),
        "int8": store_weights(full, "int8"),
        "w8a8": quantise(full, calibration_pictures(config)),
    }
    examples = judging_pictures(config)
    rows = []
    for precision, file in files.items():
        engine = session.open_engine(replace(model, content=file.SerializeToString()), provider)
        digits = read(engine, examples.images).digits
        right = int((digits == examples.labels).all(axis=1).sum())
        timed = timing.measure(engine, examples.images, BATCHES[-2], decode=False, seconds=seconds).to_dict()
        rows.append({"precision": precision, "bytes": file.ByteSize(), "right": right, "of": len(digits)} | timed)
    return rows


def training(on_gpu: bool) -> list[dict[str, Any]]:
    """Time the steps of every row of Table 1, as recorded CUDA graphs and without."""
    rows = []
    for recipe, row in itertools.product(RECIPES, ROWS):
        config = runs.new_config(row.family, recipe, downsample=row.downsample, data=SYNTHESIS)
        for record in (True, False) if on_gpu and row.name == "rnn-spn-d3" else (True,):
            speed = images_per_second(config, _TIMED, record=record)
            recorded = record and torch.cuda.is_available()
            rows.append({"row": row.name, "recipe": recipe, "recorded": recorded, "images_per_second": speed})
    return rows


def tf32(model: ModelFile, pictures: np.ndarray, seconds: float) -> dict[str, Any]:
    """Time TF32 too, and count the digits that it reads otherwise than float32."""
    engines = [session.open_engine(model, provider) for provider in ("cuda", "cuda-tf32")]
    full, reduced = (engine.run(pictures[:1024]).digits for engine in engines)
    return {"other_digits": int((full != reduced).sum()), "rows": throughput(engines[1], pictures, seconds)}


def path_of(model: str) -> Path:
    """Return where a model lies, by the name under which it was asked for."""
    return model_file.bundled() if model == model_file.BUNDLED else Path(model)


def pytorch(
    model: str, device: str, pictures: np.ndarray, seconds: float, *, tf32: bool = False
) -> list[dict[str, Any]]:
    """Time PyTorch with the model's weights on pictures that are on the device already."""
    network = checkpoint_of(path_of(model)).network().eval().to(device)
    on_device = torch.from_numpy(pictures).to(device)

    def runner(forward: Callable[..., Any]) -> Callable[[torch.Tensor], object]:
        @torch.inference_mode()
        def run(batch: torch.Tensor) -> object:
            digits = forward(batch.unsqueeze(1).float() / 255).logits.softmax(-1).argmax(-1)
            return digits.cpu()  # waits for the device

        return run

    rows = []
    torch.backends.cudnn.benchmark = False  # training leaves it on
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = tf32
    compiled = torch.compile(network, mode="max-autotune", dynamic=False)
    for name, forward, batches in (("eager", network, BATCHES[1:]), ("compile", compiled, COMPILED_BATCHES)):
        for batch in batches:
            timed = timing.measure_calls(runner(forward), list(torch.split(on_device, batch)), 1, seconds)
            rows.append({"what": name, "tf32": tf32} | timed.to_dict())
    return rows


if __name__ == "__main__":
    main()
