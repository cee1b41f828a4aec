"""Read pictures: decode, fit, run the model, and turn its outputs into readings.

Shapes: N pictures, T steps, K classes, H x W pixels.
"""

import itertools
import math
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from os import PathLike, fspath
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from rnnspn.errors import ImageError
from rnnspn.inference import images, model_file, session
from rnnspn.inference.images import Fitted, Placement, Polarity, Source
from rnnspn.inference.model_file import ModelFile
from rnnspn.inference.session import Engine

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")

Point = tuple[float, float]
Quad = tuple[Point, Point, Point, Point]
Matrix = tuple[float, ...]

_CORNERS = np.array([[-1, -1, 1], [1, -1, 1], [1, 1, 1], [-1, 1, 1]], np.float64)  # (x, y, 1), clockwise from top left
_WINDOW = 4
"""Batches under way or waiting to be taken, for each worker: what bounds the memory of a stream."""


@dataclass(frozen=True)
class Step:
    """One digit of a reading.

    Attributes:
        digit: Its character.
        probability: Its probability, from 0 to 1.
        quad: Corners of the attended quadrilateral, (x, y) in pixels of the picture as displayed (after its EXIF
            orientation), (0, 0) the centre of the top left pixel; they are the glimpse's corners top left, top right,
            bottom right, bottom left, and may lie outside the picture. None for `conv`.
        theta: The affine matrix, row by row; None for `conv`.
    """

    digit: str
    probability: float
    quad: Quad | None
    theta: Matrix | None = field(repr=False)


@dataclass(frozen=True)
class Reading:
    """What a model reads in one picture.

    Attributes:
        digits: The sequence of characters.
        confidence: Product of the steps' probabilities, from 0 to 1.
        steps: One entry for each digit.
        provider: What ran the model: `cpu`, `cuda`, `openvino` or `openvino-bfloat16`.
        model_sha256: SHA-256 of the model file, in hexadecimal.
    """

    digits: str
    confidence: float
    steps: tuple[Step, ...]
    provider: str
    model_sha256: str = field(repr=False)


@dataclass(frozen=True)
class Failure:
    """Why a picture could not be read.

    Attributes:
        code: A stable word for programs; `decoding` lists them.
        message: One line for a person.
    """

    code: str
    message: str


@dataclass(frozen=True)
class Record:
    """What became of one path.

    Attributes:
        path: The path, as `os.fsdecode` makes it.
        outcome: The reading, or why there is none.
    """

    path: str
    outcome: Reading | Failure


