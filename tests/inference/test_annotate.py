import numpy as np
import onnx
import pytest
from PIL import Image, ImageColor

from rnnspn.inference.annotate import COLOURS, Annotator, draw
from rnnspn.inference.predictor import Predictor
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


@pytest.mark.parametrize("size", [(3, 2), (100, 100), (3000, 500)])
def test_pictures_of_any_size_are_drawn_large_enough_to_see(tmp_path, size):
    drawn = draw(*_read(tmp_path, handmade.METADATA, size))
    assert 500 < drawn.width < 1000
    assert 500 < drawn.height < 1000


def test_pictures_of_one_name_get_files_of_their_own(tmp_path):
    _, reading, facts = _read(tmp_path, handmade.METADATA)
    annotator = Annotator(tmp_path / "drawn", facts)
    written = [annotator.write(str(tmp_path / "a.png"), reading) for _ in range(3)]
    assert [path.name for path in written] == ["a.png", "a-2.png", "a-3.png"]
    assert sorted(path.name for path in (tmp_path / "drawn").iterdir()) == sorted(path.name for path in written)
