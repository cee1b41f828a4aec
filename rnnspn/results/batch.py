"""Read any number of files and hand every record on: to a writer, and as annotated pictures."""

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from rnnspn.errors import ImageError
from rnnspn.inference.predictor import Predictor
from rnnspn.inference.records import Failure, Record
from rnnspn.pictures.polarity import Polarity
from rnnspn.results.annotate import Annotator
from rnnspn.results.writers import Writer


@dataclass
class Tally:
    """How far a run is.

    Attributes:
        done: Pictures whose records are written, failed ones included.
        failed: Pictures that could not be read.
    """

    done: int = 0
    failed: int = 0


def read(
    predictor: Predictor,
    paths: Sequence[str],
    writer: Writer,
    tally: Tally,
    *,
    polarity: Polarity = "auto",
    annotated: Path | None = None,
    isolated: bool = False,
    progress: Callable[[int], None] = lambda _: None,
) -> None:
    """Read files and write their records in order, batch by batch.

    Args:
        predictor: The model.
        paths: Picture files.
        writer: Takes the records.
        tally: Counts along, so that the caller knows how far it came even when it is interrupted; what it says is
            done already is not read again.
        polarity: Whether ink is dark or light.
        annotated: Folder for annotated pictures, or None for none.
        isolated: Decode in processes of their own, so that a decoder's crash costs one record.
        progress: Takes the number of pictures done since its last call.

    Raises:
        ClosedPipeError: Nobody reads the results any more.
        OutputError: The results or the annotated pictures cannot be written, or one would take a picture's place.
    """
    annotator = Annotator(annotated, paths, predictor.model.metadata, polarity) if annotated else None
    with contextlib.closing(predictor.stream(paths, polarity=polarity, first=tally.done, isolated=isolated)) as batches:
        for records in batches:
            if annotator:
                records = [_annotated(annotator, index, record) for index, record in enumerate(records, tally.done)]
            writer.write(records)
            tally.done += len(records)
            tally.failed += sum(isinstance(record.outcome, Failure) for record in records)
            progress(len(records))


def _annotated(annotator: Annotator, index: int, record: Record) -> Record:
    if isinstance(record.outcome, Failure):
        return record
    try:
        annotator.write(index, record.outcome)
    except ImageError as error:  # it was read a moment ago, and is gone or changed now
        return Record(record.path, Failure(error.code, str(error)))
    return record
