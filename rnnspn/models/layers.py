"""The two layers everything is built from, with Glorot-uniform weights and zero biases, and their sizes."""

from typing import TypeVar

from torch import nn

Layer = TypeVar("Layer", nn.Conv2d, nn.Linear)


def conv(inputs: int, filters: int) -> nn.Conv2d:
    """Return a 3x3 convolution without padding."""
    return _glorot(nn.Conv2d(inputs, filters, 3))


def dense(inputs: int, units: int) -> nn.Linear:
    """Return a fully connected layer."""
    return _glorot(nn.Linear(inputs, units))


def conv_size(size: int) -> int:
    """Return the side length that a 3x3 convolution without padding leaves of `size` pixels."""
    return size - 2


def pool_size(size: int) -> int:
    """Return the side length that 2x2 max-pooling leaves of `size` pixels; an odd border is dropped."""
    return size // 2


def _glorot(layer: Layer) -> Layer:
    nn.init.xavier_uniform_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer
