"""MNIST: where its files are looked for, how they are fetched, and how they are checked.

MNIST is the work of Yann LeCun, Corinna Cortes and Christopher J. C. Burges, under CC BY-SA 3.0.
"""

import gzip
import hashlib
import http.client
import urllib.request
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import platformdirs

from rnnspn.errors import DataError
from rnnspn.files import write_bytes

SPLITS = {
    "train": range(50_000),
    "validation": range(50_000, 60_000),
    "test": range(60_000, 70_000),
    "train+validation": range(60_000),
}
"""Which of the 70,000 digits belong to which split: the first 50,000, the next 10,000, MNIST's own test set; and, where
nothing is held out to validate on, the first two together."""

FILES = {
    "train-images-idx3-ubyte.gz": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte.gz": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3-ubyte.gz": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1-ubyte.gz": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}
"""SHA-256 of each file's uncompressed contents."""

MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
)

_CHECKOUT = Path(__file__).parents[2] / "assets" / "mnist"
_LARGEST_FILE = 16 * 2**20


@dataclass(frozen=True)
class Mnist:
    """All 70,000 digits in the order of `SPLITS`.

    Attributes:
        images: uint8 (70000, 28, 28), 0 background to 255 ink; a NumPy array or a torch tensor.
        labels: uint8 (70000,).
    """

    images: Any
    labels: Any

    def to(self, device: Any) -> "Mnist":
        """Return the digits as torch tensors on a device."""
        import torch

        return Mnist(torch.from_numpy(self.images).to(device), torch.from_numpy(self.labels).to(device))


def cache_folder() -> Path:
    """Return the folder that `fetch_mnist` fills."""
    return platformdirs.user_cache_path("rnnspn") / "mnist"


def load_mnist() -> Mnist:
    """Load MNIST from the checkout's `assets/mnist`, else from the cache.

    Raises:
        DataError: It is in neither place, or a file is damaged or cannot be read.
    """
    for folder in (_CHECKOUT, cache_folder()):
        if all((folder / name).is_file() for name in FILES):
            contents = [_read(folder / name) for name in FILES]
            train_images, train_labels, test_images, test_labels = (np.frombuffer(data, np.uint8) for data in contents)
            images = np.concatenate([train_images[16:], test_images[16:]])  # after the IDX headers
            return Mnist(images.reshape(-1, 28, 28), np.concatenate([train_labels[8:], test_labels[8:]]))
    raise DataError(
        f"MNIST is neither in {_CHECKOUT} nor in {cache_folder()}; run 'rnnspn data fetch' where there is a network, "
        "or copy the repository's assets/mnist to the latter"
    )


def fetch_mnist(progress: Callable[[str], None] = lambda name: None) -> Path:
    """Download what the cache lacks of MNIST; what it has and what comes is checked by SHA-256.

    Args:
        progress: Called with the name of each file before it is downloaded.

    Returns:
        The folder that holds the files.

    Raises:
        DataError: No mirror gave a good copy.
        OutputError: The cache cannot be written.
    """
    folder = cache_folder()
    for name in FILES:
        try:
            _read(folder / name)
        except DataError:  # missing or damaged
            progress(name)
            write_bytes(folder / name, _download(name))
    return folder


def _download(name: str) -> bytes:
    failures = []
    for mirror in MIRRORS:
        try:
            with urllib.request.urlopen(mirror + name, timeout=30) as answer:
                data: bytes = answer.read(_LARGEST_FILE)
            _checked(name, data)
            return data
        except (OSError, http.client.HTTPException, DataError) as error:
            failures.append(f"{mirror}: {error}")
    raise DataError(
        f"no mirror gave a good {name} ({'; '.join(failures)}); try again where there is a network, "
        f"or put the file into {cache_folder()} by hand"
    )


def _read(path: Path) -> bytes:
    """Return the uncompressed contents of a file of ours."""
    try:
        return _checked(path.name, path.read_bytes())
    except (OSError, DataError) as error:
        raise DataError(f"cannot use {path}: {error}; delete it and run 'rnnspn data fetch'") from None


def _checked(name: str, data: bytes) -> bytes:
    """Return the uncompressed contents."""
    try:
        contents = gzip.decompress(data)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"damaged ({error})") from None
    if (found := hashlib.sha256(contents).hexdigest()) != FILES[name]:
        raise DataError(f"expected contents with SHA-256 {FILES[name]}, got {found}")
    return contents
