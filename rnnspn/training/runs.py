"""Run folders: which one to start, and which one to go on with."""

import itertools
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from rnnspn.alphabet import BLANK
from rnnspn.config import AUTHORS_2015, SIZES, SYNTHESIS, DataConfig, ModelConfig, TrainConfig, family_config, to_dict
from rnnspn.data.labels import digest_of, labels_of
from rnnspn.errors import CheckpointError, ConfigError, OutputError
from rnnspn.files import exists, is_folder
from rnnspn.training.checkpoint import FILES, MODEL_FILE, RUNS, STATE_FILE, Checkpoint, RunConfig
from rnnspn.training.recipes import default_source, train_config

_FAMILY, _STEPS = "rnn-spn", 3
_LEAST_EPOCH, _MOST_EPOCH = 6_000, 60_000
"""Pictures of an epoch on a folder: a small one is gone through several times between validations."""
_COMPANIONS = 0.5
_SIZES = ("localisation_filters", "localisation_units", "gru_units", "classifier_filters", "classifier_units")
_SHAPE = ("downsample", "height", "width")
_OPTIONS = {
    "recipe": "--recipe",
    "seed": "--seed",
    "epochs": "--epochs",
    "epoch_images": "--limit",
    "dropout": "--dropout",
    "started_from": "--start-from",
}
"""Values of `TrainConfig` that have options of their own."""


def new_config(
    family: str | None,
    recipe: str,
    *,
    size: str | None = None,
    downsample: int | None = None,
    data: str | None = None,
    layout: str = "authors",
    seed: int = 0,
    validation: bool = True,
    shape: tuple[int | None, int | None, int | None] = (None, None, None),
    like: ModelConfig | None = None,
    **overrides: Any,
) -> RunConfig:
    """Return the configuration of a new run.

    Args:
        family: Family of the paper, `rnn-spn` where it is None.
        recipe: Name of a recipe.
        size: Size of the network, `full` where it is None.
        downsample: Down-sampling factor, None for the family's default.
        data: Source of pictures: `synthesis`, `authors-2015` or a folder; None for the recipe's.
        layout: Placement of synthesised digits.
        seed: Seed of weights, order, dropout and synthesis.
        validation: Whether pictures are held out to validate on.
        shape: Digits T, height H and width W in pixels; where it is None, T is a folder's own or 3, H and W are 100.
        like: A network whose weights the run will start from: what is None is as in it.
        overrides: Values of `TrainConfig` and sizes of `ModelConfig` to replace; None keeps them. On a folder, the
            recipe `best` has half of each batch companions.

    Raises:
        ConfigError: A value is not legal.
        DataError: The folder holds no labels.
    """
    steps, height, width = shape
    values = {name: value for name, value in overrides.items() if value is not None}
    usual, given = _STEPS, dict[str, Any]()
    if like is not None and family in (None, like.family):
        family, usual = like.family, like.steps
        given = {name: getattr(like, name) for name in (_SHAPE if size else _SHAPE + _SIZES)}
    given |= {name: values.pop(name) for name in _SIZES if name in values}
    asked = {"downsample": downsample, "height": height, "width": width}
    given |= {name: value for name, value in asked.items() if value is not None}
    family = family or _FAMILY
    source, said = data or default_source(recipe), ""
    if source not in (SYNTHESIS, AUTHORS_2015):
        if not is_folder(Path(source)):
            raise ConfigError(f"expected data to be {SYNTHESIS}, {AUTHORS_2015} or a folder; got {source!r}")
        source = str(Path(source).absolute())
        labels = labels_of(Path(source))
        given["alphabet"], said, usual = labels.alphabet, labels.sha256, labels.steps
        if steps is not None and (steps < usual or (steps > usual and BLANK not in labels.alphabet)):
            lengths = " or ".join(str(length) for length in labels.lengths)
            raise ConfigError(
                f"the labels in {source} have {lengths} characters: expected --steps {usual}, got {steps}"
            )
        if recipe == "best" and family == "rnn-spn" and values.get("place_weight", 1) and not values.get("log_epsilon"):
            values.setdefault("companions", _COMPANIONS)
        images = max(labels.pictures, _LEAST_EPOCH) / (1 - min(values.get("companions", 0), 0.9))
        values.setdefault("epoch_images", min(round(images), _MOST_EPOCH))
    elif values.get("companions"):
        raise ConfigError(f"companions are for pictures of one's own: expected 0 with {source}")
    if source != SYNTHESIS and layout != "authors":
        raise ConfigError(f"the layout {layout} is for --data {SYNTHESIS}, got {source}; leave out --layout")
    model = family_config(family, size or "full", steps=usual if steps is None else steps, **given)
    config = train_config(recipe, model, seed=seed, **values)
    config = replace(config, batch=min(config.batch, config.epoch_images))
    pictures = DataConfig(source=source, layout=layout, seed=seed, validation=validation, labels=said)
    return RunConfig(model, pictures, config)


