"""Load damaged models in a process apart: each is refused in one line or reads soundly; nothing crashes or hangs."""

import os
import random
import resource
import selectors
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice
from pathlib import Path

from tests.torture import mutation, scrambling
from tests.torture.record import ROOT, Options, Outcome

LIMIT_S = 20.0
MEMORY = 6 * 2**30
"""Address space of the process: a file of 6 MB has no claim to more."""
WORKER = (sys.executable, "-m", "tests.torture.models")

_CHUNK = 40


def torture_models(options: Options) -> Outcome:
    """Try broken, cut, flipped and scrambled versions of the bundled model."""
    from rnnspn.inference.model_file import bundled

    chance, content, share = random.Random(options.seed), bundled().read_bytes(), options.mutants // 4
    outcome = Outcome()
    try_models("broken", mutation.broken(content), outcome, must_fail=True)
    try_models("cut", scrambling.cuts(content, share, chance), outcome, must_fail=True)
    try_models("flipped", scrambling.flips(content, 2 * share, chance), outcome)
    try_models("scrambled", scrambling.scrambled(content, share, chance), outcome)
    return outcome


def try_models(
    kind: str,
    mutants: Iterable[tuple[str, bytes]],
    outcome: Outcome,
    *,
    must_fail: bool = False,
    command: Sequence[str] = WORKER,
    limit_s: float = LIMIT_S,
) -> None:
    """Try models in processes of forty each, and go on after whatever dies.

    Args:
        kind: What they are called in the figures.
        mutants: Names and contents.
        outcome: Takes the figures and failures.
        must_fail: A sound reading is a failure too.
        command: Takes paths line by line and answers each with one line, `refused …`, `read …` or another.
        limit_s: Longest time for an answer.
    """
    source = iter(mutants)
    counts = {"refused": 0, "read": 0}
    tried = 0
    while chunk := list(islice(source, _CHUNK)):
        tried += len(chunk)
        with tempfile.TemporaryDirectory() as folder:
            for (name, _), answer in zip(chunk, _answers(chunk, Path(folder), command, limit_s), strict=True):
                word = answer.partition(" ")[0]
                if word not in counts or (must_fail and word == "read"):
                    outcome.failures.append(f"{kind}: {name}: {answer}")
                else:
                    counts[word] += 1
    outcome.tried[f"models {kind}"] = tried
    outcome.tried |= {f"{kind}, {word}": count for word, count in counts.items() if count}


def _answers(chunk: list[tuple[str, bytes]], folder: Path, command: Sequence[str], limit_s: float) -> Iterator[str]:
    paths = [folder / f"{index}.onnx" for index in range(len(chunk))]
    for path, (_, content) in zip(paths, chunk, strict=True):
        path.write_bytes(content)
    left = paths
    while left:
        answers = _one_process(left, command, limit_s)
        yield from answers
        left = left[len(answers) :]


def _one_process(paths: Sequence[Path], command: Sequence[str], limit_s: float) -> list[str]:
    """Return the answers until the process has answered all, died, or said nothing for too long."""
    answers: list[str] = []
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with (
        tempfile.TemporaryFile() as said,
        subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=said, cwd=ROOT, env=environment
        ) as process,
        selectors.DefaultSelector() as selector,
    ):
        assert process.stdin
        assert process.stdout
        selector.register(process.stdout, selectors.EVENT_READ)
        for path in paths:
            process.stdin.write(os.fsencode(path) + b"\n")
            process.stdin.flush()
            if not selector.select(limit_s):
                process.kill()
                return [*answers, f"hung for {limit_s:g} s"]
            if not (line := process.stdout.readline().decode()):
                code = process.wait()
                said.seek(0)
                last = said.read().decode(errors="replace").strip().splitlines()[-1:]
                return [*answers, f"died with {code}: {' '.join(last)}"]
            answers.append(line.rstrip("\n"))
        process.stdin.close()
        process.wait(limit_s)
    return answers


def _work() -> None:
    """Answer for the models named on the standard input."""
    from rnnspn.errors import ModelFileError
    from rnnspn.inference.predictor import Predictor

    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    samples = sorted((ROOT / "assets" / "images").glob("*.png"))[:2]
    for line in sys.stdin:
        try:
            readings = Predictor.load(line.rstrip("\n"), provider="cpu").predict(samples)
            steps = list(chain.from_iterable(reading.steps for reading in readings))
            sound = len(steps) == 3 * len(samples) and all(len(step.digit) == 1 for step in steps)
            answer = "read soundly" if sound else f"unsound: {readings}"
        except ModelFileError as error:
            one_line = "\n" not in str(error) and len(str(error)) < 1000
            answer = "refused" if one_line else f"many lines: {error!r}"
        except Exception as error:
            answer = f"raised {type(error).__name__}: {error}".replace("\n", " ")
        print(answer, flush=True)


if __name__ == "__main__":
    _work()
