import io
import json
import os

import pytest
from PIL import Image

from rnnspn.errors import InputError
from rnnspn.results import batch, resuming, writers
from tests import handmade

NAMES = [b"plain.png", b"new\nline.png", b'a "quoted" one.png', b"=1+1.png", b"caf\xe9.png", b"comma, and 'rest.png"]


class Results(io.BytesIO):
    name = "out.partial"


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    """Return the paths of 75 pictures, every seventh of which cannot be read."""
    folder = bytes(tmp_path_factory.mktemp("pictures"))
    listed = []
    for number in range(75):
        path = os.fsdecode(b"%s/%03d %s" % (folder, number, NAMES[number % len(NAMES)]))
        if number % 7 != 3:
            Image.fromarray(handmade.picture_of(f"{number:03}")).save(path, "PNG")
        listed.append(path)
    return listed


def _read(predictor, paths, form, left=None):
    """Read the paths, going on with what is left of an earlier run; return the results and how often they were read."""
    stream, tally = Results(left or b""), batch.Tally()
    if left is not None:
        tally = resuming.take_up(stream, form, paths, predictor)
    before = tally.done
    batch.read(predictor, paths, writers.make_writer(form, stream, print, begun=before > 0), tally)
    return stream.getvalue(), tally, len(paths) - before


@pytest.mark.parametrize("form", resuming.FORMS)
def test_wherever_a_run_was_cut_off_the_next_one_ends_with_the_same_bytes(predictor, paths, form, monkeypatch):
    monkeypatch.setattr(
        type(predictor), "batch_size", lambda predictor, count: 32
    )  # on a machine of many cores they are smaller
    whole, tally, _ = _read(predictor, paths, form)
    assert (tally.done, tally.failed) == (75, 11)
    read_again = set()
    for cut in [*range(0, len(whole), 389), len(whole) - 1, len(whole)]:
        resumed, again, count = _read(predictor, paths, form, whole[:cut])
        assert resumed == whole, cut
        assert again == tally
        read_again.add(count)
    assert read_again == {75, 43, 11, 0}  # whole batches of 32 are kept


def test_the_end_that_a_power_cut_leaves_is_read_again(predictor, paths):
    whole, _, _ = _read(predictor, paths, "jsonl")
    torn = whole[: len(whole) // 2] + bytes(512) + b"\n"
    assert _read(predictor, paths, "jsonl", torn)[0] == whole


@pytest.mark.parametrize(("form", "torn"), [("csv", bytes(200_000) + b"\n"), ("jsonl", b"[" * 100_000 + b"\n")])
def test_whatever_a_disk_has_made_of_the_end_is_read_again(predictor, paths, form, torn):
    whole, _, _ = _read(predictor, paths, form)
    assert _read(predictor, paths, form, whole.splitlines(keepends=True)[0] + torn)[0] == whole


@pytest.mark.parametrize(("form", "other"), [("csv", "jsonl"), ("jsonl", "csv")])
def test_results_of_another_format_are_left_alone(predictor, paths, form, other):
    whole, _, _ = _read(predictor, paths, form)
    with pytest.raises(InputError, match=r"out\.partial was begun in another format"):
        _read(predictor, paths, other, whole)


def test_results_of_other_pictures_are_left_alone(predictor, paths):
    whole, _, _ = _read(predictor, paths, "jsonl")
    for others in (paths[1:], paths[:40], paths[::-1]):
        stream = Results(whole)
        with pytest.raises(InputError, match=r"out\.partial was begun with other pictures"):
            resuming.take_up(stream, "jsonl", others, predictor)
        assert stream.getvalue() == whole


@pytest.mark.parametrize("form", resuming.FORMS)
def test_names_that_look_like_formulas_are_known_again(predictor, form, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = ["=1+1.png", "@sum.png", "'quoted.png", "-1.png", "plain.png"]
    for name in names:
        Image.fromarray(handmade.picture_of("120")).save(name)
    whole, _, _ = _read(predictor, names, form)
    assert _read(predictor, names, form, whole)[::2] == (whole, 0)


@pytest.mark.parametrize("other", ["zzz", ""])
@pytest.mark.parametrize("changed", ["provider", "model_sha256", "polarity"])
def test_results_of_another_model_or_provider_are_left_alone(predictor, paths, changed, other):
    whole, _, _ = _read(predictor, paths, "jsonl")
    lines = [json.loads(line) for line in whole.splitlines()]
    lines[5][changed] = other
    stream = Results("".join(json.dumps(line) + "\n" for line in lines).encode())
    with pytest.raises(InputError, match="another model, provider or polarity"):
        resuming.take_up(stream, "jsonl", paths, predictor)
