"""Labelled pictures.

Shapes: n pictures, T digits, H x W pixels.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Examples:
    """Pictures with what is written on them.

    Attributes:
        source: Where they come from, for people: `authors-2015 test`, or a folder.
        images: uint8 (n, H, W), 0 background to 255 ink.
        labels: int64 (n, T), class indices; shorter ones end in that of `BLANK`.
        paths: Where each picture lies; empty for those that are no files.
        centres: Where the characters are, float32 (n, T, 2): (x, y) as theta counts them, NaN after the end and in
            pictures of which nobody says; None where that is all of them.
    """

    source: str
    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    paths: tuple[str, ...] = ()
    centres: NDArray[np.float32] | None = None
