import os
import signal
from pathlib import Path

import pytest

from rnnspn import files
from rnnspn.errors import OutputError
from rnnspn.results import output


def _stopped_by(error: BaseException, target: Path) -> None:
    with output.destination(target) as stream:
        stream.write(b"new")
        raise error


def test_a_finished_run_replaces_the_file(tmp_path):
    target = tmp_path / "new" / "out.csv"
    with output.destination(target) as stream:
        stream.write(b"done")
        assert not target.exists()
    assert target.read_bytes() == b"done"
    assert [path.name for path in target.parent.iterdir()] == ["out.csv"]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_an_unfinished_run_leaves_the_old_file_and_beside_it_what_it_has(tmp_path, error):
    target = tmp_path / "out.csv"
    target.write_bytes(b"old")
    with pytest.raises(error):
        _stopped_by(error(), target)
    assert target.read_bytes() == b"old"
    assert output.partial(target).read_bytes() == b"new"


def test_a_run_that_wrote_nothing_leaves_nothing(tmp_path):
    with pytest.raises(KeyboardInterrupt), output.destination(tmp_path / "out.csv"):
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("resume", "expected"), [(False, b"new"), (True, b"left, new")])
def test_what_an_unfinished_run_left_is_kept_only_for_going_on(tmp_path, resume, expected):
    target = tmp_path / "out.csv"
    output.partial(target).write_bytes(b"left, ")
    with output.destination(target, resume=resume) as stream:
        stream.read()
        stream.write(b"new")
    assert target.read_bytes() == expected
    assert [path.name for path in tmp_path.iterdir()] == ["out.csv"]


def test_two_runs_on_one_output_do_not_mix(tmp_path):
    target = tmp_path / "out.csv"
    with output.destination(target) as first:
        first.write(b"first")
        with pytest.raises(OutputError, match="another run is writing"), output.destination(target):
            pass
    assert target.read_bytes() == b"first"


def test_a_run_that_opens_the_file_as_another_moves_it_is_refused(tmp_path, monkeypatch):
    target = tmp_path / "out.csv"
    lock = files.fcntl.flock

    def late(stream, how):
        output.partial(target).rename(target)
        lock(stream, how)

    output.partial(target).write_bytes(b"of the other run")
    monkeypatch.setattr(files.fcntl, "flock", late)
    with pytest.raises(OutputError, match="another run"), output.destination(target):
        pass
    assert target.read_bytes() == b"of the other run"


def test_a_link_to_a_file_stays_a_link(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with output.destination(tmp_path / "link") as stream:
        stream.write(b"x")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_bytes() == b"x"


def test_a_device_is_written_to_and_not_replaced():
    with output.destination(Path("/dev/null")) as stream:
        stream.write(b"x")
    assert Path("/dev/null").is_char_device()


def test_what_leads_to_a_pipe_is_written_to():
    reading, writing = os.pipe()
    with output.destination(Path(f"/dev/fd/{writing}")) as stream:
        output.put(stream, b"x")
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        assert pipe.read() == b"x"


def test_a_working_folder_that_was_removed_is_an_output_error(tmp_path, monkeypatch):
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    with pytest.raises(OutputError, match="cannot write results"), output.destination(Path("results.jsonl")):
        pass
    with pytest.raises(OutputError, match="cannot write results"):
        files.write_bytes(Path("results.jsonl"), b"x")


def test_a_full_device_is_an_output_error():
    with pytest.raises(OutputError, match="No space left"), output.destination(Path("/dev/full")) as stream:
        output.put(stream, b"x")


def test_a_folder_is_no_place_for_results(tmp_path):
    with pytest.raises(OutputError), output.destination(tmp_path):
        pass


def test_a_closed_pipe_is_told_apart():
    read_end, write_end = os.pipe()
    os.close(read_end)
    with (
        pytest.raises(output.ClosedPipeError) as closed,
        open(write_end, "wb", buffering=0) as stream,  # noqa: PTH123
    ):
        output.put(stream, b"x")
    assert closed.value.exit_code == 128 + signal.SIGPIPE


@pytest.mark.parametrize(
    ("name", "told"), [("<stdout>", "the standard output"), ("out.csv", "out.csv"), (None, "the results")]
)
@pytest.mark.parametrize(
    ("error", "reason"), [(OSError(28, "No space left"), "No space left"), (OSError("odd"), "odd")]
)
def test_a_place_that_cannot_be_written_is_told_with_the_reason(name, told, error, reason):
    class Broken:
        def write(self, data):
            raise error

    stream = Broken()
    if name:
        stream.name = name
    with pytest.raises(OutputError) as refused:
        output.put(stream, b"x")
    assert str(refused.value).startswith(f"cannot write {told}: {reason};")


def test_what_an_unfinished_run_left_is_overwritten_unless_it_is_asked_for(tmp_path):
    output.partial(tmp_path / "out.csv").write_bytes(b"left by another run")
    with output.destination(tmp_path / "out.csv") as stream:
        assert stream.read() == b""
        stream.write(b"new")
    assert (tmp_path / "out.csv").read_bytes() == b"new"
