"""How often ink is taken for its background, by how bold it is and how uneven the light.

Handwritten digits among clutter, the same in bolder pens and cut to them, and printed ones; darker or lighter than
backgrounds of every level by 60, 100 or 150; the light even, or more by some levels in the middle, at the edges, to one
side or to one corner; or with specks or a highlight beside the ink. A picture is wrong where `--polarity auto` gives
another than the right polarity, told.

Run: python benchmarks/polarity.py [--each 6]
"""

import argparse
from collections import Counter

import numpy as np
from machine import describe
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter, ImageFont
from rich.console import Console
from rich.table import Table

from rnnspn.data.mnist import load_mnist
from rnnspn.data.sequences import Sequences
from rnnspn.pictures import images
from rnnspn.pictures.polarity import Polarity

SIDE = 100
BACKGROUNDS = (20, 40, 60, 80, 100, 127, 140, 160, 180, 200, 220, 240)
CONTRASTS = (-150, -100, -60, 60, 100, 150)
SMALL = "printed, one small digit"
Pixels = NDArray[np.uint8]


def main() -> None:
    """Count and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--each", type=int, default=6, help="pictures of each kind")
    options = parser.parse_args()
    random = np.random.default_rng(0)
    kinds = pictures(random)
    y, x = np.mgrid[:SIDE, :SIDE] / (SIDE - 1)
    middle = 1 - 2 * ((x - 0.5) ** 2 + (y - 0.5) ** 2)
    lights = {"middle": middle, "edges": 1 - middle, "side": x, "corner": (x + y) / 2}
    wrong, total = Counter[tuple[str, str]](), Counter[tuple[str, str]]()
    for name, drawn in kinds.items():
        for where, (uneven, blemish) in CONDITIONS.items():
            for light in lights.values() if uneven else [np.full((SIDE, SIDE), 0.5)]:
                for background in BACKGROUNDS:
                    for contrast in (one for one in CONTRASTS if 0 <= background + one <= 255):
                        lit = background + uneven * (light - 0.5)
                        for index in random.integers(0, len(drawn), options.each):
                            picture = photographed(drawn[index], lit, contrast * lit / background, random)
                            blemish(picture, 0 if contrast > 0 else 255, random)
                            total[name, where] += 1
                            wrong[name, where] += is_wrong(
                                picture, "dark-on-light" if contrast < 0 else "light-on-dark"
                            )
    table = Table("", *CONDITIONS)
    for name in kinds:
        table.add_row(name, *(f"{wrong[name, where] / total[name, where]:.1%}" for where in CONDITIONS))
    print(describe())
    Console(width=120).print(table)
    for what, names in (("lines", [name for name in kinds if name != SMALL]), ("one small digit", [SMALL])):
        for how, blemish in (("without", [_clean]), ("with", [specks, highlight])):
            chosen = [(name, where) for name in names for where, made in CONDITIONS.items() if made[1] in blemish]
            errors, count = sum(wrong[one] for one in chosen), sum(total[one] for one in chosen)
            print(f"{what}, {how} specks or a highlight: {errors / count:.2%} of {count:,} wrong")


def pictures(random: np.random.Generator) -> dict[str, list[Pixels]]:
    """Draw light ink on black, uint8 (100, 100)."""
    digits = list(Sequences(load_mnist(), "test", seed=5).pictures(np.arange(200))[0])
    return {
        "handwritten, with clutter": digits,
        "bolder by a pixel all around": [bolder(one, 3) for one in digits],
        "bolder by three pixels": [bolder(one, 7) for one in digits],
        "cut to them": [cut(one) for one in digits],
        "cut, bolder by two pixels": [cut(bolder(one, 5)) for one in digits],
        "printed": [printed(number, random) for number in range(200)],
        SMALL: [small(number) for number in range(10)],
    }


def bolder(picture: Pixels, side: int) -> Pixels:
    """Widen the strokes."""
    return np.asarray(Image.fromarray(picture).filter(ImageFilter.MaxFilter(side)))


def cut(picture: Pixels) -> Pixels:
    """Cut a picture to its ink and two pixels around, and enlarge that."""
    rows, columns = np.nonzero(picture > SIDE // 2)
    box = max(0, columns.min() - 2), max(0, rows.min() - 2), min(SIDE, columns.max() + 3), min(SIDE, rows.max() + 3)
    return np.asarray(Image.fromarray(picture).resize((SIDE, SIDE), Image.Resampling.BICUBIC, box))


def printed(number: int, random: np.random.Generator) -> Pixels:
    """Print three digits, in one of several sizes and weights."""
    image = Image.new("L", (SIDE, SIDE))
    font = ImageFont.load_default((20, 30, 45, 60)[number % 4])
    text = str(random.integers(100, 1000))
    ImageDraw.Draw(image).text((6, 15), text, fill=255, font=font, stroke_width=number % 5)
    return np.asarray(image)


def small(number: int) -> Pixels:
    """Print one digit that covers a four hundredth of the picture."""
    image = Image.new("L", (SIDE, SIDE))
    ImageDraw.Draw(image).text((40, 40), str(number), fill=255, font=ImageFont.load_default(14))
    return np.asarray(image)


def photographed(
    ink: Pixels, background: NDArray[np.float64], contrast: NDArray[np.float64], random: np.random.Generator
) -> Pixels:
    """Put ink on a background, with grain."""
    levels = background + ink / 255 * contrast + random.normal(0, 2, ink.shape)
    return levels.clip(0, 255).round().astype(np.uint8)


def specks(picture: Pixels, level: int, random: np.random.Generator) -> None:
    """Strew 40 single pixels of one level over a picture."""
    picture[tuple(random.integers(10, SIDE - 10, (2, 40)))] = level


def highlight(picture: Pixels, level: int, random: np.random.Generator) -> None:
    """Put a disc of 29 pixels of one level somewhere."""
    y, x = np.mgrid[:SIDE, :SIDE]
    top, left = random.integers(15, SIDE - 15, 2)
    picture[(y - top) ** 2 + (x - left) ** 2 <= 9] = level


def is_wrong(picture: Pixels, right: Polarity) -> bool:
    """Tell whether the polarity that is found gives another picture than the right one."""
    found, told = (images.load(picture, SIDE, SIDE, polarity).pixels for polarity in ("auto", right))
    return not np.array_equal(found, told)


def _clean(*_: object) -> None:
    pass


CONDITIONS = {
    "even": (0, _clean),
    "uneven by 20": (20, _clean),
    "by 40": (40, _clean),
    "by 80": (80, _clean),
    "by 20, specks": (20, specks),
    "by 20, highlight": (20, highlight),
}
"""Levels between the lightest and the darkest place of a background, and what is there that is no ink: as far from the
background as can be, on the side where the ink is not."""


if __name__ == "__main__":
    main()
