import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from PIL import Image, ImageColor

from rnnspn.errors import OutputError
from rnnspn.inference.predictor import Predictor
from rnnspn.pictures import images
from rnnspn.results import glimpses
from rnnspn.results.annotate import COLOURS, Annotator, draw
from tests import handmade


def _has(image: Image.Image, colour: str) -> bool:
    distance = np.abs(np.asarray(image).astype(int) - ImageColor.getrgb(colour)).max(axis=-1)
    return bool((distance < 4).sum() > 50)


def _read(tmp_path, facts, size=(100, 100)) -> tuple:
    onnx.save(handmade.build(facts), tmp_path / "m.onnx")
    Image.fromarray(handmade.picture_of("123")).resize(size).save(tmp_path / "a.png")
    predictor = Predictor.load(tmp_path / "m.onnx", provider="cpu")
    return (tmp_path / "a.png").read_bytes(), predictor.predict([tmp_path / "a.png"])[0], facts


@pytest.mark.parametrize("steps", [1, 3, 7])
def test_every_step_has_its_colour(tmp_path, steps):
    drawn = draw(*_read(tmp_path, handmade.metadata(steps=steps)))
    assert [_has(drawn, colour) for colour in COLOURS] == [index < steps for index in range(len(COLOURS))]


def test_one_shared_quadrilateral_has_one_colour(tmp_path):
    drawn = draw(*_read(tmp_path, handmade.metadata(family="ffn-spn")))
    assert [_has(drawn, colour) for colour in COLOURS[:2]] == [True, False]


def test_without_attention_nothing_is_outlined(tmp_path):
    drawn = draw(*_read(tmp_path, handmade.metadata(family="conv", downsample=None)))
    assert not any(_has(drawn, colour) for colour in COLOURS)


def test_an_empty_reading_says_so(tmp_path):
    data, reading, facts = _read(tmp_path, handmade.METADATA)
    empty, one = (draw(data, replace(reading, digits=digits, steps=()), facts) for digits in ("", "(nothing)"))
    assert np.array_equal(empty, one)
    assert not any(_has(empty, colour) for colour in COLOURS)


@pytest.mark.parametrize("size", [(3, 2), (100, 100), (3000, 500)])
def test_pictures_of_any_size_are_drawn_large_enough_to_see(tmp_path, size):
    drawn = draw(*_read(tmp_path, handmade.METADATA, size))
    assert 500 < drawn.width < 1000
    assert 500 < drawn.height < 1000


def test_pictures_of_one_name_get_files_of_their_own(tmp_path):
    _, reading, facts = _read(tmp_path, handmade.METADATA)
    paths = [str(tmp_path / name) for name in ("a.png", "a.png", "a-2.png", "A.png", "a.png")]
    for path in paths[2:4]:
        shutil.copy(tmp_path / "a.png", path)
    written = [Annotator(tmp_path / "drawn", paths, facts).write(index, reading) for index in (3, 0, 4, 2, 1)]
    names = ["A-3.png", "a.png", "a-4.png", "a-2-2.png", "a-2.png"]
    assert written == [tmp_path / "drawn" / name for name in names]
    assert sorted(path.name for path in (tmp_path / "drawn").iterdir()) == sorted(path.name for path in written)


def test_drawings_lie_in_folders_like_the_pictures(tmp_path, monkeypatch):
    _, reading, facts = _read(tmp_path, handmade.METADATA)
    monkeypatch.chdir(tmp_path)
    paths = ["mine/one/a.png", "mine/two/a.png", "mine/a.jpg", "mine/one/../a.png", "mine/two/b.png"]
    for path in paths:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy("a.png", path)
    annotator = Annotator(Path("drawn"), paths, facts)
    written = [annotator.write(index, reading) for index in range(len(paths))]
    assert written == [Path("drawn", name) for name in ("one/a.png", "two/a.png", "a.png", "a-2.png", "two/b.png")]
    assert Annotator(Path("drawn"), ["d/a.jpg", "d/a.png/b.png"], facts)._targets == [
        Path("drawn", name) for name in ("a-2.png", "a.png/b.png")
    ]
    assert Annotator(Path("drawn"), [str(tmp_path / paths[1])], facts).write(0, reading) == Path("drawn/a.png")


def test_the_longest_name_is_shortened(tmp_path):
    _, reading, facts = _read(tmp_path, handmade.METADATA)
    long = (tmp_path / "a.png").rename(tmp_path / f"{'é' * 124}a.png")
    written = Annotator(tmp_path / "drawn", [str(long)], facts).write(0, reading)
    assert written.name == f"{'é' * 100}.png"
    assert written.exists()


@pytest.mark.parametrize("link", [False, True])
def test_no_picture_is_written_over(tmp_path, link):
    _read(tmp_path, handmade.METADATA)
    picture = tmp_path / "a.png"
    if link:
        picture = tmp_path / "b.png"
        picture.symlink_to(tmp_path / "a.png")
    with pytest.raises(OutputError, match=r"a\.png: it is one of the files to read; choose another place"):
        Annotator(tmp_path, [str(picture), str(tmp_path / "a.jpg")], handmade.METADATA)


def test_crops_are_of_the_pixels_that_were_read(tmp_path, monkeypatch):
    noise = np.random.default_rng(0).integers(0, 256, (2000, 2000), np.uint8)
    Image.fromarray(noise).save(tmp_path / "large.jpg", quality=90)  # decoded in less detail to read than to draw
    data, facts = (tmp_path / "large.jpg").read_bytes(), handmade.METADATA
    onnx.save(handmade.build(facts), tmp_path / "m.onnx")
    reading = Predictor.load(tmp_path / "m.onnx", provider="cpu").predict([data])[0]
    sampled = []
    monkeypatch.setattr(glimpses, "sample", lambda pixels, *_: (sampled.append(pixels), pixels)[1])
    draw(data, reading, facts)
    expected = images.load(data, facts.height, facts.width).pixels
    assert len(sampled) == len(reading.steps)
    assert all(np.array_equal(pixels, expected) for pixels in sampled)
