"""What a run remembers beside its tensors, and what it tells while it goes on."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any


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
    """What a run has to remember beside its tensors."""

    step: int = 0
    loss_sum: float = 0.0
    wrong: float = 0.0
    best_error: float = math.inf
    best_epoch: int = -1
    epochs: list[dict[str, Any]] = field(default_factory=list)
