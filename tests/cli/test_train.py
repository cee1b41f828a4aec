import hashlib
import json
import re
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from rnnspn.training import loop
from rnnspn.training.batches import Pictures
from rnnspn.training.sources import held_out_pictures
from tests.cli.program import ROOT, rnnspn, rnnspn_here, start

TINY = ["train", "--epochs", "1", "--limit", "64", "--size", "nano"]
RUN = "runs/rnn-spn-nano-d3-best"


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    """Return a folder of 30 labelled pictures of one's own, so few that a run takes no time."""
    folder = tmp_path / "mine"
    folder.mkdir()
    for number in range(30):
        Image.linear_gradient("L").rotate(90 * (number % 4)).save(folder / f"{number}.png")
    rows = [f"{number}.png,{'AB'[number % 2]}{'BC'[number % 3 // 2]}" for number in range(30)]
    (folder / "labels.csv").write_text("\n".join(["path,label", *rows]))
    return folder


@pytest.fixture(autouse=True)
def _few_held_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Validate on 250 pictures in the place of 10,000 where the program runs in this process."""

    def few(*arguments: Any) -> Pictures:
        every = held_out_pictures(*arguments)
        return Pictures(every.images[:250], every.labels[:250])

    monkeypatch.setattr(loop, "held_out_pictures", few)


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder in which the commands of the brief have been run, in order."""
    folder = tmp_path_factory.mktemp("workplace")
    commands = (TINY, ["evaluate", "--split", "test", "--json"], ["export", "model.onnx", "--vectors"])
    for run, arguments in zip((rnnspn, rnnspn_here, rnnspn_here), commands, strict=True):
        code, out, err = run(folder, *arguments)
        assert code == 0, err
        (folder / f"{arguments[0]}.out").write_text(out)
        (folder / f"{arguments[0]}.err").write_text(err)
    return folder


def test_train_says_how_long_it_takes_and_how_good_it_got(workplace: Path) -> None:
    lines = (workplace / "train.err").read_text().splitlines()
    assert any("to go at" in line for line in lines)
    assert any(line.startswith("epoch 1: loss") for line in lines)
    assert lines[-1].endswith(RUN)
    assert (workplace / "train.out").read_text() == ""


def test_export_takes_the_newest_run_and_says_how_well_it_agrees(workplace: Path) -> None:
    text = (workplace / "export.err").read_text()
    assert f"checkpoint: {RUN}/model.safetensors, epoch 1 of 1, validation error " in text
    assert "agrees with PyTorch on 263 pictures" in text


def test_export_writes_vectors_of_the_very_file(workplace: Path) -> None:
    document = json.loads((workplace / "model.vectors.json").read_text())
    assert document["model"]["sha256"] == hashlib.sha256((workplace / "model.onnx").read_bytes()).hexdigest()
    assert 1 <= len(document["vectors"]) <= 10


def test_predict_reads_with_the_model_just_exported(workplace: Path) -> None:
    code, out, err = rnnspn(workplace, "predict", str(ROOT / "assets" / "images"), "--format", "jsonl")
    assert code == 0, err
    assert "./model.onnx" in err or "model.onnx" in err
    records = [json.loads(line) for line in out.splitlines()]
    assert len(records) == 24
    assert all(len(record["digits"]) == 3 for record in records)


def test_evaluate_gives_counts_and_intervals(workplace: Path) -> None:
    score = json.loads((workplace / "evaluate.out").read_text())
    assert (score["provider"], score["data"], score["digits"]) == ("pytorch", "authors-2015 test", 30_000)
    low, high = score["digit_error_interval"]
    assert low < score["digit_error"] < high
    assert [(part["share"], part["sequences"]) for part in score["surest"]] == [(0.99, 9900), (0.95, 9500), (0.9, 9000)]


def test_a_checkpoint_runs_on_no_provider(workplace: Path) -> None:
    code, out, err = rnnspn_here(workplace, "evaluate", "--provider", "cpu")
    assert (code, out) == (4, "")
    assert err == "error: a checkpoint is read by PyTorch, not on cpu; export it and name the .onnx file\n"


