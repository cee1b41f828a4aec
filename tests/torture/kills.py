"""Kill the program at random moments, start it again, and see whether anything is lost, doubled or different."""

import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.torture.record import ROOT, Options, Outcome

MAIN = (sys.executable, "-m", "cli.main")
_OLD = b"the results of last week\n"
_PREDICT_WINDOW_S = (0.2, 1.1)
_TRAIN_WINDOW_S = (2.5, 9.0)
_TRAIN = ("--epochs", "2", "--limit", "9600", "--checkpoint-seconds", "0.2", "--device", "cpu", "--quiet")
_PATIENCE = 400
"""Attempts for each hundred kills: one that finishes before it is killed does not count."""


@dataclass(frozen=True)
class Program:
    """Something that is killed and gone on with.

    Attributes:
        name: What it is called.
        first: The command that starts it.
        again: The command that goes on.
        window_s: When it is killed, after its start.
    """

    name: str
    first: Sequence[str]
    again: Sequence[str]
    window_s: tuple[float, float]


def torture_by_kills(options: Options) -> Outcome:
    """Kill `predict --output` in both of its forms and, unless quick, `train`."""
    outcome, chance = Outcome(), random.Random(options.seed)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        pictures = linked_pictures(folder / "pictures", 300 if options.quick else 4000)
        for form in ("jsonl", "csv"):
            place = folder / form
            kill_predicting(predicting(pictures, place, form), place, options.kills // 2, chance, outcome)
        if not options.quick:
            kill_training(folder / "train", options.kills // 2, chance, outcome)
    return outcome


def linked_pictures(folder: Path, count: int) -> Path:
    """Make a folder of so many paths, each a hard link to one of the sample pictures or to a damaged one."""
    folder.mkdir()
    first = []
    for number, sample in enumerate(sorted((ROOT / "assets" / "images").glob("*.png"))):
        first.append(folder / f"{number:06}.png")
        shutil.copyfile(sample, first[-1])
    first.append(folder / f"{len(first):06}.png")
    first[-1].write_bytes(first[0].read_bytes()[:300])
    for number in range(len(first), count):
        (folder / f"{number:06}.png").hardlink_to(first[number % len(first)])
    return folder


def predicting(pictures: Path, place: Path, form: str) -> Program:
    """Return `predict` from a folder of pictures into a file of `place`."""
    target = place / f"out.{form}"
    command = [
        *MAIN,
        "predict",
        str(pictures),
        "--model",
        "bundled",
        "--provider",
        "cpu",
        "--output",
        str(target),
        "-q",
    ]
    return Program(f"predict, {form}", command, [*command, "--resume"], _PREDICT_WINDOW_S)


def kill_predicting(program: Program, place: Path, kills: int, chance: random.Random, outcome: Outcome) -> None:
    """Kill it so many times; the old results or the new ones are there, and in the end each record once."""
    place.mkdir()
    target = Path(program.first[program.first.index("--output") + 1])
    partial = target.with_name(f"{target.name}.partial")
    _run(program.first)
    expected = target.read_bytes()
    target.write_bytes(_OLD)
    for killed in _attempts(program, kills, chance, outcome):
        done = partial.read_bytes() if partial.exists() else b""
        if not expected.startswith(done):
            outcome.failures.append(f"{program.name}: what a killed run left is no beginning of the results")
            partial.unlink()
        if target.read_bytes() == expected and not done:
            target.write_bytes(_OLD)  # it was finished: begin anew
            _count(outcome, f"{program.name}: finished and compared")
        elif target.read_bytes() != _OLD:
            outcome.failures.append(f"{program.name}: neither the old nor the new results")
            target.write_bytes(_OLD)
        elif not killed:
            outcome.failures.append(f"{program.name}: ended, and the new results are not there")
    _run(program.again)
    _count(outcome, f"{program.name}: finished and compared")
    if target.read_bytes() != expected:
        outcome.failures.append(f"{program.name}: the results differ from those of an undisturbed run")


def kill_training(folder: Path, kills: int, chance: random.Random, outcome: Outcome) -> None:
    """Kill training so many times; whenever it comes to its end, its weights are those of an undisturbed run."""
    whole, place = folder / "whole", folder / "killed"
    start = [*MAIN, "train", *_TRAIN]
    _run([*start, "--out", str(whole)])
    program = Program(
        "train", [*start, "--out", str(place)], [*MAIN, "train", "--resume", "--checkpoint-seconds", "0.2", "--quiet",
                                                 "--device", "cpu", "--out", str(place)], _TRAIN_WINDOW_S
    )  # fmt: skip
    for killed in _attempts(program, kills, chance, outcome, place / "checkpoint.safetensors"):
        if not killed:
            _compare_runs(whole, place, outcome)
            shutil.rmtree(place)
    if (place / "checkpoint.safetensors").exists():
        _run(program.again)
    else:
        shutil.rmtree(place, ignore_errors=True)
        _run(program.first)
    _compare_runs(whole, place, outcome)


def _compare_runs(whole: Path, place: Path, outcome: Outcome) -> None:
    _count(outcome, "train: finished and compared")
    for name in ("model.safetensors", "checkpoint.safetensors"):
        if (whole / name).read_bytes() != (place / name).read_bytes():
            outcome.failures.append(f"train: {name} differs from that of an undisturbed run")


def _attempts(
    program: Program, kills: int, chance: random.Random, outcome: Outcome, needed: Path | None = None
) -> Iterator[bool]:
    """Start it and kill it until it was killed so many times; yield after each attempt whether it was.

    Without the file that is `needed` to go on, it is started anew.
    """
    done = 0
    for _ in range(max(1, kills * _PATIENCE // 100)):
        if done == kills:
            return
        command = program.again if needed is None or needed.exists() else program.first
        if needed is not None and command is program.first:
            shutil.rmtree(needed.parent, ignore_errors=True)
        process = _start(command)
        try:
            process.wait(chance.uniform(*program.window_s))
        except subprocess.TimeoutExpired:
            process.kill()
        _, said = process.communicate()
        killed = process.returncode == -signal.SIGKILL
        if killed:
            done += 1
            _count(outcome, f"{program.name}: killed")
        elif process.returncode not in (0, 1):
            outcome.failures.append(f"{program.name}: exit code {process.returncode}, {said.decode()[-200:]!r}")
        yield killed
    outcome.failures.append(f"{program.name}: only {done} of {kills} kills hit it")


def _start(command: Sequence[str]) -> "subprocess.Popen[bytes]":
    environment = os.environ | {"PYTHONPATH": str(ROOT), "COLUMNS": "300"}
    return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def _run(command: Sequence[str]) -> None:
    process = _start(command)
    _, said = process.communicate()
    if process.returncode not in (0, 1):
        raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}: {said.decode()[-300:]}")


def _count(outcome: Outcome, what: str) -> None:
    outcome.tried[what] = int(outcome.tried.get(what, 0)) + 1
