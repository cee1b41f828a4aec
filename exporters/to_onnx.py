"""From a checkpoint, or from a file made of one, to one `.onnx` file that agrees with PyTorch, or to no file at all."""

from dataclasses import dataclass, replace
from pathlib import Path

import onnx
import torch

import rnnspn
from exporters.from_onnx import checkpoint_of
from exporters.integers import calibration_pictures, quantise
from exporters.onnx_graph import build_graph, strip
from exporters.parity import BATCHES, Parity, check_parity, parity_pictures
from exporters.precision import Accuracy, Precision, check_accuracy, judging_pictures, reader, store_weights
from rnnspn.contract import BFLOAT16, METADATA_KEY, OPSET, ModelMetadata
from rnnspn.errors import DataError
from rnnspn.files import write_bytes
from rnnspn.inference import model_file
from rnnspn.inference.cpu import rewritten
from rnnspn.inference.providers import open_session
from rnnspn.models.networks import Network
from rnnspn.training.checkpoint import Checkpoint, RunConfig, logged_test_score

STORED_WEIGHTS = "stored_weights"


@dataclass(frozen=True)
class ExportConfig:
    """What kind of file is asked for.

    Attributes:
        opset: Version of the standard operators.
        precision: How weights are stored, and in `w8a8` what is computed with.
        max_accuracy_drop: Points of whole-sequence accuracy that fewer bits may cost.
        bfloat16: Allow computing in bfloat16 on OpenVINO, if that costs no more.
        data: Where the folder of pictures that the run learned from is now, None where it was.
    """

    opset: int = OPSET
    precision: Precision = "fp32"
    max_accuracy_drop: float = 0.1
    bfloat16: bool = False
    data: Path | None = None


PLAIN = ExportConfig()


@dataclass(frozen=True)
class Made:
    """A model that passed its gates and is not written yet.

    Attributes:
        content: The serialised `.onnx` file.
        nodes: Nodes in its graph.
        network: What it was made from.
        parity: Its agreement with PyTorch, float32 compared with float32.
        costs: What fewer bits cost, under the keys of the metadata's parity record.
    """

    content: bytes
    nodes: int
    network: Network
    parity: Parity
    costs: dict[str, Accuracy]


@dataclass(frozen=True)
class Export:
    """A file that was written.

    Attributes:
        path: The file.
        size_bytes: Its size.
        nodes: Nodes in the exported graph.
        parity: The file's agreement with PyTorch, float32 compared with float32, or with what it was made from.
        costs: What fewer bits cost, under the keys of the metadata's parity record.
        beside: Files that belong to it.
        compared_with: What `parity` compares it with.
    """

    path: Path
    size_bytes: int
    nodes: int
    parity: Parity
    costs: dict[str, Accuracy]
    beside: tuple[Path, ...] = ()
    compared_with: str = "PyTorch"


def export(checkpoint_path: Path, target: Path, config: ExportConfig = PLAIN) -> Export:
    """Export a network, and write the file only if it agrees with PyTorch.

    Args:
        checkpoint_path: A run's model, or an `.onnx` file that was exported with float32 weights.
        target: The `.onnx` file to make or replace.
        config: What kind of file.

    Returns:
        What was written.

    Raises:
        CheckpointError: The checkpoint cannot be read.
        ConfigError: `data` is no folder, or the run learned from none.
        DataError: The pictures that fewer bits are judged on are missing, or it is not known where they are.
        MissingPackageError: ONNX Runtime is not installed.
        ModelFileError: The `.onnx` file to export from is no sound model.
        ParityError: The graph disagrees with PyTorch, or fewer bits cost too much; no file was written.
        ProviderError: `bfloat16` without OpenVINO's provider.
        OutputError: The file cannot be written.
    """
    made = make(checkpoint_path, target, config)
    model_file.checked(target, made.content)
    write_bytes(target, made.content)
    return Export(target, len(made.content), made.nodes, made.parity, made.costs)


