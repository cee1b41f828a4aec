r"""Write records as a table, text, JSON Lines or CSV, batch by batch, to a binary stream.

Paths may hold any bytes. JSON Lines writes a byte that is no UTF-8 as `\udcXX` (Python's surrogate escape:
`os.fsencode` of the parsed string gives the bytes back), CSV as it is, text as it is with backslash, newline, carriage
return and tab escaped. A CSV field that a spreadsheet could take for a formula gets a leading apostrophe, and so does
one that begins with an apostrophe: strip one to get the field back.
"""

import csv
import io
import json
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Literal, Protocol

from rnnspn.errors import InputError
from rnnspn.inference.records import NOTHING, Failure, Reading, Record
from rnnspn.results import output

if TYPE_CHECKING:
    from rich.text import Text

Format = Literal["table", "text", "jsonl", "csv"]

CSV_HEADER = (
    "path",
    "digits",
    "confidence",
    "probabilities",
    "provider",
    "model_sha256",
    "polarity",
    "error_code",
    "error_message",
)
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20", "'")
"""The wide forms of the first four too, which some spreadsheets take for them."""
_SURE, _LIKELY = 0.9, 0.5


class Writer(Protocol):
    """Writes records, each batch completely."""

    def write(self, records: Iterable[Record]) -> None:
        """Write a batch and flush it.

        Raises:
            ClosedPipeError: Nobody reads the stream any more.
            OutputError: The stream cannot be written.
        """


def make_writer(
    form: Format, stream: BinaryIO, complain: Callable[[str], None], *, path_width: int = 40, begun: bool = False
) -> Writer:
    """Make the writer of a format.

    Args:
        form: `table`, `text`, `jsonl` or `csv`.
        stream: Where to write.
        complain: Takes one line for each failed record; only `text` uses it, having no place for failures.
        path_width: Characters of the longest path, for the table.
        begun: The stream holds records already, and needs no header.
    """
    if form == "table":
        return TableWriter(stream, path_width)
    if form == "text":
        return TextWriter(stream, complain)
    return JsonlWriter(stream) if form == "jsonl" else CsvWriter(stream, begun=begun)


def default_format(place: Path | None, terminal: bool) -> Format:
    """Choose a format: by the output file's ending, else a table on a terminal and text elsewhere.

    Raises:
        InputError: The ending is that of something else, such as a spreadsheet.
    """
    if place is None:
        return "table" if terminal else "text"
    by_suffix: dict[str, Format] = {".jsonl": "jsonl", ".csv": "csv", ".txt": "text", ".tsv": "text", "": "text"}
    if place.suffix.lower() not in by_suffix:
        raise InputError(f"expected --output to end in .jsonl, .csv or .txt, or a --format beside it, got {place}")
    return by_suffix[place.suffix.lower()]


def printable(path: str) -> str:
    """Make a path fit for one line on a terminal: control characters and bytes that are no UTF-8 are escaped."""
    text = os.fsencode(path).decode("utf-8", "backslashreplace")
    return "".join(character if character.isprintable() else repr(character)[1:-1] for character in text)


class TextWriter:
    """One line a reading: path, digits and confidence, separated by tabs; failures go to `complain`."""

    def __init__(self, stream: BinaryIO, complain: Callable[[str], None]) -> None:
        self._stream, self._complain = stream, complain

    def write(self, records: Iterable[Record]) -> None:
        """Write a batch and flush it; see `Writer`."""
        lines = []
        for record in records:
            if isinstance(record.outcome, Failure):
                self._complain(f"{printable(record.path)}: {record.outcome.message}")
                continue
            name = record.path.replace("\\", "\\\\").replace("\n", "\\n").replace("\r", "\\r").replace("\t", "\\t")
            lines.append(f"{name}\t{record.outcome.digits}\t{record.outcome.confidence:.4f}\n")
        output.put(self._stream, "".join(lines).encode("utf-8", "surrogateescape"))


