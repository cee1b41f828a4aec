"""Labelled pictures to test a model on: a held-out split, or a folder of one's own.

Shapes: n pictures, T digits, H x W pixels.
"""

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rnnspn.config import AUTHORS_2015, SYNTHESIS, DataConfig, ModelConfig
from rnnspn.data.authors_2015 import SIZES, authors_2015
from rnnspn.data.mnist import Mnist, load_mnist
from rnnspn.data.sequences import Sequences
from rnnspn.errors import ConfigError, DataError, ImageError
from rnnspn.inference import images as pictures

LABELS = "labels.csv"
HEADER = ("path", "label")


@dataclass(frozen=True)
class Examples:
    """Pictures with what is written on them.

    Attributes:
        source: Where they come from, for people: `authors-2015 test`, or a folder.
        images: uint8 (n, H, W), 0 background to 255 ink.
        labels: int64 (n, T), class indices.
    """

    source: str
    images: NDArray[np.uint8]
    labels: NDArray[np.int64]


def held_out(split: str, data: DataConfig, model: ModelConfig, mnist: Mnist | None = None) -> Examples:
    """Return the pictures of `validation` or `test`: the authors' published ones where they fit the model.

    Other shapes and layouts get as many synthesised ones, always the same.

    Raises:
        ConfigError: Synthesis does not know the model's shape or alphabet.
        DataError: MNIST is missing.
    """
    mnist = mnist or load_mnist()
    if fits_authors_2015(model) and data.layout == "authors":
        source, (images, labels) = AUTHORS_2015, authors_2015(mnist, split)
    else:
        supply = sequences(mnist, split, data, model)
        source, (images, labels) = SYNTHESIS, supply.pictures(np.arange(SIZES[split]))
    return Examples(f"{source} {split}", images, labels.astype(np.int64))


def fits_authors_2015(model: ModelConfig) -> bool:
    """Tell whether a model reads the shape of the authors' published data set."""
    return (model.steps, model.height, model.width, model.alphabet) == (3, 100, 100, "0123456789")


def sequences(mnist: Mnist, split: str, data: DataConfig, model: ModelConfig) -> Sequences:
    """Return the supply of synthesised pictures that fits a model.

    Raises:
        ConfigError: Synthesis does not know the model's shape or alphabet.
    """
    if model.alphabet != "0123456789":
        raise ConfigError(f"synthesis knows the alphabet 0123456789 only, got {model.alphabet!r}")
    return Sequences(mnist, split, data.seed, data.layout, model.steps, model.height, model.width)


def labelled_folder(folder: Path, model: ModelConfig) -> Examples:
    """Read a folder's pictures, fitted as `predict` fits them, with the labels of its `labels.csv`.

    Args:
        folder: Holds pictures and `labels.csv`, whose header is path,label; paths are relative to the folder.
        model: Gives the size of the pictures, and the length and the characters of a label.

    Raises:
        DataError: The labels are missing or do not fit the model, or a picture cannot be read.
    """
    rows = _rows(folder / LABELS)
    fitted = []
    for number, (name, label) in enumerate(rows, start=2):
        where = f"{folder / LABELS}, line {number}"
        if len(label) != model.steps or not set(label) <= set(model.alphabet):
            raise DataError(f"{where}: expected {model.steps} characters of {model.alphabet}, got {label!r}")
        try:
            fitted.append(pictures.load(str(folder / name), model.height, model.width).pixels)
        except ImageError as error:
            raise DataError(f"{where}: {name}: {error}; mend the picture or take its line out") from None
    labels: NDArray[Any] = np.array([[model.alphabet.index(one) for one in label] for _, label in rows], np.int64)
    return Examples(str(folder), np.stack(fitted), labels)


def _rows(path: Path) -> list[list[str]]:
    try:
        with path.open(newline="", encoding="utf-8") as file:
            header, *rows = list(csv.reader(file)) or [[]]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise DataError(f"cannot read {path}: {reason}; expected a CSV file with the header path,label") from None
    if tuple(header) != HEADER:
        raise DataError(f"{path}: expected the header path,label, got {','.join(header)!r}")
    rows = [row for row in rows if row]
    if not rows or any(len(row) != len(HEADER) for row in rows):
        raise DataError(f"{path}: expected one path and one label a line, and at least one line")
    return rows
