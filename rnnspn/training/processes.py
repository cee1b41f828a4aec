"""The processes of a run: one, or several that torchrun started, each with an equal share of every batch."""

import atexit
import gc
import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from rnnspn.config import TrainConfig
from rnnspn.errors import ConfigError, TrainingError

_Value = TypeVar("_Value")


def started_by_torchrun() -> bool:
    """Tell whether this is one of several processes."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


@dataclass(frozen=True)
class Processes:
    """Which process this is, out of how many; alone by default.

    Attributes:
        rank: Number of this process, from 0.
        size: How many there are.
    """

    rank: int = 0
    size: int = 1

    @classmethod
    def join(cls, device: torch.device) -> "Processes":
        """Meet the others that torchrun started, over nccl on CUDA and gloo on the CPU, until this process ends."""
        if not started_by_torchrun():
            return cls()
        if not distributed.is_initialized():
            import torch.distributed.nn.functional  # noqa: F401  # loaded later, it would hold the group for good

            distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
            atexit.register(_leave)
        return cls(distributed.get_rank(), distributed.get_world_size())

    @property
    def writes(self) -> bool:
        """Whether this is the one process that writes files and talks."""
        return self.rank == 0

    @property
    def share(self) -> slice:
        """This process's share of a batch: every `size`-th picture."""
        return slice(self.rank, None, self.size)

    def check(self, config: TrainConfig) -> None:
        """Refuse a batch that cannot be shared equally: the mean of the shares would not be the batch's.

        Raises:
            ConfigError: It, or its part that is no companions, is no multiple of the number of processes.
        """
        for count, what in ((config.batch, "pictures"), (config.labelled_per_batch, "pictures beside companions")):
            if count % self.size:
                raise ConfigError(
                    f"expected batches of a multiple of {self.size} {what} for {self.size} processes, got {count}"
                )

    def parallel(self, network: nn.Module) -> nn.Module:
        """Return what to call in training: it averages the gradients over all processes."""
        if self.size == 1:
            return network
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # the argument's new name is unknown to older releases
            return DistributedDataParallel(network, broadcast_buffers=False, gradient_as_bucket_view=True)

    def total(self, values: Tensor) -> Tensor:
        """Return the sum over all processes, one for each value.

        Raises:
            TrainingError: One of them has ended.
        """
        if self.size == 1:
            return values
        values = values.clone()
        with _others_there():
            distributed.all_reduce(values)
        return values

    def agree(self, choose: Callable[[], _Value]) -> _Value:
        """Let the first process choose, and tell the others.

        Raises:
            TrainingError: The first has ended, perhaps as it could not choose.
        """
        if self.size == 1:
            return choose()
        chosen = [choose() if self.writes else None]
        with _others_there():
            distributed.broadcast_object_list(chosen)
        return chosen[0]  # type: ignore[return-value]  # the first process put it there


@contextmanager
def _others_there() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        raise TrainingError(f"another process of the run has ended; see what it says ({error})") from None


def _leave() -> None:
    """End the group's threads while there still is an interpreter.

    A thread that lets go of a tensor after that ends the process with SIGABRT, however well it has trained. The
    threads end with the last that holds the group: a network that averages gradients is one, so nothing may hold it.
    """
    gc.collect()
    distributed.destroy_process_group()
