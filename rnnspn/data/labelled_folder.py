"""A folder of one's own pictures with a `labels.csv`, to train and to test with.

Shapes: n pictures, T digits, H x W pixels.
"""

import io
import math
import os.path
import unicodedata
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rnnspn.alphabet import BLANK, described
from rnnspn.config import ModelConfig
from rnnspn.data.examples import Examples
from rnnspn.data.labels import PLACES, Row, expect_none, key_of, rows_of, shown
from rnnspn.errors import ImageError, InputError
from rnnspn.pictures import inputs
from rnnspn.pictures.images import Letterbox, load, to_input


def labelled_folder(folder: Path, model: ModelConfig, split: str | None = None) -> Examples:
    """Read a folder's pictures, fitted as `predict` fits them, with the labels of its `labels.csv`.

    Args:
        folder: Holds pictures and `labels.csv`, whose header is path,label, and x1,y1,x2,y2 where it says where the
            first and the last character are; the others are taken to lie evenly between. These four may be left empty
            in some lines. Paths are relative to the folder or absolute, with slashes of any system.
        model: Gives the size of the pictures, and the length and the characters of a label; one whose alphabet has a
            `BLANK` takes shorter labels too, and none.
        split: `train` for about nine tenths of the pictures, `validation` for the rest, None for all. A hash of a
            picture's path decides, so neither the order of the lines nor what comes beside them matters.

    Raises:
        DataError: The labels are missing or do not fit the model, or a picture cannot be read.
    """
    rows = rows_of(folder, split)
    labels = _classes(rows, folder, model)
    paths = [_path_of(folder, row.name) for row in rows]
    fitted, faults = [], []
    for row, path in zip(rows, paths, strict=True):
        try:
            fitted.append(load(path, model.height, model.width))
            faults += [(row.line, fault) for fault in _misplaced(row, fitted[-1].letterbox)]
        except ImageError as error:
            faults.append((row.line, f"{row.name}: {error}; mend the picture or take its line out"))
    expect_none(faults, folder)
    source = f"{folder} {split}" if split else str(folder)
    images, letterboxes = np.stack([one.pixels for one in fitted]), [one.letterbox for one in fitted]
    places = np.array([row.place for row in rows])
    centres = None
    if np.isfinite(places).any():
        ends = to_input(places.reshape(-1, 2, 2), letterboxes, model.height, model.width)
        lengths = np.array([len(row.label) for row in rows])
        centres = _between(ends, lengths, model.steps)
    return Examples(source, images, labels, tuple(paths), centres)


def unlabelled(folder: Path) -> list[str]:
    """Return the pictures in a folder that its `labels.csv` does not name.

    Raises:
        DataError: The labels are missing or contradict each other.
    """
    known = {row.key for row in rows_of(folder, None)}
    try:
        found = inputs.collect([str(folder)], io.BytesIO())
    except InputError:  # no picture at all: they lie elsewhere
        return []
    return [path for path in found if key_of(os.path.relpath(path, folder)) not in known]


def _classes(rows: list[Row], folder: Path, model: ModelConfig) -> NDArray[np.int64]:
    """Return the labels as class indices, int64 (n, T)."""
    known, classes, faults = set(model.alphabet), [], []
    for row in rows:
        padded = row.label.ljust(model.steps, BLANK)
        if BLANK in row.label or len(padded) != model.steps or not set(padded) <= known:
            read = described(model.steps, model.alphabet)
            faults.append((row.line, f"expected {read}, which the model reads; got {shown(row.label)}"))
        else:
            classes.append([model.alphabet.index(one) for one in padded])
    expect_none(faults, folder)
    return np.array(classes, np.int64)


def _path_of(folder: Path, name: str) -> str:
    """Return where a picture is, whose path may have been written on another system."""
    slashed = name.strip().replace("\\", "/")
    spellings = (name, slashed, *(unicodedata.normalize(form, slashed) for form in ("NFC", "NFD")))
    found = (str(folder / spelling) for spelling in spellings)
    return next(filter(os.path.exists, found), str(folder / name))  # which never raises, as Path.exists may


def _misplaced(row: Row, letterbox: Letterbox) -> Iterator[str]:
    """Yield what is wrong with places of characters: outside the picture, or all the same."""
    width, height = letterbox.source_width, letterbox.source_height
    x1, y1, x2, y2 = row.place
    if math.isnan(x1):
        return
    inside = all(-0.5 <= x <= width - 0.5 for x in (x1, x2)) and all(-0.5 <= y <= height - 0.5 for y in (y1, y2))
    if not inside:
        yield (
            f"expected {', '.join(PLACES)} in pixels of the picture as displayed, {width} x {height}; "
            f"got {x1:g}, {y1:g}, {x2:g}, {y2:g}"
        )
    if len(row.label) > 1 and (x1, y1) == (x2, y2):
        yield f"expected the first and the last of {len(row.label)} characters in different places"


def _between(ends: NDArray[np.float64], lengths: NDArray[np.int64], steps: int) -> NDArray[np.float32]:
    """Return the centres, (n, T, 2), of so many characters evenly from end to end, (n, 2, 2); NaN after them."""
    share = np.arange(steps) / np.maximum(lengths - 1, 1)[:, None]
    share[np.arange(steps) >= lengths[:, None]] = math.nan
    centres = ends[:, :1] + share[..., None] * (ends[:, 1:] - ends[:, :1])
    return centres.astype(np.float32)
