import json
import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rnnspn.config import SIZES, DataConfig, ModelConfig, TrainConfig, family_config, from_dict, to_dict
from rnnspn.errors import ConfigError
from rnnspn.models.networks import Network, parameter_count

TRAIN = TrainConfig(recipe="mine", epochs=3, batch=10, optimiser="adamw", schedule="one-cycle", learning_rate=1e-3)


def refused(make: Any, **values: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        make(**values)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"family": "cnn"}, "rnn-spn, ffn-spn, conv; got 'cnn'"),
        ({"family": "conv"}, "expected no down-sampling, got 3"),
        ({"downsample": None}, "down-sampling factor"),
        ({"downsample": 0}, "from 1 to 32, got 0"),
        ({"downsample": 2.5}, "whole number"),
        ({"downsample": True}, "whole number"),
        ({"steps": 0}, "from 1 to 8, got 0"),
        ({"steps": 9}, "from 1 to 8, got 9"),
        ({"height": 35}, "from 36 to 2048, got 35"),
        ({"width": 2049}, "from 36 to 2048, got 2049"),
        ({"gru_units": 0}, "gru_units"),
        ({"localisation_units": -1}, "localisation_units"),
        ({"classifier_filters": "32"}, "classifier_filters"),
        ({"alphabet": "0"}, "two or more different characters"),
        ({"alphabet": "0120"}, "two or more different characters"),
        ({"alphabet": "a\na"}, "two or more different characters"),
        ({"alphabet": "a\u00a0"}, "that can be printed, got 'a\\xa0'"),
        ({"downsample": 6}, "16x16 pixels is too small, expected at least 18 a side"),
        ({"height": 36, "downsample": 3}, "12x33 pixels is too small"),
    ],
)
def test_a_model_that_cannot_be_is_refused_in_one_line(values: dict[str, Any], says: str) -> None:
    assert says in refused(ModelConfig, **values)


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"layout": "random"}, "authors, paper; got 'random'"),
        ({"seed": -1}, "data seed"),
        ({"seed": 2**63}, "data seed"),
        ({"source": 5}, "source and labels to be text, got 5"),
        ({"labels": None}, "source and labels to be text"),
    ],
)
def test_data_that_cannot_be_is_refused_in_one_line(values: dict[str, Any], says: str) -> None:
    assert says in refused(DataConfig, **values)


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"epochs": 0}, "epochs"),
        ({"batch": 0}, "batch"),
        ({"epoch_images": 0}, "pictures per epoch"),
        ({"seed": -1}, "seed"),
        ({"optimiser": "sgd"}, "rmsprop, adamw; got 'sgd'"),
        ({"schedule": "none"}, "paper, one-cycle; got 'none'"),
        ({"precision": "float16"}, "float32, bfloat16; got 'float16'"),
        ({"dropout": 1.0}, "from 0 to below 1, got 1.0"),
        ({"label_smoothing": 1.0}, "label smoothing from 0 to below 1, got 1.0"),
        ({"label_smoothing": 0.1, "log_epsilon": 1e-5}, "label smoothing or a log epsilon"),
        ({"dropout": -0.1}, "from 0 to below 1, got -0.1"),
        ({"dropout": float("nan")}, "from 0 to below 1, got nan"),
        ({"learning_rate": 0.0}, "above 0, got 0.0"),
        ({"learning_rate": float("nan")}, "above 0, got nan"),
    ],
)
def test_training_that_cannot_be_is_refused_in_one_line(values: dict[str, Any], says: str) -> None:
    assert says in refused(lambda: replace(TRAIN, **values))


@pytest.mark.parametrize(("downsample", "size"), [(1, 100), (2, 50), (3, 33), (4, 25)])
def test_glimpses_have_the_papers_sizes(downsample: int, size: int) -> None:
    assert ModelConfig(downsample=downsample).glimpse_size == (size, size)


@pytest.mark.parametrize(("family", "glimpses"), [("rnn-spn", 3), ("ffn-spn", 1), ("conv", 0)])
def test_families_differ_as_in_the_paper(family: str, glimpses: int) -> None:
    config = family_config(family)
    assert config.glimpses == glimpses
    expected = (32, 256) if family == "rnn-spn" else (96, 400)
    assert (config.classifier_filters, config.classifier_units) == expected
    assert config.glimpse_size == ((100, 100) if family == "conv" else (33, 33))


def test_each_size_of_the_rnn_spn_has_fewer_weights_and_still_reads_three_digits() -> None:
    networks = [Network(family_config("rnn-spn", size)) for size in SIZES]
    assert [network(torch.zeros(2, 1, 100, 100)).logits.shape for network in networks] == [(2, 3, 10)] * 3
    counts = [parameter_count(network) for network in networks]
    assert counts == sorted(counts, reverse=True)
    assert counts[-1] < 600_000


