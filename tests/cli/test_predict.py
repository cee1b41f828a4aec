import json
import os
import pty
import re
import shlex
import shutil
import signal
import struct
import subprocess
import sys
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import onnx
import pytest
from onnx import helper
from PIL import Image

from cli import console
from cli.main import app
from rnnspn.contract import METADATA_KEY
from rnnspn.inference.providers import PROVIDERS
from tests import handmade

ROOT = Path(__file__).parents[2]
WITHOUT_GPU = pytest.mark.skipif(shutil.which("nvidia-smi") is not None, reason="CUDA may really work here")


def _command(*arguments) -> list[str]:
    return [sys.executable, "-m", "cli.main", *map(str, arguments)]


def _environment(**more: str) -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(ROOT), "COLUMNS": "100"} | more


class Result(NamedTuple):
    code: int
    stdout: str
    stderr: str


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str]) -> Callable[..., Result]:
    """Run the command line in this process."""

    def running(*arguments) -> Result:
        code = console.run(app, list(map(str, arguments)))
        return Result(code, *capfd.readouterr())

    return running


def _assert_one_line(result: Result, code: int, word: str) -> None:
    lines = result.stderr.splitlines()
    assert result.code == code
    assert result.stdout == ""
    assert len(lines) == 1
    assert lines[0].startswith("error: ")
    assert word in lines[0]


def test_one_good_and_three_bad_pictures_give_one_reading_and_three_lines(run, pictures, model_path):
    result = run("predict", pictures, "--model", model_path, "--quiet")
    assert result.code == 1
    assert [line.split("\t")[:2] for line in result.stdout.splitlines()] == [[str(pictures / "good.png"), "120"]]
    errors = result.stderr.splitlines()
    assert [line.split(": ")[:2] for line in errors] == [
        ["error", str(pictures / name)] for name in ("empty.png", "text.png", "truncated.png")
    ]


def test_what_runs_is_said_on_stderr_and_results_go_to_stdout(run, pictures, model_path):
    result = run("predict", pictures / "good.png", "--model", model_path, "--format", "jsonl", "--provider", "cpu")
    assert result.code == 0
    assert json.loads(result.stdout)["digits"] == "120"
    model, provider, tally = result.stderr.splitlines()
    assert model.startswith(f"model: {model_path} (rnn-spn, d=3, reads 3 characters of 0123456789, sha256 ")
    assert provider == "provider: cpu (as asked)"
    assert tally == "1 of 1 pictures read"


def test_records_come_one_for_each_input_in_every_format(run, pictures, model_path):
    for form, lines in (("jsonl", 4), ("csv", 5), ("table", 5)):
        result = run("predict", pictures, "--model", model_path, "--format", form, "-q")
        assert result.code == 1
        assert result.stderr == ""
        assert len(result.stdout.splitlines()) == lines


def test_libraries_that_complain_of_damage_are_not_heard(model_path, tmp_path):
    Image.linear_gradient("L").resize((64, 48)).convert("1").save(tmp_path / "fax.tif", compression="group4")
    fax = bytearray((tmp_path / "fax.tif").read_bytes())
    fax[120:124] = bytes(4)  # libtiff itself writes "Bad code word"
    (tmp_path / "fax.tif").write_bytes(fax)
    entries = [(256, 3, 1, 8), (257, 3, 1, 8), (258, 3, 1, 8), (262, 3, 1, 1), (277, 4, 1, 303169682)]
    directory = struct.pack("<2sHIH", b"II", 42, 8, len(entries)) + b"".join(
        struct.pack("<HHII", *entry) for entry in entries
    )
    (tmp_path / "samples.tif").write_bytes(directory + bytes(4))  # Pillow logs "More samples per pixel than …"
    command = _command("predict", tmp_path, "--model", model_path, "-q")
    result = subprocess.run(command, capture_output=True, text=True, check=False, env=_environment(), timeout=60)
    assert result.returncode == 1
    assert [line.split(": ")[:2] for line in result.stderr.splitlines()] == [["error", str(tmp_path / "samples.tif")]]


