"""How far placements and pictures are from what their description, or other pictures, say: in standard deviations.

Shapes: n pictures of 100 x 100 pixels with three digits and eight patches each.
"""

import math

import numpy as np
from numpy.typing import NDArray

from rnnspn.data.mnist import SPLITS, Mnist
from rnnspn.data.sequences import Placement

Floats = NDArray[np.float64]
Moments = dict[str, tuple[Floats, Floats]]

LIMIT = 5.0
"""Chance puts a deviation beyond this once in three million times."""


def far_off(deviations: dict[str, float]) -> dict[str, float]:
    """Return the deviations that chance does not explain."""
    return {name: round(float(value), 1) for name, value in deviations.items() if not abs(value) < LIMIT}


def placement_deviations(
    place: Placement, mnist: Mnist, layout: str, split: str, patch_pool: int | None = None
) -> dict[str, float]:
    """Compare placements with the distributions of the data set's description, which are worked out here anew.

    Args:
        place: n placements.
        mnist: The digits.
        layout: `authors` or `paper`.
        split: Where the digits are from.
        patch_pool: Size of the fixed pool the patches were drawn from, if any: its own scatter adds to theirs.
    """
    draws = place.patch_digit.size
    scatter = 1 + draws / patch_pool if patch_pool else 1.0
    inside = np.zeros(70_000)
    inside[SPLITS[split]] = 1
    sources = inside
    if layout == "authors":
        sources = np.repeat([2.0, 1.0, 0.0], [50_000, 10_000, 10_000])
    ends = {name: _ends(weights) for name, weights in (("digit", inside), ("patch digit", sources))}
    result = {
        "digit": _chi_square(place.digit // 100, inside.reshape(-1, 100).sum(1)),
        "digit at the ends": _chi_square(ends["digit"][place.digit], np.bincount(ends["digit"], inside)),
        "label": _chi_square(mnist.labels[place.digit], np.bincount(mnist.labels, inside)),
        "x": _chi_square(place.digit_x[:, 0], np.ones(16 if layout == "authors" else 17)),
        "patch digit": _chi_square(place.patch_digit // 1000, sources.reshape(-1, 1000).sum(1), scatter),
        "patch digit at the ends": _chi_square(
            ends["patch digit"][place.patch_digit], np.bincount(ends["patch digit"], sources), scatter
        ),
        "patch from x": _chi_square(place.patch_from_x, np.ones(19), scatter),
        "patch from y": _chi_square(place.patch_from_y, np.ones(19), scatter),
        "patch x": _chi_square(place.patch_x, np.ones(91)),
        "patch y": _chi_square(place.patch_y, np.ones(91)),
    }
    weights, ys = _lines(layout)
    for i in range(3):
        result[f"y of digit {i}"] = _chi_square(place.digit_y[:, i], np.bincount(ys[:, i], weights))
        for edge in (0, 72):
            result[f"digit {i} at y {edge}"] = _chi_square(
                (place.digit_y[:, i] == edge).astype(int), np.bincount(ys[:, i] == edge, weights)
            )
    rise = ys[:, 1] - ys[:, 0] + 100
    result["slope"] = _chi_square(place.digit_y[:, 1] - place.digit_y[:, 0] + 100, np.bincount(rise, weights))
    return result


def dependence(place: Placement) -> dict[str, float]:
    """Return the correlations that should not be there: within a picture, and with the next one."""
    patches = np.concatenate(place[3:], axis=1)
    rise = place.digit_y[:, 1:2] - place.digit_y[:, :1]
    columns = np.concatenate([place.digit, place.digit_x[:, :1], place.digit_y[:, :1], rise, patches], axis=1)
    scaled = (columns - columns.mean(0)) / columns.std(0)
    within = scaled.T @ scaled / math.sqrt(len(scaled))
    np.fill_diagonal(within, 0)
    within[4:6, 4:6] = 0  # the clamp ties y and slope
    with_next = scaled[1:].T @ scaled[:-1] / math.sqrt(len(scaled) - 1)
    return {"within": np.abs(within).max(), "with the next picture": np.abs(with_next).max()}


def picture_moments(images: NDArray[np.uint8]) -> Moments:
    """Return every statistic of pictures as its mean and the standard error of that mean.

    They are the profiles, the ink and its spread, the saturated pixels, and the maps of mean and variance.
    """
    powers, sums = np.zeros((5, 100, 100)), []
    for chunk in np.split(images, range(250, len(images), 250)):
        level = chunk.astype(np.float32) / 255
        sums.append(np.concatenate([level.sum(1), level.sum(2), (chunk == 255).sum((1, 2))[:, None]], axis=1))
        power = np.ones_like(level)
        for exponent in range(5):
            powers[exponent] += power.sum(0)
            power *= level
    _, mean, second, third, fourth = powers / len(images)
    variance = second - mean**2
    fourth_central = fourth - 4 * mean * third + 6 * mean**2 * second - 3 * mean**4
    profiles = np.concatenate(sums)
    ink = profiles[:, :100].sum(1)
    root = math.sqrt(len(images))
    return {
        "mean map": (mean, np.sqrt(variance) / root),
        "variance map": (variance, np.sqrt((fourth_central - variance**2).clip(0)) / root),
        "columns": _mean_and_error(profiles[:, :100]),
        "rows": _mean_and_error(profiles[:, 100:200]),
        "saturated pixels": _mean_and_error(profiles[:, 200]),
        "ink": _mean_and_error(ink),
        "spread of ink": _mean_and_error((ink - ink.mean()) ** 2),
    }


def picture_deviations(some: Moments, others: Moments) -> dict[str, float]:
    """Return how far two sets of pictures are apart, at worst, in each statistic."""
    result = {}
    for name, (mean, error) in some.items():
        other_mean, other_error = others[name]
        result[name] = (np.abs(mean - other_mean) / np.sqrt(error**2 + other_error**2 + 1e-12)).max()
    return result


def _mean_and_error(values: Floats) -> tuple[Floats, Floats]:
    return values.mean(0), values.std(0) / math.sqrt(len(values))


def _lines(layout: str) -> tuple[Floats, NDArray[np.int64]]:
    """Enumerate the lines that digits stand on: weight (k,) and the y of each digit (k, 3)."""
    if layout == "authors":
        slopes, chances = np.arange(-14, 14), np.ones(28)
        start = np.arange(100)
    else:
        slopes = np.arange(-28, 29)
        angles = np.arctan((np.arange(-28, 30) - 0.5) / 28).clip(-math.pi / 4, math.pi / 4)
        chances, start = np.diff(angles), np.arange(73)
    y = start[:, None, None] + slopes[:, None] * np.arange(3)
    weights = np.broadcast_to(chances, (len(start), len(slopes)))
    return weights.ravel(), y.clip(0, 72).reshape(-1, 3)


def _ends(weights: Floats) -> NDArray[np.int64]:
    """Return 1 at the first and 2 at the last possible category, else 0."""
    possible = np.flatnonzero(weights)
    ends = np.zeros(len(weights), np.int64)
    ends[possible[0]], ends[possible[-1]] = 1, 2
    return ends


def _chi_square(values: NDArray[np.int64], weights: Floats, scatter: float = 1.0) -> float:
    """Return the goodness of fit of categories 0 to k-1 as a standard normal deviate (Wilson and Hilferty 1931)."""
    counts = np.bincount(values.ravel(), minlength=len(weights))
    expected = np.zeros(len(counts))
    expected[: len(weights)] = weights / weights.sum() * counts.sum()
    if counts[expected == 0].any():
        return math.inf  # what cannot be is there
    possible = expected > 0
    freedom = possible.sum() - 1
    statistic = ((counts - expected)[possible] ** 2 / expected[possible]).sum() / scatter
    spread = 2 / (9 * freedom)
    return ((statistic / freedom) ** (1 / 3) - (1 - spread)) / math.sqrt(spread)
