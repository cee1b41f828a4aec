"""Exported models: where they lie, and how they are read."""

import hashlib
import os
from dataclasses import dataclass, field
from pathlib import Path

from rnnspn.alphabet import described
from rnnspn.contract import ModelMetadata
from rnnspn.errors import ModelFileError
from rnnspn.inference import model_checks

BUNDLED = "bundled"
"""The word that names the model shipped with the package."""
BUNDLED_FILE = "rnn-spn-d3.onnx"
DEFAULT_FILE = "model.onnx"
MAX_BYTES = 512 * 2**20

_PACKAGE = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class ModelFile:
    """An exported model that was checked.

    Attributes:
        path: Where it was read.
        content: Its bytes: exactly those that were checked.
        metadata: What it says about itself.
        sha256: SHA-256 of `content`, in hexadecimal.
    """

    path: Path
    content: bytes = field(repr=False)
    metadata: ModelMetadata
    sha256: str

    @property
    def summary(self) -> str:
        """Name the model in one line: its file, family, down-sampling factor, what it reads, and SHA-256."""
        about = self.metadata
        downsample = "" if about.downsample is None else f", d={about.downsample}"
        reads = described(about.steps, about.alphabet)
        return f"{self.path} ({about.family}{downsample}, reads {reads}, sha256 {self.sha256[:12]})"


def bundled() -> Path:
    """Return where the bundled model lies: inside the installed package, else in the checkout's `assets/`.

    Raises:
        ModelFileError: There is none in either place.
    """
    places = (_PACKAGE / "assets/models" / BUNDLED_FILE, _PACKAGE.parent / "assets/models" / BUNDLED_FILE)
    for place in places:
        if place.is_file():
            return place
    raise ModelFileError(
        f"this installation has no bundled model ({BUNDLED_FILE}); install rnnspn again or name a model"
    )


def default() -> Path:
    """Return `model.onnx` of the working folder if there is one, or a link of that name, else the bundled model.

    Raises:
        ModelFileError: There is neither.
    """
    return Path(DEFAULT_FILE) if os.path.lexists(DEFAULT_FILE) else bundled()


def is_exported(path: str | Path) -> bool:
    """Tell whether a name stands for an exported file, and not for a run's folder or checkpoint."""
    return str(path) == BUNDLED or Path(path).suffix.lower() in (".onnx", ".ort")


def load(path: str | Path) -> ModelFile:
    """Read a model once, check it against the contract, and keep the very bytes that were checked.

    Args:
        path: An `.onnx` file, or `"bundled"`.

    Raises:
        ModelFileError: The file cannot be read, is no ONNX model, or breaks the contract.
    """
    place = bundled() if path == BUNDLED else Path(path)
    return checked(place, _read(place))


def checked(place: Path, content: bytes) -> ModelFile:
    """Check a model's bytes against the contract.

    Args:
        place: Where they lie, or will.
        content: The bytes.

    Raises:
        ModelFileError: They are no ONNX model, or break the contract.
    """
    try:
        metadata = model_checks.expect_sound(content)
    except ModelFileError as error:
        raise ModelFileError(f"{place}: {error}") from None
    return ModelFile(place, content, metadata, hashlib.sha256(content).hexdigest())


def _read(path: Path) -> bytes:
    try:
        if not path.exists():
            raise ModelFileError(f"there is no model {path}; make one with rnnspn export, or name '{BUNDLED}'")
        if not path.is_file():
            raise ModelFileError(f"expected an .onnx file, got a folder or device: {path}")
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise ModelFileError(f"{path}: expected at most {MAX_BYTES >> 20} MiB, got {size >> 20} MiB")
        return path.read_bytes()
    except OSError as error:
        raise ModelFileError(f"cannot read the model {path}: {error.strerror or error}; name a readable file") from None
