import pytest
from PIL import ImageFont

from rnnspn.results import typefaces

NOWHERE = "京"
"""A character that neither of the fonts here has."""


@pytest.fixture(autouse=True)
def _afresh():
    typefaces.font.cache_clear()  # it knows nothing of fonts that come and go
    yield
    typefaces.font.cache_clear()


@pytest.fixture
def large_font():
    """Return the path of a font of many letters; figures are drawn with it."""
    matplotlib = pytest.importorskip("matplotlib")
    return f"{matplotlib.get_data_path()}/fonts/ttf/DejaVuSans.ttf"


def test_digits_are_written_in_pillows_own_font():
    assert typefaces.font(40, "0123").getname() == ImageFont.load_default(40).getname()


def test_a_font_of_the_system_is_taken_where_pillows_lacks_a_character(monkeypatch, large_font):
    monkeypatch.setattr(typefaces, "_SYSTEMS", ("no such font.ttf", large_font))
    assert typefaces.font(40, "Zürich Ж" + NOWHERE).getname() == ("DejaVu Sans", "Book")
    assert typefaces.lacking("A1ÄßЖ" + NOWHERE) == NOWHERE


def test_what_no_font_draws_is_said(monkeypatch):
    monkeypatch.setattr(typefaces, "_SYSTEMS", ("no such font.ttf",))
    assert typefaces.lacking("A1Ж") == "Ж"
    assert typefaces.font(40, "Ж").getname() == ImageFont.load_default(40).getname()
