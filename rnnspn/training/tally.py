"""What a run remembers beside its tensors, and what it tells while it goes on."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from rnnspn.scores import Score, wilson_interval

_MANY_DIGITS = 10_000
"""Validated on so many, the best epoch is not best by luck alone."""


@dataclass(frozen=True)
class Progress:
    """Where a run stands, told every few steps.

    Attributes:
        step: Steps done.
        steps: Steps in the whole run.
        batch: Pictures per step.
        loss: Mean classification loss of the epoch so far.
        error: Share of training digits read wrongly in the epoch so far.
        images_per_second: Speed since the last report.
    """

    step: int
    steps: int
    batch: int
    loss: float
    error: float
    images_per_second: float


@dataclass
class Observer:
    """What a run tells while it goes on; every call is optional."""

    on_progress: Callable[[Progress], None] = lambda progress: None
    on_epoch: Callable[[dict[str, Any]], None] = lambda record: None
    should_stop: Callable[[], bool] = lambda: False


@dataclass
class Tally:
    """What a run has to remember beside its tensors.

    Attributes:
        step: Steps done.
        loss_sum: Sum of the classification loss over the steps of the epoch so far.
        wrong: Training digits read wrongly in the epoch so far.
        best_error: Lowest validation error of an epoch.
        best_epoch: The epoch of that, or the last one where nothing is validated on; -1 before the first.
        kept_epoch: The epoch whose weights are kept: that one or a later one.
        epochs: The records of the epochs.
    """

    step: int = 0
    loss_sum: float = 0.0
    wrong: float = 0.0
    best_error: float = math.inf
    best_epoch: int = -1
    kept_epoch: int = -1
    epochs: list[dict[str, Any]] = field(default_factory=list)

    @property
    def kept(self) -> dict[str, Any]:
        """The record of the epoch whose weights are kept."""
        return self.epochs[self.kept_epoch]

    def judge(self, score: Score | None, schedule: str) -> bool:
        """Take in how good the weights are after an epoch, and tell whether to keep them in the place of earlier ones.

        With the paper's schedule the best are kept. Towards the end of one cycle weights get better than a small
        validation set can tell: there the latest are kept that are not worse than the best by more than one standard
        error. Source: the rule of Breiman et al., Classification and Regression Trees, 1984.

        Args:
            score: On the validation pictures; None where nothing is validated on, which keeps the latest weights.
            schedule: Of the learning rate.
        """
        epoch = len(self.epochs)
        if score is None or score.digit_error < self.best_error:
            self.best_error = self.best_error if score is None else score.digit_error
            self.best_epoch = self.kept_epoch = epoch
        elif schedule == "one-cycle" and score.digits < _MANY_DIGITS:
            _, limit = wilson_interval(round(self.best_error * score.digits), score.digits, z=1.0)
            if score.digit_error <= limit:
                self.kept_epoch = epoch
        return self.kept_epoch == epoch
