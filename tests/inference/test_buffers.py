"""What can be said of the buffers without a GPU: the runtime offers the same buffers on the CPU."""

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import onnxruntime
import pytest

from rnnspn.inference import buffers
from rnnspn.inference.buffers import BufferedSession
from tests import handmade


@pytest.fixture
def plain(model_path) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(model_path, providers=["CPUExecutionProvider"])


@pytest.fixture
def pictures() -> np.ndarray:
    return np.stack([handmade.picture_of(f"{number:03}") for number in range(0, 1000, 13)])


def same(outputs: dict[str, np.ndarray], session: onnxruntime.InferenceSession, images: np.ndarray) -> None:
    names = [output.name for output in session.get_outputs()]
    assert list(outputs) == names
    for name, expected in zip(names, session.run(names, {"images": images}), strict=True):
        assert outputs[name].dtype == expected.dtype
        np.testing.assert_allclose(outputs[name], expected, atol=1e-6, err_msg=name)


@pytest.mark.parametrize("count", [1, 2, 4, 5, 8, 9, 23])
def test_batches_between_and_beyond_the_sizes_read_as_without_buffers(plain, pictures, monkeypatch, count):
    monkeypatch.setattr(buffers, "SIZES", (1, 4, 8))
    same(BufferedSession(plain, "cpu").run(pictures[:count]), plain, pictures[:count])


@pytest.mark.parametrize(
    ("count", "parts"),
    [(1, [1]), (200, [200]), (256, [256]), (300, [256, 44]), (513, [513]), (1024, [1024]), (1500, [1024, 256, 220])],
)
def test_the_largest_buffers_are_used_when_they_are_more_than_half_full(plain, pictures, monkeypatch, count, parts):
    session, taken = BufferedSession(plain, "cpu"), []
    submit = session._submit
    monkeypatch.setattr(session, "_submit", lambda of, part: (taken.append(len(part)), submit(of, part))[1])
    many = np.resize(pictures, (count, *pictures.shape[1:]))
    same(session.run(many), plain, many)
    assert taken == parts


def test_what_was_read_before_stays_as_it_was(plain, pictures):
    session = BufferedSession(plain, "cpu")
    first = session.run(pictures[:5])
    session.run(pictures[5:10])
    same(first, plain, pictures[:5])


def test_a_size_has_one_set_of_buffers_and_one_thread_for_good(plain, pictures):
    used, threads = [], []

    class Watched:
        get_inputs, get_outputs, io_binding = plain.get_inputs, plain.get_outputs, plain.io_binding

        def run_with_iobinding(self, binding, options):
            threads.append(threading.get_ident())
            used.append((id(binding), options.get_run_config_entry("gpu_graph_id")))
            plain.run_with_iobinding(binding, options)

    session = BufferedSession(Watched(), "cpu")
    for count in (3, 1, 16, 7):
        same(session.run(pictures[:count]), plain, pictures[:count])
    (sixteen_tried, sixteen, one_tried, one), later = used[:4], used[4:]
    assert later == [sixteen, sixteen]
    assert (sixteen[1], one[1]) == ("16", "1")
    assert (sixteen_tried, one_tried) == ((sixteen[0], "-1"), (one[0], "-1"))  # the first time nothing is recorded
    assert len(set(threads)) == 1
    assert threading.get_ident() not in threads
    session.repeat(16)
    assert used[-1] == sixteen
    assert len(set(threads)) == 1


def test_a_failure_reaches_the_caller_and_the_next_batch_is_read(plain, pictures):
    session = BufferedSession(plain, "cpu")
    with pytest.raises(ValueError, match="broadcast"):
        session.run(pictures[:2, :50])
    same(session.run(pictures[:2]), plain, pictures[:2])


