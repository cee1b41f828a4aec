"""`rnnspn train`: train a model."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from cli import console
from cli.console import Quiet, say
from cli.display import Display
from rnnspn.alphabet import DIGITS
from rnnspn.errors import InterruptedRunError

if TYPE_CHECKING:
    from collections.abc import Iterator

_RARE = 0.1
"""A character that is so much less frequent than the others may be a mistake."""
_WITH_RESUME = ("resume", "out", "data", "device", "checkpoint_seconds", "quiet")


def train(
    context: typer.Context,
    family: Annotated[
        Literal["rnn-spn", "ffn-spn", "conv"] | None,
        typer.Option(
            help="Family of the paper.", show_default="rnn-spn; here and below, --start-from's if it is given"
        ),
    ] = None,
    downsample: Annotated[
        int | None, typer.Option("--downsample", "-d", help="Down-sampling factor d.", show_default="3; none for conv")
    ] = None,
    size: Annotated[
        Literal["full", "small", "nano"] | None,
        typer.Option(help="Size of the rnn-spn; the smaller, the faster.", show_default="full"),
    ] = None,
    recipe: Annotated[Literal["best", "paper"], typer.Option(help="How to train.")] = "best",
    epochs: Annotated[int | None, typer.Option(help="Epochs at most.", show_default="the recipe's")] = None,
    limit: Annotated[
        int | None,
        typer.Option(help="Pictures per epoch, in whole batches.", show_default="60000, or 12000 for few of your own"),
    ] = None,
    dropout: Annotated[float | None, typer.Option(help="Dropout rate.", show_default="the recipe's")] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="NAME=VALUE",
            help="A value of the recipe or a size of the network, such as gru_units=128.",
        ),
    ] = None,
    steps: Annotated[
        int | None,
        typer.Option(help="Digits in a sequence, T.", show_default="3, or as many as a folder's longest label has"),
    ] = None,
    height: Annotated[int | None, typer.Option(help="Picture height in pixels.", show_default="100")] = None,
    width: Annotated[int | None, typer.Option(help="Picture width in pixels.", show_default="100")] = None,
    data: Annotated[
        str | None,
        typer.Option(
            help="'synthesis' without end, 'authors-2015', or a folder of your own pictures with labels.csv; with "
            "--resume, where that folder is now.",
            show_default="the recipe's",
        ),
    ] = None,
    layout: Annotated[Literal["authors", "paper"], typer.Option(help="Placement of synthesised digits.")] = "authors",
    validation: Annotated[
        bool,
        typer.Option(
            "--validation/--no-validation",
            help="Hold pictures out to choose an epoch by; without, learn from them too and keep the last epoch.",
        ),
    ] = True,
    out: Annotated[
        Path | None, typer.Option(help="The run's folder.", show_default="runs/MODEL-RECIPE, numbered")
    ] = None,
    start_from: Annotated[
        Path | None,
        typer.Option(
            help="A run's folder or checkpoint, an .onnx file or 'bundled' to start from.",
            show_default="random weights",
        ),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with --out, or with the newest run.")] = False,
    device: Annotated[Literal["auto", "cpu", "cuda"], typer.Option(help="Where to train.")] = "auto",
    seed: Annotated[int, typer.Option(help="Seed of everything random.")] = 0,
    checkpoint_seconds: Annotated[
        float, typer.Option(min=0.1, help="Longest stretch of work that a kill can cost.")
    ] = 30.0,
    quiet: Quiet = False,
) -> None:
    """Train a model; everything about it goes into its run folder."""
    console.needs("train", "torch", "safetensors", "matplotlib")
    from exporters.from_onnx import checkpoint_of
    from rnnspn.inference import model_file
    from rnnspn.training import hardware, runs
    from rnnspn.training.checkpoint import in_run
    from rnnspn.training.loop import Trainer
    from rnnspn.training.processes import Processes

    if start_from is not None:
        start_from = model_file.bundled() if str(start_from) == model_file.BUNDLED else in_run(start_from)
    picked = hardware.pick_device(device)
    processes = Processes.join(picked)
    quiet = quiet or not processes.writes
    weights = checkpoint_of(start_from) if start_from else None
    if resume:
        console.expect_only(context, "--resume goes on with the run's own values", *_WITH_RESUME)
        folder, config = processes.agree(lambda: runs.existing(out, data))
    else:
        config = runs.new_config(
            family, recipe, size=size, downsample=downsample, data=data, layout=layout, seed=seed,
            validation=validation, shape=(steps, height, width), started_from=weights.sha256 if weights else None,
            like=weights.config.model if weights else None,
            **runs.parse_settings(settings or []) | {"epochs": epochs, "epoch_images": limit, "dropout": dropout},
        )  # fmt: skip
        if weights:
            config = replace(config, data=config.data.after(weights.config.data))
        if config.data.seen:
            say(
                "the weights to start from know the validation pictures: errors on them will look too good", quiet=quiet
            )
        folder = processes.agree(lambda: runs.new_folder(out, config))
        if config.data.is_own:
            for line in _about(Path(config.data.source), config.model.steps, validation):
                say(line, quiet=quiet)
    with Display(folder, quiet) as display:
        trainer = Trainer(folder, config, picked, display.observer(), checkpoint_seconds, processes)
        if resume:
            trainer.restore()
            if trainer.finished:
                say(f"this run is finished; --start-from {folder} begins another with its weights", quiet=quiet)
            elif runs.labels_changed(config.data):
                source = config.data.source
                say(f"the labels in {source} have changed; the run goes on with what they say now", quiet=quiet)
        elif weights:
            trainer.learner.start_from(weights)
        finished = trainer.run()
    if not finished:
        if not processes.writes:
            raise SystemExit(console.INTERRUPTED)  # the first process says it
        raise InterruptedRunError(f"interrupted; go on with: rnnspn train --resume --out {folder}")
    kept = trainer.tally.kept
    error = f"validation error {kept['validation_digit_error']:.2%} per digit, " if config.data.validation else ""
    say(f"{error}epoch {kept['epoch'] + 1}; {folder}", quiet=quiet)


def _about(folder: Path, steps: int, validation: bool) -> "Iterator[str]":
    """Say what the labels of a folder are like, and name the lines of what may be a slip of the pen."""
    from rnnspn.data.labelled_folder import unlabelled
    from rnnspn.data.labels import labels_of

    labels = labels_of(folder)
    named, missing = "".join(labels.characters), set(DIGITS) - labels.characters.keys()
    lengths = " or ".join(str(length) for length in labels.lengths if length)
    held_out = f", {labels.held_out} of them held out to validate on" if validation else ""
    named = named if named.isalnum() else repr(named)  # a space would not be seen
    yield f"{labels.pictures} labels of {lengths} characters out of {named}{held_out}"
    if labels.others:
        yield f"columns that are not read: {', '.join(labels.others)}"
    if labels.again.times:
        times, line = labels.again
        yield f"lines that name a picture again, which counts once: {times}, line {line} the first"
    if others := unlabelled(folder):
        yield f"pictures without a label, which are not learned from: {len(others)}, {others[0]} the first"
    if len(labels.lengths) > 1:  # which may be meant, or a spreadsheet that has dropped leading zeros
        each = ", ".join(
            f"{seen.times} have {length or 'none'} (first in line {seen.line})"
            for length, seen in labels.lengths.items()
        )
        yield f"labels of different lengths: {each}; the model will read up to {steps} characters"
    if missing and labels.characters.keys() <= set(DIGITS):
        yield f"no label has a {' or '.join(sorted(missing))}: what is never shown is never read"
    usual = sum(seen.times for seen in labels.characters.values()) / len(labels.characters)
    for character, seen in labels.characters.items():
        if seen.times < _RARE * usual:
            shown = character if character.isalnum() else repr(character)
            yield f"the character {shown} is rare: {seen.times} times, first in line {seen.line}"
