import io

import pytest

from rnnspn.inference.records import Failure
from rnnspn.results import batch, writers
from rnnspn.results.annotate import Annotator


class _Kept:
    def __init__(self):
        self.records = []

    def write(self, records):
        self.records += records


def test_a_run_counts_records_and_failures(predictor, pictures):
    paths = sorted(str(path) for path in pictures.iterdir())
    tally, kept, progressed = batch.Tally(), _Kept(), []
    batch.read(predictor, paths, kept, tally, progress=progressed.append)
    assert (tally.done, tally.failed) == (4, 3)
    assert sum(progressed) == 4
    assert [record.path for record in kept.records] == paths


def test_readings_are_annotated_and_failures_are_not(predictor, pictures, tmp_path):
    paths = [str(path) for path in pictures.iterdir()]
    batch.read(predictor, paths, _Kept(), batch.Tally(), annotated=tmp_path / "drawn")
    assert [path.name for path in (tmp_path / "drawn").iterdir()] == ["good.png"]


def test_a_picture_that_vanishes_before_it_is_drawn_is_a_failure(predictor, pictures, tmp_path, monkeypatch):
    original = Annotator.write

    def vanishing(self, index, reading):
        (pictures / "good.png").unlink()
        return original(self, index, reading)

    monkeypatch.setattr(Annotator, "write", vanishing)
    tally, kept = batch.Tally(), _Kept()
    batch.read(predictor, [str(pictures / "good.png")], kept, tally, annotated=tmp_path / "drawn")
    assert isinstance(kept.records[0].outcome, Failure)
    assert tally.failed == 1


def test_a_resumed_run_draws_under_the_names_of_a_whole_one(predictor, pictures, tmp_path):
    paths = [str(pictures / "good.png")] * 2
    batch.read(predictor, paths, _Kept(), batch.Tally(done=1), annotated=tmp_path / "drawn")
    assert [path.name for path in (tmp_path / "drawn").iterdir()] == ["good-2.png"]


def test_an_interruption_keeps_what_was_counted(predictor, pictures):
    tally = batch.Tally()

    def interrupt(_):
        if tally.done > 20:
            raise KeyboardInterrupt

    stream, paths = io.BytesIO(), [str(pictures / "good.png")] * 400
    writer = writers.make_writer("jsonl", stream, print)
    with pytest.raises(KeyboardInterrupt):
        batch.read(predictor, paths, writer, tally, progress=interrupt)
    assert 20 < tally.done < 400
    assert stream.getvalue().count(b"\n") == tally.done
