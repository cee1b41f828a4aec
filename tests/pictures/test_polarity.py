import numpy as np
import pytest

from rnnspn.pictures.images import load
from rnnspn.pictures.polarity import is_on_light
from tests.pictures.drawn import disc, noise


def test_a_clean_inverted_picture_reaches_the_model_bit_for_bit():
    picture = noise(3)
    np.testing.assert_array_equal(load(255 - picture, 100, 100).pixels, picture)


def test_polarity_can_be_forced():
    picture = disc()
    np.testing.assert_array_equal(load(picture, 100, 100, "dark-on-light").pixels, 255 - picture)
    np.testing.assert_array_equal(load(255 - picture, 100, 100, "light-on-dark").pixels, 255 - picture)


def test_an_unknown_polarity_is_refused():
    with pytest.raises(ValueError, match="polarity"):
        load(disc(), 100, 100, "sideways")


def test_photographed_paper_comes_out_black_and_its_ink_white():
    fitted = load(disc(ink=60, paper=190), 100, 100).pixels
    assert fitted[0, 0] == 0
    assert fitted[50, 50] == 255


def test_a_board_comes_out_black_and_its_chalk_white():
    fitted = load(255 - disc(ink=20, paper=210), 100, 100).pixels
    assert fitted[0, 0] == 0
    assert fitted[50, 50] == 255


def _strokes(ink: int, paper: int) -> np.ndarray:
    """Return a ring and a bar, three pixels wide."""
    y, x = np.mgrid[:100, :100]
    drawn = (np.abs(np.hypot(x - 40, y - 50) - 15) < 1.5) | ((np.abs(x - 70) < 1.5) & (np.abs(y - 50) < 20))
    return np.where(drawn, ink, paper).astype(np.uint8)


GREYS = [(ink, paper) for paper in range(0, 256, 5) for ink in range(0, 256, 5) if abs(ink - paper) >= 90]


NOTHING = np.zeros((100, 100), bool)
SPECKS = np.isin(np.arange(10_000), np.random.default_rng(1).integers(0, 10_000, 40)).reshape(100, 100)
HIGHLIGHT = np.pad(disc(12) > 0, ((10, 78), (80, 8)))


@pytest.mark.parametrize("blemish", [NOTHING, SPECKS, HIGHLIGHT], ids=["nothing", "specks", "highlight"])
def test_ink_of_any_level_on_a_background_of_any_comes_out_white_on_black(blemish):
    for ink, paper in GREYS:
        picture = _strokes(ink, paper)
        picture[blemish] = 255 if ink < paper else 0
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


@pytest.mark.parametrize("paper", [10, 40, 80, 110, 145, 180, 200, 215, 235, 250])
def test_a_thin_stroke_is_ink_on_a_background_of_any_level(paper):
    y, x = np.mgrid[:100, :100]
    stroke = (x == 50) & (np.abs(y - 50) < 10)
    told = "dark-on-light" if paper > 127 else "light-on-dark"
    for roughness, shade in ((0, 0), (3, 0), (0, 30), (3, 30)):
        light = shade * (0.5 - ((x - 49.5) ** 2 + (y - 49.5) ** 2) / 49.5**2 / 2)
        grain = np.random.default_rng(0).normal(0, roughness, light.shape)
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
    transparent = np.dstack([np.full((100, 100), ink, np.uint8), disc()])
    np.testing.assert_array_equal(load(transparent, 100, 100, polarity).pixels, disc())


def test_half_transparent_ink_is_laid_over_the_background():
    layer = np.zeros((100, 100, 2), np.uint8)
    layer[40:60, 40:60] = (55, 128)
    over_white = 55 * 128 / 255 + 255 * (1 - 128 / 255)
    fitted = load(layer, 100, 100, "dark-on-light").pixels
    assert abs(int(fitted[50, 50]) - (255 - over_white)) <= 1
    assert fitted[0, 0] == 0


def test_an_opaque_alpha_channel_changes_nothing():
    picture = noise(4)
    opaque = np.dstack([picture, picture, picture, np.full_like(picture, 255)])
    np.testing.assert_array_equal(load(opaque, 100, 100).pixels, picture)


def test_the_largest_models_pictures_are_told_apart_too():
    picture = np.tile(np.linspace(2, 18, 4096).astype(np.uint8), (4096, 1))
    picture[1000:3000, 1000:3000:40] = 255
    assert not is_on_light(picture, None)
    assert is_on_light(255 - picture, None)