@pytest.mark.parametrize("arguments", [["gone.png"], ["@gone.txt"], ["*.nothing"]])
def test_a_missing_path_is_one_line_and_exit_2(run, model_path, arguments):
    _assert_one_line(run("predict", *arguments, "--model", model_path), 2, arguments[0].lstrip("@"))


def test_an_unreadable_model_is_one_line_and_exit_2(run, pictures, tmp_path):
    (tmp_path / "bad.onnx").write_bytes(b"junk")
    _assert_one_line(run("predict", pictures, "--model", tmp_path / "bad.onnx"), 2, "bad.onnx")
    _assert_one_line(run("predict", pictures, "--model", tmp_path / "none.onnx"), 2, "none.onnx")


def test_a_model_with_unknown_metadata_is_one_line_and_exit_2(run, pictures, tmp_path):
    model = handmade.build()
    document = json.loads(model.metadata_props[0].value) | {"schema_version": 99}
    helper.set_model_props(model, {METADATA_KEY: json.dumps(document)})
    onnx.save(model, tmp_path / "future.onnx")
    _assert_one_line(run("predict", pictures, "--model", tmp_path / "future.onnx"), 2, "schema 99")


@pytest.mark.parametrize(
    "arguments", [["predict"], ["predict", "a", "--nonsense"], ["nonsense"], ["predict", "--format"]]
)
def test_wrong_usage_is_one_line_and_exit_2(run, arguments):
    _assert_one_line(run(*arguments), 2, "--help")


@WITHOUT_GPU
def test_a_provider_that_cannot_run_is_one_line_and_exit_4(run, pictures, model_path):
    import onnxruntime

    result = run("predict", pictures, "--model", model_path, "--provider", "cuda")
    built_for_cuda = "CUDAExecutionProvider" in onnxruntime.get_available_providers()
    _assert_one_line(result, 4, "nvidia-smi" if built_for_cuda else "pip install 'rnnspn[gpu]'")


@WITHOUT_GPU
def test_without_a_gpu_auto_reads_on_the_cpu_and_nothing_warns_of_it(pictures, model_path):
    command = _command("predict", pictures / "good.png", "--model", model_path)
    result = subprocess.run(command, capture_output=True, text=True, check=False, env=_environment(), timeout=60)
    assert result.returncode == 0
    assert result.stdout.split("\t")[1] == "120"
    model, provider, tally = result.stderr.splitlines()
    assert model.startswith("model: ")
    assert provider.startswith("provider: cpu (auto: ")
    assert "nvidia-smi" not in provider
    assert tally == "1 of 1 pictures read"


def test_a_place_that_cannot_be_written_is_exit_5(run, pictures, model_path, tmp_path):
    arguments = ("predict", pictures / "good.png", "--model", model_path, "-q")
    (tmp_path / "file").touch()
    _assert_one_line(run(*arguments, "--output", tmp_path / "file" / "out.csv"), 5, "cannot write")
    _assert_one_line(run(*arguments, "--output", "/dev/full"), 5, "No space left")
    _assert_one_line(run(*arguments, "--annotate", tmp_path / "file"), 5, "cannot write")


def test_a_full_standard_output_is_one_line_and_exit_5(pictures, model_path):
    command = _command("predict", pictures / "good.png", "--model", model_path, "-q")
    with Path("/dev/full").open("w") as full:
        result = subprocess.run(
            command, stdout=full, stderr=subprocess.PIPE, text=True, check=False, env=_environment(), timeout=60
        )
    assert result.returncode == 5
    assert result.stderr.splitlines() == [
        "error: cannot write the standard output: No space left on device; choose another place or free this one"
    ]


def test_a_reader_that_closes_the_pipe_ends_it_quietly(pictures, model_path):
    listed = "".join(f"{pictures / 'good.png'}\0" for _ in range(3))
    command = _command("predict", "-", "--model", model_path, "-q")
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=_environment()
    ) as process:
        process.stdout.close()
        process.stdin.write(listed.encode())
        process.stdin.close()
        assert process.stderr.read() == b""
        assert process.wait(60) == 141


@pytest.mark.skipif(not Path("/dev/stdout").exists(), reason="this system has no such name for it")
def test_a_reader_that_closes_the_pipe_ends_it_quietly_under_its_other_name(pictures, model_path):
    command = _command("predict", pictures, "--model", model_path, "-q", "--output", "/dev/stdout", "--format", "csv")
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=_environment()) as process:
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(60) == 141


