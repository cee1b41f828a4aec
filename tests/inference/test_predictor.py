import io
import itertools
import math
import os
import pickle
import re
import signal
import threading
import time
from dataclasses import replace

import numpy as np
import onnx
import pytest
from PIL import Image

import rnnspn
from rnnspn.errors import ImageError
from rnnspn.inference import predictor as module
from rnnspn.inference.predictor import Predictor
from rnnspn.inference.records import Failure, Reading
from rnnspn.pictures import images
from tests import handmade


def _many(count: int) -> list[str]:
    return ["".join(digits) for digits in itertools.islice(itertools.product("0123456789", repeat=3), count)]


def test_a_stack_of_the_models_size_is_read_as_it_is(predictor):
    wanted = _many(70)
    readings = predictor.predict(np.stack([handmade.picture_of(digits) for digits in wanted]))
    assert [reading.digits for reading in readings] == wanted


@pytest.mark.parametrize("put", [list, np.stack])
def test_a_stack_is_fitted_as_a_list_is(predictor, put):
    light = put([handmade.strips([0.95] * 3)])
    assert predictor.predict(light)[0].digits == "000"
    (reading,) = predictor.predict(light, polarity="light-on-dark")
    assert (reading.digits, reading.polarity) == ("999", "light-on-dark")
    with pytest.raises(ValueError, match="expected the polarity"):
        predictor.predict(light, polarity="dark")


@pytest.mark.parametrize("shape", [(100, 100), (0, 100, 100), (2, 100, 99), (2, 100, 100, 3)])
def test_what_is_no_input_of_the_model_is_refused_before_it_is_cut_up(predictor, shape):
    with pytest.raises(ValueError, match=re.escape(f"uint8 (N, 100, 100), one or more; got uint8 {shape}")):
        predictor.run(np.zeros(shape, np.uint8))


def test_contents_of_a_file_may_come_in_any_kind_of_bytes(predictor):
    stream = io.BytesIO()
    Image.fromarray(handmade.picture_of("123")).save(stream, "PNG")
    kinds = [stream.getvalue(), bytearray(stream.getvalue()), stream.getbuffer()]
    assert [reading.digits for reading in predictor.predict(kinds)] == ["123"] * 3
    for one in kinds:
        with pytest.raises(ValueError, match="put it into a list"):
            predictor.predict(one)


def test_one_pillow_image_many_times_is_loaded_once(predictor, tmp_path):
    Image.fromarray(handmade.picture_of("123")).save(tmp_path / "a.png")
    for _ in range(30):
        with Image.open(tmp_path / "a.png") as image:
            assert {reading.digits for reading in predictor.predict([image] * 32)} == {"123"}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system forks no processes")
def test_a_forked_process_goes_on_whatever_threads_were_doing(predictor):
    pictures = [handmade.picture_of("123")]
    predictor._decoding.enter()  # as threads that are not there in the child
    for _ in range(predictor.engine.workers):
        predictor.engine._room.enter()
    if not (child := os.fork()):
        os._exit(0 if predictor.predict(pictures)[0].digits == "123" else 1)
    predictor._decoding.leave()
    for _ in range(predictor.engine.workers):
        predictor.engine._room.leave()
    until = time.monotonic() + 20
    while (done := os.waitpid(child, os.WNOHANG)) == (0, 0) and time.monotonic() < until:
        time.sleep(0.01)
    if done == (0, 0):
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    assert done == (child, 0)
    assert predictor.predict(pictures)[0].digits == "123"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system forks no processes")
def test_a_forked_process_loads_its_own(model_path):
    Predictor.load(model_path)
    if not (child := os.fork()):
        signal.alarm(20)
        os._exit(0 if Predictor.load(model_path).predict([handmade.picture_of("123")])[0].digits == "123" else 1)
    assert os.waitpid(child, 0) == (child, 0)


def test_an_error_of_a_picture_goes_from_process_to_process(predictor):
    with pytest.raises(ImageError) as caught:
        predictor.predict(["gone.png"])
    again = pickle.loads(pickle.dumps(caught.value))
    assert (type(again), again.code, str(again)) == (ImageError, "not-found", str(caught.value))


def test_paths_pillow_images_and_arrays_of_any_size_are_read(predictor, tmp_path):
    picture = handmade.picture_of("123")
    Image.fromarray(picture).save(tmp_path / "a.png")
    large = picture.repeat(4, 0).repeat(4, 1)
    large[:12], large[-12:], large[:, :12], large[:, -12:] = 0, 0, 0, 0  # black, after it is made smaller too
    big = Image.fromarray(large).convert("RGB")
    readings = predictor.predict([tmp_path / "a.png", str(tmp_path / "a.png"), big, picture])
    assert [reading.digits for reading in readings] == ["123"] * 4


def test_no_pictures_give_no_readings(predictor):
    assert predictor.predict([]) == []
    assert predictor.predict(np.zeros((0, 100, 100), np.uint8)) == []


