import csv
import math
import re
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rnnspn.alphabet import spelled
from rnnspn.config import DataConfig, family_config
from rnnspn.data.held_out import held_out
from rnnspn.data.labelled_folder import labelled_folder, unlabelled
from rnnspn.data.labels import labels_of, rows_of
from rnnspn.data.mnist import load_mnist
from rnnspn.data.samples import write_samples
from rnnspn.data.sequences import Sequences
from rnnspn.errors import DataError

RNN = family_config("rnn-spn")
TWO = family_config("rnn-spn", steps=2)
TWO_LETTERS = family_config("rnn-spn", steps=2, alphabet="AB")


def test_a_folder_of_samples_reads_back_as_it_was_written(tmp_path: Path) -> None:
    supply = Sequences(load_mnist(), "test", seed=2)
    write_samples(tmp_path, supply, 5)
    examples = labelled_folder(tmp_path, RNN)
    images, labels = supply.pictures(np.arange(5))
    assert examples.source == str(tmp_path)
    assert np.array_equal(examples.images, images)
    assert np.array_equal(examples.labels, labels)


def test_labels_may_say_where_the_first_and_the_last_character_are(tmp_path: Path) -> None:
    for name, size in (("wide.png", (200, 100)), ("same.png", (100, 100))):
        Image.new("L", size).save(tmp_path / name)
    (tmp_path / "labels.csv").write_text(
        "path,label,x1,y1,x2,y2\nwide.png,123,-0.5,-0.5,199.5,99.5\nsame.png,123,0,49.5,99,99\n"
    )
    centres = labelled_folder(tmp_path, RNN).centres
    assert centres is not None
    edge, half = 100 / 99, 50 / 99
    expected = [[[-edge, -half], [0, 0], [edge, half]], [[-1, 0], [0, 0.5], [1, 1]]]
    np.testing.assert_allclose(centres, expected, atol=1e-6)
    (tmp_path / "labels.csv").write_text("path,label,x1,y1,x2,y2\nwide.png,123,,,,\nsame.png,123,0,49.5,99,99\n")
    some = labelled_folder(tmp_path, RNN).centres
    assert some is not None
    assert np.isnan(some[0]).all()
    np.testing.assert_allclose(some[1], expected[1], atol=1e-6)
    for none in ("path,label\nsame.png,123\n", "path,label,x1,y1,x2,y2\nsame.png,123,,, ,\n"):
        (tmp_path / "labels.csv").write_text(none)
        assert labelled_folder(tmp_path, RNN).centres is None


@pytest.mark.parametrize(
    ("place", "says"),
    [
        *((place, "expected .*x1, y1, x2, y2") for place in ("1,2,3,", "1,2,3,four", "1,2,3,nan", "1,2,3")),
        ("-1,2,3,4", "expected .* as displayed, 100 x 90; got -1, 2, 3, 4"),
        ("1,2,3,90", "expected .* as displayed, 100 x 90; got 1, 2, 3, 90"),
        ("7,8,7,8", "expected the first and the last of 3 characters in different places"),
    ],
)
def test_a_place_that_is_none_is_named(tmp_path: Path, place: str, says: str) -> None:
    for name in ("one.png", "two.png"):
        Image.new("L", (100, 90)).save(tmp_path / name)
    (tmp_path / "labels.csv").write_text(f"path,label,x1,y1,x2,y2\none.png,123,1,2,3,4\ntwo.png,123,{place}\n")
    with pytest.raises(DataError, match=f"line 3: {says}"):
        labelled_folder(tmp_path, RNN)


