import json
import shutil
import subprocess
from pathlib import Path

import pytest

from rnnspn.inference import model_file

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "javascript"
MODEL = ROOT / "assets" / "models" / "rnn-spn-d3.onnx"
VECTORS = MODEL.with_suffix(".vectors.json")

pytestmark = pytest.mark.skipif(
    not (shutil.which("node") and (EXAMPLE / "node_modules").exists()),
    reason="needs Node.js, and npm install in examples/javascript",
)


def _node(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = ["node", "read.js", *map(str, arguments)]
    return subprocess.run(command, cwd=EXAMPLE, capture_output=True, text=True, check=False, timeout=60)


def test_the_client_reads_the_sample_pictures_of_the_models_size() -> None:
    samples = [ROOT / "assets" / "images" / f"0{number}-plain.png" for number in range(10)]
    done = _node(MODEL, *samples)
    assert (done.returncode, done.stderr) == (0, "")
    labels = dict(line.split(",") for line in (samples[0].parent / "labels.csv").read_text().splitlines())
    assert done.stdout.splitlines() == [f"{sample}\t{labels[sample.name]}" for sample in samples]


def test_the_client_passes_on_the_golden_vectors() -> None:
    done = _node(MODEL, "--vectors", VECTORS)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count(": agrees") == 8


@pytest.mark.parametrize(
    ("name", "wrong"), [("digits", [9, 9, 8]), ("theta", None), ("probabilities", [[0.0] * 9] * 3)]
)
def test_the_client_notices_a_disagreement(tmp_path: Path, name: str, wrong: object) -> None:
    golden = json.loads(VECTORS.read_text())
    vector = golden["vectors"][2]
    vector[name] = wrong if wrong else [[[value + 0.002 for value in row] for row in matrix] for matrix in vector[name]]
    (tmp_path / "vectors.json").write_text(json.dumps(golden))
    done = _node(MODEL, "--vectors", tmp_path / "vectors.json")
    assert done.returncode == 1
    assert done.stdout.count("DISAGREES") == 1


def test_vectors_of_another_model_are_refused(tmp_path: Path) -> None:
    other = tmp_path / "other.onnx"
    other.write_bytes(model_file.bundled().read_bytes() + b"\x0a\x00")
    assert "of another model" in _node(other, "--vectors", VECTORS).stderr
