import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rnnspn.inference import decoding, images
from rnnspn.inference.images import Placement, load, to_input, to_source

SAMPLE = Path(__file__).parents[2] / "assets" / "images" / "00-plain.png"


def _disc(size: int = 100, ink: int = 255, paper: int = 0) -> np.ndarray:
    y, x = np.mgrid[:size, :size]
    return np.where((x - size / 2) ** 2 + (y - size / 2) ** 2 < (size / 4) ** 2, ink, paper).astype(np.uint8)


def _noise(seed: int, high: int = 256) -> np.ndarray:
    levels = np.random.default_rng(seed).integers(0, high, (100, 100), np.uint8)
    levels[[0, -1]], levels[:, [0, -1]] = 0, 0
    return levels


@pytest.mark.parametrize("picture", [_noise(1), _noise(2, 60), _disc(), np.zeros((100, 100), np.uint8)])
def test_a_picture_in_the_models_form_reaches_it_bit_for_bit(picture, tmp_path):
    Image.fromarray(picture).save(tmp_path / "a.png")
    np.testing.assert_array_equal(load(str(tmp_path / "a.png"), 100, 100).pixels, picture)
    np.testing.assert_array_equal(load(picture, 100, 100).pixels, picture)


def test_a_clean_inverted_picture_reaches_the_model_bit_for_bit():
    picture = _noise(3)
    np.testing.assert_array_equal(load(255 - picture, 100, 100).pixels, picture)


def test_polarity_can_be_forced():
    picture = _disc()
    np.testing.assert_array_equal(load(picture, 100, 100, "dark-on-light").pixels, 255 - picture)
    np.testing.assert_array_equal(load(255 - picture, 100, 100, "light-on-dark").pixels, 255 - picture)


def test_an_unknown_polarity_is_refused():
    with pytest.raises(ValueError, match="polarity"):
        load(_disc(), 100, 100, "sideways")


def test_photographed_paper_comes_out_black_and_its_ink_white():
    fitted = load(_disc(ink=60, paper=190), 100, 100).pixels
    assert fitted[0, 0] == 0
    assert fitted[50, 50] == 255


def test_a_board_comes_out_black_and_its_chalk_white():
    fitted = load(255 - _disc(ink=20, paper=210), 100, 100).pixels
    assert fitted[0, 0] == 0
    assert fitted[50, 50] == 255


def _strokes(ink: int, paper: int) -> np.ndarray:
    """Return a ring and a bar, three pixels wide."""
    y, x = np.mgrid[:100, :100]
    drawn = (np.abs(np.hypot(x - 40, y - 50) - 15) < 1.5) | ((np.abs(x - 70) < 1.5) & (np.abs(y - 50) < 20))
    return np.where(drawn, ink, paper).astype(np.uint8)


GREYS = [(ink, paper) for paper in range(0, 256, 5) for ink in range(0, 256, 5) if abs(ink - paper) >= 90]


@pytest.mark.parametrize("specks", [0, 40])
def test_ink_of_any_level_on_a_background_of_any_comes_out_white_on_black(specks):
    at = np.random.default_rng(1).integers(10, 90, (2, specks))
    for ink, paper in GREYS:
        picture = _strokes(ink, paper)
        picture[tuple(at)] = 255 if ink < paper else 0
        grain = np.random.default_rng(2).normal(0, 2, picture.shape).round()
        fitted = load((picture + grain).clip(0, 255).astype(np.uint8), 100, 100).pixels
        assert np.median(fitted) == 0, (ink, paper)
        assert np.median(fitted[32:69, 70]) >= 85, (ink, paper)


@pytest.mark.parametrize(("ink", "paper"), [(2, 20), (5, 40), (8, 60), (20, 63), (255, 195), (250, 200), (255, 220)])
def test_ink_on_a_background_as_dark_or_as_light_as_ink_is_comes_out_white_on_black(ink, paper):
    grain = np.random.default_rng(2).normal(0, 1, (100, 100)).round()
    picture = (_strokes(ink, paper) + grain).clip(0, 255).astype(np.uint8)
    for polarity in ("auto", "dark-on-light" if ink < paper else "light-on-dark"):
        fitted = load(picture, 100, 100, polarity).pixels
        assert np.median(fitted) == 0
        assert np.median(fitted[32:69, 70]) >= 40


