"""What can be said of the buffers without a GPU: the runtime offers the same buffers on the CPU."""

import os
import signal
import threading
from concurrent.futures import ThreadPoolExecutor, wait
from types import SimpleNamespace

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


class _Watched:
    """A session that remembers who ran which recorded kernels on which buffers."""

    def __init__(self, session: onnxruntime.InferenceSession) -> None:
        self.get_inputs, self.get_outputs, self.io_binding = session.get_inputs, session.get_outputs, session.io_binding
        self._session = session
        self.used: list[tuple[int, str]] = []
        self.threads: set[int] = set()

    def run_with_iobinding(self, binding, options):
        self.threads.add(threading.get_ident())
        self.used.append((id(binding), options.get_run_config_entry("gpu_graph_id")))
        self._session.run_with_iobinding(binding, options)


def test_a_size_has_its_sets_of_buffers_recorded_when_it_is_first_met(plain, pictures):
    watched = _Watched(plain)
    session = BufferedSession(watched, "cpu")
    same(session.run(pictures[:3]), plain, pictures[:3])
    tried, *recorded, first = watched.used
    assert len(recorded) == len({binding for binding, _ in recorded}) == buffers.SETS
    assert tried == (recorded[0][0], "-1")  # the first time nothing is recorded
    assert first in recorded
    for count in (16, 7, 9):
        same(session.run(pictures[:count]), plain, pictures[:count])
    assert set(watched.used[-3:]) == set(recorded)  # each set in its turn, under the name that it was recorded by
    session.run(pictures[:1])
    names = {name for _, name in watched.used} - {"-1"}
    assert len(names) == 2 * buffers.SETS
    session.repeat(16)
    assert watched.used[-1] in recorded
    assert len(watched.threads) == 1
    assert threading.get_ident() not in watched.threads


def test_a_failure_reaches_the_caller_and_the_next_batch_is_read(plain, pictures):
    session = BufferedSession(plain, "cpu")
    with pytest.raises(ValueError, match="broadcast"):
        session.run(pictures[:2, :50])
    same(session.run(pictures[:2]), plain, pictures[:2])


def test_the_next_batches_are_copied_while_one_is_read(plain, pictures):
    reading, go_on, copied = threading.Event(), threading.Event(), []

    class Slow(_Watched):
        def run_with_iobinding(self, binding, options):
            reading.set()
            assert go_on.wait(10)
            super().run_with_iobinding(binding, options)

    session = BufferedSession(Slow(plain), "cpu")
    go_on.set()
    size = session._size_for(3)
    free = session._free[size]
    go_on.clear()
    reading.clear()
    coming = [session._submit(size, pictures[first : first + 3]) for first in (0, 3, 6)]
    assert reading.wait(10)
    assert free.empty()
    late = threading.Thread(target=lambda: copied.append(session.run(pictures[9:12])))
    late.start()  # it waits for buffers, and they for nobody but the device
    go_on.set()
    for part, first in zip(coming, (0, 3, 6), strict=True):
        same(part.result(), plain, pictures[first : first + 3])
    late.join(10)
    same(copied[0], plain, pictures[9:12])
    assert free.qsize() == buffers.SETS


def test_nothing_is_copied_while_kernels_are_recorded(plain, pictures, monkeypatch):
    monkeypatch.setattr(buffers, "SIZES", (1, 4, 8))
    recording, go_on = threading.Event(), threading.Event()

    class Slow(_Watched):
        def run_with_iobinding(self, binding, options):
            if binding.get_outputs()[0].shape()[0] == 8 and not go_on.is_set():
                recording.set()
                assert go_on.wait(10)
            super().run_with_iobinding(binding, options)

    slow, other = BufferedSession(Slow(plain), "cpu"), BufferedSession(plain, "cpu")
    size = other._size_for(1)
    other._device = SimpleNamespace(**vars(buffers._DEVICE))
    other._device.runs = ThreadPoolExecutor(1)  # whose kernels would run, were it for them alone
    other._device.runs.submit(recording.wait, 10)
    there = other._submit(size, pictures[:1])
    with ThreadPoolExecutor(2) as callers:
        eight = callers.submit(slow.run, pictures[:8])
        assert recording.wait(10)
        another = callers.submit(other._submit, size, pictures[1:2])
        assert wait([there, another], 0.2).not_done == {there, another}
        go_on.set()
        same(eight.result(), plain, pictures[:8])
        same(there.result(), plain, pictures[:1])
        same(another.result().result(), plain, pictures[1:2])


