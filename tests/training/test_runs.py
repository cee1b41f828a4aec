import os
from dataclasses import replace
from pathlib import Path

import pytest

from rnnspn.config import DataConfig, family_config
from rnnspn.errors import CheckpointError, ConfigError, OutputError
from rnnspn.training import runs
from rnnspn.training.checkpoint import Checkpoint


@pytest.fixture(autouse=True)
def _in_a_new_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_a_run_gets_the_first_free_name_of_its_model_and_recipe() -> None:
    best, conv = runs.new_config("rnn-spn", "best"), runs.new_config("conv", "paper")
    assert runs.new_folder(None, best) == Path("runs/rnn-spn-d3-best")
    assert runs.new_folder(None, conv) == Path("runs/conv-paper")
    assert runs.new_folder(None, runs.new_config("rnn-spn", "best", size="nano", downsample=4)) == Path(
        "runs/rnn-spn-nano-d4-best"
    )
    for taken in ("rnn-spn-d3-best", "rnn-spn-d3-best-2"):
        Path("runs", taken).mkdir(parents=True)
    assert runs.new_folder(None, best) == Path("runs/rnn-spn-d3-best-3")


@pytest.mark.parametrize("name", ["checkpoint.safetensors", "model.safetensors"])
def test_a_folder_that_holds_a_run_is_not_given_to_another(name: str) -> None:
    Path("taken").mkdir()
    config = runs.new_config("rnn-spn", "best")
    assert runs.new_folder(Path("taken"), config) == Path("taken")
    Path("taken", name).touch()
    with pytest.raises(OutputError, match="taken already holds a run"):
        runs.new_folder(Path("taken"), config)


@pytest.mark.parametrize("name", ["config.json", "metrics.jsonl", "curves.png", "attention.png", "test.jsonl"])
def test_what_is_no_runs_is_not_replaced(name: str) -> None:
    Path("mine").mkdir()
    Path("mine", name).write_text("mine")
    with pytest.raises(OutputError, match=f"training would replace mine/{name}, which is no run's; choose another"):
        runs.new_folder(Path("mine"), runs.new_config("rnn-spn", "best"))


def test_the_authors_pictures_have_one_layout() -> None:
    with pytest.raises(
        ConfigError, match="the layout paper is for --data synthesis, got authors-2015; leave out --layout"
    ):
        runs.new_config("rnn-spn", "paper", layout="paper")
    assert runs.new_config("rnn-spn", "paper", data="synthesis", layout="paper").data.layout == "paper"


def test_a_folders_labels_give_the_shape_and_the_length_of_an_epoch() -> None:
    Path("mine").mkdir()
    for count, images in ((30, 12_000), (7_000, 14_000), (40_000, 60_000)):
        lines = [f"{number}.png,1x2y\n" for number in range(count)]
        Path("mine/labels.csv").write_text("".join(["path,label\n", *lines]))
        config = runs.new_config("rnn-spn", "best", data="mine")
        assert (config.model.steps, config.model.alphabet) == (4, "12xy")
        assert config.train.epoch_images == images
        assert config.data.source == str(Path("mine").absolute())


def test_labels_that_say_something_else_than_when_a_run_began_are_noticed() -> None:
    Path("mine").mkdir()
    labels = Path("mine/labels.csv")
    labels.write_text("path,label\na.png,12\nb.png,21\n")
    data = runs.new_config("rnn-spn", "best", data="mine").data
    labels.write_bytes(b"\xef\xbb\xbfpath,label\r\na.png,12 \r\n,\r\n./b.png,21")  # as a spreadsheet saves them
    assert not runs.labels_changed(data)
    for other in ("a.png,21\nb.png,21", "c.png,12\nb.png,21", "b.png,21\na.png,12", "a.png,12\nb.png,21\nc.png,12"):
        labels.write_text(f"path,label\n{other}\n")
        assert runs.labels_changed(data), other
    assert not runs.labels_changed(DataConfig())


def test_steps_that_the_labels_do_not_have_are_refused_before_the_labels_are_blamed() -> None:
    Path("mine").mkdir()
    Path("mine/labels.csv").write_text("path,label\na.png,12345\nb.png,54321\n")
    for steps in (2, 8):
        with pytest.raises(ConfigError, match=rf"labels in .*mine have 5 characters: expected --steps 5, got {steps}"):
            runs.new_config("rnn-spn", "best", data="mine", shape=(steps, None, None))
    Path("mine/labels.csv").write_text("path,label\na.png,12345\nb.png,1\n")
    assert runs.new_config("rnn-spn", "best", data="mine", shape=(7, None, None)).model.steps == 7


