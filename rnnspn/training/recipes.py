"""The two training recipes."""

from dataclasses import replace
from typing import Any

from rnnspn.config import AUTHORS_2015, SYNTHESIS, ModelConfig, TrainConfig
from rnnspn.errors import ConfigError

PAPER = TrainConfig(
    recipe="paper",
    epochs=300,
    batch=100,
    optimiser="rmsprop",
    schedule="paper",
    learning_rate=5e-4,
    log_epsilon=1e-5,
    patience=50,
    dropout=0.3,
)
"""Appendix of the paper and the authors' code; the paper chose a dropout rate for each row and does not give it."""

BEST = TrainConfig(
    recipe="best",
    epochs=32,
    batch=128,
    optimiser="adamw",
    schedule="one-cycle",
    learning_rate=1.5e-3,
    weight_decay=0.01,
    clip_norm=1.0,
    precision="fast",
    weight_average=0.999,
    initial_scale=0.45,
    zoom=0.34,
    zoom_weight=0.5,
    place_weight=5.0,
    distortion=1.0,
)
"""Endless bent digits, AdamW, one cycle of the learning rate, averaged weights, glimpses held near a digit's size and
drawn to the digits, whose places the synthesis knows; with `place_weight=0` they have to be found, as in the paper."""

RECIPES = {"paper": PAPER, "best": BEST}


def train_config(recipe: str, model: ModelConfig, **overrides: Any) -> TrainConfig:
    """Return a recipe for a family, with some values replaced.

    Raises:
        ConfigError: The recipe or a value is not legal.
    """
    if recipe not in RECIPES:
        raise ConfigError(f"expected recipe to be one of {', '.join(RECIPES)}; got {recipe!r}")
    config = RECIPES[recipe]
    if recipe == "paper" and model.family == "rnn-spn":
        config = replace(config, clip_element=1.0, dropout_ramp_epochs=5)
    if recipe == "best" and model.family != "rnn-spn":  # a glimpse of the whole sequence is as wide as the picture
        config = replace(config, initial_scale=1.0, zoom=1.0, zoom_weight=0.0, place_weight=0.0)
    config = replace(config, **overrides)
    if (config.place_weight or config.companions) and model.glimpses != model.steps:
        name = "place weight" if config.place_weight else "companions"
        raise ConfigError(f"expected {name} 0, as {model.family} has no glimpse for each digit")
    return config


def default_source(recipe: str) -> str:
    """Return where a recipe takes its pictures from."""
    return AUTHORS_2015 if recipe == "paper" else SYNTHESIS
