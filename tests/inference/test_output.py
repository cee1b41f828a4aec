import os
from pathlib import Path

import pytest

from rnnspn.errors import OutputError
from rnnspn.inference import output


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


def test_a_failed_run_leaves_the_old_file(tmp_path):
    target = tmp_path / "out.csv"
    target.write_bytes(b"old")
    with pytest.raises(RuntimeError):
        _stopped_by(RuntimeError(), target)
    assert target.read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["out.csv"]


def test_an_interrupted_run_leaves_what_it_has_beside_the_old_file(tmp_path):
    target = tmp_path / "out.csv"
    target.write_bytes(b"old")
    with pytest.raises(KeyboardInterrupt):
        _stopped_by(KeyboardInterrupt(), target)
    assert target.read_bytes() == b"old"
    assert output.partial(target).read_bytes() == b"new"


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


def test_a_full_device_is_an_output_error():
    with pytest.raises(OutputError, match="No space left"), output.destination(Path("/dev/full")) as stream:
        output.put(stream, b"x")


def test_a_folder_is_no_place_for_results(tmp_path):
    with pytest.raises(OutputError), output.destination(tmp_path):
        pass


def test_a_closed_pipe_is_told_apart():
    read_end, write_end = os.pipe()
    os.close(read_end)
    with pytest.raises(output.ClosedPipeError), open(write_end, "wb", buffering=0) as stream:  # noqa: PTH123
        output.put(stream, b"x")