def test_a_picture_has_one_label(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text("path,label\none.png,123\ntwo.png,123\n./one.png,124\n")
    with pytest.raises(DataError, match=r"line 4: \./one\.png is '124' here and '123' in line 2"):
        labels_of(tmp_path)


def test_a_picture_has_its_characters_in_one_place(tmp_path: Path) -> None:
    lines = [
        "path,label,x1,y1,x2,y2",
        "one.png,123,1,1,2,2",
        "two.png,123,,,,",
        "two.png,123,,,,",
        "one.png,123,1,1,2,2",
    ]
    (tmp_path / "labels.csv").write_text("\n".join(lines) + "\n")
    labels_of(tmp_path)
    (tmp_path / "labels.csv").write_text("\n".join([*lines, "./one.png,123,1,1,2,3"]) + "\n")
    with pytest.raises(DataError, match=r"line 6: \./one\.png has other places here than in line 2"):
        labels_of(tmp_path)


def test_labels_are_indices_into_the_models_own_alphabet(tmp_path: Path) -> None:
    Image.new("L", (50, 50)).save(tmp_path / "one.png")
    (tmp_path / "labels.csv").write_text("path,label\none.png,ba\n")
    examples = labelled_folder(tmp_path, family_config("rnn-spn", steps=2, alphabet="abc"))
    assert examples.labels.tolist() == [[1, 0]]
    assert examples.images.shape == (1, 100, 100)


def own_pictures(folder: Path, count: int, label: str = "12") -> list[str]:
    """Write pictures that carry their number as their level, and labels in the same order; return the lines."""
    folder.mkdir(exist_ok=True)
    for number in range(count):
        Image.new("L", (50, 50), 100 + number).save(folder / f"{number}.png")
    lines = [f"{number}.png,{label}" for number in range(count)]
    (folder / "labels.csv").write_text("\n".join(["path,label", *lines]))
    return lines


def test_every_picture_of_a_folder_is_either_learned_from_or_held_out(tmp_path: Path) -> None:
    own_pictures(tmp_path, 40)
    model = family_config("rnn-spn", steps=2)

    def levels(split: str | None) -> list[int]:
        return labelled_folder(tmp_path, model, split).images[:, 50, 50].tolist()

    assert 1 <= len(levels("validation")) <= 10
    assert sorted(levels("train") + levels("validation")) == sorted(levels(None))
    assert held_out("validation", DataConfig(source=str(tmp_path)), model).images[:, 50, 50].tolist() == levels(
        "validation"
    )


def test_the_order_of_the_labels_does_not_decide_what_is_held_out(tmp_path: Path) -> None:
    lines = own_pictures(tmp_path, 40)
    model = family_config("rnn-spn", steps=2)
    before = labelled_folder(tmp_path, model, "validation").images
    (tmp_path / "labels.csv").write_text("\n".join(["path,label", *reversed(lines)]))
    assert np.array_equal(labelled_folder(tmp_path, model, "validation").images, before[::-1])


def test_pictures_that_come_later_move_no_other_to_the_other_side(tmp_path: Path) -> None:
    model = family_config("rnn-spn", steps=2)

    def held_out_of(count: int) -> set[int]:
        own_pictures(tmp_path, count)
        return {int(Path(path).stem) for path in labelled_folder(tmp_path, model, "validation").paths}

    few, many = held_out_of(40), held_out_of(150)
    assert {number for number in many if number < 40} == few
    assert 8 <= len(many) <= 24  # 15 on average
    for count in (2, 3, 4, 5, 6, 7):
        assert 0 < len(held_out_of(count)) < count


def test_one_picture_is_not_enough_to_learn_from(tmp_path: Path) -> None:
    own_pictures(tmp_path, 1)
    with pytest.raises(DataError, match="two pictures or more"):
        labelled_folder(tmp_path, family_config("rnn-spn", steps=2), "train")


@pytest.mark.parametrize(("label", "steps", "alphabet"), [("7", 1, "0123456789"), ("B7A", 3, "7AB")])
def test_labels_tell_the_length_and_the_alphabet(tmp_path: Path, label: str, steps: int, alphabet: str) -> None:
    own_pictures(tmp_path, 3, label)
    found = labels_of(tmp_path)
    assert (found.pictures, found.steps, found.alphabet) == (3, steps, alphabet)
    assert found.lengths == {steps: (3, 2)}
    assert found.characters == dict.fromkeys(sorted(label), (3, 2))


def test_labels_of_different_lengths_end_in_blanks(tmp_path: Path) -> None:
    own_pictures(tmp_path, 3)
    rows = ["0.png,42,10,20,40,20", "1.png,4711,5,20,47,20", "2.png,9,30,40,30,40"]
    (tmp_path / "labels.csv").write_text("\n".join(["path,label,x1,y1,x2,y2", *rows]))
    found = labels_of(tmp_path)
    assert (found.pictures, found.steps, found.alphabet) == (3, 4, "0123456789␣")
    assert list(found.lengths.items()) == [(1, (1, 4)), (2, (1, 2)), (4, (1, 3))]
    assert found.characters["7"] == (1, 3)
    model = family_config("rnn-spn", downsample=1, steps=4, alphabet="0123456789␣", height=50, width=50)
    examples = labelled_folder(tmp_path, model)
    assert [spelled(row, model.alphabet) for row in examples.labels.tolist()] == ["42", "4711", "9"]
    assert examples.labels[0].tolist() == [4, 2, 10, 10]
    assert examples.centres is not None
    pixels = (examples.centres + 1) / 2 * 49
    across = [[10, 40, math.nan, math.nan], [5, 19, 33, 47], [30, math.nan, math.nan, math.nan]]
    np.testing.assert_allclose(pixels[..., 0], across, rtol=1e-5)
    with pytest.raises(
        DataError, match=r"line 2: expected 4 characters of 0123456789, .* got '42'; so it is in line 4$"
    ):
        labelled_folder(tmp_path, family_config("rnn-spn", steps=4))
    with pytest.raises(DataError, match=r"line 3: expected up to 3 characters of 0123456789, .* got '4711'$"):
        labelled_folder(tmp_path, family_config("rnn-spn", steps=3, alphabet="0123456789␣"))


def test_pictures_may_have_nothing_to_read(tmp_path: Path) -> None:
    own_pictures(tmp_path, 3)
    (tmp_path / "labels.csv").write_text("path,label,x1,y1,x2,y2\n0.png,42,10,20,40,20\n1.png,,,,,\n2.png,17,,,,\n")
    found = labels_of(tmp_path)
    assert (found.steps, found.alphabet) == (2, "0123456789␣")
    assert list(found.lengths.items()) == [(0, (1, 3)), (2, (2, 2))]
    model = family_config("rnn-spn", downsample=1, steps=2, alphabet=found.alphabet, height=50, width=50)
    examples = labelled_folder(tmp_path, model)
    assert examples.labels.tolist() == [[4, 2], [10, 10], [1, 7]]
    assert examples.centres is not None
    assert np.isfinite(examples.centres).all((1, 2)).tolist() == [True, False, False]
    with pytest.raises(DataError, match=r"line 3: expected 2 characters of 0123456789, .* got ''"):
        labelled_folder(tmp_path, family_config("rnn-spn", steps=2))


def test_labels_that_are_all_empty_teach_nothing(tmp_path: Path) -> None:
    own_pictures(tmp_path, 3, label="")
    with pytest.raises(DataError, match="expected labels, and all are empty"):
        labels_of(tmp_path)


@pytest.mark.parametrize("label", ["1\u00a02", "1␣", "123456789"])
def test_a_label_that_cannot_be_is_taken_for_a_fault(tmp_path: Path, label: str) -> None:
    own_pictures(tmp_path, 3)
    (tmp_path / "labels.csv").write_text(f"path,label\n0.png,42\n1.png,{label}\n2.png,123\n")
    expected = f"line 3: expected up to 8 characters that can be printed, none of them ␣; got {label!r}"
    with pytest.raises(DataError, match=re.escape(expected)):
        labels_of(tmp_path)
    read = "expected up to 3 characters of 0123456789, which the model reads"
    with pytest.raises(DataError, match=re.escape(f"line 3: {read}; got {label!r}")):
        labelled_folder(tmp_path, family_config("rnn-spn", alphabet="0123456789␣"))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_labels_are_read_as_spreadsheets_save_them(tmp_path: Path, separator: str, encoding: str) -> None:
    own_pictures(tmp_path, 2)
    (tmp_path / "labels.csv").write_text("path,label,x1,y1,x2,y2\n0.png,12,10.5,20,30,20\n1.png,34,,,,\n")
    plain, said = labelled_folder(tmp_path, TWO), labels_of(tmp_path)
    rows = [
        ["Label", " Path", "note", "X1", "Y1", "X2", "Y2", "", ""],
        ["12", "0.png", "Zähler, rot", "10,5", "20", "30", "20", "", ""],
        ["", "", "", "", "", "", "", "", ""],
        ["34 ", "1.png", "", "", "", "", "", "", ""],
    ]
    with (tmp_path / "labels.csv").open("w", newline="", encoding=encoding) as file:
        csv.writer(file, delimiter=separator).writerows(rows)
    found = labelled_folder(tmp_path, TWO)
    assert found.paths == plain.paths
    np.testing.assert_array_equal(found.labels, plain.labels)
    np.testing.assert_array_equal(found.centres, plain.centres)
    assert labels_of(tmp_path).others == ("note",)
    assert labels_of(tmp_path).sha256 == said.sha256


@pytest.mark.parametrize("written", ["deep\\er\\Z\u00e4hler 7.png", "./deep/er/Za\u0308hler 7.png "])
def test_paths_may_come_from_other_systems(tmp_path: Path, written: str) -> None:
    (tmp_path / "deep" / "er").mkdir(parents=True)
    Image.new("L", (50, 50)).save(tmp_path / "deep" / "er" / "Z\u00e4hler 7.png")
    (tmp_path / "labels.csv").write_text(f"path,label\n{written},12\n")
    (path,) = labelled_folder(tmp_path, TWO).paths
    assert unicodedata.normalize("NFC", path).endswith("deep/er/Z\u00e4hler 7.png")
    assert Path(path).exists()
    assert unlabelled(tmp_path) == []


def test_pictures_that_no_line_names_are_found(tmp_path: Path) -> None:
    own_pictures(tmp_path, 4)
    (tmp_path / "labels.csv").write_text("path,label\n./1.png,12\n3.png,34\n")
    assert unlabelled(tmp_path) == [str(tmp_path / "0.png"), str(tmp_path / "2.png")]


def test_all_lines_with_faults_are_named_at_once(tmp_path: Path) -> None:
    own_pictures(tmp_path, 2)
    lines = ["0.png,12", *(f"none{number}.png,34" for number in range(8)), "1.png,56"]
    (tmp_path / "labels.csv").write_text("\n".join(["path,label", *lines]))
    expected = "line 3: none0.png: there is no such file; mend the picture or take its line out; "
    with pytest.raises(DataError, match=re.escape(f"{expected}so it is in line 4, 5, 6, 7, 8 and 2 more")):
        labelled_folder(tmp_path, TWO)


def test_labels_that_cannot_be_opened_are_one_line(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").mkdir()
    with pytest.raises(DataError, match=r"cannot read .*labels\.csv: Is a directory; expected a CSV file"):
        labels_of(tmp_path)


def test_the_file_of_the_labels_is_not_their_folder(tmp_path: Path) -> None:
    own_pictures(tmp_path, 2)
    with pytest.raises(DataError, match=r"expected a folder with a labels\.csv, got the file .*labels\.csv"):
        labels_of(tmp_path / "labels.csv")


def test_rows_that_a_spreadsheet_leaves_empty_are_passed_over(tmp_path: Path) -> None:
    own_pictures(tmp_path, 3)
    labels = tmp_path / "labels.csv"
    labels.write_text(labels.read_text() + "\n,\n , \n")
    assert labels_of(tmp_path).pictures == 3


@pytest.mark.parametrize(
    "text",
    [
        'path,label\n0.png, "AB"\n1.png, "BA"\n',
        "sep=;\r\npath;label\r\n0.png;AB\r\n1.png;BA\r\n",
        "SEP=|\npath|label\n0.png|AB\n1.png|BA\n",
        "path,label\r0.png,AB\r1.png,BA\r",
        "sep=;\rpath;label\r0.png;AB\r1.png;BA\r",
        "path,label,,,note\n0.png,AB,,,\n1.png,BA,,,\n",
        'path;label;"seen, or not, by whom, when"\n0.png;AB;\n1.png;BA;\n',
    ],
    ids=["blank after the comma", "sep=;", "SEP=|", "CR", "sep=; and CR", "columns without a name", "commas in a name"],
)
def test_labels_are_read_as_people_write_them(tmp_path: Path, text: str) -> None:
    own_pictures(tmp_path, 2)
    (tmp_path / "labels.csv").write_bytes(text.encode())
    assert labelled_folder(tmp_path, TWO_LETTERS).labels.tolist() == [[0, 1], [1, 0]]


@pytest.mark.parametrize(("before", "line"), [("", 3), ("sep=,\n", 4), ("\n\n", 5)])
def test_a_quotation_mark_that_is_never_closed_is_named_with_its_line(tmp_path: Path, before: str, line: int) -> None:
    own_pictures(tmp_path, 20)
    lines = [f"{number}.png,{chr(34) if number == 1 else ''}AB\n" for number in range(20)]
    (tmp_path / "labels.csv").write_text(f"{before}path,label\n{''.join(lines)}")
    with pytest.raises(DataError, match=rf"line {line}: expected .*; got 'AB\\n2.png,AB.* and more$"):
        labels_of(tmp_path)


@pytest.mark.parametrize("through", ["itself", "link"])
def test_absolute_paths_are_of_the_same_pictures(tmp_path: Path, through: str) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "itself")
    folder = tmp_path / through
    (tmp_path / "itself").mkdir()
    own_pictures(folder, 20)
    names = [f"{number}.png" for number in range(20)]
    said = {}
    for top in ("", f"{folder}/", f"{folder.resolve()}/", str(folder).replace("/", "\\") + "\\"):
        (folder / "labels.csv").write_text("path,label\n" + "".join(f"{top}{name},AB\n" for name in names))
        said[top] = labels_of(folder).sha256, [row.key for row in rows_of(folder, "validation")]
        assert unlabelled(folder) == []
    assert len({str(what) for what in said.values()}) == 1
    assert len(labelled_folder(folder, TWO_LETTERS).images) == 20


def test_a_picture_that_is_named_again_counts_once(tmp_path: Path) -> None:
    own_pictures(tmp_path, 3)
    lines = ["0.png,AB", "1.png,BA", "./0.png,AB", "2.png,AA", f"{tmp_path}/0.png,AB"]
    (tmp_path / "labels.csv").write_text("\n".join(["path,label", *lines]))
    labels = labels_of(tmp_path)
    assert (labels.pictures, labels.held_out, labels.again) == (3, 1, (2, 4))
    assert (labels.lengths[2], labels.characters["A"]) == ((3, 2), (4, 2))
    examples = labelled_folder(tmp_path, TWO_LETTERS)
    assert [Path(path).name for path in examples.paths] == ["0.png", "1.png", "2.png"]
    (tmp_path / "labels.csv").write_text("path,label\n0.png,AB\n0.png,AB\n")
    with pytest.raises(DataError, match="expected two pictures or more"):
        rows_of(tmp_path, "train")


def test_a_picture_is_the_same_by_its_absolute_path(tmp_path: Path) -> None:
    own_pictures(tmp_path, 2)
    (tmp_path / "labels.csv").write_text(f"path,label\n0.png,AB\n{tmp_path / '0.png'},BA\n")
    with pytest.raises(DataError, match=r"line 3: .*0.png is 'BA' here and 'AB' in line 2"):
        labels_of(tmp_path)


def test_a_letter_with_its_accent_apart_is_one_character(tmp_path: Path) -> None:
    own_pictures(tmp_path, 2)
    (tmp_path / "labels.csv").write_text("path,label\n0.png,\u00c4\n1.png,A\u0308\n")
    assert list(labels_of(tmp_path).characters) == ["\u00c4"]


def test_a_folder_that_has_moved_is_said_to_be_gone(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"there is no folder .*gone; if it has moved, name it with --data"):
        labels_of(tmp_path / "gone")


@pytest.mark.parametrize(
    ("labels", "complaint"),
    [
        (None, "there is no .*labels.csv; expected a CSV file with the header path,label"),
        ("path,label\n ,123\n", "line 2: expected the path of a picture"),
        ("", "header"),
        ("file,text\none.png,123\n", "header path,label"),
        ("path,label\n", "a line for each picture"),
        ("path,label\none.png,123\none.png\n", "line 3: expected path, label; got 1 columns"),
        ("path,label\none.png,12\n", "line 2: expected 3 characters"),
        ("path,label\none.png,12x\n", "line 2: expected 3 characters"),
        ("path,label\none.png,123\ntwo.png,123\n", "line 3: two.png: there is no such file"),
        ("path,label\none.png,123\nbad.png,123\n", "line 3: bad.png: "),
        ("path,label\n\n\none.png,12\n", "line 4: expected 3 characters"),
        (b"path,label\n\xff,123\n", "labels.csv is not in UTF-8; save it as 'CSV UTF-8'"),
        ("path,label,x1,y1,x2\none.png,123,1,2,3\n", "which x1,y1,x2,y2 may follow; got 'path,label,x1,y1,x2'"),
        ("path,label,label\none.png,123,123\n", "got 'path,label,label'"),
        ("path,label\none.png,123,4\n", "line 2: expected path, label; got 3 columns"),
    ],
)
def test_a_folder_with_a_fault_is_refused_with_its_place(
    tmp_path: Path, labels: str | bytes | None, complaint: str
) -> None:
    Image.new("L", (100, 100)).save(tmp_path / "one.png")
    (tmp_path / "bad.png").write_text("no picture")
    if labels is not None:
        (tmp_path / "labels.csv").write_bytes(labels if isinstance(labels, bytes) else labels.encode())
    with pytest.raises(DataError, match=complaint):
        labelled_folder(tmp_path, RNN)
