"""`rnnspn reproduce`: the paper's Table 1, ours beside theirs."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from cli import console
from cli.console import Quiet, say
from cli.display import Display
from rnnspn.errors import ConfigError, InterruptedRunError

if TYPE_CHECKING:
    from rnnspn.training.reproduction import Plan, Result

_WIDTH = 100
"""Columns that the table needs."""


def reproduce(
    recipe: Annotated[Literal["paper", "best"], typer.Option(help="How to train.")] = "paper",
    rows: Annotated[
        str | None, typer.Option(help="Rows, such as 'rnn-spn-d3,conv'.", show_default="all, the cheapest first")
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Only walk the path; the figures are not the result.")] = False,
    search_dropout: Annotated[
        str | None,
        typer.Option(
            help="Dropout rates, such as '0,0.2,0.4', to choose from on the validation set.",
            show_default="the recipe's",
        ),
    ] = None,
    epochs: Annotated[int | None, typer.Option(help="Epochs at most.", show_default="the recipe's")] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder of the runs and results.", show_default="runs/table1-RECIPE, with -quick behind it for --quick"
        ),
    ] = None,
    device: Annotated[Literal["auto", "cpu", "cuda"], typer.Option(help="Where to train.")] = "auto",
    seed: Annotated[int, typer.Option(help="Seed of everything random.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print the table as JSON.")] = False,
    quiet: Quiet = False,
) -> None:
    """Train and test the nine rows of the paper's Table 1.

    Run it again to go on where it was left.
    """
    console.needs("train", "torch", "safetensors", "matplotlib")
    from rnnspn.training import hardware, reproduction
    from rnnspn.training.checkpoint import RUNS
    from rnnspn.training.processes import started_by_torchrun

    if quick and epochs is not None:
        raise ConfigError("--quick has its own number of epochs; leave out --epochs")
    if started_by_torchrun():
        raise ConfigError("reproduce trains in one process; start it without torchrun")
    wanted = reproduction.pick_rows(rows)
    folder = out or RUNS / f"table1-{recipe}{'-quick' if quick else ''}"
    search = reproduction.parse_rates(search_dropout)
    plan = reproduction.Plan(folder=folder, recipe=recipe, quick=quick, seed=seed, epochs=epochs, search=search)
    reproduction.finished(plan)  # rows of another plan are found before anything is trained
    for row in wanted:
        with Display(Path(row.name), quiet) as display:
            observer = display.observer()
            result = reproduction.run_row(row, plan, hardware.pick_device(device), observer)
        if result is None:
            raise InterruptedRunError(f"interrupted in {row.name}; the same command goes on from there")
        say(f"{row.name}: {result.score.digit_error:.2%} per digit, the paper {row.paper_error:.1%}", quiet=quiet)
        path = reproduction.write_table(plan)
        if observer.should_stop() and row != wanted[-1]:  # asked while the row was tested
            raise InterruptedRunError(f"interrupted after {row.name}; the same command goes on from there")
    say(f"results: {path}", quiet=quiet)
    if as_json:
        typer.echo(path.read_text(), nl=False)
    else:
        _show(reproduction.finished(plan), plan)


def _show(results: "list[Result]", plan: "Plan") -> None:
    from rich.console import Console
    from rich.table import Table

    from rnnspn.scores import wilson_interval

    note = f"recipe {plan.recipe}" if plan.is_the_result else "other epochs than the recipe's: NOT the result"
    screen = Console(highlight=False)
    screen.width = max(screen.width, _WIDTH)
    table = Table(title=f"Table 1, error per digit ({note})", title_justify="left", box=None, header_style="bold")
    for name in ("row", "paper", "ours", "n", "95 % interval", "verdict", "dropout", "epochs"):
        table.add_column(name, justify="left" if name in ("row", "verdict") else "right", no_wrap=True)
    for result in results:
        low, high = wilson_interval(result.score.wrong_digits, result.score.digits)
        table.add_row(
            result.row.name,
            f"{result.row.paper_error:.1%}",
            f"{result.score.digit_error:.2%}",
            f"{result.score.digits:,}",
            f"{low:.2%} to {high:.2%}",
            result.verdict if plan.is_the_result else "not a result",
            f"{result.config.train.dropout:g}",
            f"{result.epochs}",
        )
    screen.print(table)
