import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from rnnspn.inference import model_file
from rnnspn.scores import Score
from tests import handmade
from tests.cli.program import rnnspn, rnnspn_here


def test_the_bundled_model_tells_everything_about_itself(tmp_path: Path) -> None:
    code, out, err = rnnspn(tmp_path, "inspect")
    assert (code, err) == (0, "")
    lines = {line[:18].strip(): line[19:] for line in out.splitlines()}
    content = model_file.bundled().read_bytes()
    assert lines["sha256"] == hashlib.sha256(content).hexdigest()
    assert lines["size"].startswith(f"{len(content):,} bytes")
    assert lines["in images"] == "uint8 (N, 100, 100)"
    assert lines["out theta"] == "float32 (N, 3, 2, 3)"
    assert "GridSample 1" in lines["operators"]
    assert "opset 18" in lines["graph"]
    assert lines["validation"] == "none: those pictures were learned from too"
    assert "per digit (n = 30,000" in lines["test"]
    assert "largest differences from PyTorch: probabilities" in lines["parity"]


@pytest.mark.parametrize("bits", ["", ", in float32"])
def test_a_validation_error_is_given_with_its_interval(tmp_path: Path, bits: str) -> None:
    training = {"validation": Score(600, 6, 200, 5, (1, 2, 3), (200,) * 3).to_dict(), "data": {"validation": True}}
    cost = {"precision": "int8", "sequences": 200, "full": 0.97, "reduced": 0.96, "different": 1}
    about = handmade.metadata(training=training, parity={"stored_weights": cost} if bits else {})
    (tmp_path / "model.onnx").write_bytes(handmade.build(about).SerializeToString())
    code, out, _ = rnnspn(tmp_path, "inspect")
    (line,) = [line[19:] for line in out.splitlines() if line.startswith("validation ")]
    assert code == 0
    assert line == f"1.00% per digit (n = 600, 95 % interval 0.46% to 2.16%), 2.50% per sequence{bits}"


def test_a_validation_error_on_pictures_that_the_first_weights_knew_is_none(tmp_path: Path) -> None:
    training = {"validation": Score(600, 6, 200, 5, (1, 2, 3), (200,) * 3).to_dict(), "data": {"learned": ["mnist"]}}
    (tmp_path / "model.onnx").write_bytes(handmade.build(handmade.metadata(training=training)).SerializeToString())
    code, out, _ = rnnspn(tmp_path, "inspect")
    (line,) = [line[19:] for line in out.splitlines() if line.startswith("validation ")]
    assert (code, line) == (0, "none: the weights that it began with had learned from those pictures")


def test_what_a_model_does_not_say_is_said_to_be_unknown(tmp_path: Path) -> None:
    (tmp_path / "conv.onnx").write_bytes(
        handmade.build(handmade.metadata(family="conv", downsample=None)).SerializeToString()
    )
    code, out, _ = rnnspn(tmp_path, "inspect", "conv.onnx")
    lines = {line[:18].strip(): line[19:] for line in out.splitlines()}
    assert code == 0
    assert "out theta" not in lines
    assert lines["model"].startswith("conv, d = none")
    assert (lines["test"], lines["parity"]) == ("not measured", "not recorded")


@pytest.mark.parametrize(
    "values",
    [
        {"training": {"data": "x"}},
        {"training": {"data": {"seen": False}}},
        {"training": {"validation": {"digit_error": 1}}},
        {"parity": {"max_difference": 3}},
        {"parity": {"bfloat16": True}},
        {"test_error": {"digit_error": "a"}},
    ],
)
def test_metadata_that_nobody_writes_is_one_line(tmp_path: Path, values: dict[str, Any]) -> None:
    (tmp_path / "odd.onnx").write_bytes(handmade.build(handmade.metadata(**values)).SerializeToString())
    code, out, err = rnnspn_here(tmp_path, "inspect", "odd.onnx")
    assert (code, out, len(err.splitlines())) == (2, "", 1)
    assert "odd.onnx: its metadata is not what rnnspn export writes" in err


def test_programs_get_it_as_json(tmp_path: Path) -> None:
    code, out, _ = rnnspn(tmp_path, "inspect", "bundled", "--json")
    facts = json.loads(out)
    assert code == 0
    assert facts["outputs"]["digits"] == "int64 (N, 3)"
    assert facts["operators"]["GridSample"] == 1
    assert facts["nodes"] == sum(facts["operators"].values())


def test_no_model_is_one_line(tmp_path: Path) -> None:
    code, out, err = rnnspn(tmp_path, "inspect", "none.onnx")
    assert (code, out, len(err.splitlines())) == (2, "", 1)