@pytest.mark.parametrize("to_file", [False, True])
def test_an_interruption_keeps_what_is_done_and_exits_130(pictures, model_path, tmp_path, to_file):
    many = tmp_path / "many"
    many.mkdir()
    for index in range(20000):
        (many / f"{index:05}.png").hardlink_to(pictures / "good.png")
    output, stdout = tmp_path / "out.jsonl", tmp_path / "stdout"
    command = _command("predict", many, "--model", model_path, "--format", "jsonl")
    command += ["--output", str(output)] if to_file else []
    with stdout.open("w") as opened:
        process = subprocess.Popen(command, stdout=opened, stderr=subprocess.PIPE, env=_environment(), text=True)
    with process:
        while not any(path.stat().st_size for path in (stdout, *tmp_path.glob("out.jsonl.*"))):
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        started = time.monotonic()
        said = process.stderr.read()
        assert process.wait(60) == 130
    assert time.monotonic() - started < 2
    lines = (output.with_name("out.jsonl.partial") if to_file else stdout).read_text().splitlines()
    assert all(json.loads(line)["digits"] == "120" for line in lines)
    done = int(re.search(r"interrupted after (\d+) of 20000 pictures", said)[1])
    assert lines
    assert done <= len(lines) <= done + PROVIDERS["cpu"].batch  # the last batch may be written and not yet counted
    assert not output.exists()
    assert "Traceback" not in said


