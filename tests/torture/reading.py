"""Give files to the real program and hold it to its word: one record for each, in order, in time, and nothing else."""

import json
import os
import selectors
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.torture.record import ROOT

PREDICT = (sys.executable, "-m", "cli.main", "predict", "-", "--format", "jsonl", "--quiet", "--model", "bundled",
           "--provider", "cpu")  # fmt: skip
LIMIT_S = 10.0
"""Longest time that a file may take, start-up included."""
CODES = {
    "not-found", "unreadable", "not-a-file", "empty", "too-large", "not-an-image", "damaged", "unsupported", "crashed",
    "too-slow",
}  # fmt: skip

_BATCH = 16


@dataclass
class Report:
    """What came back.

    Attributes:
        records: The parsed records, in order.
        faults: What was wrong, one line each.
        slowest_s: Longest time without a record, start-up left out.
    """

    records: list[dict[str, Any]] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    slowest_s: float = 0.0


@dataclass
class _Run:
    lines: list[bytes]
    code: int
    stderr: str
    stalled: bool
    slowest_s: float


def read_all(files: Sequence[Path], command: Sequence[str] = PREDICT, limit_s: float = LIMIT_S) -> Report:
    """Read files with the program; when it dies or stalls, find the file to blame and go on after it.

    Args:
        files: What to read.
        command: Takes NUL-ended paths on its standard input.
        limit_s: Longest time without a record.
    """
    report, at = Report(), 0
    while at < len(files):
        run = _run(files[at:], command, limit_s)
        _note(run, files[at : at + len(run.lines)], report)
        at += len(run.lines)
        if run.stderr.strip():
            report.faults.append(f"{_blame(files, command, limit_s)}: stderr: {run.stderr.strip().splitlines()[-1]}")
        if at == len(files):
            failed = any("error" in record for record in report.records[-len(run.lines) :])
            if run.code != failed and not run.stalled:
                report.faults.append(f"exit code {run.code}, expected {int(failed)}")
            break
        suspects = files[at : at + _BATCH]
        guilty = 0
        for suspect in suspects:
            alone = _run([suspect], command, limit_s)
            if len(alone.lines) != 1 or alone.stalled:
                guilty += 1
                report.faults.append(f"{suspect}: {_end(alone)}")
            _note(alone, [suspect][: len(alone.lines)], report)
        if not guilty:
            report.faults.append(f"{_end(run)} near {suspects[0]}, but not on any file alone")
        at += len(suspects)
    return report


def _note(run: _Run, files: Sequence[Path], report: Report) -> None:
    report.slowest_s = max(report.slowest_s, run.slowest_s)
    if len(run.lines) > len(files):
        report.faults.append(f"{len(run.lines)} lines for {len(files)} files")
    for line, file in zip(run.lines, files, strict=False):
        try:
            record = json.loads(line)
        except ValueError:
            record = None
        if not isinstance(record, dict):
            record = {"line": repr(line[:100])}
        report.records.append(record)
        if not sound(record, file):
            report.faults.append(f"{file}: unsound record {str(record)[:200]}")


def sound(record: dict[str, Any], file: Path) -> bool:
    """Tell whether a record is a reading of three digits or a known failure in one line, of this file."""
    if record.get("path") != str(file):
        return False
    if "error" in record:
        error = record["error"]
        return error["code"] in CODES and 0 < len(error["message"]) < 400 and error["message"].isprintable()
    steps = record.get("steps", [])
    return (
        len(steps) == 3
        and record.get("digits") == "".join(step["digit"] for step in steps)
        and all(0 <= step["probability"] <= 1 and len(step["quad"]) == 4 for step in steps)
        and 0 <= record["confidence"] <= 1
    )


def _run(files: Sequence[Path], command: Sequence[str], limit_s: float) -> _Run:
    environment = os.environ | {"PYTHONPATH": str(ROOT), "COLUMNS": "300"}
    with tempfile.TemporaryFile() as listed, tempfile.TemporaryFile() as said:
        listed.write(b"".join(os.fsencode(file) + b"\0" for file in files))
        listed.seek(0)
        with subprocess.Popen(
            command, cwd=ROOT, env=environment, stdin=listed, stdout=subprocess.PIPE, stderr=said
        ) as process:
            data, slowest, stalled = b"", 0.0, False
            for chunk, waited in _chunks(process, limit_s):
                if chunk is None:
                    stalled = True
                    process.kill()
                    break
                slowest = max(slowest, waited if data else 0.0)
                data += chunk
            code = process.wait()
        said.seek(0)
        stderr = said.read().decode(errors="replace")
    return _Run(data.split(b"\n")[:-1], code, stderr, stalled, slowest)


def _chunks(process: "subprocess.Popen[bytes]", limit_s: float) -> Iterator[tuple[bytes | None, float]]:
    """Yield what comes and how long it took; None when nothing comes in time."""
    assert process.stdout is not None
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while True:
            asked = time.monotonic()
            if not selector.select(limit_s):
                yield None, limit_s
                return
            chunk = os.read(process.stdout.fileno(), 1 << 20)
            if not chunk:
                return
            yield chunk, time.monotonic() - asked


def _blame(files: Sequence[Path], command: Sequence[str], limit_s: float) -> str:
    """Find by halves the first file that makes the program write to stderr."""
    while len(files) > 1:
        half = files[: len(files) // 2]
        files = half if _run(half, command, limit_s).stderr.strip() else files[len(half) :]
    return str(files[0])


def _end(run: _Run) -> str:
    if run.stalled:
        return "no record in time"
    last = run.stderr.strip().splitlines()[-1:] or ["nothing on stderr"]
    return f"ended with {run.code} before its record ({last[0]})"
