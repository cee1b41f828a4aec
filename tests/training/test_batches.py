import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from rnnspn.config import AUTHORS_2015, DataConfig, family_config
from rnnspn.data.labelled_folder import labelled_folder
from rnnspn.data.mnist import Mnist, load_mnist
from rnnspn.data.samples import write_samples
from rnnspn.data.sequences import Sequences
from rnnspn.errors import ConfigError, DataError
from rnnspn.models.spatial_transformer import base_grid, sample_glimpses
from rnnspn.training.batches import (
    UNNAMED,
    FixedBatches,
    Pictures,
    SynthesisedBatches,
    ahead,
)
from rnnspn.training.processes import Processes
from rnnspn.training.recipes import train_config
from rnnspn.training.sources import training_batches

CPU = torch.device("cpu")
RNN = family_config("rnn-spn")


def numbered(count: int) -> Pictures:
    """Return pictures that carry their own number, in the label and in every pixel."""
    numbers = torch.arange(count)
    return Pictures(numbers.to(torch.uint8).reshape(-1, 1, 1).expand(-1, 4, 4), numbers.reshape(-1, 1))


def fixed(seed: int = 0) -> FixedBatches:
    return FixedBatches(numbered(30), train_config("paper", RNN, batch=10, epoch_images=30, seed=seed))


def order(batches: FixedBatches, steps: range) -> list[int]:
    return torch.cat([batches.at(step).labels for step in steps]).flatten().tolist()


def test_an_epoch_of_a_fixed_set_holds_every_picture_once() -> None:
    for epoch in range(3):
        assert sorted(order(fixed(), range(3 * epoch, 3 * epoch + 3))) == list(range(30))


def test_every_epoch_and_every_seed_has_its_own_order() -> None:
    orders = [order(fixed(), range(3)), order(fixed(), range(3, 6)), order(fixed(seed=1), range(3))]
    assert len({tuple(one) for one in orders}) == 3


def test_a_batch_that_ends_a_pass_begins_the_next() -> None:
    batches = FixedBatches(numbered(30), train_config("paper", RNN, batch=25, epoch_images=1000))
    seen = order(batches, range(12))
    assert len(seen) == 300
    for number in range(10):
        assert sorted(seen[30 * number : 30 * number + 30]) == list(range(30))


def test_a_batch_may_be_larger_than_the_set() -> None:
    batches = FixedBatches(numbered(30), train_config("paper", RNN, batch=70, epoch_images=1000))
    assert np.bincount(order(batches, range(3))).tolist() == [7] * 30


def test_pictures_of_ones_own_are_moved_at_every_use_and_never_their_labels(tmp_path: Path) -> None:
    write_samples(tmp_path, Sequences(load_mnist(), "train"), 20)
    own = labelled_folder(tmp_path, RNN, "train")
    config = train_config("best", RNN, batch=len(own.images), epoch_images=2 * len(own.images))
    data = DataConfig(source=str(tmp_path))
    once, again = training_batches(data, RNN, config, CPU), training_batches(data, RNN, config, CPU)
    still = training_batches(data, RNN, replace(config, distortion=0.0), CPU)
    again.at(7)
    assert torch.equal(once.at(5).images, again.at(5).images)
    assert torch.equal(once.at(5).labels, still.at(5).labels)
    assert not torch.equal(once.at(5).images, still.at(5).images)
    assert sorted(map(bytes, still.at(0).images.numpy())) == sorted(map(bytes, own.images))


def test_with_nothing_held_out_every_picture_is_learned_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_samples(tmp_path, Sequences(load_mnist(), "train"), 20)
    config = train_config("best", RNN, batch=20, epoch_images=20, distortion=0.0)
    batch = training_batches(DataConfig(source=str(tmp_path), validation=False), RNN, config, CPU).at(0)
    assert sorted(map(bytes, batch.images.numpy())) == sorted(map(bytes, labelled_folder(tmp_path, RNN).images))

    drawn = training_batches(DataConfig(seed=2, validation=False), RNN, config, CPU).at(4)
    images, labels = Sequences(load_mnist(), "train+validation", seed=2).pictures(np.arange(80, 100))
    assert np.array_equal(drawn.images, images)
    assert np.array_equal(drawn.labels, labels)

    def few(mnist: object, split: str) -> tuple[np.ndarray, np.ndarray]:
        count, level = {"train": (15, 1), "validation": (5, 2)}[split]
        return np.full((count, 100, 100), level, np.uint8), np.full((count, 3), level, np.uint8)

    monkeypatch.setattr("rnnspn.training.sources.authors_2015", few)
    published = training_batches(DataConfig(source=AUTHORS_2015, validation=False), RNN, config, CPU).at(0)
    assert np.bincount(published.labels[:, 0]).tolist() == [0, 15, 5]
    assert torch.equal(published.images[:, 7, 7], published.labels[:, 0].byte())


