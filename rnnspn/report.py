"""A report on what a model reads: drawings and a list, in a folder.

Shapes: n pictures, G glimpses a picture, h x w glimpse pixels.
"""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rnnspn.alphabet import spelled
from rnnspn.config import ModelConfig
from rnnspn.data.examples import Examples
from rnnspn.figures import draw_attention, draw_confusion, draw_mistakes
from rnnspn.files import write_bytes
from rnnspn.results import glimpses
from rnnspn.results.output import expect_no_input
from rnnspn.results.writers import csv_line, neutral
from rnnspn.scores import Answers, confusion

_SHOWN = 3
"""Pictures on which it shows where the model looked."""


def write_report(answers: Answers, examples: Examples, model: ModelConfig, folder: Path) -> list[Path]:
    """Draw the confusion matrix, the worst mistakes and, as Figure 3 of the paper does, where it looked; list readings.

    Args:
        answers: What was read.
        examples: What is written.
        model: The shape of what the model reads.
        folder: Where `confusion.png`, `mistakes.png`, `attention.png` and `readings.csv` go; made when it is missing.

    Returns:
        The files written.

    Raises:
        OutputError: They cannot be written, or one would take the place of a picture.
    """
    read, written = (
        [spelled(row, model.alphabet) for row in classes.tolist()] for classes in (answers.digits, examples.labels)
    )
    files = [folder / name for name in ("confusion.png", "mistakes.png", "attention.png", "readings.csv")]
    expect_no_input(files, examples.paths)
    draw_confusion(confusion(answers.digits, examples.labels, model.classes), model.alphabet, files[0])
    draw_mistakes(examples.images, read, written, answers.confidence, files[1])
    shown = examples.images[:_SHOWN]
    theta = None if answers.theta is None else answers.theta[:_SHOWN]
    draw_attention(shown, _glimpses(shown, theta, model), theta, read[:_SHOWN], files[2], written[:_SHOWN])
    write_bytes(files[3], _readings(read, written, answers.confidence, examples))
    return files


def _glimpses(images: NDArray[np.uint8], theta: NDArray[Any] | None, model: ModelConfig) -> NDArray[np.uint8]:
    """Return what the classifier sees, uint8 (n, G, h, w); for `conv` the pictures, with G = 1."""
    if theta is None:
        return images[:, None]
    looks = zip(images, theta, strict=True)
    return np.array([[glimpses.sample(image, one, *model.glimpse_size) for one in each] for image, each in looks])


def _readings(read: list[str], written: list[str], confidence: NDArray[Any], examples: Examples) -> bytes:
    """List all pictures as CSV: those that were misread first, and among them, as among the others, the surest."""
    names = examples.paths or [f"picture {number}" for number in range(len(read))]
    rows = zip(names, written, read, confidence.tolist(), strict=True)
    lines = [csv_line(("path", "label", "read", "confidence", "right"))]
    for name, label, digits, sure in sorted(rows, key=lambda row: (row[1] == row[2], -row[3])):
        right = str(int(label == digits))
        lines.append(csv_line((neutral(name), neutral(label), neutral(digits), f"{sure:.6f}", right)))
    return "".join(lines).encode("utf-8", "surrogateescape")
