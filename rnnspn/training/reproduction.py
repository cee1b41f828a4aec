"""Table 1 of the paper, row by row: train, choose on the validation set, look once at the test set."""

import gc
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from rnnspn.config import AUTHORS_2015
from rnnspn.data.held_out import held_out
from rnnspn.errors import CheckpointError, ConfigError
from rnnspn.files import write_text
from rnnspn.scores import Score, wilson_interval
from rnnspn.training import runs
from rnnspn.training.checkpoint import CONFIG_FILE, MODEL_FILE, STATE_FILE, RunConfig
from rnnspn.training.evaluation import trained
from rnnspn.training.hardware import name_of
from rnnspn.training.loop import Trainer
from rnnspn.training.recipes import RECIPES
from rnnspn.training.tally import Observer, Tally

TABLE_FILE = "table1.json"
QUICK = {"epochs": 1, "epoch_images": 256}
"""Enough to walk every row's path, and far from enough to learn anything."""


@dataclass(frozen=True)
class Row:
    """One row of Table 1.

    Attributes:
        family: Family of the paper.
        downsample: Down-sampling factor d, None for `conv`.
        paper_error: The paper's error per digit, from 0 to 1.
    """

    family: str
    downsample: int | None
    paper_error: float

    @property
    def name(self) -> str:
        """Its name: the family, and d where there is one."""
        return self.family if self.downsample is None else f"{self.family}-d{self.downsample}"


ROWS = (
    Row("rnn-spn", 4, 0.023),
    Row("rnn-spn", 3, 0.018),
    Row("ffn-spn", 4, 0.053),
    Row("ffn-spn", 3, 0.029),
    Row("rnn-spn", 2, 0.015),
    Row("ffn-spn", 2, 0.020),
    Row("rnn-spn", 1, 0.018),
    Row("conv", None, 0.029),
    Row("ffn-spn", 1, 0.044),
)
"""Table 1, the cheapest rows first."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How the rows are trained.

    Attributes:
        folder: Holds a run folder for each row, and the results.
        recipe: `paper` or `best`.
        quick: Only walk the path: the figures are not the result.
        seed: Seed of everything random.
        epochs: Epochs at most, None for the recipe's.
        search: Dropout rates to choose from on the validation set, beside those that a finished row was trained
            with; none for the recipe's.
    """

    folder: Path
    recipe: str = "paper"
    quick: bool = False
    seed: int = 0
    epochs: int | None = None
    search: tuple[float, ...] = ()

    def config(self, row: Row, dropout: float) -> RunConfig:
        """Return the configuration of a row's run.

        Raises:
            ConfigError: A value is not legal.
        """
        train: dict[str, Any] = {"epochs": self.epochs, "dropout": dropout} | (QUICK if self.quick else {})
        return runs.new_config(row.family, self.recipe, downsample=row.downsample, seed=self.seed, **train)

    @property
    def dropouts(self) -> tuple[float, ...]:
        """The dropout rates to try."""
        return self.search or (RECIPES[self.recipe].dropout,)

    @property
    def is_the_result(self) -> bool:
        """Whether the rows are trained as the recipe says."""
        return not self.quick and self.epochs in (None, RECIPES[self.recipe].epochs)


@dataclass(frozen=True)
class Result:
    """A finished row.

    Attributes:
        row: The row.
        config: The run that the validation set chose.
        score: Its errors on the test set.
        validation_errors: By dropout rate, the error per digit on the validation set, from 0 to 1.
        epochs: Epochs it was trained for.
        hardware: What it was trained on.
    """

    row: Row
    config: RunConfig
    score: Score
    validation_errors: dict[float, float]
    epochs: int
    hardware: str

    @property
    def verdict(self) -> str:
        """Compare with the paper, whose figure is rounded to a tenth of a per cent: better, equal or worse."""
        low, high = wilson_interval(self.score.wrong_digits, self.score.digits)
        if high < self.row.paper_error - 0.0005:
            return "better"
        return "worse" if low > self.row.paper_error + 0.0005 else "equal"

    def to_dict(self) -> dict[str, Any]:
        """Return everything about the row as a dictionary that JSON can hold."""
        return {
            "row": self.row.name,
            "paper_digit_error": self.row.paper_error,
            "verdict": self.verdict,
            "validation_digit_error": self.validation_errors[self.config.train.dropout],
            "validation_digit_error_by_dropout": {str(rate): error for rate, error in self.validation_errors.items()},
            "epochs": self.epochs,
            "hardware": self.hardware,
            "test": self.score.to_dict(),
            "config": self.config.to_dict(),
        }


def pick_rows(names: str | None) -> tuple[Row, ...]:
    """Return the rows of a comma-separated list of names; all of them for None.

    Raises:
        ConfigError: A name is unknown.
    """
    if names is None:
        return ROWS
    by_name = {row.name: row for row in ROWS}
    wanted = [name.strip() for name in names.split(",")]
    if unknown := [name for name in wanted if name not in by_name]:
        raise ConfigError(f"expected rows out of {', '.join(by_name)}; got {unknown[0]!r}")
    return tuple(by_name[name] for name in wanted)