def test_a_batch_depends_on_nothing_but_its_step() -> None:
    jumping = fixed()
    jumping.at(7)
    assert order(jumping, range(4, 5)) == order(fixed(), range(4, 5))


def test_a_picture_keeps_its_label() -> None:
    batch = fixed().at(1)
    assert torch.equal(batch.images[:, 0, 0].long(), batch.labels[:, 0])


def test_batches_made_ahead_are_the_same_in_the_same_order() -> None:
    sequences = Sequences(load_mnist(), "train", seed=3)
    batches = SynthesisedBatches(sequences, train_config("best", RNN, batch=5, distortion=0.0), CPU)
    for step, pictures in zip(range(2, 6), ahead(batches, range(2, 6), CPU), strict=True):
        images, labels = sequences.pictures(np.arange(5 * step, 5 * step + 5))
        assert np.array_equal(pictures.images.numpy(), images)
        assert np.array_equal(pictures.labels.numpy(), labels)


def test_every_epoch_has_its_own_digits_and_a_batch_depends_on_nothing_but_its_step(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def moved(mnist: Mnist, strength: float, seed: int, epoch: int, split: str) -> Mnist:
        assert (strength, seed, split) == (1.0, 4, "train")
        return Mnist(np.roll(mnist.images, epoch + 1, axis=2), mnist.labels)

    monkeypatch.setattr("rnnspn.training.batches.distorted", moved)
    config = train_config("best", RNN, batch=5, epoch_images=10, distortion=1.0, seed=4)

    def at(steps: list[int]) -> list[Pictures]:
        batches = SynthesisedBatches(Sequences(load_mnist(), "train"), config, CPU)
        return [batches.at(step) for step in steps]

    forward, backward = at([0, 1, 2]), at([2, 1, 0])
    for one, other in zip(forward, reversed(backward), strict=True):
        assert torch.equal(one.images, other.images)
    mnist = load_mnist()
    for step, epoch in enumerate((0, 0, 1)):
        sequences = Sequences(moved(mnist, 1.0, 4, epoch, "train"), "train")
        assert np.array_equal(forward[step].images, sequences.pictures(np.arange(5 * step, 5 * step + 5))[0])


def test_a_glimpse_at_a_centre_holds_the_digit() -> None:
    mnist = load_mnist()
    sequences = Sequences(mnist, "train", seed=5, height=90)
    batches = SynthesisedBatches(sequences, train_config("best", RNN, batch=20, distortion=0.0), CPU)
    pictures, place = batches.at(3), sequences.place(np.arange(60, 80))
    assert pictures.centres is not None
    theta = torch.zeros(20, 3, 2, 3)
    theta[..., 0, 0], theta[..., 1, 1] = 27 / 99, 27 / 89
    theta[..., 2] = pictures.centres
    glimpses = sample_glimpses(pictures.images.unsqueeze(1).float(), theta, base_grid(28, 28), (28, 28))
    digits = torch.from_numpy(mnist.images[place.digit]).flatten(0, 1).float()
    seen = (glimpses.squeeze(1) >= digits - 0.01).float().mean()  # clutter only adds
    assert seen.item() == 1.0


def placed(folder: Path, step: int = 20) -> Path:
    """Write pictures with labels that say where the first and the last of three digits are."""
    write_samples(folder, Sequences(load_mnist(), "train"), 20)
    head, *lines = (folder / "labels.csv").read_text().split()
    rows = [f"{line},{number},30,{number + 2 * step},30" for number, line in enumerate(lines)]
    (folder / "labels.csv").write_text("\n".join([f"{head},x1,y1,x2,y2", *rows]))
    return folder


@pytest.mark.parametrize("own", [False, True])
def test_a_share_is_made_of_the_pictures_that_the_whole_batch_has(own: bool, tmp_path: Path) -> None:
    data = DataConfig(source=str(placed(tmp_path))) if own else DataConfig()
    config = train_config("best", RNN, batch=8, distortion=float(own), companions=own / 2)
    whole = training_batches(data, RNN, config, CPU).at(2)
    assert whole.centres is not None
    for rank in range(2):
        share = Processes(rank, 2).share
        part = training_batches(data, RNN, config, CPU, share).at(2)
        assert part.centres is not None
        assert part.images.shape == (4, 100, 100)
        assert torch.equal(part.images, whole.images[share])
        assert torch.equal(part.labels, whole.labels[share])
        torch.testing.assert_close(part.centres, whole.centres[share])
        assert (part.zooms is None) == (whole.zooms is None) != own
        if part.zooms is not None and whole.zooms is not None:
            torch.testing.assert_close(part.zooms, whole.zooms[share], equal_nan=True)


def test_a_part_of_each_batch_of_ones_own_is_companions(tmp_path: Path) -> None:
    write_samples(tmp_path, Sequences(load_mnist(), "train"), 20)
    data, config = DataConfig(source=str(tmp_path)), train_config("best", RNN, batch=10, companions=0.4, distortion=0.0)
    assert config.labelled_per_batch == 6
    mixed = training_batches(data, RNN, config, CPU)
    alone = training_batches(data, RNN, replace(config, batch=6, companions=0.0), CPU)
    for step in (0, 7):
        batch, own = mixed.at(step), alone.at(step)
        assert torch.equal(batch.images[:6], own.images)
        assert torch.equal(batch.labels[:6], own.labels)
        assert (batch.labels[6:] == UNNAMED).all()
        assert batch.centres is not None
        assert batch.zooms is not None
        for known in (batch.centres, batch.zooms):
            assert known[:6].isnan().all()
            assert known[6:].isfinite().all()
    assert not torch.equal(mixed.at(0).images[6:], mixed.at(7).images[6:])
    assert torch.equal(mixed.at(7).images, training_batches(data, RNN, config, CPU).at(7).images)


def test_companions_are_the_last_in_every_processs_share(tmp_path: Path) -> None:
    config = train_config("best", RNN, batch=10, companions=0.4)
    data = DataConfig(source=str(placed(tmp_path)))
    for rank in range(2):
        labels = training_batches(data, RNN, config, CPU, Processes(rank, 2).share).at(1).labels
        assert (labels == UNNAMED).all(1).tolist() == [False] * 3 + [True] * 2


@pytest.mark.parametrize(("share", "count"), [(0.5, 1), (0.005, 128), (0.0, 6)])
def test_where_no_companion_finds_room_the_batch_is_ones_own(share: float, count: int, tmp_path: Path) -> None:
    config = train_config("best", RNN, batch=count, companions=share)
    batch = training_batches(DataConfig(source=str(placed(tmp_path))), RNN, config, CPU).at(0)
    assert len(batch.labels) == count
    assert (batch.labels != UNNAMED).all()


def test_without_mnist_one_is_told_how_to_do_without_companions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing() -> Mnist:
        raise DataError("MNIST is nowhere")

    monkeypatch.setattr("rnnspn.training.sources.load_mnist", missing)
    data, config = DataConfig(source=str(placed(tmp_path))), train_config("best", RNN, batch=4, companions=0.5)
    with pytest.raises(DataError, match=r"nowhere, or learn without companions: --set companions=0"):
        training_batches(data, RNN, config, CPU)
    training_batches(data, RNN, replace(config, companions=0.0), CPU)


@pytest.mark.parametrize(("step", "across"), [(20, 1.2 * 20 / 99), (40, 1.2 * 100 / 3 / 99)])
def test_glimpses_are_to_be_as_wide_as_characters_are_apart(step: int, across: float, tmp_path: Path) -> None:
    data = DataConfig(source=str(placed(tmp_path, step)))
    for companions, down in ((0.5, math.nan), (0.0, 0.25)):  # nobody says how tall they are
        config = train_config("best", RNN, batch=4, distortion=0.0, companions=companions, zoom=0.25)
        zooms = training_batches(data, RNN, config, CPU).at(0).zooms
        assert zooms is not None
        torch.testing.assert_close(zooms[:2], torch.tensor([[across, down]] * 2), equal_nan=True)


def test_the_ends_of_shorter_labels_say_how_far_their_characters_are_apart(tmp_path: Path) -> None:
    for number in range(2):
        Image.new("L", (100, 100)).save(tmp_path / f"{number}.png")
    (tmp_path / "labels.csv").write_text("path,label,x1,y1,x2,y2\n0.png,12,20,50,40,50\n1.png,1234,20,50,80,50\n")
    data, model = (
        DataConfig(source=str(tmp_path), validation=False),
        family_config("rnn-spn", steps=4, alphabet="1234␣"),
    )
    for distortion in (0.0, 1.0):
        config = train_config("best", model, batch=4, distortion=distortion, companions=0.5)
        batch = training_batches(data, model, config, CPU).at(0)
        assert batch.zooms is not None
        assert batch.centres is not None
        torch.testing.assert_close(
            batch.zooms[:2, 0], torch.full((2,), 1.2 * 20 / 99), rtol=0.3 * distortion + 1e-5, atol=0
        )
        known = ~batch.centres[:2].isnan().any(-1)
        assert sorted(known.sum(1).tolist()) == [2, 4]


def test_pictures_are_cluttered_where_all_labels_have_one_length(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    monkeypatch.setattr(
        "rnnspn.training.batches.draw_patches", lambda *draws: seen.append(draws) or torch.zeros(4, 1, 6)
    )
    data, config = DataConfig(source=str(placed(tmp_path))), train_config("best", RNN, batch=4, distortion=0.7)
    training_batches(data, RNN, config, CPU).at(3)
    assert seen == [(4, 0.7, 0, 3)]
    training_batches(data, family_config("rnn-spn", alphabet="0123456789␣"), config, CPU).at(3)
    training_batches(DataConfig(), RNN, config, CPU).at(3)
    assert len(seen) == 1


@pytest.mark.parametrize(("companions", "zoom"), [(0.0, 0.25), (0.5, math.nan)])
def test_where_nobody_says_how_wide_companions_show_it_or_the_configuration_does(
    companions: float, zoom: float, tmp_path: Path
) -> None:
    folder = placed(tmp_path, step=1)  # as good as the same place twice
    config = train_config("best", RNN, batch=4, distortion=0.0, companions=companions, zoom=0.25)
    zooms = training_batches(DataConfig(source=str(folder)), RNN, config, CPU).at(0).zooms
    assert zooms is not None
    torch.testing.assert_close(zooms[:2], torch.full((2, 2), zoom), equal_nan=True)


def test_glimpses_around_companions_are_square_in_pictures_that_are_not(tmp_path: Path) -> None:
    model = family_config("rnn-spn", height=60, width=120)
    config = train_config("best", model, batch=4, companions=0.5)
    zooms = training_batches(DataConfig(source=str(placed(tmp_path))), model, config, CPU).at(0).zooms
    assert zooms is not None
    torch.testing.assert_close(zooms[2:, 0] * 119, zooms[2:, 1] * 59)


def test_one_character_alone_says_nothing_of_its_size(tmp_path: Path) -> None:
    Image.new("L", (100, 100)).save(tmp_path / "a.png")
    Image.new("L", (100, 100)).save(tmp_path / "b.png")
    (tmp_path / "labels.csv").write_text("path,label,x1,y1,x2,y2\na.png,1,5,5,5,5\nb.png,1,5,5,5,5\n")
    model = family_config("rnn-spn", steps=1)
    batches = training_batches(DataConfig(source=str(tmp_path)), model, train_config("best", model, batch=4), CPU)
    assert batches.at(0).zooms is None


def test_some_pictures_keep_their_labels_and_centres() -> None:
    whole = Pictures(torch.arange(6), torch.arange(6) * 10, torch.arange(6) * 100)
    part = whole.some(torch.tensor([1, 3, 5]))
    assert part.centres is not None
    assert [part.images.tolist(), part.labels.tolist(), part.centres.tolist()] == [
        [1, 3, 5],
        [10, 30, 50],
        [100, 300, 500],
    ]


def test_places_of_a_folders_labels_come_with_the_pictures(tmp_path: Path) -> None:
    for number in range(20):
        Image.new("L", (100, 100)).save(tmp_path / f"{number}.png")
    lines = [f"{number}.png,{number % 10},{number},{number},{number},{number}" for number in range(20)]
    (tmp_path / "labels.csv").write_text("\n".join(["path,label,x1,y1,x2,y2", *lines]))
    model, data = family_config("rnn-spn", steps=1), DataConfig(source=str(tmp_path))
    config = train_config("best", model, batch=9, distortion=0.0)
    pictures = training_batches(data, model, config, CPU).at(0)
    assert pictures.centres is not None
    numbers = ((pictures.centres + 1) / 2 * 99).round().long()
    assert torch.equal(pictures.labels, numbers[..., 0] % 10)
    assert len(numbers.unique()) == 9


def test_nothing_is_made_for_no_steps() -> None:
    assert list(ahead(fixed(), range(4, 4), CPU)) == []


@pytest.mark.parametrize(
    ("data", "shape", "complaint"),
    [
        (DataConfig(source=AUTHORS_2015), {"steps": 2}, "three digits on 100x100"),
        (DataConfig(), {"alphabet": "01"}, "alphabet"),
    ],
)
def test_data_that_do_not_fit_are_refused(data: DataConfig, shape: dict[str, object], complaint: str) -> None:
    model = family_config("rnn-spn", **shape)
    with pytest.raises(ConfigError, match=complaint):
        training_batches(data, model, train_config("best", model), CPU)
