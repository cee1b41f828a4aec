"""How fast a model runs here: latency of a call, and throughput of all workers together.

Shapes: N pictures, H x W pixels.
"""

import io
import threading
import time
from collections.abc import Callable, Sequence, Sized
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from rnnspn.inference.session import Engine
from rnnspn.pictures import decoding, images

_Batch = TypeVar("_Batch", bound=Sized)

_WARM_UP_CALLS = 3
_LEAST_CALLS = 5


@dataclass(frozen=True)
class Timing:
    """What was measured at one batch size.

    Attributes:
        batch: Pictures a call.
        decoding: Whether every call decodes its pictures, PNG files in memory, first.
        p50_ms: Median time of a call when only one is under way, in milliseconds.
        p95_ms: The time that 95 of 100 such calls stay under, in milliseconds.
        workers: Calls under way at a time for the throughput.
        images_per_second: Pictures a second with all workers busy.
    """

    batch: int
    decoding: bool
    p50_ms: float
    p95_ms: float
    workers: int
    images_per_second: float

    def to_dict(self) -> dict[str, Any]:
        """Return the figures as a dictionary that JSON can hold."""
        return asdict(self)


def sample_pictures(count: int, height: int, width: int, characters: str) -> NDArray[np.uint8]:
    """Draw pictures of a few characters and patches of clutter: the time of sampling depends on what is there.

    Args:
        count: Number of pictures.
        height: H in pixels.
        width: W in pixels.
        characters: What to draw from.

    Returns:
        uint8 (count, H, W), the same at every call.
    """
    random = np.random.default_rng(0)
    font = ImageFont.load_default()
    pictures = []
    for _ in range(count):
        picture = Image.new("L", (width, height))
        draw = ImageDraw.Draw(picture)
        for x, y in zip(random.integers(0, width, 8), random.integers(0, height, 8), strict=True):
            draw.line((int(x), int(y), int(x) + 8, int(y) + 5), fill=200, width=2)
        top, left = int(random.integers(0, max(1, height - 30))), width // 8
        for index, character in enumerate(random.choice(list(characters), 3)):
            glyph = Image.new("L", (8, 10))
            ImageDraw.Draw(glyph).text((1, -1), str(character), fill=255, font=font)
            picture.paste(glyph.resize((width // 4, min(28, height))), (left + index * width // 4, top))
        pictures.append(np.asarray(picture))
    return np.stack(pictures)


def measure(engine: Engine, pictures: NDArray[np.uint8], batch: int, *, decode: bool, seconds: float) -> Timing:
    """Time a model at one batch size.

    Args:
        engine: The model and its provider.
        pictures: uint8 (N, H, W), N at least `batch`.
        batch: Pictures a call.
        decode: Decode them from PNG files in memory at every call.
        seconds: How long to measure latency, and again how long to measure throughput.

    Raises:
        ModelFileError: The model fails while it runs.
        ProviderError: The same on another provider than the CPU.
    """
    if not decode:
        return measure_calls(engine.run, batches_of(pictures, batch), engine.workers, seconds)
    files = [[_png(picture) for picture in part] for part in batches_of(pictures, batch)]
    height, width = engine.model.metadata.height, engine.model.metadata.width

    def run(batch: list[bytes]) -> object:
        fitted = [images.fit(decoding.decode(data), height, width) for data in batch]
        return engine.run(np.stack([picture.pixels for picture in fitted]))

    return replace(measure_calls(run, files, engine.workers, seconds), decoding=True)


def batches_of(pictures: NDArray[np.uint8], batch: int) -> list[NDArray[np.uint8]]:
    """Cut pictures into full batches."""
    return [pictures[start : start + batch] for start in range(0, len(pictures) - batch + 1, batch)]


def measure_calls(run: Callable[[_Batch], object], batches: Sequence[_Batch], workers: int, seconds: float) -> Timing:
    """Time anything that reads batches.

    Args:
        run: Reads one batch; `workers` threads call it at a time.
        batches: Batches of one size, taken in turn.
        workers: Calls under way at a time for the throughput.
        seconds: How long to measure latency, and again how long to measure throughput.
    """
    calls = [partial(run, batch) for batch in batches]
    batch = len(batches[0])
    p50, p95 = np.percentile(np.array(_latencies(calls, seconds)) * 1e3, [50, 95]).tolist()
    return Timing(batch, False, p50, p95, workers, _throughput(calls, workers, seconds) * batch)


def _png(picture: NDArray[np.uint8]) -> bytes:
    data = io.BytesIO()
    Image.fromarray(picture).save(data, "PNG")
    return data.getvalue()


def _latencies(calls: Sequence[Callable[[], object]], seconds: float) -> list[float]:
    for call in calls[:_WARM_UP_CALLS]:
        call()
    taken: list[float] = []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(taken) < _LEAST_CALLS:
        began = time.perf_counter()
        calls[len(taken) % len(calls)]()
        taken.append(time.perf_counter() - began)
    return taken


def _throughput(calls: Sequence[Callable[[], object]], workers: int, seconds: float) -> float:
    """Return calls a second with all workers busy."""

    def work(first: int, end: float) -> int:
        done = 0
        while time.perf_counter() < end or not done:
            calls[(first + done) % len(calls)]()
            done += 1
        return done

    together = threading.Barrier(workers)

    def begin(first: int) -> None:
        together.wait()  # else the one session would go from hand to hand
        work(first, 0)

    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(begin, range(workers)))  # every worker opens its session
        began = time.perf_counter()
        firsts = [worker * len(calls) // workers for worker in range(workers)]
        done = sum(pool.map(lambda first: work(first, began + seconds), firsts))
        return done / (time.perf_counter() - began)
