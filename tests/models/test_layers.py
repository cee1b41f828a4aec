import pytest
import torch
from torch.nn import functional as F

from rnnspn.models.layers import PictureConv, conv


def gradients(features: torch.Tensor, of: list[torch.Tensor]) -> list[torch.Tensor]:
    chance = torch.Generator().manual_seed(1)
    return list(torch.autograd.grad(features, of, torch.randn(features.shape, generator=chance, dtype=features.dtype)))


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("shape", [(1, 1, 3, 3), (2, 1, 5, 9), (7, 1, 33, 33)])
def test_the_fast_gradients_of_a_picture_are_the_convolutions_own(
    shape: tuple[int, ...], layout: torch.memory_format
) -> None:
    torch.manual_seed(0)
    layer = PictureConv(6).double().to(memory_format=layout)  # type: ignore[call-overload]
    images = torch.rand(shape, dtype=torch.float64, requires_grad=True)
    of = [images, layer.weight, layer.bias]
    ours, theirs = layer.train()(images), F.conv2d(images, layer.weight, layer.bias)
    assert "_Convolution" in type(ours.grad_fn).__name__
    assert torch.equal(ours, theirs)
    for mine, its in zip(gradients(ours, of), gradients(theirs, of), strict=True):
        assert torch.allclose(mine, its, rtol=0, atol=1e-12)


def test_pictures_that_want_no_gradient_get_none() -> None:
    layer, images = PictureConv(6), torch.rand(2, 1, 8, 8)
    layer(images).sum().backward()
    assert images.grad is None
    assert layer.weight.grad is not None


def test_only_training_in_float32_on_the_cpu_takes_the_fast_gradients() -> None:
    layer, images = PictureConv(6), torch.rand(2, 1, 8, 8)
    assert "_Convolution" in type(layer(images).grad_fn).__name__
    with torch.autocast("cpu", torch.bfloat16):
        assert layer(images).dtype == torch.bfloat16
    assert "_Convolution" not in type(layer.eval()(images).grad_fn).__name__


def test_layers_of_one_channel_have_them_and_others_do_not() -> None:
    assert isinstance(conv(1, 4), PictureConv)
    assert not isinstance(conv(2, 4), PictureConv)