def test_calls_of_more_parts_than_there_are_buffers_do_not_wait_for_each_other(plain, pictures, monkeypatch):
    monkeypatch.setattr(buffers, "SIZES", (1, 4))
    session = BufferedSession(plain, "cpu")
    with ThreadPoolExecutor(4) as callers:
        for outputs in callers.map(session.run, [pictures[:40]] * 8):
            same(outputs, plain, pictures[:40])


def test_threads_that_read_at_a_time_get_their_own_answers(plain, pictures, monkeypatch):
    monkeypatch.setattr(buffers, "SIZES", (1, 4, 8))
    session = BufferedSession(plain, "cpu")
    parts = [pictures[first : first + 11] for first in range(0, 66, 11)] * 3
    with ThreadPoolExecutor(6) as threads:
        for part, outputs in zip(parts, threads.map(session.run, parts), strict=True):
            same(outputs, plain, part)


def test_buffers_are_free_again_when_nothing_can_be_read_any_more(plain, pictures):
    session = BufferedSession(plain, "cpu")
    session._device = SimpleNamespace(**vars(buffers._DEVICE))
    session._device.runs = ThreadPoolExecutor(1)
    session.run(pictures[:3])
    session._device.runs.shutdown()
    for _ in range(buffers.SETS + 1):  # the last would wait for ever
        with pytest.raises(RuntimeError, match="after shutdown"):
            session.run(pictures[:3])


def test_buffers_are_free_again_after_failures_of_the_device(plain, pictures):
    failing = threading.Event()

    class Failing(_Watched):
        def run_with_iobinding(self, binding, options):
            if failing.is_set():
                raise RuntimeError("an illegal memory access")
            super().run_with_iobinding(binding, options)

    session = BufferedSession(Failing(plain), "cpu")
    session.run(pictures[:3])
    failing.set()
    for _ in range(buffers.SETS + 1):
        with pytest.raises(RuntimeError, match="illegal"):
            session.run(pictures[:3])
    failing.clear()
    same(session.run(pictures[:3]), plain, pictures[:3])


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
    assert small.runs[2] == (16, "-1")
    assert len(small.runs) == 3 + buffers.SETS + 2 * 19


def test_memory_that_is_wanting_for_a_while_leaves_the_larger_buffers_that_are_there(plain, pictures, monkeypatch):
    monkeypatch.setattr(buffers, "SIZES", (1, 4, 16))

    class Busy(_Watched):
        wanting = 0

        def run_with_iobinding(self, binding, options):
            if binding.get_outputs()[0].shape()[0] == self.wanting:
                raise RuntimeError(TOO_MUCH)
            super().run_with_iobinding(binding, options)

    busy = Busy(plain)
    session = BufferedSession(busy, "cpu")
    session.run(pictures[:16])
    busy.wanting = 4
    same(session.run(pictures[:3]), plain, pictures[:3])
    busy.used.clear()
    same(session.run(pictures[:16]), plain, pictures[:16])
    assert len(busy.used) == 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system forks no processes")
def test_a_forked_process_has_a_thread_of_its_own_for_the_device(plain, pictures):
    session = BufferedSession(plain, "cpu")
    session.run(pictures[:3])
    if not (child := os.fork()):
        signal.alarm(20)
        os._exit(buffers.on_device(lambda: 0) or len(session.run(pictures[:3])["digits"]) != 3)
    assert os.waitpid(child, 0) == (child, 0)


@pytest.mark.parametrize(("room", "said"), [(0, TOO_MUCH), (20, "Non-zero status code returned while running Conv")])
def test_a_picture_that_does_not_fit_or_another_failure_reaches_the_caller(plain, pictures, room, said):
    session = BufferedSession(_Small(plain, room, said), "cpu")
    with pytest.raises(RuntimeError, match=said[:30].replace("[", r"\[")):
        session.run(pictures[:50])


def test_all_sessions_of_a_process_share_one_thread(plain, pictures):
    watched = [_Watched(plain), _Watched(plain)]
    for session in watched:
        BufferedSession(session, "cpu").run(pictures[:3])
    assert watched[0].threads == watched[1].threads == {buffers.on_device(threading.get_ident)}
