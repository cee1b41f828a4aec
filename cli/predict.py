"""`rnnspn predict`: read pictures with an exported model."""

import os
import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from cli import console
from cli.console import Quiet, say
from rnnspn.alphabet import BLANK
from rnnspn.errors import ConfigError, InputError, InterruptedRunError
from rnnspn.inference.providers import Provider


def predict(
    paths: Annotated[
        list[str], typer.Argument(metavar="PATH", help="Files, folders, globs, @list.txt, or - for paths on stdin.")
    ],
    model: Annotated[
        str | None,
        typer.Option(help="An .onnx file, or 'bundled'.", show_default="./model.onnx if there is one, else bundled"),
    ] = None,
    provider: Annotated[Provider, typer.Option(help="What runs the model.")] = "auto",
    format_: Annotated[
        Literal["table", "text", "jsonl", "csv"] | None,
        typer.Option(
            "--format",
            help="Form of the results.",
            show_default="by --output's ending; else table on a terminal, or text",
        ),
    ] = None,
    file: Annotated[
        Path | None,
        typer.Option("--output", help="Write the results to this file, when all are done.", show_default="stdout"),
    ] = None,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume", help="Go on with what an unfinished run of the same command left of --output (jsonl or csv)."
        ),
    ] = False,
    annotate: Annotated[Path | None, typer.Option(help="Draw what was attended to, into this folder.")] = None,
    polarity: Annotated[
        Literal["auto", "dark-on-light", "light-on-dark"], typer.Option(help="Whether ink is dark or light.")
    ] = "auto",
    isolate: Annotated[
        bool, typer.Option("--isolate", help="Decode in processes of their own: for pictures from strangers.")
    ] = False,
    quiet: Quiet = False,
) -> None:
    """Read the digits in pictures."""
    from rnnspn.data.labels import LABELS
    from rnnspn.inference import model_file
    from rnnspn.inference.predictor import Predictor
    from rnnspn.pictures import inputs
    from rnnspn.results import batch, output, resuming, typefaces, writers

    if isolate and annotate:
        raise ConfigError("--annotate opens pictures in this process, from which --isolate keeps them; leave one out")
    listed = inputs.collect(paths, sys.stdin.buffer)
    if file is not None:
        labels = {os.path.join(folder, LABELS) for folder in (*paths, *map(os.path.dirname, listed))}  # noqa: PTH118
        output.expect_no_input([file], [*listed, *(path.removeprefix("@") for path in paths), *labels])
        if file.suffix.lower() in inputs.SUFFIXES:
            raise InputError(f"expected a file for results with --output, got one that ends as pictures do: {file}")
    form = format_ or writers.default_format(file, sys.stdout.isatty())
    if resume and (file is None or form not in resuming.FORMS):
        raise InputError(
            f"--resume goes on with a file: expected --output and the format {' or '.join(resuming.FORMS)}"
        )
    predictor = Predictor.load(model or model_file.default(), provider=provider)
    if file is not None:
        output.expect_no_input([file], [predictor.model.path])
    say(f"model: {predictor.model.summary}", quiet=quiet)
    say(f"provider: {predictor.engine.summary}", quiet=quiet)
    if annotate and predictor.model.metadata.family == "conv":
        say("conv does not look at places: only the digits are drawn", quiet=quiet)
    if annotate and (boxes := typefaces.lacking(predictor.model.metadata.alphabet.replace(BLANK, ""))):
        say(f"no font here draws {boxes}: boxes stand for them in the drawings", quiet=quiet)
    apart = file is not None or not sys.stdout.isatty()  # results and bar on one terminal would mix
    tally, width = batch.Tally(), max(map(len, listed))
    try:
        with (
            console.stopping(),
            console.without_native_noise(),
            output.destination(file, resume=resume) as stream,
            console.progress("pictures", len(listed), shown=apart and not quiet) as progress,
        ):
            if resume:
                tally = resuming.take_up(stream, form, listed, predictor, polarity)
                drawn = ", which are not drawn again" if annotate else ""
                going_on = f"going on after {tally.done} of {len(listed)} pictures{drawn}"
                say(going_on if tally.done else "no unfinished run to go on with: reading all", quiet=quiet)
                progress(tally.done)
            writer = writers.make_writer(form, stream, console.complain, path_width=width, begun=tally.done > 0)
            batch.read(
                predictor, listed, writer, tally, polarity=polarity, annotated=annotate, isolated=isolate,
                progress=progress,
            )  # fmt: skip
    except KeyboardInterrupt:
        kept = f"; what is done is in {output.partial(file)}" if file and output.partial(file).exists() else ""
        raise InterruptedRunError(f"interrupted after {tally.done} of {len(listed)} pictures{kept}") from None
    say(f"{tally.done - tally.failed} of {tally.done} pictures read", quiet=quiet)
    raise typer.Exit(1 if tally.failed else 0)
