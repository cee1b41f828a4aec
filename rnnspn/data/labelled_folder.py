"""A folder of one's own pictures with a `labels.csv`, to train and to test with.

Shapes: n pictures, T digits, H x W pixels.
"""

import csv
import hashlib
import math
import posixpath
import unicodedata
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from rnnspn.alphabet import BLANK, DIGITS, described
from rnnspn.config import MAX_STEPS, ModelConfig
from rnnspn.data.examples import Examples
from rnnspn.errors import DataError, ImageError
from rnnspn.inference import images as pictures

_Thing = TypeVar("_Thing", int, str)

LABELS = "labels.csv"
HEADER = ("path", "label")
PLACES = ("x1", "y1", "x2", "y2")
"""Columns that may follow: the centres of the first and the last character, in pixels of the picture as displayed."""
_HELD_OUT = 0.1


class Seen(NamedTuple):
    """How often something is in a file of labels, and in which line first."""

    times: int
    line: int


class Labels(NamedTuple):
    """What the labels of a folder are like.

    Attributes:
        pictures: How many there are.
        held_out: How many of them are to validate on.
        steps: Characters of the longest.
        alphabet: Every character there is, the ten digits where nothing else is found; and `BLANK` after them where
            not all labels are of one length.
        lengths: Each length, the shortest first; 0 is that of pictures with nothing to read.
        characters: Each character, in order.
        sha256: SHA-256 of what all lines say, in their order, in hexadecimal.
    """

    pictures: int
    held_out: int
    steps: int
    alphabet: str
    lengths: dict[int, Seen]
    characters: dict[str, Seen]
    sha256: str


def labels_of(folder: Path) -> Labels:
    """Return what the labels of a folder are like.

    Raises:
        DataError: They are missing, one is not legal, or all are empty.
    """
    rows = _rows(folder / LABELS)
    for row in rows:
        if len(row.label) > MAX_STEPS or BLANK in row.label or not row.label.isprintable():
            where = f"{folder / LABELS}, line {row.line}"
            raise DataError(
                f"{where}: expected up to {MAX_STEPS} characters that can be printed, none of them {BLANK}; "
                f"got {row.label!r}"
            )
    if not any(row.label for row in rows):
        raise DataError(f"{folder / LABELS}: expected labels, and all are empty, as of pictures with nothing to read")
    lengths = _seen((len(row.label), row.line) for row in rows)
    characters = _seen((character, row.line) for row in rows for character in row.label)
    alphabet = DIGITS if characters.keys() <= set(DIGITS) else "".join(characters)
    alphabet += BLANK if len(lengths) > 1 else ""
    chosen = _held_out(rows)
    held_out = sum(row.name in chosen for row in rows)
    said = hashlib.sha256(repr([tuple(row)[1:] for row in rows]).encode()).hexdigest()
    return Labels(len(rows), held_out, max(lengths), alphabet, lengths, characters, said)


def _seen(found: Iterable[tuple[_Thing, int]]) -> dict[_Thing, Seen]:
    """Count things that stand in lines."""
    seen: dict[_Thing, Seen] = {}
    for thing, line in found:
        before = seen.get(thing, Seen(0, line))
        seen[thing] = Seen(before.times + 1, before.line)
    return dict(sorted(seen.items()))


def labelled_folder(folder: Path, model: ModelConfig, split: str | None = None) -> Examples:
    """Read a folder's pictures, fitted as `predict` fits them, with the labels of its `labels.csv`.

    Args:
        folder: Holds pictures and `labels.csv`, whose header is path,label, and x1,y1,x2,y2 where it says where the
            first and the last character are; the others are taken to lie evenly between. These four may be left empty
            in some lines. Paths are relative to the folder.
        model: Gives the size of the pictures, and the length and the characters of a label; one whose alphabet has a
            `BLANK` takes shorter labels too, and none.
        split: `train` for about nine tenths of the pictures, `validation` for the rest, None for all. A hash of a
            picture's path decides, so neither the order of the lines nor what comes beside them matters.

    Raises:
        DataError: The labels are missing or do not fit the model, or a picture cannot be read.
    """
    rows = _of_split(_rows(folder / LABELS), split, folder)
    paths, fitted, labels = [], [], []
    for row in rows:
        line, name, label, _ = row
        where = f"{folder / LABELS}, line {line}"
        padded = label.ljust(model.steps, BLANK)
        if BLANK in label or len(padded) != model.steps or not set(padded) <= set(model.alphabet):
            raise DataError(f"{where}: expected {described(model.steps, model.alphabet)}, got {label!r}")
        try:
            fitted.append(pictures.load(str(folder / name), model.height, model.width))
            _expect_inside(row, fitted[-1].placement, where)
            labels.append([model.alphabet.index(one) for one in padded])
            paths.append(str(folder / name))
        except ImageError as error:
            raise DataError(f"{where}: {name}: {error}; mend the picture or take its line out") from None
    source = f"{folder} {split}" if split else str(folder)
    images, placements = np.stack([one.pixels for one in fitted]), [one.placement for one in fitted]
    places = np.array([row.place for row in rows])
    centres = None
    if np.isfinite(places).any():
        ends = pictures.to_input(places.reshape(-1, 2, 2), placements, model.height, model.width)
        lengths = np.array([len(row.label) for row in rows])
        centres = _between(ends, lengths, model.steps)
    return Examples(source, images, np.array(labels, np.int64), tuple(paths), centres)


