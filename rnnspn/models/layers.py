"""The layers everything is built from: convolutions and dense layers, Glorot-uniform with zero biases, and dropout."""

from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx, once_differentiable
from torch.nn import functional as F

Layer = TypeVar("Layer", nn.Conv2d, nn.Linear)


def conv(inputs: int, filters: int) -> nn.Conv2d:
    """Return a 3x3 convolution without padding."""
    return _glorot(PictureConv(filters) if inputs == 1 else nn.Conv2d(inputs, filters, 3))


def dense(inputs: int, units: int) -> nn.Linear:
    """Return a fully connected layer."""
    return _glorot(nn.Linear(inputs, units))


def conv_size(size: int) -> int:
    """Return the side length that a 3x3 convolution without padding leaves of `size` pixels."""
    return size - 2


def pool_size(size: int) -> int:
    """Return the side length that 2x2 max-pooling leaves of `size` pixels; an odd border is dropped."""
    return size // 2


class Dropout(nn.Module):
    """Dropout at a rate that changes from step to step; none before the first one is set.

    The rate is a tensor, so that a recorded CUDA graph reads it anew each time.
    """

    rate: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("rate", torch.zeros(()), persistent=False)
        self._is_set = False

    def set_rate(self, rate: float) -> None:
        """Set what share of the features is dropped, from 0 up to 1."""
        self.rate.fill_(rate)
        self._is_set = True

    def forward(self, x: Tensor) -> Tensor:
        """Return x with some features 0 and the others larger by as much; in evaluation mode x as it is."""
        if not (self.training and self._is_set):
            return x
        kept = torch.rand_like(x, dtype=self.rate.dtype) >= self.rate
        return x * kept / (1 - self.rate)


class PictureConv(nn.Conv2d):
    """The 3x3 convolution of a single channel, whose backward pass takes a third of the time on CPUs."""

    def __init__(self, filters: int) -> None:
        super().__init__(1, filters, 3)

    def forward(self, images: Tensor) -> Tensor:
        """Return features, float (B, filters, H - 2, W - 2), of pictures, float (B, 1, H, W)."""
        if self.training and images.device.type == "cpu" and not torch.is_autocast_enabled("cpu"):
            features: Tensor = _Convolution.apply(images, self.weight, self.bias)  # type: ignore[no-untyped-call]
            return features
        return super().forward(images)


class _Convolution(torch.autograd.Function):
    """F.conv2d of one channel; its gradients are matrix products over the nine shifted pictures."""

    @staticmethod
    def forward(ctx: FunctionCtx, images: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(images, weight)
        return F.conv2d(images, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor, Tensor]:
        images, weight = ctx.saved_tensors
        height, width = gradient.shape[-2:]
        windows = [(..., slice(i, i + height), slice(j, j + width)) for i in range(3) for j in range(3)]
        shifted = torch.stack([images[:, 0][window] for window in windows], dim=1).flatten(2)  # (B, 9, pixels)
        gradient = gradient.permute(0, 2, 3, 1).flatten(1, 2)  # (B, pixels, filters)
        of_weight = torch.bmm(shifted, gradient).sum(0).t().reshape(weight.shape)
        of_images = None
        if ctx.needs_input_grad[0]:
            of_images = torch.zeros_like(images)
            filters = weight.flatten(1).t().expand(len(images), -1, -1)
            of_shifted = torch.unflatten(torch.bmm(filters, gradient.transpose(1, 2)), 2, (height, width))
            for k, window in enumerate(windows):
                of_images[:, 0][window] += of_shifted[:, k]
        return of_images, of_weight, gradient.sum((0, 1))


def _glorot(layer: Layer) -> Layer:
    nn.init.xavier_uniform_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer
