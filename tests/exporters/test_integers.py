import logging
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper
from PIL import Image

from exporters import integers, to_onnx
from exporters.from_onnx import checkpoint_of
from exporters.integers import calibration_pictures, quantise
from exporters.precision import check_accuracy, judging_pictures, reader
from rnnspn.config import DataConfig, family_config
from rnnspn.errors import CheckpointError
from rnnspn.inference import model_file
from rnnspn.inference.rewrites.blocks import bring_to_blocks
from rnnspn.inference.session import open_engine
from rnnspn.models.networks import Network
from rnnspn.training import runs
from rnnspn.training.checkpoint import RunConfig
from rnnspn.training.recipes import train_config
from tests.exporters.conftest import build_graph
from tests.inference.rewrites.chains import rewritten

MODEL = family_config("rnn-spn")
SYNTHESISED = RunConfig(MODEL, DataConfig(), train_config("best", MODEL))


@pytest.fixture(autouse=True)
def _few_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rnnspn.data.held_out.SIZES", {"test": 400})
    monkeypatch.setattr(integers, "PICTURES", 128)


@pytest.fixture(scope="module")
def full() -> onnx.ModelProto:
    return onnx.load(model_file.bundled())


@pytest.fixture(scope="module")
def whole(full: onnx.ModelProto) -> onnx.ModelProto:
    return quantise(full, calibration_pictures(SYNTHESISED)[:128])


def floats(model: onnx.ModelProto) -> list[list[int]]:
    """Return the shapes of all float32 constants with more than one dimension."""
    graph = model.graph
    return [sorted(t.dims) for t in graph.initializer if t.data_type == onnx.TensorProto.FLOAT and len(t.dims) > 1]


def kernels(model: onnx.ModelProto, folder: Path) -> list[str]:
    """Return the operators that the runtime makes of a model."""
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(folder / "optimised.onnx")
    options.log_severity_level = 4
    onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return [node.op_type for node in onnx.load(options.optimized_model_filepath).graph.node]


def test_the_file_is_smaller_and_reads_as_well(full: onnx.ModelProto, whole: onnx.ModelProto) -> None:
    assert whole.ByteSize() < 0.28 * full.ByteSize()
    readers = [reader(model.SerializeToString(), Path("model.onnx")) for model in (full, whole)]
    accuracy = check_accuracy(*readers, judging_pictures(SYNTHESISED), "w8a8", max_drop=0.5)
    assert accuracy.full > 0.9
    assert accuracy.changed_digits <= 0.01 * 3 * accuracy.sequences


def test_the_file_is_for_runtimes_as_old_as_the_one_it_was_made_from(
    full: onnx.ModelProto, whole: onnx.ModelProto
) -> None:
    assert whole.ir_version == full.ir_version == 8


def test_the_runtime_computes_with_integers(whole: onnx.ModelProto, tmp_path: Path) -> None:
    found = kernels(whole, tmp_path)
    assert found.count("QLinearConv") == 4
    assert (
        found.count("QGemm") == 4
    )  # the features' way into the GRU, its two steps from a state, the classifier's layer
    assert found.count("Conv") == 2
    assert sum(kind in ("QuantizeLinear", "DequantizeLinear") for kind in found) <= 14


def test_channels_are_filled_before_the_first_integers_and_nothing_changes(
    whole: onnx.ModelProto, tmp_path: Path
) -> None:
    content = rewritten(whole.SerializeToString(), bring_to_blocks, 16)
    pads = [node.output[0] for node in onnx.load_from_string(content).graph.node if node.op_type == "Pad"]
    assert len(pads) == 3  # filters and bias of the first convolution, and what reads its channels
    assert kernels(onnx.load_from_string(content), tmp_path).count("QLinearConv") == 4
    pictures = calibration_pictures(SYNTHESISED)[:64]
    before, after = (
        onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"]).run(None, {"images": pictures})
        for model in (whole.SerializeToString(), content)
    )
    np.testing.assert_array_equal(before[0], after[0])
    np.testing.assert_allclose(before[1], after[1], atol=2e-3)


def test_what_sees_one_channel_and_what_gives_and_uses_theta_stays_float32(whole: onnx.ModelProto) -> None:
    kept = floats(whole)
    assert kept.count([1, 3, 3, 20]) == kept.count([1, 3, 3, 32]) == 1
    assert [6, 2 * 30 * 30] in kept
    assert [6, 256] in kept
    assert [10, 256] in kept
    assert not any(shape[-1] > 300 for shape in kept if shape != [6, 2 * 30 * 30])
    (sampling,) = [node for node in whole.graph.node if node.op_type == "GridSample"]
    makers = {output: node.op_type for node in whole.graph.node for output in node.output}
    assert "DequantizeLinear" not in [makers[name] for name in sampling.input]


