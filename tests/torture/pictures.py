"""Pictures nobody should have to read: other programs' test files, wrong names, cut short, damaged."""

import io
import os
import random
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tests.torture import corpora, reading
from tests.torture.record import Options, Outcome

CUT_EVERY = 50
ENDINGS = (".png", ".jpg", ".bmp", ".gif", ".webp", ".tif", ".pnm")

_CHUNK = 500
_LARGEST_DAMAGED = 60_000


def read_corpora(options: Options) -> Outcome:
    """Read every file of the corpora, under its own name and under others, which must make no difference."""
    outcome = Outcome()
    files: list[Path] = []
    for name, fetch in (("pillow", corpora.pillow), ("libpng", corpora.libpng)):
        try:
            found, source = fetch(options.cache)
        except corpora.MissingCorpusError as error:
            outcome.facts[name] = f"not to be had: {error}"
            continue
        outcome.facts[name] = source
        outcome.tried[f"files of {name}"] = len(found)
        files += found
    report = reading.read_all(files)
    outcome.failures += report.faults
    outcome.tried["read"] = sum("digits" in record for record in report.records)
    outcome.tried["refused"] = sum("error" in record for record in report.records)
    outcome.tried["longest wait for a record, in s"] = round(report.slowest_s, 2)
    gists = [_gist(record) for record in report.records]
    outcome.failures += _renamed(files, gists, outcome)
    outcome.failures += _isolated(files, gists, outcome)
    return outcome


def _isolated(files: Sequence[Path], gists: Sequence[object], outcome: Outcome) -> Iterator[str]:
    report = reading.read_all(files, (*reading.PREDICT, "--isolate"))
    outcome.tried["read again with --isolate"] = len(report.records)
    yield from report.faults
    for file, before, record in zip(files, gists, report.records, strict=False):
        if _gist(record) != before:
            yield f"{file}: isolated {_gist(record)}, before {before}"


def _renamed(files: Sequence[Path], gists: Sequence[object], outcome: Outcome) -> Iterator[str]:
    outcome.tried["read again under other names"] = 0
    for ending in ENDINGS:
        with tempfile.TemporaryDirectory() as folder:
            links = [Path(folder) / f"{index:05}{ending}" for index in range(len(files))]
            for file, link in zip(files, links, strict=True):
                shutil.copyfile(file, link)
            report = reading.read_all(links)
        yield from report.faults
        outcome.tried["read again under other names"] += len(links)
        for file, before, record in zip(files, gists, report.records, strict=False):
            if _gist(record) != before:
                yield f"{file}: as {ending} {_gist(record)}, before {before}"


def _gist(record: dict[str, object]) -> object:
    error = record.get("error")
    return error["code"] if isinstance(error, dict) else (record.get("digits"), record.get("confidence"))


def read_cut(options: Options) -> Outcome:
    """Read one file of every format, cut at every 50th byte."""
    every = 40 * CUT_EVERY if options.quick else CUT_EVERY
    contents = (data[:end] for data in samples().values() for end in range(0, len(data), every))
    outcome = _read_contents(contents, "cut files")
    outcome.tried["formats and variants"] = len(samples())
    return outcome


def read_damaged(options: Options) -> Outcome:
    """Read files with a few bytes or bits changed at random."""
    chance = random.Random(options.seed)
    sources = list(samples().values())
    if not options.quick:
        sources += _small_corpus(options.cache)
    contents = (damaged(chance.choice(sources), chance) for _ in range(options.flips))
    outcome = _read_contents(contents, "damaged files")
    outcome.tried["files they were made of"] = len(sources)
    return outcome


def _small_corpus(cache: Path) -> list[bytes]:
    found: list[Path] = []
    for fetch in (corpora.pillow, corpora.libpng):
        try:
            found += fetch(cache)[0]
        except corpora.MissingCorpusError:
            continue
    return [
        path.read_bytes()
        for path in found
        if path.suffix in (*ENDINGS, ".jpeg", ".tiff", ".ppm", ".pgm", ".pbm", ".mpo")
        and 0 < path.stat().st_size <= _LARGEST_DAMAGED
    ]


