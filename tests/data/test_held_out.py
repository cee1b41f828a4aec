from pathlib import Path

import numpy as np
import pytest

from rnnspn.config import DataConfig, ModelConfig, family_config
from rnnspn.data.held_out import fits_authors_2015, held_out
from rnnspn.data.mnist import load_mnist
from rnnspn.data.sequences import Sequences
from rnnspn.errors import ConfigError, DataError

RNN = family_config("rnn-spn")
WIDE = family_config("rnn-spn", steps=4, width=130)


def test_a_model_of_the_authors_shape_is_held_to_their_pictures() -> None:
    assert fits_authors_2015(RNN)
    examples = held_out("test", DataConfig(), RNN)
    assert examples.source == "authors-2015 test"
    assert examples.images.shape == (10_000, 100, 100)
    assert examples.labels[:3].tolist() == [[9, 6, 0], [0, 8, 9], [4, 1, 5]]  # as published


@pytest.mark.parametrize(("data", "model"), [(DataConfig(layout="paper"), RNN), (DataConfig(seed=4), WIDE)])
def test_other_layouts_and_shapes_are_held_to_synthesised_ones(data: DataConfig, model: ModelConfig) -> None:
    examples = held_out("validation", data, model)
    supply = Sequences(load_mnist(), "validation", 0, data.layout, model.steps, model.height, model.width)
    images, labels = supply.pictures(np.arange(10_000))
    assert examples.source == "synthesis validation"
    assert np.array_equal(examples.images, images)
    assert np.array_equal(examples.labels, labels)


def test_where_there_are_published_pictures_others_can_be_had_too() -> None:
    synthesised, published = (held_out("test", DataConfig(), ModelConfig(), published=known) for known in (False, True))
    assert synthesised.source == "synthesis test"
    assert len(synthesised.images) == len(published.images)
    assert not (synthesised.images == published.images).all()


def test_synthesis_of_letters_is_refused() -> None:
    with pytest.raises(ConfigError, match="alphabet"):
        held_out("test", DataConfig(), family_config("rnn-spn", alphabet="abc"))


def test_a_model_of_ones_own_pictures_has_no_test_set(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="name others to test it on with --data"):
        held_out("test", DataConfig(source=str(tmp_path)), RNN)


def test_pictures_that_were_learned_from_do_not_judge(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="learned from the validation pictures too; use --split test"):
        held_out("validation", DataConfig(validation=False), RNN)
