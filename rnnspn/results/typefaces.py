"""What annotated pictures are written in: Pillow's own font, or one of the system's where that lacks a character."""

import functools

from PIL import Image, ImageDraw, ImageFont

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

_OWN = ""
_SYSTEMS = ("DejaVuSans.ttf", "NotoSans-Regular.ttf", "NotoSansCJK-Regular.ttc", "Arial Unicode.ttf", "arial.ttf")
"""Fonts of many letters, as Pillow finds them where systems keep theirs."""
_NO_CHARACTER = "\U0010ffff"
_SAMPLE = 24


@functools.lru_cache(maxsize=1024)
def font(size: int, text: str) -> Font:
    """Return the first font of those that draw most of a text.

    Args:
        size: Height in pixels.
        text: What it is for.
    """
    if text.isascii():
        return _open(_OWN, size)
    return _open(max((_OWN, *_SYSTEMS), key=lambda face: sum(_draws(face, one) for one in text)), size)


def lacking(characters: str) -> str:
    """Return those characters that no font here draws: a box will stand for each."""
    return "".join(one for one in characters if not any(_draws(face, one) for face in (_OWN, *_SYSTEMS)))


def _open(face: str, size: int) -> Font:
    return ImageFont.truetype(face, size) if face else ImageFont.load_default(size)


@functools.lru_cache(maxsize=4096)
def _draws(face: str, character: str) -> bool:
    try:
        found = _open(face, _SAMPLE)
    except OSError:
        return False
    return _look(found, character) != _look(found, _NO_CHARACTER)


def _look(found: Font, character: str) -> bytes:
    canvas = Image.new("L", (2 * _SAMPLE, 2 * _SAMPLE))
    ImageDraw.Draw(canvas).text((0, 0), character, 255, found)
    return canvas.tobytes()