@dataclass(frozen=True)
class Predictor:
    """A model that reads pictures.

    Attributes:
        engine: The model and the provider that runs it.
    """

    engine: Engine
    # Threads that decode at the same time only wrestle for the interpreter's lock; one decodes while others infer.
    _decoding: threading.Lock = field(default_factory=threading.Lock, repr=False, compare=False)

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

    def predict(self, pictures: NDArray[np.uint8] | Sequence[Source], *, polarity: Polarity = "auto") -> list[Reading]:
        """Read pictures in memory or on disk.

        Args:
            pictures: uint8 (N, H, W) of the model's own size, 0 background to 255 ink, taken as they are; or a sequence
                of paths, Pillow images and arrays of any size, which are fitted.
            polarity: Whether ink is dark or light; `auto` looks at the border. Not for pictures taken as they are.

        Returns:
            One reading for each picture, in order.

        Raises:
            ImageError: One of the pictures cannot be read.
        """
        if isinstance(pictures, str | PathLike) or not isinstance(pictures, Sequence | np.ndarray):
            raise ValueError(f"expected a sequence of pictures, got one {type(pictures).__name__}; put it into a list")
        metadata = self.model.metadata
        height, width = metadata.height, metadata.width
        placement = Placement.fitting(width, height, width, height)

        def fit(picture: Source) -> Fitted:
            if as_they_are and isinstance(picture, np.ndarray):
                return Fitted(picture, placement)
            return images.load(picture, height, width, polarity)

        as_they_are = (
            isinstance(pictures, np.ndarray) and pictures.dtype == np.uint8 and pictures.shape[1:] == (height, width)
        )
        batches = self._in_order(pictures, lambda batch, _: self._read([fit(picture) for picture in batch]))
        return [reading for readings in batches for reading in readings]

    def batch_size(self, count: int) -> int:
        """Return how many of `count` pictures go into a batch: enough for speed, and something for every worker."""
        return min(self.engine.batch, max(1, math.ceil(count / self.engine.workers)))

    def stream(
        self, paths: Sequence[str], *, polarity: Polarity = "auto", first: int = 0
    ) -> Generator[list[Record], None, None]:
        """Read any number of files: decoding and inference overlap, memory stays flat.

        Args:
            paths: Picture files, as `inputs.collect` lists them.
            polarity: Whether ink is dark or light; `auto` looks at the border.
            first: Where to begin, after whole batches; the batches are the same wherever that is.

        Yields:
            Records batch by batch, one for each path, in order. A picture that cannot be read gives a failure.
        """
        yield from self._in_order(paths, lambda batch, stopped: self._records(batch, polarity, stopped), first)

    def _records(self, paths: Iterable[str], polarity: Polarity, stopped: threading.Event) -> list[Record]:
        metadata = self.model.metadata
        outcomes: list[tuple[str, Fitted | Failure]] = []
        with self._decoding:
            for path in paths:
                if stopped.is_set():
                    break
                try:
                    outcomes.append((path, images.load(path, metadata.height, metadata.width, polarity)))
                except ImageError as error:
                    outcomes.append((path, Failure(error.code, str(error))))
        readings = iter(self._read([outcome for _, outcome in outcomes if isinstance(outcome, Fitted)]))
        return [Record(path, outcome if isinstance(outcome, Failure) else next(readings)) for path, outcome in outcomes]

    def _in_order(
        self,
        items: Sequence[_Item] | NDArray[np.uint8],
        work: Callable[[list[_Item], threading.Event], _Result],
        first: int = 0,
    ) -> Generator[_Result, None, None]:
        """Do the work in batches on the engine's workers and give the results in order, a bounded number ahead."""
        engine, size = self.engine, self.batch_size(len(items))
        source: Iterator[_Item] = itertools.islice(items, first, None)
        stopped = threading.Event()
        pending: deque[Future[_Result]] = deque()
        pool = ThreadPoolExecutor(engine.workers, thread_name_prefix="rnnspn")
        try:
            while batch := list(itertools.islice(source, size)):
                pending.append(pool.submit(work, batch, stopped))
                if len(pending) >= _WINDOW * engine.workers:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            stopped.set()
            pool.shutdown(cancel_futures=True)

    def _read(self, fitted: Sequence[Fitted]) -> list[Reading]:
        if not fitted:
            return []
        outputs = self.engine.run(np.stack([picture.pixels for picture in fitted]))
        metadata, provider, model_sha256 = self.model.metadata, self.engine.provider, self.model.sha256
        chosen = np.take_along_axis(outputs.probabilities, outputs.digits[..., None], axis=-1)[..., 0]  # (N, T)
        characters = [metadata.alphabet[index] for index in outputs.digits.ravel().tolist()]
        quads, matrices = self._attended(outputs.theta, [picture.placement for picture in fitted])
        steps = map(Step, characters, chosen.ravel().tolist(), quads, matrices)  # N*T of them, picture by picture
        return [
            Reading("".join(characters[first : first + metadata.steps]), confidence, taken, provider, model_sha256)
            for first, confidence, taken in zip(
                range(0, len(characters), metadata.steps),
                chosen.prod(axis=1, dtype=np.float64).tolist(),
                _grouped(steps, metadata.steps),
                strict=True,
            )
        ]

    def _attended(
        self, theta: NDArray[np.float32] | None, placements: Sequence[Placement]
    ) -> tuple[Iterable[Quad | None], Iterable[Matrix | None]]:
        """Give the quadrilateral and the affine matrix of every step, picture by picture."""
        if theta is None:
            return itertools.repeat(None), itertools.repeat(None)
        metadata = self.model.metadata
        theta = np.broadcast_to(theta, (len(placements), metadata.steps, 2, 3))  # `ffn-spn` has one for all steps
        corners = _CORNERS @ theta.swapaxes(-1, -2)  # (N, T, 4, 2)
        corners = images.to_source(corners, placements, metadata.height, metadata.width)
        return _grouped(_grouped(corners.ravel().tolist(), 2), 4), _grouped(theta.ravel().tolist(), 6)


def _grouped(values: Iterable[Any], size: int) -> Iterator[Any]:
    """Yield tuples of `size` values each."""
    return zip(*[iter(values)] * size, strict=True)
