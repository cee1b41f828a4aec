"""From an exported file back to a network that can be trained on: the one file is all that has to be kept."""

from dataclasses import fields
from pathlib import Path
from typing import Any

import onnx
import torch
from onnx import numpy_helper
from torch import Tensor

from rnnspn.config import DataConfig, ModelConfig, TrainConfig, from_dict
from rnnspn.contract import ModelMetadata
from rnnspn.errors import CheckpointError, ConfigError
from rnnspn.inference import model_file
from rnnspn.models.networks import Network
from rnnspn.training.checkpoint import Checkpoint, RunConfig

_PREFIX = "network."
_FOLDED = ("localisation.extract.conv1.weight", "classifier.conv1.weight")
"""Weights that the division by 255 went into."""
_SIZES = {
    "localisation_filters": ("localisation.extract.conv3.bias", 0),
    "localisation_units": ("localisation.hidden.bias", 0),
    "gru_units": ("localisation.gru.initial", 0),
    "classifier_filters": ("classifier.conv3.bias", 0),
    "classifier_units": ("classifier.hidden.bias", 0),
}
"""Where each size of a network can be seen: a weight and its axis."""


def checkpoint_of(path: Path) -> Checkpoint:
    """Read a network, with how it was trained, out of a checkpoint or an exported file.

    An exported file has the weights of the checkpoint it came from, but for the last bit of the first convolutions'.

    Args:
        path: A run's `model.safetensors`, or an `.onnx` file that `rnnspn export` made with float32 weights.

    Raises:
        ModelFileError: The `.onnx` file is no sound model.
        CheckpointError: The checkpoint cannot be read, or the `.onnx` file lacks the weights as they were trained.
    """
    if path.suffix.lower() == ".ort":
        raise CheckpointError(
            f"{path} does not hold weights as they were trained; "
            "name the .onnx file, or the run folder, that it was made from"
        )
    if path.suffix.lower() != ".onnx":
        return Checkpoint.load(path)
    model = model_file.load(path)
    graph = onnx.load_from_string(model.content).graph
    stored = {tensor.name: torch.tensor(numpy_helper.to_array(tensor)) for tensor in graph.initializer}
    try:
        config = _run_config(model.metadata, stored)
    except (KeyError, TypeError, ConfigError) as error:
        raise CheckpointError(
            f"{path} does not say how it was trained in a way that this release knows ({error}); "
            "name the run folder that it was made from"
        ) from None
    return Checkpoint(config, {}, _weights(Network(config.model), stored, path), path, model.sha256)


def _run_config(about: ModelMetadata, stored: dict[str, Tensor]) -> RunConfig:
    known: dict[str, Any] = {
        name: stored[_PREFIX + weight].shape[axis]
        for name, (weight, axis) in _SIZES.items()
        if _PREFIX + weight in stored
    }
    known |= {field.name: getattr(about, field.name) for field in fields(ModelConfig) if hasattr(about, field.name)}
    network = ModelConfig(**known)
    values: dict[str, Any] = about.training["values"]
    return RunConfig(network, from_dict(DataConfig, about.training["data"]), from_dict(TrainConfig, values))


def _weights(network: Network, stored: dict[str, Tensor], path: Path) -> dict[str, Tensor]:
    named = {name.removeprefix(_PREFIX): tensor for name, tensor in stored.items() if name.startswith(_PREFIX)}
    weights = {}
    for name, weight in network.state_dict().items():
        found = named.get(name)
        if found is None:
            found = _unnamed(weight, [tensor for other, tensor in stored.items() if not other.startswith(_PREFIX)])
        if found is None or found.dtype != weight.dtype or found.shape != weight.shape:
            raise CheckpointError(
                f"{path} does not hold {name} as it was trained; "
                "name the file in fp32, or the run folder, that it was made from"
            )
        weights[name] = found * 255 if name in _FOLDED else found
    return weights


def _unnamed(weight: Tensor, others: list[Tensor]) -> Tensor | None:
    """Find the one constant of a weight's shape, or of its transpose's: the exporter turns a matrix and renames it."""
    same = [tensor for tensor in others if tensor.shape == weight.shape]
    turned = [tensor.T for tensor in others if weight.ndim == 2 and tensor.shape == weight.shape[::-1]]
    found = same + turned
    return found[0] if len(found) == 1 else None
