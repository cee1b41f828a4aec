"""`rnnspn evaluate`: how often a model is wrong."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from cli import console
from cli.console import Quiet, say
from rnnspn.errors import DataError, ProviderError
from rnnspn.inference.providers import Provider

if TYPE_CHECKING:
    from rnnspn.evaluation import Subject
    from rnnspn.scores import Score, Surest

_SHARES = (0.99, 0.95, 0.9)
"""Shares of the sequences whose errors are counted by themselves, the most confident ones."""


def evaluate(
    model: Annotated[
        str | None,
        typer.Argument(
            help="A run's folder or checkpoint, an .onnx file, or 'bundled'.", show_default="the newest under runs/"
        ),
    ] = None,
    split: Annotated[
        Literal["validation", "test"],
        typer.Option(help="Held-out pictures: the authors' published ones where they fit the model."),
    ] = "validation",
    data: Annotated[
        str | None,
        typer.Option(
            help="A folder of pictures with labels.csv, or 'synthesis' for other pictures of the held-out digits.",
            show_default="the held-out pictures",
        ),
    ] = None,
    report: Annotated[
        Path | None,
        typer.Option(help="Draw confusions, mistakes and where it looked, and list all readings, in this folder."),
    ] = None,
    provider: Annotated[Provider, typer.Option(help="What runs an .onnx file.")] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    quiet: Quiet = False,
) -> None:
    """Count a model's errors, with 95 % intervals.

    They are counted per digit, sequence and position, and for the readings of which it is surest. Where labels are of
    different lengths, a digit that is read after a label's end is one more, and wrong.

    A checkpoint's look at the test set is logged in its run folder and goes into the metadata of the exported file.
    """
    if report is not None:
        console.needs("train", "matplotlib")
    from rnnspn.config import SYNTHESIS, DataConfig
    from rnnspn.data.held_out import held_out
    from rnnspn.data.labelled_folder import labelled_folder
    from rnnspn.data.labels import digest_of
    from rnnspn.files import exists
    from rnnspn.scores import Score, Surest

    if data not in (None, SYNTHESIS) and not exists(Path(data)):
        raise DataError(f"there is no folder {data}")
    subject = _open(model, provider)
    say(f"model: {subject.name}", quiet=quiet)
    if data is None or data == SYNTHESIS:
        if split == "validation" and subject.data.seen:
            other = "name others with --data" if subject.data.is_own else "use --split test, or others with --data"
            raise DataError(f"the weights that the model began with had learned from the validation pictures; {other}")
        examples = held_out(split, subject.data, subject.model, published=data is None)
    else:
        there = DataConfig(source=str(Path(data).absolute()), labels=digest_of(Path(data)))
        if subject.data.validation and not subject.data.seen and subject.data.labels == there.labels:
            say(f"{data} is what the model learned from: counted is the tenth that was held out", quiet=quiet)
            examples = labelled_folder(Path(data), subject.model, "validation")
        else:
            examples = labelled_folder(Path(data), subject.model)
            if subject.data.is_same(there):
                say(f"{data} looks like what the model learned from: errors on that are no measure", quiet=quiet)
    answers = subject.answer(examples.images)
    score = Score.of(answers.digits, examples.labels, subject.model.blank)
    surest = [Surest.of(answers, examples.labels, share) for share in _SHARES]
    _show(subject, examples.source, score, surest, as_json)  # first: what cannot be written takes nothing away
    if data in (None, SYNTHESIS) and split == "test":
        subject.log(examples.source, score)
    if report is not None:
        from rnnspn.report import write_report

        for path in write_report(answers, examples, subject.model, report):
            say(f"wrote {path}", quiet=quiet)


def _open(model: str | None, provider: str) -> "Subject":
    """Put a model to the test: an exported file, else a checkpoint."""
    from rnnspn.evaluation import exported
    from rnnspn.inference.model_file import is_exported

    if model is not None and is_exported(model):
        return exported(model, provider)
    if provider != "auto":
        raise ProviderError(f"a checkpoint is read by PyTorch, not on {provider}; export it and name the .onnx file")
    console.needs("train", "torch", "safetensors")
    from rnnspn.training.checkpoint import find_model
    from rnnspn.training.evaluation import trained

    return trained(find_model() if model is None else Path(model))


def _show(subject: "Subject", source: str, score: "Score", surest: "list[Surest]", as_json: bool) -> None:
    from rnnspn.scores import wilson_interval

    if as_json:
        more = {"surest": [part._asdict() for part in surest]}
        about = {"model": subject.name, "provider": subject.provider, "data": source}
        typer.echo(json.dumps(about | score.to_dict() | more))
        return
    rows = [("per digit", score.wrong_digits, score.digits)] if score.digits else []
    rows.append(("per sequence", score.wrong_sequences, score.sequences))
    by_position = zip(score.wrong_by_position, score.digits_by_position, strict=True)
    rows += [(f"at position {place}", *counts) for place, counts in enumerate(by_position, start=1) if counts[1]]
    for part in surest:
        where = f"per sequence of the surest {part.share:.0%}, confidence {part.confidence:.6g} and above"
        rows.append((where, part.wrong_sequences, part.sequences))
    for where, wrong, total in rows:
        low, high = wilson_interval(wrong, total)
        typer.echo(
            f"{source}, error {where}: {wrong / total:.2%}  ({wrong} of {total}, 95 % interval {low:.2%} to {high:.2%})"
        )
