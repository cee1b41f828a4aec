"""Run a model in batches on one provider, from any number of threads, and check what comes out.

Shapes: N pictures, T steps, K classes, H x W pixels.
"""

import contextlib
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from rnnspn import contract
from rnnspn.errors import ModelFileError, OutOfMemoryError, ProviderError, is_want_of_memory
from rnnspn.inference.buffers import BufferedSession, on_device
from rnnspn.inference.cores import available_cores
from rnnspn.inference.forks import Room
from rnnspn.inference.model_file import ModelFile
from rnnspn.inference.providers import PROVIDERS, Provider, open_session
from rnnspn.inference.runtime import one_line, want_of_memory

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

_Runner = Callable[[NDArray[np.uint8]], dict[str, NDArray[Any]]]
"""Takes uint8 (N, H, W), gives the outputs by name; one thread may call it at a time."""

_CUDA_WORKERS = 3
"""While one waits for the device, one fills buffers, and one decodes or makes readings of what came back."""
_OPENVINO_WAITING = 1
"""Workers beyond the streams, so that none of these stands idle between two batches."""


class Outputs(NamedTuple):
    """What a model says about N pictures.

    Attributes:
        digits: int64 (N, T), class index of each step.
        probabilities: float32 (N, T, K).
        theta: float32 (N, T, 2, 3), (N, 1, 2, 3) for `ffn-spn`, None for `conv`.
    """

    digits: NDArray[np.int64]
    probabilities: NDArray[np.float32]
    theta: NDArray[np.float32] | None

    @property
    def chosen(self) -> NDArray[np.float32]:
        """Probability of the digit that each step chose, float32 (N, T)."""
        return np.take_along_axis(self.probabilities, self.digits[..., None], axis=-1)[..., 0]

    @classmethod
    def joined(cls, parts: "Sequence[Outputs]") -> "Outputs":
        """Put the outputs of one batch after those of the other."""
        thetas = [part.theta for part in parts if part.theta is not None]
        digits, probabilities = (np.concatenate([part[name] for part in parts]) for name in (0, 1))
        return cls(digits, probabilities, np.concatenate(thetas) if thetas else None)


@dataclass(frozen=True)
class Engine:
    """A model ready to run, from any number of threads at a time.

    On the CPU every thread that calls gets a session of one thread for itself, made when it is first needed: on small
    batches that beats one session of many threads. More than `workers` threads wait for each other. On CUDA all share
    one, and all such sessions one thread; see `buffers`. On OpenVINO, which has streams of its own, all share one.

    Attributes:
        model: The model.
        provider: What really runs it: one of `Provider` but `auto`.
        reason: Why it is that one, in a few words.
        workers: Threads that should call `run` at a time.
        batch: Pictures a call for the best throughput.
    """

    model: ModelFile
    provider: str
    reason: str
    workers: int
    batch: int
    _idle: deque[_Runner] = field(repr=False)
    _room: Room = field(repr=False)

    @property
    def summary(self) -> str:
        """Name the provider and the reason for it in one line."""
        return f"{self.provider} ({self.reason})"

    def run(self, images: NDArray[np.uint8]) -> Outputs:
        """Run the model on a batch; one that does not fit into memory is run in halves.

        Args:
            images: uint8 (N, H, W), 0 background to 255 ink.

        Raises:
            ModelFileError: The model fails while it runs, or its outputs break the contract.
            OutOfMemoryError: There is too little memory for one picture.
            ProviderError: The same on another provider than the CPU.
            ValueError: The pictures are not as the model takes them.
        """
        self.expect(images)
        runner = self._take()
        try:
            outputs = runner(images)
        except Exception as error:
            if len(images) == 1 or not is_want_of_memory(error):
                if self.provider == "cpu" and is_want_of_memory(error):
                    raise want_of_memory(self.model.path, error) from error
                failure = ModelFileError if self.provider == "cpu" else ProviderError
                raise failure(
                    f"{self.model.path} failed while running on {self.provider}: {one_line(error)}"
                ) from error
            outputs = None
        finally:
            self._give_back(runner)
        return self._run_halves(images) if outputs is None else self._checked(outputs, len(images))

    def expect(self, images: NDArray[np.uint8]) -> None:
        """Raise ValueError where pictures are not as the model takes them."""
        size = self.model.metadata.height, self.model.metadata.width
        if not isinstance(images, np.ndarray):
            got = type(images).__name__
        elif images.dtype != np.uint8 or images.shape[1:] != size or not len(images):
            got = f"{images.dtype} {images.shape}"
        else:
            return
        raise ValueError(f"expected pictures, uint8 (N, {size[0]}, {size[1]}), one or more; got {got}")

    def _run_halves(self, images: NDArray[np.uint8]) -> Outputs:
        half = len(images) // 2
        return Outputs.joined([self.run(images[:half]), self.run(images[half:])])

    @property
    def _shared(self) -> bool:
        return self.provider != "cpu"

    def _take(self) -> _Runner:
        if self._shared:
            return self._idle[0]
        while True:
            self._room.enter()
            try:
                with contextlib.suppress(IndexError):
                    return self._idle.pop()
                return _open(self.model, self.provider)
            except OutOfMemoryError:  # no further session: wait for one of those that there are
                if not self._room.narrow():
                    self._room.leave()
                    raise
            except BaseException:
                self._room.leave()
                raise

    def _give_back(self, runner: _Runner) -> None:
        if not self._shared:
            self._idle.append(runner)
            self._room.leave()

    def _checked(self, outputs: dict[str, Any], count: int) -> Outputs:
        metadata = self.model.metadata
        steps, classes = metadata.steps, len(metadata.alphabet)
        digits, probabilities = outputs[contract.DIGITS], outputs[contract.PROBABILITIES]
        theta = outputs.get(contract.THETA)
        sound = (
            digits.shape == (count, steps)
            and probabilities.shape == (count, steps, classes)
            and bool(((digits >= 0) & (digits < classes)).all() and np.isfinite(probabilities).all())
            and (theta is None or (theta.shape[0] == count and bool(np.isfinite(theta).all())))
        )
        if not sound:
            fault = "its outputs break the contract (shape or values)"
            if self.provider == "cpu":
                raise ModelFileError(f"{self.model.path}: {fault}; export it again")
            raise ProviderError(f"{self.model.path} on {self.provider}: {fault}; see whether --provider cpu reads it")
        return Outputs(digits, probabilities, theta)


