"""`rnnspn evaluate`: how often a model is wrong."""

import json
from pathlib import Path
from typing import Annotated, Literal

import typer

from cli import console
from cli.console import Quiet, say


def evaluate(
    checkpoint: Annotated[
        Path | None,
        typer.Argument(help="A run's model.safetensors.", show_default="the newest under runs/"),
    ] = None,
    split: Annotated[
        Literal["validation", "test"],
        typer.Option(help="Held-out pictures: the authors' published ones where they fit the model."),
    ] = "validation",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    quiet: Quiet = False,
) -> None:
    """Count a model's errors, per digit and per sequence, with 95 % intervals.

    A look at the test set is logged in the run folder and goes into the metadata of the exported file.
    """
    console.needs("train", "torch", "safetensors")
    from rnnspn.scores import wilson_interval
    from rnnspn.training.checkpoint import find_model
    from rnnspn.training.evaluation import score_checkpoint

    source = checkpoint or find_model()
    if checkpoint is None:
        say(f"checkpoint: {source}", quiet=quiet)
    data, score = score_checkpoint(source, split)
    if as_json:
        typer.echo(json.dumps({"checkpoint": str(source), "data": data, "split": split} | score.to_dict()))
        return
    for unit, wrong, total in (
        ("digit", score.wrong_digits, score.digits),
        ("sequence", score.wrong_sequences, score.sequences),
    ):
        low, high = wilson_interval(wrong, total)
        typer.echo(
            f"{data} {split}, error per {unit}: {wrong / total:.2%}  "
            f"({wrong} of {total}, 95 % interval {low:.2%} to {high:.2%})"
        )
