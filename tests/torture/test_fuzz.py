import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rnnspn.inference import model_file
from rnnspn.pictures import images
from rnnspn.pictures.images import Fitted, Letterbox
from tests.torture import fuzz_targets
from tests.torture.reading import CODES
from tests.torture.record import ROOT

SEEDS = {target: list(fuzz_targets.seeds(target)) for target in fuzz_targets.TARGETS}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz") / "input"


@pytest.mark.parametrize("data", SEEDS["picture"], ids=range(len(SEEDS["picture"])))
def test_every_picture_that_the_fuzzer_starts_from_is_read(place: Path, data: bytes) -> None:
    assert fuzz_targets.read_picture(data, place) == "read"


@pytest.mark.parametrize("data", SEEDS["model"], ids=range(len(SEEDS["model"])))
def test_every_model_that_the_fuzzer_starts_from_is_accepted(place: Path, data: bytes) -> None:
    assert fuzz_targets.check_model(data, place) == "accepted"


@settings(max_examples=150, deadline=None)
@given(data=st.binary(max_size=400))
@pytest.mark.parametrize("target", fuzz_targets.TARGETS)
def test_bytes_of_any_kind_keep_the_reader_to_its_word(place: Path, target: str, data: bytes) -> None:
    assert fuzz_targets.TARGETS[target](data, place) not in ("read", "accepted")


@settings(max_examples=300, deadline=None)
@given(
    which=st.integers(0, 999),
    edits=st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), max_size=6),
    end=st.none() | st.integers(1, 10**6),
)
@pytest.mark.parametrize("target", fuzz_targets.TARGETS)
def test_a_file_with_bytes_changed_or_cut_off_keeps_the_reader_to_its_word(
    place: Path, target: str, which: int, edits: list[tuple[int, int]], end: int | None
) -> None:
    data = bytearray(SEEDS[target][which % len(SEEDS[target])])
    for position, value in edits:
        data[position % len(data)] = value
    if end is not None:
        del data[end % len(data) :]
    outcome = fuzz_targets.TARGETS[target](bytes(data), place)
    assert outcome in ({"accepted", "refused"} if target == "model" else {"read", *CODES})


@pytest.mark.parametrize(
    ("pixels", "letterbox"),
    [
        (np.zeros((80, 60), np.uint8), Letterbox(0, 0, 80, 60, 8, 6)),
        (np.zeros((60, 80), np.float32), Letterbox(0, 0, 80, 60, 8, 6)),
        (np.ones((60, 80), np.uint8), Letterbox(0, 1, 80, 58, 8, 6)),
        (np.zeros((60, 80), np.uint8), Letterbox(0, 1, 80, 60, 8, 6)),
        (np.zeros((60, 80), np.uint8), Letterbox(0, 0, 80, 60, 0, 6)),
    ],
)
def test_a_picture_that_is_not_as_promised_is_noticed(
    place: Path, monkeypatch: pytest.MonkeyPatch, pixels: np.ndarray, letterbox: Letterbox
) -> None:
    monkeypatch.setattr(images, "load", lambda *_: Fitted(pixels, letterbox))
    with pytest.raises(AssertionError):
        fuzz_targets.read_picture(b"", place)


def test_an_error_of_another_class_is_noticed(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise KeyError(7)

    monkeypatch.setattr(images, "load", fail)
    monkeypatch.setattr(model_file, "load", fail)
    for target in fuzz_targets.TARGETS.values():
        with pytest.raises(KeyError):
            target(b"", place)


def test_a_model_with_other_bytes_than_were_given_is_noticed(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = SEEDS["model"][:2]
    place.write_bytes(first)
    other = model_file.load(place)
    monkeypatch.setattr(model_file, "load", lambda _: other)
    assert fuzz_targets.check_model(first, place) == "accepted"
    with pytest.raises(AssertionError):
        fuzz_targets.check_model(second, place)


def test_without_atheris_the_fuzzer_is_one_line_and_exit_2() -> None:
    hidden = "import sys; sys.modules['atheris'] = None; from tests.torture import fuzz; sys.exit(fuzz.main(['model']))"
    run = subprocess.run([sys.executable, "-c", hidden], cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == 2
    assert run.stdout == ""
    assert run.stderr.count("\n") == 1
    assert "pip install atheris" in run.stderr
