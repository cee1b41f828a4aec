"""Draw what a model attended to: the quadrilateral of every step on the picture, and beside it the crops it saw."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePath

import numpy as np
from PIL import Image, ImageDraw

from rnnspn import files
from rnnspn.contract import ModelMetadata
from rnnspn.inference.records import NOTHING, Reading, Step
from rnnspn.pictures import decoding, images
from rnnspn.pictures.polarity import Pixels, Polarity
from rnnspn.results import glimpses, output, typefaces

COLOURS = ("#E69F00", "#56B4E9", "#009E73", "#CC79A7", "#F0E442", "#D55E00", "#0072B2")
"""Okabe and Ito's palette, told apart with any kind of colour vision; the steps take them in turn."""

_SCALE = 2  # everything is drawn at twice its size and reduced, which smooths the lines
_EDGE = 20 * _SCALE
_PANEL = 460 * _SCALE
_HEADER = 56 * _SCALE
_GAP = 14 * _SCALE
_ROWS = 3
_TAG = 11 * _SCALE
_LONGEST_NAME = 200
"""Bytes; file systems take 255."""
_INK, _FAINT, _PAPER, _SURROUND = "#1A1A1A", "#757575", "#FFFFFF", "#EFEFEF"


class Annotator:
    """Writes annotated pictures into a folder, one PNG for each picture, never two under one name.

    Args:
        folder: Where they go, in folders like those that the pictures are in; they are made when they are missing.
        paths: All the pictures; each one's place among them decides its file's name, whatever is drawn before it.
        metadata: The model's metadata.
        polarity: The polarity the pictures were read with.

    Raises:
        OutputError: One would take the place of a picture.
    """

    def __init__(
        self, folder: Path, paths: Sequence[str], metadata: ModelMetadata, polarity: Polarity = "auto"
    ) -> None:
        self._paths, self._metadata, self._polarity = paths, metadata, polarity
        self._targets = [folder / f"{name}.png" for name in _names(paths)]
        output.expect_no_input(self._targets, paths)

    def write(self, index: int, reading: Reading) -> Path:
        """Annotate one picture and return the file that was written: the picture's name, ending in `.png`.

        Args:
            index: The picture's place among all.
            reading: What was read in it.

        Raises:
            ImageError: The picture has vanished or changed since it was read.
            OutputError: The file cannot be written.
        """
        target = self._targets[index]
        drawn = draw(decoding.read_bytes(self._paths[index]), reading, self._metadata, self._polarity)
        with files.replacing(target, durable=False) as temporary:
            drawn.save(temporary, format="PNG")
        return target


def _names(paths: Sequence[str]) -> Iterator[str]:
    """Yield a name for each picture, below folders like its own, none like another but for the case of its letters.

    Pictures of one folder that differ in their endings alone are numbered.
    """
    used: dict[str, int] = {}
    folders = [os.path.dirname(os.path.abspath(path)) for path in paths]  # noqa: PTH100, PTH120 - as they were given
    try:
        top = os.path.commonpath(folders)
    except ValueError:  # drives of their own, or no picture
        folders, top = [os.curdir] * len(paths), os.curdir
    inner = {folder: os.path.relpath(folder, top) for folder in set(folders)}
    parents = {str(parent) for folder in inner.values() for parent in (PurePath(folder), *PurePath(folder).parents)}
    taken = {parent[:-4].casefold() for parent in parents if parent.lower().endswith(".png")}  # no file has their names
    for path, folder in zip(paths, folders, strict=True):
        stem = PurePath(path).stem or "picture"
        while len(os.fsencode(stem)) > _LONGEST_NAME:
            stem = stem[:-1]
        stem = os.path.normpath(os.path.join(inner[folder], stem))  # noqa: PTH118
        number = used.get(stem.casefold(), 1)
        name = stem if number == 1 else f"{stem}-{number}"
        while name.casefold() in taken:
            number += 1
            name = f"{stem}-{number}"
        used[stem.casefold()] = number
        taken.add(name.casefold())
        yield name


