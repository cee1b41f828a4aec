"""Golden vectors: a few pictures with what a model says about them, so that a client in any language can check itself.

The file is one JSON document:

| field | meaning |
|---|---|
| `schema_version` | 1 |
| `model` | `file` and `sha256` of the model |
| `height`, `width` | size of every picture, H and W in pixels |
| `tolerances` | largest difference allowed in each number of `probabilities` and `theta`; `digits` must be equal |
| `runtime` | what gave the answers |
| `vectors` | for each picture its H x W grey levels, row by row in base64, and the outputs of the contract |
| `preparations` | small pictures for what comes before a model, each with its own `height` and `width` |
| `scalings` | pictures of which step 3 of docs/pictures.md makes `scaled`, `scaled_height` x `scaled_width` levels |

`picture` are the levels as they come, `image` what steps 4 and 5 of docs/pictures.md make of them. Levels of `scaled`
may differ by the `tolerance` beside them, as filters round in their own ways.

Shapes: n pictures, H x W pixels.
"""

import base64
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from exporters import pictures
from rnnspn import contract
from rnnspn.alphabet import BLANK
from rnnspn.errors import ModelFileError
from rnnspn.files import write_text
from rnnspn.inference import cpu
from rnnspn.inference.model_file import ModelFile
from rnnspn.inference.runtime import one_line, onnxruntime, session_options
from rnnspn.inference.session import Outputs
from rnnspn.pictures import images
from rnnspn.scores import are_clear

SCHEMA_VERSION = 1
TOLERANCE = 1e-4
"""Processors and versions of the runtime differ by less."""
_PICTURES = 10
_CANDIDATES = 64
_NOISE = 1
_DECIMALS = 7
_SCALED = "scaled"
_SCALED_TOLERANCE = 2
_SIDE = 20
"""Pixels that pictures are scaled to fit, in height and width."""
_SCALINGS = ((130, 161), (50, 69), (8, 11))
"""Heights and widths of pictures to scale: one to reduce before, one to shrink and one to enlarge."""
_TELLING = (1199, 583, 283, 0, 986, 248, 10, 1018)
"""Seeds of small pictures, chosen so that each way to go wrong that the tests know shows in two of them."""


def vectors_file(model: Path) -> Path:
    """Return where the golden vectors of a model lie by default: beside it."""
    return model.with_suffix(".vectors.json")


def write_vectors(model: ModelFile, target: Path) -> int:
    """Run a model on the CPU and write its golden vectors.

    Args:
        model: A checked model.
        target: The JSON file to make or replace.

    Returns:
        How many pictures it holds.

    Raises:
        MissingPackageError: ONNX Runtime is not installed.
        ModelFileError: ONNX Runtime refuses the model, or nothing that it reads is clear.
        OutputError: The file cannot be written.
    """
    document = vectors(model)
    write_text(target, json.dumps(document, indent=1) + "\n")
    return len(document["vectors"])


def vectors(model: ModelFile) -> dict[str, Any]:
    """Return a model's golden vectors as a dictionary that JSON can hold; errors as for `write_vectors`."""
    about = model.metadata
    taken = np.concatenate(
        [
            pictures.extremes(_NOISE, about.height, about.width),
            _lit(pictures.synthesised(_CANDIDATES, about.steps, about.height, about.width)),
        ]
    )
    shown = np.stack([images.load(picture, about.height, about.width).pixels for picture in taken])
    outputs = _answers(model, shown)
    blank = about.alphabet.index(BLANK) if BLANK in about.alphabet else None
    clear = are_clear(outputs.probabilities, blank).all(axis=1)
    if not clear.any():
        raise ModelFileError(f"{model.path} is sure of nothing that it reads; train it before making vectors")
    return {
        "schema_version": SCHEMA_VERSION,
        "model": {"file": model.path.name, "sha256": model.sha256},
        "height": about.height,
        "width": about.width,
        "tolerances": {contract.PROBABILITIES: TOLERANCE, contract.THETA: TOLERANCE},
        "runtime": f"onnxruntime {onnxruntime().__version__}, CPU",
        "vectors": [_vector(taken[index], shown[index], outputs, index) for index in np.flatnonzero(clear)[:_PICTURES]],
        "preparations": [_preparation(pictures.strokes(seed)) for seed in _TELLING],
        "scalings": [_scaling(pictures.rings(*size)) for size in _SCALINGS],
    }


def _answers(model: ModelFile, images: NDArray[np.uint8]) -> Outputs:
    """Run a file as it stands, as other programs do: what `predict` makes of it when it loads it rounds otherwise."""
    runtime = onnxruntime()
    try:
        plain = runtime.InferenceSession(model.content, session_options(), providers=[cpu.NAME])
        names = [output.name for output in plain.get_outputs()]
        outputs = dict(zip(names, plain.run(names, {contract.IMAGES: images}), strict=True))
    except Exception as error:
        raise ModelFileError(f"{model.path}: ONNX Runtime refuses it: {one_line(error)}; export it again") from error
    return Outputs(outputs[contract.DIGITS], outputs[contract.PROBABILITIES], outputs.get(contract.THETA))


def _lit(pictures: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return pictures, uint8 (n, H, W), as cameras give them: on black, on white, on paper and plates in the dim.

    The last two of seven are so dark and so bright that only what stands out tells ink from paper.
    """
    lit = pictures.copy()
    shade = np.linspace(0, 40, pictures.shape[-1])
    lit[1::7] = 255 - lit[1::7]
    lit[2::7] = 85 + shade - lit[2::7] * 0.3
    lit[2::7, 5:-5:14, 5:-5:14] = 255  # specks
    lit[3::7] = 30 + shade + lit[3::7] * 0.6
    lit[4::7] = 165 + shade + lit[4::7] * 0.17
    lit[5::7] = 60 - lit[5::7] * 0.22
    lit[6::7] = 195 + lit[6::7] * 0.23
    return lit


def _preparation(picture: NDArray[np.uint8]) -> dict[str, Any]:
    height, width = picture.shape
    image = images.load(picture, height, width).pixels
    return {"height": height, "width": width, "picture": _base64(picture), "image": _base64(image)}


def _scaling(picture: NDArray[np.uint8]) -> dict[str, Any]:
    height, width = picture.shape
    place = images.Letterbox.fitting(width, height, _SIDE, _SIDE)
    levels = images.scaled(Image.fromarray(picture), (place.width, place.height))
    return {
        "height": height,
        "width": width,
        "picture": _base64(picture),
        f"{_SCALED}_height": place.height,
        f"{_SCALED}_width": place.width,
        _SCALED: _base64(levels),
        "tolerance": _SCALED_TOLERANCE,
    }


def _base64(levels: NDArray[np.uint8]) -> str:
    return base64.b64encode(levels.tobytes()).decode()


def _vector(picture: NDArray[np.uint8], image: NDArray[np.uint8], outputs: Outputs, index: int) -> dict[str, Any]:
    vector = {
        "picture": _base64(picture),
        "image": _base64(image),
        contract.DIGITS: outputs.digits[index].tolist(),
        contract.PROBABILITIES: _rounded(outputs.probabilities[index]),
    }
    return vector if outputs.theta is None else vector | {contract.THETA: _rounded(outputs.theta[index])}


def _rounded(values: NDArray[np.float32]) -> Any:
    return values.astype(np.float64).round(_DECIMALS).tolist()
