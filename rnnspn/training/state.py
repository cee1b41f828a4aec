"""What a run needs to go on as if it had never stopped, as tensors by name.

| name | what |
|---|---|
| `weights/NAME` | the network's weights |
| `average/NAME` | their running average |
| `optimiser/INDEX/NAME` | what the optimiser keeps for the weight of this index, from the first step on |
"""

import torch
from torch import Tensor

from rnnspn.models.networks import Network
from rnnspn.training.checkpoint import expect_tensors, load_weights
from rnnspn.training.optimisation import RMSprop, WeightAverage

_KEPT = {RMSprop: ("mean_square",), torch.optim.AdamW: ("step", "exp_avg", "exp_avg_sq")}
"""What each optimiser keeps for a weight: tensors of the weight's shape, and the number of steps."""


def take_state(network: Network, average: WeightAverage, optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Return all tensors of a run under their names."""
    tensors = {f"weights/{name}": weight for name, weight in network.state_dict().items()}
    tensors |= {f"average/{name}": weight for name, weight in average.weights.items()}
    for index, state in optimiser.state_dict()["state"].items():
        tensors |= {f"optimiser/{index}/{name}": value for name, value in state.items()}
    return tensors


def put_state(
    tensors: dict[str, Tensor],
    network: Network,
    average: WeightAverage,
    optimiser: torch.optim.Optimizer,
    *,
    started: bool,
) -> None:
    """Put the tensors of a run back.

    Args:
        tensors: As `take_state` gave them.
        network: Takes the weights.
        average: Takes their average.
        optimiser: Takes its state.
        started: A step was taken, so that the optimiser has a state.

    Raises:
        CheckpointError: Tensors are missing, left over or of another shape.
    """
    weights = [weight for group in optimiser.param_groups for weight in group["params"]]
    shapes = {f"weights/{name}": weight.shape for name, weight in network.state_dict().items()}
    shapes |= {f"average/{name}": weight.shape for name, weight in average.weights.items()}
    kept = _KEPT[type(optimiser)] if started else ()
    for index, weight in enumerate(weights):
        shapes |= {f"optimiser/{index}/{name}": _shape_of(name, weight) for name in kept}
    expect_tensors(shapes, tensors)
    load_weights(network, _below("weights/", tensors))
    for name, tensor in _below("average/", tensors).items():
        average.weights[name].copy_(tensor)
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in _below("optimiser/", tensors).items():
        number, key = name.split("/")
        state.setdefault(int(number), {})[key] = _laid_out_like(weights[int(number)], tensor)
    optimiser.load_state_dict({**optimiser.state_dict(), "state": state})


def _shape_of(name: str, weight: Tensor) -> torch.Size:
    return torch.Size() if name == "step" else weight.shape


def _laid_out_like(weight: Tensor, tensor: Tensor) -> Tensor:
    """Copy a tensor of the weight's shape into its memory layout: the fused optimiser needs it."""
    return torch.empty_like(weight).copy_(tensor) if tensor.shape == weight.shape else tensor


def _below(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
