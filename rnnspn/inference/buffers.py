"""A session that works on buffers of its device, a few sets for each size of batch.

The buffers stay where they are, so that CUDA can record the kernels that work on a set once, as a CUDA graph, and
replay them at every later batch; a batch between two sizes is padded to the larger one. While the device reads one
batch, the next is copied to it in another set, and what was read in a third comes back.

One thread runs all sessions of the process, as the runtime records kernels for the thread that runs them. What two
others do meanwhile is copying, and not while kernels are recorded: a copy, an allocation or another session would end
the recording.

Shapes: N pictures, H x W pixels.
"""

import itertools
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from rnnspn import contract
from rnnspn.errors import is_want_of_memory
from rnnspn.inference.forks import renewed_in_forks
from rnnspn.inference.pinned import pinned

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

SIZES = (1, 16, 64, 256, 1024)
"""Sizes of batches that buffers are kept for."""

SETS = 3
"""Sets of buffers of a size: one is filled, one is worked on, one is emptied."""

_TYPES = {"tensor(float)": np.float32, "tensor(int64)": np.int64}
_UNRECORDED = "-1"
"""The runtime's name for a run whose kernels are not recorded."""

_Value = TypeVar("_Value")


class _Device:
    """Who does what of the work with a GPU, in all of the process.

    Attributes:
        runs: The thread that runs sessions, and makes them.
        returns: The thread that copies from the device.
        copying: Held by who copies, to the device or from it, and by who records kernels.
    """

    def __init__(self) -> None:
        renewed_in_forks(self)

    def renew(self) -> None:
        """Begin with new threads."""
        self.runs = ThreadPoolExecutor(1, thread_name_prefix="rnnspn-device")
        self.returns = ThreadPoolExecutor(1, thread_name_prefix="rnnspn-returns")
        self.copying = threading.Lock()


_DEVICE = _Device()


def on_device(work: Callable[[], _Value]) -> _Value:
    """Do what runs on a GPU when nothing else runs there."""
    return _DEVICE.runs.submit(work).result()


class _Buffers(NamedTuple):
    """A set of buffers, for a batch of one size.

    Attributes:
        staged: Pictures on the host, uint8 (size, H, W), behind the last one zeros or older pictures.
        images: The same on the device.
        outputs: The outputs on the device, by name.
        binding: Tells the session of all of them.
        options: Names the recorded kernels.
    """

    staged: NDArray[np.uint8]
    images: Any
    outputs: dict[str, Any]
    binding: Any
    options: Any


class BufferedSession:
    """Runs a session on the buffers of its device, for any number of threads at a time.

    Memory of the device is freed by whatever thread lets go of it last: not while another model meets a new size.

    Args:
        session: The session.
        device: Where it runs, in the runtime's words: `cuda` or `cpu`.
    """

    def __init__(self, session: "InferenceSession", device: str) -> None:
        self.session = session
        self._device = _DEVICE
        self._where = device
        self._free: dict[int, SimpleQueue[_Buffers]] = {}
        self._sizes: tuple[int, ...] = SIZES  # those that have fitted into memory, or may
        self._names = itertools.count(1)

    def run(self, images: NDArray[np.uint8]) -> dict[str, NDArray[Any]]:
        """Return the outputs, by name, of uint8 (N, H, W)."""
        coming = []
        while len(images):
            size = self._size_for(len(images))
            coming.append(self._submit(size, images[:size]))
            images = images[size:]
        parts = [part.result() for part in coming]
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def repeat(self, size: int) -> None:
        """Read once more what the next buffers of a size hold, for timing the device alone."""
        free = self._free[size]
        buffers = free.get()
        try:
            self._device.runs.submit(self._work_on, buffers).result()
        finally:
            free.put(buffers)

    def _size_for(self, count: int) -> int:
        """Return the size of buffers for all of so many pictures, or for as many of them as go together."""
        while True:
            *smaller, largest = self._sizes
            if smaller and largest == SIZES[-1] and count <= largest // 2:  # more than half empty, those cost more
                largest = smaller[-1]
            size = next((size for size in smaller if count <= size), largest)
            if size in self._free or self._device.runs.submit(self._fits, size).result():
                return size

    def _submit(self, size: int, images: NDArray[np.uint8]) -> "Future[dict[str, NDArray[Any]]]":
        """Copy pictures to the device as soon as buffers are free; return what will come back."""
        free = self._free[size]
        buffers = free.get()
        try:
            buffers.staged[: len(images)] = images
            with self._device.copying:
                buffers.images.update_inplace(buffers.staged)
            worked = self._device.runs.submit(self._work_on, buffers)
        except BaseException:
            free.put(buffers)
            raise
        return self._device.returns.submit(self._come_back, worked, buffers, len(images), free)

    def _work_on(self, buffers: _Buffers) -> None:
        self.session.run_with_iobinding(buffers.binding, buffers.options)

    def _come_back(
        self, worked: "Future[None]", buffers: _Buffers, count: int, free: "SimpleQueue[_Buffers]"
    ) -> dict[str, NDArray[Any]]:
        """Copy the outputs of so many pictures from the device once they are there, and free the buffers."""
        try:
            worked.result()
            with self._device.copying:
                return {name: value.numpy()[:count].copy() for name, value in buffers.outputs.items()}
        finally:
            free.put(buffers)

    def _fits(self, size: int) -> bool:
        """Make the buffers of a size when they are first needed; where memory is wanting, do without that size."""
        if size in self._free or size not in self._sizes:  # another thread came first
            return size in self._free
        try:
            self._free[size] = self._recorded(size)
        except Exception as error:
            others = tuple(other for other in self._sizes if other < size or other in self._free)
            if not others or not is_want_of_memory(error):
                raise
            self._sizes = others
        return size in self._free

    def _recorded(self, size: int) -> "SimpleQueue[_Buffers]":
        """Make the sets of buffers of a size and record the kernels on each.

        They run unrecorded before: memory that is wanting while kernels are recorded is fatal.
        """
        from onnxruntime import RunOptions

        sets = [self._made(size) for _ in range(SETS)]
        unrecorded = RunOptions()
        unrecorded.add_run_config_entry("gpu_graph_id", _UNRECORDED)
        free: SimpleQueue[_Buffers] = SimpleQueue()
        with self._device.copying:
            self.session.run_with_iobinding(sets[0].binding, unrecorded)
            for buffers in sets:
                self._work_on(buffers)
                free.put(buffers)
        return free

    def _made(self, size: int) -> _Buffers:
        from onnxruntime import OrtValue, RunOptions

        (given,) = self.session.get_inputs()
        shape = (size, *given.shape[1:])
        staged = pinned(shape) if self._where == "cuda" else np.zeros(shape, np.uint8)
        images = OrtValue.ortvalue_from_numpy(staged, self._where)
        outputs = {
            output.name: OrtValue.ortvalue_from_shape_and_type(
                [size, *output.shape[1:]], _TYPES[output.type], self._where
            )
            for output in self.session.get_outputs()
        }
        binding = self.session.io_binding()
        binding.bind_ortvalue_input(contract.IMAGES, images)
        for name, value in outputs.items():
            binding.bind_ortvalue_output(name, value)
        options = RunOptions()
        options.add_run_config_entry("gpu_graph_id", str(next(self._names)))
        return _Buffers(staged, images, outputs, binding, options)
