import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from rnnspn.pictures import decoding, images
from rnnspn.pictures.images import Letterbox, load, to_input, to_source
from tests.pictures.drawn import disc, noise

SAMPLE = Path(__file__).parents[2] / "assets" / "images" / "00-plain.png"


@pytest.mark.parametrize("picture", [noise(1), noise(2, 60), disc(), np.zeros((100, 100), np.uint8)])
def test_a_picture_in_the_models_form_reaches_it_bit_for_bit(picture, tmp_path):
    Image.fromarray(picture).save(tmp_path / "a.png")
    np.testing.assert_array_equal(load(str(tmp_path / "a.png"), 100, 100).pixels, picture)
    np.testing.assert_array_equal(load(picture, 100, 100).pixels, picture)


def test_a_wide_picture_is_centred_with_black_above_and_below():
    fitted = load(np.full((50, 200), 200, np.uint8), 100, 100, "light-on-dark")
    assert fitted.letterbox == Letterbox(0, 37, 100, 25, 200, 50)
    assert (fitted.pixels[37:62] == 200).all()
    assert fitted.pixels[:37].max() == fitted.pixels[62:].max() == 0


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 5000), (5000, 1), (7, 3), (3000, 2000)])
def test_any_size_fits(height, width):
    fitted = load(np.full((height, width), 200, np.uint8), 60, 80, "light-on-dark")
    assert fitted.pixels.shape == (60, 80)
    assert fitted.pixels.max() == 200


def test_enlarging_and_reducing_keep_the_drawing():
    for size in (25, 400, 2000):
        difference = np.abs(load(disc(size), 100, 100).pixels.astype(int) - disc())
        assert difference.mean() < 8


@pytest.mark.parametrize("size", [(100, 100), (640, 400), (400, 640), (30, 90)])
def test_model_coordinates_map_back_to_where_a_dot_was(size):
    width, height = size
    x, y = width * 7 // 10, height * 3 // 10
    side = max(size) // 10
    picture = np.zeros((height, width), np.uint8)
    picture[y - side : y + side + 1, x - side : x + side + 1] = 255
    fitted = load(picture, 100, 100, "light-on-dark")
    weights = fitted.pixels / fitted.pixels.sum()
    rows, columns = np.mgrid[:100, :100]
    centre = np.array([(weights * columns).sum(), (weights * rows).sum()]) / 99 * 2 - 1
    found = to_source(centre.reshape(1, 1, 1, 2), [fitted.letterbox], 100, 100)[0, 0, 0]
    rows, columns = np.mgrid[:height, :width]
    expected = np.array([(picture * columns).sum(), (picture * rows).sum()]) / picture.sum(dtype=np.int64)
    np.testing.assert_allclose(found, expected, atol=0.02 * max(size))


def test_the_corners_of_a_picture_of_the_models_size_are_its_pixels():
    corners = np.array([[[[-1.0, -1.0], [1.0, 1.0], [-3.0, 0.0]]]])
    mapped = to_source(corners, [Letterbox.fitting(80, 60, 80, 60)], 60, 80)
    np.testing.assert_allclose(mapped[0, 0], [[0, 0], [79, 59], [-79, 29.5]])


def test_a_picture_at_half_size_maps_back_by_pixel_centres():
    mapped = to_source(np.array([[[[-1.0, -1.0]]]]), [Letterbox.fitting(200, 200, 100, 100)], 100, 100)
    np.testing.assert_allclose(mapped[0, 0, 0], [0.5, 0.5])


def test_pixels_of_a_picture_map_to_the_models_coordinates_and_back():
    letterboxes = [Letterbox.fitting(240, 140, 170, 60), Letterbox.fitting(31, 90, 170, 60)]
    points = np.array([[[0.0, 0.0], [239.0, 139.0], [70.5, 31.25]], [[0.0, 89.0], [-4.0, 200.0], [30.0, 0.0]]])
    found = to_input(points, letterboxes, 60, 170)
    np.testing.assert_allclose(to_source(found[:, :, None], letterboxes, 60, 170)[:, :, 0], points, atol=1e-9)
    assert np.abs(found[0]).max() < 1.02  # inside the picture, whose outermost half pixels lie beyond -1 and +1


def test_a_turned_photograph_maps_back_to_the_picture_as_displayed():
    stored = np.zeros((1200, 1600), np.uint8)
    stored[100:300, 200:500] = 255  # orientation 6 turns it clockwise: x = 1199 - row, y = column
    exif, stream = Image.Exif(), io.BytesIO()
    exif[0x0112] = 6
    Image.fromarray(stored).save(stream, "JPEG", exif=exif, quality=95)
    fitted = images.fit(decoding.decode(stream.getvalue(), 300), 100, 100)
    assert (fitted.letterbox.source_width, fitted.letterbox.source_height) == (1200, 1600)
    rows, columns = np.nonzero(fitted.pixels > 127)
    centre = np.array([columns.mean(), rows.mean()]) / 99 * 2 - 1
    found = to_source(centre.reshape(1, 1, 1, 2), [fitted.letterbox], 100, 100)[0, 0, 0]
    np.testing.assert_allclose(found, [1000, 350], atol=10)


@pytest.mark.parametrize("size", [(2401, 2401), (2405, 1603), (603, 1205)])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_big_jpeg_is_what_it_is_in_full(size, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    encoded = io.BytesIO()
    with Image.open(SAMPLE) as sample:
        sample.convert("L").resize(size, Image.Resampling.BICUBIC).save(encoded, "JPEG", quality=95, exif=exif)
    whole = decoding.decode(encoded.getvalue())
    reduced = decoding.decode(encoded.getvalue(), detail=300)
    assert max(reduced.image.size) < max(whole.image.size) * 0.6
    ours, full = (images.fit(one, 100, 100, "light-on-dark") for one in (reduced, whole))
    assert ours.letterbox == full.letterbox
    difference = np.abs(ours.pixels.astype(int) - full.pixels).max()
    assert difference <= 6


@pytest.mark.parametrize("form", ["PNG", "JPEG"])
@pytest.mark.parametrize("kind", ["text", "lines", "stripes"])
def test_what_is_sharp_is_reduced_to_nearly_what_it_is_in_full(kind, form):
    worst, random = 0, np.random.default_rng(1)
    for width, height in random.integers(610, 2500, (24, 2)).tolist():
        sharp = Image.new("L", (width, height))
        draw = ImageDraw.Draw(sharp)
        if kind == "text":
            draw.text((width * 0.1, height * 0.2), "472", fill=255, font=ImageFont.load_default(height * 0.4))
        lean, apart = (height // 3, random.integers(20, 90)) if kind == "lines" else (0, random.integers(5, 30))
        for x in range(width // 10, width * 9 // 10 - lean, apart) if kind != "text" else ():
            draw.line((x, height // 10, x + lean, height * 9 // 10), 255, random.integers(1, apart))
        encoded = io.BytesIO()
        sharp.save(encoded, form, quality=95)
        placed = Letterbox.fitting(width, height, 100, 100)
        with Image.open(encoded) as whole:
            full = np.asarray(whole.resize((placed.width, placed.height), Image.Resampling.BICUBIC)).astype(int)
        fitted = load(encoded.getvalue(), 100, 100, "light-on-dark").pixels
        ours = fitted[placed.top : placed.top + placed.height, placed.left : placed.left + placed.width]
        worst = max(worst, np.abs(ours - full).max())
    assert 0 < worst <= 20
