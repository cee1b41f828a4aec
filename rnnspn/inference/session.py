"""Run a model with ONNX Runtime on the provider that was asked for, and say which one that is.

Shapes: N pictures, T steps, K classes, H x W pixels.
"""

import contextlib
import io
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rnnspn import contract
from rnnspn.errors import MissingPackageError, ModelFileError, ProviderError
from rnnspn.inference.cores import available_cores
from rnnspn.inference.model_file import ModelFile

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

Provider = Literal["auto", "cpu", "cuda"]

CPU_BATCH = 16
"""Pictures a call: more leave the cache of a core."""
CUDA_BATCH = 256

_FULL_NAMES = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
_FATAL = 4
"""ONNX Runtime's log level that leaves stderr to us; its exceptions carry what matters."""


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


@dataclass(frozen=True)
class Engine:
    """A model ready to run, from any number of threads at a time.

    On the CPU every thread that calls gets a session of one thread for itself, made when it is first needed: on small
    batches that beats one session of many threads. On CUDA all share one.

    Attributes:
        model: The model.
        provider: What really runs it: `cpu` or `cuda`.
        reason: Why it is that one, in a few words.
        workers: Threads that should call `run` at a time.
        batch: Pictures a call for the best throughput.
    """

    model: ModelFile
    provider: str
    reason: str
    workers: int
    batch: int
    _idle: "deque[InferenceSession]" = field(repr=False)

    @property
    def summary(self) -> str:
        """Name the provider and the reason for it in one line."""
        return f"{self.provider} ({self.reason})"

    def run(self, images: NDArray[np.uint8]) -> Outputs:
        """Run the model on a batch.

        Args:
            images: uint8 (N, H, W), 0 background to 255 ink.

        Raises:
            ModelFileError: The model fails while it runs, or its outputs break the contract.
            ProviderError: The same on CUDA.
        """
        session = self._take()
        names = [output.name for output in session.get_outputs()]
        try:
            outputs = dict(zip(names, session.run(names, {contract.IMAGES: images}), strict=True))
        except Exception as error:
            failure = ModelFileError if self.provider == "cpu" else ProviderError
            raise failure(f"{self.model.path} failed while running on {self.provider}: {_one_line(error)}") from error
        finally:
            self._give_back(session)
        return self._checked(outputs, len(images))

    def _take(self) -> "InferenceSession":
        if self.provider != "cpu":
            return self._idle[0]
        try:
            return self._idle.pop()
        except IndexError:
            return _session(self.model, self.provider)

    def _give_back(self, session: "InferenceSession") -> None:
        if self.provider == "cpu":
            self._idle.append(session)

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
            raise ModelFileError(
                f"{self.model.path}: its outputs break the contract (shape or values); export it again"
            )
        return Outputs(digits, probabilities, theta)


def open_engine(model: ModelFile, provider: str = "auto") -> Engine:
    """Make a model ready to run.

    Args:
        model: A checked model.
        provider: `cpu`, `cuda`, or `auto`: CUDA where it really works, else the CPU.

    Raises:
        MissingPackageError: ONNX Runtime is not installed.
        ModelFileError: ONNX Runtime refuses the model.
        ProviderError: The provider asked for cannot run here.
    """
    if provider not in ("auto", *_FULL_NAMES):
        raise ProviderError(f"expected the provider auto, {', '.join(_FULL_NAMES)}; got {provider!r}")
    if provider == "cpu":
        return _cpu_engine(model, "as asked")
    try:
        session = _cuda_session(model)
    except ProviderError as error:
        if provider == "cuda":
            raise
        # The mend is for those who asked for CUDA.
        return _cpu_engine(model, f"auto: {str(error).partition(';')[0]}")
    reason = "as asked" if provider == "cuda" else "auto: a CUDA device works"
    return Engine(model, "cuda", reason, available_cores(), CUDA_BATCH, deque([session]))


def _cpu_engine(model: ModelFile, reason: str) -> Engine:
    # The first session is made here, so that a model that cannot run fails at once.
    return Engine(model, "cpu", reason, available_cores(), CPU_BATCH, deque([_session(model, "cpu")]))


def _cuda_session(model: ModelFile) -> "InferenceSession":
    runtime = _runtime()
    if _FULL_NAMES["cuda"] not in runtime.get_available_providers():
        raise ProviderError(
            "this onnxruntime has no CUDA provider; for an NVIDIA GPU: "
            "pip uninstall onnxruntime && pip install 'rnnspn[gpu]'"
        )
    session = _session(model, "cuda")
    # With no usable GPU the runtime only falls back in silence: what the session itself says is what counts.
    if session.get_providers()[0] != _FULL_NAMES["cuda"]:
        raise ProviderError("CUDA does not start here; check that nvidia-smi works, and pip install 'rnnspn[gpu]'")
    return session


def _session(model: ModelFile, provider: str) -> "InferenceSession":
    runtime = _runtime()
    options = runtime.SessionOptions()
    options.log_severity_level = _FATAL
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        if provider == "cuda":
            # Libraries from the pip packages are only found when they are loaded beforehand; it prints what it misses.
            with contextlib.redirect_stdout(io.StringIO()):
                runtime.preload_dlls()
        # Its fallback would print on stdout, among the results, and run on another provider than we say.
        return runtime.InferenceSession(
            model.content, options, providers=[_FULL_NAMES[provider]], enable_fallback=False
        )
    except Exception as error:
        if provider == "cuda":
            raise ProviderError(f"CUDA does not start here: {_one_line(error)}") from error
        raise ModelFileError(f"{model.path}: ONNX Runtime refuses it: {_one_line(error)}; export it again") from error


def _runtime() -> Any:
    try:
        import onnxruntime
    except ImportError:
        raise MissingPackageError(
            "reading pictures needs ONNX Runtime; install it with pip install 'rnnspn[cpu]', "
            "or pip install 'rnnspn[gpu]' for an NVIDIA GPU"
        ) from None
    onnxruntime.set_default_logger_severity(_FATAL)
    return onnxruntime


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
