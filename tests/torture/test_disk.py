import contextlib
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from rnnspn.errors import OutputError
from tests.torture.disk import Victim, torment, writing
from tests.torture.injector import HOWS, How, strike
from tests.torture.record import Outcome

NEW = b"the new file, somewhat longer than the old one\n"


def _found(write: Callable[[Path], object], folder: Path, hows: tuple[How, ...] = HOWS) -> str:
    def guarded(target: Path) -> None:
        try:
            target.parent.mkdir(exist_ok=True)
            write(target)
        except OSError as error:
            raise OutputError("cannot write") from error

    outcome = Outcome()
    target = folder / "undisturbed" / "some"
    target.mkdir(parents=True)
    torment(Victim("naive", guarded, Path.read_bytes, "OutputError"), folder, hows, outcome)
    return "\n".join(outcome.failures)


def _in_place(target: Path) -> None:
    target.write_bytes(NEW)


def _removed_first(target: Path) -> None:
    beside = target.with_name(f"{os.getpid()}.part")
    beside.write_bytes(NEW)
    target.unlink(missing_ok=True)
    beside.replace(target)


def _never_synchronised(target: Path) -> None:
    beside = target.with_name(f"{os.getpid()}.part")
    try:
        beside.write_bytes(NEW)
        beside.replace(target)
    finally:
        with contextlib.suppress(OSError):
            beside.unlink(missing_ok=True)


def _littering(target: Path) -> None:
    beside = target.with_name(f"{os.getpid()}.part")
    beside.write_bytes(NEW)
    beside.replace(target)


def _blocked(target: Path) -> None:
    beside = target.with_name("always-the-same.part")
    with beside.open("xb") as file:
        file.write(NEW)
    beside.replace(target)


def _silent(target: Path) -> None:
    with contextlib.suppress(OSError):
        _never_synchronised(target)


@pytest.mark.parametrize("how", HOWS)
def test_a_file_written_in_place_is_caught_by_every_fault(tmp_path, how):
    assert "neither the old nor the new" in _found(_in_place, tmp_path, (how,))


@pytest.mark.parametrize(
    ("write", "hows", "word"),
    [
        (_removed_first, ("kill",), "nothing"),
        (_never_synchronised, ("power",), "neither the old nor the new"),
        (_littering, ("full",), "left "),
        (_blocked, ("kill",), "the next run does not mend it"),
        (_silent, ("error",), "all well, it said"),
    ],
)
def test_every_other_way_of_writing_badly_is_caught(tmp_path, write, hows, word):
    assert word in _found(write, tmp_path, hows)


def test_without_a_power_cut_an_unsynchronised_file_gets_by(tmp_path):
    assert _found(_never_synchronised, tmp_path, ("kill", "error")) == ""


def test_an_error_of_the_wrong_kind_is_caught(tmp_path):
    def raw(target: Path) -> None:
        target.parent.mkdir(parents=True, exist_ok=True)
        _never_synchronised(target)

    outcome = Outcome()
    torment(Victim("raw", raw, Path.read_bytes, "OutputError"), tmp_path, ("error",), outcome)
    assert any("ended with OSError" in failure for failure in outcome.failures)


def test_every_call_of_a_write_is_struck(tmp_path):
    write = writing().write
    target = tmp_path / "new" / "file"
    calls = [strike(lambda: write(target), tmp_path, at, "error").call.split()[0] for at in range(1, 9)]
    assert calls == ["mkdir", "create", "create", "write", "open", "fsync", "replace", "open"]
