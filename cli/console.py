"""What commands say to people: lines and bars on stderr, and one line and an exit code for every error."""

import contextlib
import errno
import importlib.util
import io
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rnnspn.errors import (
    ConfigError,
    InterruptedRunError,
    MissingPackageError,
    OutputError,
    RnnspnError,
    is_want_of_memory,
)

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

_CANNOT_WRITE = (errno.ENOSPC, errno.EROFS, errno.EACCES)
UNFORESEEN, INTERRUPTED, CLOSED_PIPE = 70, InterruptedRunError.exit_code, 141

Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing but results and errors.")]


@cache
def stderr() -> "Console":
    """Return the one console for everything that is no result; it honours NO_COLOR."""
    from rich.console import Console

    return Console(stderr=True, soft_wrap=True, highlight=False, markup=False, emoji=False)


def mend_streams() -> None:
    """Put something in the place of standard streams that are closed: what is written there fails, save on stderr.

    A character that their encoding lacks is written as its escape.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_WRONLY if name == "stderr" else os.O_RDONLY)  # takes the lowest number
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(number, "r" if name == "stdin" else "w", closefd=False))
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def say(message: str, *, quiet: bool = False) -> None:
    """Print one line on stderr, unless quiet; one that cannot be printed is lost."""
    if not quiet:
        _print(_one_line(message))


def complain(message: str) -> None:
    """Print one line on stderr about something that failed, also when quiet."""
    from rich.text import Text

    _print(Text.assemble(("error: ", "bold red"), _one_line(message)))


def _print(line: "str | Text") -> None:
    try:
        stderr().print(line)
    except OSError:  # a full disk, say: what is still buffered goes nowhere
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())


def needs(extra: str, *packages: str) -> None:
    """Make sure that the packages of an extra are there, without importing them.

    Raises:
        MissingPackageError: One is not installed.
    """
    missing = [name for name in packages if importlib.util.find_spec(name) is None]
    if missing:
        raise MissingPackageError(f"this command needs {', '.join(missing)}; install it: pip install 'rnnspn[{extra}]'")


def expect_only(context: typer.Context, why: str, *allowed: str) -> None:
    """Make sure that no option was given beside the allowed ones.

    Raises:
        ConfigError: One was.
    """
    given = [
        parameter.opts[0]
        for parameter in context.command.params
        if parameter.name not in allowed
        and getattr(context.get_parameter_source(parameter.name or ""), "name", "") == "COMMANDLINE"
    ]
    if given:
        raise ConfigError(f"{why}; leave out {', '.join(given)}")


@contextlib.contextmanager
def progress(what: str, total: int, *, shown: bool) -> Iterator[Callable[[int], None]]:
    """Show a bar with speed and time left on stderr, if that is a terminal.

    Args:
        what: What is counted.
        total: How many there are.
        shown: False for no bar at all.

    Yields:
        A function that takes the number done since its last call.
    """
    if not (shown and stderr().is_terminal):
        yield lambda _: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=stderr(), transient=True) as bars:
        task = bars.add_task(what, total=total)
        yield lambda count: bars.advance(task, count)


@contextlib.contextmanager
def stopping() -> Iterator[None]:
    """Let SIGTERM end the block as SIGINT does: with a KeyboardInterrupt, so that what is done is kept."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextlib.contextmanager
def without_native_noise() -> Iterator[None]:
    """Keep C libraries off stderr, save with --debug: libtiff names damage, but no file. What we say still comes."""
    try:
        place = None if "--debug" in sys.argv else sys.stderr.fileno()
    except OSError:  # replaced by something that is no file
        place = None
    if place is None:
        yield
        return
    ours, replaced = os.dup(place), sys.stderr
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        with open(ours, "w", buffering=1, encoding=replaced.encoding, errors=replaced.errors) as sys.stderr:  # noqa: PTH123
            os.dup2(nowhere, place)
            try:
                yield
            finally:
                os.dup2(ours, place)
    finally:
        os.close(nowhere)
        sys.stderr = replaced


def run(app: typer.Typer, arguments: list[str]) -> int:
    """Run the app and turn whatever happens into an exit code and, for an error, one line.

    Args:
        app: The Typer app.
        arguments: The command line without the program's name.

    Returns:
        The exit code: 0 well, 1 some inputs failed, 2 to 5 from the error's class, 70 unforeseen, 130 interrupted,
        141 the reader closed the pipe.
    """
    debug = "--debug" in arguments
    try:
        result = app(arguments or ["--help"], prog_name="rnnspn", standalone_mode=False)
        code = result if isinstance(result, int) else 0
        if code == INTERRUPTED:  # Typer makes that of a KeyboardInterrupt, without a word
            complain("interrupted")
    except SystemExit as stop:  # Typer and rich make this of a closed pipe, with a code of their own
        broken = isinstance(stop.__context__, BrokenPipeError)
        code = CLOSED_PIPE if broken else stop.code if isinstance(stop.code, int) else 1
    except BaseException as error:
        code = report(error, debug=debug)
    try:
        sys.stdout.flush()
    except OSError as error:
        # What is still buffered goes nowhere: the interpreter would try again at its end, and complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return code or report(error, debug=debug)
    return code


def report(error: BaseException, *, debug: bool) -> int:
    """Say in one line what went wrong.

    Args:
        error: What was raised.
        debug: Print the traceback too.

    Returns:
        The exit code.
    """
    if debug:
        traceback.print_exception(error)
    if isinstance(error, KeyboardInterrupt):
        complain("interrupted")
        return INTERRUPTED
    if isinstance(error, BrokenPipeError) or getattr(error, "exit_code", None) == CLOSED_PIPE:
        return CLOSED_PIPE
    if isinstance(error, RnnspnError):
        complain(str(error))
        return error.exit_code
    usage: Callable[[], str] | None = getattr(error, "format_message", None)
    if usage is not None:  # Typer's usage errors; it carries its own copy of click, so their class has no public name
        said = usage()
        if type(error).__name__ == "NoArgsIsHelpError":  # `rnnspn data`
            typer.echo(said)
            return 0
        context: Any = getattr(error, "ctx", None)
        command = context.command_path if context else "rnnspn"
        complain(f"{said.rstrip('.?').replace('Value error, ', '')}; see {command} --help")
        return 2
    if is_want_of_memory(error):
        complain(
            f"there is too little memory ({str(error)[:200]}); take smaller batches or pictures, or a smaller network"
        )
        return ConfigError.exit_code
    if isinstance(error, OSError) and error.errno in _CANNOT_WRITE:  # --help > /dev/full, --install-completion
        complain(f"cannot write: {error.strerror}; choose another place or free this one")
        return OutputError.exit_code
    complain(
        f"unforeseen: {type(error).__name__}: {error}; run rnnspn --debug … for the traceback, and please report it"
    )
    return UNFORESEEN


def _one_line(message: str) -> str:
    return " ".join(message.splitlines())  # a path's own blanks stay as they are
