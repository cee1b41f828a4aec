"""Decode one picture file: whatever its bytes hold, the result is an upright 8-bit picture or an ImageError.

Codes of the errors: `not-found`, `unreadable`, `not-a-file`, `empty`, `too-large`, `not-an-image`, `damaged` and
`unsupported`; `isolation` adds `crashed` and `too-slow`.
"""

import errno
import io
import logging
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError
from PIL.TiffImagePlugin import TiffImageFile

from rnnspn.errors import ImageError

FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF", "PPM")
"""Pillow's names of the formats that are read; PPM covers the whole PNM family."""
MAX_BYTES = 128 * 2**20
MAX_PIXELS = 64_000_000
"""Width times height; below the size at which Pillow itself warns of a decompression bomb."""
MAX_SIDE = 65_535
"""Pixels of either side: what JPEG can have, too."""
MAX_SCANS = 100
"""Scans of a progressive JPEG, each of which goes over the whole picture; cameras and editors make a dozen."""

# What Pillow logs is also in the exceptions that become an ImageError; without a handler it would go to stderr.
logging.getLogger("PIL").addHandler(logging.NullHandler())

_SCAN = b"\xff\xda"
"""What begins a scan of a JPEG; nothing else in one may hold it, but a preview."""
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What makes a picture of each EXIF orientation upright; from 5 on, width and height change places."""
_LEVELS = ("b1", "u1", "u2", "f4", "f8")
"""Kind and size in bytes of an array's grey levels; of other integers nobody knows which one is white."""
_STRIP = 2**18
"""Pixels that are scaled at a time."""
_BEYOND = 2
"""How many times white a float may be, as scaling overshoots at edges; of more nobody knows what is white."""
_END_LEFT, _END_ABOVE = (2, 3, 6, 7), (3, 4, 7, 8)
"""Orientations in which an end of what is stored, the right or the lower one, comes to lie left or above."""


@dataclass(frozen=True)
class Decoded:
    """A picture as it is displayed: first frame, upright, 8 bits a channel.

    Attributes:
        image: Pillow image of mode L, LA, RGB or RGBA; a big JPEG may come at a half, a quarter or an eighth of its
            size.
        width: Full width in pixels, as displayed.
        height: Full height in pixels, as displayed.
        box: Where the picture lies in the image: left, top, right and bottom, in pixels of the image. One that came
            smaller may have a part of a pixel of nothing at one end.
    """

    image: Image.Image
    width: int
    height: int
    box: tuple[float, float, float, float]


def read_bytes(path: str | os.PathLike[str]) -> bytes:
    """Read a file whole, without ever waiting on a pipe or a device.

    Raises:
        ImageError: There is no such file, it is no regular file, it is empty, too large, or cannot be read.
    """
    try:
        # Without O_NONBLOCK, opening a FIFO waits for somebody to write to it.
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except (OSError, ValueError) as error:
        _refuse_path(error)
    try:
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode):
            raise ImageError("not-a-file", "expected a picture file, got a folder, pipe or device")
        if status.st_size > MAX_BYTES:
            raise ImageError("too-large", f"expected at most {MAX_BYTES >> 20} MiB, got {status.st_size >> 20} MiB")
        # Each call releases the interpreter's lock, which costs more than the reading: hence no file object.
        data = os.read(handle, status.st_size)
        while len(data) < status.st_size and (more := os.read(handle, status.st_size - len(data))):
            data += more
    except OSError as error:
        _refuse_path(error)
    finally:
        os.close(handle)
    if not data:
        raise ImageError("empty", "the file is empty")
    return data


def decode(data: bytes, detail: int | None = None) -> Decoded:
    """Decode the bytes of one picture.

    Args:
        data: The file's contents.
        detail: Shorter side in pixels that is enough for the caller; lets a big JPEG decode at a reduced size.

    Raises:
        ImageError: The bytes are no picture of a known format, damaged, or beyond the limits.
    """

    def opened() -> Decoded:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            _check_size(*image.size)
            if isinstance(image, TiffImageFile):  # a tile is decoded whole, however small the picture
                _check_size(*(_tag(image, name, 0) for name in ("TileWidth", "TileLength")))
            full, reduced = image.size, None
            if image.format in ("JPEG", "MPO"):
                if (scans := data.count(_SCAN)) > MAX_SCANS:
                    raise ImageError("too-large", f"expected at most {MAX_SCANS} scans in a JPEG, got {scans}")
                if detail is not None:
                    reduced = image.draft(None, (detail, detail))
            return _upright(image, full, reduced[1] if reduced else None)

    return _guarded(opened)


