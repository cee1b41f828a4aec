"""Read pictures: decode, fit, run the model, and turn its outputs into readings.

Shapes: N pictures, T steps, K classes, H x W pixels.
"""

import contextlib
import functools
import itertools
import math
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from os import PathLike, fspath
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from rnnspn.alphabet import spelled
from rnnspn.errors import ImageError
from rnnspn.inference import model_file, session
from rnnspn.inference.cores import available_cores
from rnnspn.inference.forks import Room
from rnnspn.inference.model_file import ModelFile
from rnnspn.inference.records import Failure, Matrix, Quad, Reading, Record, Step
from rnnspn.inference.session import Engine, Outputs
from rnnspn.pictures import images, isolation
from rnnspn.pictures.images import Fitted, Letterbox, Source
from rnnspn.pictures.isolation import Load
from rnnspn.pictures.polarity import Polarity, expect_polarity

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")

_CORNERS = np.array([[-1, -1, 1], [1, -1, 1], [1, 1, 1], [-1, 1, 1]], np.float64)  # (x, y, 1), clockwise from top left
_PATIENCE_S = 0.5
"""How long a stream that is stopped waits for the pictures under way; a decoder cannot be interrupted."""
_CHANNELS = 4
_ONE = (str, bytes, bytearray, memoryview, PathLike)
"""What is one picture, though some of it can be iterated over."""
_WINDOW = 4
"""Batches under way or waiting to be taken, for each worker: what bounds the memory of a stream."""


