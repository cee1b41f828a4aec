"""Where results go: the standard output, or a file that only a finished run replaces."""

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from rnnspn import files
from rnnspn.errors import OutputError, RnnspnError


class ClosedPipeError(RnnspnError):
    """The reader of the results went away: the run ends quietly."""

    exit_code = 141


@contextlib.contextmanager
def destination(output: Path | None) -> Iterator[BinaryIO]:
    """Open the place for the results.

    A file is replaced only by a finished run. An interrupted one leaves what it has in `FILE.partial` beside it.

    Args:
        output: A file, or None for the standard output.

    Raises:
        OutputError: The file cannot be written.
    """
    if output is None:
        yield sys.stdout.buffer
        return
    target = Path(os.path.realpath(output))
    if target.exists() and not target.is_file():  # /dev/null, a pipe: to be written to, not replaced
        try:
            with target.open("wb") as stream:
                yield stream
        except OSError as error:
            raise _cannot_write(target, error) from error
        return
    with files.replacing(target) as temporary, temporary.open("wb") as stream:
        try:
            yield stream
        except KeyboardInterrupt:
            stream.flush()
            temporary.replace(partial(output))
            raise


def partial(output: Path) -> Path:
    """Return where an interrupted run leaves the results of this output file."""
    target = Path(os.path.realpath(output))
    return target.with_name(f"{target.name}.partial")


def put(stream: BinaryIO, data: bytes) -> None:
    """Write and flush.

    Raises:
        ClosedPipeError: Nobody reads the stream any more.
        OutputError: The stream cannot be written.
    """
    try:
        stream.write(data)
        stream.flush()
    except BrokenPipeError:
        raise ClosedPipeError("the reader of the results went away") from None
    except OSError as error:
        raise _cannot_write(getattr(stream, "name", "the results"), error) from error


def _cannot_write(place: object, error: OSError) -> OutputError:
    name = "the standard output" if place == "<stdout>" else place
    return OutputError(f"cannot write {name}: {error.strerror or error}; choose another place or free this one")
