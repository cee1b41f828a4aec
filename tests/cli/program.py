"""Run the program as a user does: in a process of its own, in a folder."""

import os
import subprocess
import sys
from pathlib import Path

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
