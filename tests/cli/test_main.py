import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import typer

import rnnspn
from cli import console
from cli.display import Display
from cli.main import app
from rnnspn.errors import InputError, OutputError, ParityError
from rnnspn.training.tally import Progress

ROOT = Path(__file__).parents[2]


def _python(code: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env=environment)


def _raising(error: BaseException) -> typer.Typer:
    failing = typer.Typer()

    @failing.command()
    def fail() -> None:
        raise error

    return failing


def test_help_imports_nothing_heavy():
    result = _python(
        "import sys; sys.argv = ['rnnspn', '--help']; from cli.main import main; code = main()\n"
        "heavy = [n for n in ('numpy', 'PIL', 'onnx', 'onnxruntime', 'torch', 'rnnspn.inference.predictor') "
        "if n in sys.modules]\n"
        "sys.exit(', '.join(heavy) or code)"
    )
    assert (result.returncode, result.stderr) == (0, "")
    assert "predict" in result.stdout


@pytest.mark.parametrize(
    "arguments",
    [
        ["inspect"],
        ["evaluate", "bundled", "--data", str(ROOT / "assets" / "images")],
        ["bench", "bundled", "--batch", "1", "--seconds", "0.1"],
        ["doctor"],
    ],
    ids=lambda arguments: arguments[0],
)
def test_commands_for_exported_files_never_import_torch(arguments):
    result = _python(
        f"import sys; sys.argv = ['rnnspn', *{arguments}]; from cli.main import main; code = main()\n"
        "sys.exit('torch' if 'torch' in sys.modules else code)"
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout


def test_no_command_shows_the_help_and_the_version_is_the_packages(capsys):
    assert console.run(app, []) == 0
    assert "predict" in capsys.readouterr().out
    assert console.run(app, ["data"]) == 0
    assert capsys.readouterr().out.startswith("Usage: rnnspn data ")
    assert console.run(app, ["--version"]) == 0
    assert capsys.readouterr().out == f"rnnspn {rnnspn.__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["prect"], "error: No such command 'prect'. Did you mean 'predict', 'inspect'; see rnnspn --help\n"),
        (["predict", "a.png", "--format", "xml"], "error: Invalid value for '--format': 'xml' is not one of "),
    ],
)
def test_usage_errors_are_plain_words(arguments, said, capfd):
    console.stderr.cache_clear()
    assert console.run(app, arguments) == 2
    assert capfd.readouterr().err.startswith(said)


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (ParityError("differs\nby much"), 3, "error: differs by much\n"),
        (OutputError("is full"), 5, "error: is full\n"),
        (InputError("  a b.png:  gone"), 2, "error:   a b.png:  gone\n"),
        (MemoryError(), 2, "error: there is too little memory"),
        (
            RuntimeError("DefaultCPUAllocator: can't allocate memory"),
            2,
            "error: there is too little memory (DefaultCPU",
        ),
        (ZeroDivisionError("one by zero"), 70, "error: unforeseen: ZeroDivisionError: one by zero"),
        (KeyboardInterrupt(), 130, "error: interrupted\n"),
        (typer.Exit(1), 1, ""),
    ],
)
def test_every_error_is_one_line_and_its_exit_code(capfd, error, code, said):
    console.stderr.cache_clear()
    assert console.run(_raising(error), ["--"]) == code
    out, err = capfd.readouterr()
    assert out == ""
    assert err.startswith(said)
    assert err.count("\n") <= 1


def test_debug_shows_the_traceback():
    result = _python(
        "import sys; sys.argv = ['rnnspn', '--debug', 'predict', '/none']; from cli.main import main; sys.exit(main())"
    )
    assert result.returncode == 2
    assert "Traceback" in result.stderr
    assert result.stderr.splitlines()[-1].startswith("error: there is no file or folder /none")


def test_a_training_is_asked_to_stop_by_the_first_signal_and_ended_by_a_later_one(tmp_path, monkeypatch):
    with Display(tmp_path, quiet=True) as display:
        observer = display.observer()
        assert not observer.should_stop()
        signal.raise_signal(signal.SIGINT)
        assert observer.should_stop()
        signal.raise_signal(signal.SIGTERM)  # torchrun's, of the same request
        monkeypatch.setattr("cli.display._ONE_REQUEST", 0.0)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_a_training_is_estimated_by_its_first_pace_and_again_by_its_first_epoch(tmp_path, monkeypatch, capsys):
    clock = [0.0]
    monkeypatch.setattr("cli.display.time.monotonic", lambda: clock[0])
    epoch = {"epoch": 0, "train_loss": 1.0, "train_digit_error": 0.5, "validation_digit_error": 0.25}
    epoch["validation_sequence_error"] = 0.5
    with Display(tmp_path, quiet=False) as display:
        observer = display.observer()
        for second, step in ((10.0, 20), (20.0, 60), (30.0, 100)):
            clock[0] = second
            observer.on_progress(Progress(step, 300, 32, 1.0, 0.5, 128.0))
        clock[0] = 45.0  # after 15 s of validation
        observer.on_epoch(epoch)
        observer.on_epoch(epoch | {"epoch": 1})
    said = [line for line in capsys.readouterr().err.splitlines() if " to go " in line]
    assert [line.partition(", until ")[0] for line in said] == [
        "about 70 s to go at 128 images/s",
        "about 80 s to go as the first epoch went",  # 200 steps, where 80 took 20 s, and 15 s of validation twice
    ]


def test_a_character_that_the_terminal_lacks_is_escaped():
    code = "import sys; from cli import console; console.mend_streams(); print('\u2423')"
    done = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | {"PYTHONIOENCODING": "ascii"}, capture_output=True, check=True
    )
    assert done.stdout == b"\\u2423\n"
