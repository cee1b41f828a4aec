"""Checkpoints: safetensors for the numbers, JSON for the rest; nothing in them can run code.

A run folder holds

    config.json              the three configurations
    metrics.jsonl            one line per epoch
    checkpoint.safetensors   the whole state and the configurations, to go on from
    model.safetensors        the weights that validation chose, to evaluate and export
    test.jsonl               one line per look at the test set
    curves.png               errors by epoch
    attention.png            where it looks
    .lock                    held by the one process that writes
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
import torch
from safetensors.torch import load, save
from torch import Tensor

from rnnspn.config import AUTHORS_2015, DataConfig, ModelConfig, TrainConfig, from_dict, to_dict
from rnnspn.errors import CheckpointError, ConfigError, OutputError
from rnnspn.files import is_folder, is_no_file, write_bytes, write_text
from rnnspn.models.networks import Network
from rnnspn.scores import Score

FORMAT = 1
CONFIG_FILE = "config.json"
RUNS = Path("runs")
MODEL_FILE = "model.safetensors"
STATE_FILE = "checkpoint.safetensors"
TEST_LOG = "test.jsonl"
METRICS_FILE = "metrics.jsonl"
CURVES_FILE, ATTENTION_FILE = "curves.png", "attention.png"
FILES = (CONFIG_FILE, METRICS_FILE, STATE_FILE, MODEL_FILE, TEST_LOG, CURVES_FILE, ATTENTION_FILE)
"""What a run replaces."""
LOCK_FILE = ".lock"


@dataclass(frozen=True)
class RunConfig:
    """Everything that decides the outcome of a run."""

    model: ModelConfig
    data: DataConfig
    train: TrainConfig

    def to_dict(self) -> dict[str, Any]:
        """Return the configurations as a dictionary that JSON can hold."""
        return {"model": to_dict(self.model), "data": to_dict(self.data), "train": to_dict(self.train)}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "RunConfig":
        """Rebuild the configurations.

        Raises:
            ConfigError: A value is missing, unknown or not legal.
        """
        try:
            return cls(
                from_dict(ModelConfig, values["model"]),
                from_dict(DataConfig, values["data"]),
                from_dict(TrainConfig, values["train"]),
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise ConfigError(f"the run's configuration is not whole ({error})") from None


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint's contents.

    Attributes:
        config: The run it belongs to.
        notes: JSON values beside the tensors: step, epoch, validation score.
        tensors: Tensors by name.
        path: Where they were read, for messages.
        sha256: SHA-256 of the bytes that were read, in hexadecimal; empty where none were.
    """

    config: RunConfig
    notes: dict[str, Any]
    tensors: dict[str, Tensor]
    path: Path | None = None
    sha256: str = ""

    def save(self, path: Path) -> None:
        """Write the checkpoint atomically.

        Raises:
            OutputError: The file cannot be written.
        """
        header = {"format": FORMAT, "config": self.config.to_dict(), "notes": self.notes}
        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in self.tensors.items()}
        write_bytes(path, save(tensors, {"rnnspn": json.dumps(header)}))

    @classmethod
    def load(cls, path: Path) -> "Checkpoint":
        """Read a checkpoint.

        Raises:
            CheckpointError: The file is missing, damaged or not one of ours.
        """
        try:
            if is_no_file(path):
                raise ValueError("a folder or a device")
            content = path.read_bytes()  # once: a run that goes on meanwhile replaces the file
            tensors = load(content)
            length = int.from_bytes(content[:8], "little")
            about = json.loads(content[8 : 8 + length]).get("__metadata__", {})
            if "rnnspn" not in about:
                raise ValueError("it does not say what its weights are of")
            header = json.loads(about["rnnspn"])
        except FileNotFoundError:
            raise CheckpointError(f"there is no checkpoint {path}; train one with 'rnnspn train'") from None
        except (OSError, ValueError, TypeError, RecursionError, safetensors.SafetensorError) as error:
            raise CheckpointError(f"{path} is not a readable rnnspn checkpoint ({error})") from None
        if not isinstance(header, dict) or not {"format", "config", "notes"} <= header.keys():
            raise CheckpointError(f"{path} is not an rnnspn checkpoint: expected a format, a configuration and notes")
        if header["format"] != FORMAT:
            raise CheckpointError(f"{path} has format {header['format']!r}, this release reads format {FORMAT}")
        if not isinstance(header["notes"], dict):
            raise CheckpointError(f"{path}: expected notes by name, got {header['notes']!r:.40}")
        try:
            config = RunConfig.from_dict(header["config"])
            return cls(config, header["notes"], tensors, path, hashlib.sha256(content).hexdigest())
        except ConfigError as error:
            raise CheckpointError(f"{path}: {error}") from None

    def network(self) -> Network:
        """Rebuild the network with the checkpoint's weights, ready to read.

        Raises:
            CheckpointError: Weights are missing, left over or of another shape.
        """
        with torch.device("meta"):  # what a configuration claims may be more than memory holds
            _expect_weights(Network(self.config.model), self.tensors, self.path)
        network = Network(self.config.model)
        load_weights(network, self.tensors, self.path)
        return network.eval()


