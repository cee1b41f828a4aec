"""What a run learns, and the one step that it is made of."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from rnnspn.errors import TrainingError
from rnnspn.models.networks import Network
from rnnspn.training.batches import UNNAMED, Pictures
from rnnspn.training.checkpoint import Checkpoint, RunConfig, load_weights
from rnnspn.training.evaluation import as_input
from rnnspn.training.hardware import is_fast_in_bfloat16, keep_freed_memory
from rnnspn.training.optimisation import (
    WeightAverage,
    clip_gradients,
    dropout_rate,
    learning_rate,
    loss_of,
    make_optimiser,
    set_learning_rate,
)
from rnnspn.training.processes import Processes
from rnnspn.training.recorded import RecordedStep
from rnnspn.training.state import put_state, take_state
from rnnspn.training.transfer import transferred

_SENSIBLE_RATE = 1e-3


class Learner:
    """A network, the optimiser that moves its weights, and their running average.

    Args:
        config: The three configurations.
        device: Where to train.
        processes: Who else trains the same network.
        record: Whether a process that trains alone on CUDA records its steps.
    """

    def __init__(self, config: RunConfig, device: torch.device, processes: Processes, *, record: bool = True) -> None:
        if device.type == "cpu":
            keep_freed_memory()
        else:
            torch.backends.cudnn.benchmark = True  # every step has the same shapes
        self.config = config.train
        self.device = device
        self.precision = config.train.precision
        if self.precision == "fast":
            self.precision = "bfloat16" if is_fast_in_bfloat16(device) else "float32"
        torch.manual_seed(config.train.seed)
        network = Network(config.model)
        if network.localisation is not None:
            network.localisation.affine.start_at(config.train.initial_scale)
        self.network = network.to(device)
        self.optimiser = make_optimiser(self.network, config.train)
        self.average = WeightAverage(self.network, config.train.weight_average)
        self._averaged = Network(config.model).to(device).eval()
        self._processes = processes
        self._parallel = processes.parallel(self.network)
        self._records = record and device.type == "cuda" and processes.size == 1
        self._step = self._unrecorded()

    def take_step(self, step: int, pictures: Pictures) -> Tensor:
        """Take one optimiser step on this process's share of a batch.

        Args:
            step: Which, counted from 0 over the whole run.
            pictures: The share.

        Returns:
            What the share adds to the batch's mean loss, and its number of wrong digits, float (2,).

        Raises:
            TrainingError: The loss is no finite number.
        """
        config = self.config
        if config.dropout:
            self.network.set_dropout(dropout_rate(config, step))
            draw = (config.seed * 1_000_003 + step) * self._processes.size + self._processes.rank
            torch.manual_seed(draw % 2**63)  # of which the CPU takes 32 bits
        set_learning_rate(self.optimiser, learning_rate(config, step))
        self.average.prepare(step)
        return self._step(pictures)

    def averaged(self) -> Network:
        """Return a network with the average of the weights, in evaluation mode."""
        load_weights(self._averaged, self.average.weights)
        return self._averaged

    def expect_finite(self) -> None:
        """Stop where weights are no numbers any more, as after a gradient without bounds.

        Raises:
            TrainingError: They are not.
        """
        total = torch.stack([weight.sum() for weight in self.average.weights.values()]).sum()
        expect_finite(total.item(), self.config.learning_rate)

    def start_from(self, weights: Checkpoint) -> None:
        """Begin with the weights of a finished run instead of random ones; see `transfer`.

        Raises:
            CheckpointError: They are of a network of another shape, or damaged.
        """
        load_weights(self.network, transferred(weights, self.network))
        self.average = WeightAverage(self.network, self.config.weight_average)
        self._step = self._unrecorded()

    def state(self) -> dict[str, Tensor]:
        """Return all that a step depends on and changes, by name; see `state`."""
        return take_state(self.network, self.average, self.optimiser)

    def restore(self, tensors: dict[str, Tensor], *, started: bool) -> None:
        """Put a state back; `started` says whether a step had been taken.

        Raises:
            CheckpointError: Tensors are missing, left over or of another shape.
        """
        put_state(tensors, self.network, self.average, self.optimiser, started=started)
        self._step = self._unrecorded()

    def _unrecorded(self) -> Callable[[Pictures], Tensor]:
        """Return the step with nothing recorded: a recording is of the tensors of its time."""
        return RecordedStep(self._compute_step) if self._records else self._compute_step

    def _compute_step(self, pictures: Pictures) -> Tensor:
        """Do what is the same at every step; on CUDA nothing in it waits for the device, so that it can be recorded."""
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bfloat16"):
            output = self._parallel(as_input(pictures.images))
        loss, classification = loss_of(output, pictures, self.config)
        if self.device.type == "cpu":  # there the gradient of glimpses at places that are no numbers ends the process
            expect_finite(self._processes.total(loss.detach()).item(), self.config.learning_rate)
        self.optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        clip_gradients(self.network, self.config)
        self.optimiser.step()
        self.average.update(self.network)
        wrong = ((output.logits.argmax(-1) != pictures.labels) & (pictures.labels != UNNAMED)).sum()
        return torch.stack([classification / self._processes.size, wrong.float()])


def expect_finite(loss: float, rate: float) -> None:
    """Stop where training at a learning rate has come to nothing.

    Raises:
        TrainingError: The loss is no finite number.
    """
    if not math.isfinite(loss):
        raise TrainingError(
            "the loss is no finite number any more; begin again with a lower learning rate, such as "
            f"--set learning_rate={min(rate / 3, _SENSIBLE_RATE):.1g}"
        )