def test_weights_have_seven_bits_and_so_overflow_on_no_processor(whole: onnx.ModelProto) -> None:
    stored = [t for t in whole.graph.initializer if t.data_type == onnx.TensorProto.INT8 and len(t.dims) > 1]
    assert len(stored) >= 7
    for tensor in stored:
        values = numpy_helper.to_array(tensor).astype(int)
        assert np.abs(values).max() == 64 or np.abs(values).max() == 63, tensor.name


def test_every_filter_has_a_scale_of_its_own(whole: onnx.ModelProto) -> None:
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in whole.graph.initializer}
    widened = [node for node in whole.graph.node if node.op_type == "DequantizeLinear" and node.input[0] in constants]
    filters = [node for node in widened if constants[node.input[0]].ndim == 4]
    assert len(filters) == 4
    for node in filters:
        scales = constants[node.input[1]]
        assert scales.shape == constants[node.input[0]].shape[:1]
        assert len(np.unique(scales)) > 1


def test_the_file_is_standard_and_the_model_that_was_given_is_left_as_it_is(full: onnx.ModelProto) -> None:
    before = full.SerializeToString(deterministic=True)
    made = quantise(full, calibration_pictures(SYNTHESISED)[:64])
    assert full.SerializeToString(deterministic=True) == before
    assert [(opset.domain, opset.version) for opset in made.opset_import] == [("", 18)]
    assert made.producer_name == "rnnspn"
    assert not made.metadata_props
    again = quantise(full, calibration_pictures(SYNTHESISED)[:64])
    assert again.SerializeToString(deterministic=True) == made.SerializeToString(deterministic=True)


@pytest.mark.parametrize("family", ["rnn-spn", "conv"])
def test_the_last_layer_stays_float32_however_many_characters_there_are(family: str) -> None:
    network = Network(family_config(family, alphabet="".join(map(chr, range(0x4E00, 0x4E50))))).eval()
    graph = build_graph(network).graph
    makers = {output: node for node in graph.node for output in node.output}
    last = makers["probabilities"]
    while last.op_type != "Gemm":
        last = makers[last.input[0]]
    computing = integers._computing(graph)
    assert last.name not in computing
    assert any(node.op_type == "Gemm" and node.name in computing for node in graph.node)


def test_nothing_of_the_process_is_left_changed(full: onnx.ModelProto) -> None:
    root = logging.getLogger()
    before = sys.path.copy(), root.level, root.handlers.copy()
    quantise(full, calibration_pictures(SYNTHESISED)[:64])
    assert (sys.path, root.level, root.handlers) == before


@pytest.mark.parametrize(("family", "convolutions"), [("rnn-spn", 4), ("ffn-spn", 4), ("conv", 2)])
def test_networks_of_every_family_can_be_made_so(family: str, convolutions: int, tmp_path: Path) -> None:
    network = Network(family_config(family)).eval()
    made = quantise(build_graph(network), calibration_pictures(SYNTHESISED)[:64])
    assert kernels(made, tmp_path).count("QLinearConv") == convolutions


def test_ranges_come_from_pictures_that_were_learned_from(tmp_path: Path) -> None:
    for number in range(40):
        Image.new("L", (100, 100), number).save(tmp_path / f"{number}.png")
    (tmp_path / "labels.csv").write_text("path,label\n" + "".join(f"{number}.png,123\n" for number in range(40)))
    own = calibration_pictures(runs.new_config("rnn-spn", "best", data=str(tmp_path)))
    assert own.shape == (36, 100, 100)  # a tenth is held out
    assert calibration_pictures(SYNTHESISED).shape == (128, 100, 100)


def test_the_file_says_what_it_is_and_is_read(checkpoint: Path, tmp_path: Path) -> None:
    target = tmp_path / "small.onnx"
    written = to_onnx.export(checkpoint, target, to_onnx.ExportConfig(precision="w8a8", max_accuracy_drop=100))
    model = model_file.load(target)
    assert model.metadata.parity["stored_weights"]["precision"] == "w8a8"
    assert written.costs["stored_weights"].precision == "w8a8"
    assert open_engine(model, "cpu").run(np.zeros((2, 100, 100), np.uint8)).digits.shape == (2, 3)
    with pytest.raises(CheckpointError, match="name the file in fp32, or the run folder"):
        checkpoint_of(target)
