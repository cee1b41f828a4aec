"""Change the modules that must not fail in one place at a time, and count the changes that their tests notice.

The modules and their tests are listed in pyproject.toml under [[tool.mutation]]; cosmic-ray makes the changes, in
copies of the tree. Changes of annotations are left out: they change nothing that runs, or break the import.

Run: python benchmarks/mutation.py [MODULE …] [--sample 100] [--jobs 2] [--json docs/mutation.json]
"""

import argparse
import ast
import importlib.metadata
import json
import os
import random
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import Queue, get_context
from pathlib import Path
from typing import Any

from cosmic_ray.commands import init
from cosmic_ray.mutating import mutate_and_test
from cosmic_ray.work_db import use_db
from cosmic_ray.work_item import MutationSpec, TestOutcome, WorkerOutcome, WorkResult
from machine import describe
from rich.console import Console
from rich.progress import track

from rnnspn.files import write_text

ROOT = Path(__file__).parents[1]
COPIED = ("rnnspn", "cli", "exporters", "tests", "benchmarks", "assets", "pyproject.toml")
LEAST_SHARE = 0.8
SLOWEST = 5.0
"""A change whose tests take this many times as long as without it, and ten seconds, counts as a timeout."""


@dataclass(frozen=True)
class Target:
    """A module and the tests that speak for it.

    Attributes:
        module: Its path below the root.
        tests: Their paths below the root, or pytest's names of single tests.
        only: The functions and classes to change; empty for all of the module.
    """

    module: str
    tests: list[str]
    only: frozenset[str]

    @property
    def command(self) -> str:
        """The tests, until the first failure."""
        words = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *self.tests]
        return shlex.join(words)


def main() -> int:
    """Try all changes of the modules; 1 where the tests of one notice too few."""
    targets = {target.module: target for target in _targets()}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("modules", nargs="*", metavar="MODULE", help=f"any of {', '.join(targets)}")
    parser.add_argument("--sample", type=int, metavar="N", help="try N changes of a module, drawn at random, not all")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="changes tried at a time")
    parser.add_argument("--json", type=Path, default=ROOT / "docs" / "mutation.json", help="where the figures go")
    options = parser.parse_args()
    if unknown := set(options.modules) - targets.keys():
        parser.error(f"expected modules of {', '.join(targets)}, got {', '.join(sorted(unknown))}")
    known = json.loads(options.json.read_text()) if options.json.exists() else {}
    for module in options.modules or targets:
        known[module] = record = try_module(targets[module], options.jobs, options.sample)
        write_text(options.json, json.dumps(known, indent=2, ensure_ascii=False) + "\n")
        figures = {name: figure for name, figure in record.items() if type(figure) is int}
        print(f"{module}: {figures}, {record['share']:.1%} noticed in {record['seconds']:.0f} s", flush=True)
        print("".join(f"  {survivor}\n" for survivor in record["survivors"]), end="", flush=True)
    return int(any(known[module]["share"] < LEAST_SHARE for module in targets if module in known))


def _targets() -> list[Target]:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["mutation"]
    return [Target(entry["module"], entry["tests"], frozenset(entry.get("only", ()))) for entry in settings]