@pytest.mark.parametrize(
    "wrong",
    ["a.png", Image.new("L", (9, 9)), 7, np.zeros((100, 100), np.uint8), np.zeros((100, 100, 3), np.uint8)],
    ids=["path", "image", "number", "grey", "colour"],
)
def test_a_single_picture_is_refused_with_the_mend(predictor, wrong):
    with pytest.raises(ValueError, match="into a list"):
        predictor.predict(wrong)


def test_a_single_path_is_not_read_letter_by_letter(predictor):
    with pytest.raises(ValueError, match="got one str: put it into a list"):
        next(predictor.stream("a.png"))
    with pytest.raises(ValueError, match="got one bytes: put it into a list"):
        predictor.predict(b"a.png")


def test_what_can_be_gone_through_once_has_to_be_made_a_list(predictor):
    with pytest.raises(ValueError, match="got a generator: make a list of it"):
        predictor.predict(path for path in ("a.png",))


def test_the_contents_of_a_file_are_read_as_the_file_is(predictor, tmp_path):
    Image.fromarray(handmade.picture_of("120")).resize((300, 200)).save(tmp_path / "a.png")
    content = (tmp_path / "a.png").read_bytes()
    assert predictor.predict([content]) == predictor.predict([tmp_path / "a.png"])


@pytest.mark.parametrize("nothing", [np.zeros((0, 5), np.uint8), np.zeros((5, 0), np.float32), Image.new("L", (0, 0))])
def test_a_picture_of_no_pixels_is_an_error(predictor, nothing):
    with pytest.raises(ImageError, match=r"^picture 1: expected one pixel or more, got \d x \d$"):
        predictor.predict([np.zeros((9, 9), np.uint8), nothing])


def test_what_is_no_picture_costs_its_own_record(predictor, tmp_path):
    Image.fromarray(handmade.picture_of("120")).save(tmp_path / "a.png")
    paths = [str(tmp_path / "a.png"), None, io.BytesIO()]
    first, *others = (record for batch in predictor.stream(paths) for record in batch)
    assert first.outcome.digits == "120"
    assert [other.outcome.code for other in others] == ["unsupported"] * 2
    assert others[0].outcome.message.startswith("expected a path, ")
    assert others[1].outcome.message.endswith("got BytesIO")


def test_a_bad_picture_in_memory_is_an_error(predictor, tmp_path):
    picture = np.zeros((9, 9), np.uint8)
    with pytest.raises(ImageError, match=r"^\S+none\.png: there is no such file$"):
        predictor.predict([picture, tmp_path / "none.png"])
    with pytest.raises(ImageError, match=r"^picture 1: expected a uint8 array"):
        predictor.predict([picture, picture[0]])


def test_a_reading_carries_its_steps(predictor, model_path):
    reading = predictor.predict(handmade.picture_of("120")[None])[0]
    assert [step.digit for step in reading.steps] == ["1", "2", "0"]
    assert reading.confidence == pytest.approx(math.prod(step.probability for step in reading.steps))
    assert 0.5 < reading.confidence <= 1
    assert reading.provider == "cpu"
    assert reading.model_sha256 == predictor.model.sha256


def test_the_quads_cover_the_strips_in_pixels_of_the_picture(predictor, tmp_path):
    Image.new("L", (600, 200)).save(tmp_path / "black.png")
    reading = predictor.predict([tmp_path / "black.png"])[0]
    # Strip t of the 100 x 100 input spans x = 33 t to 33 t + 33, y = 24.75 to 74.25; the picture fills rows 33 to 65.
    scale_x, scale_y = 600 / 100, 200 / 33
    for index, step in enumerate(reading.steps):
        left, right = ((33 * (index + side) + 0.5) * scale_x - 0.5 for side in (0, 1))
        top, bottom = ((y + 0.5 - 33) * scale_y - 0.5 for y in (24.75, 74.25))
        expected = [(left, top), (right, top), (right, bottom), (left, bottom)]
        np.testing.assert_allclose(step.quad, expected, rtol=1e-4, atol=1e-2)


def test_theta_depends_on_the_picture_and_is_kept(predictor):
    stack = np.stack([handmade.strips([0, 0, 0]), handmade.strips([1, 1, 1])])
    dark, light = predictor.predict(stack, polarity="light-on-dark")
    assert light.steps[0].theta[5] - dark.steps[0].theta[5] == pytest.approx(handmade.SHIFT, abs=1e-4)


@pytest.mark.parametrize(("family", "quads"), [("rnn-spn", 3), ("ffn-spn", 1), ("conv", 0)])
def test_every_family_is_read(tmp_path, family, quads):
    downsample = None if family == "conv" else 2
    onnx.save(handmade.build(handmade.metadata(family=family, downsample=downsample)), tmp_path / "m.onnx")
    reading = rnnspn.load(tmp_path / "m.onnx").predict(handmade.picture_of("456")[None])[0]
    assert reading.digits == "456"
    assert len({step.quad for step in reading.steps} - {None}) == quads


