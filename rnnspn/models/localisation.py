"""The localisation networks: where to look (eq. 1 and eqs. 5 to 7 of the paper).

Shapes: B pictures, T steps, H x W input pixels, F features, D hidden units.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rnnspn.config import ModelConfig
from rnnspn.models.layers import Dropout, conv, conv_size, dense, pool_size


class FeatureExtractor(nn.Module):
    """Three pairs of max-pooling and convolution: c = f_conv(I), eq. 5."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        filters = config.localisation_filters
        self.conv1 = conv(1, filters)
        self.conv2 = conv(filters, filters)
        self.conv3 = conv(filters, filters)
        self.dropout = Dropout()
        height, width = config.height, config.width
        for _ in range(3):
            height, width = conv_size(pool_size(height)), conv_size(pool_size(width))
        self.features = filters * height * width

    def forward(self, images: Tensor) -> Tensor:
        """Return the features c.

        Args:
            images: float (B, 1, H, W).

        Returns:
            float (B, F), in the order channel, row, column.
        """
        x = F.max_pool2d(images, 2)
        x = F.relu(F.max_pool2d(self.conv1(x), 2))  # pooling before ReLU: the same numbers, a quarter of the work
        x = F.relu(F.max_pool2d(self.dropout(self.conv2(x)), 2))
        return F.relu(self.conv3(x)).flatten(1)


class GRU(nn.Module):
    """The recurrent localisation: the same features at every step, eq. 6.

    r = sigmoid(W_xr c + W_hr h + b_r), u = sigmoid(W_xu c + W_hu h + b_u),
    n = tanh(W_xn c + r * (W_hn h) + b_n), h' = (1 - u) * h + u * n, from a learned h of step 0.
    """

    def __init__(self, features: int, units: int) -> None:
        super().__init__()
        self.input = nn.Linear(features, 3 * units)  # rows: reset, update, new
        self.hidden = nn.Linear(units, 3 * units, bias=False)
        self.initial = nn.Parameter(torch.zeros(units))
        nn.init.normal_(self.input.weight, std=0.1)
        nn.init.normal_(self.hidden.weight, std=0.1)
        nn.init.zeros_(self.input.bias)

    def step(self, from_input: Tensor, hidden: Tensor) -> Tensor:
        """Return the next hidden state.

        Args:
            from_input: float (B, 3*D), the input half of the gates.
            hidden: float (B, D) or (D,), the state before.

        Returns:
            float (B, D).
        """
        input_reset, input_update, input_new = from_input.chunk(3, dim=-1)
        hidden_reset, hidden_update, hidden_new = self.hidden(hidden).chunk(3, dim=-1)
        reset = torch.sigmoid(input_reset + hidden_reset)
        update = torch.sigmoid(input_update + hidden_update)
        new = torch.tanh(input_new + reset * hidden_new)
        return hidden + update * (new - hidden)

    def forward(self, features: Tensor, steps: int) -> Tensor:
        """Return the hidden state of every step.

        Args:
            features: float (B, F).
            steps: Number of steps T.

        Returns:
            float (B, T, D).
        """
        from_input = self.input(features)
        hidden: Tensor = self.initial
        states: list[Tensor] = []
        for _ in range(steps):
            hidden = self.step(from_input, hidden)
            states.append(hidden)
        return torch.stack(states, dim=1)


class AffineHead(nn.Linear):
    """The linear layer that turns a hidden state into an affine matrix, eq. 7; it starts at one fixed matrix."""

    def __init__(self, units: int) -> None:
        super().__init__(units, 6)
        nn.init.zeros_(self.weight)
        self.start_at(1.0)

    def start_at(self, scale: float) -> None:
        """Make the first glimpses `scale` times the picture's size, centred; 1 is the identity."""
        with torch.no_grad():
            self.bias.copy_(torch.tensor([scale, 0.0, 0.0, 0.0, scale, 0.0]))

    def forward(self, hidden: Tensor) -> Tensor:
        """Return affine matrices, float (..., 2, 3), of hidden states, float (..., D)."""
        return torch.unflatten(super().forward(hidden), -1, (2, 3))


class RecurrentLocalisation(nn.Module):
    """A matrix per step: features, GRU, linear layer."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.steps = config.steps
        self.extract = FeatureExtractor(config)
        self.gru = GRU(self.extract.features, config.gru_units)
        self.affine = AffineHead(config.gru_units)

    def forward(self, images: Tensor) -> Tensor:
        """Return theta, float (B, T, 2, 3), of pictures, float (B, 1, H, W)."""
        features = self.extract(images)
        with torch.autocast(images.device.type, enabled=False):  # positions need more than bfloat16's 8 bits
            theta: Tensor = self.affine(self.gru(_full(features), self.steps))
        return theta


class FeedForwardLocalisation(nn.Module):
    """One matrix for the whole sequence: features, dense layer, linear layer."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.extract = FeatureExtractor(config)
        self.hidden = dense(self.extract.features, config.localisation_units)
        self.affine = AffineHead(config.localisation_units)

    def forward(self, images: Tensor) -> Tensor:
        """Return theta, float (B, 1, 2, 3), of pictures, float (B, 1, H, W)."""
        features = self.extract(images)
        with torch.autocast(images.device.type, enabled=False):
            theta: Tensor = self.affine(F.relu(self.hidden(_full(features))))
        return theta.unsqueeze(1)


def _full(features: Tensor) -> Tensor:
    """Return features of float32 at the least."""
    return features.to(torch.promote_types(features.dtype, torch.float32))
