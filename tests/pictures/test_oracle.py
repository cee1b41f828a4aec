"""Files put together byte by byte, and the levels that the model has to see, worked out on paper.

Every picture is 5 x 3 pixels: three of ink in the middle, on a background that counts as black. Grey is
0.299 R + 0.587 G + 0.114 B: 76 for red, 150 for green, 29 for blue. What is transparent lets the black through.
"""

import io
import math
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rnnspn.pictures import images

HEIGHT, WIDTH = 3, 5
GREY, RGB, INDEXED, GREY_ALPHA, RGB_ALPHA = 0, 2, 3, 4, 6
"""PNG's colour types."""


def framed(paper: bytes, *ink: bytes) -> list[bytes]:
    """Return the rows of a picture with the three pixels of ink in its middle."""
    return [paper * 5, paper + b"".join(ink) + paper, paper * 5]


def packed(depth: int, paper: int, *ink: int) -> list[bytes]:
    """Return the same with `depth` bits a pixel, each row filled up to whole bytes."""
    size = (WIDTH * depth + 7) // 8
    lines = ([paper] * 5, [paper, *ink, paper], [paper] * 5)
    bits = ["".join(f"{value:0{depth}b}" for value in line).ljust(8 * size, "0") for line in lines]
    return [int(row, 2).to_bytes(size, "big") for row in bits]


def big(*values: int) -> bytes:
    return struct.pack(f">{len(values)}H", *values)


def png(depth: int, colour: int, rows: list[bytes], **chunks: bytes) -> bytes:
    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", WIDTH, HEIGHT, depth, colour, 0, 0, 0)
    extra = b"".join(chunk(name.encode(), data) for name, data in chunks.items())
    pixels = zlib.compress(b"".join(b"\0" + row for row in rows))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + extra + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def tiff(rows: list[bytes], order: str = "<", **tags: int | tuple[int, ...]) -> bytes:
    numbers = {"bits": 258, "photometric": 262, "samples": 277, "format": 339, "extra": 338, "orientation": 274}
    pixels = b"".join(rows)
    fields = {256: WIDTH, 257: HEIGHT, 259: 1, 273: 8, 278: HEIGHT, 279: len(pixels)}
    fields |= {numbers[name]: value for name, value in tags.items()}
    directory = 8 + len(pixels)
    lists, entries = b"", b""
    for tag, value in sorted(fields.items()):
        values = value if isinstance(value, tuple) else (value,)
        data = struct.pack(f"{order}{len(values)}H", *values)
        if len(data) > 4:
            place = struct.pack(f"{order}I", directory + 2 + 12 * len(fields) + 4 + len(lists))
            lists += data
            data = place
        entries += struct.pack(f"{order}HHI", tag, 3, len(values)) + data.ljust(4, b"\0")
    start = {"<": b"II", ">": b"MM"}[order] + struct.pack(f"{order}HI", 42, directory)
    return start + pixels + struct.pack(f"{order}H", len(fields)) + entries + bytes(4) + lists