class JsonlWriter:
    """One JSON object a line: a reading with its steps, or an error."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream

    def write(self, records: Iterable[Record]) -> None:
        """Write a batch and flush it; see `Writer`."""
        text = "".join(json.dumps(as_dict(record), ensure_ascii=False) + "\n" for record in records)
        # Only lone surrogates (odd bytes of a path) cannot be encoded; \udcXX is how JSON spells them.
        output.put(self._stream, text.encode("utf-8", "backslashreplace"))


class CsvWriter:
    """A header, then one row a record."""

    def __init__(self, stream: BinaryIO, *, begun: bool = False) -> None:
        self._stream = stream
        self._header: tuple[tuple[str, ...], ...] = () if begun else (CSV_HEADER,)

    def write(self, records: Iterable[Record]) -> None:
        """Write a batch and flush it; see `Writer`."""
        text = "".join(map(csv_line, (*self._header, *map(_row, records))))
        self._header = ()
        output.put(self._stream, text.encode("utf-8", "surrogateescape"))


class TableWriter:
    """A table for people: the columns keep their widths from batch to batch, so that it can grow on a terminal."""

    def __init__(self, stream: BinaryIO, path_width: int) -> None:
        from rich.console import Console

        self._stream = stream
        self._console = Console(file=io.StringIO(), force_terminal=stream.isatty() or None)
        self._path_width = path_width
        self._header = True

    def write(self, records: Iterable[Record]) -> None:
        """Write a batch and flush it; see `Writer`."""
        from rich.table import Table

        table = Table(box=None, show_header=self._header, header_style="bold", expand=True)
        name_width = max(len("picture"), min(self._path_width, self._console.width * 2 // 5))
        table.add_column("picture", width=name_width, no_wrap=True)
        table.add_column("reading", min_width=len("reading"), no_wrap=True)
        table.add_column("confidence", width=len("confidence"), no_wrap=True, justify="right")
        table.add_column("each digit", ratio=1, no_wrap=True)
        for record in records:
            table.add_row(*_cells(record))
        self._header = False
        with self._console.capture() as captured:
            self._console.print(table)
        output.put(self._stream, captured.get().encode("utf-8", "replace"))


def _cells(record: Record) -> "tuple[Text, ...]":
    from rich.text import Text

    name, outcome = Text(printable(record.path)), record.outcome
    if isinstance(outcome, Failure):
        return name, Text("-", "red"), Text(""), Text(outcome.message, "red")
    colour = "green" if outcome.confidence >= _SURE else "yellow" if outcome.confidence >= _LIKELY else "red"
    each = "  ".join(f"{step.digit} {step.probability:4.0%}" for step in outcome.steps)
    return (
        name,
        Text(outcome.digits or NOTHING, f"bold {colour}"),
        Text(f"{outcome.confidence:.1%}", colour),
        Text(each, "dim"),
    )


def as_dict(record: Record) -> dict[str, Any]:
    """Return a record as plain data, probabilities to 6 places and pixels to 2."""
    outcome = record.outcome
    if isinstance(outcome, Failure):
        return {"path": record.path, "error": {"code": outcome.code, "message": outcome.message}}
    steps = [
        {
            "digit": step.digit,
            "probability": round(step.probability, 6),
            "quad": step.quad and [[round(x, 2) + 0.0, round(y, 2) + 0.0] for x, y in step.quad],  # -0.0 becomes 0.0
        }
        for step in outcome.steps
    ]
    return {
        "path": record.path,
        "digits": outcome.digits,
        "confidence": round(outcome.confidence, 6),
        "steps": steps,
        "provider": outcome.provider,
        "model_sha256": outcome.model_sha256,
        "polarity": outcome.polarity,
    }


def csv_line(row: Iterable[str]) -> str:
    """Return a row of CSV, ended by a newline."""
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\r\n").writerow(row)  # quotes what holds either of the two; \n alone would not
    return f"{text.getvalue()[:-2]}\n"


def _row(record: Record) -> list[str]:
    outcome = record.outcome
    if isinstance(outcome, Failure):
        return [neutral(record.path), "", "", "", "", "", "", outcome.code, neutral(outcome.message)]
    return [
        neutral(record.path),
        neutral(outcome.digits),
        *_figures(outcome),
        outcome.provider,
        outcome.model_sha256,
        outcome.polarity,
        "",
        "",
    ]


def _figures(reading: Reading) -> tuple[str, str]:
    return f"{reading.confidence:.6f}", " ".join(f"{step.probability:.6f}" for step in reading.steps)


def neutral(field: str) -> str:
    """Return a field of CSV as it is written: one that a spreadsheet could take for a formula gets an apostrophe."""
    return f"'{field}" if field.startswith(_FORMULA_STARTS) else field