def make(checkpoint_path: Path, target: Path, config: ExportConfig = PLAIN) -> Made:
    """Make what `export` writes: arguments and errors are the same, and `target` is only named in messages."""
    source = _source(checkpoint_path, config.opset)
    network, model = source.network, source.graph
    learned = _with_pictures(source.learned, config)
    full = model.SerializeToString()
    pictures = parity_pictures(network.config)
    parity = check_parity(full, network, pictures)
    check_parity(rewritten(full), network, pictures, BATCHES[-1:])  # what `predict` runs on a processor like this one
    costs: dict[str, Accuracy] = {}

    def check(what: str, name: str, provider: str) -> None:
        other = reader(model.SerializeToString(), target, provider)
        examples = judging_pictures(learned)
        costs[what] = check_accuracy(reader(full, target), other, examples, name, config.max_accuracy_drop)

    if config.precision == "w8a8":
        model = quantise(model, calibration_pictures(learned))
    elif config.precision != "fp32":
        model = store_weights(model, config.precision)
    if config.precision != "fp32":
        check(STORED_WEIGHTS, config.precision, "cpu")
    if config.bfloat16:
        check(BFLOAT16, "bfloat16", "openvino-bfloat16")
    entry = model.metadata_props.add()
    records = parity.to_dict() | {what: accuracy.to_dict() for what, accuracy in costs.items()}
    entry.key, entry.value = METADATA_KEY, replace(source.metadata, parity=records).to_json()
    return Made(model.SerializeToString(), len(model.graph.node), network, parity, costs)


@dataclass(frozen=True)
class _Source:
    """What a file is made from.

    Attributes:
        learned: How the network was trained.
        network: The network, in PyTorch.
        graph: What it exports as, without metadata.
        metadata: The file's, without a record of parity.
    """

    learned: RunConfig
    network: Network
    graph: onnx.ModelProto
    metadata: ModelMetadata


def _source(path: Path, opset: int) -> _Source:
    checkpoint = checkpoint_of(path)
    network = checkpoint.network()
    if path.suffix.lower() != ".onnx":
        return _Source(checkpoint.config, network, build_graph(network, opset), _metadata(checkpoint, path.parent))
    file = model_file.load(path)
    open_session(file.content, "cpu", path)  # else it is no fault of ours
    graph = onnx.load_from_string(file.content)
    if [one.version for one in graph.opset_import] != [opset]:
        graph = build_graph(network, opset)
    strip(graph)
    return _Source(checkpoint.config, network, graph, replace(file.metadata, versions=_versions()))


def _with_pictures(learned: RunConfig, config: ExportConfig) -> RunConfig:
    """Return how a network was trained, and where its own pictures are if they will be needed."""
    if config.data:
        return replace(learned, data=learned.data.moved_to(config.data))
    is_judged = config.precision != "fp32" or config.bfloat16
    if is_judged and learned.data.is_own and not Path(learned.data.source).is_absolute():
        raise DataError(f"an exported file does not say where the folder {learned.data.source} is; name it with --data")
    return learned


def _versions() -> dict[str, str]:
    return {"torch": torch.__version__, "onnx": onnx.__version__, "rnnspn": rnnspn.__version__}


def _metadata(checkpoint: Checkpoint, run: Path) -> ModelMetadata:
    config = checkpoint.config
    return ModelMetadata(
        family=config.model.family,
        downsample=config.model.downsample,
        steps=config.model.steps,
        alphabet=config.model.alphabet,
        height=config.model.height,
        width=config.model.width,
        training={
            "recipe": config.train.recipe,
            "seed": config.train.seed,
            "data": config.to_dict()["data"] | {"source": config.data.name},
            "values": config.to_dict()["train"],
            **{name: checkpoint.notes[name] for name in ("epoch", "validation") if name in checkpoint.notes},
        },
        test_error=logged_test_score(run, checkpoint.sha256),
        checkpoint_sha256=checkpoint.sha256,
        versions=_versions(),
        parity={},
    )