@dataclass(frozen=True)
class Predictor:
    """A model that reads pictures, for any number of threads at a time.

    A process that is forked off may go on with it on the CPU; on CUDA it has to load its own.

    Attributes:
        engine: The model and the provider that runs it.
    """

    engine: Engine
    # Threads that decode at the same time only wrestle for the interpreter's lock; one decodes while others infer.
    _decoding: Room = field(default_factory=functools.partial(Room, 1), repr=False, compare=False)

    @classmethod
    def load(cls, path: str | PathLike[str] = model_file.BUNDLED, *, provider: str = "auto") -> "Predictor":
        """Load an exported model.

        Args:
            path: An `.onnx` file made by `rnnspn export`, or `"bundled"`.
            provider: One of `providers.Provider`.

        Raises:
            MissingPackageError: ONNX Runtime is not installed.
            ModelFileError: The file cannot be read or breaks the contract.
            ProviderError: The provider asked for cannot run here.
        """
        return cls(session.open_engine(model_file.load(fspath(path)), provider))

    @property
    def model(self) -> ModelFile:
        """The model."""
        return self.engine.model

    def predict(self, pictures: Sequence[Source] | NDArray[Any], *, polarity: Polarity = "auto") -> list[Reading]:
        """Read pictures in memory or on disk.

        Args:
            pictures: Paths, files' contents (bytes), Pillow images or arrays of any size; or one array (N, h, w) or
                (N, h, w, 3) of N pictures. All are fitted; `run` takes pictures as they are.
            polarity: Whether ink is dark or light; `auto` looks at the border.

        Returns:
            One reading for each picture, in order.

        Raises:
            ImageError: One of the pictures cannot be read.
            ValueError: It is one picture, and no sequence of them, or no such polarity.
        """
        if _is_one(pictures):
            raise ValueError(f"expected a list of pictures, got {_described(pictures)}")
        expect_polarity(polarity)
        height, width = self.model.metadata.height, self.model.metadata.width

        def fit(number: int, picture: Source) -> Fitted:
            try:
                return images.load(picture, height, width, polarity)
            except ImageError as error:
                name = fspath(picture) if isinstance(picture, str | PathLike) else f"picture {number}"
                raise ImageError(error.code, f"{name}: {error}") from None

        def read(batch: list[tuple[int, Source]], _: threading.Event) -> list[Reading]:
            with self._decoding:
                fitted = [fit(number, picture) for number, picture in batch]
            return self._read(fitted, polarity)

        return [reading for readings in self._in_order(list(enumerate(pictures)), read) for reading in readings]

    def run(self, pictures: NDArray[np.uint8]) -> Outputs:
        """Give the model's own outputs for pictures of its own size, which are taken as they are.

        Args:
            pictures: uint8 (N, H, W), 0 background to 255 ink, N at least 1.

        Raises:
            ValueError: They are of another size or kind, or none.
        """
        self.engine.expect(pictures)
        return Outputs.joined(list(self._in_order(pictures, lambda batch, _: self.engine.run(np.stack(batch)))))

    def batch_size(self, count: int) -> int:
        """Return how many of `count` pictures go into a batch: enough for speed, and something for every worker."""
        return min(self.engine.batch, max(1, math.ceil(count / self.engine.workers)))

    def stream(
        self, paths: Sequence[str], *, polarity: Polarity = "auto", first: int = 0, isolated: bool = False
    ) -> Generator[list[Record], None, None]:
        """Read any number of files: decoding and inference overlap, memory stays flat.

        Args:
            paths: Picture files, as `inputs.collect` lists them.
            polarity: Whether ink is dark or light; `auto` looks at the border.
            first: Where to begin, after whole batches; the batches are the same wherever that is.
            isolated: Decode in processes of their own, so that a decoder's crash costs one record.

        Yields:
            Records batch by batch, one for each path, in order. A picture that cannot be read gives a failure.

        Raises:
            ConfigError: `isolated` on a system that cannot limit a process.
            ValueError: `paths` is one path.
        """
        if _is_one(paths):
            raise ValueError(f"expected a list of paths, got {_described(paths)}")
        height, width = self.model.metadata.height, self.model.metadata.width
        with contextlib.ExitStack() as stack:
            if isolated:
                borrowed = stack.enter_context(isolation.Decoders(height, width, polarity)).borrowed
                workers = available_cores()  # each has a decoder of its own
            else:
                borrowed = functools.partial(self._loading, height, width, polarity)
                workers = self.engine.workers
            yield from self._in_order(
                paths, lambda batch, stopped: self._records(batch, borrowed, stopped, polarity), first, workers
            )

    @contextlib.contextmanager
    def _loading(self, height: int, width: int, polarity: Polarity) -> Iterator[Load]:
        with self._decoding:
            yield functools.partial(images.load_all, height=height, width=width, polarity=polarity)

    def _records(
        self,
        paths: Sequence[str],
        borrowed: Callable[[], AbstractContextManager[Load]],
        stopped: threading.Event,
        polarity: Polarity,
    ) -> list[Record]:
        outcomes: list[tuple[str, Fitted | ImageError]] = []
        with borrowed() as load:
            for outcome in zip(paths, load(paths), strict=False):
                outcomes.append(outcome)
                if stopped.is_set():
                    break
        readings = iter(self._read([outcome for _, outcome in outcomes if isinstance(outcome, Fitted)], polarity))
        return [
            Record(path, next(readings) if isinstance(outcome, Fitted) else Failure(outcome.code, str(outcome)))
            for path, outcome in outcomes
        ]

    def _in_order(
        self,
        items: Sequence[_Item] | NDArray[np.uint8],
        work: Callable[[list[_Item], threading.Event], _Result],
        first: int = 0,
        workers: int = 0,
    ) -> Generator[_Result, None, None]:
        """Do the work in batches on the engine's workers, or more, and give the results in order, a few ahead."""
        workers, size = max(workers, self.engine.workers), self.batch_size(len(items))
        source: Iterator[_Item] = itertools.islice(items, first, None)
        stopped = threading.Event()
        pending: deque[Future[_Result]] = deque()

        def next_done() -> _Result:
            result = pending[0].result()  # stays among those to stop while it is waited for
            pending.popleft()
            return result

        pool = ThreadPoolExecutor(workers, thread_name_prefix="rnnspn")
        try:
            while batch := list(itertools.islice(source, size)):
                pending.append(pool.submit(work, batch, stopped))
                if len(pending) >= _WINDOW * workers:
                    yield next_done()
            while pending:
                yield next_done()
        finally:
            stopped.set()
            under_way = wait([future for future in pending if not future.cancel()], _PATIENCE_S).not_done
            pool.shutdown(wait=not under_way)

    def _read(self, fitted: Sequence[Fitted], polarity: Polarity) -> list[Reading]:
        if not fitted:
            return []
        outputs = self.engine.run(np.stack([picture.pixels for picture in fitted]))
        metadata, provider, model_sha256 = self.model.metadata, self.engine.provider, self.model.sha256
        chosen = outputs.chosen
        classes = outputs.digits.tolist()
        characters = [metadata.alphabet[index] for row in classes for index in row]
        quads, matrices = self._attended(outputs.theta, [picture.letterbox for picture in fitted])
        steps = map(Step, characters, chosen.ravel().tolist(), quads, matrices)  # N*T of them, picture by picture
        return [
            Reading(digits, confidence, taken[: len(digits)], provider, model_sha256, polarity)
            for digits, confidence, taken in zip(
                [spelled(row, metadata.alphabet) for row in classes],
                chosen.prod(axis=1, dtype=np.float64).tolist(),
                _grouped(steps, metadata.steps),
                strict=True,
            )
        ]

    def _attended(
        self, theta: NDArray[np.float32] | None, letterboxes: Sequence[Letterbox]
    ) -> tuple[Iterable[Quad | None], Iterable[Matrix | None]]:
        """Give the quadrilateral and the affine matrix of every step, picture by picture."""
        if theta is None:
            return itertools.repeat(None), itertools.repeat(None)
        metadata = self.model.metadata
        theta = np.broadcast_to(theta, (len(letterboxes), metadata.steps, 2, 3))  # `ffn-spn` has one for all steps
        corners = _CORNERS @ theta.swapaxes(-1, -2)  # (N, T, 4, 2)
        corners = images.to_source(corners, letterboxes, metadata.height, metadata.width)
        return _grouped(_grouped(corners.ravel().tolist(), 2), 4), _grouped(theta.ravel().tolist(), 6)


def _is_one(pictures: object) -> bool:
    """Tell whether this is a single picture rather than several of them."""
    if isinstance(pictures, np.ndarray):
        return pictures.ndim < 3 or (pictures.ndim == 3 and pictures.shape[-1] <= _CHANNELS)
    return isinstance(pictures, _ONE) or not isinstance(pictures, Sequence)


def _described(pictures: object) -> str:
    kind = type(pictures).__name__
    if isinstance(pictures, Iterable) and not isinstance(pictures, (*_ONE, np.ndarray)):
        return f"a {kind}: make a list of it"
    return f"one {kind}: put it into a list"


def _grouped(values: Iterable[Any], size: int) -> Iterator[Any]:
    """Yield tuples of `size` values each."""
    return zip(*[iter(values)] * size, strict=True)
