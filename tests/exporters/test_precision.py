from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from PIL import Image

from exporters import precision, to_onnx
from exporters.parity import plain_session
from exporters.precision import Reader, check_accuracy, judging_pictures, reader, store_weights
from rnnspn.config import DataConfig, family_config
from rnnspn.data.examples import Examples
from rnnspn.errors import DataError, ParityError
from rnnspn.inference import model_file
from rnnspn.inference.session import open_engine
from rnnspn.models.networks import Network
from rnnspn.training import runs
from rnnspn.training.checkpoint import RunConfig
from rnnspn.training.recipes import train_config
from tests.exporters.conftest import build_graph
from tests.openvino import needs_openvino

MODEL = family_config("rnn-spn")
SYNTHESISED = RunConfig(MODEL, DataConfig(), train_config("best", MODEL))


@pytest.fixture(scope="module")
def full() -> onnx.ModelProto:
    return onnx.load(model_file.bundled())


@pytest.fixture(autouse=True)
def _few_sequences(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rnnspn.data.held_out.SIZES", {"test": 400})


def _reader(model: onnx.ModelProto) -> Reader:
    return reader(model.SerializeToString(), Path("model.onnx"))


@pytest.mark.parametrize(("stored", "share"), [("fp16", 0.52), ("int8", 0.27)])
def test_the_file_is_smaller_and_reads_as_well(full: onnx.ModelProto, stored: str, share: float) -> None:
    small = store_weights(full, stored)
    assert small.ByteSize() < share * full.ByteSize()
    accuracy = check_accuracy(_reader(full), _reader(small), judging_pictures(SYNTHESISED), stored, max_drop=0.3)
    assert accuracy.full > 0.9
    assert accuracy.changed_digits <= 0.005 * 3 * accuracy.sequences


def test_every_weight_is_within_half_a_step_of_what_it_was(full: onnx.ModelProto) -> None:
    small = store_weights(full, "int8")
    before = {tensor.name: numpy_helper.to_array(tensor) for tensor in full.graph.initializer}
    after = {tensor.name: numpy_helper.to_array(tensor) for tensor in small.graph.initializer}
    stored = [name.removesuffix("_stored") for name in after if name.endswith("_stored")]
    assert len(stored) >= 7
    for name in stored:
        scale = after[f"{name}_scale"]
        widened = after[f"{name}_stored"].astype(np.float32) * scale
        assert (np.abs(widened - before[name]) <= 0.5001 * scale).all(), name


def test_what_gives_and_uses_theta_stays_float32(full: onnx.ModelProto) -> None:
    small = store_weights(full, "int8")
    kept = {tensor.name: tensor.data_type for tensor in small.graph.initializer if not tensor.name.endswith("_stored")}
    assert set(kept.values()) <= {onnx.TensorProto.FLOAT, onnx.TensorProto.INT64}
    grids = [tensor for tensor in small.graph.initializer if list(tensor.dims) == [6, 2 * 30 * 30]]
    assert [tensor.data_type for tensor in grids] == [onnx.TensorProto.FLOAT]
    affine = [tensor for tensor in small.graph.initializer if sorted(tensor.dims) == [6, 256]]
    assert [tensor.data_type for tensor in affine] == [onnx.TensorProto.FLOAT]


@pytest.mark.parametrize(
    ("family", "size"), [("rnn-spn", {"gru_units": 512}), ("ffn-spn", {"localisation_units": 512})]
)
def test_the_layer_that_gives_theta_stays_float32_whatever_its_size(family: str, size: dict[str, int]) -> None:
    graph = store_weights(build_graph(Network(family_config(family, **size)).eval()), "fp16").graph
    affine = [tensor for tensor in graph.initializer if sorted(tensor.dims) == [6, 512]]
    assert [tensor.data_type for tensor in affine] == [onnx.TensorProto.FLOAT]
    assert sum(tensor.name.endswith("_stored") for tensor in graph.initializer) >= 5


def test_the_model_that_was_given_is_left_as_it_is(full: onnx.ModelProto) -> None:
    before = full.SerializeToString(deterministic=True)
    store_weights(full, "fp16")
    assert full.SerializeToString(deterministic=True) == before


def test_the_gate_closes_when_reading_gets_worse(full: onnx.ModelProto, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "_LARGEST", 2)  # five levels for each weight
    worse = store_weights(full, "int8")
    with pytest.raises(ParityError, match=r"points less, allowed 0\.1 \(of so few, one is 0\.25\); no file"):
        check_accuracy(_reader(full), _reader(worse), judging_pictures(SYNTHESISED), "int8", max_drop=0.1)


def test_the_gate_counts_sequences_and_names_the_option() -> None:
    labels = np.zeros((1000, 3), np.int64)
    examples = Examples("many", np.zeros((1000, 1, 1), np.uint8), labels)
    one_lost, two_lost = labels.copy(), labels.copy()
    one_lost[:1], two_lost[:2] = 1, 1
    assert check_accuracy(lambda _: labels, lambda _: one_lost, examples, "int8", max_drop=0.1).reduced == 0.999
    with pytest.raises(
        ParityError, match=r"reads 998 of 1000 .* 0\.20 points less, allowed 0\.1; .*--max-accuracy-drop"
    ):
        check_accuracy(lambda _: labels, lambda _: two_lost, examples, "int8", max_drop=0.1)


def test_models_of_ones_own_pictures_are_judged_on_those(tmp_path: Path) -> None:
    for number in range(3):
        Image.new("L", (100, 100)).save(tmp_path / f"{number}.png")
    (tmp_path / "labels.csv").write_text("path,label\n0.png,12345\n1.png,1234\n2.png,9\n")
    run = runs.new_config("rnn-spn", "best", data=str(tmp_path))
    examples = judging_pictures(run)
    assert examples.images.shape == (3, 100, 100)
    assert examples.labels.tolist() == [[1, 2, 3, 4, 5], [1, 2, 3, 4, 10], [9, 10, 10, 10, 10]]
    right_once = iter([examples.labels, examples.labels[::-1]])
    accuracy = check_accuracy(lambda _: next(right_once), lambda _: next(right_once), examples, "int8", max_drop=67)
    assert (accuracy.sequences, accuracy.full, accuracy.reduced, accuracy.changed_digits) == (3, 1.0, 1 / 3, 10)
    (tmp_path / "labels.csv").unlink()
    with pytest.raises(DataError, match=r"there is no .*labels\.csv"):
        judging_pictures(run)


def test_the_file_says_what_was_stored_and_what_it_cost(checkpoint: Path, tmp_path: Path) -> None:
    target = tmp_path / "small.onnx"
    written = to_onnx.export(checkpoint, target, to_onnx.ExportConfig(precision="int8", max_accuracy_drop=100))
    record = model_file.load(target).metadata.parity["stored_weights"]
    assert record["precision"] == "int8"
    assert record["reduced"] == written.costs["stored_weights"].reduced
    outputs = plain_session(target.read_bytes()).run(None, {"images": np.zeros((1, 100, 100), np.uint8)})
    assert np.isfinite(outputs[1]).all()


def test_no_file_is_written_when_the_gate_is_closed(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def closed(*_: object) -> None:
        raise ParityError("closed; no file was written")

    monkeypatch.setattr(to_onnx, "check_accuracy", closed)
    with pytest.raises(ParityError):
        to_onnx.export(checkpoint, tmp_path / "small.onnx", to_onnx.ExportConfig(precision="fp16"))
    assert not (tmp_path / "small.onnx").exists()


@needs_openvino
def test_a_file_that_passes_the_gate_may_be_computed_in_bfloat16(checkpoint: Path, tmp_path: Path) -> None:
    target = tmp_path / "model.onnx"
    to_onnx.export(checkpoint, target, to_onnx.ExportConfig(max_accuracy_drop=100, bfloat16=True))
    model = model_file.load(target)
    assert model.metadata.parity["bfloat16"]["sequences"] == 400
    assert open_engine(model, "openvino-bfloat16").run(np.zeros((2, 100, 100), np.uint8)).digits.shape == (2, 3)
