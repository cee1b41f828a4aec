import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rnnspn.data import samples
from rnnspn.data.mnist import Mnist
from rnnspn.data.samples import write_samples
from rnnspn.data.sequences import Sequences
from rnnspn.errors import OutputError


@pytest.fixture
def supply(mnist: Mnist) -> Sequences:
    return Sequences(mnist, "test", seed=4)


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "labels.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_files_hold_the_pictures_and_labels_of_the_supply(tmp_path: Path, supply: Sequences) -> None:
    write_samples(tmp_path / "new" / "folder", supply, 30)
    images, labels = supply.pictures(np.arange(30))
    written = rows(tmp_path / "new" / "folder")
    assert [row["label"] for row in written] == ["".join(map(str, label)) for label in labels]
    for row, image in zip(written, images, strict=True):
        with Image.open(tmp_path / "new" / "folder" / row["path"]) as file:
            assert (file.format, file.mode) == ("PNG", "L")
            np.testing.assert_array_equal(np.asarray(file), image)


def test_the_table_is_plain_csv(tmp_path: Path, supply: Sequences) -> None:
    write_samples(tmp_path, supply, 2)
    _, labels = supply.pictures(np.arange(2))
    first, second = ("".join(map(str, label)) for label in labels)
    assert (tmp_path / "labels.csv").read_bytes() == f"path,label\n00000.png,{first}\n00001.png,{second}\n".encode()


def test_leading_zeros_of_a_label_are_kept(tmp_path: Path, supply: Sequences) -> None:
    write_samples(tmp_path, supply, 40)
    labels = [row["label"] for row in rows(tmp_path)]
    assert {len(label) for label in labels} == {3}
    assert any(label.startswith("0") for label in labels)


def test_more_pictures_than_fit_one_batch_are_all_there_and_counted(
    tmp_path: Path, supply: Sequences, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_samples(tmp_path / "whole", supply, 20)
    monkeypatch.setattr(samples, "_CHUNK", 7)
    done: list[int] = []
    write_samples(tmp_path / "parts", supply, 20, done.append)
    assert sum(done) == 20
    for path in (tmp_path / "whole").iterdir():
        assert (tmp_path / "parts" / path.name).read_bytes() == path.read_bytes()
    assert len(list((tmp_path / "parts").iterdir())) == 21


def test_writing_again_gives_the_same_files_and_a_larger_number_adds_to_them(tmp_path: Path, supply: Sequences) -> None:
    write_samples(tmp_path, supply, 3)
    before = {path.name: path.read_bytes() for path in tmp_path.glob("*.png")}
    write_samples(tmp_path, supply, 5)
    assert len(rows(tmp_path)) == 5
    assert {name: (tmp_path / name).read_bytes() for name in before} == before


def test_a_folder_with_pictures_that_the_labels_would_not_name_is_refused(tmp_path: Path, supply: Sequences) -> None:
    write_samples(tmp_path, supply, 5)
    before = (tmp_path / "labels.csv").read_bytes()
    with pytest.raises(OutputError, match=r"3 other files, such as 00002\.png"):
        write_samples(tmp_path, supply, 2)
    assert (tmp_path / "labels.csv").read_bytes() == before


def test_what_a_killed_run_left_does_not_keep_the_next_one_out(tmp_path: Path, supply: Sequences) -> None:
    (tmp_path / ".0123456789abcdef.part").write_bytes(b"half a picture")
    write_samples(tmp_path, supply, 3)
    assert not list(tmp_path.glob(".*"))


def test_what_only_looks_like_that_is_left_alone(tmp_path: Path, supply: Sequences) -> None:
    (tmp_path / ".film.part").write_bytes(b"somebody's")
    with pytest.raises(OutputError, match=r"1 other files, such as \.film\.part"):
        write_samples(tmp_path, supply, 3)
    assert (tmp_path / ".film.part").read_bytes() == b"somebody's"


@pytest.mark.parametrize("text", ["path,label\n/x/1.jpg,123\n", "path,label\n00000.png,12A\n", "path;label\n", ""])
def test_labels_of_other_pictures_are_left_alone(tmp_path: Path, supply: Sequences, text: str) -> None:
    (tmp_path / "labels.csv").write_text(text)
    with pytest.raises(OutputError, match=r"labels\.csv is of other pictures; name a new or an empty folder"):
        write_samples(tmp_path, supply, 3)
    assert [path.name for path in tmp_path.iterdir()] == ["labels.csv"]
    assert (tmp_path / "labels.csv").read_text() == text


def test_a_folder_left_half_way_has_no_labels(tmp_path: Path, supply: Sequences) -> None:
    write_samples(tmp_path, supply, 5)

    def interrupt(done: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_samples(tmp_path, supply, 5, interrupt)
    assert not (tmp_path / "labels.csv").exists()


def test_a_place_that_is_no_folder_is_refused(tmp_path: Path, supply: Sequences) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="Not a directory"):
        write_samples(tmp_path / "file", supply, 1)