def load_weights(network: Network, tensors: dict[str, Tensor], path: Path | None = None) -> None:
    """Put weights into a network.

    Args:
        network: Takes them.
        tensors: The weights by name.
        path: Where they were read, for messages.

    Raises:
        CheckpointError: Weights are missing, left over, of another shape, whole numbers or not finite.
    """
    _expect_weights(network, tensors, path)
    with torch.no_grad():
        for name, weight in network.state_dict().items():
            weight.copy_(tensors[name])


def _expect_weights(network: Network, tensors: dict[str, Tensor], path: Path | None) -> None:
    try:
        expect_tensors({name: weight.shape for name, weight in network.state_dict().items()}, tensors)
        odd = (name for name, tensor in tensors.items() if not (tensor.is_floating_point() and tensor.isfinite().all()))
        if names := ", ".join(sorted(odd)[:3]):
            raise CheckpointError(f"expected weights that are finite floating-point numbers, got others for {names}")
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}" if path else str(error)) from None


def expect_tensors(shapes: dict[str, torch.Size], tensors: dict[str, Tensor]) -> None:
    """Make sure that a checkpoint holds these tensors and no others.

    Raises:
        CheckpointError: Tensors are missing, left over or of another shape.
    """
    found = {
        "it lacks": shapes.keys() - tensors.keys(),
        "it has too much:": tensors.keys() - shapes.keys(),
        "of another shape:": {name for name in shapes.keys() & tensors.keys() if shapes[name] != tensors[name].shape},
    }
    for what, names in found.items():
        if names:
            first = ", ".join(sorted(names)[:3]) + (" and more" if len(names) > 3 else "")
            raise CheckpointError(f"the checkpoint does not fit its own configuration, {what} {first}")


def in_run(path: Path) -> Path:
    """Return a run folder's model; any other path as it is.

    Raises:
        CheckpointError: It is what a run goes on from, and no model.
    """
    if path.name == STATE_FILE:
        raise CheckpointError(f"{path} is what --resume goes on from; name {MODEL_FILE} beside it, or the run's folder")
    return path / MODEL_FILE if is_folder(path) else path


def find_model(runs: Path = RUNS) -> Path:
    """Return the newest model under a folder of runs, of a run that goes on and of a row of Table 1 too.

    Raises:
        CheckpointError: There is none.
    """
    models = sorted(runs.glob(f"*/**/{MODEL_FILE}"), key=lambda path: path.stat().st_mtime)
    if not models:
        raise CheckpointError(f"no trained model under {runs}/; train one with 'rnnspn train', or name one")
    return models[-1]


def log_test_score(run: Path, checkpoint_sha256: str, data: str, score: Score, when: str) -> None:
    """Add a look at the test set to a run's log, `test.jsonl`.

    Args:
        run: The run folder.
        checkpoint_sha256: SHA-256 of the file that was tested.
        data: Name of the test set.
        score: What came out.
        when: Date and time, ISO 8601.

    Raises:
        OutputError: The log cannot be written.
    """
    log = run / TEST_LOG
    try:
        past = log.read_text() if log.exists() else ""
    except (OSError, UnicodeDecodeError) as error:
        raise OutputError(f"cannot write {log}: it is not a readable log ({error}); remove it") from None
    look = {"when": when, "checkpoint_sha256": checkpoint_sha256, "data": data, **score.to_dict()}
    write_text(log, past + json.dumps(look) + "\n")


def logged_test_score(run: Path, checkpoint_sha256: str) -> dict[str, Any] | None:
    """Return the newest logged look at the test set of exactly this checkpoint, or None.

    Looks at the authors' published pictures go before those at other pictures of the test digits.

    Raises:
        CheckpointError: The log cannot be read.
    """
    log = run / TEST_LOG
    try:
        looks = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
        ours = [look for look in reversed(looks) if look["checkpoint_sha256"] == checkpoint_sha256]
        published = (look for look in ours if str(look["data"]).startswith(AUTHORS_2015))
        return next(published, ours[0] if ours else None)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{log} is not a readable log ({error}); remove it") from None
