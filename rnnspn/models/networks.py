"""The three families of the paper, built from one configuration out of shared parts.

Shapes: B pictures, T steps, G glimpses a picture (T, 1 or none), H x W input pixels, h x w glimpse pixels, K classes.

    rnn-spn   picture -> a matrix per step -> T glimpses -> one classifier, shared -> T digits
    ffn-spn   picture -> one matrix        -> 1 glimpse  -> one classifier         -> T digits
    conv      picture                                    -> one classifier         -> T digits
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from rnnspn.config import ModelConfig
from rnnspn.models.classifier import Classifier
from rnnspn.models.localisation import FeedForwardLocalisation, RecurrentLocalisation
from rnnspn.models.spatial_transformer import base_grid, sample_glimpses


class Output(NamedTuple):
    """What a network says of a batch.

    Attributes:
        logits: float (B, T, K).
        theta: float (B, G, 2, 3), or None for `conv`.
    """

    logits: Tensor
    theta: Tensor | None


class Network(nn.Module):
    """A network of any family; `config` alone rebuilds it.

    Filters lie in memory with their channels last, and so do features then, as fast convolutions and pooling want it.
    """

    grid: Tensor

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.localisation: RecurrentLocalisation | FeedForwardLocalisation | None = None
        if config.family == "rnn-spn":
            self.localisation = RecurrentLocalisation(config)
        elif config.family == "ffn-spn":
            self.localisation = FeedForwardLocalisation(config)
        self.classifier = Classifier(config, outputs=1 if config.family == "rnn-spn" else config.steps)
        self.register_buffer("grid", base_grid(*config.glimpse_size), persistent=False)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def look(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return what the classifier sees, and where it came from.

        Args:
            images: float (B, 1, H, W), grey levels 0 to 1.

        Returns:
            Glimpses, float (B*G, 1, h, w), and theta, float (B, G, 2, 3); for `conv` the pictures and None.
        """
        if self.localisation is None:
            return images, None
        theta = self.localisation(images)
        return sample_glimpses(images, theta, self.grid, self.config.glimpse_size), theta

    def forward(self, images: Tensor) -> Output:
        """Read pictures.

        Args:
            images: float (B, 1, H, W), grey levels 0 to 1.

        Returns:
            The logits of every step and the affine matrices.
        """
        glimpses, theta = self.look(images)
        logits = self.classifier(glimpses)  # (B*T, 1, K) or (B, T, K)
        return Output(logits.reshape(-1, self.config.steps, self.config.classes), theta)

    def set_dropout(self, rate: float) -> None:
        """Set the dropout rate of the classifier and, in `rnn-spn`, of the localisation network."""
        self.classifier.dropout.set_rate(rate)
        if isinstance(self.localisation, RecurrentLocalisation):
            self.localisation.extract.dropout.set_rate(rate)


def parameter_count(network: nn.Module) -> int:
    """Return the number of trainable weights."""
    return sum(parameter.numel() for parameter in network.parameters())
