import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from exporters import to_onnx
from rnnspn.config import DataConfig, family_config
from rnnspn.data.examples import Examples
from rnnspn.data.mnist import load_mnist
from rnnspn.data.sequences import Sequences
from rnnspn.errors import OutputError
from rnnspn.evaluation import exported
from rnnspn.models.networks import Network
from rnnspn.report import write_report
from rnnspn.scores import Score
from rnnspn.training.checkpoint import Checkpoint, RunConfig
from rnnspn.training.evaluation import trained
from rnnspn.training.recipes import train_config
from tests import handmade


@pytest.fixture(scope="module")
def pictures() -> Examples:
    images, labels = Sequences(load_mnist(), "test", seed=8).pictures(np.arange(300))
    return Examples("synthesis", images, labels.astype(np.int64))


def test_the_bundled_model_reads_most_of_what_it_was_trained_for(pictures: Examples) -> None:
    subject = exported("bundled", "cpu")
    answers = subject.answer(pictures.images)
    score = Score.of(answers.digits, pictures.labels)
    assert score.digit_error < 0.05
    right = (answers.digits == pictures.labels).all(axis=1)
    assert answers.confidence[right].mean() > answers.confidence[~right].mean()


def test_an_exported_file_answers_in_indices_of_its_alphabet(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    facts = handmade.metadata(alphabet="abcdefghij")
    path.write_bytes(handmade.build(facts).SerializeToString())
    subject = exported(str(path), "cpu")
    assert subject.model.alphabet == "abcdefghij"
    answers = subject.answer(np.zeros((2, facts.height, facts.width), np.uint8))
    assert answers.digits.shape == (2, facts.steps)
    assert answers.digits.max() < 10


def test_a_report_leaves_out_blanks_at_the_end(tmp_path: Path) -> None:
    facts = handmade.metadata(alphabet="012345678␣")
    path = tmp_path / "model.onnx"
    path.write_bytes(handmade.build(facts).SerializeToString())
    subject = exported(str(path), "cpu")
    images = np.stack([handmade.picture_of("129"), handmade.picture_of("399")])
    written = Examples("some", images, np.array([[1, 2, 9], [3, 1, 9]]))
    answers = subject.answer(images)
    *_, readings = write_report(answers, written, subject.model, tmp_path / "report")
    rows = list(csv.DictReader(readings.read_text().splitlines()))
    assert [(row["label"], row["read"], row["right"]) for row in rows] == [("31", "3", "0"), ("12", "12", "1")]
    score = Score.of(answers.digits, written.labels, subject.model.blank)
    assert (score.wrong_digits, score.digits, score.wrong_sequences) == (1, 4, 1)


def test_a_checkpoint_and_its_log_are_put_to_the_test_alike(tmp_path: Path, pictures: Examples) -> None:
    torch.manual_seed(0)
    model = family_config("rnn-spn", gru_units=16, classifier_units=16)
    network = Network(model)
    run = RunConfig(model, DataConfig(), train_config("best", model))
    path = tmp_path / "model.safetensors"
    Checkpoint(run, {}, network.state_dict()).save(path)
    subject = trained(path)
    answers = subject.answer(pictures.images)
    with torch.no_grad():
        output = network.eval()(torch.from_numpy(pictures.images).unsqueeze(1) / 255)
    assert np.array_equal(answers.digits, output.logits.argmax(-1).numpy())
    best = output.logits.softmax(-1).amax(-1).prod(-1).numpy()
    np.testing.assert_allclose(answers.confidence, best, rtol=1e-4)
    assert not (tmp_path / "test.jsonl").exists()
    trained(path).log("authors-2015 test", Score.of(answers.digits, pictures.labels))
    assert json.loads((tmp_path / "test.jsonl").read_text())["data"] == "authors-2015 test"


def test_a_report_takes_the_place_of_no_picture(tmp_path: Path, pictures: Examples) -> None:
    subject = exported("bundled", "cpu")
    few = Examples("some", pictures.images[:1], pictures.labels[:1], (str(tmp_path / "confusion.png"),))
    (tmp_path / "confusion.png").write_bytes(b"a picture")
    with pytest.raises(OutputError, match=r"confusion\.png: it is one of the files to read"):
        write_report(subject.answer(few.images), few, subject.model, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["confusion.png"]


def test_a_report_is_three_pictures_and_a_list_of_readings(tmp_path: Path, pictures: Examples) -> None:
    subject = exported("bundled", "cpu")
    answers = subject.answer(pictures.images)
    *drawn, readings = write_report(answers, pictures, subject.model, tmp_path / "report")
    assert [path.name for path in drawn] == ["confusion.png", "mistakes.png", "attention.png"]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in drawn)
    rows = list(csv.DictReader(readings.read_text().splitlines()))
    right = (answers.digits == pictures.labels).all(axis=1)
    assert 0 < right.sum() < len(right) == len(rows)
    for part, chosen in ((rows[: (~right).sum()], ~right), (rows[(~right).sum() :], right)):
        assert {int(row["path"].removeprefix("picture ")) for row in part} == set(np.flatnonzero(chosen).tolist())
        assert {row["right"] for row in part} == {str(int(chosen is right))}
        sure = [float(row["confidence"]) for row in part]
        assert sure == sorted(sure, reverse=True)


@pytest.mark.parametrize("family", ["rnn-spn", "ffn-spn", "conv"])
def test_checkpoint_and_exported_file_look_at_the_same_places(tmp_path: Path, pictures: Examples, family: str) -> None:
    torch.manual_seed(0)
    model = family_config(family, classifier_filters=4, classifier_units=8)
    path = tmp_path / "model.safetensors"
    Checkpoint(RunConfig(model, DataConfig(), train_config("best", model)), {}, Network(model).state_dict()).save(path)
    to_onnx.export(path, tmp_path / "model.onnx")
    shown = pictures.images[:3]
    subjects = trained(path), exported(str(tmp_path / "model.onnx"), "cpu")
    looks = [subject.answer(shown).theta for subject in subjects]
    if family == "conv":
        assert looks == [None, None]
    else:
        assert looks[0].shape == looks[1].shape == (3, model.glimpses, 2, 3)
        np.testing.assert_allclose(looks[0], looks[1], atol=1e-4)
    answers = trained(path).answer(shown)
    files = write_report(answers, Examples("three", shown, pictures.labels[:3]), model, tmp_path)
    assert all(file.exists() for file in files)