@pytest.mark.parametrize("paper", [10, 40, 200, 215, 235, 250])
def test_a_thin_stroke_is_ink_on_a_light_or_a_dark_background(paper):
    y, x = np.mgrid[:100, :100]
    stroke = (x == 50) & (np.abs(y - 50) < 8)
    told = "dark-on-light" if paper > 127 else "light-on-dark"
    for noise, shade in ((0, 0), (3, 0), (0, 30), (3, 30)):
        light = shade * (0.5 - ((x - 49.5) ** 2 + (y - 49.5) ** 2) / 49.5**2 / 2)
        grain = np.random.default_rng(0).normal(0, noise, light.shape)
        picture = (np.where(stroke, 60 if paper > 127 else 220, paper + light) + grain).clip(0, 255).astype(np.uint8)
        np.testing.assert_array_equal(load(picture, 100, 100).pixels, load(picture, 100, 100, told).pixels)


@pytest.mark.parametrize("width", [3, 8, 15])
def test_ink_of_any_width_is_ink_in_any_light(width):
    y, x = np.mgrid[:100, :100]
    ring = np.abs(np.hypot(x - 35, y - 50) - 20) < width / 2
    bar = (np.abs(x - 75) < width / 2) & (np.abs(y - 50) < 30)
    light = (x + y) / 198 * 30 - 15
    for paper in range(25, 231, 15):
        for contrast in (-90, 90):
            if not 0 <= paper + contrast <= 255:
                continue
            grain = np.random.default_rng(paper).normal(0, 2, light.shape)
            picture = (paper + light + grain + contrast * (ring | bar)).clip(0, 255).round().astype(np.uint8)
            told = load(picture, 100, 100, "dark-on-light" if contrast < 0 else "light-on-dark").pixels
            np.testing.assert_array_equal(load(picture, 100, 100).pixels, told, err_msg=f"{paper} {contrast}")


@pytest.mark.parametrize("turn", [0, 255])
def test_a_border_that_is_mostly_ink_is_not_made_background_when_the_polarity_is_told(turn):
    picture = _strokes(255, 0)
    picture[:40], picture[60:] = 255, 255
    polarity = "dark-on-light" if turn else "light-on-dark"
    np.testing.assert_array_equal(load(turn ^ picture, 100, 100, polarity).pixels, picture)


@pytest.mark.parametrize("darker", [0, 20, 40, 60, 80, 100])
@pytest.mark.parametrize("ink", [60, 110])
def test_paper_that_is_brighter_in_the_middle_is_still_paper(darker, ink):
    y, x = np.mgrid[:100, :100]
    light = 230 - darker * ((x - 49.5) ** 2 + (y - 49.5) ** 2) / 49.5**2
    picture = (light - _strokes(ink, 0)).clip(0, 255).astype(np.uint8)
    np.testing.assert_array_equal(load(picture, 100, 100).pixels, load(picture, 100, 100, "dark-on-light").pixels)


def test_holes_in_a_grey_picture_are_no_ink():
    picture = np.dstack([_strokes(140, 100), np.full((100, 100), 255, np.uint8)])
    opaque = load(picture, 100, 100).pixels
    picture[5:30, 5:60, 1] = 0
    holed = load(picture, 100, 100).pixels
    np.testing.assert_array_equal(holed[32:], opaque[32:])
    assert np.median(holed[32:69, 70]) > 85


def test_ink_that_crosses_the_border_does_not_make_it_background():
    picture = _strokes(250, 20)
    picture[:, 0] = picture[:, 1] = 250  # a quarter of the border and a little more
    picture[0, :60] = 250
    fitted = load(picture, 100, 100).pixels
    assert np.median(fitted) == 0
    assert fitted[50, 70] == 255


@pytest.mark.parametrize("paper", [1, 5, 8, 60, 100, 150, 200, 247, 254])
def test_an_empty_sheet_comes_out_empty(paper):
    grain = np.random.default_rng(0).normal(paper, 2, (100, 100)).round().clip(0, 255).astype(np.uint8)
    assert load(grain, 100, 100).pixels.max() < 40
    assert load(np.full((100, 100), paper, np.uint8), 100, 100).pixels.max() == 0


def test_the_grain_of_an_empty_sheet_stays_faint():
    sheet = np.random.default_rng(0).normal(190, 4, (100, 100)).round().astype(np.uint8)
    assert load(sheet, 100, 100).pixels.max() < 64


@pytest.mark.parametrize(
    ("ink", "polarity"), [(0, "auto"), (255, "auto"), (0, "dark-on-light"), (255, "light-on-dark")]
)
def test_ink_on_nothing_is_ink_on_a_contrasting_background(ink, polarity):
    transparent = np.dstack([np.full((100, 100), ink, np.uint8), _disc()])
    np.testing.assert_array_equal(load(transparent, 100, 100, polarity).pixels, _disc())