def _read_contents(contents: Iterable[bytes], what: str) -> Outcome:
    outcome = Outcome({what: 0, "read": 0, "refused": 0})
    source, slowest, number = iter(contents), 0.0, 0
    while chunk := list(islice(source, _CHUNK)):
        with tempfile.TemporaryDirectory() as folder:
            files = []
            for data in chunk:
                files.append(Path(folder) / f"{number:06}.png")
                files[-1].write_bytes(data)
                number += 1
            report = reading.read_all(files)
            outcome.failures += [_with_bytes(fault, files) for fault in report.faults]
        slowest = max(slowest, report.slowest_s)
        outcome.tried[what] = number
        outcome.tried["read"] += sum("digits" in record for record in report.records)  # type: ignore[operator]
        outcome.tried["refused"] += sum("error" in record for record in report.records)  # type: ignore[operator]
    outcome.tried["longest wait for a record, in s"] = round(slowest, 2)
    return outcome


def _with_bytes(fault: str, files: Sequence[Path]) -> str:
    """Keep the file that a fault names where TORTURE_KEEP says, since it is gone when the part ends."""
    place = os.environ.get("TORTURE_KEEP")
    named = [file for file in files if str(file) in fault]
    if place and named:
        Path(place).mkdir(parents=True, exist_ok=True)
        shutil.copy(named[0], place)
    return fault


def damaged(data: bytes, chance: random.Random) -> bytes:
    """Change one to eight bytes, or single bits of them; half of the time near the beginning, where headers are."""
    changed = bytearray(data)
    reach = len(data) if chance.random() < 0.5 else min(len(data), 256)
    bits = chance.random() < 0.5
    for _ in range(chance.randint(1, 8)):
        place = chance.randrange(reach)
        changed[place] = changed[place] ^ (1 << chance.randrange(8)) if bits else chance.randrange(256)
    return bytes(changed)


def samples() -> dict[str, bytes]:
    """Return a valid picture of every format that is read, in its variants."""
    noise = np.random.default_rng(0).integers(0, 256, (48, 64, 4), np.uint8)
    noise[10:30, 10:50] //= 4
    colour = Image.fromarray(noise[..., :3])
    grey, alpha, palette = colour.convert("L"), Image.fromarray(noise), colour.quantize(32)
    sixteen = Image.fromarray(noise[..., 0].astype(np.uint16) * 257)
    frames = {"save_all": True, "append_images": [colour.rotate(90), colour.rotate(180)]}
    exif = Image.Exif()
    exif[0x0112] = 6
    return {
        name: _encoded(image, form, **settings)
        for name, (image, form, settings) in {
            "png": (colour, "PNG", {"exif": exif}),
            "png-alpha": (alpha, "PNG", {}),
            "png-palette": (palette, "PNG", {"transparency": 3}),
            "png-16": (sixteen, "PNG", {}),
            "png-1": (grey.convert("1"), "PNG", {}),
            "apng": (colour, "PNG", frames),
            "jpeg": (colour, "JPEG", {"exif": exif}),
            "jpeg-progressive": (grey, "JPEG", {"progressive": True}),
            "jpeg-cmyk": (colour.convert("CMYK"), "JPEG", {}),
            "mpo": (colour, "MPO", frames),
            "bmp": (colour, "BMP", {}),
            "bmp-palette": (palette, "BMP", {}),
            "gif": (palette, "GIF", {}),
            "gif-animated": (colour, "GIF", frames),
            "webp": (colour, "WEBP", {"exif": exif}),
            "webp-lossless": (alpha, "WEBP", {"lossless": True}),
            "webp-animated": (colour, "WEBP", frames),
            "tiff": (colour, "TIFF", {"exif": exif}),
            "tiff-lzw": (alpha, "TIFF", {"compression": "tiff_lzw"}),
            "tiff-jpeg": (colour, "TIFF", {"compression": "jpeg"}),
            "tiff-deflate": (sixteen, "TIFF", {"compression": "tiff_adobe_deflate"}),
            "tiff-group4": (grey.convert("1"), "TIFF", {"compression": "group4"}),
            "tiff-float": (Image.fromarray(noise[..., 0] / np.float32(255)), "TIFF", {}),
            "tiff-frames": (colour, "TIFF", frames),
            "pbm": (grey.convert("1"), "PPM", {}),
            "pgm": (grey, "PPM", {}),
            "ppm": (colour, "PPM", {}),
            "pfm": (Image.fromarray(noise[..., 0] / np.float32(255)), "PPM", {}),
        }.items()
    }


def _encoded(image: Image.Image, form: str, **settings: Any) -> bytes:
    stream = io.BytesIO()
    frames = [frame.copy() for frame in settings.pop("append_images", [])]  # saving leaves marks on an image
    image.copy().save(stream, form, append_images=frames, **settings)
    return stream.getvalue()
