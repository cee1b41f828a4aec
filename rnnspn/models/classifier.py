"""The classifier: what is in a glimpse.

Shapes: B crops, h x w crop pixels, S softmax layers, K classes.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rnnspn.config import ModelConfig
from rnnspn.models.layers import Dropout, conv, conv_size, dense, pool_size


class Classifier(nn.Module):
    """Three convolutions, a dense layer and one softmax layer per digit it has to name.

    Dropout stands where the authors' code has it, after the first two convolutions; the paper's table has it after all
    three.
    """

    def __init__(self, config: ModelConfig, outputs: int) -> None:
        super().__init__()
        filters = config.classifier_filters
        self.outputs = outputs
        self.conv1 = conv(1, filters)
        self.conv2 = conv(filters, filters)
        self.conv3 = conv(filters, filters)
        self.dropout = Dropout()
        height, width = (conv_size(pool_size(conv_size(pool_size(conv_size(n))))) for n in config.glimpse_size)
        self.hidden = dense(filters * height * width, config.classifier_units)
        self.logits = nn.ModuleList(dense(config.classifier_units, config.classes) for _ in range(outputs))

    def forward(self, crops: Tensor) -> Tensor:
        """Return logits.

        Args:
            crops: float (B, 1, h, w).

        Returns:
            float (B, S, K).
        """
        x = self.dropout(F.relu(F.max_pool2d(self.conv1(crops), 2)))
        x = self.dropout(F.relu(F.max_pool2d(self.conv2(x), 2)))
        x = F.relu(self.conv3(x)).flatten(1)
        x = F.relu(self.hidden(x))
        return torch.stack([layer(x) for layer in self.logits], dim=1)
