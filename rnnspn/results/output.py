"""Where results go: the standard output, or a file that only a finished run replaces."""

import contextlib
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from rnnspn import files
from rnnspn.errors import OutputError, RnnspnError


class ClosedPipeError(RnnspnError):
    """The reader of the results went away: the run ends quietly."""

    exit_code = 141


@contextlib.contextmanager
def destination(output: Path | None, *, resume: bool = False) -> Iterator[BinaryIO]:
    """Open the place for the results.

    The results of a file are gathered in `FILE.partial` beside it, which takes its place when the run is finished. A
    run that is interrupted, killed or failed leaves there what it has.

    Args:
        output: A file, or None for the standard output.
        resume: Keep what an earlier run left, and stand at its start; else begin with an empty file.

    Raises:
        OutputError: The file cannot be written, or another run is writing it.
    """
    if output is None:
        yield sys.stdout.buffer
        return
    if files.is_no_file(output):  # /dev/null, /dev/stdout, a pipe: to be written to, not replaced
        try:
            with output.open("wb") as stream:
                yield stream
        except BrokenPipeError:
            raise ClosedPipeError("the reader of the results went away") from None
        except OSError as error:
            raise _cannot_write(output, error) from error
        return
    target = _led_to(output)
    with files.reserved(partial(output)) as stream:
        try:
            if not resume:
                stream.truncate()
            yield stream
            stream.flush()
            files.move(partial(output), target)
        except OSError as error:
            raise _cannot_write(target, error) from error
        finally:
            _remove_if_empty(stream, partial(output))


def expect_no_input(targets: Iterable[Path], inputs: Sequence[str | Path]) -> None:
    """Make sure that no result takes the place of something that is to be read.

    Args:
        targets: Files to be written.
        inputs: Files to be read.

    Raises:
        OutputError: One is the same file as an input.
    """
    there = {identity: target for target in targets if (identity := _identity(target)) is not None}
    for path in inputs if there else ():
        identity = _identity(path)
        if identity in there:
            raise OutputError(f"cannot write {there[identity]}: it is one of the files to read; choose another place")


def _identity(path: str | Path) -> tuple[int, int] | None:
    """Return what tells a file from all others; None where there is none."""
    try:
        status = os.stat(path)  # noqa: PTH116 - of paths by the hundred thousand
    except OSError:
        return None
    return status.st_dev, status.st_ino


def partial(output: Path) -> Path:
    """Return where an unfinished run leaves the results of this output file."""
    target = _led_to(output)
    return target.with_name(f"{target.name}.partial")


def _led_to(output: Path) -> Path:
    """Return the file itself where it is a link."""
    try:
        return Path(os.path.realpath(output))
    except OSError as error:  # in a working folder that somebody has removed
        raise _cannot_write(output, error) from error


def _remove_if_empty(stream: BinaryIO, path: Path) -> None:
    with contextlib.suppress(OSError):  # moved to its place already, or a disk that fails
        stream.flush()
        mine = os.fstat(stream.fileno())
        if not mine.st_size and os.path.samestat(mine, path.stat()):
            path.unlink()


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
    name = "the standard output" if place in ("<stdout>", 1) else place
    return OutputError(f"cannot write {name}: {error.strerror or error}; choose another place or free this one")
