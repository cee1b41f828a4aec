"""`rnnspn data`: pictures to try things on, and the digits they are made of."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from cli import console
from cli.console import Quiet, say

app = typer.Typer(no_args_is_help=True, help="Make sample pictures; fetch MNIST.")


@app.command()
def sample(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder for the PNG files and labels.csv.")],
    count: Annotated[int, typer.Option(min=1, help="Number of pictures.")] = 25,
    split: Annotated[
        Literal["train", "validation", "test"], typer.Option(help="Part of MNIST the digits come from.")
    ] = "test",
    layout: Annotated[
        Literal["authors", "paper"],
        typer.Option(help="Placement of the digits: the authors' code or the paper's text."),
    ] = "authors",
    seed: Annotated[int, typer.Option(min=0, max=2**63 - 1, help="Seed; the same one makes the same pictures.")] = 0,
    digits: Annotated[int, typer.Option(min=1, max=8, help="Digits in a picture.")] = 3,
    height: Annotated[int, typer.Option(min=36, max=2048, help="Picture height in pixels.")] = 100,
    width: Annotated[int, typer.Option(min=36, max=2048, help="Picture width in pixels.")] = 100,
    quiet: Quiet = False,
) -> None:
    """Write synthesised pictures as PNG files, with labels.csv."""
    from rnnspn.data.mnist import load_mnist
    from rnnspn.data.samples import write_samples
    from rnnspn.data.sequences import Sequences

    sequences = Sequences(load_mnist(), split, seed, layout, digits, height, width)
    with console.progress("pictures", count, shown=not quiet) as progress:
        write_samples(folder, sequences, count, progress)
    say(f"wrote {count} pictures and labels.csv to {folder}", quiet=quiet)


@app.command()
def fetch(quiet: Quiet = False) -> None:
    """Download MNIST into the cache, checked by SHA-256.

    What is there and good is kept.
    """
    from rnnspn.data.mnist import fetch_mnist

    folder = fetch_mnist(lambda name: say(f"fetching {name}", quiet=quiet))
    say(f"MNIST is in {folder}", quiet=quiet)
