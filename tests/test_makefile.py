import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TARGETS = re.findall(r"^([a-z-]+):.*##", (ROOT / "Makefile").read_text(), re.MULTILINE)

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="there is no make")


def plan(target: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Say what would be done for a target where nothing has been made yet."""
    command = ["make", "--dry-run", "--makefile", ROOT / "Makefile", "--directory", ROOT, f"VENV={folder}", target]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("target", TARGETS)
def test_every_target_knows_how_to_make_what_it_needs(target: str, tmp_path: Path) -> None:
    done = plan(target, tmp_path / "venv")
    assert done.returncode == 0, done.stderr
    assert done.stdout


def test_a_target_without_a_rule_would_be_noticed(tmp_path: Path) -> None:
    assert "No rule to make target" in plan("nothing-of-this-name", tmp_path / "venv").stderr


def test_contributors_are_told_of_every_target_but_a_few() -> None:
    told = set(re.findall(r"^    make ([a-z-]+)  ", (ROOT / "CONTRIBUTING.md").read_text(), re.MULTILINE))
    assert told <= set(TARGETS)
    assert set(TARGETS) - told == {"help", "demo", "lint", "clean"}
