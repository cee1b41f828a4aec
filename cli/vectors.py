"""`rnnspn vectors`: let clients in other languages check themselves."""

from pathlib import Path
from typing import Annotated

import typer

from cli.console import Quiet, say


def vectors(
    model: Annotated[str, typer.Argument(help="An .onnx file, or 'bundled'.")],
    output: Annotated[
        Path | None, typer.Option(help="The JSON file to write.", show_default="MODEL.vectors.json, beside the model")
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Write pictures and what a model says of them, for clients in other languages to check themselves."""
    from exporters.vectors import write_vectors
    from rnnspn.inference import model_file

    loaded = model_file.load(model)
    target = output or loaded.path.with_suffix(".vectors.json")
    count = write_vectors(loaded, target)
    say(f"wrote {target}: {count} pictures", quiet=quiet)