def test_half_transparent_ink_is_laid_over_the_background():
    layer = np.zeros((100, 100, 2), np.uint8)
    layer[40:60, 40:60] = (55, 128)
    over_white = 55 * 128 / 255 + 255 * (1 - 128 / 255)
    fitted = load(layer, 100, 100, "dark-on-light").pixels
    assert abs(int(fitted[50, 50]) - (255 - over_white)) <= 1
    assert fitted[0, 0] == 0


def test_an_opaque_alpha_channel_changes_nothing():
    picture = _noise(4)
    opaque = np.dstack([picture, picture, picture, np.full_like(picture, 255)])
    np.testing.assert_array_equal(load(opaque, 100, 100).pixels, picture)


def test_a_wide_picture_is_centred_with_black_above_and_below():
    fitted = load(np.full((50, 200), 200, np.uint8), 100, 100, "light-on-dark")
    assert fitted.placement == Placement(0, 37, 100, 25, 200, 50)
    assert (fitted.pixels[37:62] == 200).all()
    assert fitted.pixels[:37].max() == fitted.pixels[62:].max() == 0


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 5000), (5000, 1), (7, 3), (3000, 2000)])
def test_any_size_fits(height, width):
    fitted = load(np.full((height, width), 200, np.uint8), 60, 80, "light-on-dark")
    assert fitted.pixels.shape == (60, 80)
    assert fitted.pixels.max() == 200


def test_enlarging_and_reducing_keep_the_drawing():
    for size in (25, 400, 2000):
        difference = np.abs(load(_disc(size), 100, 100).pixels.astype(int) - _disc())
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
    found = to_source(centre.reshape(1, 1, 1, 2), [fitted.placement], 100, 100)[0, 0, 0]
    rows, columns = np.mgrid[:height, :width]
    expected = np.array([(picture * columns).sum(), (picture * rows).sum()]) / picture.sum(dtype=np.int64)
    np.testing.assert_allclose(found, expected, atol=0.02 * max(size))


def test_the_corners_of_a_picture_of_the_models_size_are_its_pixels():
    corners = np.array([[[[-1.0, -1.0], [1.0, 1.0], [-3.0, 0.0]]]])
    mapped = to_source(corners, [Placement.fitting(80, 60, 80, 60)], 60, 80)
    np.testing.assert_allclose(mapped[0, 0], [[0, 0], [79, 59], [-79, 29.5]])


def test_a_picture_at_half_size_maps_back_by_pixel_centres():
    mapped = to_source(np.array([[[[-1.0, -1.0]]]]), [Placement.fitting(200, 200, 100, 100)], 100, 100)
    np.testing.assert_allclose(mapped[0, 0, 0], [0.5, 0.5])


def test_pixels_of_a_picture_map_to_the_models_coordinates_and_back():
    placements = [Placement.fitting(240, 140, 170, 60), Placement.fitting(31, 90, 170, 60)]
    points = np.array([[[0.0, 0.0], [239.0, 139.0], [70.5, 31.25]], [[0.0, 89.0], [-4.0, 200.0], [30.0, 0.0]]])
    found = to_input(points, placements, 60, 170)
    np.testing.assert_allclose(to_source(found[:, :, None], placements, 60, 170)[:, :, 0], points, atol=1e-9)
    assert np.abs(found[0]).max() < 1.02  # inside the picture, whose outermost half pixels lie beyond -1 and +1


def test_a_turned_photograph_maps_back_to_the_picture_as_displayed():
    stored = np.zeros((1200, 1600), np.uint8)
    stored[100:300, 200:500] = 255  # orientation 6 turns it clockwise: x = 1199 - row, y = column
    exif, stream = Image.Exif(), io.BytesIO()
    exif[0x0112] = 6
    Image.fromarray(stored).save(stream, "JPEG", exif=exif, quality=95)
    fitted = images.fit(decoding.decode(stream.getvalue(), 300), 100, 100)
    assert (fitted.placement.source_width, fitted.placement.source_height) == (1200, 1600)
    rows, columns = np.nonzero(fitted.pixels > 127)
    centre = np.array([columns.mean(), rows.mean()]) / 99 * 2 - 1
    found = to_source(centre.reshape(1, 1, 1, 2), [fitted.placement], 100, 100)[0, 0, 0]
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
    assert ours.placement == full.placement
    difference = np.abs(ours.pixels.astype(int) - full.pixels).max()
    assert difference <= 6
