"""How good a model is: checkpoints and exported files, on the same pictures, counted the same way.

Shapes: n pictures, T steps, H x W pixels.
"""

import datetime
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rnnspn.alphabet import spelled
from rnnspn.config import DataConfig, ModelConfig, from_dict
from rnnspn.data.examples import Examples
from rnnspn.files import write_bytes
from rnnspn.inference import glimpses, model_file
from rnnspn.inference.predictor import Predictor
from rnnspn.inference.results import csv_line, neutral
from rnnspn.scores import Answers, Score

_SHOWN = 3
"""Pictures on which a report shows where the model looked."""


@dataclass(frozen=True)
class Subject:
    """A model under test.

    Attributes:
        name: Its file, for people.
        model: The shape of what it reads.
        data: What it was trained on.
        answer: Reads pictures, uint8 (n, H, W).
        log: Notes a look at the test set, where there is a place for that.
    """

    name: str
    model: ModelConfig
    data: DataConfig
    answer: Callable[[NDArray[np.uint8]], Answers]
    log: Callable[[str, Score], None] = lambda source, score: None


def exported(path: str, provider: str = "auto") -> Subject:
    """Put an exported model to the test.

    Args:
        path: An `.onnx` file, or `"bundled"`.
        provider: What runs it.

    Raises:
        ModelFileError: The file cannot be read or breaks the contract.
        MissingPackageError: ONNX Runtime is not installed.
        ProviderError: The provider asked for cannot run here.
    """
    predictor = Predictor.load(path, provider=provider)
    metadata = predictor.model.metadata

    def answer(images: NDArray[np.uint8]) -> Answers:
        outputs = predictor.run(images)
        return Answers(outputs.digits, outputs.chosen.prod(axis=1, dtype=np.float64), outputs.theta)

    model = ModelConfig(
        family=metadata.family,
        downsample=metadata.downsample,
        steps=metadata.steps,
        height=metadata.height,
        width=metadata.width,
        alphabet=metadata.alphabet,
    )
    data = from_dict(DataConfig, metadata.training.get("data", {}))
    return Subject(f"{predictor.model.summary} on {predictor.engine.provider}", model, data, answer)


def trained(path: Path) -> Subject:
    """Put a checkpoint to the test; a look at the test set goes into its run folder.

    Args:
        path: A run's folder or its `model.safetensors`.

    Raises:
        CheckpointError: The checkpoint cannot be read.
    """
    import torch

    from rnnspn.training import evaluation
    from rnnspn.training.checkpoint import Checkpoint, in_run, log_test_score
    from rnnspn.training.hardware import keep_freed_memory

    keep_freed_memory()
    path = in_run(path)
    checkpoint = Checkpoint.load(path)
    network = checkpoint.network()

    def log(source: str, score: Score) -> None:
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        log_test_score(path.parent, checkpoint.sha256, source, score, now)

    def answer(images: NDArray[np.uint8]) -> Answers:
        return evaluation.answer(network, torch.from_numpy(images))

    return Subject(str(path), checkpoint.config.model, checkpoint.config.data, answer, log)


def open_subject(path: str, provider: str = "auto") -> Subject:
    """Put a model to the test: an `.onnx` file or `"bundled"`, else a checkpoint; see `exported` and `trained`."""
    if path == model_file.BUNDLED or path.endswith(".onnx"):
        return exported(path, provider)
    return trained(Path(path))


def write_report(answers: Answers, examples: Examples, model: ModelConfig, folder: Path) -> list[Path]:
    """Draw the confusion matrix, the worst mistakes and, as Figure 3 of the paper does, where it looked; list mistakes.

    Args:
        answers: What was read.
        examples: What is written.
        model: The shape of what the model reads.
        folder: Where `confusion.png`, `mistakes.png`, `attention.png` and `mistakes.csv` go; made when it is missing.

    Returns:
        The files written.

    Raises:
        OutputError: They cannot be written.
    """
    from rnnspn.figures import draw_attention, draw_confusion, draw_mistakes
    from rnnspn.scores import confusion

    read, written = (
        [spelled(row, model.alphabet) for row in classes.tolist()] for classes in (answers.digits, examples.labels)
    )
    files = [folder / name for name in ("confusion.png", "mistakes.png", "attention.png", "mistakes.csv")]
    draw_confusion(confusion(answers.digits, examples.labels, model.classes), model.alphabet, files[0])
    draw_mistakes(examples.images, read, written, answers.confidence, files[1])
    shown = examples.images[:_SHOWN]
    theta = None if answers.theta is None else answers.theta[:_SHOWN]
    draw_attention(shown, _glimpses(shown, theta, model), theta, read[:_SHOWN], files[2])
    write_bytes(files[3], _mistakes(read, written, answers.confidence, examples))
    return files


def _glimpses(images: NDArray[np.uint8], theta: NDArray[Any] | None, model: ModelConfig) -> NDArray[np.uint8]:
    """Return what the classifier sees, uint8 (n, G, h, w); for `conv` the pictures, with G = 1."""
    if theta is None:
        return images[:, None]
    looks = zip(images, theta, strict=True)
    return np.array([[glimpses.sample(image, one, *model.glimpse_size) for one in each] for image, each in looks])


def _mistakes(read: list[str], written: list[str], confidence: NDArray[Any], examples: Examples) -> bytes:
    """List the pictures that were misread as CSV, the most confident mistakes first."""
    names = examples.paths or [f"picture {number}" for number in range(len(read))]
    rows = [row for row in zip(names, written, read, confidence.tolist(), strict=True) if row[1] != row[2]]
    lines = [csv_line(("path", "label", "read", "confidence"))]
    for name, label, digits, sure in sorted(rows, key=lambda row: -row[3]):
        lines.append(csv_line((neutral(name), neutral(label), neutral(digits), f"{sure:.6f}")))
    return "".join(lines).encode("utf-8", "surrogateescape")
