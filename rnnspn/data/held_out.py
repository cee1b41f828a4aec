"""The pictures that a model is validated and tested on.

Shapes: n pictures, T digits, H x W pixels.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np

from rnnspn.alphabet import DIGITS
from rnnspn.config import AUTHORS_2015, SYNTHESIS, DataConfig, ModelConfig
from rnnspn.data.authors_2015 import SIZES, authors_2015
from rnnspn.data.examples import Examples
from rnnspn.data.labelled_folder import labelled_folder
from rnnspn.data.mnist import Mnist, load_mnist
from rnnspn.data.sequences import Sequences
from rnnspn.errors import ConfigError, DataError

_SEED = 0
"""Whatever seed a run has, it is validated and tested on the same pictures."""


def held_out(
    split: str, data: DataConfig, model: ModelConfig, mnist: Mnist | None = None, *, published: bool = True
) -> Examples:
    """Return the pictures of `validation` or `test`: the authors' published ones where they fit the model.

    Other shapes and layouts get as many synthesised ones, always the same; a model of a folder's pictures is validated
    on a tenth of them.

    Args:
        split: `validation` or `test`.
        data: What the model was trained on.
        model: The shape of what it reads.
        mnist: The digits, where they are at hand.
        published: False for synthesised pictures where there are published ones too.

    Raises:
        ConfigError: Synthesis does not know the model's shape or alphabet.
        DataError: MNIST is missing, the folder's pictures cannot be had, or the model learned from these.
    """
    if data.is_own and not published:
        raise DataError(
            f"the model learned from pictures in {data.source}, not from synthesised ones; "
            "leave --data out, or name others"
        )
    if split == "validation" and not data.validation:
        other = "name others with --data" if data.is_own else "use --split test, or others with --data"
        raise DataError(f"the model learned from the validation pictures too; {other}")
    if data.is_own:
        if split == "test":
            raise DataError(f"the model learned from pictures in {data.source}; name others to test it on with --data")
        if not Path(data.source).is_absolute():  # an exported file does not say where
            raise DataError(f"the model learned from pictures in a folder {data.source}; name others with --data")
        return labelled_folder(Path(data.source), model, split)
    mnist = mnist or load_mnist()
    if published and fits_authors_2015(model) and data.layout == "authors":
        source, (images, labels) = AUTHORS_2015, authors_2015(mnist, split)
    else:
        supply = sequences(mnist, split, replace(data, seed=_SEED), model)
        source, (images, labels) = SYNTHESIS, supply.pictures(np.arange(SIZES[split]))
    return Examples(f"{source} {split}", images, labels.astype(np.int64))


def fits_authors_2015(model: ModelConfig) -> bool:
    """Tell whether a model reads the shape of the authors' published data set."""
    return (model.steps, model.height, model.width, model.alphabet) == (3, 100, 100, DIGITS)


def sequences(mnist: Mnist, split: str, data: DataConfig, model: ModelConfig) -> Sequences:
    """Return the supply of synthesised pictures that fits a model.

    Raises:
        ConfigError: Synthesis does not know the model's shape or alphabet.
    """
    if model.alphabet != DIGITS:
        raise ConfigError(f"synthesis knows the alphabet {DIGITS} only, got {model.alphabet!r}")
    return Sequences(mnist, split, data.seed, data.layout, model.steps, model.height, model.width)
