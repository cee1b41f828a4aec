"""The frozen configurations that a run is made of; each is checked when it is made.

A network is rebuilt from its `ModelConfig` alone, a data set from its `DataConfig`, a run from its `TrainConfig`. All
three are saved in the checkpoint.
"""

import hashlib
import math
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path, PurePath
from typing import Any, TypeVar

from rnnspn.alphabet import BLANK
from rnnspn.errors import ConfigError
from rnnspn.files import is_folder

FAMILIES = ("rnn-spn", "ffn-spn", "conv")
LAYOUTS = ("authors", "paper")
SYNTHESIS = "synthesis"
AUTHORS_2015 = "authors-2015"
_MNIST = "mnist"
MAX_STEPS = 8
"""Digits of the longest sequence."""

Config = TypeVar("Config")


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """The shape of a network; the defaults are the paper's RNN-SPN with d = 3.

    Attributes:
        family: `rnn-spn` (a glimpse per step), `ffn-spn` (one glimpse for all) or `conv` (the whole picture).
        downsample: Down-sampling factor d: glimpses have int(H/d) x int(W/d) pixels. None for `conv`.
        steps: Digits in the longest sequence, T.
        height: Input height H in pixels.
        width: Input width W in pixels.
        alphabet: The character of each class, K of them; `BLANK` ends it where sequences may be shorter.
        localisation_filters: Filters of each convolution of the localisation network.
        localisation_units: Hidden units of `ffn-spn`'s localisation network.
        gru_units: Hidden units D of `rnn-spn`'s GRU.
        classifier_filters: Filters of each convolution of the classifier.
        classifier_units: Hidden units of the classifier.
    """

    family: str = "rnn-spn"
    downsample: int | None = 3
    steps: int = 3
    height: int = 100
    width: int = 100
    alphabet: str = "0123456789"
    localisation_filters: int = 20
    localisation_units: int = 200
    gru_units: int = 256
    classifier_filters: int = 32
    classifier_units: int = 256

    def __post_init__(self) -> None:
        _expect_one_of("family", self.family, FAMILIES)
        if self.family == "conv":
            if self.downsample is not None:
                raise ConfigError(
                    f"family conv sees the whole picture: expected no down-sampling, got {self.downsample}"
                )
        else:
            _expect_between("down-sampling factor", self.downsample, 1, 32)
        _expect_between("steps", self.steps, 1, MAX_STEPS)
        for name in (
            "localisation_filters",
            "localisation_units",
            "gru_units",
            "classifier_filters",
            "classifier_units",
        ):
            _expect_between(name, getattr(self, name), 1, 4096)
        _expect_between("height", self.height, 36, 2048)
        _expect_between("width", self.width, 36, 2048)
        if not (len(set(self.alphabet)) == len(self.alphabet) > 1 and self.alphabet.isprintable()):
            raise ConfigError(
                f"expected an alphabet of two or more different characters that can be printed, got {self.alphabet!r}"
            )
        if min(self.glimpse_size) < 18:
            height, width = self.glimpse_size
            raise ConfigError(
                f"a glimpse of {height}x{width} pixels is too small, expected at least 18 a side: "
                "lower the down-sampling factor or enlarge the pictures"
            )

    @property
    def classes(self) -> int:
        """Number of classes K."""
        return len(self.alphabet)

    @property
    def blank(self) -> int | None:
        """The class of what is after the end; None where all sequences have T digits."""
        return self.alphabet.index(BLANK) if BLANK in self.alphabet else None

    @property
    def glimpses(self) -> int:
        """Glimpses a picture: T for `rnn-spn`, 1 for `ffn-spn`, 0 for `conv`."""
        return {"rnn-spn": self.steps, "ffn-spn": 1, "conv": 0}[self.family]

    @property
    def glimpse_size(self) -> tuple[int, int]:
        """Height and width of what the classifier sees, in pixels."""
        factor = self.downsample or 1
        return int(self.height / factor), int(self.width / factor)


_FAMILY_DEFAULTS: dict[str, dict[str, Any]] = {
    "rnn-spn": {},
    "ffn-spn": {"classifier_filters": 96, "classifier_units": 400},
    "conv": {"classifier_filters": 96, "classifier_units": 400, "downsample": None},
}

SIZES: dict[str, dict[str, int]] = {
    "full": {},
    "small": {"localisation_filters": 16, "gru_units": 128, "classifier_units": 128},
    "nano": {"localisation_filters": 16, "gru_units": 64, "classifier_filters": 16, "classifier_units": 64},
}
"""The paper's RNN-SPN and smaller ones for weak devices, with filters in whole blocks of a 512-bit register."""


