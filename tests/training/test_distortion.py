from collections.abc import Iterator

import numpy as np
import pytest
import torch

from rnnspn.data.mnist import Mnist, load_mnist
from rnnspn.data.sequences import Sequences
from rnnspn.training import distortion
from rnnspn.training.distortion import (
    Purpose,
    cluttered,
    distorted,
    draw_jolts,
    draw_patches,
    generator_for,
    jolted,
)

FEWER = {"train": range(5_000), "validation": range(5_000, 6_000), "train+validation": range(6_000)}
TRAIN, VALIDATION, TEST = FEWER["train"], FEWER["validation"], range(6_000, 7_000)


@pytest.fixture(scope="module", autouse=True)
def _fewer_digits() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(distortion, "SPLITS", FEWER)
        monkeypatch.setattr(distortion, "_CHUNK", 1_000)
        yield


@pytest.fixture(scope="module")
def mnist() -> Mnist:
    whole = load_mnist()
    return Mnist(whole.images[:7_000], whole.labels[:7_000])


@pytest.fixture(scope="module")
def bent(mnist: Mnist) -> Mnist:
    return distorted(mnist, 1.0, seed=3, epoch=1)


def test_the_same_epoch_has_the_same_digits(mnist: Mnist, bent: Mnist) -> None:
    assert np.array_equal(distorted(mnist, 1.0, seed=3, epoch=1).images, bent.images)


@pytest.mark.parametrize(("seed", "epoch"), [(3, 2), (4, 1)])
def test_another_epoch_or_seed_has_others(mnist: Mnist, bent: Mnist, seed: int, epoch: int) -> None:
    assert not np.array_equal(distorted(mnist, 1.0, seed, epoch).images, bent.images)


def test_validation_and_test_digits_and_all_labels_stay(mnist: Mnist, bent: Mnist) -> None:
    for split in (VALIDATION, TEST):
        assert np.array_equal(bent.images[split], mnist.images[split])
    assert np.array_equal(bent.labels, mnist.labels)
    assert bent.images.dtype == np.uint8


def test_validation_digits_are_bent_where_they_are_learned_from(mnist: Mnist, bent: Mnist) -> None:
    more = distorted(mnist, 1.0, seed=3, epoch=1, split="train+validation").images
    assert np.array_equal(more[TRAIN], bent.images[TRAIN])
    assert (more[VALIDATION] != mnist.images[VALIDATION]).any(axis=(1, 2)).mean() > 0.99
    assert np.array_equal(more[TEST], mnist.images[TEST])


def test_no_strength_leaves_every_pixel(mnist: Mnist) -> None:
    assert np.array_equal(distorted(mnist, 0.0, seed=3, epoch=1).images, mnist.images)


def test_more_strength_moves_more(mnist: Mnist, bent: Mnist) -> None:
    def moved(other: Mnist) -> float:
        return float(np.abs(other.images[TRAIN].astype(float) - mnist.images[TRAIN]).mean())

    assert moved(distorted(mnist, 0.2, seed=3, epoch=1)) < moved(bent) / 2


def test_a_bent_digit_keeps_its_ink_and_its_place(mnist: Mnist, bent: Mnist) -> None:
    before, after = mnist.images[TRAIN].astype(float), bent.images[TRAIN].astype(float)
    assert after.mean() == pytest.approx(before.mean(), rel=0.03)
    rows = np.arange(28)
    for axis in (1, 2):
        centre = [(pixels.sum(axis) @ rows) / pixels.sum((1, 2)) for pixels in (before, after)]
        assert np.abs(centre[0] - centre[1]).mean() < 1.0


def test_arrays_and_tensors_bend_alike(mnist: Mnist, bent: Mnist) -> None:
    tensors = distorted(mnist.to(torch.device("cpu")), 1.0, seed=3, epoch=1)
    assert isinstance(tensors.images, torch.Tensor)
    assert np.array_equal(tensors.images.numpy(), bent.images)


def test_jolted_pictures_depend_on_nothing_but_seed_and_step() -> None:
    images = torch.from_numpy(Sequences(load_mnist(), "train").pictures(np.arange(6))[0])
    once, again, later, elsewhere = (
        jolted(images, None, draw_jolts(6, 1.0, seed, step))[0] for seed, step in ((3, 9), (3, 9), (3, 10), (4, 9))
    )
    assert torch.equal(once, again)
    assert not torch.equal(once, later)
    assert not torch.equal(once, elsewhere)


