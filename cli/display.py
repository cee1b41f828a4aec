"""What a training run shows while it goes on."""

import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cli import console
from cli.console import say

if TYPE_CHECKING:
    from rnnspn.training import tally

_ONE_REQUEST = 1.0
"""Signals within so many seconds are one request: torchrun passes on what its processes have got from elsewhere too."""


class Display:
    """Bars on a terminal, a line per epoch, an estimate first; an end on SIGINT and SIGTERM, on another one at once."""

    def __init__(self, folder: Path, quiet: bool) -> None:
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        self._quiet = quiet
        self._first: tuple[float, tally.Progress] | None = None  # the first report of this process, and when it came
        self._last: tuple[float, tally.Progress] | None = None
        self._epochs = 0  # of this process
        self._stop: float | None = None  # when it was asked for
        self._bar = Progress(
            TextColumn(str(folder)), BarColumn(), TextColumn("{task.description}"), TimeRemainingColumn(),
            console=console.stderr(), transient=True, disable=quiet or not console.stderr().is_terminal,
        )  # fmt: skip
        self._task = self._bar.add_task("starting", total=None)

    def __enter__(self) -> "Display":
        self._before = {number: signal.signal(number, self._ask_to_stop) for number in (signal.SIGINT, signal.SIGTERM)}
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def observer(self) -> Any:
        """Return what the trainer talks to."""
        from rnnspn.training.tally import Observer

        return Observer(self._on_progress, self._on_epoch, lambda: self._stop is not None)

    def _ask_to_stop(self, *_: object) -> None:
        now = time.monotonic()
        if self._stop is None:
            self._stop = now
        elif now - self._stop > _ONE_REQUEST:  # not after the validation that may be going on, but now
            raise KeyboardInterrupt

    def _on_progress(self, progress: "tally.Progress") -> None:
        if self._first is None and progress.images_per_second > 0:
            self._first = time.monotonic(), progress
            seconds = (progress.steps - progress.step) * progress.batch / progress.images_per_second
            self._estimate(seconds, f"at {progress.images_per_second:,.0f} images/s")
        self._last = time.monotonic(), progress
        text = f"loss {progress.loss:.3f}  error {progress.error:.2%}  {progress.images_per_second:,.0f} images/s"
        self._bar.update(self._task, total=progress.steps, completed=progress.step, description=text)

    def _on_epoch(self, record: dict[str, Any]) -> None:
        text = f"epoch {record['epoch'] + 1}: loss {record['train_loss']:.4f}, error {record['train_digit_error']:.2%}"
        if "validation_digit_error" in record:
            text += (
                f", validation {record['validation_digit_error']:.2%} per digit, "
                f"{record['validation_sequence_error']:.2%} per sequence"
            )
        say(text, quiet=self._quiet)
        self._epochs += 1
        if self._epochs == 1 and self._first and self._last:
            (began, first), (ended, last) = self._first, self._last
            if last.step > first.step and last.step < last.steps:
                left, validating = last.steps - last.step, time.monotonic() - ended
                epochs = left / last.step * (record["epoch"] + 1)
                pace = (ended - began) / (last.step - first.step)
                self._estimate(left * pace + epochs * validating, "as the first epoch went")

    def _estimate(self, seconds: float, how: str) -> None:
        end = time.strftime("%H:%M", time.localtime(time.time() + seconds))
        say(f"about {_duration(seconds)} to go {how}, until {end}", quiet=self._quiet)


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