def open_engine(model: ModelFile, provider: str = "auto") -> Engine:
    """Make a model ready to run.

    Args:
        model: A checked model.
        provider: One of `Provider`; `auto` is CUDA where it really works, else the CPU.

    Raises:
        MissingPackageError: ONNX Runtime is not installed.
        ModelFileError: ONNX Runtime refuses the model.
        OutOfMemoryError: There is too little memory for the model.
        ProviderError: The provider asked for cannot run here, or may not run this model.
    """
    if provider not in get_args(Provider):
        raise ProviderError(f"expected the provider {', '.join(get_args(Provider))}; got {provider!r}")
    if provider != "auto":
        if PROVIDERS[provider].multiplies_in == "bfloat16" and not model.metadata.parity.get(contract.BFLOAT16):
            raise ProviderError(
                f"{model.path} has not passed the accuracy gate for bfloat16; export it with --bfloat16, "
                "or use --provider openvino"
            )
        return _engine(model, provider, "as asked")
    try:
        return _engine(model, "cuda", "auto: a CUDA device works")
    except ProviderError as error:  # its mend is for those who asked for CUDA
        return _engine(model, "cpu", f"auto: {str(error).partition(';')[0]}")


def _engine(model: ModelFile, provider: str, reason: str) -> Engine:
    # The first session is made here, so that a model that cannot run fails at once.
    traits = PROVIDERS[provider]
    cores = available_cores()
    workers = {"cpu": cores, "cuda": _CUDA_WORKERS, "openvino": cores + _OPENVINO_WAITING}[traits.kind]
    idle, room = deque([_open(model, provider)]), Room(workers)
    engine = Engine(model, provider, reason, workers, traits.batch, idle, room)
    if traits.kind == "cuda":  # what CUDA lacks is only found when kernels run
        engine.run(np.zeros((1, model.metadata.height, model.metadata.width), np.uint8))
    return engine


def _open(model: ModelFile, provider: str) -> _Runner:
    if PROVIDERS[provider].kind == "cuda":
        return BufferedSession(on_device(partial(open_session, model.content, provider, model.path)), "cuda").run
    return partial(_run, open_session(model.content, provider, model.path))


def _run(session: "InferenceSession", images: NDArray[np.uint8]) -> dict[str, NDArray[Any]]:
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, {contract.IMAGES: images}), strict=True))
