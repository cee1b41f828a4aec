import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from rnnspn.models.spatial_transformer import base_grid, sample_glimpses
from tests.models.lasagne import arrays

SIZES = {1: 100, 2: 50, 3: 33, 4: 25}
IDENTITY = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
TOLERANCE = 5e-5
"""A grey level: float32 positions at theta = 3 are good to about 2e-5 pixels, and neighbours differ by up to 1."""

few = settings(max_examples=50, deadline=None)


def glimpses(images: Tensor, theta: Tensor, size: tuple[int, int]) -> Tensor:
    return sample_glimpses(images, theta, base_grid(*size).to(images.dtype), size)


@pytest.mark.parametrize("downsample", SIZES)
def test_glimpses_agree_with_lasagnes_corrected_layer(downsample: int) -> None:
    golden = arrays("transformer.npz")
    size = (SIZES[downsample],) * 2
    ours = glimpses(torch.tensor(golden["image"])[:, None], torch.tensor(golden["theta"])[:, None], size)
    torch.testing.assert_close(ours[:, 0], torch.tensor(golden[f"border_d{downsample}"]), rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("downsample", SIZES)
def test_another_border_would_be_noticed(downsample: int) -> None:
    golden = arrays("transformer.npz")
    assert np.abs(golden[f"border_d{downsample}"] - golden[f"zero_d{downsample}"]).max() > 1000 * TOLERANCE


@pytest.mark.parametrize("size", [(99, 100), (101, 100), (100, 99)])
def test_a_grid_of_another_pitch_would_be_noticed(size: tuple[int, int]) -> None:
    golden = arrays("transformer.npz")
    images, theta = torch.tensor(golden["image"])[:, None], torch.tensor(golden["theta"])[:, None]
    corner = tuple(min(n, 100) for n in size)
    ours = glimpses(images, theta, size)[:, 0, : corner[0], : corner[1]].numpy()
    assert np.abs(ours - golden["border_d1"][:, : corner[0], : corner[1]]).max() > 1000 * TOLERANCE


def sampled_plainly(
    image: NDArray[np.float64], theta: NDArray[np.float64], size: tuple[int, int]
) -> NDArray[np.float64]:
    """Eqs. 2 and 3 of the paper, pixel by pixel."""
    height, width = image.shape
    out = np.zeros(size)
    for i in range(size[0]):
        for j in range(size[1]):
            point = [2 * j / (size[1] - 1) - 1, 2 * i / (size[0] - 1) - 1, 1]
            x = np.clip((theta[0] @ point + 1) / 2 * (width - 1), 0, width - 1)
            y = np.clip((theta[1] @ point + 1) / 2 * (height - 1), 0, height - 1)
            weights_y = np.clip(1 - np.abs(y - np.arange(height)), 0, None)
            weights_x = np.clip(1 - np.abs(x - np.arange(width)), 0, None)
            out[i, j] = weights_y @ image @ weights_x
    return out


@few
@given(
    theta=st.lists(st.floats(-4, 4, width=32), min_size=6, max_size=6),
    shape=st.tuples(st.integers(2, 20), st.integers(2, 20)),
    size=st.tuples(st.integers(2, 9), st.integers(2, 9)),
)
def test_glimpses_are_what_the_papers_formula_says(
    theta: list[float], shape: tuple[int, int], size: tuple[int, int]
) -> None:
    image = np.random.default_rng(1).random(shape)
    matrix = np.array(theta).reshape(2, 3)
    ours = glimpses(torch.tensor(image)[None, None], torch.tensor(matrix)[None, None], size)
    np.testing.assert_allclose(ours[0, 0].numpy(), sampled_plainly(image, matrix, size), atol=1e-5)


def test_the_identity_gives_the_picture_back() -> None:
    images = torch.rand(2, 1, 40, 60)
    torch.testing.assert_close(glimpses(images, IDENTITY.expand(2, 1, 2, 3), (40, 60)), images, rtol=0, atol=1e-5)


def test_theta_is_x_first() -> None:
    column = torch.zeros(1, 1, 41, 41)
    column[..., 30] = 1
    right = IDENTITY + torch.tensor([[0.0, 0.0, 0.5], [0.0, 0.0, 0.0]])  # look 10 pixels further to the right
    seen = glimpses(column, right.expand(1, 1, 2, 3), (41, 41))
    assert seen[0, 0].sum(0).argmax() == 20


@pytest.mark.parametrize("distance", [2.0, 1e3, 1e9])
@pytest.mark.parametrize(("x", "y", "pixel"), [(-1, -1, 0), (1, -1, 1), (-1, 1, 2), (1, 1, 3)])
def test_points_at_any_distance_read_the_nearest_border_pixel(x: int, y: int, pixel: int, distance: float) -> None:
    images = torch.zeros(1, 1, 50, 50)
    images[0, 0, [0, 0, -1, -1], [0, -1, 0, -1]] = torch.tensor([0.1, 0.2, 0.3, 0.4])
    theta = torch.tensor([[[[0.1, 0, x * distance], [0, 0.1, y * distance]]]])
    seen = glimpses(images, theta, (5, 5))
    torch.testing.assert_close(seen, torch.full_like(seen, (pixel + 1) / 10), rtol=0, atol=0)


def test_several_glimpses_in_one_pass_are_those_taken_one_by_one_in_order() -> None:
    torch.manual_seed(0)
    images, theta = torch.rand(3, 1, 40, 50), IDENTITY + 0.3 * torch.randn(3, 4, 2, 3)
    together = glimpses(images, theta, (20, 18)).reshape(3, 4, 1, 20, 18)
    for step in range(4):
        torch.testing.assert_close(together[:, step], glimpses(images, theta[:, step : step + 1], (20, 18)))


def test_gradients_reach_picture_and_theta_rightly() -> None:
    torch.manual_seed(0)
    images = torch.rand(2, 1, 9, 8, dtype=torch.float64, requires_grad=True)
    theta = (0.5 * IDENTITY.double() + 0.1 * torch.randn(2, 2, 2, 3, dtype=torch.float64)).requires_grad_()
    assert torch.autograd.gradcheck(lambda *inputs: glimpses(*inputs, (4, 5)), (images, theta))


def test_glimpses_are_the_same_in_mixed_precision() -> None:
    torch.manual_seed(0)
    images, theta = torch.rand(2, 1, 60, 60), 0.5 * IDENTITY + 0.2 * torch.randn(2, 3, 2, 3)
    plain = glimpses(images, theta, (30, 30))
    with torch.autocast("cpu", torch.bfloat16):
        mixed = glimpses(images, theta, (30, 30))
    torch.testing.assert_close(mixed, plain, rtol=0, atol=0)
