import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch

from cli import console
from cli.main import app
from exporters import to_onnx
from exporters.to_onnx import PLAIN, ExportConfig, export
from rnnspn import contract
from rnnspn.config import DataConfig, family_config
from rnnspn.contract import ModelMetadata
from rnnspn.errors import CheckpointError, DataError, ModelFileError, OutputError, ParityError
from rnnspn.inference import model_file
from rnnspn.models.networks import Network
from rnnspn.scores import Score
from rnnspn.training.checkpoint import Checkpoint, log_test_score
from tests.exporters.conftest import build_graph, lively_network, save_checkpoint

SCORE = Score(30, 3, 10, 2, (1, 1, 1), (10,) * 3)


def shapes(values: object) -> dict[str, list[object]]:
    return {
        value.name: [axis.dim_param or axis.dim_value for axis in value.type.tensor_type.shape.dim]
        for value in values  # type: ignore[attr-defined]
    }


def test_the_file_keeps_the_contract(checkpoint: Path, tmp_path: Path) -> None:
    written = export(checkpoint, tmp_path / "model.onnx")
    model = onnx.load(tmp_path / "model.onnx", load_external_data=False)
    assert shapes(model.graph.input) == {"images": ["N", 100, 100]}
    assert shapes(model.graph.output) == {
        "digits": ["N", 3],
        "probabilities": ["N", 3, 10],
        "theta": ["N", 3, 2, 3],
    }
    types = {value.name: value.type.tensor_type.elem_type for value in (*model.graph.input, *model.graph.output)}
    assert types == {
        "images": onnx.TensorProto.UINT8,
        "digits": onnx.TensorProto.INT64,
        "probabilities": onnx.TensorProto.FLOAT,
        "theta": onnx.TensorProto.FLOAT,
    }
    assert [(opset.domain, opset.version) for opset in model.opset_import] == [("", 18)]
    assert model.ir_version == 8  # the oldest for that; newer ones shut older runtimes out
    kinds = [node.op_type for node in model.graph.node]
    assert kinds.count("GridSample") == 1
    assert not set(kinds) & {"Loop", "If", "Scan", "GRU", "AffineGrid", "Shape"}
    assert not model.functions
    assert not any(item.external_data for item in model.graph.initializer)
    assert written.size_bytes == (tmp_path / "model.onnx").stat().st_size
    assert written.nodes == len(kinds) < 90


def test_the_file_names_no_path_of_the_machine(checkpoint: Path, tmp_path: Path) -> None:
    export(checkpoint, tmp_path / "model.onnx")
    data = (tmp_path / "model.onnx").read_bytes()
    assert b"stack_trace" not in data
    assert b".py" not in data
    assert str(Path(__file__).parents[2]).encode() not in data


def test_what_the_runtime_makes_of_the_file_when_it_loads_it_has_to_agree_too(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def spoilt(content: bytes) -> bytes:
        model = onnx.load_from_string(content)
        bias = next(tensor for tensor in model.graph.initializer if tensor.name == "network.classifier.hidden.bias")
        bias.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(bias) + 1, bias.name))
        return model.SerializeToString()

    monkeypatch.setattr(to_onnx, "rewritten", spoilt)
    with pytest.raises(ParityError, match="at batch 64"):
        export(checkpoint, tmp_path / "model.onnx")
    assert not (tmp_path / "model.onnx").exists()


def test_the_metadata_is_json_that_reads_back(checkpoint: Path, tmp_path: Path) -> None:
    export(checkpoint, tmp_path / "model.onnx")
    (entry,) = onnx.load(tmp_path / "model.onnx").metadata_props
    assert entry.key == contract.METADATA_KEY
    metadata = ModelMetadata.from_json(entry.value)
    assert (metadata.family, metadata.downsample, metadata.steps) == ("rnn-spn", 3, 3)
    assert metadata.test_error is None
    assert metadata.parity["pictures"] >= 256
    assert metadata.versions["torch"] == torch.__version__
    assert json.loads(metadata.to_json()) == json.loads(entry.value)


