import base64
import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from exporters.vectors import vectors, vectors_file
from rnnspn.inference import model_file
from tests import handmade
from tests.cli.program import ROOT

FOLDER = ROOT / "examples" / "cpp"
LIBRARIES = sorted(Path(onnxruntime.__file__).parent.glob("capi/libonnxruntime.so.*"))
PREPARE = """
#include <cstdio>
#include <cstdlib>
#include "ink.hpp"
int main(int, char **size) {
    Picture picture{std::atoi(size[1]), std::atoi(size[2]), {}};
    for (int level; (level = std::getchar()) != EOF;) picture.levels.push_back(uint8_t(level));
    prepare(picture);
    for (const uint8_t level : picture.levels) std::putchar(level);
}
"""
Client = Callable[..., tuple[int, str, str]]

pytestmark = [
    pytest.mark.skipif(shutil.which("c++") is None, reason="there is no C++ compiler"),
    pytest.mark.skipif(not LIBRARIES, reason="this onnxruntime carries no shared library"),
    pytest.mark.skipif(
        not (FOLDER / "include" / "onnxruntime_cxx_api.h").is_file(), reason="its headers are not there: make examples"
    ),
]


@pytest.fixture(scope="module")
def read(tmp_path_factory: pytest.TempPathFactory) -> Client:
    """Compile the client against the library in the wheel, without a warning, and return what runs it."""
    folder = tmp_path_factory.mktemp("client")
    library = folder / "libonnxruntime.so.1"  # the name by which the library calls itself, which the wheel leaves out
    library.symlink_to(LIBRARIES[0])
    strict = ("-std=c++17", "-Wall", "-Wextra", "-Werror", "-I", FOLDER / "include")
    command = ["c++", *strict, FOLDER / "read.cpp", library, f"-Wl,-rpath,{folder}", "-o", folder / "read"]
    subprocess.run(command, check=True)

    def run(*arguments: object) -> tuple[int, str, str]:
        done = subprocess.run([folder / "read", *arguments], capture_output=True, text=True, check=False, timeout=60)
        return done.returncode, done.stdout, done.stderr

    return run


def saved_pictures(document: dict[str, Any], folder: Path) -> list[Path]:
    header = f"P5\n{document['width']} {document['height']}\n255\n".encode()
    paths = [folder / f"{index}.pgm" for index in range(len(document["vectors"]))]
    for path, vector in zip(paths, document["vectors"], strict=True):
        path.write_bytes(header + base64.b64decode(vector["picture"]))
    return paths


def differences(document: dict[str, Any], out: str) -> dict[str, float]:
    """Return the largest difference of each output between the vectors and what the client printed."""
    worst: dict[str, float] = {}
    for line, vector in zip(out.splitlines(), document["vectors"], strict=True):
        digits, *numbers = line.split("\t")
        assert digits == "".join(map(str, vector["digits"]))
        for name, field in zip(document["tolerances"], numbers, strict=False):
            got, expected = np.array(field.split(), float), np.array(vector[name]).ravel()
            assert got.shape == expected.shape
            worst[name] = max(worst.get(name, 0.0), float(np.abs(got - expected).max()))
    return worst


def test_the_client_agrees_with_the_golden_vectors(read: Client, tmp_path: Path) -> None:
    document = json.loads(vectors_file(model_file.bundled()).read_text())
    code, out, err = read(model_file.bundled(), *saved_pictures(document, tmp_path))
    assert (code, err) == (0, "")
    found = differences(document, out)
    assert set(found) == {"probabilities", "theta"}
    assert all(found[name] <= allowed for name, allowed in document["tolerances"].items())


def test_the_client_prepares_pictures_as_the_vectors_say(tmp_path: Path) -> None:
    (tmp_path / "prepare.cpp").write_text(PREPARE)
    strict = ("-std=c++17", "-Wall", "-Wextra", "-Werror", "-fsanitize=address,undefined")
    subprocess.run(["c++", *strict, "-I", FOLDER, tmp_path / "prepare.cpp", "-o", tmp_path / "prepare"], check=True)
    for small in json.loads(vectors_file(model_file.bundled()).read_text())["preparations"]:
        command = [tmp_path / "prepare", str(small["height"]), str(small["width"])]
        done = subprocess.run(command, input=base64.b64decode(small["picture"]), capture_output=True, check=True)
        assert base64.b64encode(done.stdout).decode() == small["image"]


def test_a_model_without_theta_is_read_too(read: Client, tmp_path: Path) -> None:
    path = tmp_path / "conv.onnx"
    onnx.save(handmade.build(handmade.metadata(family="conv", downsample=None)), path)
    document = vectors(model_file.load(path))
    code, out, err = read(path, *saved_pictures(document, tmp_path))
    assert (code, err) == (0, "")
    found = differences(document, out)
    assert set(found) == {"probabilities"}
    assert found["probabilities"] <= document["tolerances"]["probabilities"]


def test_classes_are_spelled_in_the_models_alphabet_and_blanks_at_the_end_left_out(
    read: Client, tmp_path: Path
) -> None:
    path = tmp_path / "model.onnx"
    onnx.save(handmade.build(handmade.metadata(alphabet='"\\äb5678␣x')), path)
    pictures = []
    for number, digits in enumerate(("012", "388", "838", "888")):
        pictures.append(tmp_path / f"{number}.pgm")
        pictures[-1].write_bytes(b"P5\n100 100\n255\n" + handmade.picture_of(digits).tobytes())
    code, out, err = read(path, *pictures)
    assert (code, err) == (0, "")
    assert [line.split("\t")[0] for line in out.splitlines()] == ['"\\ä', "b", "␣b", ""]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"P5\n100 100\n255\n", "cut off"),
        (b"P2\n100 100\n255\n0 0", "no plain binary PGM"),
        (b"P5\n4000 4000\n255\n" + bytes(16_000_000), "not of the model's size"),
    ],
)
def test_what_is_no_picture_of_the_models_size_is_said(read: Client, tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / "bad.pgm").write_bytes(content)
    code, out, err = read(model_file.bundled(), tmp_path / "bad.pgm")
    assert (code, out) == (1, "")
    assert err.startswith("error: ")
    assert said in err
