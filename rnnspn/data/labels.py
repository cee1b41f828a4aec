"""What a folder's `labels.csv` says: which pictures there are, what is written on each, and where.

A spreadsheet's own way to write it is understood: commas, semicolons or tabs between the columns, UTF-8 or UTF-16,
columns of other things beside these, decimal commas.
"""

import codecs
import csv
import hashlib
import io
import math
import posixpath
import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

from rnnspn.alphabet import BLANK, DIGITS
from rnnspn.config import MAX_STEPS
from rnnspn.errors import DataError

_Thing = TypeVar("_Thing", int, str)

LABELS = "labels.csv"
HEADER = ("path", "label")
PLACES = ("x1", "y1", "x2", "y2")
"""Columns that may follow: the centres of the first and the last character, in pixels of the picture as displayed."""
_EXPECTED = f"a CSV file with the header {','.join(HEADER)}, which {','.join(PLACES)} may follow"
_SEPARATORS = ",;\t"
_SAID = re.compile(r"sep=([^\r\n\" ])(\r\n?|\n)", re.IGNORECASE)
"""A first line that names what stands between the columns."""
_SHOWN = 40
"""Characters of a label that a message shows."""
_HELD_OUT = 0.1
_NAMED = 5
"""Other lines with faults that are named beside the first."""


class Row(NamedTuple):
    """A line of `labels.csv`.

    Attributes:
        line: Its number.
        name: The picture's path as it was written, in the folder or absolute.
        key: What tells the picture from others: its path in the folder, however it was spelled.
        label: What is written on it.
        place: The centres of the first and the last character, x1, y1, x2 and y2; NaN where it does not say.
    """

    line: int
    name: str
    key: str
    label: str
    place: tuple[float, ...]


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
        others: Columns that are not read.
        again: Lines that name a picture once more, and say the same of it; it counts once.
        sha256: SHA-256 of what all lines say, in their order, in hexadecimal.
    """

    pictures: int
    held_out: int
    steps: int
    alphabet: str
    lengths: dict[int, Seen]
    characters: dict[str, Seen]
    others: tuple[str, ...]
    again: Seen
    sha256: str


def key_of(name: str) -> str:
    """Return what tells a picture's path in a folder from others, however it is spelled."""
    return posixpath.normpath(unicodedata.normalize("NFC", name.strip().replace("\\", "/")))


def labels_of(folder: Path) -> Labels:
    """Return what the labels of a folder are like.

    Raises:
        DataError: They are missing, one is not legal, or all are empty.
    """
    rows, others, again = _read(folder)
    faults = [
        (
            row.line,
            f"expected up to {MAX_STEPS} characters that can be printed, none of them {BLANK}; got {shown(row.label)}",
        )
        for row in rows
        if len(row.label) > MAX_STEPS or BLANK in row.label or not row.label.isprintable()
    ]
    expect_none(faults, folder)
    if not any(row.label for row in rows):
        raise DataError(f"{folder / LABELS}: expected labels, and all are empty, as of pictures with nothing to read")
    lengths = _seen((len(row.label), row.line) for row in rows)
    characters = _seen((character, row.line) for row in rows for character in row.label)
    alphabet = DIGITS if characters.keys() <= set(DIGITS) else "".join(characters)
    alphabet += BLANK if len(lengths) > 1 else ""
    chosen = _held_out(rows)
    held_out = sum(row.key in chosen for row in rows)
    return Labels(len(rows), held_out, max(lengths), alphabet, lengths, characters, others, again, _digest(rows))


def digest_of(folder: Path) -> str:
    """Return `Labels.sha256` of a folder, whose labels may be of any kind.

    Raises:
        DataError: The labels are missing or contradict each other.
    """
    return _digest(_read(folder)[0])


def rows_of(folder: Path, split: str | None) -> list[Row]:
    """Return the lines that belong to a split, one for each picture.

    Args:
        folder: Holds `labels.csv`.
        split: `train` for about nine tenths of the pictures, `validation` for the rest, None for all. A hash of a
            picture's path decides, so neither the order of the lines nor what comes beside them matters.

    Raises:
        DataError: The labels are missing or contradict each other, or there are too few to split.
    """
    rows, *_ = _read(folder)
    if split is None:
        return rows
    if len(rows) < 2:
        raise DataError(f"{folder / LABELS}: expected two pictures or more, one of them to validate on")
    chosen = _held_out(rows)
    return [row for row in rows if (row.key in chosen) == (split == "validation")]


def shown(label: str) -> str:
    """Return a label as a message shows it."""
    return repr(label) if len(label) <= _SHOWN else f"{label[:_SHOWN]!r} and more"


def expect_none(faults: Sequence[tuple[int, str]], folder: Path) -> None:
    """Make sure that no line has a fault: (its number, what is wrong).

    Raises:
        DataError: One has; it tells of the first, and of the lines of others.
    """
    if not faults:
        return
    (line, what), *others = faults
    more = ""
    if others:
        named = ", ".join(str(number) for number, _ in others[:_NAMED])
        more = f"; so it is in line {named}" + (f" and {len(others) - _NAMED} more" if len(others) > _NAMED else "")
    raise DataError(f"{folder / LABELS}, line {line}: {what}{more}")


def _digest(rows: list[Row]) -> str:
    return hashlib.sha256(repr([(row.key, row.label, row.place) for row in rows]).encode()).hexdigest()


