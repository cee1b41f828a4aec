import hashlib
import os
from pathlib import Path

import onnx
import pytest
import torch

from exporters import onnx_graph, to_onnx
from rnnspn import contract
from rnnspn.config import DataConfig, ModelConfig, family_config
from rnnspn.files import write_bytes
from rnnspn.models.networks import Network
from rnnspn.training.checkpoint import Checkpoint, RunConfig
from rnnspn.training.recipes import train_config

_TRACED: list[Path] = []
"""The folder of the graphs that were traced."""


def build_graph(network: Network, opset: int = contract.OPSET) -> onnx.ModelProto:
    """Return the graph of a network, traced once for all tests: it takes PyTorch three seconds."""
    weights = b"".join(weight.numpy().tobytes() for weight in network.state_dict().values())
    about = f"{network.config} {opset} {hashlib.sha256(weights).hexdigest()}"
    path = _TRACED[0] / f"{hashlib.sha256(about.encode()).hexdigest()}.onnx"
    if not path.exists():
        write_bytes(path, onnx_graph.build_graph(network, opset).SerializeToString())
    return onnx.load(path)


@pytest.fixture(autouse=True)
def _traced_once(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:  # each has a folder beside the others'
        folder = folder.parent
    _TRACED[:] = [folder / "traced"]
    _TRACED[0].mkdir(exist_ok=True)
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
