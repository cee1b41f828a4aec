"""How good a model is: checkpoints and exported files, on the same pictures, counted the same way.

Shapes: n pictures, T steps, H x W pixels.
"""

import datetime
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rnnspn.config import DataConfig, ModelConfig, from_dict
from rnnspn.data.examples import Examples
from rnnspn.inference import model_file
from rnnspn.inference.predictor import Predictor
from rnnspn.scores import Answers, Score


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
        readings = predictor.predict(images)
        digits = [[metadata.alphabet.index(character) for character in reading.digits] for reading in readings]
        return Answers(np.array(digits), np.array([reading.confidence for reading in readings]))

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
        path: A run's `model.safetensors`.

    Raises:
        CheckpointError: The checkpoint cannot be read.
    """
    import torch

    from rnnspn.training import evaluation
    from rnnspn.training.checkpoint import Checkpoint, log_test_score

    checkpoint = Checkpoint.load(path)
    network = checkpoint.network()

    def log(source: str, score: Score) -> None:
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        log_test_score(path.parent, hashlib.sha256(path.read_bytes()).hexdigest(), source, score, now)

    def answer(images: NDArray[np.uint8]) -> Answers:
        return evaluation.answer(network, torch.from_numpy(images))

    return Subject(str(path), checkpoint.config.model, checkpoint.config.data, answer, log)


def open_subject(path: str, provider: str = "auto") -> Subject:
    """Put a model to the test: an `.onnx` file or `"bundled"`, else a checkpoint; see `exported` and `trained`."""
    if path == model_file.BUNDLED or path.endswith(".onnx"):
        return exported(path, provider)
    return trained(Path(path))


def draw_report(answers: Answers, examples: Examples, alphabet: str, folder: Path) -> list[Path]:
    """Draw the confusion matrix and the worst mistakes.

    Args:
        answers: What was read.
        examples: What is written.
        alphabet: The character of each class.
        folder: Where `confusion.png` and `mistakes.png` go; made when it is missing.

    Returns:
        The files written.

    Raises:
        OutputError: They cannot be written.
    """
    from rnnspn.figures import draw_confusion, draw_mistakes
    from rnnspn.scores import confusion

    def words(classes: NDArray[Any]) -> list[str]:
        return ["".join(alphabet[index] for index in row) for row in classes.tolist()]

    counts = confusion(answers.digits, examples.labels, len(alphabet))
    draw_confusion(counts, alphabet, folder / "confusion.png")
    draw_mistakes(
        examples.images, words(answers.digits), words(examples.labels), answers.confidence, folder / "mistakes.png"
    )
    return [folder / "confusion.png", folder / "mistakes.png"]
