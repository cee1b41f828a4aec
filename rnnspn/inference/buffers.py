"""A session that works on buffers of its device, one set for each size of batch.

The buffers stay where they are, so that CUDA can record the kernels of each size once, as a CUDA graph, and replay them
at every later batch; a batch between two sizes is padded to the larger one. While the device reads one batch, the next
is put in place on the host.

All that uses the device is done by one thread, for all sessions of the process: the runtime records kernels for the
thread that runs them, and while it does, a copy, an allocation or another session in any other would end the recording.

Shapes: N pictures, H x W pixels.
"""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from rnnspn import contract
from rnnspn.errors import is_want_of_memory
from rnnspn.inference.pinned import pinned

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

SIZES = (1, 16, 64, 256, 1024)
"""Sizes of batches that buffers are kept for."""

_PLACES = 2
"""Batches of a size that are on the host at a time: one is copied to the device, one comes next."""

_TYPES = {"tensor(float)": np.float32, "tensor(int64)": np.int64}
_UNRECORDED = "-1"
"""The runtime's name for a run whose kernels are not recorded."""

_Value = TypeVar("_Value")
_DEVICE = ThreadPoolExecutor(1, thread_name_prefix="rnnspn-device")


def on_device(work: Callable[[], _Value]) -> _Value:
    """Do what uses a GPU when nothing else does."""
    return _DEVICE.submit(work).result()


class _Buffers(NamedTuple):
    """The buffers of one size of batch.

    Attributes:
        size: Pictures that they hold.
        places: Those on the host that are free, uint8 (size, H, W), behind the last picture zeros or older pictures.
        images: The same on the device.
        outputs: The outputs on the device, by name.
        binding: Tells the session of all of them.
        options: Names the recorded kernels.
    """

    size: int
    places: "SimpleQueue[NDArray[np.uint8]]"
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
        self._device = device
        self._buffers: dict[int, _Buffers] = {}
        self._sizes: tuple[int, ...] = SIZES  # those that have fitted into memory, or may
        self._thread = _DEVICE

    def run(self, images: NDArray[np.uint8]) -> dict[str, NDArray[Any]]:
        """Return the outputs, by name, of uint8 (N, H, W)."""
        coming = []
        while len(images):
            buffers = self._buffers_for(len(images))
            coming.append(self._submit(buffers, images[: buffers.size]))
            images = images[buffers.size :]
        parts = [part.result() for part in coming]
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def repeat(self, size: int) -> None:
        """Read once more what the buffers of a size hold, for timing the device alone."""
        self._thread.submit(self._run_again, size).result()

    def _run_again(self, size: int) -> None:
        buffers = self._of(size)
        self.session.run_with_iobinding(buffers.binding, buffers.options)

    def _buffers_for(self, count: int) -> _Buffers:
        """Return the buffers for all of so many pictures, or for as many of them as go together."""
        *smaller, largest = self._sizes
        if largest == SIZES[-1] and count <= largest // 2:  # more than half empty, those cost more
            largest = smaller[-1]
        size = next((size for size in smaller if count <= size), largest)
        return self._buffers.get(size) or self._thread.submit(self._of, size).result()

    def _submit(self, buffers: _Buffers, images: NDArray[np.uint8]) -> "Future[dict[str, NDArray[Any]]]":
        """Put pictures in place, as soon as one is free, and let the thread read them."""
        staged = buffers.places.get()
        try:
            staged[: len(images)] = images
            return self._thread.submit(self._run_staged, buffers, staged, len(images))
        except BaseException:
            buffers.places.put(staged)
            raise

    def _run_staged(self, buffers: _Buffers, staged: NDArray[np.uint8], count: int) -> dict[str, NDArray[Any]]:
        try:
            buffers.images.update_inplace(staged)
        finally:
            buffers.places.put(staged)
        self.session.run_with_iobinding(buffers.binding, buffers.options)
        return {name: value.numpy()[:count].copy() for name, value in buffers.outputs.items()}

    def _of(self, size: int) -> _Buffers:
        """Return the buffers of a size, made when they are first needed, or the largest that fit into memory."""
        size = min(size, self._sizes[-1])
        while size not in self._buffers:
            try:
                self._buffers[size] = self._tried(size)
            except Exception as error:
                smaller = tuple(other for other in self._sizes if other < size)
                if not smaller or not is_want_of_memory(error):
                    raise
                self._sizes, size = smaller, smaller[-1]
        return self._buffers[size]

    def _tried(self, size: int) -> _Buffers:
        """Make the buffers of a size and run them once: memory that is wanting while kernels are recorded is fatal."""
        from onnxruntime import RunOptions

        buffers = self._made(size)
        unrecorded = RunOptions()
        unrecorded.add_run_config_entry("gpu_graph_id", _UNRECORDED)
        self.session.run_with_iobinding(buffers.binding, unrecorded)
        return buffers

    def _made(self, size: int) -> _Buffers:
        from onnxruntime import OrtValue, RunOptions

        (given,) = self.session.get_inputs()
        shape = (size, *given.shape[1:])
        images = OrtValue.ortvalue_from_numpy(np.zeros(shape, np.uint8), self._device)
        places: SimpleQueue[NDArray[np.uint8]] = SimpleQueue()
        for _ in range(_PLACES):
            places.put(pinned(shape) if self._device == "cuda" else np.zeros(shape, np.uint8))
        outputs = {
            output.name: OrtValue.ortvalue_from_shape_and_type(
                [size, *output.shape[1:]], _TYPES[output.type], self._device
            )
            for output in self.session.get_outputs()
        }
        binding = self.session.io_binding()
        binding.bind_ortvalue_input(contract.IMAGES, images)
        for name, value in outputs.items():
            binding.bind_ortvalue_output(name, value)
        options = RunOptions()
        options.add_run_config_entry("gpu_graph_id", str(size))
        return _Buffers(size, places, images, outputs, binding, options)
