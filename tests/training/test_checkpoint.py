import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save, save_file

from rnnspn.config import DataConfig, family_config
from rnnspn.errors import CheckpointError, ConfigError, OutputError
from rnnspn.models.networks import Network
from rnnspn.scores import Score
from rnnspn.training import checkpoint
from rnnspn.training.checkpoint import Checkpoint, RunConfig, find_model, log_test_score, logged_test_score
from rnnspn.training.recipes import train_config

MODEL = family_config("rnn-spn", gru_units=8, localisation_filters=4, classifier_filters=4, classifier_units=9)
CONFIG = RunConfig(MODEL, DataConfig(seed=5), train_config("best", MODEL))
HEADER = {"format": 1, "config": CONFIG.to_dict(), "notes": {"epoch": 3}}


@pytest.fixture(scope="module")
def network() -> Network:
    torch.manual_seed(0)
    return Network(MODEL)


def refusal(path: Path) -> str:
    with pytest.raises(CheckpointError) as refused:
        Checkpoint.load(path)
    assert "\n" not in str(refused.value)
    assert str(path) in str(refused.value)
    return str(refused.value)


def test_a_checkpoint_comes_back_as_it_was_saved(tmp_path: Path) -> None:
    turned = torch.arange(6.0).reshape(2, 3).T
    tensors = {"a": turned, "b/c": torch.tensor(7, dtype=torch.int64), "d": torch.ones(2, requires_grad=True)}
    Checkpoint(CONFIG, {"epoch": 3, "best": 0.25}, tensors).save(tmp_path / "new" / "file")
    loaded = Checkpoint.load(tmp_path / "new" / "file")
    assert loaded.config == CONFIG
    assert loaded.notes == {"epoch": 3, "best": 0.25}
    assert loaded.tensors.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert torch.equal(loaded.tensors[name], tensor)
        assert loaded.tensors[name].dtype == tensor.dtype


def test_a_checkpoint_gives_its_network_ready_to_read(network: Network) -> None:
    rebuilt = Checkpoint(CONFIG, {}, network.state_dict()).network()
    assert rebuilt.config == MODEL
    assert not rebuilt.training
    for name, weight in network.state_dict().items():
        assert torch.equal(rebuilt.state_dict()[name], weight)


def test_a_missing_checkpoint_is_told_with_the_mend(tmp_path: Path) -> None:
    assert "rnnspn train" in refusal(tmp_path / "none.safetensors")


def test_every_truncation_of_a_checkpoint_is_refused(tmp_path: Path) -> None:
    Checkpoint(CONFIG, {}, {"a": torch.ones(50)}).save(tmp_path / "file")
    content = (tmp_path / "file").read_bytes()
    for length in range(0, len(content), 61):
        (tmp_path / "file").write_bytes(content[:length])
        assert "not a readable rnnspn checkpoint" in refusal(tmp_path / "file")


def test_a_folder_and_a_pickle_are_no_checkpoints(tmp_path: Path) -> None:
    assert "not a readable" in refusal(tmp_path)
    torch.save({"a": torch.ones(2)}, tmp_path / "file")
    assert "not a readable" in refusal(tmp_path / "file")


def test_other_programs_safetensors_are_refused(tmp_path: Path) -> None:
    for metadata in (None, {"format": "pt"}):
        save_file({"a": torch.ones(2)}, tmp_path / "file", metadata)
        said = refusal(tmp_path / "file")
        assert said.endswith("not a readable rnnspn checkpoint (it does not say what its weights are of)")


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        ("{", "not a readable"),
        ("[" * 100_000, "not a readable"),
        ("[]", "expected a format"),
        ("7", "expected a format"),
        (json.dumps({"config": {}, "notes": {}}), "expected a format"),
        (json.dumps({"format": 1, "notes": {}}), "expected a format"),
        (json.dumps({"format": 1, "config": {}}), "expected a format"),
        (json.dumps(HEADER | {"format": 2}), "format 2, this release reads format 1"),
        (json.dumps(HEADER | {"format": 0}), "format 0"),
        (json.dumps(HEADER | {"format": "1"}), "format '1'"),
        (json.dumps(HEADER | {"notes": ["epoch"]}), "notes by name, got ['epoch']"),
        (json.dumps(HEADER | {"config": HEADER["config"] | {"data": {"validation": "no"}}}), "true or false, got 'no'"),
        (json.dumps(HEADER | {"config": {}}), "not whole"),
        (json.dumps(HEADER | {"config": []}), "not whole"),
        (json.dumps(HEADER | {"config": HEADER["config"] | {"model": 3}}), "values by name, got 3"),
        (json.dumps(HEADER | {"config": HEADER["config"] | {"data": None}}), "values by name, got None"),
        (json.dumps(HEADER | {"config": HEADER["config"] | {"data": {"colour": 1}}}), "colour"),
        (json.dumps(HEADER | {"config": HEADER["config"] | {"model": {"family": "other"}}}), "family"),
    ],
)
def test_a_checkpoint_that_says_what_it_should_not_is_one_line(tmp_path: Path, header: str, reason: str) -> None:
    (tmp_path / "file").write_bytes(save({"a": torch.ones(2)}, {"rnnspn": header}))
    assert reason in refusal(tmp_path / "file")


