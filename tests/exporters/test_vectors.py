import base64
import hashlib
import inspect
import json
import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.lib.stride_tricks import sliding_window_view
from onnx import numpy_helper

from exporters import pictures
from exporters.integers import quantise
from exporters.vectors import vectors, vectors_file, write_vectors
from rnnspn import contract
from rnnspn.errors import DataError, ModelFileError
from rnnspn.inference import model_file
from rnnspn.inference.model_file import ModelFile
from tests import handmade
from tests.cli.program import rnnspn


def saved(model: onnx.ModelProto, folder: Path) -> ModelFile:
    path = folder / "model.onnx"
    path.write_bytes(model.SerializeToString())
    return model_file.load(path)


def prepared(levels: np.ndarray) -> np.ndarray:
    """Follow docs/pictures.md, steps 4 and 5, with nothing of what it describes."""

    def border() -> list[int]:
        return sorted(v for side in (levels[0], levels[-1], levels[:, 0], levels[:, -1]) for v in side.tolist())

    def sums(of: np.ndarray, r: int) -> np.ndarray:
        rows, columns = (np.arange(-r, n + r).clip(0, n - 1) for n in of.shape)
        return sliding_window_view(of[rows][:, columns], (2 * r + 1, 2 * r + 1)).sum((2, 3))

    def d_and_a(differences: np.ndarray) -> tuple[int, int]:
        every, k = sorted(differences.flatten().tolist()), differences.size // 200
        return max(0, -every[k]), max(0, every[len(every) - 1 - k])

    n, b = len(border()), border()[len(border()) // 2 - 1]
    r = min(levels.shape) // 8
    blurred = sums(levels.astype(np.int64), 1)
    d, a = d_and_a(blurred - 9 * b)
    local = d_and_a(blurred * (2 * r + 1) ** 2 - sums(blurred, r))
    if max(local) * min(d, a) > max(d, a) * min(local):
        d, a = local
    if d > a if 4 * max(d, a) > 5 * min(d, a) else b > 127:
        levels = 255 - levels
    m, p = border()[n // 2 - 1], border()[3 * n // 4]
    p = m if p - m > 64 else p
    if p == 0:
        return levels
    h = int(levels.max())
    scaled = [[(v - p) * 255 / max(h - p, 85) for v in row] for row in levels.tolist()]
    return np.array([[math.floor(min(max(v, 0), 255) + 0.5) for v in row] for row in scaled], np.uint8)


WRONG = {
    "nothing blurred": ("blurred = sums(levels.astype(np.int64), 1)", "blurred = 9 * levels.astype(np.int64)"),
    "from the border alone": ("if max(local) * min(d, a) > max(d, a) * min(local):", "if False:"),
    "from the surroundings alone": ("if max(local) * min(d, a) > max(d, a) * min(local):", "if True:"),
    "what is more, not more to one side": (
        "max(local) * min(d, a) > max(d, a) *",
        "max(local) > max(d, a) * r * r or 0 *",
    ),
    "nothing too rare": ("differences.size // 200", "0"),
    "a hundredth too rare": ("// 200", "// 100"),
    "no margin": ("4 * max(d, a) > 5 * min(d, a)", "max(d, a) > min(d, a)"),
    "left as it is where that is not clear": ("else b > 127", "else False"),
    "turned by what stands out alone": ("if 4 * max(d, a) > 5 * min(d, a) else b > 127", ""),
    "turned by the border alone": ("d > a if 4 * max(d, a) > 5 * min(d, a) else b > 127", "b > 127"),
    "surroundings twice as far": ("// 8", "// 4"),
    "surroundings not blurred": ("sums(blurred, r))", "9 * sums(levels.astype(np.int64), r))"),
    "black beyond the picture": ("of[rows][:, columns]", "np.pad(of, r)"),
    "mirrored beyond the picture": ("of[rows][:, columns]", 'np.pad(of, r, mode="reflect")'),
    "any shade is background": ("p = m if p - m > 64 else p", "pass"),
    "half the shade": ("p - m > 64", "p - m > 32"),
    "the lightest of the border": ("border()[3 * n // 4]", "border()[-1]"),
    "the middle of the border": ("p = m if p - m > 64 else p", "p = m"),
    "stretched without end": ("max(h - p, 85)", "max(h - p, 1)"),
    "rounded down": ("+ 0.5", ""),
    "corners once": ("levels[:, 0], levels[:, -1])", "levels[1:-1, 0], levels[1:-1, -1])"),
    "b at n / 2": ("border()[len(border()) // 2 - 1]", "border()[len(border()) // 2]"),
    "m at n / 2": ("border()[n // 2 - 1]", "border()[n // 2]"),
}
"""Ways to misread docs/pictures.md: what `prepared` says, and what it would say then."""


def levels_of(document: dict[str, Any], name: str) -> np.ndarray:
    levels = np.frombuffer(base64.b64decode(document[name]), np.uint8)
    return levels.reshape(document["height"], document["width"])


def faults(document: dict[str, Any], model: bytes) -> list[str]:
    """Check vectors as a client would: with the runtime and the document alone."""
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    found = []
    for index, small in enumerate(document["preparations"]):
        taken, image = (levels_of(small, name) for name in ("picture", "image"))
        if not np.array_equal(prepared(taken), image):
            found.append(f"image of preparation {index}")
    for index, vector in enumerate(document["vectors"]):
        taken, image = (levels_of(document | vector, name) for name in ("picture", "image"))
        if not np.array_equal(prepared(taken), image):
            found.append(f"image of picture {index}")
        images = image[None]
        for value, output in zip(session.get_outputs(), session.run(None, {"images": images}), strict=True):
            allowed = document["tolerances"].get(value.name, 0)
            if not np.abs(output[0] - np.array(vector[value.name])).max() <= allowed:
                found.append(f"{value.name} of picture {index}")
    return found


def test_the_bundled_vectors_belong_to_the_bundled_model_and_hold() -> None:
    content = model_file.bundled().read_bytes()
    path = vectors_file(model_file.bundled())
    document = json.loads(path.read_text())
    assert document["model"]["sha256"] == hashlib.sha256(content).hexdigest(), "run rnnspn vectors on the new model"
    assert path.stat().st_size < 350_000
    assert len(document["vectors"]) == 10
    assert len({tuple(vector["digits"]) for vector in document["vectors"]}) >= 6
    assert faults(document, content) == []


@pytest.mark.parametrize("wrong", WRONG)
def test_vectors_show_a_client_that_prepares_pictures_wrongly(wrong: str) -> None:
    document = json.loads(vectors_file(model_file.bundled()).read_text())
    source, (right, misread) = inspect.getsource(prepared), WRONG[wrong]
    assert source.count(right) == 1
    changed = dict(globals())
    exec(source.replace(right, misread), changed)
    pictures = [(levels_of(one, "picture"), levels_of(one, "image")) for one in document["preparations"]]
    assert sum(not np.array_equal(changed["prepared"](picture), image) for picture, image in pictures) >= 2


def scaled(picture: np.ndarray, height: int, width: int) -> np.ndarray:
    """Do step 3 of docs/pictures.md without Pillow."""
    down, across = (max(1, length // (3 * size)) for length, size in zip(picture.shape, (height, width), strict=True))
    blocks = [[picture[y : y + down, x : x + across] for x in range(0, picture.shape[1], across)]
              for y in range(0, picture.shape[0], down)]  # fmt: skip
    reduced = np.array([[np.floor(block.mean() + 0.5) for block in row] for row in blocks])
    rows = bicubic(reduced, picture.shape[1] / across, width)
    return bicubic(rows.T, picture.shape[0] / down, height).T


def bicubic(rows: np.ndarray, length: float, size: int) -> np.ndarray:
    wide = max(length / size, 1)
    away = np.abs(np.arange(rows.shape[1]) + 0.5 - (np.arange(size)[:, None] + 0.5) * length / size) / wide
    near, far = 1.5 * away**3 - 2.5 * away**2 + 1, -0.5 * away**3 + 2.5 * away**2 - 4 * away + 2
    weights = np.where(away < 1, near, np.where(away < 2, far, 0))
    levels = rows @ (weights / weights.sum(axis=1, keepdims=True)).T
    return np.floor(levels.clip(0, 255) + 0.5)


MISSCALED = {
    "as it stands": ("", ""),
    "not reduced before": ("max(1, length // (3 * size))", "1"),
    "reduced too early": ("3 * size", "2 * size"),
    "plain interpolation": ("max(length / size, 1)", "1"),
    "corners on corners": (
        "np.arange(rows.shape[1]) + 0.5 - (np.arange(size)[:, None] + 0.5) * length / size",
        "np.arange(rows.shape[1]) - np.arange(size)[:, None] * (rows.shape[1] - 1) / (size - 1)",
    ),
    "another bicubic": (
        "1.5 * away**3 - 2.5 * away**2 + 1, -0.5 * away**3 + 2.5 * away**2 - 4 * away + 2",
        "1.25 * away**3 - 2.25 * away**2 + 1, -0.75 * away**3 + 3.75 * away**2 - 6 * away + 3",
    ),
}
"""Ways to misread step 3: what `scaled` and `bicubic` say, and what they would say then."""


@pytest.mark.parametrize("wrong", MISSCALED)
def test_vectors_show_a_client_that_scales_pictures_wrongly(wrong: str) -> None:
    document = json.loads(vectors_file(model_file.bundled()).read_text())
    source, (right, misread) = inspect.getsource(scaled) + inspect.getsource(bicubic), MISSCALED[wrong]
    changed = dict(globals())
    exec(source.replace(right, misread) if right else source, changed)
    differences = []
    for one in document["scalings"]:
        expected = levels_of({**one, "height": one["scaled_height"], "width": one["scaled_width"]}, "scaled")
        found = changed["scaled"](levels_of(one, "picture"), *expected.shape)
        differences.append(np.abs(found - expected).max() / one["tolerance"])
    assert source.count(right) == 1 or not right
    assert (max(differences) > 1) == bool(right), differences


@pytest.mark.parametrize("name", [contract.DIGITS, contract.PROBABILITIES, contract.THETA])
def test_vectors_show_a_client_that_is_wrong(name: str) -> None:
    content = model_file.bundled().read_bytes()
    document = json.loads(vectors_file(model_file.bundled()).read_text())
    answers = np.array(document["vectors"][3][name])
    answers.flat[-1] += 1 if name == contract.DIGITS else 2e-4
    document["vectors"][3][name] = answers.tolist()
    assert faults(document, content) == [f"{name} of picture 3"]


@pytest.mark.parametrize(
    "changes",
    [{"steps": 5, "height": 60, "width": 170}, {"family": "conv", "downsample": None}, {"family": "ffn-spn"}],
    ids=["wide", "conv", "ffn-spn"],
)
def test_every_shape_and_family_has_vectors(tmp_path: Path, changes: dict[str, object]) -> None:
    facts = handmade.metadata(**changes)
    model = saved(handmade.build(facts), tmp_path)
    assert write_vectors(model, tmp_path / "answers.json") == 10
    document = json.loads((tmp_path / "answers.json").read_text())
    assert {len(vector["digits"]) for vector in document["vectors"]} == {facts.steps}
    assert all((contract.THETA in vector) == (facts.family != "conv") for vector in document["vectors"])
    assert faults(document, model.content) == []


def test_without_mnist_the_pictures_are_of_printed_digits(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> None:
        raise DataError("MNIST is missing")

    monkeypatch.setattr(pictures, "load_mnist", missing)
    document = vectors(model_file.load("bundled"))
    assert len(document["vectors"]) == 10
    assert faults(document, model_file.bundled().read_bytes()) == []


def test_pictures_that_might_be_read_either_way_are_left_out(tmp_path: Path) -> None:
    undecided = handmade.build()
    for weight in undecided.graph.initializer:
        if weight.name in ("levels", "offsets"):
            weight.CopyFrom(numpy_helper.from_array(np.zeros_like(numpy_helper.to_array(weight)), weight.name))
    with pytest.raises(ModelFileError, match="sure of nothing"):
        vectors(saved(undecided, tmp_path))


def test_the_command_writes_beside_the_model_or_here(model_path: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.onnx").write_bytes(model_path.read_bytes())
    assert rnnspn(tmp_path, "vectors", "mine.onnx", "-q") == (0, "", "")
    code, out, err = rnnspn(tmp_path, "vectors", "bundled")
    assert (code, out) == (0, "")
    assert err.startswith("wrote rnn-spn-d3.vectors.json: 10 pictures, model sha256 ")
    written = {path.name: json.loads(path.read_text()) for path in tmp_path.glob("*.json")}
    assert {name: document["model"]["file"] for name, document in written.items()} == {
        "mine.vectors.json": "mine.onnx",
        "rnn-spn-d3.vectors.json": "rnn-spn-d3.onnx",
    }


def test_vectors_do_not_need_torch(tmp_path: Path) -> None:
    code = (
        "import sys; sys.argv = ['rnnspn', 'vectors', 'bundled', '-q']; from cli.main import main; code = main()\n"
        "sys.exit('torch' if 'torch' in sys.modules else code)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_vectors_of_a_model_of_integers_hold_for_other_programs() -> None:
    bundled = model_file.load(model_file.BUNDLED)
    whole = quantise(onnx.load_from_string(bundled.content), pictures.synthesised(64, 3, 100, 100)).SerializeToString()
    assert faults(vectors(replace(bundled, content=whole)), whole) == []


def test_a_model_that_the_runtime_refuses_has_no_vectors(model_path: Path, tmp_path: Path) -> None:
    model = onnx.load(model_path)
    model.graph.node[0].op_type = "NoSuchOperator"
    onnx.save(model, tmp_path / "odd.onnx")
    with pytest.raises(ModelFileError, match=r"odd.onnx: ONNX Runtime refuses it"):
        vectors(model_file.load(tmp_path / "odd.onnx"))


def test_vectors_of_an_ort_file_are_refused_before_anything_is_made(tmp_path: Path) -> None:
    code, out, err = rnnspn(tmp_path, "export", "model.ort", "--vectors")
    assert (code, out, len(err.splitlines())) == (2, "", 1)
    assert "with --vectors" in err
