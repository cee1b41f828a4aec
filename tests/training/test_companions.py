import numpy as np
import pytest
import torch

from rnnspn.data.mnist import load_mnist
from rnnspn.data.sequences import DIGIT, Sequences
from rnnspn.training.companions import canvas_side, draw_views, seen_from_afar
from rnnspn.training.distortion import moved

COUNT = 200


def larger(steps: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return larger pictures without clutter, the centres of their digits, and views of them."""
    side = canvas_side(steps)
    sequences = Sequences(load_mnist(), "train", seed=3, steps=steps, height=side, width=side)
    place = sequences.place(np.arange(COUNT))
    images = torch.from_numpy(sequences.pictures(np.arange(COUNT))[0])
    return images, torch.from_numpy(place.centres(side, side)).float(), draw_views(COUNT, 1, 2)


@pytest.mark.parametrize("size", [(100, 100), (60, 140)])
@pytest.mark.parametrize("steps", [1, 3, 8])
def test_lines_have_every_size_and_lie_inside_the_picture(steps: int, size: tuple[int, int]) -> None:
    images, centres, views = larger(steps)
    seen, places, sides = seen_from_afar(images, centres, views, size)
    assert (seen.shape, seen.dtype, places.shape) == ((COUNT, *size), torch.uint8, (COUNT, steps, 2))
    largest = min(size[1] / steps, size[0] / 2)
    assert sides.max() <= largest
    assert sides.max() > 0.95 * largest
    assert largest / 3.5 <= sides.min() < 1.1 * largest / 3.5
    pixels = (places + 1) / 2 * torch.tensor([size[1] - 1, size[0] - 1])
    inside = (pixels >= 0) & (pixels <= torch.tensor([size[1] - 1, size[0] - 1]))
    assert inside.float().mean() > 0.98  # a steep line of large digits does not fit
    assert places[:, 0].std(0).min() > 0.2


def test_what_lies_at_a_centre_is_the_digit() -> None:
    images, centres, views = larger(3)
    views[:, 4] = 0.0  # neither fainter nor stronger
    seen, places, sides = seen_from_afar(images, centres, views, (100, 100))
    near = sides > 20  # small ones lose their strokes
    assert near.sum() > 20
    theta = torch.zeros(COUNT, 2, 3)
    before, after = [], []
    for digit in range(3):
        theta[:, 0, 0] = theta[:, 1, 1] = (DIGIT - 1) / (images.shape[-1] - 1)
        theta[:, :, 2] = centres[:, digit]
        before.append(moved(images, theta, (DIGIT, DIGIT))[near])
        theta[:, 0, 0] = theta[:, 1, 1] = (DIGIT - 1) / DIGIT * sides / 99
        theta[:, :, 2] = places[:, digit]
        after.append(moved(seen, theta, (DIGIT, DIGIT))[near])
    pairs = torch.cat(before).flatten(1), torch.cat(after).flatten(1)
    assert torch.nn.functional.cosine_similarity(*pairs).median() > 0.85
    others = pairs[0].roll(1, 0), pairs[1]
    assert torch.nn.functional.cosine_similarity(*others).median() < 0.6


def test_views_depend_on_nothing_but_seed_and_step() -> None:
    once, again, later, elsewhere = (draw_views(6, seed, step) for seed, step in ((3, 9), (3, 9), (3, 10), (4, 9)))
    assert torch.equal(once, again)
    assert not torch.equal(once, later)
    assert not torch.equal(once, elsewhere)


def test_pictures_are_fainter_or_stronger() -> None:
    images, centres, views = larger(2)
    views[:, :4] = 0.5
    seen = seen_from_afar(images, centres, views, (100, 100))[0].float()
    assert torch.corrcoef(torch.stack([seen.mean((1, 2)).log(), views[:, 4]]))[0, 1] > 0.5