def bmp(bits: int, rows: list[bytes], palette: bytes = b"") -> bytes:
    pixels = b"".join(row.ljust((len(row) + 3) // 4 * 4, b"\0") for row in reversed(rows))
    header = struct.pack("<IiiHHIIiiII", 40, WIDTH, HEIGHT, 1, bits, 0, len(pixels), 0, 0, len(palette) // 4, 0)
    offset = 14 + len(header) + len(palette)
    return struct.pack("<2sIHHI", b"BM", offset + len(pixels), 0, 0, offset) + header + palette + pixels


BLACK, RED, GREEN, BLUE, WHITE = b"\0\0\0", b"\xff\0\0", b"\0\xff\0", b"\0\0\xff", b"\xff\xff\xff"
PALETTE = BLACK + RED + WHITE + b"\x32\x32\x32"
PNM = b"5 3 "

FILES: dict[str, tuple[bytes, list[int]]] = {
    "1-bit": (png(1, GREY, packed(1, 0, 1, 0, 1)), [255, 0, 255]),
    "2-bit": (png(2, GREY, packed(2, 0, 1, 2, 3)), [85, 170, 255]),
    "4-bit": (png(4, GREY, packed(4, 0, 1, 8, 15)), [17, 136, 255]),
    "8-bit": (png(8, GREY, framed(b"\0", b"\1", b"\x64", b"\xff")), [1, 100, 255]),
    "16-bit": (png(16, GREY, framed(big(0), big(128), big(129), big(25700))), [0, 1, 100]),
    "16-bit white": (png(16, GREY, framed(big(0), big(65535), big(65407), big(65406))), [255, 255, 254]),
    "16-bit colours": (
        png(16, RGB, framed(big(0, 0, 0), big(65535, 0, 0), big(0, 65535, 0), big(0, 0, 65535))),
        [76, 150, 29],
    ),
    "16-bit alpha": (
        png(16, GREY_ALPHA, framed(big(0, 65535), big(65535, 32896), big(25700, 65535), big(65535, 0))),
        [128, 100, 0],
    ),
    "16-bit colours and alpha": (
        png(16, RGB_ALPHA, framed(*(big(*pixel) for pixel in (
            (0, 0, 0, 65535), (65535, 0, 0, 65535), (65535, 65535, 65535, 32896), (65535, 65535, 65535, 0),
        )))),
        [76, 128, 0],
    ),
    "16-bit with a transparent level": (
        png(16, GREY, framed(big(0), big(25700), big(12850), big(65535)), tRNS=big(25700)),
        [0, 50, 255],
    ),
    "colours": (png(8, RGB, framed(BLACK, RED, GREEN, BLUE)), [76, 150, 29]),
    "1-bit palette": (png(1, INDEXED, packed(1, 0, 1, 0, 1), PLTE=BLACK + RED), [76, 0, 76]),
    "2-bit palette": (png(2, INDEXED, packed(2, 0, 1, 2, 3), PLTE=PALETTE), [76, 255, 50]),
    "4-bit palette": (png(4, INDEXED, packed(4, 0, 3, 2, 1), PLTE=PALETTE), [50, 255, 76]),
    "8-bit palette": (png(8, INDEXED, packed(8, 0, 1, 2, 3), PLTE=PALETTE), [76, 255, 50]),
    "palette with alpha": (
        png(8, INDEXED, packed(8, 0, 1, 2, 3), PLTE=PALETTE, tRNS=b"\xff\0\x80"),
        [0, 128, 50],
    ),
    "alpha": (png(8, GREY_ALPHA, framed(b"\0\xff", b"\xff\x80", b"\x64\xff", b"\xff\0")), [128, 100, 0]),
    "colours and alpha": (
        png(8, RGB_ALPHA, framed(BLACK + b"\xff", RED + b"\xff", WHITE + b"\x80", WHITE + b"\0")),
        [76, 128, 0],
    ),
    "a transparent level": (png(8, GREY, packed(8, 0, 200, 201, 255), tRNS=big(200)), [0, 201, 255]),
    "a transparent colour": (png(8, RGB, framed(BLACK, RED, GREEN, WHITE), tRNS=big(255, 0, 0)), [0, 150, 255]),
    "1-bit PNM, where 1 is black": (b"P4 " + PNM + b"".join(packed(1, 1, 0, 1, 0)), [255, 0, 255]),
    "1-bit PNM in words": (b"P1 " + PNM + b"1 1 1 1 1  1 0 1 0 1  1 1 1 1 1", [255, 0, 255]),
    "PNM to 100": (b"P5 " + PNM + b"100 " + b"".join(packed(8, 0, 20, 60, 100)), [51, 153, 255]),
    "16-bit PNM": (
        b"P5 " + PNM + b"65535 " + b"".join(framed(big(0), big(129), big(25700), big(65535))),
        [1, 100, 255],
    ),
    "PNM in colours": (b"P6 " + PNM + b"255 " + b"".join(framed(BLACK, RED, GREEN, BLUE)), [76, 150, 29]),
    "1-bit TIFF": (tiff(packed(1, 0, 1, 0, 1), bits=1, photometric=1), [255, 0, 255]),
    "1-bit TIFF, where 0 is white": (tiff(packed(1, 1, 0, 1, 0), bits=1, photometric=0), [255, 0, 255]),
    "8-bit TIFF, where 0 is white": (tiff(packed(8, 255, 254, 155, 0), bits=8, photometric=0), [1, 100, 255]),
    "16-bit TIFF": (
        tiff(framed(b"\0\0", b"\x81\0", b"\x64\x64", b"\xff\xff"), bits=16, photometric=1),
        [1, 100, 255],
    ),
    "16-bit TIFF, the high byte first": (
        tiff(framed(big(0), big(129), big(25700), big(65535)), ">", bits=16, photometric=1),
        [1, 100, 255],
    ),
    "16-bit TIFF with signs": (
        tiff(framed(b"\0\0", b"\xff\xff", b"\x64\x64", b"\xff\x7f"), bits=16, photometric=1, format=2),
        [0, 100, 127],
    ),
    "32-bit TIFF, white at 65535": (
        tiff([struct.pack("<5i", *row) for row in ([0] * 5, [0, -7, 25700, 10**6, 0], [0] * 5)],
             bits=32, photometric=1, format=2),
        [0, 100, 255],
    ),
    "32-bit TIFF without signs, white at 65535": (
        tiff([struct.pack("<5I", *row) for row in ([0] * 5, [0, 2**32 - 1, 25700, 129, 0], [0] * 5)],
             bits=32, photometric=1, format=1),
        [255, 100, 1],
    ),
    "12-bit TIFF": (tiff(packed(12, 0, 4095, 265, 281), bits=12, photometric=1), [255, 17, 17]),
    "16-bit TIFF, where 0 is white": (
        tiff(framed(b"\xff\xff", b"\0\0", b"\x9b\x9b", b"\x7e\xff"), bits=16, photometric=0),
        [255, 100, 1],
    ),
    "float TIFF": (
        tiff([struct.pack("<5f", *row) for row in ([0] * 5, [0, 0.5, 1, -1, 0], [0] * 5)],
             bits=32, photometric=1, format=3),
        [128, 255, 0],
    ),
    "float TIFF that is nowhere white": (
        tiff([struct.pack("<5f", *row) for row in ([0] * 5, [0, 0.2, 0.4, 0.6, 0], [0] * 5)],
             bits=32, photometric=1, format=3),
        [51, 102, 153],
    ),
    "float TIFF without end": (
        tiff([struct.pack("<5f", *row) for row in ([0] * 5, [0, math.inf, -math.inf, math.nan, 0], [0] * 5)],
             bits=32, photometric=1, format=3),
        [255, 0, 0],
    ),
    "float TIFF, white at 255": (
        tiff([struct.pack("<5f", *row) for row in ([0] * 5, [0, 100, 255, 300, 0], [0] * 5)],
             bits=32, photometric=1, format=3),
        [100, 255, 255],
    ),
    "CMYK TIFF": (
        tiff(framed(b"\0\0\0\xff", b"\0\xff\xff\0", b"\0\0\0\x9b", b"\0\0\0\0"),
             bits=(8, 8, 8, 8), photometric=5, samples=4),
        [76, 100, 255],
    ),
    "1-bit BMP, where 0 is white": (bmp(1, packed(1, 1, 0, 1, 0), WHITE + b"\0" + BLACK + b"\0"), [255, 0, 255]),
    "4-bit BMP": (bmp(4, packed(4, 0, 1, 2, 1), BLACK + b"\0" + BLUE + b"\0" + WHITE + b"\0"), [76, 255, 76]),
    "BMP in colours, blue first": (bmp(24, framed(BLACK, RED, GREEN, BLUE)), [29, 150, 76]),
}  # fmt: skip


@pytest.mark.parametrize("name", FILES)
def test_a_file_put_together_by_hand_gives_the_levels_worked_out_by_hand(tmp_path: Path, name: str) -> None:
    data, ink = FILES[name]
    (tmp_path / "file").write_bytes(data)
    fitted = images.load(tmp_path / "file", HEIGHT, WIDTH, "light-on-dark")
    assert fitted.pixels.tolist() == [[0] * 5, [0, *ink, 0], [0] * 5]
    assert (fitted.letterbox.source_width, fitted.letterbox.source_height) == (WIDTH, HEIGHT)


STORED = [[80, 0, 0, 0, 0], [0, 40, 120, 200, 0], [0, 0, 0, 0, 0]]
DISPLAYED = {
    1: STORED,
    2: [[0, 0, 0, 0, 80], [0, 200, 120, 40, 0], [0, 0, 0, 0, 0]],
    3: [[0, 0, 0, 0, 0], [0, 200, 120, 40, 0], [0, 0, 0, 0, 80]],
    4: [[0, 0, 0, 0, 0], [0, 40, 120, 200, 0], [80, 0, 0, 0, 0]],
    5: [[80, 0, 0], [0, 40, 0], [0, 120, 0], [0, 200, 0], [0, 0, 0]],
    6: [[0, 0, 80], [0, 40, 0], [0, 120, 0], [0, 200, 0], [0, 0, 0]],
    7: [[0, 0, 0], [0, 200, 0], [0, 120, 0], [0, 40, 0], [0, 0, 80]],
    8: [[0, 0, 0], [0, 200, 0], [0, 120, 0], [0, 40, 0], [80, 0, 0]],
}
"""What each EXIF orientation makes of it."""


def _exif(orientation: int) -> bytes:
    return b"II*\0\x08\0\0\0\x01\0" + struct.pack("<HHIHHI", 274, 3, 1, orientation, 0, 0)


def _jpeg(orientation: int) -> bytes:
    stream = io.BytesIO()
    blocks = np.array(STORED, np.uint8).repeat(16, 0).repeat(16, 1)
    Image.fromarray(blocks).save(stream, "JPEG", quality=95, exif=b"Exif\0\0" + _exif(orientation))
    return stream.getvalue()


@pytest.mark.parametrize("form", ["PNG", "TIFF", "JPEG"])
@pytest.mark.parametrize("orientation", DISPLAYED)
def test_a_turned_picture_is_seen_as_it_is_displayed(tmp_path: Path, orientation: int, form: str) -> None:
    rows = [bytes(row) for row in STORED]
    data = {
        "PNG": png(8, GREY, rows, eXIf=_exif(orientation)),
        "TIFF": tiff(rows, bits=8, photometric=1, orientation=orientation),
        "JPEG": _jpeg(orientation),
    }[form]
    (tmp_path / "file").write_bytes(data)
    scale, atol = (16, 2) if form == "JPEG" else (1, 0)
    height, width = (scale * side for side in np.shape(DISPLAYED[orientation]))
    fitted = images.load(tmp_path / "file", height, width, "light-on-dark")
    seen = fitted.pixels[scale // 2 :: scale, scale // 2 :: scale].astype(int)
    np.testing.assert_allclose(seen, DISPLAYED[orientation], atol=atol)
    assert (fitted.letterbox.source_width, fitted.letterbox.source_height) == (width, height)


@pytest.mark.parametrize("form", ["GIF", "PNG", "WEBP", "TIFF"])
def test_the_first_frame_of_an_animation_or_page_of_a_document_is_seen(tmp_path: Path, form: str) -> None:
    first, later = (Image.new("RGB", (WIDTH, HEIGHT), level) for level in ("white", "black"))
    options = {"lossless": True} if form == "WEBP" else {}
    first.save(tmp_path / "file", form, save_all=True, append_images=[later, first], **options)
    with Image.open(tmp_path / "file") as image:
        assert image.n_frames == 3
    assert images.load(tmp_path / "file", HEIGHT, WIDTH, "light-on-dark").pixels.min() == 255


def test_a_jpeg_of_printing_inks_is_seen_as_it_prints(tmp_path: Path) -> None:
    inks = np.array([[[0, 0, 0, 0]], [[0, 0, 0, 155]], [[0, 255, 255, 0]], [[0, 0, 0, 255]]], np.uint8)
    page = np.zeros((96, 48, 4), np.uint8)
    page[..., 3] = 255  # black, as a background that is left as it is
    page[16:80, 16:32] = inks.repeat(16, 0).repeat(16, 1)
    Image.fromarray(page, "CMYK").save(tmp_path / "file", "JPEG", quality=95)
    seen = images.load(tmp_path / "file", 96, 48, "light-on-dark").pixels[24:80:16, 24]
    np.testing.assert_allclose(seen.astype(int), [255, 100, 76, 0], atol=3)