def test_a_run_that_starts_from_weights_has_their_shape_unless_told_otherwise() -> None:
    like = family_config("rnn-spn", "nano", downsample=2, steps=5, height=64, width=192, alphabet="abc", gru_units=48)
    taken = runs.new_config(None, "best", like=like)
    assert taken.model == replace(like, alphabet="0123456789")
    assert runs.new_folder(None, taken) == Path("runs/rnn-spn-d2-best")
    other = runs.new_config(None, "best", like=like, downsample=1, size="small", shape=(2, None, 100)).model
    assert other == family_config("rnn-spn", "small", downsample=1, steps=2, height=64, width=100)
    assert runs.new_config("conv", "best", like=like).model == family_config("conv")
    assert runs.new_config(None, "best", like=family_config("conv")).model == family_config("conv")
    Path("mine").mkdir()
    Path("mine/labels.csv").write_text("path,label\na.png,12x4\nb.png,2121\n")
    own = runs.new_config(None, "best", like=like, data="mine").model
    assert (own.steps, own.alphabet, own.width, own.gru_units) == (4, "124x", 192, 48)


def test_a_run_that_learned_from_no_folder_has_none_that_moved() -> None:
    with pytest.raises(ConfigError, match="the run learned from synthesis and not from a folder; leave out --data"):
        DataConfig().moved_to(Path())
    with pytest.raises(ConfigError, match="expected a folder with --data, got gone"):
        DataConfig(source="/mine").moved_to(Path("gone"))
    assert DataConfig(source="/mine", labels="ab").moved_to(Path()) == DataConfig(source=str(Path.cwd()), labels="ab")


def test_companions_are_for_glimpses_at_pictures_of_ones_own() -> None:
    Path("mine").mkdir()
    Path("mine/labels.csv").write_text("path,label\na.png,12\nb.png,34\n")
    assert runs.new_config("rnn-spn", "best", data="mine").train.companions == 0.5
    none = runs.new_config("rnn-spn", "best", data="mine", companions=0.0).train
    assert (none.companions, none.epoch_images) == (0, 6_000)
    for without in ({"place_weight": 0.0}, {"log_epsilon": 1e-5}):
        assert runs.new_config("rnn-spn", "best", data="mine", **without).train.companions == 0
    for others in (("rnn-spn", "paper", "mine"), ("ffn-spn", "best", "mine"), ("rnn-spn", "best", "synthesis")):
        assert runs.new_config(*others[:2], data=others[2]).train.companions == 0
        with pytest.raises(ConfigError, match="companions"):
            runs.new_config(*others[:2], data=others[2], companions=0.5)
    for share in (1.0, -0.1):
        with pytest.raises(ConfigError, match="companions"):
            runs.new_config("rnn-spn", "best", data="mine", companions=share)


def test_the_authors_larger_classifier_can_be_had() -> None:
    values = runs.parse_settings(["classifier_units=400", "learning_rate=0.001"])
    config = runs.new_config("rnn-spn", "paper", **values)
    assert (config.model.classifier_units, config.train.learning_rate) == (400, 0.001)


def test_an_epoch_smaller_than_a_batch_is_one_batch() -> None:
    assert runs.new_config("rnn-spn", "best", epoch_images=50).train.batch == 50


@pytest.mark.parametrize(
    ("setting", "value"),
    [("weight_decay=0.5", 0.5), ("batch=64", 64), ("optimiser=rmsprop", "rmsprop"), ("classifier_units=400", 400)],
)
def test_settings_have_the_type_of_what_they_set(setting: str, value: object) -> None:
    (got,) = runs.parse_settings([setting]).values()
    assert got == value
    assert type(got) is type(value)


@pytest.mark.parametrize("setting", ["batch", "batch=1.5", "weight_decay=", "seed=3", "epochs=1", "none=1", "=1"])
def test_settings_of_other_forms_names_or_types_are_refused(setting: str) -> None:
    with pytest.raises(ConfigError):
        runs.parse_settings([setting])


def test_the_newest_run_is_gone_on_with() -> None:
    configs = {name: runs.new_config("rnn-spn", "best", seed=seed) for seed, name in enumerate(("older", "newer"))}
    for age, (name, config) in zip((200, 100), configs.items(), strict=True):
        folder = Path("runs", name)
        Checkpoint(config, {}, {}).save(folder / "checkpoint.safetensors")
        os.utime(folder / "checkpoint.safetensors", (1e9 - age, 1e9 - age))
    assert runs.existing(None) == (Path("runs/newer"), configs["newer"])
    assert runs.existing(Path("runs/older")) == (Path("runs/older"), configs["older"])


def test_what_is_no_run_cannot_be_gone_on_with() -> None:
    with pytest.raises(CheckpointError, match="no run to go on with"):
        runs.existing(None)
    Path("named").mkdir()
    with pytest.raises(CheckpointError, match=r"there is no checkpoint named/checkpoint\.safetensors"):
        runs.existing(Path("named"))
    Path("named/checkpoint.safetensors").write_text("{")
    with pytest.raises(CheckpointError, match="is not a readable rnnspn checkpoint"):
        runs.existing(Path("named"))
