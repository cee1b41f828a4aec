import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper

from cli import console
from cli.main import app
from exporters import to_onnx, to_ort
from exporters.integers import quantise
from exporters.to_onnx import Export, ExportConfig, Made
from exporters.to_ort import convert, export, operators_file
from rnnspn import contract
from rnnspn.config import family_config
from rnnspn.errors import ConfigError, ModelFileError, OutputError, ParityError
from rnnspn.models.networks import Network
from tests import handmade
from tests.exporters.conftest import lively_network, save_checkpoint

PARSE = """
import json, sys
from onnxruntime.tools.reduced_build_config_parser import parse_config
operators, _ = parse_config(sys.argv[1])
json.dump({domain: sorted(set().union(*found.values())) for domain, found in operators.items()}, sys.stdout)
"""
CHECKPOINT = Path("model.safetensors")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    network = lively_network(family_config("rnn-spn"))
    checkpoint = save_checkpoint(network, tmp_path_factory.mktemp("run") / CHECKPOINT)
    return to_onnx.make(checkpoint, Path("model.onnx"))


@pytest.fixture
def _made_before(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    """Making the same model for every test would take most of their time."""
    monkeypatch.setattr(to_onnx, "make", lambda *_, **__: made)


@pytest.fixture(scope="module")
def converted(made: Made) -> tuple[bytes, str]:
    return convert(made.content)


@pytest.fixture(scope="module")
def written(made: Made, converted: tuple[bytes, str], tmp_path_factory: pytest.TempPathFactory) -> Export:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(to_onnx, "make", lambda *_, **__: made)
        patch.setattr(to_ort, "convert", lambda _: converted)
        return export(CHECKPOINT, tmp_path_factory.mktemp("written") / "model.ort")


def session(model: bytes) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])


def test_the_files_are_written_side_by_side(written: Export, converted: tuple[bytes, str]) -> None:
    assert written.path.read_bytes() == converted[0]
    assert written.size_bytes == written.path.stat().st_size
    assert written.beside == (written.path.with_name("model.required_operators.config"),)
    assert written.beside[0].read_text().endswith(converted[1])
    assert 0 < written.parity.max_difference["probabilities"] <= written.parity.tolerance


def test_the_file_is_of_ort_format_and_says_what_the_onnx_file_says(made: Made, converted: tuple[bytes, str]) -> None:
    assert converted[0][4:8] == b"ORTM"
    pictures = np.random.default_rng(1).integers(0, 256, (5, 100, 100), np.uint8)
    ours, theirs = (session(model).run(None, {"images": pictures}) for model in (converted[0], made.content))
    for mine, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(mine, other, atol=1e-5)


def test_the_metadata_survives(converted: tuple[bytes, str]) -> None:
    about = session(converted[0]).get_modelmeta().custom_metadata_map
    assert set(about) == {contract.METADATA_KEY}
    metadata = contract.ModelMetadata.from_json(about[contract.METADATA_KEY])
    assert (metadata.family, metadata.steps) == ("rnn-spn", 3)


def test_onnxruntimes_build_takes_the_operator_list(converted: tuple[bytes, str], tmp_path: Path) -> None:
    listed = operators_file(tmp_path / "model.ort")
    listed.write_text(converted[1])
    done = subprocess.run([sys.executable, "-c", PARSE, listed], capture_output=True, text=True, check=True)
    operators = json.loads(done.stdout)
    assert {"GridSample", "ArgMax", "Softmax"} <= set(operators["ai.onnx"])
    assert set(operators) == {"ai.onnx", "com.microsoft"}, "memory layouts of one kind of processor"


def test_neither_file_names_a_path_of_the_machine(written: Export) -> None:
    for path in (written.path, *written.beside):
        assert not re.search(rb"/tmp|\.py\b|model\.onnx", path.read_bytes())
        assert str(Path(__file__).parents[2]).encode() not in path.read_bytes()


@pytest.mark.usefixtures("_made_before")
def test_a_conversion_that_disagrees_leaves_no_file(
    made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    damaged = onnx.ModelProto.FromString(made.content)
    weight = next(item for item in damaged.graph.initializer if "classifier.hidden.weight" in item.name)
    weight.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weight) + np.float32(0.01), weight.name))
    monkeypatch.setattr(to_ort, "convert", lambda _: convert(damaged.SerializeToString()))
    with pytest.raises(ParityError, match="differs from PyTorch"):
        export(CHECKPOINT, tmp_path / "out" / "model.ort")
    assert not (tmp_path / "out").exists()


def test_a_converter_that_fails_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ModelFileError, match="converter failed: ") as caught:
        convert(b"no model")
    assert "\n" not in str(caught.value)
    monkeypatch.setattr(to_ort.subprocess, "run", lambda *_, **__: SimpleNamespace(returncode=1, stderr=""))
    with pytest.raises(ModelFileError, match="no reason given"):
        convert(b"no model")


@pytest.fixture(scope="module")
def integers(made: Made) -> Made:
    model = onnx.ModelProto.FromString(made.content)
    pictures = np.random.default_rng(2).integers(0, 256, (64, 100, 100), np.uint8)
    return replace(made, content=quantise(model, pictures).SerializeToString())


