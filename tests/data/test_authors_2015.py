import hashlib

import numpy as np
import pytest

from rnnspn.data import authors_2015 as module
from rnnspn.data.authors_2015 import SIZES, authors_2015
from rnnspn.data.mnist import Mnist
from rnnspn.errors import ConfigError

PUBLISHED = {
    "train": (
        "35c22e0b3fb2a77899f9d8ce627ff28a159e0b947b55e7e03b0f44fa61ebab93",
        "547fb1aaa3faad0a37498f75d658eb365f75802430207c4ab5f749152cd8ef0c",
    ),
    "validation": (
        "0c413aa10f6c084f4f3b49bff4c7c8a7d0daeeca13fb459b3f427e8f702b5e8d",
        "498ce8f1b9ec692e55e53c99fc5e9597172e665a2918aef01f4fa89e5e2fc23c",
    ),
    "test": (
        "ada398773ad4d7d1acef870de6c385294fdc91509fe614fe2d4aab70374925e0",
        "b42c6b8320cc76eafc3847d569a64ed92e8604e46bad323c2dd0e65d60bc6a23",
    ),
}
"""SHA-256 of the pictures and of the labels that the authors' own script makes."""


@pytest.mark.parametrize("split", PUBLISHED)
def test_every_part_is_the_published_one_bit_for_bit(mnist: Mnist, split: str) -> None:
    images, labels = authors_2015(mnist, split)
    assert images.shape == (SIZES[split], 100, 100)
    assert labels.shape == (SIZES[split], 3)
    assert images.dtype == labels.dtype == np.uint8
    assert (hashlib.sha256(images).hexdigest(), hashlib.sha256(labels).hexdigest()) == PUBLISHED[split]
    if split == "test":
        assert labels[:3].tolist() == [[9, 6, 0], [0, 8, 9], [4, 1, 5]]


def test_one_more_draw_anywhere_changes_everything_after_it(mnist: Mnist, monkeypatch: pytest.MonkeyPatch) -> None:
    rightly = module._mersenne_twister_words()
    next(rightly)
    monkeypatch.setattr(module, "_mersenne_twister_words", lambda: rightly)
    monkeypatch.setattr(module, "SIZES", {"test": SIZES["test"]})
    images, _ = authors_2015(mnist, "test")
    assert hashlib.sha256(images).hexdigest() != PUBLISHED["test"][0]


def test_raw_words_give_the_numbers_of_numpys_own_generator() -> None:
    words, generator = module._mersenne_twister_words(), np.random.RandomState(1234)
    for limit in (110_000, 19, 19, 50_000, 16, 100, 28, 91, 2, 2**16) * 20:
        assert module._below(words, limit) == generator.randint(limit)


def test_a_split_that_is_not_there_is_refused(mnist: Mnist) -> None:
    with pytest.raises(ConfigError, match="train, validation, test; got 'valid'"):
        authors_2015(mnist, "valid")
