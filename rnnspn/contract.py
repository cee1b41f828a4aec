"""The contract of an exported model: what the exporter writes and what the runtime relies on.

Shapes: N pictures, T steps, K classes, H x W pixels.

| tensor | type and shape | meaning |
|---|---|---|
| in `images` | uint8 (N, H, W) | grey levels, 0 background to 255 ink |
| out `digits` | int64 (N, T) | class index of each step; blanks, if the alphabet has one, only at the end |
| out `probabilities` | float32 (N, T, K) | softmax of each step |
| out `theta` | float32 (N, T, 2, 3) | affine matrix of each step; T is 1 for `ffn-spn`, absent for `conv` |

The metadata is one JSON document under the key `rnnspn` of the file's `metadata_props`.
"""

import json
from dataclasses import asdict, dataclass, fields
from typing import Any

from rnnspn.config import FAMILIES
from rnnspn.errors import ModelFileError

IMAGES = "images"
DIGITS = "digits"
PROBABILITIES = "probabilities"
THETA = "theta"

OPSET = 18
METADATA_KEY = "rnnspn"
SCHEMA_VERSION = 1
BFLOAT16 = "bfloat16"
"""Key of the parity record that holds what computing in bfloat16 costs, where that was measured and is allowed."""

RESIZE_POLICY = "fit"
"""The picture is scaled to fit H x W with its aspect kept, centred, the rest filled with background; all of it is in
docs/pictures.md."""
POLARITY = "light-on-dark"
"""Ink is light on a dark background, as in MNIST."""
NORMALISATION = "x/255 in the graph"


@dataclass(frozen=True, kw_only=True)
class ModelMetadata:
    """Everything a client needs to know about a model beyond its tensors.

    Attributes:
        family: `rnn-spn`, `ffn-spn` or `conv`.
        downsample: Down-sampling factor d of the glimpses; None for `conv`.
        steps: Digits in the longest sequence, T.
        alphabet: The character of each class; its length is K. Where it ends in `alphabet.BLANK`, sequences may be
            shorter: blanks at their end are no part of them.
        height: Input height H in pixels.
        width: Input width W in pixels.
        training: Recipe, seed, data and all other values of the training, and the validation error.
        test_error: Error on a test set with n, or None where there is none.
        checkpoint_sha256: SHA-256 of the checkpoint file the model came from.
        versions: Versions of torch, onnx and rnnspn that made the file.
        parity: The agreement with PyTorch that was measured at export.
    """

    family: str
    downsample: int | None
    steps: int
    alphabet: str
    height: int
    width: int
    training: dict[str, Any]
    test_error: dict[str, Any] | None
    checkpoint_sha256: str
    versions: dict[str, str]
    parity: dict[str, Any]
    resize_policy: str = RESIZE_POLICY
    polarity: str = POLARITY
    normalisation: str = NORMALISATION
    schema_version: int = SCHEMA_VERSION

    def to_json(self) -> str:
        """Return the metadata as one JSON document."""
        return json.dumps(asdict(self), ensure_ascii=False, sort_keys=True, allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> "ModelMetadata":
        """Read the metadata back and check it.

        Raises:
            ModelFileError: The text is no JSON object, its schema is unknown, or a field is missing or illegal.
        """
        try:
            document = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise ModelFileError(f"the model's metadata is not JSON ({error}); export the model again") from None
        if not isinstance(document, dict):
            raise ModelFileError("the model's metadata is not a JSON object; export the model again")
        version = document.get("schema_version")
        if type(version) is not int or version != SCHEMA_VERSION:
            raise ModelFileError(
                f"the model's metadata has schema {version!r}, this release knows schema {SCHEMA_VERSION}; "
                "install the release of rnnspn that made the file, or export the model again"
            )
        missing = sorted({field.name for field in fields(cls)} - document.keys())
        if missing:
            raise ModelFileError(f"the model's metadata lacks {', '.join(missing)}; export the model again")
        metadata = cls(**{field.name: document[field.name] for field in fields(cls)})
        metadata._check()
        return metadata

    def _check(self) -> None:
        for name, low, high in (("steps", 1, 64), ("height", 1, 4096), ("width", 1, 4096)):
            value = getattr(self, name)
            if type(value) is not int or not low <= value <= high:
                raise ModelFileError(f"the model's metadata has {name} {value!r}, expected {low} to {high}")
        alphabet = self.alphabet
        if not (isinstance(alphabet, str) and alphabet.isprintable() and len(set(alphabet)) == len(alphabet) > 1):
            raise ModelFileError(
                f"the model's metadata has the alphabet {self.alphabet!r}, expected two or more different characters "
                "that can be printed"
            )
        if self.family not in FAMILIES:
            raise ModelFileError(
                f"the model's metadata has family {self.family!r}, this release knows {', '.join(FAMILIES)}"
            )
        self._check_downsample()
        for name in ("training", "versions", "parity"):
            if not isinstance(getattr(self, name), dict):
                raise ModelFileError(f"the model's metadata has {name} {getattr(self, name)!r}, expected an object")
        if not isinstance(self.test_error, dict | None):
            raise ModelFileError(f"the model's metadata has test_error {self.test_error!r}, expected an object or null")
        if not isinstance(self.checkpoint_sha256, str):
            raise ModelFileError(
                f"the model's metadata has checkpoint_sha256 {self.checkpoint_sha256!r}, expected text"
            )
        known_values = {"resize_policy": RESIZE_POLICY, "polarity": POLARITY, "normalisation": NORMALISATION}
        for name, known in known_values.items():
            if getattr(self, name) != known:
                raise ModelFileError(
                    f"the model's metadata has {name} {getattr(self, name)!r}, this release knows {known!r}"
                )

    def _check_downsample(self) -> None:
        factor = self.downsample
        if self.family == "conv":
            legal, expected = factor is None, "null for conv"
        else:
            legal, expected = type(factor) is int and 1 <= factor <= min(self.height, self.width), "1 or more"
        if not legal:
            raise ModelFileError(f"the model's metadata has downsample {factor!r}, expected {expected}")
