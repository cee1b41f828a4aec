import gzip
import hashlib
import http.client
import io
import shutil
import urllib.error
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rnnspn.data import mnist as module
from rnnspn.data.mnist import FILES, SPLITS, Mnist, fetch_mnist, load_mnist
from rnnspn.errors import DataError

ASSETS = Path(__file__).parents[2] / "assets" / "mnist"
SMALL = "t10k-labels-idx1-ubyte.gz"
MD5 = (
    "6bbc9ace898e44ae57da46a324031adb",
    "a25bea736e30d166cdddb491f175f624",
    "2646ac647ad5339dbf082846283269ea",
    "27ae3e4e09519cfbb04c329615203637",
)
"""The well-known sums of the uncompressed files, in some order."""


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the empty cache folder of an installation without a checkout."""
    monkeypatch.setattr(module, "_CHECKOUT", tmp_path / "no checkout")
    monkeypatch.setattr(module, "cache_folder", lambda: tmp_path / "cache")
    return tmp_path / "cache"


@pytest.fixture
def mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder behind the only mirror, which has good copies."""
    folder = shutil.copytree(ASSETS, tmp_path / "mirror")
    monkeypatch.setattr(module, "MIRRORS", (folder.as_uri() + "/",))
    return folder


def assert_one_line(error: pytest.ExceptionInfo[DataError]) -> None:
    assert "\n" not in str(error.value)


def test_the_files_are_the_well_known_ones() -> None:
    found = [hashlib.md5(gzip.decompress((ASSETS / name).read_bytes())).hexdigest() for name in FILES]
    assert sorted(found) == sorted(MD5)


def test_mnist_is_whole_and_in_order(mnist: Mnist) -> None:
    assert mnist.images.shape == (70_000, 28, 28)
    assert mnist.labels.shape == (70_000,)
    assert mnist.images.dtype == mnist.labels.dtype == np.uint8
    assert mnist.labels[:6].tolist() == [5, 0, 4, 1, 9, 2]
    assert mnist.labels[60_000:60_006].tolist() == [7, 2, 1, 0, 4, 1]
    assert (mnist.images.max(axis=(1, 2)) > 150).all()
    assert mnist.images[:, [0, -1]].mean() < 0.1 < mnist.images.mean()  # light ink, dark border


def test_splits_share_no_digit_and_leave_none_out() -> None:
    splits = [SPLITS[name] for name in ("train", "validation", "test")]
    assert [len(split) for split in splits] == [50_000, 10_000, 10_000]
    assert sorted(index for split in splits for index in split) == list(range(70_000))
    assert sorted(SPLITS["train+validation"]) == sorted([*SPLITS["train"], *SPLITS["validation"]])


def test_fetch_fills_the_cache_so_that_mnist_loads(cache: Path, mirror: Path, mnist: Mnist) -> None:
    named: list[str] = []
    assert fetch_mnist(named.append) == cache
    assert named == list(FILES)
    assert sorted(path.name for path in cache.iterdir()) == sorted(FILES)
    np.testing.assert_array_equal(load_mnist().images, mnist.images)
    np.testing.assert_array_equal(load_mnist().labels, mnist.labels)


def test_fetch_keeps_what_is_good_and_replaces_what_is_damaged(cache: Path, mirror: Path) -> None:
    shutil.copytree(mirror, cache)
    (cache / SMALL).write_bytes((cache / SMALL).read_bytes()[:1000])
    named: list[str] = []
    fetch_mnist(named.append)
    assert named == [SMALL]
    assert (cache / SMALL).read_bytes() == (mirror / SMALL).read_bytes()


def test_fetch_goes_on_to_the_next_mirror(
    cache: Path, mirror: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MIRRORS", ((tmp_path / "gone").as_uri() + "/", *module.MIRRORS))
    assert fetch_mnist() == cache
    assert (cache / SMALL).is_file()


@pytest.mark.parametrize(
    "contents",
    [b"", b"<html>Not found</html>", gzip.compress(b"other contents", mtime=0)],
    ids=["empty", "html", "other"],
)
def test_a_mirror_with_other_contents_is_not_believed(cache: Path, mirror: Path, contents: bytes) -> None:
    (mirror / SMALL).write_bytes(contents)
    with pytest.raises(DataError, match=f"no mirror gave a good {SMALL}") as caught:
        fetch_mnist()
    assert_one_line(caught)
    assert not (cache / SMALL).exists()


@pytest.mark.parametrize(
    "failure",
    [
        urllib.error.URLError("Temporary failure in name resolution"),
        TimeoutError("timed out"),
        ConnectionResetError("reset"),
        http.client.IncompleteRead(b"half"),
        http.client.BadStatusLine("nonsense"),
    ],
    ids=lambda failure: type(failure).__name__,
)
def test_without_a_network_fetch_is_one_error_that_names_every_mirror(
    cache: Path, monkeypatch: pytest.MonkeyPatch, failure: Exception
) -> None:
    def fail(*_: Any, **__: Any) -> io.BytesIO:
        raise failure

    monkeypatch.setattr(module.urllib.request, "urlopen", fail)
    with pytest.raises(DataError, match="where there is a network") as caught:
        fetch_mnist()
    assert_one_line(caught)
    assert all(mirror in str(caught.value) for mirror in module.MIRRORS)
    assert not cache.exists()


def test_missing_files_are_one_error_that_says_what_to_do(cache: Path) -> None:
    with pytest.raises(DataError, match="run 'rnnspn data fetch'") as caught:
        load_mnist()
    assert_one_line(caught)
    assert str(cache) in str(caught.value)


def test_one_missing_file_is_missing(cache: Path) -> None:
    shutil.copytree(ASSETS, cache)
    (cache / SMALL).unlink()
    with pytest.raises(DataError, match="run 'rnnspn data fetch'"):
        load_mnist()


def test_a_file_that_cannot_be_read_is_one_error(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(ASSETS, cache)

    def fail(path: Path) -> bytes:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "read_bytes", fail)
    with pytest.raises(DataError, match="Permission denied") as caught:
        load_mnist()
    assert_one_line(caught)


GOOD = (ASSETS / SMALL).read_bytes()


@settings(max_examples=100, deadline=None)
@given(st.one_of(
    st.integers(0, len(GOOD) - 1).map(lambda end: GOOD[:end]),
    st.tuples(st.integers(10, len(GOOD) - 1), st.integers(1, 255)).map(
        lambda at: GOOD[: at[0]] + bytes([GOOD[at[0]] ^ at[1]]) + GOOD[at[0] + 1 :]
    ),
    st.binary(max_size=64),
))  # fmt: skip
def test_no_damage_to_a_file_gets_past_the_check(damaged: bytes) -> None:
    with pytest.raises(DataError) as caught:
        module._checked(SMALL, damaged)
    assert_one_line(caught)


def test_an_undamaged_file_does() -> None:
    assert len(module._checked(SMALL, GOOD)) == 8 + 10_000
