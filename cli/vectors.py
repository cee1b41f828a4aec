"""`rnnspn vectors`: golden vectors, with which a client in any language checks itself."""

from pathlib import Path
from typing import Annotated

import typer

from cli.console import Quiet, say


def vectors(
    model: Annotated[str, typer.Argument(help="An .onnx file, or 'bundled'.")],
    output: Annotated[
        Path | None, typer.Option(help="The JSON file to write.", show_default="beside the model; here for bundled")
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Write pictures and what an exported model says about them.

    Clients in other languages can be tested on them.
    """
    from exporters import vectors as golden
    from rnnspn.inference import model_file
    from rnnspn.results.output import expect_no_input

    checked = model_file.load(model)
    beside = Path(checked.path.name) if model == model_file.BUNDLED else checked.path
    target = output or golden.vectors_file(beside)
    expect_no_input([target], [checked.path])
    count = golden.write_vectors(checked, target)
    say(f"wrote {target}: {count} pictures, model sha256 {checked.sha256[:12]}", quiet=quiet)