@pytest.mark.parametrize(("side", "isolated"), [(8000, []), (8000, ["--isolate"])])
def test_nobody_waits_for_a_decoder_after_sigint(model_path, tmp_path, side, isolated):
    # 8000 x 8000 pixels of 16 bits: a small file that takes seconds to decode
    rows = zlib.compress(bytes(side * (2 * side + 1)), 1)
    header = struct.pack(">IIBBBBB", side, side, 16, 0, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", rows), (b"IEND", b"")]
    parts = [
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    ]
    (tmp_path / "0.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))
    for number in range(1, 200):
        os.link(tmp_path / "0.png", tmp_path / f"{number}.png")
    command = _command("predict", tmp_path, "--model", model_path, "--output", tmp_path / "out.jsonl", *isolated)
    process = subprocess.Popen(command, cwd=tmp_path, env=_environment(), stderr=subprocess.PIPE, text=True)
    with process:
        assert "model: " in process.stderr.readline()
        assert "provider: " in process.stderr.readline()
        time.sleep(1)
        process.send_signal(signal.SIGINT)
        started = time.monotonic()
        assert process.wait(60) == 130
        assert time.monotonic() - started < 2
        assert "interrupted after" in process.stderr.read()


def test_isolated_decoders_run_no_code_of_the_working_folder(pictures, model_path):
    (pictures / "numpy.py").write_text("open('ran', 'w')\n")
    command = [shutil.which("rnnspn", path=Path(sys.executable).parent), "predict", "good.png", "--isolate"]
    done = subprocess.run([*command, "--model", model_path], cwd=pictures, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.split("\t")[:2]) == (0, ["good.png", "120"]), done.stderr
    assert not (pictures / "ran").exists()


@pytest.mark.parametrize("option", ["--output", "--annotate"])
def test_a_name_that_no_file_can_have_is_one_line(run, pictures, model_path, tmp_path, option):
    result = run("predict", pictures / "good.png", "--model", model_path, option, tmp_path / ("n" * 300) / "out", "-q")
    assert (result.code, len(result.stderr.splitlines())) == (5, 1)
    assert "cannot write" in result.stderr


@pytest.mark.parametrize(
    ("closed", "code", "said"),
    [
        ("<&-", 0, ""),
        (">&-", 5, "error: cannot write the standard output"),
        ("2>&-", 0, ""),
        ("2>/dev/full", 0, ""),
    ],
)
def test_streams_that_are_closed_or_full_cost_no_more_than_what_they_would_show(
    pictures, model_path, closed, code, said
):
    command = shlex.join(_command("predict", "good.png", "--model", model_path))
    done = subprocess.run(
        ["sh", "-c", f"{command} {closed}"],
        cwd=pictures,
        env=_environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == code, done.stderr
    assert ("good.png\t120" in done.stdout) == (code == 0)
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_a_closed_output_matters_not_where_a_file_is_written(pictures, model_path):
    command = shlex.join(_command("predict", "good.png", "--model", model_path, "--output", "out.csv"))
    done = subprocess.run(["sh", "-c", f"{command} <&- >&- 2>&-"], cwd=pictures, env=_environment(), check=False)
    assert done.returncode == 0
    assert "good.png,120," in (pictures / "out.csv").read_text()


def test_no_picture_is_written_over(run, pictures, model_path):
    before = (pictures / "good.png").read_bytes()
    for option in (["--output", pictures / "good.png"], ["--annotate", pictures]):
        result = run("predict", pictures / "good.png", "--model", model_path, "-q", *option)
        _assert_one_line(result, 5, "good.png: it is one of the files to read; choose another place")
    assert (pictures / "good.png").read_bytes() == before


def test_neither_model_nor_list_is_written_over(run, pictures, model_path):
    model, listed = pictures / "m.onnx", pictures / "l.txt"
    model.write_bytes(Path(model_path).read_bytes())
    listed.write_text(f"{pictures / 'good.png'}\n")
    for target, arguments in (
        (model, ["predict", pictures / "good.png", "--model", model, "--format", "jsonl", "--output", model]),
        (listed, ["predict", f"@{listed}", "--model", model, "--output", listed]),
        (model, ["vectors", model, "--output", model]),
    ):
        before = target.read_bytes()
        _assert_one_line(run(*arguments, "-q"), 5, f"{target.name}: it is one of the files to read; choose another")
        assert target.read_bytes() == before


@pytest.mark.parametrize("named", ["the folder", "a picture in it"])
def test_the_labels_of_pictures_are_not_written_over(run, pictures, model_path, named):
    labels = pictures / "labels.csv"
    labels.write_text("path,label\ngood.png,123\n")
    given = pictures if named == "the folder" else pictures / "good.png"
    result = run("predict", given, "--model", model_path, "--format", "csv", "-q", "--output", labels)
    _assert_one_line(result, 5, "labels.csv: it is one of the files to read; choose another place")
    assert labels.read_text().endswith(",123\n")


def test_what_was_read_before_is_not_drawn_again_and_that_is_said(run, pictures, model_path, tmp_path):
    output, drawn = tmp_path / "out.jsonl", tmp_path / "drawn"
    command = ["predict", pictures / "good.png", "--model", model_path, "--output", output]
    assert run(*command, "-q").code == 0
    output.rename(tmp_path / "out.jsonl.partial")
    resumed = run(*command, "--resume", "--annotate", drawn)
    assert resumed.code == 0
    assert "going on after 1 of 1 pictures, which are not drawn again" in resumed.stderr.splitlines()
    assert not drawn.exists()


def test_isolated_pictures_are_not_drawn(run, pictures, model_path, tmp_path):
    result = run("predict", pictures, "--model", model_path, "--isolate", "--annotate", tmp_path / "drawn")
    _assert_one_line(result, 2, "leave one out")


def test_output_and_annotated_pictures_are_written(run, pictures, model_path, tmp_path):
    output, drawn = tmp_path / "out.csv", tmp_path / "drawn"
    result = run("predict", pictures, "--model", model_path, "--output", output, "--annotate", drawn, "-q")
    assert (result.code, result.stdout, result.stderr) == (1, "", "")
    assert len(output.read_text().splitlines()) == 5
    with Image.open(drawn / "good.png") as image:
        assert image.width > 500


def test_the_default_model_is_the_working_folders(run, pictures, model_path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model.onnx").write_bytes(model_path.read_bytes())
    result = run("predict", pictures / "good.png")
    assert result.code == 0
    assert result.stderr.startswith("model: model.onnx (")


def test_on_a_terminal_the_results_are_a_table(pictures, model_path):
    ours, theirs = pty.openpty()
    command = _command("predict", pictures, "--model", model_path, "-q")
    environment = _environment(TERM="xterm-256color")
    result = subprocess.run(command, stdout=theirs, stderr=subprocess.PIPE, check=False, env=environment, timeout=60)
    os.close(theirs)
    shown = os.read(ours, 100_000).decode()
    os.close(ours)
    assert (result.returncode, result.stderr) == (1, b"")
    assert "confidence" in shown
    assert "120" in shown
    assert "\x1b[" in shown


def test_names_with_odd_bytes_come_through(run, model_path, pictures, tmp_path):
    folder = tmp_path / "odd"
    folder.mkdir()
    names = [os.fsencode(folder) + b"/" + name for name in (b"caf\xe9.png", b"new\nline.png", b"\x1b[31m.png")]
    for name in names:
        Path(os.fsdecode(name)).hardlink_to(pictures / "good.png")
    result = run("predict", folder, "--model", model_path, "--format", "jsonl")
    assert result.code == 0
    assert sorted(os.fsencode(json.loads(line)["path"]) for line in result.stdout.splitlines()) == sorted(names)


@pytest.mark.parametrize("arguments", [["--format", "jsonl"], ["--output", "out.txt"]])
def test_only_a_file_with_a_record_for_every_picture_can_be_gone_on_with(run, pictures, model_path, arguments):
    _assert_one_line(
        run("predict", pictures, "--model", model_path, "--resume", *arguments), 2, "expected --output and"
    )


def test_results_go_to_no_file_that_is_named_like_a_picture(run, pictures, model_path, tmp_path):
    other = tmp_path / "meter.PNG"
    other.write_bytes(b"a picture that is not read")
    _assert_one_line(run("predict", pictures, "--model", model_path, "--output", other), 2, "ends as pictures do")
    assert other.read_bytes() == b"a picture that is not read"


def test_a_run_stopped_by_sigterm_is_gone_on_with(run, pictures, model_path, tmp_path):
    many, output, expected = tmp_path / "many", tmp_path / "out.csv", tmp_path / "expected.csv"
    many.mkdir()
    for index in range(6000):
        (many / f"{index:05}.png").hardlink_to(pictures / "good.png")
    command = _command("predict", many, "--model", model_path, "--output", output)
    with subprocess.Popen(command, stderr=subprocess.DEVNULL, env=_environment()) as process:
        while not any(path.stat().st_size for path in tmp_path.glob("out.csv.*")):
            time.sleep(0.01)
        process.terminate()
        assert process.wait(60) == 130
    assert not output.exists()
    command = ["predict", many, "--model", model_path, "--output", output, "--resume"]
    _assert_one_line(run(*command, "-q", "--polarity", "dark-on-light"), 2, "with another model, provider or polarity")
    resumed = run(*command)
    assert resumed.code == 0
    assert re.search(r"^going on after [1-9]\d* of 6000 pictures$", resumed.stderr, re.MULTILINE)
    assert run("predict", many, "--model", model_path, "--output", expected, "-q").code == 0
    assert output.read_bytes() == expected.read_bytes()
    again = run("predict", many / "00000.png", "--model", model_path, "--output", output, "--resume")
    assert "no unfinished run to go on with: reading all" in again.stderr.splitlines()


def test_isolated_decoding_changes_nothing_but_the_processes(run, pictures, model_path):
    arguments = ["predict", pictures, "--model", model_path, "--format", "jsonl", "-q"]
    assert run(*arguments, "--isolate") == run(*arguments)


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="no folder here that nobody can write to")
@pytest.mark.parametrize("place", [["--output", "/proc/no/out.jsonl"], ["--annotate", "/proc/no"]])
def test_a_place_that_cannot_be_written_is_one_line(run, pictures, model_path, place):
    _assert_one_line(
        run("predict", pictures / "good.png", "--model", model_path, "-q", *place), 5, "cannot write /proc"
    )


def test_letters_that_no_font_draws_are_named(run, pictures, tmp_path, monkeypatch):
    monkeypatch.setattr("rnnspn.results.typefaces._SYSTEMS", ())
    onnx.save(handmade.build(handmade.metadata(alphabet="012345678京")), tmp_path / "m.onnx")
    command = ["predict", pictures / "good.png", "--model", tmp_path / "m.onnx"]
    assert "no font here draws 京: boxes" in run(*command, "--annotate", tmp_path / "drawn").stderr
    assert "no font" not in run(*command).stderr
