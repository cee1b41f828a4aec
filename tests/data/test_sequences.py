"""What a synthesised picture may be, and what it depends on."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rnnspn.data.mnist import SPLITS, Mnist
from rnnspn.data.sequences import Placement, Sequences, render
from rnnspn.errors import ConfigError

INDICES = st.lists(st.integers(0, 2**48), min_size=1, max_size=6)
"""Indices of a batch; a run of 300 epochs uses the first 2**25."""

few = settings(max_examples=60, deadline=None)


@st.composite
def supplies(draw: Any) -> dict[str, Any]:
    """Draw the arguments of a supply of any legal shape."""
    steps = draw(st.integers(1, 8))
    return {
        "split": draw(st.sampled_from(list(SPLITS))),
        "seed": draw(st.integers(0, 2**63 - 1)),
        "layout": draw(st.sampled_from(["authors", "paper"])),
        "steps": steps,
        "height": draw(st.integers(28, 150)),
        "width": draw(st.integers(28 * steps + 1, 28 * steps + 60)),
    }


def assert_within(values: Any, low: int, high: int) -> None:
    assert low <= values.min(), values
    assert values.max() <= high, values


@few
@given(supply=supplies(), indices=INDICES)
def test_every_number_of_a_placement_is_in_its_range(mnist: Mnist, supply: dict[str, Any], indices: list[int]) -> None:
    sequences = Sequences(mnist, **supply)
    place = sequences.place(np.array(indices))
    n, steps, height, width = len(indices), sequences.steps, sequences.height, sequences.width
    assert [field.shape for field in place] == [(n, steps)] * 3 + [(n, 8)] * 5
    split = SPLITS[sequences.split]
    assert_within(place.digit, split[0], split[-1])
    clutter = range(60_000) if sequences.layout == "authors" else split
    assert_within(place.patch_digit, clutter[0], clutter[-1])
    assert_within(place.patch_from_x, 0, 18)
    assert_within(place.patch_from_y, 0, 18)
    assert_within(place.patch_x, 0, width - 10)
    assert_within(place.patch_y, 0, height - 10)
    room = width - 28 * steps
    assert_within(place.digit_x[:, 0], 0, room - 1 if sequences.layout == "authors" else room)
    assert (np.diff(place.digit_x, axis=1) == 28).all()
    assert_within(place.digit_y, 0, height - 28)


@few
@given(supply=supplies(), indices=INDICES)
def test_digits_stand_on_one_line_of_a_legal_slope_until_the_edge_stops_them(
    mnist: Mnist, supply: dict[str, Any], indices: list[int]
) -> None:
    sequences = Sequences(mnist, **supply)
    steepest = range(-14, 14) if sequences.layout == "authors" else range(-28, 29)
    starts = sequences.height if sequences.layout == "authors" else sequences.height - 27
    y = np.arange(starts)[:, None, None] + np.array(steepest)[:, None] * np.arange(sequences.steps)
    legal = set(map(tuple, y.clip(0, sequences.height - 28).reshape(-1, sequences.steps).tolist()))
    for row in sequences.place(np.array(indices)).digit_y.tolist():
        assert tuple(row) in legal


@few
@given(supply=supplies(), indices=INDICES, data=st.data())
def test_a_picture_depends_on_nothing_but_seed_split_and_index(
    mnist: Mnist, supply: dict[str, Any], indices: list[int], data: st.DataObject
) -> None:
    images, labels = Sequences(mnist, **supply).pictures(np.array(indices))
    shuffled = data.draw(st.permutations(range(len(indices))))
    cut = data.draw(st.integers(0, len(indices)))
    for part in (shuffled[:cut], shuffled[cut:]):
        if part:
            again = Sequences(mnist, **supply).pictures(np.array([indices[i] for i in part]))
            np.testing.assert_array_equal(again[0], images[part])
            np.testing.assert_array_equal(again[1], labels[part])


@few
@given(supply=supplies(), indices=INDICES)
def test_torch_and_numpy_draw_the_same_pictures(mnist: Mnist, supply: dict[str, Any], indices: list[int]) -> None:
    images, labels = Sequences(mnist, **supply).pictures(np.array(indices))
    torch_images, torch_labels = Sequences(mnist.to("cpu"), **supply).pictures(torch.tensor(indices))
    np.testing.assert_array_equal(torch_images.numpy(), images)
    np.testing.assert_array_equal(torch_labels.numpy(), labels)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("layout", ["authors", "paper"])
def test_a_gpu_draws_the_same_pictures(mnist: Mnist, layout: str) -> None:
    images, labels = Sequences(mnist, "train", layout=layout).pictures(np.arange(1000))
    there = Sequences(mnist.to("cuda"), "train", layout=layout).pictures(torch.arange(1000, device="cuda"))
    np.testing.assert_array_equal(there[0].cpu().numpy(), images)
    np.testing.assert_array_equal(there[1].cpu().numpy(), labels)


@pytest.mark.parametrize("layout", ["authors", "paper"])
def test_a_seed_means_the_same_pictures_in_every_version(mnist: Mnist, layout: str) -> None:
    place = Sequences(mnist, "train", seed=7, layout=layout).place(np.array([0, 123_456_789]))
    expected = {
        "authors": [[29528, 49177, 32098, 14, 54, 55, 56], [13499, 15980, 39226, 14, 53, 55, 57]],
        "paper": [[29528, 49177, 32098, 15, 39, 41, 43], [13499, 15980, 39226, 15, 39, 43, 47]],
    }
    found = np.concatenate([place.digit, place.digit_x[:, :1], place.digit_y], axis=1)
    assert found.tolist() == expected[layout]


@pytest.mark.parametrize("other", [{"seed": 1}, {"split": "validation"}, {"layout": "paper"}])
def test_another_seed_split_or_layout_makes_other_pictures(mnist: Mnist, other: dict[str, Any]) -> None:
    sequences = Sequences(mnist, "train", seed=0)
    images, _ = sequences.pictures(np.arange(200))
    others, _ = replace(sequences, **other).pictures(np.arange(200))
    assert not (images == others).all(axis=(1, 2)).any()


def test_no_two_pictures_are_the_same(mnist: Mnist) -> None:
    place = Sequences(mnist, "test").place(np.arange(20_000))
    assert len(np.unique(np.concatenate(place, axis=1), axis=0)) == 20_000


@few
@given(supply=supplies(), indices=INDICES)
def test_pictures_are_what_their_placement_says(mnist: Mnist, supply: dict[str, Any], indices: list[int]) -> None:
    sequences = Sequences(mnist, **supply)
    images, labels = sequences.pictures(np.array(indices))
    place = sequences.place(np.array(indices))
    np.testing.assert_array_equal(images, drawn_plainly(mnist, place, sequences.height, sequences.width))
    np.testing.assert_array_equal(labels, mnist.labels[place.digit])


def test_a_later_patch_overwrites_an_earlier_one_and_digits_add_up_to_255_at_most() -> None:
    digits = np.zeros((4, 28, 28), np.uint8)
    digits[0], digits[1], digits[2, ::2] = 100, 200, 30
    zero, zeros = np.array([[0]]), np.array([[0, 0]])
    place = Placement(
        digit=np.array([[1]]), digit_x=zero, digit_y=zero,
        patch_digit=np.array([[0, 2]]), patch_from_x=zeros, patch_from_y=zeros,
        patch_x=np.array([[0, 5]]), patch_y=np.array([[24, 24]]),
    )  # fmt: skip
    images, _ = render(Mnist(digits, np.arange(4, dtype=np.uint8)), place, 36, 36)
    assert images[0, 24, :16].tolist() == [255] * 5 + [230] * 9 + [200] * 2  # 200 + 100, 200 + 30, 200
    assert images[0, 25, :16].tolist() == [255] * 5 + [200] * 11  # the later patch's 0 overwrites too


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"split": "training"}, "split"),
        ({"layout": "random"}, "layout"),
        ({"steps": 0}, "1 to 8 digits"),
        ({"steps": 9, "width": 500}, "1 to 8 digits"),
        ({"width": 84}, "wider than 84"),
        ({"height": 27}, "at least 28 high"),
    ],
)
def test_a_supply_that_cannot_be_is_refused_in_one_line(mnist: Mnist, wrong: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says) as caught:
        Sequences(mnist, **({"split": "train"} | wrong))
    assert "\n" not in str(caught.value)


def drawn_plainly(mnist: Mnist, place: Placement, height: int, width: int) -> np.ndarray:
    """Draw one pixel block at a time, the slow and obvious way."""
    canvases = []
    for row in range(len(place.digit)):
        canvas = np.zeros((height, width), np.int64)
        _, _, _, *patches = (field[row] for field in place)
        for digit, from_x, from_y, x, y in zip(*patches, strict=True):
            canvas[y : y + 9, x : x + 9] = mnist.images[digit, from_y : from_y + 9, from_x : from_x + 9]
        for digit, x, y in zip(place.digit[row], place.digit_x[row], place.digit_y[row], strict=True):
            canvas[y : y + 28, x : x + 28] += mnist.images[digit]
        canvases.append(canvas.clip(0, 255))
    return np.array(canvases)