def try_module(target: Target, jobs: int, sample: int | None = None) -> dict[str, Any]:
    """Try the changes of one module, all of them or a random sample that is always the same.

    Raises:
        RuntimeError: The tests fail without any change.
    """
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        copies = [_copied(Path(folder) / str(number)) for number in range(jobs)]
        limit_s = 10 + SLOWEST * _seconds_unchanged(target, copies[0])
        changes = possible = list(_changes(target, Path(folder)))
        if sample is not None and sample < len(possible):
            chosen = sorted(random.Random(0).sample(range(len(possible)), sample))
            changes = [possible[index] for index in chosen]
        places: Queue[Path] = get_context("spawn").Queue()
        for copy in copies:
            places.put(copy)
        with ProcessPoolExecutor(jobs, get_context("spawn"), _settle, (places,)) as pool:
            results = pool.map(partial(_tried, target.command, limit_s), changes)
            results = list(track(results, target.module, len(changes), console=Console(stderr=True)))
    outcomes = Counter(map(_outcome, results))
    mutants = len(results) - outcomes["not made"]
    return {
        "possible": len(possible),
        "mutants": mutants,
        **{name: outcomes[name] for name in ("killed", "timeout", "survived", "not made")},
        "share": round(1 - outcomes["survived"] / mutants, 4),
        "seconds": round(time.monotonic() - started, 1),
        "tests": target.tests,
        "tool": f"cosmic-ray {importlib.metadata.version('cosmic-ray')}",
        "machine": describe(),
        "survivors": [
            _line(change, result)
            for change, result in zip(changes, results, strict=True)
            if _outcome(result) == "survived"
        ],
    }


def _copied(place: Path) -> Path:
    ignored = shutil.ignore_patterns("__pycache__", ".*_cache", ".hypothesis")
    place.mkdir()
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, place / name, ignore=ignored)
        else:
            shutil.copy(source, place / name)
    return place


def _seconds_unchanged(target: Target, copy: Path) -> float:
    started = time.monotonic()
    run = subprocess.run(shlex.split(target.command), cwd=copy, capture_output=True, text=True, check=False)
    if run.returncode:
        raise RuntimeError(f"the tests of {target.module} fail without any change:\n{run.stdout[-4000:]}")
    return time.monotonic() - started


def _changes(target: Target, folder: Path) -> Iterator[MutationSpec]:
    """Yield the changes, those of one place one after the other."""
    inert = list(_annotations(ast.parse((ROOT / target.module).read_text())))
    with use_db(folder / "session.sqlite") as session:
        init([ROOT / target.module], session, {})
        changes = [change for item in session.work_items for change in item.mutations]
    for change in sorted(changes, key=lambda change: (change.start_pos, change.operator_name, change.occurrence)):
        wanted = not target.only or change.definition_name in target.only
        if wanted and not any(first <= change.start_pos < last for first, last in inert):
            yield change


def _annotations(tree: ast.Module) -> Iterator[tuple[tuple[int, int], tuple[int, int]]]:
    for node in ast.walk(tree):
        for found in (getattr(node, "annotation", None), getattr(node, "returns", None)):
            if isinstance(found, ast.expr) and found.end_lineno is not None and found.end_col_offset is not None:
                yield (found.lineno, found.col_offset), (found.end_lineno, found.end_col_offset)


def _settle(places: "Queue[Path]") -> None:
    """Give each process a copy of the tree of its own."""
    os.chdir(places.get())


def _tried(command: str, limit_s: float, change: MutationSpec) -> WorkResult:
    here = MutationSpec(
        module_path=Path.cwd() / change.module_path.relative_to(ROOT),
        operator_name=change.operator_name,
        occurrence=change.occurrence,
        start_pos=change.start_pos,
        end_pos=change.end_pos,
    )
    return mutate_and_test((here,), command, limit_s)


def _outcome(result: WorkResult) -> str:
    if result.worker_outcome is WorkerOutcome.EXCEPTION:  # cosmic-ray trips over names with a dot after `except`
        return "not made"
    if result.test_outcome not in (TestOutcome.SURVIVED, TestOutcome.KILLED):
        raise RuntimeError(f"a change could not be tried: {result.output}")
    return "timeout" if result.output == "timeout" else str(result.test_outcome.value)


def _line(change: MutationSpec, result: WorkResult) -> str:
    """Say in one line what was changed into what."""
    diff = [line for line in (result.diff or "").splitlines() if not line.startswith(("---", "+++"))]
    before, after = ([line[1:].strip() for line in diff if line.startswith(sign)] for sign in "-+")
    operator = change.operator_name.removeprefix("core/")
    return f"{change.start_pos[0]} {operator}: {' '.join(before)} → {' '.join(after)}"


if __name__ == "__main__":
    sys.exit(main())
