"""Run the program in a folder: as a user does, in a process of its own, or, for what ends in an error, in this one."""

import contextlib
import io
import os
import subprocess
import sys
import warnings
from pathlib import Path

from cli import console
from cli.main import app

ROOT = Path(__file__).parents[2]


def start(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    """Start it; lines are never wrapped."""
    return subprocess.Popen(
        [sys.executable, "-m", "cli.main", *arguments],
        cwd=folder, env={**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "300"},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def rnnspn(folder: Path, *arguments: str) -> tuple[int, str, str]:
    """Run it to its end; return the exit code, stdout and stderr."""
    process = start(folder, *arguments)
    out, err = process.communicate(timeout=300)
    return process.returncode, out, err


def rnnspn_here(folder: Path, *arguments: str) -> tuple[int, str, str]:
    """Run it in this process, which does not have to import PyTorch again; return the exit code, stdout and stderr."""
    out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8") for _ in range(2))
    with (
        contextlib.chdir(folder), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err),
        warnings.catch_warnings(),
    ):  # fmt: skip
        code = console.run(app, [*arguments])
    for stream in (out, err):
        stream.seek(0)
    return code, out.read(), err.read()
