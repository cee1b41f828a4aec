import os
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LOCKED = re.compile(r"^(?P<name>[A-Za-z0-9._-]+)==(?P<version>\S+)(?: ; .*?)?(?:\s+--hash=sha256:[0-9a-f]{64})+\s*$")
OFFLINE = """
import os, socket, sys

def refused(*_, **__):
    os.write(2, b"a connection was opened\\n")
    os._exit(99)  # an exception might be caught

socket.socket.connect = socket.socket.connect_ex = socket.getaddrinfo = socket.create_connection = refused
{before}
from cli import console
from cli.main import app
for arguments in {commands}:
    print(*arguments, flush=True)
    if code := console.run(app, arguments):
        sys.exit(code)
"""


def _normalised(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _locked() -> dict[str, str]:
    text = (ROOT / "requirements-runtime.txt").read_text().replace("\\\n", "")
    matches = [LOCKED.match(line) for line in text.splitlines()]
    assert matches
    assert all(matches), "a line is no package with its hashes"
    return {_normalised(match["name"]): match["version"] for match in matches if match}


def test_everything_that_predicting_needs_is_locked_with_hashes_and_no_address() -> None:
    locked = _locked()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for requirement in (*project["dependencies"], *project["optional-dependencies"]["cpu"]):
        assert _normalised(re.split(r"[><=;\[]", requirement)[0]) in locked
    assert "torch" not in locked
    assert "://" not in (ROOT / "requirements-runtime.txt").read_text()


def test_what_is_locked_is_what_the_tests_ran_with() -> None:
    constraints = dict(
        line.split("==") for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")
    )
    versions = {_normalised(name): version for name, version in constraints.items()}
    locked = {name: version for name, version in _locked().items() if name != "colorama"}  # for Windows alone
    assert locked == {name: versions.get(name) for name in locked}


def test_the_wheel_holds_the_program_and_the_bundled_model_and_nothing_else(tmp_path: Path) -> None:
    build = f"import hatchling.build; print(hatchling.build.build_wheel({str(tmp_path)!r}))"
    done = subprocess.run([sys.executable, "-c", build], cwd=ROOT, capture_output=True, text=True, check=True)
    with zipfile.ZipFile(tmp_path / done.stdout.split()[-1]) as wheel:
        names = wheel.namelist()
    rooms = ("rnnspn", "cli", "exporters")
    sources = {path.relative_to(ROOT).as_posix() for room in rooms for path in (ROOT / room).rglob("*.py")}
    models = {f"rnnspn/assets/models/{path.name}" for path in (ROOT / "assets" / "models").iterdir()}
    assert {name for name in names if ".dist-info/" not in name} == sources | models
    about = {name.partition(".dist-info/")[2] for name in names if ".dist-info/" in name}
    assert about == {"METADATA", "WHEEL", "RECORD", "entry_points.txt", "licenses/LICENSE"}


def _offline(folder: Path, *commands: list[str], before: str = "") -> subprocess.CompletedProcess[str]:
    """Run commands in a process that ends with exit code 99 where one opens a connection."""
    code = OFFLINE.format(commands=commands, before=before)
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, "-c", code], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


@pytest.mark.slow
def test_no_command_opens_a_connection(tmp_path: Path) -> None:
    images = str(ROOT / "assets" / "images")
    done = _offline(
        tmp_path,
        ["train", "--size", "nano", "-d", "4", "--epochs", "1", "--limit", "64", "-q"],
        ["export", "model.onnx", "--vectors", "-q"],
        ["predict", images, "--annotate", "drawn", "-q"],
        ["evaluate", "bundled", "--data", images, "-q"],
        ["inspect", "model.onnx"],
        ["bench", "model.onnx", "--batch", "1", "--seconds", "0.1"],
        ["doctor"],
        ["data", "sample", "samples", "--count", "4"],
        ["--help"],
    )
    assert done.returncode == 0, f"{done.stdout}{done.stderr}"
    assert "\n--help\n" in done.stdout, "every command was run"


def test_reading_leaves_nothing_in_the_users_home(tmp_path: Path) -> None:
    # ONNX Runtime's telemetry keeps an identifier and what it has not sent yet there, and is silent where CI is set.
    unset = ("CI", "GITHUB_ACTIONS", "TF_BUILD", "XDG_CACHE_HOME", "ORT_DISABLE_TELEMETRY", "ORT_RUNNING_UNIT_TESTS")
    environment = {name: value for name, value in os.environ.items() if name not in unset}
    done = subprocess.run(
        [sys.executable, "-m", "cli.main", "predict", str(ROOT / "assets" / "images"), "-q", "--format", "text"],
        cwd=ROOT, env=environment | {"HOME": str(tmp_path)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert list(tmp_path.rglob("*")) == []


@pytest.mark.parametrize("call", ["socket.create_connection(('127.0.0.1', 9))", "socket.getaddrinfo('localhost', 9)"])
def test_the_test_above_can_fail(tmp_path: Path, call: str) -> None:
    done = _offline(tmp_path, ["--help"], before=call)
    assert (done.returncode, done.stderr) == (99, "a connection was opened\n")


def test_data_fetch_is_the_one_command_that_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert _offline(tmp_path, ["data", "fetch", "-q"]).returncode == 99
