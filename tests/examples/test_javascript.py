import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import onnx
import pytest
from PIL import Image

from exporters.to_ort import convert
from exporters.vectors import vectors_file
from rnnspn.inference import model_file
from tests import handmade
from tests.cli.program import ROOT

FOLDER = ROOT / "examples" / "javascript"

pytestmark = [
    pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed"),
    pytest.mark.skipif(not (FOLDER / "node_modules").is_dir(), reason="its packages are not installed: make examples"),
]


def read(*pictures: Path, model: Path | None = None) -> tuple[int, str, str]:
    return run("read.js", model or model_file.bundled(), *pictures)


def check(vectors: Path, model: Path | None = None) -> tuple[int, str, str]:
    return run("check.js", model or model_file.bundled(), vectors)


def run(script: str, *arguments: Path) -> tuple[int, str, str]:
    command = ["node", FOLDER / script, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    return done.returncode, done.stdout, done.stderr


def changed_vectors(folder: Path, **changes: Any) -> Path:
    document = json.loads(vectors_file(model_file.bundled()).read_text())
    document["model"] |= changes.pop("model", {})
    document["preparations"][2] |= changes.pop("preparation", {})
    document["vectors"][5] |= changes
    path = folder / "changed.json"
    path.write_text(json.dumps(document))
    return path


def test_the_client_reads_the_plain_samples() -> None:
    labels = dict(line.split(",") for line in (ROOT / "assets/images/labels.csv").read_text().splitlines()[1:])
    plain = {name: label for name, label in labels.items() if name.endswith("plain.png")}
    assert len(plain) == 10
    code, out, err = read(*(ROOT / "assets/images" / name for name in plain))
    assert (code, err) == (0, "")
    assert [line.split("\t") for line in out.splitlines()] == [
        [str(ROOT / "assets/images" / name), label] for name, label in plain.items()
    ]


def test_the_client_agrees_with_the_golden_vectors() -> None:
    assert check(vectors_file(model_file.bundled())) == (0, "10 vectors agree\n", "")


def test_an_ort_file_is_checked_on_the_vectors_of_its_model(tmp_path: Path) -> None:
    content, _ = convert(model_file.bundled().read_bytes())
    (tmp_path / "model.ort").write_bytes(content)
    said = check(vectors_file(model_file.bundled()), model=tmp_path / "model.ort")
    assert said == (0, "10 vectors agree\n", "")
    code, _, err = check(changed_vectors(tmp_path, digits=[0, 0, 0]), model=tmp_path / "model.ort")
    assert (code, "digits of picture 5" in err) == (1, True)


def test_without_a_picture_it_says_how_it_is_called() -> None:
    assert read() == (2, "", "usage: node read.js MODEL.onnx PICTURE.png...\n")


def test_a_model_that_is_missing_is_one_line(tmp_path: Path) -> None:
    code, out, err = read(Path("picture.png"), model=tmp_path / "none.onnx")
    assert (code, out) == (1, "")
    assert "none.onnx" in err
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"digits": [0, 0, 0]}, "digits of picture 5"),
        ({"theta": [[[0.5, 0, 0], [0, 0.5, 0]]] * 3}, "theta of picture 5"),
        ({"preparation": {"height": 40, "width": 24}}, "image of preparation 2"),
        ({"model": {"sha256": "0" * 64}}, "of another model"),
    ],
)
def test_the_client_notices_answers_that_differ(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    code, out, err = check(changed_vectors(tmp_path, **changes))
    assert (code, out) == (1, "")
    assert said in err
    assert len(err.splitlines()) == 1


def test_classes_are_spelled_in_the_models_alphabet_and_blanks_at_the_end_left_out(tmp_path: Path) -> None:
    model = tmp_path / "model.onnx"
    onnx.save(handmade.build(handmade.metadata(alphabet='"\\äb5678␣x')), model)
    for digits in ("012", "388", "838", "888"):
        Image.fromarray(handmade.picture_of(digits)).save(tmp_path / f"{digits}.png")
    code, out, err = read(*sorted(tmp_path.glob("*.png")), model=model)
    assert (code, err) == (0, "")
    assert [line.split("\t")[1] for line in out.splitlines()] == ['"\\ä', "b", "␣b", ""]


def test_what_is_no_picture_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("no picture")
    code, out, err = read(tmp_path / "text.png")
    assert (code, out, len(err.splitlines())) == (1, "", 1)


def test_a_picture_of_another_size_is_said_at_once(tmp_path: Path) -> None:
    Image.new("L", (3000, 2000)).save(tmp_path / "large.png")
    code, out, err = read(tmp_path / "large.png")
    assert (code, out, len(err.splitlines())) == (1, "", 1)
    assert "has 2000 x 3000 pixels, the model takes 100 x 100" in err


def test_a_model_of_others_is_one_line(tmp_path: Path) -> None:
    other = handmade.build()
    del other.metadata_props[:]
    onnx.save(other, tmp_path / "other.onnx")
    code, out, err = read(Path("picture.png"), model=tmp_path / "other.onnx")
    assert (code, out, len(err.splitlines())) == (1, "", 1)
    assert "was not made by rnnspn" in err
