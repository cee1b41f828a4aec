"""Go on with what an unfinished run left: find its whole records, and make sure that they are of this run.

Every record of JSON Lines and CSV names its picture, so the file itself says how far the run came.
"""

import csv
import io
import json
from collections.abc import Iterator, Sequence
from typing import BinaryIO, NamedTuple

from rnnspn.errors import InputError
from rnnspn.inference.predictor import Predictor
from rnnspn.pictures.polarity import Polarity
from rnnspn.results.batch import Tally
from rnnspn.results.writers import CSV_HEADER, Format, neutral

FORMS: tuple[Format, ...] = ("jsonl", "csv")
"""Formats with a record for every picture."""
_MADE_BY = ("provider", "model_sha256", "polarity")


class _Found(NamedTuple):
    path: str
    made_by: tuple[str, ...] | None  # provider, SHA-256 of the model, polarity; None for what could not be read


def take_up(
    stream: BinaryIO, form: Format, paths: Sequence[str], predictor: Predictor, polarity: Polarity = "auto"
) -> Tally:
    """Find the whole records, cut off what comes after them, and leave the stream there.

    Args:
        stream: What an unfinished run left, at its start.
        form: Its format, one of `FORMS`.
        paths: All the pictures of this run.
        predictor: What reads them. Only whole batches of its own count: the last bits of a probability may depend on
            the batch.
        polarity: Whether ink is dark or light in this run.

    Raises:
        InputError: It was begun in another format, with other pictures, another model, provider or polarity.
    """
    made_by = (predictor.engine.provider, predictor.model.sha256, polarity)
    batch = predictor.batch_size(len(paths))
    whole, end, failed = Tally(), 0, 0
    for done, (found, place) in enumerate(_records(stream, form), 1):
        if done > len(paths) or found.path != (neutral(paths[done - 1]) if form == "csv" else paths[done - 1]):
            raise _foreign(stream, "with other pictures")
        if found.made_by is None:
            failed += 1
        elif found.made_by != made_by:
            raise _foreign(stream, "with another model, provider or polarity")
        if done % batch == 0 or done == len(paths):
            whole, end = Tally(done, failed), place
    if not whole.done and _is_foreign(stream, form):
        raise _foreign(stream, "in another format")
    stream.seek(end)
    stream.truncate()
    return whole


def _is_foreign(stream: BinaryIO, form: Format) -> bool:
    """Tell whether what a file begins with is a record, or a header, of another format."""
    stream.seek(0)
    first = stream.readline()
    if not first.endswith(b"\n"):
        return False
    header = ",".join(CSV_HEADER).encode()
    return first.rstrip() == header if form == "jsonl" else first.startswith(b'{"')


def _foreign(stream: BinaryIO, how: str) -> InputError:
    name = getattr(stream, "name", "the unfinished run")
    return InputError(f"{name} was begun {how}; repeat that command, or start anew without --resume")


def _records(stream: BinaryIO, form: Format) -> Iterator[tuple[_Found, int]]:
    """Yield each record and where it ends, up to the first that is torn."""
    parse = _from_csv if form == "csv" else _from_jsonl
    end = 0
    for number, line in enumerate(_lines(stream, quoted=form == "csv")):
        end += len(line)
        if form == "csv" and number == 0:
            continue  # the header
        try:
            found = parse(line)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError, csv.Error):  # what a power cut leaves
            return
        yield found, end


def _lines(stream: BinaryIO, *, quoted: bool) -> Iterator[bytes]:
    """Yield whole lines; a quoted field of CSV may go over several."""
    begun = b""
    for line in stream:
        begun += line
        if not begun.endswith(b"\n"):
            return
        if not quoted or begun.count(b'"') % 2 == 0:
            yield begun
            begun = b""


def _from_jsonl(line: bytes) -> _Found:
    record = json.loads(line)
    return _Found(record["path"], None if "error" in record else tuple(record[name] for name in _MADE_BY))


def _from_csv(line: bytes) -> _Found:
    text = line.decode("utf-8", "surrogateescape")
    (row,) = csv.reader(io.StringIO(text, newline=""))
    values = dict(zip(CSV_HEADER, row, strict=True))
    return _Found(values["path"], None if values["error_code"] else tuple(values[name] for name in _MADE_BY))
