"""How good a model is: checkpoints and exported files, on the same pictures, counted the same way.

Shapes: n pictures, T steps, H x W pixels.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rnnspn.config import DataConfig, ModelConfig, from_dict
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
        provider: What runs it: one of `Provider` but `auto`, or `pytorch`.
        log: Notes a look at the test set, where there is a place for that.
    """

    name: str
    model: ModelConfig
    data: DataConfig
    answer: Callable[[NDArray[np.uint8]], Answers]
    provider: str
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
    engine = predictor.engine
    return Subject(f"{predictor.model.summary} on {engine.summary}", model, data, answer, engine.provider)
