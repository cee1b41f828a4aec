"""The `rnnspn` program. A command's module imports nothing heavy until the command runs, which keeps `--help` fast."""

import os
import sys
import warnings
from typing import Annotated

import typer

from cli import bench, console, data, doctor, evaluate, export, inspect, predict, reproduce, train, vectors
from rnnspn import __version__

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["--help", "-h"], "max_content_width": 100},
)
app.command()(train.train)
app.command()(evaluate.evaluate)
app.command()(export.export)
app.command()(predict.predict)
app.command()(inspect.inspect)
app.command()(vectors.vectors)
app.command()(bench.bench)
app.command()(doctor.doctor)
app.command()(reproduce.reproduce)
app.add_typer(data.app, name="data")


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"rnnspn {__version__}")
        raise typer.Exit


@app.callback()
def rnnspn(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks and library warnings.")] = False,
) -> None:
    """Read short digit sequences from cluttered pictures with Recurrent Spatial Transformer Networks."""
    if not debug:
        warnings.simplefilter("ignore")


def main() -> int:
    """Run the command line and return its exit code."""
    console.mend_streams()
    code = console.run(app, sys.argv[1:])
    if code == console.INTERRUPTED or (code and os.environ.get("WORLD_SIZE", "1") != "1"):
        os._exit(code)  # a decoder that is busy with its picture, or torchrun's other processes, would be waited for
    return code


if __name__ == "__main__":
    sys.exit(main())