def test_jolted_pictures_are_still_the_same_pictures() -> None:
    images = torch.from_numpy(Sequences(load_mnist(), "train").pictures(np.arange(200))[0])
    assert (jolted(images, None, draw_jolts(200, 1e-4, seed=0, step=0))[0].float() - images).abs().mean() < 0.5
    moved = jolted(images, None, draw_jolts(200, 1.0, seed=0, step=0))[0].float()
    ink = moved.sum((1, 2)) / images.float().sum((1, 2))
    assert 0.9 < ink.median() < 1.1
    assert (moved - images).abs().mean() > 5


def test_clutter_is_eight_patches_on_average_and_hides_no_ink() -> None:
    images = torch.zeros(300, 100, 100, dtype=torch.uint8)
    images[:, 40:60, 20:80] = 90
    supply = torch.stack([torch.full((100, 100), level, dtype=torch.uint8) for level in (40, 250)])
    seen = cluttered(images, supply, draw_patches(300, 1.0, seed=2, step=3))
    assert (images[:, 40:60, 20:80] == 90).all(), "the pictures themselves stay as they are"
    assert (seen >= images).all()
    assert set(seen.unique().tolist()) == {0, 40, 90, 250}
    nothing = torch.zeros_like(images)
    covered = (cluttered(nothing, supply, draw_patches(300, 1.0, seed=2, step=3)) > 0).float().mean()
    assert 0.8 * 8 * 12**2 / 100**2 < covered < 8 * 12**2 / 100**2  # some lie over others
    assert torch.equal(cluttered(images, supply, draw_patches(300, 0.0, seed=2, step=3)), images)


def test_a_patch_is_a_piece_of_one_other_picture() -> None:
    supply = torch.arange(100, dtype=torch.uint8).repeat(100, 1).unsqueeze(0)  # its levels are its columns
    patches = draw_patches(50, 2.0, seed=0, step=0)[:, :1]
    seen = cluttered(torch.zeros(50, 100, 100, dtype=torch.uint8), supply, patches)
    for picture in seen:
        rows, columns = (picture > 0).nonzero().unbind(1)
        assert (int(rows.max() - rows.min()) + 1, int(columns.max() - columns.min()) + 1) in {(12, 12), (12, 11)}
        assert torch.equal(picture[rows.min(), columns.min() : columns.max() + 1].diff().unique(), torch.tensor([1]))


def test_what_lies_somewhere_in_a_picture_is_jolted_with_it() -> None:
    height, width = 60, 90
    row, column = 25, 60
    images = torch.zeros(40, height, width, dtype=torch.uint8)
    images[:, row - 2 : row + 3, column - 2 : column + 3] = 200
    place = torch.tensor([column / (width - 1), row / (height - 1)]) * 2 - 1
    moved, centres = jolted(images, place.expand(40, 2, 2), draw_jolts(40, 1.0, seed=1, step=2))
    assert centres is not None
    assert centres.shape == (40, 2, 2)
    ink = moved.float()
    found = [
        (ink.sum(1) @ torch.linspace(-1, 1, width)) / ink.sum((1, 2)),
        (ink.sum(2) @ torch.linspace(-1, 1, height)) / ink.sum((1, 2)),
    ]
    assert (torch.stack(found, 1) - place).abs().max() > 0.1
    assert (torch.stack(found, 1) - centres[:, 1]).abs().max() < 0.01


def test_what_is_drawn_for_one_purpose_says_nothing_of_another() -> None:
    drawn = [torch.rand(100, generator=generator_for(purpose, seed=3, step=7)) for purpose in Purpose]
    drawn.append(torch.rand(100, generator=generator_for(Purpose.DIGITS, seed=3, step=8)))
    assert len({tuple(numbers.tolist()) for numbers in drawn}) == len(Purpose) + 1
    related = np.corrcoef(torch.stack(drawn).numpy()) - np.eye(len(drawn))
    assert np.abs(related).max() < 0.4
