"""Synthesised pictures as files: a folder of PNGs with their labels beside them."""

import csv
import io
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from rnnspn.data.labels import HEADER, LABELS
from rnnspn.data.sequences import Sequences
from rnnspn.errors import OutputError
from rnnspn.files import remove_unfinished, write_bytes, write_text

_CHUNK = 256
_LINE = re.compile(r"\d{5,}\.png,\d+")


def write_samples(
    folder: Path, sequences: Sequences, count: int, progress: Callable[[int], None] = lambda done: None
) -> None:
    """Write the first pictures of a supply as `00000.png` and so on, and `labels.csv` with the header path,label.

    Files of the same names are replaced; `labels.csv` comes last, so a folder of a run that was killed has none.

    Args:
        folder: Where to write; made when it is missing.
        sequences: What the pictures come from.
        count: Number of pictures.
        progress: Called with the number of pictures written since its last call.

    Raises:
        OutputError: The folder cannot be written, or holds other files, which the labels would not name, or labels of
            other pictures.
    """
    names = [f"{index:0{max(5, len(str(count - 1)))}d}.png" for index in range(count)]
    _prepare(folder, names)
    rows = []
    for first in range(0, count, _CHUNK):
        chunk = range(first, min(first + _CHUNK, count))
        for index, image, label in zip(chunk, *sequences.pictures(np.array(chunk)), strict=True):
            write_bytes(folder / names[index], _png(image), durable=False)
            rows.append((names[index], "".join(map(str, label))))
            progress(1)
    table = io.StringIO()
    csv.writer(table, lineterminator="\n").writerows([HEADER, *rows])
    write_text(folder / LABELS, table.getvalue())


def _prepare(folder: Path, names: list[str]) -> None:
    remove_unfinished(folder)
    others = sorted({path.name for path in folder.glob("*")} - {*names, LABELS})
    if others:
        raise OutputError(
            f"{folder} holds {len(others)} other files, such as {others[0]}; name a new or an empty folder"
        )
    labels = folder / LABELS
    try:
        if labels.exists() and not _is_ours(labels):
            raise OutputError(f"{labels} is of other pictures; name a new or an empty folder")
        labels.unlink(missing_ok=True)  # it would be wrong for the pictures that come now
    except OSError as error:
        raise OutputError(f"cannot write to {folder}: {error.strerror}; choose another folder") from error


def _is_ours(labels: Path) -> bool:
    """Tell whether labels are what `write_samples` writes."""
    header, *lines = labels.read_text(errors="replace").splitlines() or [""]
    return header == ",".join(HEADER) and all(map(_LINE.fullmatch, lines))


def _png(image: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    return file.getvalue()
