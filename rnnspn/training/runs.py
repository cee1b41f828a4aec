"""Run folders: which one to start, and which one to go on with."""

import hashlib
import itertools
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from rnnspn.config import AUTHORS_2015, SYNTHESIS, DataConfig, ModelConfig, TrainConfig, family_config
from rnnspn.data.labelled_folder import labels_of
from rnnspn.errors import CheckpointError, ConfigError, OutputError
from rnnspn.training.checkpoint import MODEL_FILE, STATE_FILE, Checkpoint, RunConfig
from rnnspn.training.recipes import default_source, train_config

RUNS = Path("runs")
_STEPS = 3
_LEAST_EPOCH, _MOST_EPOCH = 6_000, 60_000
"""Pictures of an epoch on a folder: a small one is gone through several times between validations."""
_COMPANIONS = 0.5
_SIZES = ("localisation_filters", "localisation_units", "gru_units", "classifier_filters", "classifier_units")
_GIVEN_OTHERWISE = ("recipe", "seed", "epochs", "epoch_images", "dropout", "started_from")


def new_config(
    family: str,
    recipe: str,
    *,
    size: str = "full",
    downsample: int | None = None,
    data: str | None = None,
    layout: str = "authors",
    seed: int = 0,
    validation: bool = True,
    shape: tuple[int | None, int, int] = (None, 100, 100),
    **overrides: Any,
) -> RunConfig:
    """Return the configuration of a new run.

    Args:
        family: Family of the paper.
        recipe: Name of a recipe.
        size: Size of the network.
        downsample: Down-sampling factor, None for the family's default.
        data: Source of pictures: `synthesis`, `authors-2015` or a folder; None for the recipe's.
        layout: Placement of synthesised digits.
        seed: Seed of weights, order, dropout and synthesis.
        validation: Whether pictures are held out to validate on.
        shape: Digits T, height H and width W in pixels; T is a folder's own or 3 where it is None.
        overrides: Values of `TrainConfig` and sizes of `ModelConfig` to replace; None keeps them. On a folder, the
            recipe `best` has half of each batch companions.

    Raises:
        ConfigError: A value is not legal.
        DataError: The folder holds no labels.
    """
    steps, height, width = shape
    values = {name: value for name, value in overrides.items() if value is not None}
    given: dict[str, Any] = {name: values.pop(name) for name in _SIZES if name in values}
    if downsample is not None:
        given["downsample"] = downsample
    source, said = data or default_source(recipe), ""
    if source not in (SYNTHESIS, AUTHORS_2015):
        if not Path(source).is_dir():
            raise ConfigError(f"expected data to be {SYNTHESIS}, {AUTHORS_2015} or a folder; got {source!r}")
        source = str(Path(source).absolute())
        labels = labels_of(Path(source))
        given["alphabet"], said, steps = labels.alphabet, labels.sha256, labels.steps if steps is None else steps
        if recipe == "best" and family == "rnn-spn" and values.get("place_weight", 1) and not values.get("log_epsilon"):
            values.setdefault("companions", _COMPANIONS)
        images = max(labels.pictures, _LEAST_EPOCH) / (1 - min(values.get("companions", 0), 0.9))
        values.setdefault("epoch_images", min(round(images), _MOST_EPOCH))
    elif values.get("companions"):
        raise ConfigError(f"companions are for pictures of one's own: expected 0 with {source}")
    model = family_config(family, size, steps=_STEPS if steps is None else steps, height=height, width=width, **given)
    config = train_config(recipe, model, seed=seed, **values)
    config = replace(config, batch=min(config.batch, config.epoch_images))
    pictures = DataConfig(source=source, layout=layout, seed=seed, validation=validation, labels=said)
    return RunConfig(model, pictures, config)


def parse_settings(settings: list[str]) -> dict[str, Any]:
    """Return the values of `TrainConfig`, and the sizes of `ModelConfig`, in a list of NAME=VALUE.

    Raises:
        ConfigError: One has no such form, no such name, or a value of another type.
    """
    kinds = {field.name: field.type for field in fields(TrainConfig) if field.name not in _GIVEN_OTHERWISE}
    kinds |= {field.name: field.type for field in fields(ModelConfig) if field.name in _SIZES}
    values: dict[str, Any] = {}
    for setting in settings:
        name, _, text = setting.partition("=")
        kind = kinds.get(name)
        if not isinstance(kind, type):
            raise ConfigError(f"expected settings NAME=VALUE with a name out of {', '.join(kinds)}; got {setting!r}")
        try:
            values[name] = kind(text)
        except ValueError:
            raise ConfigError(f"expected {name} to be of type {kind.__name__}, got {text!r}") from None
    return values


def new_folder(wanted: Path | None, config: RunConfig, size: str = "full") -> Path:
    """Return the folder of a new run: the one wanted, else the first free name under `runs/`.

    Raises:
        OutputError: The folder wanted already holds a run.
    """
    if wanted is not None:
        if any((wanted / name).exists() for name in (STATE_FILE, MODEL_FILE)):
            raise OutputError(f"{wanted} already holds a run; add --resume to go on with it, or choose another --out")
        return wanted
    factor = f"-d{config.model.downsample}" if config.model.downsample else ""
    name = f"{config.model.family}{'' if size == 'full' else f'-{size}'}{factor}-{config.train.recipe}"
    names = itertools.chain([name], (f"{name}-{number}" for number in itertools.count(2)))
    return next(RUNS / free for free in names if not (RUNS / free).exists())


def existing(wanted: Path | None) -> tuple[Path, RunConfig]:
    """Return the folder and configuration of a run to go on with: the one wanted, else the newest.

    Raises:
        CheckpointError: There is none, or its checkpoint cannot be read.
    """
    if wanted is None:
        states = sorted(RUNS.glob(f"*/{STATE_FILE}"), key=lambda path: path.stat().st_mtime)
        if not states:
            raise CheckpointError(f"no run to go on with under {RUNS}/; name one with --out, or start without --resume")
        wanted = states[-1].parent
    state = wanted / STATE_FILE
    if not state.exists():
        raise CheckpointError(f"{wanted} holds no run; start one without --resume")
    return wanted, Checkpoint.load(state).config


def labels_changed(data: DataConfig) -> bool:
    """Tell whether a folder's labels say something else than when a run began.

    Raises:
        DataError: The labels are gone, or no longer legal.
    """
    return bool(data.labels) and labels_of(Path(data.source)).sha256 != data.labels


def digest(checkpoint: Path | None) -> str | None:
    """Return the SHA-256 of a checkpoint file, None for none.

    Raises:
        CheckpointError: The file cannot be read.
    """
    if checkpoint is None:
        return None
    try:
        return hashlib.sha256(checkpoint.read_bytes()).hexdigest()
    except OSError as error:
        raise CheckpointError(f"cannot read {checkpoint}: {error.strerror}; name a run's {MODEL_FILE}") from None