@pytest.mark.parametrize("facts", [{"steps": 1}, {"steps": 8}, {"height": 60, "width": 80}, {"alphabet": "abcdefghij"}])
def test_other_lengths_sizes_and_alphabets_are_read(tmp_path, facts):
    facts = handmade.metadata(**facts)
    onnx.save(handmade.build(facts), tmp_path / "m.onnx")
    digits = "31425061"[: facts.steps]
    picture = handmade.picture_of(digits, facts.height, facts.width)
    reading = rnnspn.load(tmp_path / "m.onnx").predict(picture[None])[0]
    assert reading.digits == "".join(facts.alphabet[int(digit)] for digit in digits)


def test_a_sequence_ends_before_its_blanks(tmp_path):
    path = tmp_path / "model.onnx"
    facts = handmade.metadata(alphabet="abcdefghi␣", steps=4)
    onnx.save(handmade.build(facts), path)
    predictor = Predictor.load(path, provider="cpu")
    wanted = {"0199": "ab", "0919": "a␣b", "9999": "", "8888": "iiii"}
    stack = np.stack([handmade.picture_of(digits) for digits in wanted])
    readings = predictor.predict(stack)
    assert [reading.digits for reading in readings] == list(wanted.values())
    for reading, probabilities in zip(readings, predictor.run(stack).probabilities, strict=True):
        assert "".join(step.digit for step in reading.steps) == reading.digits
        assert reading.confidence == pytest.approx(probabilities.max(-1).prod())


def test_a_stream_keeps_the_order_whatever_fails_in_between(predictor, tmp_path):
    paths = []
    for index, digits in enumerate(_many(150)):
        path = tmp_path / f"{index}.png"
        if index % 7 == 3:
            path.write_bytes(b"nothing")
        else:
            Image.fromarray(handmade.picture_of(digits)).save(path)
        paths.append(str(path))
    records = [record for batch in predictor.stream(paths, polarity="light-on-dark") for record in batch]
    assert [record.path for record in records] == paths
    for index, (record, digits) in enumerate(zip(records, _many(150), strict=True)):
        if index % 7 == 3:
            assert record.outcome == Failure("not-an-image", record.outcome.message)
        else:
            assert isinstance(record.outcome, Reading)
            assert record.outcome.digits == digits


def test_a_path_that_comes_twice_gives_two_records(predictor, pictures):
    path = str(pictures / "good.png")
    assert [record.path for batch in predictor.stream([path, path]) for record in batch] == [path, path]


def test_no_more_than_a_window_of_batches_is_ahead_of_the_reader(predictor, monkeypatch):
    fetched = 0
    counted = threading.Lock()
    blank = images.load(handmade.picture_of("000"), 100, 100)

    def counting(*_):
        nonlocal fetched
        with counted:
            fetched += 1
        return blank

    monkeypatch.setattr(images, "load", counting)
    narrow = Predictor(replace(predictor.engine, workers=2, batch=4))
    taken = 0
    for batch in narrow.stream(["x"] * 1000):
        taken += len(batch)
        assert fetched <= taken + 4 * 2 * 4  # so many batches for each worker
    assert fetched == taken == 1000


def test_a_stream_that_is_stopped_decodes_no_more_than_the_picture_under_way(predictor, monkeypatch):
    blank = images.load(handmade.picture_of("000"), 100, 100)
    first, slow = threading.Event(), []

    def decoding(path, *_):
        if path == "slow":
            slow.append(path)
            first.set()
            time.sleep(0.1)
        return blank

    monkeypatch.setattr(images, "load", decoding)
    stream = Predictor(replace(predictor.engine, workers=1, batch=50)).stream(["fast"] * 50 + ["slow"] * 50)
    next(stream)
    assert first.wait(10)
    stream.close()
    time.sleep(0.5)
    assert len(slow) <= 3


def test_isolated_pictures_are_decoded_on_every_core_whatever_reads_them(predictor, pictures, monkeypatch):
    pools = []
    monkeypatch.setattr(module, "available_cores", lambda: 5)
    original = module.ThreadPoolExecutor
    monkeypatch.setattr(module, "ThreadPoolExecutor", lambda workers, **how: pools.append(workers) or original(workers))
    few = Predictor(replace(predictor.engine, workers=3, batch=1))
    for isolated in (False, True):
        assert len(list(few.stream([str(pictures / "good.png")] * 3, isolated=isolated))) == 3
    assert pools == [3, 5]


def test_a_reader_that_stops_leaves_no_thread_behind(predictor, pictures):
    before = threading.active_count()
    stream = predictor.stream([str(pictures / "good.png")] * 500)
    next(stream)
    stream.close()
    assert threading.active_count() == before
