"""Synthesis has the distributions of its description and of the published data set; an off-by-one is noticed."""

import itertools
from collections.abc import Callable

import numpy as np
import pytest

from rnnspn.data import sequences
from rnnspn.data.authors_2015 import authors_2015, authors_2015_placement
from rnnspn.data.mnist import Mnist
from rnnspn.data.sequences import Placement, Sequences, render
from tests.data.statistics import (
    Moments,
    dependence,
    far_off,
    picture_deviations,
    picture_moments,
    placement_deviations,
)

PICTURES = 200_000
DRAWS = ("digit", "x", "y", "slope", "patch digit", "patch from x", "patch from y", "patch x", "patch y")
"""What synthesis draws, in its order."""


def placements(supply: Sequences, count: int = PICTURES) -> Placement:
    chunks = [supply.place(np.arange(first, first + 5000)) for first in range(0, count, 5000)]
    return Placement(*map(np.concatenate, zip(*chunks, strict=True)))


def deviations(supply: Sequences) -> dict[str, float]:
    return far_off(placement_deviations(placements(supply), supply.mnist, supply.layout, supply.split))


def widen(monkeypatch: pytest.MonkeyPatch, draw: str, by: int) -> None:
    """Make the range of one draw wider, or narrower, than it should be."""
    rightly = sequences._Draws.__call__

    def wrongly(self: sequences._Draws, count: int, limit: int) -> np.ndarray:
        number = self.__dict__.setdefault("numbers", itertools.count())
        return rightly(self, count, limit + by * (DRAWS[next(number)] == draw))

    monkeypatch.setattr(sequences._Draws, "__call__", wrongly)


@pytest.mark.parametrize("split", ["train", "validation", "test"])
@pytest.mark.parametrize("layout", ["authors", "paper"])
def test_synthesis_has_the_distributions_of_its_description(mnist: Mnist, layout: str, split: str) -> None:
    assert not deviations(Sequences(mnist, split, seed=1, layout=layout))


@pytest.mark.parametrize("split", ["train", "test"])
def test_the_published_data_set_has_the_same_distributions(mnist: Mnist, split: str) -> None:
    place = authors_2015_placement(split)
    assert not far_off(placement_deviations(place, mnist, "authors", split, patch_pool=100_000))


@pytest.mark.parametrize("by", [-1, 1])
@pytest.mark.parametrize("draw", DRAWS)
def test_a_range_that_is_off_by_one_is_noticed(
    mnist: Mnist, monkeypatch: pytest.MonkeyPatch, draw: str, by: int
) -> None:
    # One patch digit more or less out of 110,000 is beyond any test: its range is off by a tenth instead.
    widen(monkeypatch, draw, by * 10_000 if draw == "patch digit" else by)
    assert deviations(Sequences(mnist, "validation"))


@pytest.mark.parametrize("by", [-1, 1])
@pytest.mark.parametrize("draw", [draw for draw in DRAWS if draw != "slope"])
def test_a_range_of_the_papers_layout_that_is_off_by_one_is_noticed(
    mnist: Mnist, monkeypatch: pytest.MonkeyPatch, draw: str, by: int
) -> None:
    widen(monkeypatch, draw, by)
    assert deviations(Sequences(mnist, "validation", layout="paper"))


@pytest.mark.parametrize("degrees", [44.5, 45.5])
def test_slopes_up_to_another_angle_are_noticed(mnist: Mnist, monkeypatch: pytest.MonkeyPatch, degrees: float) -> None:
    angles = np.linspace(-degrees, degrees, len(sequences._SLOPES))
    monkeypatch.setattr(sequences, "_SLOPES", np.round(28 * np.tan(np.radians(angles))).astype(np.int64))
    assert deviations(Sequences(mnist, "validation", layout="paper"))


def test_an_edge_that_is_off_by_one_is_noticed(mnist: Mnist) -> None:
    place = placements(Sequences(mnist, "test"))
    wrong = place._replace(digit_y=place.digit_y.clip(0, 71))
    assert far_off(placement_deviations(wrong, mnist, "authors", "test"))


@pytest.mark.parametrize("layout", ["authors", "paper"])
def test_what_is_drawn_apart_is_independent_within_a_picture_and_of_the_next_one(mnist: Mnist, layout: str) -> None:
    assert not far_off(dependence(placements(Sequences(mnist, "train", layout=layout), 50_000)))


@pytest.mark.parametrize(
    "spoil",
    [
        lambda place: place._replace(patch_x=np.where(place.patch_y < 3, place.patch_y, place.patch_x)),
        lambda place: place._replace(patch_x=np.where(place.patch_y < 3, np.roll(place.patch_y, 1, 0), place.patch_x)),
    ],
    ids=["within", "with the next"],
)
def test_dependence_is_noticed(mnist: Mnist, spoil: Callable[[Placement], Placement]) -> None:
    assert far_off(dependence(spoil(placements(Sequences(mnist, "train"), 50_000))))


def moments_of_synthesis(mnist: Mnist) -> Moments:
    supply = Sequences(mnist, "test")
    images = [supply.pictures(np.arange(first, first + 500))[0] for first in range(0, 10_000, 500)]
    return picture_moments(np.concatenate(images))


@pytest.fixture(scope="module")
def published(mnist: Mnist) -> Moments:
    return picture_moments(authors_2015(mnist, "test")[0])


def test_synthesised_pictures_look_like_the_published_ones(mnist: Mnist, published: Moments) -> None:
    assert not far_off(picture_deviations(published, moments_of_synthesis(mnist)))


@pytest.mark.parametrize(("draw", "by", "where"), [("x", -1, "columns"), ("x", 1, "columns"), ("patch y", 1, "rows")])
def test_a_range_that_is_off_by_one_shows_in_the_pictures(
    mnist: Mnist, published: Moments, monkeypatch: pytest.MonkeyPatch, draw: str, by: int, where: str
) -> None:
    widen(monkeypatch, draw, by)
    assert where in far_off(picture_deviations(published, moments_of_synthesis(mnist)))


def test_a_patch_too_few_shows_in_the_pictures(mnist: Mnist, published: Moments) -> None:
    place = Sequences(mnist, "test").place(np.arange(10_000))
    fewer = place._replace(**{field: getattr(place, field)[:, 1:] for field in place._fields if "patch" in field})
    assert "ink" in far_off(picture_deviations(published, picture_moments(render(mnist, fewer, 100, 100)[0])))