def family_config(family: str, size: str = "full", **overrides: Any) -> ModelConfig:
    """Return the paper's configuration of a family, with some values replaced.

    Args:
        family: One of `FAMILIES`.
        size: One of `SIZES`; all but `full` are for `rnn-spn`.
        **overrides: Values of `ModelConfig`.

    Raises:
        ConfigError: The family, the size or a value is not legal.
    """
    _expect_one_of("size", size, tuple(SIZES))
    if family != "rnn-spn" and size != "full":
        raise ConfigError(f"family {family} has one size: expected full, got {size}")
    return ModelConfig(**({"family": family} | _FAMILY_DEFAULTS.get(family, {}) | SIZES[size] | overrides))


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Where pictures come from.

    Attributes:
        source: `synthesis` (without end), `authors-2015` (the published set) or a folder of labelled pictures.
        layout: Placement of synthesised digits: `authors` (their code) or `paper` (its text).
        seed: Seed of the pictures that are synthesised to learn from; those held out are the same for all seeds.
        validation: Whether the validation pictures are held out. Without, they are learned from too and the last
            epoch's weights are kept: for the run before a model ships, with values that earlier runs have chosen.
        labels: SHA-256 of what a folder's labels said when the run began, in hexadecimal; empty for other sources.
        learned: Whose validation pictures the weights that the run began with had learned from, then or before: the
            `key` of each. A folder whose labels have changed since is only known again by the very next run.
    """

    source: str = SYNTHESIS
    layout: str = "authors"
    seed: int = 0
    validation: bool = True
    labels: str = ""
    learned: tuple[str, ...] = ()

    @property
    def is_own(self) -> bool:
        """Whether the source is a folder of one's own."""
        return self.source not in (SYNTHESIS, AUTHORS_2015)

    @property
    def name(self) -> str:
        """The source for others to see: of a folder its last name, with a slash, and not where it is."""
        return f"{PurePath(self.source).name}/" if self.is_own else self.source

    def moved_to(self, folder: Path) -> "DataConfig":
        """Return where the pictures of one's own are now.

        Raises:
            ConfigError: They were none, or there is no such folder.
        """
        if not self.is_own:
            raise ConfigError(f"the run learned from {self.source} and not from a folder; leave out --data")
        if not is_folder(folder):
            raise ConfigError(f"expected a folder with --data, got {folder}")
        return replace(self, source=str(folder.absolute()))

    @property
    def key(self) -> str:
        """What tells its pictures from others and gives no path away: `mnist`, or what a folder's labels said."""
        return (self.labels or hashlib.sha256(self.source.encode()).hexdigest()) if self.is_own else _MNIST

    @property
    def seen(self) -> bool:
        """Whether the weights that the run began with had learned from the validation pictures."""
        return self.validation and self.key in self.learned

    def after(self, other: "DataConfig") -> "DataConfig":
        """Return the same for a run that begins with weights of a run on `other`."""
        learned = {*other.learned} if other.validation else {*other.learned, other.key}
        if self.is_same(other) and other.key in learned:  # the folder may have been moved, or labels been added
            learned.add(self.key)
        return replace(self, learned=tuple(sorted(learned)))

    def is_same(self, other: "DataConfig") -> bool:
        """Tell whether both have their pictures from one place; an exported file knows a folder's last name alone."""
        if not (self.is_own and other.is_own):
            return self.is_own == other.is_own
        if self.labels and self.labels == other.labels:
            return True
        known = all(PurePath(data.source).is_absolute() for data in (self, other))
        return self.source == other.source if known else self.name == other.name

    def __post_init__(self) -> None:
        if not (isinstance(self.source, str) and isinstance(self.labels, str)):
            raise ConfigError(f"expected source and labels to be text, got {self.source!r} and {self.labels!r}")
        _expect_one_of("layout", self.layout, LAYOUTS)
        if not isinstance(self.validation, bool):
            raise ConfigError(f"expected validation to be true or false, got {self.validation!r}")
        if not (isinstance(self.learned, list | tuple) and all(isinstance(key, str) for key in self.learned)):
            raise ConfigError(f"expected a list of text for learned, got {self.learned!r}")
        object.__setattr__(self, "learned", tuple(self.learned))  # a list, where JSON was read
        _expect_between("data seed", self.seed, 0, 2**63 - 1)


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """How a network is trained; the two recipes of `rnnspn.training.recipes` are instances.

    Attributes:
        recipe: Name of the recipe the values came from.
        epochs: Epochs at most.
        epoch_images: Pictures per epoch; a fixed data set may hold fewer.
        batch: Pictures per step.
        seed: Seed of weights, order and dropout, of as many bits as the CPU's generator takes.
        optimiser: `rmsprop` (the paper's) or `adamw`.
        schedule: `paper` (divided by 1.5 after the 32nd epoch and every 12th after that) or `one-cycle`.
        learning_rate: Peak learning rate.
        weight_decay: AdamW's decoupled weight decay.
        dropout: Dropout rate of the classifier and, in `rnn-spn`, of the localisation network.
        dropout_ramp_epochs: Epochs over which the dropout rate rises linearly from 0.
        clip_element: Largest gradient element, 0 for no limit.
        clip_norm: Largest total norm of the gradients, 0 for no limit.
        log_epsilon: Added to the probability inside the logarithm of the loss.
        label_smoothing: Share of each label that is spread over all classes alike.
        precision: `float32`, `bfloat16` (convolutions and dense layers; GRU, theta and grid stay float32), or `fast`:
            bfloat16 where the device multiplies in it.
        weight_average: Decay per step of the exponential average of the weights, 0 for none.
        patience: Epochs without a better validation accuracy before training stops.
        initial_scale: Scale of the first glimpses: 1 is the whole picture.
        started_from: SHA-256 of the checkpoint whose weights the run started from; empty for random ones.
        zoom: Scale that the glimpses are drawn towards by `zoom_weight`; in pictures of one's own, how far characters
            are apart decides where it is known, and companions show it where it is not.
        zoom_weight: Weight in the loss of how far glimpses stray from plain crops at that scale, 0 for none.
        place_weight: Weight in the loss of the squared distance between glimpses and digits, where it is known where
            the digits are (synthesised pictures, and one's own that say so), 0 for none.
        distortion: How far the digits of synthesised pictures are bent, anew every epoch, or pictures of one's own are
            moved and turned, and cluttered with patches of each other where all labels have one length, anew every
            time; 0 for not at all.
        companions: Share of each batch, where the pictures are one's own, that is synthesised: lines of digits of every
            size, which teach where to look. `rnnspn.training.runs` sets a half.
    """

    recipe: str
    epochs: int
    batch: int
    optimiser: str
    schedule: str
    learning_rate: float
    epoch_images: int = 60_000
    seed: int = 0
    weight_decay: float = 0.0
    dropout: float = 0.0
    dropout_ramp_epochs: int = 0
    clip_element: float = 0.0
    clip_norm: float = 5.0
    log_epsilon: float = 0.0
    label_smoothing: float = 0.0
    precision: str = "float32"
    weight_average: float = 0.0
    patience: int = 1_000_000
    initial_scale: float = 1.0
    started_from: str = ""
    zoom: float = 1.0
    zoom_weight: float = 0.0
    place_weight: float = 0.0
    distortion: float = 0.0
    companions: float = 0.0

    def __post_init__(self) -> None:
        _expect_between("epochs", self.epochs, 1, 1_000_000)
        _expect_between("pictures per epoch", self.epoch_images, 1, 2**40)
        _expect_between("batch", self.batch, 1, 65_536)
        _expect_between("seed", self.seed, 0, 2**32 - 1)
        _expect_between("patience", self.patience, 1, 1_000_000)
        _expect_one_of("optimiser", self.optimiser, ("rmsprop", "adamw"))
        _expect_one_of("schedule", self.schedule, ("paper", "one-cycle"))
        _expect_one_of("precision", self.precision, ("fast", "float32", "bfloat16"))
        if not 0 <= self.dropout < 1:
            raise ConfigError(f"expected a dropout rate from 0 to below 1, got {self.dropout}")
        if not self.learning_rate > 0:
            raise ConfigError(f"expected a learning rate above 0, got {self.learning_rate}")
        if not 0 <= self.distortion <= 2:
            raise ConfigError(f"expected a distortion from 0 to 2, got {self.distortion}")
        if not 0 <= self.companions < 1:
            raise ConfigError(f"expected a share of companions from 0 to below 1, got {self.companions}")
        if not self.label_smoothing < 1:
            raise ConfigError(f"expected label smoothing from 0 to below 1, got {self.label_smoothing}")
        if self.label_smoothing and self.log_epsilon:
            raise ConfigError("expected label smoothing or a log epsilon, got both: the loss is of one form")
        if self.companions and self.log_epsilon:
            raise ConfigError("expected companions or a log epsilon, got both: companions have no labels")
        for field in fields(self):
            value = getattr(self, field.name)
            if field.type is float and not 0 <= value < math.inf:
                raise ConfigError(f"expected {field.name.replace('_', ' ')} to be 0 or more, got {value}")

    @property
    def labelled_per_batch(self) -> int:
        """Pictures of a batch that are no companions, one at the least."""
        return max(1, self.batch - int(self.batch * self.companions))

    @property
    def steps_per_epoch(self) -> int:
        """Optimiser steps in an epoch: whole batches only."""
        return max(1, self.epoch_images // self.batch)


def to_dict(config: Any) -> dict[str, Any]:
    """Return a configuration as a dictionary that JSON can hold."""
    return asdict(config)


def from_dict(kind: type[Config], values: dict[str, Any]) -> Config:
    """Rebuild a configuration from `to_dict`'s dictionary.

    Raises:
        ConfigError: A value is missing, unknown or not legal.
    """
    if not isinstance(values, dict):
        raise ConfigError(f"{kind.__name__}: expected values by name, got {values!r:.40}")
    unknown = values.keys() - {field.name for field in fields(kind)}  # type: ignore[arg-type]
    if unknown:
        raise ConfigError(f"{kind.__name__} knows no {', '.join(sorted(unknown))}")
    try:
        return kind(**values)
    except TypeError as error:
        raise ConfigError(f"{kind.__name__}: {error}") from None


def _expect_one_of(name: str, value: object, legal: tuple[str, ...]) -> None:
    if value not in legal:
        raise ConfigError(f"expected {name} to be one of {', '.join(legal)}; got {value!r}")


def _expect_between(name: str, value: object, low: int, high: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise ConfigError(f"expected {name} to be a whole number from {low} to {high}, got {value!r}")
