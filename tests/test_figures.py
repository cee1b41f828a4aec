from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from rnnspn import figures
from rnnspn.errors import OutputError
from rnnspn.figures import draw_attention, draw_confusion, draw_curves, draw_mistakes


def pixels(path: Path, mode: str = "RGB") -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.convert(mode), int)


def colours(path: Path) -> set[tuple[int, ...]]:
    return set(map(tuple, np.unique(pixels(path).reshape(-1, 3), axis=0).tolist()))


def test_a_confusion_is_only_coloured_where_something_was_confused(tmp_path: Path) -> None:
    for name, counts in (("right", np.diag([7, 8, 9])), ("wrong", np.array([[7, 0, 5], [0, 8, 0], [0, 0, 9]]))):
        draw_confusion(counts, "abc", tmp_path / f"{name}.png")
    pictures = [pixels(tmp_path / f"{name}.png") for name in ("right", "wrong")]
    matrices = [picture[:, : picture.shape[1] * 6 // 10] for picture in pictures]  # the colour bar is on the right
    orange = [int((matrix[..., 0] - matrix[..., 2] > 100).sum()) for matrix in matrices]
    assert orange[0] == 0
    assert orange[1] > 500


def test_a_confusion_of_many_classes_is_no_larger_than_can_be_looked_at(tmp_path: Path, drawn: list[Figure]) -> None:
    alphabet = "".join(chr(0x4E00 + number) for number in range(300))
    draw_confusion(np.eye(300, dtype=int), alphabet, tmp_path / "many.png")
    (figure,) = drawn
    assert max(figure.get_size_inches()) < 40
    assert [text.get_text() for text in figure.axes[0].texts] == ["1"] * 300


@pytest.mark.parametrize("wrong", [0, 1, 9, 60])
def test_the_contact_sheet_grows_with_the_mistakes_up_to_forty(tmp_path: Path, wrong: int) -> None:
    images = np.zeros((70, 20, 20), np.uint8)
    read = ["1"] * wrong + ["0"] * (70 - wrong)
    draw_mistakes(images, read, ["0"] * 70, np.linspace(0, 1, 70), tmp_path / "sheet.png")
    rows = {0: 1, 1: 1, 9: 2, 60: 5}[wrong]
    assert len(pixels(tmp_path / "sheet.png")) == pytest.approx(110 * (1.75 * rows + 0.4), abs=2)


def test_the_contact_sheet_begins_with_the_most_confident_mistake(tmp_path: Path) -> None:
    images = np.stack([np.full((20, 20), level, np.uint8) for level in (60, 120, 180)])
    draw_mistakes(images, ["1", "1", "0"], ["0", "0", "0"], np.array([0.5, 0.9, 1.0]), tmp_path / "sheet.png")
    sheet = pixels(tmp_path / "sheet.png", "L")
    first = {level: int(np.argmax((sheet == level).sum(0) > 20)) for level in (60, 120, 180)}
    assert 0 < first[120] < first[60]
    assert first[180] == 0  # it was read right, so it is not there


def test_attention_shows_each_glimpses_colour_and_a_panel_for_each(tmp_path: Path) -> None:
    theta = np.tile([[0.4, 0, 0.2], [0, 0.4, 0.1]], (2, 3, 1, 1))
    draw_attention(
        np.zeros((2, 40, 60), np.uint8), np.zeros((2, 3, 18, 18)), theta, ["123", "456"], tmp_path / "three.png"
    )
    assert (0xE6, 0x9F, 0x00) in colours(tmp_path / "three.png")
    draw_attention(np.zeros((2, 40, 60), np.uint8), np.zeros((2, 1, 40, 60)), None, ["123", "456"], tmp_path / "no.png")
    assert (0xE6, 0x9F, 0x00) not in colours(tmp_path / "no.png")
    assert pixels(tmp_path / "three.png").shape[1] > pixels(tmp_path / "no.png").shape[1]


def test_readings_are_not_taken_for_formulas(tmp_path: Path) -> None:
    draw_attention(np.zeros((1, 40, 60), np.uint8), np.zeros((1, 1, 40, 60)), None, ["$$^_"], tmp_path / "read.png")
    draw_mistakes(np.zeros((1, 40, 60), np.uint8), ["$$.9"], ["$^$1"], np.ones(1), tmp_path / "mistakes.png")


def test_a_figure_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    record = {"epoch": 0, "train_loss": 0.5, "train_digit_error": 0.1, "validation_digit_error": 0.2}
    draw_curves([record], tmp_path / "curves.png")
    assert pixels(tmp_path / "curves.png").shape[1] > 500
    with pytest.raises(OutputError):
        draw_curves([record], tmp_path / "file" / "curves.png")


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """Return a list that grows: the figures, in the place of files."""
    found: list[Figure] = []
    monkeypatch.setattr(figures, "_save", lambda figure, _: found.append(figure))
    return found


def test_a_mistake_is_never_shown_as_certain(drawn: list[Figure]) -> None:
    draw_mistakes(np.zeros((2, 9, 9), np.uint8), ["1", "2"], ["7", "7"], np.array([0.99999, 0.5]), Path("m.png"))
    titles = [axes.get_title() for axes in drawn[0].axes]
    assert titles == ["7 read 1\n99.99%", "7 read 2\n50.00%", "", ""]


@pytest.mark.parametrize(("white", "kind"), [(255, np.uint8), (1.0, np.float32)])
def test_a_faint_glimpse_is_drawn_faintly(drawn: list[Figure], white: float, kind: type) -> None:
    glimpses = np.full((1, 1, 9, 9), white / 8).astype(kind)
    theta = np.array([[[[0.3, 0, 0], [0, 0.3, 0]]]])
    draw_attention(np.full((1, 9, 9), 30, np.uint8), glimpses, theta, ["1"], Path("a.png"), ["7"])
    limits = [axes.images[0].get_clim() for axes in drawn[0].axes]
    assert limits == [(0, 255), (0, 255), (0, white)]
    assert drawn[0].axes[0].get_title() == "7 read 1"


def test_a_picture_that_nothing_looks_at_is_drawn_once(drawn: list[Figure]) -> None:
    draw_attention(np.zeros((2, 9, 9), np.uint8), np.zeros((2, 1, 9, 9)), None, ["1", "2"], Path("a.png"))
    assert [axes.get_title() for axes in drawn[0].axes] == ["read 1", "read 2"]


def test_rows_of_attention_are_as_high_as_their_pictures(drawn: list[Figure]) -> None:
    for height, width in ((60, 300), (100, 100), (100, 50)):
        draw_attention(
            np.zeros((1, height, width), np.uint8), np.zeros((1, 1, 9, 9 * width // height)), None, ["1"], Path()
        )
    heights = [float(figure.get_size_inches()[1]) for figure in drawn]
    assert heights == pytest.approx([0.7, 2.3, 4.3], abs=0.1)


def test_curves_have_plain_numbers_at_whole_epochs(drawn: list[Figure]) -> None:
    for epochs in (1, 4, 10):
        draw_curves(
            [{"epoch": n, "train_loss": 1 / (n + 1), "train_digit_error": 0.5 / (n + 1)} for n in range(epochs)], Path()
        )
        for axes in drawn[-1].axes:
            drawn[-1].draw_without_rendering()
            assert all(tick == int(tick) for tick in axes.get_xticks())
            shown = [label.get_text() for which in ("major", "minor") for label in axes.get_yticklabels(which=which)]
            assert any(shown)
            assert all(float(text) > 0 for text in shown if text)
            assert not any("e" in text or "$" in text for text in shown)
