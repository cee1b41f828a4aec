"""Golden vectors: pictures and what a model says of them, so that a client in any language can check itself.

Shapes: n pictures, T steps, G glimpses a picture, H x W pixels, K classes.
"""

import base64
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rnnspn.config import DataConfig, family_config
from rnnspn.data.examples import sequences
from rnnspn.data.mnist import load_mnist
from rnnspn.files import write_text
from rnnspn.inference.model_file import ModelFile
from rnnspn.inference.session import open_engine

PICTURES = 6
TOLERANCE = 1e-3
"""How far a client's probabilities and thetas may be off: other runtimes round otherwise."""
_DECIMALS = 6


def write_vectors(model: ModelFile, target: Path) -> int:
    """Write the vectors of a model: synthesised test pictures, one all black and one of noise.

    Args:
        model: A checked model; it is run on the CPU.
        target: The JSON file to make or replace. It holds the model's SHA-256, its alphabet, the tolerance, and of
            each picture `image` (base64 of H*W bytes, row by row), `digits`, `probabilities` and `theta`.

    Returns:
        The number of pictures.

    Raises:
        DataError: MNIST is missing.
        MissingPackageError: ONNX Runtime is not installed.
        OutputError: The file cannot be written.
    """
    pictures = _pictures(model)
    outputs = open_engine(model, "cpu").run(pictures)
    vectors = [
        {
            "image": base64.b64encode(picture.tobytes()).decode(),
            "digits": outputs.digits[index].tolist(),
            "probabilities": _rounded(outputs.probabilities[index]),
            **({} if outputs.theta is None else {"theta": _rounded(outputs.theta[index])}),
        }
        for index, picture in enumerate(pictures)
    ]
    about = model.metadata
    document = {
        "model_sha256": model.sha256,
        "alphabet": about.alphabet,
        "height": about.height,
        "width": about.width,
        "tolerance": TOLERANCE,
        "vectors": vectors,
    }
    write_text(target, json.dumps(document, indent=1) + "\n")
    return len(vectors)


def _pictures(model: ModelFile) -> NDArray[np.uint8]:
    about = model.metadata
    config = family_config(about.family, steps=about.steps, height=about.height, width=about.width)
    pictures = sequences(load_mnist(), "test", DataConfig(), config).pictures(np.arange(PICTURES))[0]
    size = (about.height, about.width)
    noise = np.random.default_rng(0).integers(0, 256, size, dtype=np.uint8)
    return np.concatenate([pictures, np.zeros((1, *size), np.uint8), noise[None]])


def _rounded(values: NDArray[np.float32]) -> Any:
    return np.round(values.astype(np.float64), _DECIMALS).tolist()