def _seen(found: Iterable[tuple[_Thing, int]]) -> dict[_Thing, Seen]:
    """Count things that stand in lines."""
    seen: dict[_Thing, Seen] = {}
    for thing, line in found:
        before = seen.get(thing, Seen(0, line))
        seen[thing] = Seen(before.times + 1, before.line)
    return dict(sorted(seen.items()))


def _held_out(rows: list[Row]) -> set[str]:
    """Return the keys of the pictures for validation: about a tenth, the same when others come beside them."""
    shares = {row.key: int.from_bytes(hashlib.sha256(row.key.encode()).digest()) / 2**256 for row in rows}
    chosen = {key for key, share in shares.items() if share < _HELD_OUT}
    return chosen if 0 < len(chosen) < len(shares) else {min(shares, key=shares.__getitem__)}


def _read(folder: Path) -> tuple[list[Row], tuple[str, ...], Seen]:
    """Return a line for each picture, the names of columns that are not read, and the lines that only say it again."""
    path = folder / LABELS
    try:
        lines = _lines(_text(folder))
        _, header = next(lines, (0, []))
        names = [name.strip().lower() for name in header]
        while names and not names[-1]:  # what spreadsheets leave behind
            names.pop()
        columns = HEADER + PLACES if set(PLACES) & set(names) else HEADER
        if not set(columns) <= set(names) or len(set(named := [*filter(None, names)])) < len(named):
            raise DataError(f"{path}: expected {_EXPECTED}; got {','.join(header)!r}")
        where = [names.index(name) for name in columns]
        tops = {key_of(str(top)) for top in (folder.absolute(), folder.resolve())}
        rows = [
            _row(folder, tops, line, [cells[index] for index in where]) for line, cells in _whole(lines, names, folder)
        ]
    except csv.Error as error:
        raise DataError(f"cannot read {path}: {error}; expected {_EXPECTED}") from None
    if not rows:
        raise DataError(f"{path}: expected a line for each picture, and got none")
    known: dict[str, Row] = {}
    for row in rows:
        before = known.setdefault(row.key, row)
        if before.label != row.label:
            raise DataError(
                f"{path}, line {row.line}: {row.name} is {row.label!r} here and {before.label!r} in line {before.line}"
            )
        if str(before.place) != str(row.place):  # NaN, where a line does not say, is no number that equals itself
            raise DataError(f"{path}, line {row.line}: {row.name} has other places here than in line {before.line}")
    again = [row.line for row in rows if known[row.key] is not row]
    others = tuple(name for name in names if name and name not in columns)
    return [*known.values()], others, Seen(len(again), again[0] if again else 0)


def _text(folder: Path) -> str:
    path = folder / LABELS
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        if folder.is_dir():
            raise DataError(f"there is no {path}; expected {_EXPECTED}") from None
        raise DataError(
            f"there is no folder {folder}; if it has moved, name it with --data, or put a link to it there"
        ) from None
    except NotADirectoryError:
        raise DataError(f"expected a folder with a {LABELS}, got the file {folder}") from None
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}; expected {_EXPECTED}") from None
    is_wide = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        return content.decode("utf-16" if is_wide else "utf-8-sig")  # spreadsheets begin theirs with a mark
    except UnicodeDecodeError:
        raise DataError(f"{path} is not in UTF-8; save it as 'CSV UTF-8', so that every letter is known") from None


def _lines(text: str) -> Iterator[tuple[int, list[str]]]:
    """Yield the number and the cells of each line that is not empty."""
    stream, number = io.StringIO(text, newline=""), 1
    if said := _SAID.match(text):  # which spreadsheets understand
        stream.seek(said.end())
        number, separator = 2, said[1]
    else:
        separator = _separator(text.lstrip().splitlines()[0] if text.strip() else "")
    reader = csv.reader(stream, delimiter=separator, skipinitialspace=True)
    first = number
    for cells in reader:
        if any(cell.strip() for cell in cells):
            yield number, cells  # where it begins: a quotation mark that is never closed goes on to the end
        number = first + reader.line_num


def _separator(header: str) -> str:
    """Return what stands between the columns of a header: what makes it one, else what there is most of."""

    def rank(separator: str) -> tuple[bool, int]:
        names = {name.strip().lower() for cells in csv.reader([header], delimiter=separator) for name in cells}
        return set(HEADER) <= names, header.count(separator)

    return max(_SEPARATORS, key=rank)


def _whole(lines: Iterator[tuple[int, list[str]]], names: list[str], folder: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield the lines with as many cells as there are names; empty ones may follow."""
    for line, cells in lines:
        if len(cells) < len(names) or any(cell.strip() for cell in cells[len(names) :]):
            raise DataError(f"{folder / LABELS}, line {line}: expected {', '.join(names)}; got {len(cells)} columns")
        yield line, cells


def _row(folder: Path, tops: set[str], line: int, cells: list[str]) -> Row:
    name, label, *places = cells
    where = f"{folder / LABELS}, line {line}"
    if not name.strip():
        raise DataError(f"{where}: expected the path of a picture; got none")
    key = key_of(name)
    for top in tops:  # a picture that is named by its absolute path is the same picture
        key = key.removeprefix(f"{top}/")
    label = unicodedata.normalize("NFC", label.strip())
    if not any(text.strip() for text in places):
        return Row(line, name, key, label, (math.nan,) * len(PLACES))
    try:
        place = tuple(float(text.replace(",", ".")) for text in places)
    except ValueError:
        place = (math.nan,)
    if not all(map(math.isfinite, place)):
        raise DataError(f"{where}: expected {', '.join(PLACES)} in pixels, or nothing; got {'; '.join(places)!r}")
    return Row(line, name, key, label, place)