def test_a_look_at_the_test_set_is_logged_and_exported(workplace: Path) -> None:
    (look,) = (workplace / RUN / "test.jsonl").read_text().splitlines()
    score = json.loads((workplace / "evaluate.out").read_text())
    assert json.loads(look)["wrong_digits"] == score["wrong_digits"]
    about = json.loads(rnnspn_here(workplace, "inspect", "model.onnx", "--json")[1])["metadata"]
    assert about["test_error"]["wrong_digits"] == score["wrong_digits"]


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["train", "--family", "lstm"], "lstm"),
        (["train", "--downsample", "0"], "down-sampling factor"),
        (["train", "--downsample", "6"], "a glimpse of 16x16 pixels is too small"),
        (["train", "--family", "conv", "--downsample", "2"], "family conv sees the whole picture"),
        (["train", "--steps", "20"], "steps"),
        (["train", "--steps", "0"], "steps"),
        (["train", "--epochs", "0"], "epochs"),
        (["train", "--data", "nowhere"], "expected data to be synthesis, authors-2015 or a folder; got 'nowhere'"),
        (["train", "--set", "weight_decay"], "expected weight_decay to be of type float, got ''"),
        (["train", "--set", "speed=3"], "expected settings NAME=VALUE with a name out of batch, optimiser"),
        (["train", "--set", "epoch_images=3"], "has an option of its own: say --limit in the place of --set"),
        (["train", "--set", "batch=many"], "expected batch to be of type int, got 'many'"),
        (["train", "--set", "zoom_weight=nan"], "expected zoom weight to be 0 or more, got nan"),
        (["train", "--steps", "4"], "canvas wider than 112"),
        (["train", "--family", "conv", "--set", "place_weight=1"], "conv has no glimpse for each digit"),
        (["train", "--checkpoint-seconds", "-1"], "checkpoint-seconds"),
        (["train", "--resume", "--out", "nowhere"], "there is no checkpoint"),
        (["train", "--start-from", "none.safetensors"], "there is no checkpoint none.safetensors"),
        (["export", "model.onnx", "--checkpoint", "none.safetensors"], "no checkpoint none.safetensors"),
        (["export", "model.onnx"], "no trained model under runs/"),
        (["export", "model.onnx", "--opset", "12"], "opset"),
        (["evaluate"], "no trained model under runs/"),
        (["evaluate", "bundled", "--data", "nowhere"], "error: there is no folder nowhere\n"),
        (["evaluate", "runs/a/checkpoint.safetensors"], "is what --resume goes on from; name model.safetensors beside"),
        (["evaluate", "n" * 300], "is not a readable rnnspn checkpoint"),
        (["train", "--resume", "--out", "n" * 300], "is not a readable rnnspn checkpoint"),
        (["train", "--start-from", "n" * 300], "is not a readable rnnspn checkpoint"),
        (["train", "--data", "n" * 300], "expected data to be synthesis, authors-2015 or a folder"),
    ],
)
def test_bad_usage_is_one_clear_line_and_exit_2(tmp_path: Path, arguments: list[str], complaint: str) -> None:
    code, out, err = rnnspn_here(tmp_path, *arguments)
    assert code == 2
    assert out == ""
    assert complaint in err
    assert len(err.strip().splitlines()) == 1, err


def test_what_may_be_a_mistake_in_the_labels_is_named(tmp_path: Path, mine: Path) -> None:
    labels = mine / "labels.csv"
    lines = labels.read_text().splitlines()
    lines[5] = lines[5][:-1] + "O"
    labels.write_text("\n".join(lines))
    code, _, err = rnnspn_here(tmp_path, *TINY, "--data", mine.name)
    assert code == 0, err
    assert err.splitlines()[1] == "the character O is rare: 1 times, first in line 6"


