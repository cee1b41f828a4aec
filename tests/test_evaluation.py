import json
from pathlib import Path

import numpy as np
import pytest
import torch

from rnnspn.config import DataConfig, family_config
from rnnspn.data.examples import Examples
from rnnspn.data.mnist import load_mnist
from rnnspn.data.sequences import Sequences
from rnnspn.evaluation import draw_report, exported, open_subject, trained
from rnnspn.models.networks import Network
from rnnspn.scores import Score
from rnnspn.training.checkpoint import Checkpoint, RunConfig
from rnnspn.training.recipes import train_config
from tests import handmade


@pytest.fixture(scope="module")
def pictures() -> Examples:
    images, labels = Sequences(load_mnist(), "test", seed=8).pictures(np.arange(300))
    return Examples("synthesis", images, labels.astype(np.int64))


def test_the_bundled_model_reads_most_of_what_it_was_trained_for(pictures: Examples) -> None:
    subject = open_subject("bundled", "cpu")
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


def test_a_checkpoint_and_its_log_are_put_to_the_test_alike(tmp_path: Path, pictures: Examples) -> None:
    torch.manual_seed(0)
    model = family_config("rnn-spn", gru_units=16, classifier_units=16)
    network = Network(model)
    run = RunConfig(model, DataConfig(), train_config("best", model))
    path = tmp_path / "model.safetensors"
    Checkpoint(run, {}, network.state_dict()).save(path)
    subject = open_subject(str(path))
    answers = subject.answer(pictures.images)
    with torch.no_grad():
        output = network.eval()(torch.from_numpy(pictures.images).unsqueeze(1) / 255)
    assert np.array_equal(answers.digits, output.logits.argmax(-1).numpy())
    best = output.logits.softmax(-1).amax(-1).prod(-1).numpy()
    np.testing.assert_allclose(answers.confidence, best, rtol=1e-4)
    assert not (tmp_path / "test.jsonl").exists()
    trained(path).log("authors-2015 test", Score.of(answers.digits, pictures.labels))
    assert json.loads((tmp_path / "test.jsonl").read_text())["data"] == "authors-2015 test"


def test_a_report_is_two_pictures(tmp_path: Path, pictures: Examples) -> None:
    answers = open_subject("bundled", "cpu").answer(pictures.images)
    files = draw_report(answers, pictures, "0123456789", tmp_path / "report")
    assert [path.name for path in files] == ["confusion.png", "mistakes.png"]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in files)
