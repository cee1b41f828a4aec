"""Let the n-th call that writes below a folder fail or be the last: a full disk, a broken one, a kill, a power cut."""

# ruff: noqa: PTH100, PTH113, PTH115, PTH116, PTH123
# It stands in for the very functions that pathlib calls.

import builtins
import errno
import io
import json
import os
import signal
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

How = Literal["full", "error", "gone", "kill", "power"]
"""A disk that is full from then on, one error, a disk that is gone from then on, a kill, a kill that also takes half of
whatever was written and not synchronised."""
HOWS: tuple[How, ...] = ("full", "error", "gone", "kill", "power")

_PATIENCE_S = 60


@dataclass(frozen=True)
class Strike:
    """What came of one run with a fault in it.

    Attributes:
        call: The call that was struck, and on which file.
        signal: What killed the process, 0 if nothing did.
        result: What the action returned, None if it raised or died.
        error: Type and message of what it raised, empty if nothing.
        said: What it wrote to stderr.
    """

    call: str
    signal: int
    result: object
    error: str
    said: str


def strike(action: Callable[[], object], folder: Path, at: int, how: How) -> Strike:
    """Run an action in a process of its own, with a fault at its n-th writing call below a folder.

    Args:
        action: What to run.
        folder: Calls on other files do not count.
        at: Which call, from 1; `call` of the result is empty when the action makes fewer.
        how: What happens there.
    """
    ours, theirs = os.pipe()
    stderr, said = os.pipe()
    sys.stdout.flush()
    child = os.fork()
    if not child:
        os.dup2(said, 2)
        _in_child(action, folder, at, how, theirs)
    os.close(theirs)
    os.close(said)
    with open(ours) as reports, open(stderr, errors="replace") as errors:
        lines = [json.loads(line) for line in reports]
        text = errors.read()
    _, status = os.waitpid(child, 0)
    report: dict[str, Any] = {"call": "", "result": None, "error": ""}
    for line in lines:
        report |= line
    return Strike(signal=os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0, said=text, **report)


def _in_child(action: Callable[[], object], folder: Path, at: int, how: How, report: int) -> None:
    def tell(**facts: object) -> None:
        os.write(report, json.dumps(facts).encode() + b"\n")

    sys.stderr = open(2, "w", buffering=1, closefd=False)  # noqa: SIM115 - the process ends with it
    signal.alarm(_PATIENCE_S)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    try:
        Disk(os.path.realpath(folder), at, how, tell).install()
        tell(result=action())
    except BaseException as error:
        tell(error=f"{type(error).__name__}: {error}")
        if os.environ.get("TORTURE_TRACE"):
            traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(0)


class Disk:
    """Stands between Python and the calls that change files below a folder."""

    def __init__(self, folder: str, at: int, how: How, tell: Callable[..., None]) -> None:
        self._folder, self._at, self._how, self._tell = folder, at, how, tell
        self._count = 0
        self._unsafe: set[str] = set()
        self._real = {name: getattr(os, name) for name in ("open", "fsync", "replace", "rename", "unlink", "mkdir")}
        self._open = io.open

    def install(self) -> None:
        """Take the place of the real functions, for the rest of the process."""
        os.open, os.fsync = self.open, self.fsync  # type: ignore[assignment]
        os.replace = os.rename = self.replace  # type: ignore[assignment]
        os.unlink = os.remove = self._struck("unlink")  # type: ignore[assignment]
        os.mkdir = self._struck("mkdir")  # type: ignore[assignment]
        io.open = builtins.open = self.open_file  # type: ignore[assignment]

    def called(self, call: str, path: object, before: Callable[[], object] = lambda: None) -> None:
        """Count a call; at the n-th, strike.

        Args:
            call: Its name.
            path: Its file.
            before: What is still done of a call that is struck.
        """
        place = self._place(path)
        if place is None:
            return
        self._count += 1
        again = self._count > self._at and (
            self._how == "gone" or (self._how == "full" and call in ("create", "write", "mkdir", "fsync"))
        )
        if self._count != self._at and not again:
            return
        if not again:
            self._tell(call=f"{call} {os.path.relpath(place, self._folder)}")
            before()
        if self._how in ("kill", "power"):
            self._die()
        code = errno.ENOSPC if self._how == "full" else errno.EIO
        raise OSError(code, os.strerror(code), place)

    def _die(self) -> None:
        if self._how == "power":
            for path in self._unsafe:
                if os.path.isfile(path):
                    os.truncate(path, os.stat(path).st_size // 2)
        os.kill(os.getpid(), signal.SIGKILL)

    def _place(self, path: object) -> str | None:
        if isinstance(path, int):
            path = os.readlink(f"/proc/self/fd/{path}")
        name = os.path.abspath(os.fsdecode(path))  # type: ignore[arg-type]
        return name if name.startswith(f"{self._folder}/") else None

    def _struck(self, name: str) -> Callable[..., object]:
        def struck(path: Any, *arguments: Any, **named: Any) -> object:
            self.called(name, path)
            return self._real[name](path, *arguments, **named)

        return struck

    def open(self, path: Any, flags: int, *arguments: Any, **named: Any) -> int:
        """Stand in for `os.open`."""
        self.called("create" if flags & (os.O_CREAT | os.O_WRONLY | os.O_RDWR) else "open", path)
        handle: int = self._real["open"](path, flags, *arguments, **named)
        return handle

    def fsync(self, handle: int) -> None:
        """Stand in for `os.fsync`."""
        self.called("fsync", handle)
        self._real["fsync"](handle)
        self._unsafe.discard(self._place(handle) or "")

    def replace(self, source: Any, target: Any, **named: Any) -> None:
        """Stand in for `os.replace` and `os.rename`."""
        self.called("replace", target)
        self._real["replace"](source, target, **named)
        if (old := self._place(source)) in self._unsafe:
            self._unsafe.add(self._place(target) or "")
            self._unsafe.discard(old or "")

    def open_file(self, file: Any, mode: str = "r", buffering: int = -1, *arguments: Any, **named: Any) -> Any:
        """Stand in for `open`."""
        if not set(mode) & set("wax+") or isinstance(file, int) or self._place(file) is None:
            return self._open(file, mode, buffering, *arguments, **named)
        self.called("create", file)
        raw = _Watched(self, os.path.abspath(os.fsdecode(file)), mode.replace("b", "").replace("t", ""))
        if buffering == 0:
            return raw
        buffered = io.BufferedRandom(raw) if "+" in mode else io.BufferedWriter(raw)
        return buffered if "b" in mode else io.TextIOWrapper(buffered, *arguments, **named)

    def wrote(self, path: str) -> None:
        """Note that a file has contents that a power cut would take."""
        self._unsafe.add(path)


class _Watched(io.FileIO):
    """A file whose every write and truncation counts; of a write that is struck, the first half is written."""

    def __init__(self, disk: Disk, path: str, mode: str) -> None:
        super().__init__(path, mode)
        self._disk, self._path = disk, path

    def write(self, data: Any) -> int:
        """Stand in for `FileIO.write`."""
        self._disk.wrote(self._path)
        half = bytes(data)[: len(data) // 2]
        self._disk.called("write", self._path, lambda: io.FileIO.write(self, half))
        return super().write(data)

    def truncate(self, size: int | None = None) -> int:
        """Stand in for `FileIO.truncate`."""
        self._disk.called("truncate", self._path)
        return super().truncate(size)