def _check_size(width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise ImageError("too-large", f"expected at most {MAX_PIXELS} pixels, got {width} x {height}")
    if max(width, height) > MAX_SIDE:
        raise ImageError("too-large", f"expected at most {MAX_SIDE} pixels a side, got {width} x {height}")


def from_image(image: Image.Image) -> Decoded:
    """Take a Pillow image in the same way as a decoded file.

    Raises:
        ImageError: The image cannot be loaded or has an unsupported mode.
    """
    return _guarded(lambda: _upright(image, image.size))


def from_array(array: np.ndarray[Any, Any]) -> Decoded:
    """Take an array in the same way as a decoded file.

    Args:
        array: uint8 (h, w), (h, w, 2), (h, w, 3) or (h, w, 4); or bool, uint16, float32 or float64 (h, w), floats from
            0 to 1 or from 0 to 255.

    Raises:
        ImageError: The array has an unsupported shape or type.
    """
    try:
        if array.ndim not in (2, 3) or array.dtype.str[1:] not in _LEVELS:  # of which Pillow makes something
            raise ValueError
        image = Image.fromarray(array)
    except (TypeError, ValueError) as error:
        got = f"{array.dtype} {array.shape}"
        raise ImageError("unsupported", f"expected a uint8 array (h, w) or alike, got {got}") from error
    return from_image(image)


def _guarded(decoding: Callable[[], Decoded]) -> Decoded:
    try:
        return decoding()
    except ImageError:
        raise
    except UnidentifiedImageError:
        raise ImageError("not-an-image", "not a PNG, JPEG, BMP, GIF, WEBP, TIFF or PNM picture") from None
    except (MemoryError, Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise ImageError("too-large", f"expected at most {MAX_PIXELS} pixels, got more than can be decoded") from None
    except Exception as error:  # damaged files make Pillow raise nearly anything: SyntaxError, struct.error, KeyError …
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise ImageError("damaged", f"the picture is damaged: {reason}") from None


def _upright(
    image: Image.Image, full: tuple[int, int], box: tuple[float, float, float, float] | None = None
) -> Decoded:
    image.load()
    if not min(image.size):
        raise ImageError("empty", f"expected one pixel or more, got {image.width} x {image.height}")
    if image.format not in ("JPEG", "MPO"):
        full = image.size  # a TIFF turns itself upright while it loads
    orientation = _orientation(image)
    picture = _eight_bit(image)
    if orientation in _TURNS:
        picture = picture.transpose(_TURNS[orientation])
    across, down = (box[2], box[3]) if box else image.size
    if orientation in (5, 6, 7, 8):
        full, (across, down) = full[::-1], (down, across)
    left = picture.width - across if orientation in _END_LEFT else 0
    top = picture.height - down if orientation in _END_ABOVE else 0
    return Decoded(picture, *full, (left, top, left + across, top + down))


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(0x0112, 1))
    except Exception:  # damaged EXIF beside good pixels: the picture is taken as it lies
        return 1


def _eight_bit(image: Image.Image) -> Image.Image:
    mode = image.mode
    if mode.startswith("I;16") or mode in ("I", "F"):
        return _scaled(image)
    if image.has_transparency_data:
        return image.convert("LA" if mode in ("1", "L", "LA", "La") else "RGBA")
    if mode in ("L", "RGB"):
        return image
    if mode == "1":
        return image.convert("L")
    if mode == "LAB":  # Pillow converts it only through colour profiles; its first channel is the lightness
        return image.getchannel(0)
    return image.convert("RGB")


def _scaled(image: Image.Image) -> Image.Image:
    """Bring grey levels of 16 bits (12 or 32 in some TIFFs; or floats) to 8; above 65535 all is white."""
    values = np.asarray(image)
    bits, is_white_zero, is_float = 16, False, image.mode == "F"
    if isinstance(image, TiffImageFile):
        is_white_zero = _tag(image, "PhotometricInterpretation", 1) == 0
        bits = _tag(image, "BitsPerSample", 16)
        if bits == 32 and _tag(image, "SampleFormat", 1) == 1:  # unsigned, which Pillow has no mode for
            values = values.view(np.uint32)
    if image.mode == "I" and image.format is None and values.max() <= 255:  # no file's; 8 bits, or nothing but black
        raise ImageError("unsupported", "expected levels of 16 bits in 32, got none above 255; make them 8 bits")
    white = _white_of(values) if is_float else 4095 if bits == 12 else 65535
    levels = np.empty(values.shape, np.uint8)
    rows = max(1, _STRIP // max(1, image.width))
    for first in range(0, len(values), rows):  # of a whole picture there would be several copies, in 32 bits
        strip, into = values[first : first + rows], levels[first : first + rows]
        if is_float:
            into[:] = (np.clip(np.nan_to_num(strip, posinf=white), 0, white) * (255 / white)).round()
        else:
            into[:] = (np.clip(strip, 0, white).astype(np.uint32) * 255 + white // 2) // white
    if is_white_zero and not is_float:
        np.subtract(255, levels, out=levels)
    grey = Image.fromarray(levels)
    transparent = image.info.get("transparency")
    if isinstance(transparent, int):
        return Image.merge("LA", (grey, Image.fromarray(np.where(values == transparent, 0, 255).astype(np.uint8))))
    return grey


def _white_of(values: np.ndarray[Any, Any]) -> int:
    """Return what is white among floats: 1 or 255, though scaling a picture may go beyond."""
    most = float(np.max(values, where=np.isfinite(values), initial=0.0))
    if most > _BEYOND * 255:
        raise ImageError("unsupported", f"expected floats from 0 to 1 or from 0 to 255, got {most:g}")
    return 1 if most <= _BEYOND else 255


def _tag(image: TiffImageFile, name: str, otherwise: int) -> int:
    """Return a TIFF's tag, the first of its values."""
    value = image.tag_v2.get(getattr(ExifTags.Base, name), otherwise)
    return int(value[0] if isinstance(value, tuple) else value)


def _refuse_path(error: OSError | ValueError) -> NoReturn:
    if isinstance(error, OSError) and error.errno == errno.ENXIO:  # what opening a socket gives
        raise ImageError("not-a-file", "expected a picture file, got a socket or device") from None
    if isinstance(error, FileNotFoundError):
        raise ImageError("not-found", "there is no such file") from None
    reason = error.strerror if isinstance(error, OSError) else error
    raise ImageError("unreadable", f"the file cannot be read: {reason}") from None