def test_a_configuration_that_claims_more_than_memory_holds_is_refused() -> None:
    model = family_config(
        "rnn-spn", downsample=1, height=2048, width=2048, gru_units=4096, localisation_filters=4096,
        classifier_filters=4096, classifier_units=4096,
    )  # fmt: skip
    config = RunConfig(model, DataConfig(), train_config("best", model))
    with pytest.raises(CheckpointError, match="does not fit its own configuration"):
        Checkpoint(config, {}, {"a": torch.ones(2)}).network()


def test_a_checkpoint_knows_the_digest_of_the_bytes_it_was_read_from(tmp_path: Path) -> None:
    Checkpoint(CONFIG, {}, {"a": torch.ones(2)}).save(tmp_path / "file")
    content = (tmp_path / "file").read_bytes()
    assert Checkpoint.load(tmp_path / "file").sha256 == hashlib.sha256(content).hexdigest()


def test_a_runs_configuration_survives_json_and_lacks_nothing() -> None:
    values = json.loads(json.dumps(CONFIG.to_dict()))
    assert RunConfig.from_dict(values) == CONFIG
    for part in ("model", "data", "train"):
        with pytest.raises(ConfigError, match=part):
            RunConfig.from_dict({name: value for name, value in values.items() if name != part})


def test_weights_that_do_not_fit_the_configuration_are_refused_by_name(network: Network) -> None:
    good = network.state_dict()
    names = sorted(good)
    few = {name: good[name] for name in names[2:]}
    for tensors, what, named, more in (
        (few, "lacks", names[:2], False),
        (good | {"other": torch.ones(1)}, "too much:", ["other"], False),
        (good | {names[0]: torch.ones(9, 9)}, "another shape:", names[:1], False),
        ({name: good[name] for name in names[3:]}, "lacks", names[:3], False),
        ({name: good[name] for name in names[4:]}, "lacks", names[:3], True),
    ):
        with pytest.raises(CheckpointError) as refused:
            Checkpoint(CONFIG, {}, tensors).network()
        assert str(refused.value).endswith(f"{what} {', '.join(named)}{' and more' if more else ''}")


@pytest.mark.parametrize("kind", [torch.int64, torch.bool])
def test_weights_that_are_whole_numbers_are_refused(network: Network, kind: torch.dtype) -> None:
    tensors = {name: weight.to(kind) for name, weight in network.state_dict().items()}
    with pytest.raises(CheckpointError, match="floating-point numbers, got others for classifier"):
        Checkpoint(CONFIG, {}, tensors).network()


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused(network: Network, value: float) -> None:
    tensors = {name: weight.clone() for name, weight in network.state_dict().items()}
    tensors["classifier.hidden.bias"][3] = value
    with pytest.raises(CheckpointError, match=r"finite floating-point numbers, got others for classifier.hidden.bias$"):
        Checkpoint(CONFIG, {}, tensors).network()


def test_a_file_that_does_not_fit_is_named(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    Checkpoint(CONFIG, {}, {}).save(path)
    with pytest.raises(CheckpointError, match=f"{path}: the checkpoint does not fit"):
        Checkpoint.load(path).network()


def test_the_newest_model_is_found_whatever_its_name(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="rnnspn train"):
        find_model(tmp_path)
    for name, when in (("b", 300), ("a", 100), ("c", 200)):
        (tmp_path / name).mkdir()
        (tmp_path / name / checkpoint.MODEL_FILE).touch()
        os.utime(tmp_path / name / checkpoint.MODEL_FILE, (when, when))
    assert find_model(tmp_path) == tmp_path / "b" / checkpoint.MODEL_FILE
    row = tmp_path / "table1-best" / "conv" / checkpoint.MODEL_FILE
    row.parent.mkdir(parents=True)
    row.touch()
    assert find_model(tmp_path) == row


def test_every_look_at_the_test_set_is_kept_and_the_newest_of_a_checkpoint_is_found(tmp_path: Path) -> None:
    assert logged_test_score(tmp_path, "one") is None
    for sha256, when in (("one", "first"), ("two", "second"), ("one", "third"), ("two", "fourth")):
        log_test_score(tmp_path, sha256, "authors-2015", Score(30, 3, 10, 2, (1, 2, 0), (10,) * 3), when)
    assert len((tmp_path / checkpoint.TEST_LOG).read_text().splitlines()) == 4
    found = logged_test_score(tmp_path, "one")
    assert found is not None
    assert found["when"] == "third"
    assert found["data"] == "authors-2015"
    assert logged_test_score(tmp_path, "three") is None
    log_test_score(tmp_path, "one", "synthesis test", Score(30, 3, 10, 2, (1, 2, 0), (10,) * 3), "fifth")
    assert logged_test_score(tmp_path, "one") == found
    log_test_score(tmp_path, "three", "synthesis test", Score(30, 3, 10, 2, (1, 2, 0), (10,) * 3), "sixth")
    last = logged_test_score(tmp_path, "three")
    assert last is not None
    assert last["when"] == "sixth"


@pytest.mark.parametrize("make", [Path.mkdir, lambda path: path.write_bytes(b"\xff")])
def test_a_log_that_cannot_be_read_is_one_error(tmp_path: Path, make: Callable[[Path], object]) -> None:
    make(tmp_path / checkpoint.TEST_LOG)
    with pytest.raises(OutputError, match=r"not a readable log .*remove it"):
        log_test_score(tmp_path, "one", "authors-2015", Score(30, 3, 10, 2, (1, 2, 0), (10,) * 3), "now")