def test_sizes_are_for_the_rnn_spn_alone() -> None:
    assert "expected full, got nano" in refused(family_config, family="conv", size="nano")
    assert "full, small, nano; got 'tiny'" in refused(family_config, family="rnn-spn", size="tiny")
    assert family_config("rnn-spn", "nano", gru_units=96).gru_units == 96


def test_values_given_replace_those_of_the_family() -> None:
    config = family_config("ffn-spn", downsample=2, classifier_units=7)
    assert (config.downsample, config.classifier_units, config.classifier_filters) == (2, 7, 96)


@settings(deadline=None)
@given(
    st.builds(
        ModelConfig,
        downsample=st.integers(1, 2),
        steps=st.integers(1, 8),
        height=st.integers(36, 2048),
        width=st.integers(36, 2048),
        alphabet=st.lists(st.characters(exclude_categories=["C", "Z"]), min_size=2, max_size=40, unique=True).map(
            "".join
        ),
        gru_units=st.integers(1, 4096),
    )
)
def test_a_configuration_comes_back_from_json_as_it_was(config: ModelConfig) -> None:
    assert from_dict(ModelConfig, json.loads(json.dumps(to_dict(config)))) == config
    assert config.classes == len(config.alphabet)


@pytest.mark.parametrize(
    ("ours", "theirs", "seen"),
    [
        (DataConfig(), DataConfig(validation=False), True),
        (DataConfig(), DataConfig(source="authors-2015", validation=False), True),
        (DataConfig(source="/mine"), DataConfig(source="/mine", validation=False), True),
        (DataConfig(source="/mine"), DataConfig(validation=False), False),
        (DataConfig(source="/mine"), DataConfig(source="/other/mine", validation=False), False),
        (DataConfig(source="/mine"), DataConfig(source="mine/", validation=False), True),  # from an exported file
        (DataConfig(source="/mine", labels="ab"), DataConfig(source="/moved", labels="ab", validation=False), True),
        (DataConfig(source="/synthesis"), DataConfig(validation=False), False),
        (DataConfig(), DataConfig(source="synthesis/", validation=False), False),
        (DataConfig(), DataConfig(), False),
        (DataConfig(), DataConfig(learned=("mnist",)), True),
        (DataConfig(source="/mine"), DataConfig(learned=("mnist",)), False),
        (DataConfig(), DataConfig(source="/mine", learned=("mnist",)), True),
        (DataConfig(source="/mine", labels="cd"), DataConfig(source="/mine", labels="ab", learned=("ab",)), True),
        (DataConfig(source="/mine", labels="cd"), DataConfig(source="/mine", labels="ab", learned=("ef",)), False),
        (DataConfig(validation=False), DataConfig(validation=False), False),
    ],
)
def test_weights_that_know_the_validation_pictures_are_told_apart(
    ours: DataConfig, theirs: DataConfig, seen: bool
) -> None:
    assert ours.after(theirs).seen == seen


@pytest.mark.parametrize("config", [DataConfig(seed=3, learned=("mnist", "ab")), TRAIN], ids=["data", "train"])
def test_so_do_the_other_two(config: Any) -> None:
    assert from_dict(type(config), json.loads(json.dumps(to_dict(config)))) == config


@pytest.mark.parametrize(
    ("values", "says"),
    [
        (to_dict(TRAIN) | {"momentum": 0.9}, "TrainConfig knows no momentum"),
        ({"recipe": "best"}, "TrainConfig: "),
        (to_dict(TRAIN) | {"batch": "many"}, "batch"),
        (to_dict(TRAIN) | {"weight_decay": -0.1}, "weight decay to be 0 or more"),
        (to_dict(TRAIN) | {"place_weight": math.inf}, "place weight to be 0 or more"),
        (to_dict(TRAIN) | {"clip_norm": "much"}, "TrainConfig: "),
    ],
)
def test_a_dictionary_that_does_not_fit_is_refused_in_one_line(values: dict[str, Any], says: str) -> None:
    assert says in refused(lambda: from_dict(TrainConfig, values))


@pytest.mark.parametrize(("images", "batch", "steps"), [(60_000, 100, 600), (250, 100, 2), (50, 100, 1)])
def test_an_epoch_has_whole_batches_only_and_at_least_one(images: int, batch: int, steps: int) -> None:
    assert replace(TRAIN, epoch_images=images, batch=batch).steps_per_epoch == steps
