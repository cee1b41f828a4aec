"""The files that the peers run: one network, exported as it ships, without our rewrites, and naively."""

import logging
import warnings
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from exporters.from_onnx import checkpoint_of
from exporters.onnx_graph import build_graph
from exporters.to_onnx import ExportConfig, export
from rnnspn.data.mnist import load_mnist
from rnnspn.data.sequences import Sequences
from rnnspn.models.networks import Network
from rnnspn.training.checkpoint import Checkpoint

PICTURES = 512
TOLERANCE = 1e-3


class Naive(nn.Module):
    """The network as one would write it without a thought for the graph: nn.GRU, and a glimpse a step."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        config = network.config
        self.network, self.size, self.steps = network, config.glimpse_size, config.steps
        gru = network.localisation.gru
        self.gru = nn.GRU(gru.input.in_features, config.gru_units, batch_first=True)
        reset, update, new = gru.input.weight.chunk(3)
        reset_bias, update_bias, new_bias = gru.input.bias.chunk(3)
        hidden_reset, hidden_update, hidden_new = gru.hidden.weight.chunk(3)
        with torch.no_grad():  # torch's update gate is one minus ours
            self.gru.weight_ih_l0.copy_(torch.cat([reset, -update, new]))
            self.gru.bias_ih_l0.copy_(torch.cat([reset_bias, -update_bias, new_bias]))
            self.gru.weight_hh_l0.copy_(torch.cat([hidden_reset, -hidden_update, hidden_new]))
            self.gru.bias_hh_l0.zero_()

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Read pictures, uint8 (N, H, W)."""
        levels = images.unsqueeze(1).float() / 255
        localisation = self.network.localisation
        features = localisation.extract(levels).unsqueeze(1).expand(-1, self.steps, -1)
        initial = localisation.gru.initial.expand(1, images.shape[0], -1).contiguous()
        states, _ = self.gru(features, initial)
        theta = localisation.affine(states)
        logits = []
        for step in range(self.steps):
            points = F.affine_grid(theta[:, step], [images.shape[0], 1, *self.size], align_corners=True)
            crop = F.grid_sample(levels, points, padding_mode="border", align_corners=True)
            logits.append(self.network.classifier(crop)[:, 0])
        probabilities = torch.stack(logits, dim=1).softmax(-1)
        return probabilities.argmax(-1), probabilities


def write_models(folder: Path, checkpoint: Path, bfloat16: bool) -> None:
    """Write every file and the pictures into a folder, and make sure that the naive network is the same network."""
    pictures = Sequences(load_mnist(), "test", seed=1).pictures(np.arange(PICTURES))[0]
    np.save(folder / "pictures.npy", pictures)
    source = folder / "network.safetensors"
    checkpoint_of(checkpoint).save(source)
    network = Checkpoint.load(source).network().eval()
    export(source, folder / "rnnspn.onnx", ExportConfig(bfloat16=bfloat16))
    export(source, folder / "rnnspn-w8a8.onnx", ExportConfig(precision="w8a8"))
    plain = build_graph(network, fold=False, trim=False, rescale=False, widen=False, activate=False)
    (folder / "plain.onnx").write_bytes(plain.SerializeToString())
    naive = Naive(network).eval()
    images = torch.from_numpy(pictures[:32])
    with torch.no_grad():
        difference = (naive(images)[1] - network(images.unsqueeze(1) / 255).logits.softmax(-1)).abs().max().item()
    if difference > TOLERANCE:
        raise SystemExit(f"the naive network differs from ours by {difference:.2g}")
    _export_naive(naive, images[:4], folder / "naive.onnx")


def _export_naive(naive: Naive, example: Tensor, path: Path) -> None:
    for name in ("torch.onnx", "onnxscript"):
        logging.getLogger(name).setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            naive, (example,), dynamo=True, opset_version=18, input_names=["images"], verbose=False,
            dynamic_shapes={"images": {0: torch.export.Dim("N")}},
        )  # fmt: skip
    path.write_bytes(program.model_proto.SerializeToString())
