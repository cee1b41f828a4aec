from pathlib import Path

import onnx
import pytest
import torch

from exporters import to_onnx
from exporters.from_onnx import checkpoint_of
from exporters.parity import Parity
from exporters.precision import Accuracy
from rnnspn.config import DataConfig, family_config
from rnnspn.errors import CheckpointError
from rnnspn.inference import model_file
from rnnspn.training.checkpoint import Checkpoint, RunConfig
from rnnspn.training.recipes import train_config
from tests.exporters.conftest import build_graph, lively_network


@pytest.fixture(autouse=True)
def _open_gates(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out the gates, which have tests of their own."""
    monkeypatch.setattr(to_onnx, "check_parity", lambda *_: Parity(0, (), 0.0, {}, ""))
    monkeypatch.setattr(to_onnx, "check_accuracy", lambda *_: Accuracy("int8", 0, 0.0, 0.0, 0))


@pytest.mark.parametrize(
    ("family", "options"),
    [
        ("rnn-spn", {}),
        ("rnn-spn", {"size": "nano", "downsample": 4, "steps": 2}),
        ("rnn-spn", {"steps": 1}),
        ("rnn-spn", {"steps": 1, "gru_units": 16}),
        ("rnn-spn", {"height": 80, "width": 112, "gru_units": 40}),
        ("ffn-spn", {"downsample": 2}),
        ("conv", {}),
    ],
)
def test_a_network_comes_back_from_its_exported_file(tmp_path: Path, family: str, options: dict[str, int]) -> None:
    network = lively_network(family_config(family, **options))
    config = RunConfig(network.config, DataConfig(), train_config("best", network.config, dropout=0.2))
    Checkpoint(config, {}, network.state_dict()).save(tmp_path / "model.safetensors")
    to_onnx.export(tmp_path / "model.safetensors", tmp_path / "model.onnx")
    back = checkpoint_of(tmp_path / "model.onnx")
    assert back.config == config
    for name, weight in network.state_dict().items():
        torch.testing.assert_close(back.tensors[name], weight, rtol=1e-6, atol=0)


def test_the_bundled_model_comes_back_and_is_exported_to_the_same_weights() -> None:
    bundled = model_file.bundled()
    graph = build_graph(checkpoint_of(bundled).network()).graph
    shipped = onnx.load(bundled).graph
    assert {tensor.name: tensor.raw_data for tensor in graph.initializer} == {
        tensor.name: tensor.raw_data for tensor in shipped.initializer
    }


def test_an_ort_file_is_said_to_have_been_made_from_another() -> None:
    with pytest.raises(
        CheckpointError, match=r"x\.ort does not hold weights as they were trained; name the \.onnx file"
    ):
        checkpoint_of(Path("x.ort"))


def test_weights_in_fewer_bits_do_not_come_back(checkpoint: Path, tmp_path: Path) -> None:
    to_onnx.export(checkpoint, tmp_path / "small.onnx", to_onnx.ExportConfig(precision="int8", max_accuracy_drop=100))
    with pytest.raises(CheckpointError, match="name the file in fp32, or the run folder"):
        checkpoint_of(tmp_path / "small.onnx")


def test_a_model_of_other_hands_does_not_come_back(model_path: Path) -> None:
    with pytest.raises(CheckpointError, match="does not say how it was trained"):
        checkpoint_of(model_path)