def test_digits_that_no_label_has_are_named_and_what_few_pictures_cannot_tell_is_said(
    tmp_path: Path, mine: Path
) -> None:
    rows = [f"{number}.png,{number % 10}{max(1, number % 7)}" for number in range(30) if number % 10 not in (4, 7)]
    (mine / "labels.csv").write_text("\n".join(["path,label", *rows]).replace("4", "0"))
    code, _, err = rnnspn_here(tmp_path, *TINY, "--data", mine.name, "--no-validation")
    assert code == 0, err
    assert err.splitlines()[:2] == [
        "24 labels of 2 characters out of 01235689",
        f"pictures without a label, which are not learned from: 6, {mine / '14.png'} the first",
    ]
    assert "no label has a 4 or 7: what is never shown is never read" in err.splitlines()
    code, _, err = rnnspn_here(tmp_path, "export", "model.onnx", "--precision", "fp16", "--max-accuracy-drop", "100")
    assert code == 0, err
    assert "that says little: it was judged on 24 pictures" in err
    code, out, err = rnnspn_here(tmp_path, "evaluate", "--data", "synthesis")
    assert (code, out) == (2, "")
    assert "not from synthesised ones" in err.splitlines()[-1]


def test_any_value_of_the_recipe_can_be_set(tmp_path: Path, mine: Path) -> None:
    code, _, err = rnnspn_here(
        tmp_path, *TINY, "--data", mine.name, "--set", "weight_decay=0.02", "--set", "optimiser=rmsprop", "--out", "run"
    )
    assert code == 0, err
    train = json.loads((tmp_path / "run" / "config.json").read_text())["train"]
    assert (train["weight_decay"], train["optimiser"], train["epochs"]) == (0.02, "rmsprop", 1)


def test_labels_of_different_lengths_are_said_and_read(tmp_path: Path, mine: Path) -> None:
    labels = mine / "labels.csv"
    written = labels.read_text().replace("7.png,", "7.png,C")
    labels.write_text(re.sub(r"(4\.png),\w+", r"\1,", written))
    code, _, err = rnnspn_here(tmp_path, *TINY, "--data", mine.name)
    assert code == 0, err
    assert err.splitlines()[:2] == [
        "30 labels of 2 or 3 characters out of ABC, 3 of them held out to validate on",
        "labels of different lengths: 3 have none (first in line 6), 24 have 2 (first in line 2), "
        "3 have 3 (first in line 9); "
        "the model will read up to 3 characters",
    ]
    config = json.loads((tmp_path / "runs/rnn-spn-nano-d3-best/config.json").read_text())
    assert (config["model"]["steps"], config["model"]["alphabet"]) == (3, "ABC␣")
    code, out, err = rnnspn_here(tmp_path, "evaluate", "--data", mine.name, "--report", "report")
    assert code == 0, err
    assert f"{mine.name} is what the model learned from: counted is the tenth that was held out" in err
    assert f"{mine.name} validation, error per sequence: " in out
    assert len((tmp_path / "report" / "readings.csv").read_text().splitlines()) == 1 + 3
    code, _, err = rnnspn_here(tmp_path, "export", "model.onnx", "--precision", "int8", "--max-accuracy-drop", "100")
    assert code == 0, err
    assert "of 30 sequences right" in err
    labels.write_text(re.sub(r"(png),\w+", r"\1,", written))  # nothing to read in any of them
    code, out, err = rnnspn_here(tmp_path, "evaluate", "model.onnx", "--data", mine.name)
    assert code == 0, err
    assert f"{mine.name} looks like what the model learned from: errors on that are no measure" in err
    assert f"{mine.name}, error per sequence: " in out


