"""One optimiser step: loss, clipping, learning rate, RMSprop as the authors used it, and the average of the weights."""

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rnnspn.config import TrainConfig
from rnnspn.models.networks import Network, Output
from rnnspn.training.batches import UNNAMED, Pictures

_WARM_UP_STEPS = 100
"""Steps over which `one-cycle` rises to its peak, or a tenth of a shorter run."""


class RMSprop(torch.optim.Optimizer):
    """RMSprop with its epsilon inside the root: p -= lr * g / sqrt(mean of g squared + epsilon).

    Args:
        parameters: The weights.
        lr: Learning rate, a scalar tensor on the weights' device.
        decay: Decay rho of the running mean.
        epsilon: Added inside the root.

    Source: Tieleman and Hinton 2012, as in the authors' code; torch's own adds epsilon outside the root.
    """

    def __init__(
        self, parameters: Iterable[nn.Parameter], lr: Tensor, decay: float = 0.9, epsilon: float = 1e-6
    ) -> None:
        super().__init__(parameters, {"lr": lr, "decay": decay, "epsilon": epsilon})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]  # no closures here
        """Move the weights along their gradients."""
        for group in self.param_groups:
            weights = group["params"]
            gradients = [weight.grad for weight in weights]
            for weight in weights:
                if not self.state[weight]:
                    self.state[weight]["mean_square"] = torch.zeros_like(weight)
            means = [self.state[weight]["mean_square"] for weight in weights]
            torch._foreach_mul_(means, group["decay"])
            torch._foreach_addcmul_(means, gradients, gradients, 1 - group["decay"])
            moves = torch._foreach_div(gradients, torch._foreach_sqrt(torch._foreach_add(means, group["epsilon"])))
            torch._foreach_mul_(moves, group["lr"])
            torch._foreach_sub_(weights, moves)


def make_optimiser(network: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    """Return the configured optimiser; weight decay acts on matrices and filters, not on biases."""
    device = next(network.parameters()).device
    rate = torch.tensor(config.learning_rate, device=device)
    if config.optimiser == "rmsprop":
        return RMSprop(network.parameters(), rate)
    matrices = [weight for weight in network.parameters() if weight.ndim > 1]
    vectors = [weight for weight in network.parameters() if weight.ndim <= 1]
    groups: list[dict[str, Any]] = [{"params": matrices}, {"params": vectors, "weight_decay": 0.0}]
    return torch.optim.AdamW(
        groups,
        rate,
        betas=(0.9, 0.99),
        weight_decay=config.weight_decay,
        fused=True,
        capturable=device.type == "cuda",
    )


def set_learning_rate(optimiser: torch.optim.Optimizer, rate: float) -> None:
    """Set the learning rate in the optimiser's own tensors, where a recorded CUDA graph reads it."""
    for group in optimiser.param_groups:
        group["lr"].fill_(rate)


def learning_rate(config: TrainConfig, step: int) -> float:
    """Return the learning rate of a step, counted from 0 over the whole run."""
    if config.schedule == "paper":
        epoch = step // config.steps_per_epoch
        return config.learning_rate / 1.5 ** (0 if epoch < 32 else 1 + (epoch - 32) // 12)
    steps = config.epochs * config.steps_per_epoch
    warm_up = min(_WARM_UP_STEPS, steps / 10)
    if step < warm_up:
        return config.learning_rate * (step + 1) / (warm_up + 1)
    return config.learning_rate * (1 + math.cos(math.pi * (step - warm_up) / (steps - warm_up))) / 2


def dropout_rate(config: TrainConfig, step: int) -> float:
    """Return the dropout rate of a step: it rises linearly over the first epochs."""
    ramp = config.dropout_ramp_epochs * config.steps_per_epoch
    return config.dropout * min(1.0, step / ramp) if ramp else config.dropout


def loss_of(output: Output, pictures: Pictures, config: TrainConfig) -> tuple[Tensor, Tensor]:
    """Return what to minimise, and the classification loss in it.

    Args:
        output: The network's output; logits float (B, T, K), theta float (B, G, 2, 3) or None.
        pictures: What was read: labels int64 (B, T), and the places and sizes of the digits where they are known.
        config: Gives `log_epsilon`, `label_smoothing`, `zoom`, `zoom_weight` and `place_weight`.

    Returns:
        Two scalars.
    """
    logits, labels = output.logits.float().flatten(0, 1), pictures.labels.flatten()
    if config.log_epsilon:
        named = logits.softmax(-1).gather(1, labels.unsqueeze(1))
        classification = -(named + config.log_epsilon).log().mean()
    else:
        classification = F.cross_entropy(logits, labels, ignore_index=UNNAMED, label_smoothing=config.label_smoothing)
    loss = classification
    if config.zoom_weight and output.theta is not None:
        zooms = output.theta.new_full((len(output.theta), 2), config.zoom) if pictures.zooms is None else pictures.zooms
        loss = loss + config.zoom_weight * stray(output.theta, zooms)
    if config.place_weight and output.theta is not None and pictures.centres is not None:
        away = torch.nan_to_num(output.theta[..., 2] - pictures.centres, nan=0.0)  # of unknown places, nothing
        loss = loss + config.place_weight * away.square().sum(-1).mean()
    return loss, classification.detach()


def stray(theta: Tensor, zooms: Tensor) -> Tensor:
    """Return how far glimpses stray from plain crops of the picture's inside, squared.

    A glimpse beyond the border sees one colour and gets no gradient, so nothing else would ever bring it back.

    Args:
        theta: float (B, G, 2, 3).
        zooms: Scales of a plain crop, across and down, float (B, 2); NaN where any will do.

    Returns:
        The mean over all glimpses: the squared distance of the linear part from that of a plain crop, plus that of the
        centre from the nearest place where three quarters of a plain crop lie inside the picture.
    """
    linear, centre = theta[..., :2], theta[..., 2]
    away = torch.nan_to_num(linear - torch.diag_embed(zooms).unsqueeze(1), nan=0.0)
    edge = 1 - torch.nan_to_num(zooms, nan=0.0).unsqueeze(1) / 2
    return (away.square().sum((-1, -2)) + (centre.abs() - edge).clamp_min(0).square().sum(-1)).mean()


def clip_gradients(network: nn.Module, config: TrainConfig) -> None:
    """Clip each gradient element, then the total norm, as configured."""
    if config.clip_element:
        nn.utils.clip_grad_value_(network.parameters(), config.clip_element)
    if config.clip_norm:
        nn.utils.clip_grad_norm_(network.parameters(), config.clip_norm)


class WeightAverage:
    """An exponential average of a network's weights, kept beside it."""

    def __init__(self, network: Network, decay: float) -> None:
        self.decay = decay
        self.weights = {name: weight.detach().clone() for name, weight in network.state_dict().items()}
        self._share = torch.zeros((), device=next(network.parameters()).device)

    def prepare(self, step: int) -> None:
        """Set what share a step's weights will have; early on the average is shorter, so that it forgets the start."""
        self._share.fill_(1 - min(self.decay, (step + 1) / (step + 10)))

    @torch.no_grad()
    def update(self, network: Network) -> None:
        """Take in the weights after a step."""
        averages = [self.weights[name] for name, _ in network.named_parameters()]
        moves = torch._foreach_sub([weight.detach() for weight in network.parameters()], averages)
        torch._foreach_mul_(moves, self._share)
        torch._foreach_add_(averages, moves)
