import numpy as np
import pytest
import torch

from rnnspn.config import family_config
from rnnspn.data.mnist import load_mnist
from rnnspn.data.sequences import DIGIT
from rnnspn.training.batches import UNNAMED
from rnnspn.training.companions import CompanionBatches, draw_views, lines, seen_from_afar
from rnnspn.training.distortion import moved
from rnnspn.training.recipes import train_config

COUNT = 200


def larger(steps: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return larger pictures without clutter, the centres of their digits, and views of them."""
    sequences = lines(load_mnist(), seed=3, steps=steps)
    place = sequences.place(np.arange(COUNT))
    images = torch.from_numpy(sequences.pictures(np.arange(COUNT))[0])
    centres = torch.from_numpy(place.centres(sequences.height, sequences.width)).float()
    return images, centres, draw_views(COUNT, 1, 2)


@pytest.mark.parametrize("size", [(100, 100), (60, 140), (36, 300)])
@pytest.mark.parametrize("steps", [1, 3, 8])
def test_lines_have_every_size_and_lie_inside_the_picture(steps: int, size: tuple[int, int]) -> None:
    images, centres, views = larger(steps)
    seen, places, sides = seen_from_afar(images, centres, views, size)
    assert (seen.shape, seen.dtype, places.shape) == ((COUNT, *size), torch.uint8, (COUNT, steps, 2))
    largest = min(size[1] / steps, size[0] / 2)
    assert 0.85 * largest < sides.max() <= largest
    assert sides.min() < 1.1 * largest / 3.5
    pixels = (places + 1) / 2 * torch.tensor([size[1] - 1, size[0] - 1])
    inside = (pixels >= 0) & (pixels <= torch.tensor([size[1] - 1, size[0] - 1]))
    assert inside.all()
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


def test_a_centre_is_where_the_ink_is_to_a_fraction_of_a_pixel() -> None:
    side = 58
    images, centres = torch.zeros(COUNT, side, side, dtype=torch.uint8), torch.zeros(COUNT, 1, 2)
    images[:, side // 2 - 3 : side // 2 + 3, side // 2 - 3 : side // 2 + 3] = 200  # around the very middle
    views = draw_views(COUNT, 1, 2)
    ink, places, _ = seen_from_afar(images, centres, views, (80, 120))
    weights = ink.float() / ink.sum((1, 2), keepdim=True)
    x = (weights.sum(1) * torch.arange(120)).sum(1)
    y = (weights.sum(2) * torch.arange(80)).sum(1)
    expected = (places[:, 0] + 1) / 2 * torch.tensor([119, 79])
    assert (torch.stack([x, y], 1) - expected).abs().max() < 0.1
    assert (expected - torch.tensor([59.5, 39.5])).abs().max() > 25


def test_views_depend_on_nothing_but_seed_and_step() -> None:
    once, again, later, elsewhere = (draw_views(6, seed, step) for seed, step in ((3, 9), (3, 9), (3, 10), (4, 9)))
    assert torch.equal(once, again)
    assert not torch.equal(once, later)
    assert not torch.equal(once, elsewhere)


def test_where_labels_may_be_shorter_so_are_the_lines() -> None:
    model = family_config("rnn-spn", steps=4, alphabet="0123456789␣")
    config = train_config("best", model, batch=6, companions=0.5)
    batches = [CompanionBatches(load_mnist(), model, config, torch.device("cpu")).at(step) for step in range(30)]
    for batch in batches:
        assert batch.centres is not None
        assert batch.labels.shape == (6, 4)
        assert (batch.labels == UNNAMED).all()
        known = ~batch.centres.isnan().any(-1)
        assert (known == known[0]).all(), "the lines of a step are of one length"
        assert (known[0].int().diff() <= 0).all(), "there is nothing after the end"
    lengths = {int((~batch.centres[0, :, 0].isnan()).sum()) for batch in batches if batch.centres is not None}
    assert lengths == {1, 2, 3, 4}


def test_pictures_are_fainter_or_stronger() -> None:
    images, centres, views = larger(2)
    views[:, :4] = 0.5
    seen = seen_from_afar(images, centres, views, (100, 100))[0].float()
    assert torch.corrcoef(torch.stack([seen.mean((1, 2)).log(), views[:, 4]]))[0, 1] > 0.5