def parse_settings(settings: list[str]) -> dict[str, Any]:
    """Return the values of `TrainConfig`, and the sizes of `ModelConfig`, in a list of NAME=VALUE.

    Raises:
        ConfigError: One has no such form, no such name, or a value of another type.
    """
    kinds = {field.name: field.type for field in fields(TrainConfig) if field.name not in _OPTIONS}
    kinds |= {field.name: field.type for field in fields(ModelConfig) if field.name in _SIZES}
    values: dict[str, Any] = {}
    for setting in settings:
        name, _, text = setting.partition("=")
        kind = kinds.get(name)
        if name in _OPTIONS:
            raise ConfigError(f"{name} has an option of its own: say {_OPTIONS[name]} in the place of --set {setting}")
        if not isinstance(kind, type):
            raise ConfigError(f"expected settings NAME=VALUE with a name out of {', '.join(kinds)}; got {setting!r}")
        try:
            values[name] = kind(text)
        except ValueError:
            raise ConfigError(f"expected {name} to be of type {kind.__name__}, got {text!r}") from None
    return values


def new_folder(wanted: Path | None, config: RunConfig) -> Path:
    """Return the folder of a new run: the one wanted, else the first free name under `runs/`.

    Raises:
        OutputError: The folder wanted already holds a run, or a file of another kind that a run would replace.
    """
    if wanted is not None:
        if any(exists(wanted / name) for name in (STATE_FILE, MODEL_FILE)):
            raise OutputError(f"{wanted} already holds a run; add --resume to go on with it, or choose another --out")
        if foreign := next(filter(exists, (wanted / name for name in FILES)), None):
            raise OutputError(f"training would replace {foreign}, which is no run's; choose another --out")
        return wanted
    model = config.model
    sizes = [size for size, values in SIZES.items() if values and values.items() <= to_dict(model).items()]
    name = "-".join(
        [model.family, *sizes, *([f"d{model.downsample}"] if model.downsample else []), config.train.recipe]
    )
    names = itertools.chain([name], (f"{name}-{number}" for number in itertools.count(2)))
    return next(RUNS / free for free in names if not (RUNS / free).exists())


def existing(wanted: Path | None, data: str | None = None) -> tuple[Path, RunConfig]:
    """Return the folder and configuration of a run to go on with: the one wanted, else the newest.

    Args:
        wanted: The run's folder.
        data: Where the folder of pictures that it learns from is now, None where it was.

    Raises:
        ConfigError: The run learns from no folder, or there is no such one.
        CheckpointError: There is none, or its checkpoint cannot be read.
    """
    if wanted is None:
        states = sorted(RUNS.glob(f"*/{STATE_FILE}"), key=lambda path: path.stat().st_mtime)
        if not states:
            raise CheckpointError(f"no run to go on with under {RUNS}/; name one with --out, or start without --resume")
        wanted = states[-1].parent
    config = Checkpoint.load(wanted / STATE_FILE).config
    return wanted, replace(config, data=config.data.moved_to(Path(data))) if data else config


def labels_changed(data: DataConfig) -> bool:
    """Tell whether a folder's labels say something else than when a run began.

    Raises:
        DataError: The labels are gone, or contradict each other.
    """
    return bool(data.labels) and digest_of(Path(data.source)) != data.labels