def test_a_logged_look_at_the_test_set_goes_into_the_metadata(checkpoint: Path, tmp_path: Path) -> None:
    first = ModelMetadata.from_json(_metadata(checkpoint, tmp_path / "a.onnx"))
    log_test_score(checkpoint.parent, "of another checkpoint", "authors-2015", SCORE, "2026-01-01T00:00:00")
    assert ModelMetadata.from_json(_metadata(checkpoint, tmp_path / "b.onnx")).test_error is None
    log_test_score(checkpoint.parent, first.checkpoint_sha256, "authors-2015", SCORE, "2026-01-02T00:00:00")
    logged = ModelMetadata.from_json(_metadata(checkpoint, tmp_path / "c.onnx")).test_error
    assert logged is not None
    assert (logged["wrong_digits"], logged["digits"]) == (3, 30)


def test_an_exported_file_is_as_good_a_source_as_its_run(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rnnspn.data.held_out.SIZES", {"test": 400})
    log_test_score(checkpoint.parent, Checkpoint.load(checkpoint).sha256, "authors-2015", SCORE, "2026-01-01T00:00:00")
    files = [tmp_path / f"{name}.onnx" for name in ("first", "again", "small", "small again")]
    small = ExportConfig(precision="int8", max_accuracy_drop=100)
    for source, file, config in zip((checkpoint, files[0]) * 2, files, (PLAIN, PLAIN, small, small), strict=True):
        export(source, file, config)
    graphs, abouts = zip(*map(_parted, files), strict=True)
    for first, again in ((0, 1), (2, 3)):
        assert graphs[again] == graphs[first]
        differences = abouts[again]["parity"].pop("max_difference")  # weights are those but for the last bit
        assert differences == pytest.approx(abouts[first]["parity"].pop("max_difference"), abs=1e-6)
        assert abouts[again] == abouts[first]
    with pytest.raises(CheckpointError, match="name the file in fp32, or the run folder, that it was made from"):
        export(files[2], tmp_path / "never.onnx")


def test_the_bundled_model_is_exported_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    console.stderr.cache_clear()
    assert console.run(app, ["export", "again.onnx", "--checkpoint", "bundled"]) == 0
    assert "agrees with PyTorch on 263 pictures" in capfd.readouterr().err
    again, bundled = (onnx.load(path) for path in ("again.onnx", model_file.bundled()))
    assert again.graph == bundled.graph
    ours, theirs = (model_file.load(path).metadata for path in ("again.onnx", "bundled"))
    assert contract.BFLOAT16 not in ours.parity  # it was not measured anew
    assert (ours.test_error, ours.training, ours.checkpoint_sha256) == (
        theirs.test_error,
        theirs.training,
        theirs.checkpoint_sha256,
    )


def test_notes_of_a_file_do_not_go_into_the_next(checkpoint: Path, tmp_path: Path) -> None:
    export(checkpoint, tmp_path / "first.onnx")
    model = onnx.load(tmp_path / "first.onnx")
    model.graph.doc_string = model.graph.node[0].doc_string = "/home/me"
    onnx.save(model, tmp_path / "noted.onnx")
    export(tmp_path / "noted.onnx", tmp_path / "again.onnx")
    assert _parted(tmp_path / "again.onnx")[0] == _parted(tmp_path / "first.onnx")[0]


def test_a_file_that_the_runtime_refuses_is_no_source(checkpoint: Path, tmp_path: Path) -> None:
    export(checkpoint, tmp_path / "first.onnx")
    model = onnx.load(tmp_path / "first.onnx")
    model.ir_version = 99
    (tmp_path / "newer.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(ModelFileError, match=r"newer\.onnx: ONNX Runtime refuses it: Unsupported model IR version: 99"):
        export(tmp_path / "newer.onnx", tmp_path / "again.onnx")


@pytest.mark.parametrize("asked", [{"precision": "int8"}, {"precision": "w8a8"}, {"bfloat16": True}], ids=str)
def test_nobody_guesses_where_the_pictures_of_a_file_are(
    asked: dict[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = save_checkpoint(lively_network(family_config("rnn-spn")), tmp_path / "model.safetensors")
    run = Checkpoint.load(path)
    own = replace(run.config, data=DataConfig(source=str(tmp_path / "mine"), labels="0" * 64))
    Checkpoint(own, run.notes, run.tensors).save(path)
    export(path, tmp_path / "first.onnx")
    monkeypatch.chdir(tmp_path)
    Path("mine").mkdir()
    with pytest.raises(DataError, match="does not say where the folder mine/ is; name it with --data"):
        export(Path("first.onnx"), Path("small.onnx"), ExportConfig(**asked))


def test_an_exported_file_changes_its_opset(checkpoint: Path, tmp_path: Path) -> None:
    export(checkpoint, tmp_path / "first.onnx")
    export(tmp_path / "first.onnx", tmp_path / "newer.onnx", ExportConfig(opset=19))
    assert [one.version for one in onnx.load(tmp_path / "newer.onnx").opset_import] == [19]
    first, newer = (model_file.load(tmp_path / f"{name}.onnx").metadata for name in ("first", "newer"))
    assert newer.checkpoint_sha256 == first.checkpoint_sha256


def _parted(file: Path) -> tuple[bytes, dict[str, Any]]:
    """Return a model without its metadata, serialised, and its metadata."""
    model = onnx.load(file)
    about = json.loads(model.metadata_props.pop().value)
    return model.SerializeToString(deterministic=True), about


def _metadata(checkpoint: Path, target: Path) -> str:
    export(checkpoint, target)
    return onnx.load(target).metadata_props[0].value


def test_a_graph_that_disagrees_leaves_no_file(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def build_another(network: Network, opset: int) -> onnx.ModelProto:
        with torch.no_grad():
            other = lively_network(network.config)
            other.classifier.hidden.weight.add_(0.01)
        return build_graph(other, opset)

    monkeypatch.setattr(to_onnx, "build_graph", build_another)
    with pytest.raises(ParityError, match="differs from PyTorch"):
        export(checkpoint, tmp_path / "out" / "model.onnx")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("family", "outputs", "glimpses"), [("ffn-spn", 3, 1), ("conv", 2, 0)])
def test_the_other_families_keep_the_contract(tmp_path: Path, family: str, outputs: int, glimpses: int) -> None:
    config = family_config(family, classifier_filters=12, classifier_units=40)
    path = save_checkpoint(lively_network(config), tmp_path / "model.safetensors")
    export(path, tmp_path / "model.onnx")
    model = onnx.load(tmp_path / "model.onnx")
    assert len(model.graph.output) == outputs
    assert sum(node.op_type == "GridSample" for node in model.graph.node) == glimpses
    if glimpses:
        assert shapes(model.graph.output)["theta"] == ["N", 1, 2, 3]


def test_a_missing_a_damaged_and_an_incomplete_checkpoint_are_refused(checkpoint: Path, tmp_path: Path) -> None:
    target = tmp_path / "model.onnx"
    with pytest.raises(CheckpointError, match="no checkpoint"):
        export(tmp_path / "none.safetensors", target)
    damaged = tmp_path / "damaged.safetensors"
    damaged.write_bytes(checkpoint.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match="not a readable"):
        export(damaged, target)
    network = lively_network(family_config("rnn-spn", gru_units=8))
    save_checkpoint(network, tmp_path / "whole.safetensors")
    state = network.state_dict()
    state.pop("classifier.hidden.bias")
    network.state_dict = lambda: state  # type: ignore[method-assign,assignment]
    incomplete = save_checkpoint(network, tmp_path / "incomplete.safetensors")
    with pytest.raises(CheckpointError, match=r"classifier\.hidden\.bias"):
        export(incomplete, target)
    assert not target.exists()


def test_a_folder_that_cannot_be_written_is_one_error(checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError, match="cannot write"):
        export(checkpoint, tmp_path / "file" / "model.onnx")
