import hashlib
from pathlib import Path

import onnx
import pytest
import torch

from exporters import onnx_graph, to_onnx
from rnnspn import contract
from rnnspn.config import DataConfig, ModelConfig, family_config
from rnnspn.models.networks import Network
from rnnspn.training.checkpoint import Checkpoint, RunConfig
from rnnspn.training.recipes import train_config

_TRACED: dict[tuple[ModelConfig, int, str], onnx.ModelProto] = {}


def build_graph(network: Network, opset: int = contract.OPSET) -> onnx.ModelProto:
    """Return the graph of a network, traced once for all tests of a process: it takes PyTorch six seconds."""
    weights = b"".join(weight.numpy().tobytes() for weight in network.state_dict().values())
    key = network.config, opset, hashlib.sha256(weights).hexdigest()
    if key not in _TRACED:
        _TRACED[key] = onnx_graph.build_graph(network, opset)
    return onnx.ModelProto.FromString(_TRACED[key].SerializeToString())


@pytest.fixture(autouse=True)
def _traced_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(to_onnx, "build_graph", build_graph)


def lively_network(config: ModelConfig, scale: float = 1.0) -> Network:
    """Return a network whose glimpses differ from picture to picture; `scale` throws them far outside."""
    torch.manual_seed(3)
    network = Network(config).eval()
    if network.localisation is not None:
        torch.nn.init.normal_(network.localisation.affine.weight, std=0.05 * scale)
    for name, weight in network.named_parameters():
        if name.endswith("bias") and "affine" not in name:
            torch.nn.init.normal_(weight, std=0.05)
    return network


def save_checkpoint(network: Network, path: Path) -> Path:
    config = RunConfig(network.config, DataConfig(), train_config("best", network.config))
    Checkpoint(config, {"epoch": 0}, network.state_dict()).save(path)
    return path


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    return save_checkpoint(lively_network(family_config("rnn-spn")), tmp_path / "run" / "model.safetensors")
