"""Make the sample pictures of `assets/images` again: test digits, in the forms that pictures come in.

Run from the checkout: python assets/make_images.py
"""

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from rnnspn.data.mnist import load_mnist
from rnnspn.data.sequences import Sequences

FOLDER = Path(__file__).parent / "images"
SEED = 2015
ORIENTATION = 0x0112
"""EXIF tag: how the stored rows and columns lie in the picture."""


def dark_on_light(picture: Image.Image) -> Image.Image:
    """Ink on white paper."""
    return ImageOps.invert(picture)


def ink_on_paper(picture: Image.Image) -> Image.Image:
    """Blue ink on cream paper, RGB."""
    return ImageOps.colorize(picture, black=(244, 236, 214), white=(28, 42, 110))


def chalk_on_board(picture: Image.Image) -> Image.Image:
    """Chalk on a green board, RGB."""
    return ImageOps.colorize(picture, black=(20, 48, 36), white=(236, 240, 228))


def enlarged(size: int) -> Callable[[Image.Image], Image.Image]:
    """Return a change to `size` pixels a side."""
    return lambda picture: picture.resize((size, size), Image.Resampling.BICUBIC)


def on_a_wider_sheet(picture: Image.Image) -> Image.Image:
    """A picture that is not square: 240x200, dark on light."""
    sheet = Image.new("L", (240, 200), 255)
    sheet.paste(dark_on_light(enlarged(200)(picture)), (20, 0))
    return sheet


def sixteen_bits(picture: Image.Image) -> Image.Image:
    """16 bits a pixel."""
    return Image.fromarray(np.asarray(picture).astype(np.uint16) * 257)


def transparent(picture: Image.Image) -> Image.Image:
    """White ink whose alpha is the ink, on nothing."""
    return Image.merge("LA", (picture.point(lambda _: 255), picture))


def palette(picture: Image.Image) -> Image.Image:
    """Sixteen colours in a palette."""
    return chalk_on_board(picture).quantize(16)


def one_bit(picture: Image.Image) -> Image.Image:
    """One bit a pixel."""
    return picture.point(lambda level: 255 * (level > 110)).convert("1")


def stored_on_its_side(orientation: int, turn: Image.Transpose) -> Callable[[Image.Image], Image.Image]:
    """Return a change to a picture that only its EXIF orientation puts upright."""

    def change(picture: Image.Image) -> Image.Image:
        stored = picture.transpose(turn)
        stored.getexif()[ORIENTATION] = orientation
        return stored

    return change


def same(picture: Image.Image) -> Image.Image:
    """As synthesised: 100x100, white on black."""
    return picture


FORMS: dict[str, list[Callable[[Image.Image], Image.Image]]] = {
    "plain": [same] * 10,
    "dark-on-light": [dark_on_light] * 3,
    "rgb": [ink_on_paper, chalk_on_board],
    "size": [enlarged(200), enlarged(64), on_a_wider_sheet],
    "exif": [
        stored_on_its_side(6, Image.Transpose.ROTATE_90),
        stored_on_its_side(8, Image.Transpose.ROTATE_270),
    ],
    "mode": [sixteen_bits, transparent, palette, one_bit],
}


def main() -> None:
    """Write 24 pictures and labels.csv."""
    FOLDER.mkdir(exist_ok=True)
    changes = [(form, change) for form, changes in FORMS.items() for change in changes]
    images, labels = Sequences(load_mnist(), "test", seed=SEED).pictures(np.arange(len(changes)))
    with (FOLDER / "labels.csv").open("w", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(["path", "label"])
        for number, ((form, change), pixels, label) in enumerate(zip(changes, images, labels, strict=True)):
            picture = change(Image.fromarray(pixels))
            name = f"{number:02}-{form}.png"
            picture.save(FOLDER / name, optimize=True, exif=picture.getexif().tobytes())
            rows.writerow([name, "".join(map(str, label))])


if __name__ == "__main__":
    main()
