"""A training step recorded as a CUDA graph: one launch in the place of hundreds, which take longer than the work."""

from collections.abc import Callable

import torch
from torch import Tensor

from rnnspn.training.batches import Pictures

_EAGER_STEPS = 3
"""Taken before recording: they choose kernels and allocate what stays."""


class RecordedStep:
    """Takes the first steps as they are, then records one and replays it.

    What is recorded are addresses: all that changes from step to step has to stay in the same tensors.

    Args:
        step: Takes a step on a batch, without ever waiting for the device, and returns a tensor on it.
    """

    def __init__(self, step: Callable[[Pictures], Tensor]) -> None:
        self._step = step
        self._taken = 0
        self._stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        self._graph: torch.cuda.CUDAGraph | None = None
        self._pictures: Pictures
        self._result: Tensor

    def __call__(self, pictures: Pictures) -> Tensor:
        """Return what the step returns, until the next one overwrites it; a batch of another shape is not replayed."""
        if self._taken < _EAGER_STEPS:
            self._taken += 1
            return self._take(pictures)
        if self._graph is None:
            self._graph = self._record(pictures)
        if _shapes(pictures) != _shapes(self._pictures):
            return self._take(pictures)
        for name, tensor in pictures.tensors.items():
            self._pictures.tensors[name].copy_(tensor)
        self._graph.replay()
        return self._result

    def _take(self, pictures: Pictures) -> Tensor:
        """Take a step on the stream that will be recorded."""
        self._stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._stream):
            result = self._step(pictures)
        torch.cuda.current_stream().wait_stream(self._stream)
        return result

    def _record(self, pictures: Pictures) -> torch.cuda.CUDAGraph:
        self._pictures = Pictures(**{name: tensor.clone() for name, tensor in pictures.tensors.items()})
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=self._stream, capture_error_mode="thread_local"):
            self._result = self._step(self._pictures)
        return graph


def _shapes(pictures: Pictures) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in pictures.tensors.items()}