def test_the_next_batch_is_put_in_place_while_one_is_read(plain, pictures):
    reading, go_on = threading.Event(), threading.Event()

    class Slow:
        get_inputs, get_outputs, io_binding = plain.get_inputs, plain.get_outputs, plain.io_binding

        def run_with_iobinding(self, binding, options):
            reading.set()
            assert go_on.wait(10)
            plain.run_with_iobinding(binding, options)

    session = BufferedSession(Slow(), "cpu")
    go_on.set()
    buffers = session._buffers_for(3)
    go_on.clear()
    reading.clear()
    one, two = (session._submit(buffers, pictures[first : first + 3]) for first in (0, 3))
    assert reading.wait(10)
    assert buffers.places.qsize() == 1  # the first batch is on the device and has left its place; the second waits
    go_on.set()
    same(one.result(), plain, pictures[:3])
    same(two.result(), plain, pictures[3:6])
    assert buffers.places.qsize() == 2


def test_threads_that_read_at_a_time_get_their_own_answers(plain, pictures, monkeypatch):
    monkeypatch.setattr(buffers, "SIZES", (1, 4, 8))
    session = BufferedSession(plain, "cpu")
    parts = [pictures[first : first + 11] for first in range(0, 66, 11)] * 3
    with ThreadPoolExecutor(6) as threads:
        for part, outputs in zip(parts, threads.map(session.run, parts), strict=True):
            same(outputs, plain, part)


def test_places_are_given_back_when_nothing_can_be_read_any_more(plain, pictures):
    session = BufferedSession(plain, "cpu")
    session._thread = ThreadPoolExecutor(1)
    session.run(pictures[:3])
    session._thread.shutdown()
    for _ in range(buffers._PLACES + 1):  # the last would wait for ever
        with pytest.raises(RuntimeError, match="after shutdown"):
            session.run(pictures[:3])


class _Small:
    """A session on a device with room for so many pictures, which counts what is run there."""

    def __init__(self, session: onnxruntime.InferenceSession, room: int, said: str) -> None:
        self.get_inputs, self.get_outputs, self.io_binding = session.get_inputs, session.get_outputs, session.io_binding
        self._session, self._room, self._said = session, room, said
        self.runs: list[tuple[int, str]] = []

    def run_with_iobinding(self, binding, options):
        size = binding.get_outputs()[0].shape()[0]
        self.runs.append((size, options.get_run_config_entry("gpu_graph_id")))
        if size > self._room:
            raise RuntimeError(self._said)
        self._session.run_with_iobinding(binding, options)


TOO_MUCH = "[ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : Failed to allocate memory for requested buffer of size 12345"


def test_a_size_that_does_not_fit_into_memory_is_tried_once_and_never_recorded(plain, pictures):
    small = _Small(plain, 20, TOO_MUCH)
    session = BufferedSession(small, "cpu")
    many = np.resize(pictures, (300, *pictures.shape[1:]))
    for _ in range(2):
        same(session.run(many), plain, many)
    assert [run for run in small.runs if run[0] > 20] == [(256, "-1"), (64, "-1")]
    assert small.runs.count((16, "16")) == 2 * 19
    assert small.runs.count((16, "-1")) == 1


@pytest.mark.parametrize(("room", "said"), [(0, TOO_MUCH), (20, "Non-zero status code returned while running Conv")])
def test_a_picture_that_does_not_fit_or_another_failure_reaches_the_caller(plain, pictures, room, said):
    session = BufferedSession(_Small(plain, room, said), "cpu")
    with pytest.raises(RuntimeError, match=said[:30].replace("[", r"\[")):
        session.run(pictures[:50])


def test_all_sessions_of_a_process_share_one_thread(plain, pictures):
    threads = []

    class Watched:
        get_inputs, get_outputs, io_binding = plain.get_inputs, plain.get_outputs, plain.io_binding

        def run_with_iobinding(self, binding, options):
            threads.append(threading.get_ident())
            plain.run_with_iobinding(binding, options)

    for _ in range(2):
        BufferedSession(Watched(), "cpu").run(pictures[:3])
    assert set(threads) == {buffers.on_device(threading.get_ident)}
