"""Recurrent Spatial Transformer Networks: read short digit sequences from cluttered pictures."""

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from os import PathLike

    from rnnspn.inference.predictor import Predictor

__version__ = "0.1.0"

__all__ = ["__version__", "load"]

# ONNX Runtime sends its maker telemetry unless this is set before it starts; to let it, set it to 0.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")


def load(path: "str | PathLike[str]" = "bundled", *, provider: str = "auto") -> "Predictor":
    """Load an exported model, ready to read pictures.

    Args:
        path: An `.onnx` file made by `rnnspn export`, or `"bundled"` for the model that ships with the package.
        provider: `"auto"`, `"cpu"`, `"cuda"`, `"cuda-tf32"`, `"openvino"` or `"openvino-bfloat16"`.

    Returns:
        A predictor whose `predict(images)` returns one reading per picture.

    Raises:
        MissingPackageError: ONNX Runtime is not installed.
        ModelFileError: The file cannot be read or breaks the contract.
        ProviderError: The provider asked for cannot run here.
    """
    from rnnspn.inference.predictor import Predictor

    return Predictor.load(path, provider=provider)