def test_a_file_that_computes_with_integers_answers_as_its_onnx_file_does(
    integers: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[object] = []
    monkeypatch.setattr(to_onnx, "make", lambda *given, **_: (asked.extend(given), integers)[1])
    done = export(CHECKPOINT, tmp_path / "model.ort", ExportConfig(precision="w8a8", max_accuracy_drop=0.3))
    assert asked[-1] == ExportConfig(precision="w8a8", max_accuracy_drop=0.3)
    pictures = np.random.default_rng(1).integers(0, 256, (5, 100, 100), np.uint8)
    ours, theirs = (
        session(model).run(None, {"images": pictures}) for model in (done.path.read_bytes(), integers.content)
    )
    for mine, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(mine, other, atol=1e-5)
    assert "QLinearConv" in done.beside[0].read_text()
    assert done.size_bytes < len(integers.content) * 1.2


def test_a_conversion_of_integers_that_changes_answers_leaves_no_file(
    integers: Made, converted: tuple[bytes, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(to_onnx, "make", lambda *_, **__: integers)
    monkeypatch.setattr(to_ort, "convert", lambda _: converted)  # of the network in float32
    with pytest.raises(ParityError, match="converter changed digits by"):
        export(CHECKPOINT, tmp_path / "model.ort", ExportConfig(precision="w8a8"))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("asked", "named"),
    [
        ({"precision": "int8"}, "--precision int8"),
        ({"precision": "fp16"}, "--precision fp16"),
        ({"bfloat16": True}, "--bfloat16"),
    ],
)
def test_fewer_bits_are_refused(tmp_path: Path, asked: dict[str, object], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        export(CHECKPOINT, tmp_path / "model.ort", ExportConfig(**asked))
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("_made_before")
def test_a_folder_that_cannot_be_written_is_one_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(to_ort, "convert", lambda _: (b"", ""))
    monkeypatch.setattr(to_ort, "check_parity", lambda *_: None)
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="cannot write"):
        export(CHECKPOINT, tmp_path / "file" / "model.ort")


def test_the_command_takes_the_format_from_the_suffix(
    written: Export, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    console.stderr.cache_clear()
    monkeypatch.setattr(to_ort, "export", lambda *_, **__: written)
    checkpoint = save_checkpoint(Network(family_config("rnn-spn")), tmp_path / "model.safetensors")
    assert console.run(app, ["export", str(tmp_path / "phone.ort"), "--checkpoint", str(checkpoint)]) == 0
    assert capfd.readouterr().err.splitlines()[-1].endswith("model.required_operators.config")
    assert console.run(app, ["export", str(tmp_path / "phone.txt"), "--checkpoint", str(CHECKPOINT)]) == 2
    assert "ends in .onnx or .ort, got" in capfd.readouterr().err
    assert console.run(app, ["inspect", str(written.path)]) == 2
    assert "expected an .onnx file, got one in ORT format" in capfd.readouterr().err


def test_an_exported_file_is_converted_without_its_run(
    made: Made, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    console.stderr.cache_clear()
    (tmp_path / "mine.onnx").write_bytes(made.content)
    assert console.run(app, ["export", str(tmp_path / "phone.ort"), "--checkpoint", str(tmp_path / "mine.onnx")]) == 0
    assert capfd.readouterr().err.startswith("agrees with mine.onnx on 263 pictures at batch 64: ")
    pictures = np.random.default_rng(1).integers(0, 256, (5, 100, 100), np.uint8)
    ours, theirs = (
        session(model).run(None, {"images": pictures})
        for model in ((tmp_path / "phone.ort").read_bytes(), made.content)
    )
    for mine, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(mine, other, atol=1e-5)
    assert operators_file(tmp_path / "phone.ort").is_file()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["phone.ort", "--checkpoint", "mine.onnx", "--precision", "w8a8"], "leave out --precision"),
        (["other.onnx", "--checkpoint", "stored.onnx"], "does not say how it was trained"),
        (["mine.onnx", "--checkpoint", "mine.onnx"], "mine.onnx: it is one of the files to read"),
        (["other.onnx", "--checkpoint", "link.ort"], "link.ort does not hold weights as they were trained"),
        (["phone.ort", "--checkpoint", "stored.onnx"], "in fp32 or w8a8, got int8"),
        (["phone.ort", "--checkpoint", "odd.onnx"], "not what rnnspn export writes"),
        (["link.ort", "--checkpoint", "mine.onnx"], "link.ort"),
    ],
)
def test_an_exported_file_is_converted_as_it_is_or_not_at_all(
    made: Made,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    arguments: list[str],
    said: str,
) -> None:
    console.stderr.cache_clear()
    monkeypatch.chdir(tmp_path)
    Path("mine.onnx").write_bytes(made.content)
    onnx.save(handmade.build(handmade.metadata(parity={"stored_weights": {"precision": "int8"}})), "stored.onnx")
    onnx.save(handmade.build(handmade.metadata(parity={"stored_weights": "int8"})), "odd.onnx")
    Path("link.ort").symlink_to("mine.onnx")
    assert console.run(app, ["export", *arguments]) == (5 if arguments[0] in ("link.ort", "mine.onnx") else 2)
    assert said in capfd.readouterr().err
    assert {path.name for path in tmp_path.iterdir()} == {"mine.onnx", "stored.onnx", "odd.onnx", "link.ort"}
    assert Path("mine.onnx").read_bytes() == made.content
