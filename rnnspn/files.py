"""The one place that replaces a file: readers see the old bytes or the new ones, never a mixture."""

import contextlib
import os
import re
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from rnnspn.errors import OutputError

try:
    import fcntl
except ImportError:  # Windows refuses by itself to move a file that another process has open
    fcntl = None  # type: ignore[assignment]

_UNFINISHED = ".part"
_TEMPORARY = re.compile(r"\.[0-9a-f]{16}" + re.escape(_UNFINISHED))
_ON_WINDOWS = os.name == "nt"
"""Where no folder can be opened, and nothing is flushed that is not open for writing."""


def is_no_file(path: Path) -> bool:
    """Tell whether a folder or a device is there; not where one may not look."""
    with contextlib.suppress(OSError):
        return path.exists() and not path.is_file()
    return False


def exists(path: Path) -> bool:
    """Tell whether something is there; not where one may not look, nor under a name that is too long."""
    return os.path.exists(path)  # noqa: PTH110 - Path.exists raises there


def is_folder(path: Path) -> bool:
    """Tell whether a folder is there; not where one may not look, nor under a name that is too long."""
    return os.path.isdir(path)  # noqa: PTH112 - Path.is_dir raises there


@contextlib.contextmanager
def replacing(path: Path, *, durable: bool = True) -> Iterator[Path]:
    """Give a temporary path beside `path` and move it there when the block ends well.

    Args:
        path: The file to make or replace, what it leads to if it is a link; its folder is made when it is missing.
        durable: Wait until the disk has it; False suits files by the thousand that are easily made again.

    Yields:
        An empty file in the same folder, to be written by the block. It is removed if the block fails.

    Raises:
        OutputError: The folder or the file cannot be written.
    """
    if is_no_file(path):
        raise OutputError(f"cannot write {path}: it is a folder or a device; choose another place")
    try:
        path = Path(os.path.realpath(path))
        temporary = path.with_name(f".{secrets.token_hex(8)}{_UNFINISHED}")  # never longer than names may be
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.touch(exist_ok=False)
    except OSError as error:
        raise _cannot_write(path, error) from error
    try:
        yield temporary
        move(temporary, path, durable=durable)
    except OSError as error:
        raise _cannot_write(path, error) from error
    finally:
        with contextlib.suppress(OSError):  # a disk that fails here too: what went wrong first is what counts
            temporary.unlink(missing_ok=True)


def move(temporary: Path, path: Path, *, durable: bool = True) -> None:
    """Put a finished file in the place of another in the same folder, whose permissions it takes over.

    Args:
        temporary: The finished file.
        path: The other one, if there is one.
        durable: As for `replacing`.
    """
    if durable:
        _flush(temporary)
    with contextlib.suppress(OSError):  # there is none, or its file system knows no permissions
        temporary.chmod(stat.S_IMODE(path.stat().st_mode))
    temporary.replace(path)
    if durable:
        _flush(path.parent)


@contextlib.contextmanager
def reserved(path: Path) -> Iterator[BinaryIO]:
    """Open a file for reading and writing at its start, made when it is missing, and keep other runs off it.

    The lock ends with the process, however that ends.

    Raises:
        OutputError: The file cannot be opened or closed, or another run has it.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        stream = path.open("r+b")
    except OSError as error:
        raise _cannot_write(path, error) from error
    try:
        with stream:
            if not _locked(stream, path):
                raise OutputError(f"another run is writing {path}; wait for it, or choose another place")
            yield stream
    except OSError as error:  # closing writes what is left, and may fail where writing has failed before
        raise _cannot_write(path, error) from error


def _locked(stream: BinaryIO, path: Path) -> bool:
    """Lock a file where the file system can; False where another run has locked it, or moved it a moment ago."""
    try:
        if fcntl:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system that has no locks
        pass
    try:
        return os.path.samestat(os.fstat(stream.fileno()), path.stat())
    except FileNotFoundError:
        return False


def remove_unfinished(folder: Path) -> None:
    """Remove what runs that were killed while they replaced a file of a folder have left there.

    Nobody may be writing there meanwhile.
    """
    for left in folder.glob(f".*{_UNFINISHED}"):
        if _TEMPORARY.fullmatch(left.name):  # others' may look alike
            with contextlib.suppress(OSError):
                left.unlink()


def write_bytes(path: Path, data: bytes, *, durable: bool = True) -> None:
    """Make or replace a file atomically; `durable` as for `replacing`.

    Raises:
        OutputError: The folder or the file cannot be written.
    """
    with replacing(path, durable=durable) as temporary:
        temporary.write_bytes(data)


def write_text(path: Path, text: str) -> None:
    """Make or replace a UTF-8 text file, atomically and durably.

    Raises:
        OutputError: The folder or the file cannot be written.
    """
    write_bytes(path, text.encode())


def _cannot_write(path: Path, error: OSError) -> OutputError:
    return OutputError(f"cannot write {path}: {error.strerror or error}; choose another place or free this one")


def _flush(path: Path) -> None:
    if _ON_WINDOWS and path.is_dir():
        return
    handle = os.open(path, os.O_RDWR if _ON_WINDOWS else os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