def _expect_inside(row: "_Row", placement: pictures.Placement, where: str) -> None:
    """Refuse places of characters that cannot be: outside the picture, or all the same."""
    width, height = placement.source_width, placement.source_height
    x1, y1, x2, y2 = row.place
    if math.isnan(x1):
        return
    inside = all(-0.5 <= x <= width - 0.5 for x in (x1, x2)) and all(-0.5 <= y <= height - 0.5 for y in (y1, y2))
    if not inside:
        raise DataError(
            f"{where}: expected {', '.join(PLACES)} in pixels of the picture as displayed, {width} x {height}; "
            f"got {x1:g}, {y1:g}, {x2:g}, {y2:g}"
        )
    if len(row.label) > 1 and (x1, y1) == (x2, y2):
        raise DataError(f"{where}: expected the first and the last of {len(row.label)} characters in different places")


def _between(ends: NDArray[np.float64], lengths: NDArray[np.int64], steps: int) -> NDArray[np.float32]:
    """Return the centres, (n, T, 2), of so many characters evenly from end to end, (n, 2, 2); NaN after them."""
    share = np.arange(steps) / np.maximum(lengths - 1, 1)[:, None]
    share[np.arange(steps) >= lengths[:, None]] = math.nan
    centres = ends[:, :1] + share[..., None] * (ends[:, 1:] - ends[:, :1])
    return centres.astype(np.float32)


class _Row(NamedTuple):
    """A line of `labels.csv`: its number, and what it says; `place` is four numbers, NaN where nobody says."""

    line: int
    name: str
    label: str
    place: tuple[float, ...]


def _of_split(rows: list[_Row], split: str | None, folder: Path) -> list[_Row]:
    """Return the lines that belong to a split."""
    if split is None:
        return rows
    if len({row.name for row in rows}) < 2:
        raise DataError(f"{folder / LABELS}: expected two pictures or more, one of them to validate on")
    held_out = _held_out(rows)
    return [row for row in rows if (row.name in held_out) == (split == "validation")]


def _held_out(rows: list[_Row]) -> set[str]:
    """Return the names of the pictures for validation: about a tenth, the same when others come beside them."""
    shares = {row.name: int.from_bytes(hashlib.sha256(row.name.encode()).digest()) / 2**256 for row in rows}
    chosen = {name for name, share in shares.items() if share < _HELD_OUT}
    return chosen if 0 < len(chosen) < len(shares) else {min(shares, key=shares.__getitem__)}


def _rows(path: Path) -> list[_Row]:
    """Return the lines."""
    expected = f"the header {','.join(HEADER)}, which {','.join(PLACES)} may follow"
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:  # spreadsheets begin theirs with a mark
            lines = csv.reader(file)
            header = tuple(next(lines, []))
            rows = [(lines.line_num, row) for row in lines if any(cell.strip() for cell in row)]
    except FileNotFoundError:
        if path.parent.is_dir():
            raise DataError(f"there is no {path}; expected a CSV file with {expected}") from None
        raise DataError(
            f"there is no folder {path.parent}; if it has moved, put a link to it, or its pictures, back there"
        ) from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise DataError(f"cannot read {path}: {reason}; expected a CSV file with {expected}") from None
    if header not in (HEADER, HEADER + PLACES):
        raise DataError(f"{path}: expected {expected}; got {','.join(header)!r}")
    if not rows:
        raise DataError(f"{path}: expected a line for each picture, and got none")
    found = [_row(path, header, line, row) for line, row in rows]
    known: dict[str, _Row] = {}
    for row in found:
        before = known.setdefault(row.name, row)
        if before.label != row.label:
            raise DataError(
                f"{path}, line {row.line}: {row.name} is {row.label!r} here and {before.label!r} in line {before.line}"
            )
    return found


def _row(path: Path, header: tuple[str, ...], line: int, row: list[str]) -> _Row:
    if len(row) != len(header):
        raise DataError(f"{path}, line {line}: expected {', '.join(header)}; got {len(row)} columns")
    if not row[0].strip():
        raise DataError(f"{path}, line {line}: expected the path of a picture; got none")
    name, label, *places = posixpath.normpath(row[0]), unicodedata.normalize("NFC", row[1].strip()), *row[2:]
    if not any(text.strip() for text in places):
        return _Row(line, name, label, (math.nan,) * len(PLACES))
    try:
        place = tuple(map(float, places))
    except ValueError:
        place = (math.nan,)
    if not all(map(math.isfinite, place)):
        raise DataError(
            f"{path}, line {line}: expected {', '.join(PLACES)} in pixels, or nothing; got {','.join(places)!r}"
        )
    return _Row(line, name, label, place)