def test_pictures_of_ones_own_are_learned_exported_and_read(tmp_path: Path, mine: Path) -> None:
    code, _, err = rnnspn(tmp_path, *TINY, "--data", mine.name, "--out", "run")
    assert code == 0, err
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert (config["model"]["steps"], config["model"]["alphabet"]) == (2, "ABC")
    code, _, err = rnnspn(tmp_path, "export", "model.onnx", "--checkpoint", "run")
    assert code == 0, err
    assert str(tmp_path).encode() not in (tmp_path / "model.onnx").read_bytes()
    code, out, err = rnnspn(tmp_path, "predict", mine.name, "--format", "text")
    assert code == 0, err
    assert len(out.splitlines()) == 30
    code, out, err = rnnspn_here(tmp_path, "evaluate", "run")
    assert (code, len(out.splitlines())) == (0, 7)
    assert " mine validation, error per digit: " in f" {out.splitlines()[0].removeprefix(str(tmp_path) + '/')}"
    assert "mine validation, error at position 2: " in out
    assert " of 3, 95 % interval" in out
    code, _, err = rnnspn_here(tmp_path, "evaluate", "model.onnx")
    assert (code, err.splitlines()[-1]) == (
        2,
        "error: the model learned from pictures in a folder mine/; name others with --data",
    )
    code, _, err = rnnspn_here(tmp_path, "evaluate", "run/model.safetensors", "--split", "test")
    assert code == 2
    assert "--data" in err


def test_a_run_that_holds_nothing_out_cannot_be_judged_by_what_it_saw(tmp_path: Path, mine: Path) -> None:
    code, _, err = rnnspn_here(tmp_path, *TINY, "--data", mine.name, "--out", "run", "--no-validation")
    assert code == 0, err
    assert "validation" not in err
    assert err.splitlines()[-1] == "epoch 1; run"
    code, _, err = rnnspn_here(tmp_path, "evaluate", "run")
    assert code == 2
    assert "the model learned from the validation pictures too" in err


def test_a_small_network_has_a_folder_of_its_own_and_its_own_size(tmp_path: Path, mine: Path) -> None:
    code, _, err = rnnspn_here(tmp_path, *TINY, "--data", mine.name, "-d", "4")
    assert code == 0
    assert err.splitlines()[-1].endswith("runs/rnn-spn-nano-d4-best")
    assert (tmp_path / "runs" / "rnn-spn-nano-d4-best" / "model.safetensors").stat().st_size < 2_400_000


def test_a_run_folder_in_use_is_not_overwritten(workplace: Path) -> None:
    code, _, err = rnnspn_here(workplace, *TINY, "--out", RUN)
    assert code == 5
    assert "already holds a run; add --resume" in err


@pytest.mark.parametrize(
    ("arguments", "left_out"),
    [
        (["--family", "conv", "--epochs", "9"], "--family, --epochs"),
        (["--set", "zoom=0.5"], "--set"),
        (["--start-from", "bundled"], "--start-from"),
    ],
)
def test_resume_takes_no_other_values(workplace: Path, arguments: list[str], left_out: str) -> None:
    code, _, err = rnnspn_here(workplace, "train", "--resume", "--out", RUN, *arguments)
    assert code == 2
    assert err == f"error: --resume goes on with the run's own values; leave out {left_out}\n"


def test_a_run_killed_at_once_can_be_gone_on_with(tmp_path: Path, mine: Path) -> None:
    process = start(tmp_path, *TINY, "--data", mine.name, "--out", "run")
    while not (tmp_path / "run" / "config.json").exists():
        assert process.poll() is None
        time.sleep(0.005)
    process.kill()
    process.communicate()
    code, _, err = rnnspn(tmp_path, "train", "--resume", "--out", "run")
    assert code == 0, err
    assert (tmp_path / "run" / "model.safetensors").exists()


@pytest.mark.parametrize("model", [["ffn-spn", "-d", "3"], ["conv"]])
def test_every_family_is_trained_judged_exported_and_reads(tmp_path: Path, mine: Path, model: list[str]) -> None:
    small = ["--epochs", "1", "--limit", "8", "--height", "60", "--width", "60"]
    train = ["train", "--family", *model, *small, "--data", mine.name, "--out", "run"]
    for arguments in (
        train,
        ["evaluate", "run", "-q"],
        ["export", "model.onnx", "--checkpoint", "run"],
        ["predict", mine.name, "--format", "text", "--annotate", "drawn"],
    ):
        code, out, err = rnnspn_here(tmp_path, *arguments)
        assert code == 0, err
    assert len(out.splitlines()) == len(list((tmp_path / "drawn").iterdir())) == 30
    assert ("conv does not look at places" in err) == (model == ["conv"])


