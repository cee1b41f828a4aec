import csv
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cli import console
from cli.main import app
from rnnspn.data import mnist
from rnnspn.data.mnist import FILES, load_mnist
from rnnspn.data.sequences import Sequences

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def fresh_console() -> None:
    console.stderr.cache_clear()  # it holds the stderr of the test before


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "labels.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_sample_writes_25_test_pictures_with_labels(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert console.run(app, ["data", "sample", str(tmp_path / "samples")]) == 0
    images, labels = Sequences(load_mnist(), "test").pictures(np.arange(25))
    written = rows(tmp_path / "samples")
    assert [row["label"] for row in written] == ["".join(map(str, label)) for label in labels]
    for row, image in zip(written, images, strict=True):
        np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "samples" / row["path"])), image)
    out, err = capsys.readouterr()
    assert out == ""
    assert "wrote 25 pictures" in err
    assert "unforeseen" not in err


def test_every_option_of_sample_reaches_the_synthesis(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = "--count 2 --split validation --layout paper --seed 9 --digits 2 --height 60 --width 80 --quiet"
    assert console.run(app, ["data", "sample", str(tmp_path), *options.split()]) == 0
    images, _ = Sequences(load_mnist(), "validation", 9, "paper", 2, 60, 80).pictures(np.arange(2))
    found = [np.asarray(Image.open(tmp_path / row["path"])) for row in rows(tmp_path)]
    np.testing.assert_array_equal(found, images)
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("options", "code", "says"),
    [
        (["--digits", "4"], 2, "need a canvas wider than 112"),
        (["--digits", "9"], 2, "--digits"),
        (["--count", "0"], 2, "--count"),
        (["--layout", "random"], 2, "--layout"),
        (["--seed", "-1"], 2, "--seed"),
    ],
)
def test_what_cannot_be_sampled_is_one_line_and_writes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], code: int, says: str
) -> None:
    assert console.run(app, ["data", "sample", str(tmp_path / "samples"), *options]) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert says in err
    assert err.count("\n") == 1
    assert not (tmp_path / "samples").exists()


def test_a_place_that_cannot_be_written_exits_with_5(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    assert console.run(app, ["data", "sample", str(tmp_path / "file")]) == 5
    assert capsys.readouterr().err.count("\n") == 1


def test_fetch_names_the_files_it_fetches_and_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    mirror = shutil.copytree(ROOT / "assets" / "mnist", tmp_path / "mirror")
    monkeypatch.setattr(mnist, "MIRRORS", (mirror.as_uri() + "/",))
    monkeypatch.setattr(mnist, "cache_folder", lambda: tmp_path / "cache")
    assert console.run(app, ["data", "fetch"]) == 0
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [*(f"fetching {name}" for name in FILES), f"MNIST is in {tmp_path / 'cache'}"]
    assert console.run(app, ["data", "fetch", "--quiet"]) == 0
    assert capsys.readouterr() == ("", "")


def test_fetch_without_a_network_is_one_line_and_exits_with_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(mnist, "MIRRORS", ((tmp_path / "nowhere").as_uri() + "/",))
    monkeypatch.setattr(mnist, "cache_folder", lambda: tmp_path / "cache")
    assert console.run(app, ["data", "fetch", "--quiet"]) == 2
    err = capsys.readouterr().err
    assert "where there is a network" in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(("first", "imported"), [("", "False"), ("import torch", "True")])
def test_sample_does_not_need_torch(tmp_path: Path, first: str, imported: str) -> None:
    code = (
        f"{first}\nimport sys; sys.argv = ['rnnspn', 'data', 'sample', 'samples', '--count', '1', '-q']\n"
        "from cli.main import main; code = main(); print('torch' in sys.modules); sys.exit(code)"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert result.stdout == f"{imported}\n"
