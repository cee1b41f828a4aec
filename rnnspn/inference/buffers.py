"""A session that works on buffers of its device, one set for each size of batch.

The buffers stay where they are, so that CUDA can record the kernels of each size once, as a CUDA graph, and replay them
at every later batch; a batch between two sizes is padded to the larger one. While the device reads one batch, the next
is put in place on the host.

Shapes: N pictures, H x W pixels.
"""

from concurrent.futures import Future, ThreadPoolExecutor
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rnnspn import contract
from rnnspn.inference.pinned import pinned

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

SIZES = (1, 16, 64, 256, 1024)
"""Sizes of batches that buffers are kept for."""

_PLACES = 2
"""Batches of a size that are on the host at a time: one is copied to the device, one comes next."""

_TYPES = {"tensor(float)": np.float32, "tensor(int64)": np.int64}


class _Buffers(NamedTuple):
    """The buffers of one size of batch.

    Attributes:
        places: Those on the host that are free, uint8 (size, H, W), behind the last picture zeros or older pictures.
        images: The same on the device.
        outputs: The outputs on the device, by name.
        binding: Tells the session of all of them.
        options: Names the recorded kernels.
    """

    places: "SimpleQueue[NDArray[np.uint8]]"
    images: Any
    outputs: dict[str, Any]
    binding: Any
    options: Any


def _taken(count: int) -> int:
    """Return how many of so many pictures go together: the largest buffers, if more than half empty, cost more."""
    return min(count, SIZES[-1] if count > SIZES[-1] // 2 else SIZES[-2])


class BufferedSession:
    """Runs a session on the buffers of its device, for any number of threads at a time.

    All work on the device is done by one thread of its own: the runtime records kernels for the thread that runs them,
    and while it does, no other may use the device.

    Args:
        session: The session.
        device: Where it runs, in the runtime's words: `cuda` or `cpu`.
    """

    def __init__(self, session: "InferenceSession", device: str) -> None:
        self.session = session
        self._device = device
        self._buffers: dict[int, _Buffers] = {}
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=f"rnnspn-{device}")

    def run(self, images: NDArray[np.uint8]) -> dict[str, NDArray[Any]]:
        """Return the outputs, by name, of uint8 (N, H, W)."""
        coming, first = [], 0
        while first < len(images):
            last = first + _taken(len(images) - first)
            coming.append(self._submit(images[first:last]))
            first = last
        parts = [part.result() for part in coming]
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def repeat(self, size: int) -> None:
        """Read once more what the buffers of a size hold, for timing the device alone."""
        self._thread.submit(self._run_again, size).result()

    def _run_again(self, size: int) -> None:
        buffers = self._of(size)
        self.session.run_with_iobinding(buffers.binding, buffers.options)

    def _submit(self, images: NDArray[np.uint8]) -> "Future[dict[str, NDArray[Any]]]":
        """Put pictures in place, as soon as one is free, and let the thread read them."""
        size = next(size for size in SIZES if len(images) <= size)
        buffers = self._buffers.get(size) or self._thread.submit(self._of, size).result()
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
        """Return the buffers of a size, made when they are first needed."""
        if size not in self._buffers:
            self._buffers[size] = self._made(size)
        return self._buffers[size]

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
        return _Buffers(places, images, outputs, binding, options)