def test_sigint_leaves_a_checkpoint_that_resume_goes_on_from(tmp_path: Path, mine: Path) -> None:
    small = ["--size", "nano", "--epochs", "2", "--limit", "1280"]
    process = start(tmp_path, "train", "--data", mine.name, *small, "--out", "run")
    assert process.stderr is not None
    assert any("to go at" in line for line in process.stderr)  # reads no further
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "go on with: rnnspn train --resume --out run" in err
    assert (tmp_path / "run" / "checkpoint.safetensors").exists()
    labels = mine / "labels.csv"
    moved = mine.rename(tmp_path / "moved")
    labels = moved / "labels.csv"
    labels.write_text(labels.read_text().replace(",A", ",B", 1))
    code, _, err = rnnspn_here(tmp_path, "train", "--resume", "--out", "run")
    assert code == 2
    assert re.fullmatch(r"error: there is no folder .*mine; if it has moved, name it with --data, or .*\n", err)
    code, _, err = rnnspn_here(tmp_path, "train", "--resume", "--out", "run", "--data", "moved")
    assert code == 0, err
    assert f"the labels in {moved} have changed; the run goes on with what they say now" in err
    assert len((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()) == 2
    moved.rename(tmp_path / "elsewhere")
    code, _, err = rnnspn_here(tmp_path, "train", "--resume", "--out", "run")
    assert code == 0, err
    assert err.startswith("this run is finished; --start-from run begins another with its weights\n")
    export = ["export", "m.onnx", "--checkpoint", "run", "--precision", "w8a8", "--max-accuracy-drop", "100"]
    assert rnnspn_here(tmp_path, *export)[0] == 2
    code, _, err = rnnspn_here(tmp_path, *export, "--data", "elsewhere")
    assert code == 0, err
    assert "of 30 sequences right" in err


def test_what_the_first_weights_knew_is_known_of_those_after_them(tmp_path: Path) -> None:
    few = ("--epochs", "1", "--limit", "64", "--set", "batch=32", "--device", "cpu")
    known = "the weights to start from know the validation pictures: errors on them will look too good"
    for first, folder in (("bundled", "one"), ("one", "two")):
        code, _, err = rnnspn_here(tmp_path, "train", "--start-from", first, *few, "--out", folder)
        assert code == 0, err
        assert known in err
    code, _, err = rnnspn_here(tmp_path, "export", "two.onnx", "--checkpoint", "two")
    assert code == 0, err
    code, out, _ = rnnspn_here(tmp_path, "inspect", "two.onnx")
    assert "validation         none: the weights that it began with had learned from those pictures" in out
    for model in ("two", "two.onnx"):
        code, _, err = rnnspn_here(tmp_path, "evaluate", model)
        assert code == 2
        assert "the weights that the model began with had learned from the validation pictures; use --split test" in err


def test_a_folder_that_the_first_weights_knew_is_no_measure(tmp_path: Path, mine: Path) -> None:
    for options in (["--no-validation", "--out", "one"], ["--start-from", "one", "--out", "two"]):
        code, _, err = rnnspn_here(tmp_path, *TINY, "--data", mine.name, *options)
        assert code == 0, err
    code, _, err = rnnspn_here(tmp_path, "evaluate", "two", "--data", mine.name)
    assert code == 0, err
    assert f"{mine.name} looks like what the model learned from: errors on that are no measure" in err
    code, _, err = rnnspn_here(tmp_path, "evaluate", "two")
    assert code == 2
    assert "had learned from the validation pictures; name others with --data" in err