def parse_rates(text: str | None) -> tuple[float, ...]:
    """Return the numbers of a comma-separated list of dropout rates; none for None.

    Raises:
        ConfigError: One is no number; whether it is a legal rate, the run's configuration says.
    """
    try:
        return tuple(float(rate) for rate in text.split(",")) if text is not None else ()
    except ValueError:
        raise ConfigError(f"expected dropout rates such as 0,0.2,0.4; got {text!r}") from None


def run_row(row: Row, plan: Plan, device: torch.device, observer: Observer) -> Result | None:
    """Train and test a row, or go on where it was left; a finished row is only read.

    Args:
        row: The row.
        plan: How it is trained.
        device: Where.
        observer: Told of progress, asked whether to stop.

    Returns:
        The result, or None when the observer asked to stop.

    Raises:
        CheckpointError: The folder holds a run of another configuration, or a damaged one.
        ConfigError: A value of the plan is not legal.
        DataError: MNIST is missing.
        OutputError: The folder cannot be written.
    """
    done = _finished(row, plan)
    tried = set(done.validation_errors) if done else set()
    if done is not None and tried.issuperset(plan.search):
        return done
    tallies: dict[Path, tuple[RunConfig, Tally]] = {}
    for folder, config in list(_runs(row, plan, tried)):  # a rate that is not legal is known before hours are spent
        trainer = Trainer(folder, config, device, observer)
        if (folder / STATE_FILE).exists():
            trainer.restore()
        if not trainer.run():
            return None
        tallies[folder] = trainer.config, trainer.tally
        del trainer
        gc.collect()  # it holds itself, and on CUDA much of the device's memory
    kept = {folder: float(tally.kept["validation_digit_error"]) for folder, (_, tally) in tallies.items()}
    chosen = min(kept, key=kept.__getitem__)
    errors = {tallies[folder][0].train.dropout: error for folder, error in kept.items()}
    config, tally = tallies[chosen]
    subject = trained(chosen / MODEL_FILE)
    examples = held_out("test", config.data, config.model)
    score = Score.of(subject.answer(examples.images).digits, examples.labels)
    subject.log(examples.source, score)
    result = Result(row, config, score, errors, len(tally.epochs), name_of(device))
    document = {"is_the_result": plan.is_the_result} | _document(result, plan)
    write_text(_result_file(row, plan), json.dumps(document, indent=2) + "\n")
    return result


def finished(plan: Plan) -> list[Result]:
    """Return the results of all rows that are finished, in the order of `ROWS`.

    Raises:
        CheckpointError: One belongs to another plan, or cannot be read.
    """
    return [result for row in ROWS if (result := _finished(row, plan)) is not None]


def write_table(plan: Plan) -> Path:
    """Write the rows that are finished as one JSON file, and return it.

    Raises:
        CheckpointError: A row belongs to another plan, or cannot be read.
        OutputError: The file cannot be written.
    """
    path = plan.folder / TABLE_FILE
    document = {
        "recipe": plan.recipe,
        "data": AUTHORS_2015,
        "is_the_result": plan.is_the_result,
        "rows": [_document(result, plan) for result in finished(plan)],
    }
    write_text(path, json.dumps(document, indent=2) + "\n")
    return path


def _document(result: Result, plan: Plan) -> dict[str, Any]:
    return result.to_dict() | ({} if plan.is_the_result else {"verdict": None})


def _runs(row: Row, plan: Plan, tried: set[float]) -> Iterator[tuple[Path, RunConfig]]:
    """Yield the run of each dropout rate, tried before or not; what was trained without a search is there already."""
    alone = plan.folder / row.name
    for dropout in sorted(tried.union(plan.dropouts)):
        config = plan.config(row, dropout)
        is_there = not plan.search or _config_of(alone) == config
        apart = plan.folder / f"{row.name}-dropout-{repr(dropout).removesuffix('.0')}"
        yield alone if is_there else apart, config


def _config_of(folder: Path) -> RunConfig | None:
    """Return what a run folder was begun with, None where there is none that can be read."""
    try:
        return RunConfig.from_dict(json.loads((folder / CONFIG_FILE).read_text()))
    except (OSError, ValueError, ConfigError):
        return None


def _result_file(row: Row, plan: Plan) -> Path:
    return plan.folder / f"{row.name}.json"


def _finished(row: Row, plan: Plan) -> Result | None:
    path = _result_file(row, plan)
    try:
        document = json.loads(path.read_text())
        config = RunConfig.from_dict(document["config"])
        errors = {float(rate): error for rate, error in document["validation_digit_error_by_dropout"].items()}
        score = Score.from_dict(document["test"])
        result = Result(row, config, score, errors, document["epochs"], document["hardware"])
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{path} is not a readable result ({error}); remove it to test the row again") from None
    if plan.config(row, config.train.dropout) != config:
        raise CheckpointError(f"{path} belongs to another plan; repeat it with its own options or choose another --out")
    return result