def draw(data: bytes, reading: Reading, metadata: ModelMetadata, polarity: Polarity = "auto") -> Image.Image:
    """Draw one annotated picture.

    Args:
        data: The bytes of the picture file.
        reading: What was read in it.
        metadata: The metadata of the model that read it.
        polarity: The polarity it was read with.

    Returns:
        RGB image: the picture with the quadrilaterals on the left, each step's crop and digit on the right.

    Raises:
        ImageError: The picture cannot be read.
    """
    decoded = decoding.decode(data, detail=_PANEL)
    fitted = images.load(data, metadata.height, metadata.width, polarity)  # as it was read, in less detail perhaps
    columns = -(-len(reading.steps) // _ROWS)
    column = _cell_width(metadata)
    size = (_EDGE * 2 + _PANEL + columns * (column + _GAP), _EDGE * 2 + _HEADER + _PANEL)
    canvas = Image.new("RGB", size, _PAPER)
    _draw_header(canvas, reading)
    canvas.paste(_panel(decoded, reading), (_EDGE, _EDGE + _HEADER))
    for index, step in enumerate(reading.steps):
        left = _EDGE + _PANEL + _GAP + index // _ROWS * (column + _GAP)
        top = _EDGE + _HEADER + index % _ROWS * (_cell_height() + _GAP)
        if step.theta is not None and metadata.downsample is not None:
            glimpse = int(metadata.height / metadata.downsample), int(metadata.width / metadata.downsample)
            crop = glimpses.sample(fitted.pixels, np.reshape(step.theta, (2, 3)), *glimpse)
            colour = COLOURS[0 if _shares(reading) else index % len(COLOURS)]
            _draw_crop(canvas, (left, top), crop, str(index + 1), colour)
            left += _crop_width(metadata) + _GAP
        _draw_digit(canvas, (left, top), step)
    return canvas.resize((size[0] // _SCALE, size[1] // _SCALE), Image.Resampling.LANCZOS)


def _draw_header(canvas: Image.Image, reading: Reading) -> None:
    pen = ImageDraw.Draw(canvas)
    baseline = _EDGE + 36 * _SCALE
    digits = reading.digits or NOTHING
    pen.text((_EDGE, baseline), digits, _INK, _font(40, digits), anchor="ls")
    start = _EDGE + pen.textlength(digits, _font(40, digits)) + 14 * _SCALE
    pen.text((start, baseline), f"confidence {reading.confidence:.1%}", _FAINT, _font(16), anchor="ls")


def _panel(picture: decoding.Decoded, reading: Reading) -> Image.Image:
    """Draw the picture with its quadrilaterals; a margin shows those that reach outside."""
    panel = Image.new("RGB", (_PANEL, _PANEL), _SURROUND)
    scale = _PANEL * 0.9 / max(picture.width, picture.height)
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    left, top = (_PANEL - size[0]) // 2, (_PANEL - size[1]) // 2
    rgba = picture.image.convert("RGBA").resize(size, Image.Resampling.BICUBIC, picture.box)
    panel.paste(rgba, (left, top), rgba)
    pen = ImageDraw.Draw(panel)
    quads = [step.quad for step in reading.steps[: 1 if _shares(reading) else None] if step.quad is not None]
    outlines = [[(left + (x + 0.5) * scale, top + (y + 0.5) * scale) for x, y in quad] for quad in quads]
    for width, colours in ((5, ("#000000",)), (3, COLOURS)):  # the dark rim keeps a line visible on any picture
        for index, outline in enumerate(outlines):
            pen.line([*outline, *outline[:2]], colours[index % len(colours)], width * _SCALE, joint="curve")
    for index, outline in enumerate(outlines):
        x, y = (min(max(value, _TAG + 2 * _SCALE), _PANEL - _TAG - 2 * _SCALE) for value in outline[0])
        text = f"1-{len(reading.steps)}" if _shares(reading) else str(index + 1)
        _draw_tag(pen, (x, y), text, COLOURS[index % len(COLOURS)])
    return panel


def _shares(reading: Reading) -> bool:
    """Tell whether several steps attend to one and the same quadrilateral, as those of `ffn-spn` do."""
    return len(reading.steps) > 1 and len({step.quad for step in reading.steps}) == 1


def _draw_crop(canvas: Image.Image, corner: tuple[int, int], crop: Pixels, number: str, colour: str) -> None:
    pen = ImageDraw.Draw(canvas)
    left, top = corner
    height = _cell_height()
    width = height * crop.shape[1] // crop.shape[0]
    canvas.paste(Image.fromarray(crop).resize((width, height), Image.Resampling.NEAREST).convert("RGB"), corner)
    pen.rectangle((left, top, left + width - 1, top + height - 1), outline=colour, width=3 * _SCALE)
    _draw_tag(pen, (left + _TAG + 3 * _SCALE, top + _TAG + 3 * _SCALE), number, colour)


def _draw_digit(canvas: Image.Image, corner: tuple[int, int], step: Step) -> None:
    pen = ImageDraw.Draw(canvas)
    left, middle = corner[0], corner[1] + _cell_height() // 2
    pen.text((left, middle + 12 * _SCALE), step.digit, _INK, _font(56, step.digit), anchor="ls")
    pen.text((left, middle + 36 * _SCALE), f"{step.probability:.1%}", _FAINT, _font(15), anchor="ls")


def _draw_tag(pen: ImageDraw.ImageDraw, centre: tuple[float, float], text: str, colour: str) -> None:
    x, y = centre
    half = max(_TAG, round(pen.textlength(text, _font(14)) / 2) + 6 * _SCALE)
    pen.rounded_rectangle((x - half, y - _TAG, x + half, y + _TAG), _TAG, colour, "#000000", _SCALE)
    pen.text((x, y), text, "#000000", _font(14), anchor="mm")


def _cell_height() -> int:
    return (_PANEL - (_ROWS - 1) * _GAP) // _ROWS


def _crop_width(metadata: ModelMetadata) -> int:
    return _cell_height() * metadata.width // metadata.height


def _cell_width(metadata: ModelMetadata) -> int:
    return (0 if metadata.downsample is None else _crop_width(metadata) + _GAP) + 64 * _SCALE


def _font(size: int, text: str = "") -> typefaces.Font:
    return typefaces.font(size * _SCALE, text)
