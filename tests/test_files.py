import errno
import os
import stat
from pathlib import Path

import pytest

from rnnspn import files
from rnnspn.errors import OutputError
from rnnspn.files import move, replacing, reserved, write_bytes, write_text


@pytest.fixture
def old(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    return path


def assert_only_the_old_file(old: Path) -> None:
    assert old.read_bytes() == b"old"
    assert list(old.parent.iterdir()) == [old]


@pytest.mark.parametrize("durable", [True, False])
def test_a_file_is_made_with_its_folders(tmp_path: Path, durable: bool) -> None:
    path = tmp_path / "some" / "folder" / "file"
    write_bytes(path, b"\x00new", durable=durable)
    assert path.read_bytes() == b"\x00new"
    assert list(path.parent.iterdir()) == [path]


def test_text_is_written_as_utf_8_with_its_own_line_ends(tmp_path: Path) -> None:
    write_text(tmp_path / "file", "één\r\ntwo\n")
    assert (tmp_path / "file").read_bytes() == "één\r\ntwo\n".encode()


@pytest.mark.parametrize("durable", [True, False])
def test_readers_see_the_old_file_until_the_new_one_is_whole(old: Path, durable: bool) -> None:
    with replacing(old, durable=durable) as temporary:
        temporary.write_bytes(b"ne")
        assert old.read_bytes() == b"old"
        temporary.write_bytes(b"new")
    assert old.read_bytes() == b"new"
    assert list(old.parent.iterdir()) == [old]


@pytest.mark.parametrize("error", [ZeroDivisionError, KeyboardInterrupt, SystemExit])
def test_a_failure_leaves_the_old_file_and_nothing_else(old: Path, error: type[BaseException]) -> None:
    def fail() -> None:
        with replacing(old) as temporary:
            temporary.write_bytes(b"half")
            raise error

    with pytest.raises(error):
        fail()
    assert_only_the_old_file(old)


@pytest.mark.parametrize("step", ["fsync", "open"])
def test_a_full_disk_leaves_the_old_file_and_is_one_error(
    old: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    def fail(*_: object, **__: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, step, fail)
    with pytest.raises(OutputError, match="No space left on device") as caught:
        write_bytes(old, b"new")
    monkeypatch.undo()
    assert "\n" not in str(caught.value)
    assert_only_the_old_file(old)


def test_a_disk_that_fails_at_cleaning_up_too_is_the_first_error(old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> int:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(files.os, "fsync", fail)
    monkeypatch.setattr(Path, "unlink", fail)
    with pytest.raises(OutputError, match="Input/output error"):
        write_bytes(old, b"new")
    assert old.read_bytes() == b"old"


@pytest.mark.skipif(os.name == "nt", reason="permissions of another kind")
@pytest.mark.parametrize("mode", [0o600, 0o664, 0o444])
def test_a_file_keeps_its_permissions(old: Path, mode: int) -> None:
    old.chmod(mode)
    write_bytes(old, b"new")
    assert stat.S_IMODE(old.stat().st_mode) == mode
    assert old.read_bytes() == b"new"


def test_a_link_stays_one_and_what_it_leads_to_is_replaced(old: Path) -> None:
    link = old.parent / "links" / "link"
    link.parent.mkdir()
    link.symlink_to(old)
    write_bytes(link, b"new")
    assert link.is_symlink()
    assert old.read_bytes() == b"new"
    assert list(link.parent.iterdir()) == [link]


def test_a_system_that_opens_no_folders_is_written_to(old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = os.open

    def without_folders(path: Path, flags: int, mode: int = 0o777) -> int:
        if path.is_dir():
            raise PermissionError(path)
        return original(path, flags, mode)

    monkeypatch.setattr(files, "_ON_WINDOWS", True)
    monkeypatch.setattr(files.os, "open", without_folders)
    with replacing(old) as temporary:
        temporary.write_bytes(b"new")
    assert old.read_bytes() == b"new"


def test_contents_are_on_the_disk_before_the_name_is(old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    sync, replace = os.fsync, Path.replace

    def note_sync(handle: int) -> None:
        order.append("folder" if stat.S_ISDIR(os.fstat(handle).st_mode) else "file")
        sync(handle)

    def note_replace(self: Path, target: Path) -> Path:
        order.append("name")
        return replace(self, target)

    monkeypatch.setattr(files.os, "fsync", note_sync)
    monkeypatch.setattr(Path, "replace", note_replace)
    write_bytes(old, b"new")
    write_bytes(old, b"newer", durable=False)
    assert order == ["file", "name", "folder", "name"]
    order.clear()
    with replacing(old) as temporary:
        temporary.write_bytes(b"newest")
    write_text(old, "and text")
    (old.parent / "finished").write_bytes(b"finished")
    move(old.parent / "finished", old)
    assert old.read_bytes() == b"finished"
    assert order == ["file", "name", "folder"] * 3


def test_two_writers_at_once_do_not_share_a_temporary_file(old: Path) -> None:
    with replacing(old) as one, replacing(old) as two:
        one.write_bytes(b"one")
        two.write_bytes(b"two")
        assert one != two
    assert old.read_bytes() == b"one"
    assert list(old.parent.iterdir()) == [old]


def test_a_file_that_bears_the_temporary_name_is_left_alone(old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files.secrets, "token_hex", lambda _: "same")
    with replacing(old) as temporary:
        temporary.write_bytes(b"one")
        with pytest.raises(OutputError, match="File exists"):
            write_bytes(old, b"two")
        assert temporary.read_bytes() == b"one"
    assert old.read_bytes() == b"one"


def test_a_reserved_file_is_made_with_its_folders_and_kept_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "some" / "folder" / "file"
    for content, added in ((b"", b"one"), (b"one", b"two")):
        with reserved(path) as stream:
            assert stream.read() == content
            stream.write(added)
    assert path.read_bytes() == b"onetwo"


def test_a_file_that_cannot_be_reserved_is_one_error(old: Path) -> None:
    for place in (old / "file", old.parent):
        with pytest.raises(OutputError, match="cannot write") as caught, reserved(place):
            pass
        assert "\n" not in str(caught.value)
    assert_only_the_old_file(old)


def test_a_reserved_file_is_free_again_when_its_user_is_done(old: Path) -> None:
    with reserved(old):
        for _ in range(2):
            with pytest.raises(OutputError, match="another run is writing"), reserved(old):
                pass
    with reserved(old) as stream:
        assert stream.read() == b"old"


def test_what_cannot_be_written_when_a_reserved_file_is_closed_is_one_error(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource", reason="limits of a file's size are for Unix")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (4, hard))
        with pytest.raises(OutputError, match=r"cannot write .*too large"), reserved(tmp_path / "file") as stream:
            stream.write(b"more than four")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_an_error_that_the_system_has_no_words_for_is_told_in_its_own(
    old: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> int:
        raise OSError("the disk went away")

    monkeypatch.setattr(files.os, "fsync", fail)
    with pytest.raises(OutputError, match="the disk went away; choose another place"):
        write_bytes(old, b"new")
    assert_only_the_old_file(old)


def test_a_folder_in_the_place_of_the_file_is_one_error(tmp_path: Path) -> None:
    (tmp_path / "file").mkdir()
    with pytest.raises(OutputError, match="it is a folder"):
        write_bytes(tmp_path / "file", b"new")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_file_in_the_place_of_the_folder_is_one_error(old: Path) -> None:
    with pytest.raises(OutputError, match="cannot write"):
        write_bytes(old / "file", b"new")
    assert_only_the_old_file(old)


def test_a_file_system_without_locks_is_written_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unsupported(*_: object) -> None:
        raise OSError(errno.ENOTSUP, "not supported")

    monkeypatch.setattr(files.fcntl, "flock", unsupported)
    with reserved(tmp_path / "file") as stream:
        stream.write(b"new")
    assert (tmp_path / "file").read_bytes() == b"new"
