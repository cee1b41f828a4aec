"""`rnnspn train`: train a model."""

import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from cli import console
from cli.console import Quiet, say

if TYPE_CHECKING:
    from rnnspn.training.loop import Progress


def train(
    family: Annotated[Literal["rnn-spn", "ffn-spn", "conv"], typer.Option(help="Family of the paper.")] = "rnn-spn",
    downsample: Annotated[
        int | None, typer.Option("--downsample", "-d", help="Down-sampling factor d.", show_default="3; none for conv")
    ] = None,
    recipe: Annotated[Literal["best", "paper"], typer.Option(help="How to train.")] = "best",
    epochs: Annotated[int | None, typer.Option(help="Epochs at most.", show_default="the recipe's")] = None,
    limit: Annotated[int | None, typer.Option(help="Pictures per epoch.", show_default="60000")] = None,
    dropout: Annotated[float | None, typer.Option(help="Dropout rate.", show_default="the recipe's")] = None,
    steps: Annotated[int, typer.Option(help="Digits in a sequence, T.")] = 3,
    height: Annotated[int, typer.Option(help="Picture height in pixels.")] = 100,
    width: Annotated[int, typer.Option(help="Picture width in pixels.")] = 100,
    data: Annotated[
        Literal["synthesis", "authors-2015"] | None,
        typer.Option(help="Pictures without end, or the published set.", show_default="the recipe's"),
    ] = None,
    layout: Annotated[Literal["authors", "paper"], typer.Option(help="Placement of synthesised digits.")] = "authors",
    out: Annotated[
        Path | None, typer.Option(help="The run's folder.", show_default="runs/FAMILY-RECIPE, numbered")
    ] = None,
    start_from: Annotated[
        Path | None, typer.Option(help="A run's model.safetensors to start from.", show_default="random weights")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with --out, or with the newest run.")] = False,
    device: Annotated[Literal["auto", "cpu", "cuda"], typer.Option(help="Where to train.")] = "auto",
    seed: Annotated[int, typer.Option(help="Seed of everything random.")] = 0,
    checkpoint_seconds: Annotated[float, typer.Option(help="Longest stretch of work that a kill can cost.")] = 30.0,
    quiet: Quiet = False,
) -> None:
    """Train a model; everything about it goes into its run folder."""
    console.needs("train", "torch", "safetensors", "matplotlib")
    from rnnspn.training import runs
    from rnnspn.training.checkpoint import Checkpoint
    from rnnspn.training.loop import Trainer

    if resume:
        folder, config = runs.existing(out)
    else:
        config = runs.new_config(
            family, recipe, downsample=downsample, epochs=epochs, epoch_images=limit, dropout=dropout, seed=seed,
            started_from=runs.digest(start_from), data=data, layout=layout, shape=(steps, height, width),
        )  # fmt: skip
        folder = runs.new_folder(out, config)
    with _Display(folder, quiet) as display:
        trainer = Trainer(folder, config, runs.pick_device(device), display.observer(), checkpoint_seconds)
        if resume:
            trainer.restore()
        elif start_from:
            trainer.start_from(Checkpoint.load(start_from))
        finished = trainer.run()
    if not finished:
        console.complain(f"interrupted; go on with: rnnspn train --resume --out {folder}")
        raise typer.Exit(console.INTERRUPTED)
    best = trainer.tally
    say(f"best validation error {best.best_error:.2%} per digit, epoch {best.best_epoch + 1}; {folder}", quiet=quiet)


class _Display:
    """Bars on a terminal, a line per epoch, an estimate at the start, and a polite end on SIGINT and SIGTERM."""

    def __init__(self, folder: Path, quiet: bool) -> None:
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        self._quiet = quiet
        self._estimated = False
        self._stop = False
        self._bar = Progress(
            TextColumn(str(folder)), BarColumn(), TextColumn("{task.description}"), TimeRemainingColumn(),
            console=console.stderr(), transient=True, disable=quiet or not console.stderr().is_terminal,
        )  # fmt: skip
        self._task = self._bar.add_task("starting", total=None)

    def __enter__(self) -> "_Display":
        self._before = {number: signal.signal(number, self._ask_to_stop) for number in (signal.SIGINT, signal.SIGTERM)}
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def observer(self) -> Any:
        """Return what the trainer talks to."""
        from rnnspn.training.loop import Observer

        return Observer(self._on_progress, self._on_epoch, lambda: self._stop)

    def _ask_to_stop(self, *_: object) -> None:
        self._stop = True

    def _on_progress(self, progress: "Progress") -> None:
        if not self._estimated and progress.images_per_second > 0:
            self._estimated = True
            seconds = (progress.steps - progress.step) * progress.batch / progress.images_per_second
            end = time.strftime("%H:%M", time.localtime(time.time() + seconds))
            pace = f"{progress.images_per_second:,.0f} images/s"
            say(f"about {_duration(seconds)} to go at {pace}, until {end}", quiet=self._quiet)
        text = f"loss {progress.loss:.3f}  error {progress.error:.2%}  {progress.images_per_second:,.0f} images/s"
        self._bar.update(self._task, total=progress.steps, completed=progress.step, description=text)

    def _on_epoch(self, record: dict[str, Any]) -> None:
        say(
            f"epoch {record['epoch'] + 1}: loss {record['train_loss']:.4f}, error {record['train_digit_error']:.2%}, "
            f"validation {record['validation_digit_error']:.2%} per digit, "
            f"{record['validation_sequence_error']:.2%} per sequence",
            quiet=self._quiet,
        )


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
