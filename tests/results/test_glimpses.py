import numpy as np
import pytest

from rnnspn.results.glimpses import sample


def _oracle(pixels: np.ndarray, theta: np.ndarray, height: int, width: int) -> np.ndarray:
    """The definition (eq. 3), one pixel at a time: every input pixel weighted by its distance to the point."""
    result = np.zeros((height, width))
    for i, v in enumerate(np.linspace(-1, 1, height)):
        for j, u in enumerate(np.linspace(-1, 1, width)):
            x, y = (np.clip(theta @ (u, v, 1), -1, 1) + 1) / 2 * (pixels.shape[1] - 1, pixels.shape[0] - 1)
            for (row, column), level in np.ndenumerate(pixels):
                result[i, j] += level * max(0, 1 - abs(x - column)) * max(0, 1 - abs(y - row))
    return result


@pytest.mark.parametrize("seed", range(6))
def test_glimpses_follow_the_definition(seed):
    generator = np.random.default_rng(seed)
    pixels = generator.integers(0, 256, (13, 17), np.uint8)
    theta = generator.normal(0, 0.6, (2, 3))
    np.testing.assert_allclose(sample(pixels, theta, 7, 9), _oracle(pixels, theta, 7, 9), atol=0.5001)


def test_the_identity_gives_the_picture_back():
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30), np.uint8)
    np.testing.assert_array_equal(sample(pixels, np.eye(2, 3), 20, 30), pixels)


def test_outside_the_picture_is_its_border():
    pixels = np.arange(12, dtype=np.uint8).reshape(3, 4)
    assert sample(pixels, np.array([[1e30, 0, -2e30], [0, 0, -5]]), 2, 2).tolist() == [[0, 0], [0, 0]]
