import io
import os
import socket
import struct
import tracemalloc
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from rnnspn.errors import ImageError
from rnnspn.pictures import decoding
from rnnspn.pictures.decoding import decode, from_array, from_image, read_bytes


def _encoded(image: Image.Image, form: str = "PNG", **options) -> bytes:
    stream = io.BytesIO()
    image.save(stream, form, **options)
    return stream.getvalue()


def _grey(data: bytes) -> list:
    return np.asarray(decode(data).image.convert("L")).tolist()


GREY = Image.fromarray(np.array([[0, 100, 255], [10, 20, 30]], np.uint8))


@pytest.mark.parametrize("form", ["PNG", "BMP", "GIF", "TIFF", "PPM"])
def test_lossless_formats_give_the_levels_back(form):
    assert _grey(_encoded(GREY, form)) == [[0, 100, 255], [10, 20, 30]]


def test_webp_gives_the_levels_back():
    assert _grey(_encoded(GREY.convert("RGB"), "WEBP", lossless=True)) == [[0, 100, 255], [10, 20, 30]]


def test_jpeg_comes_close_to_the_levels():
    flat = Image.new("L", (16, 16), 77)
    assert np.abs(np.array(_grey(_encoded(flat, "JPEG"))) - 77).max() <= 2


def test_sixteen_bits_are_scaled_and_not_cut():
    levels = np.array([[0, 128, 129, 257, 25700, 65535]], np.uint16)
    assert _grey(_encoded(Image.fromarray(levels))) == [[0, 0, 1, 1, 100, 255]]


def test_every_one_of_the_65536_levels_goes_to_the_nearest_of_256():
    levels = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    nearest = [[(2 * level * 255 + 65535) // (2 * 65535) for level in row] for row in levels.tolist()]
    assert _grey(_encoded(Image.fromarray(levels))) == nearest


def test_sixteen_bit_transparency_counts():
    image = Image.fromarray(np.array([[500, 65535]], np.uint16))
    decoded = decode(_encoded(image, transparency=500))
    assert decoded.image.mode == "LA"
    assert np.asarray(decoded.image.getchannel("A")).tolist() == [[0, 255]]


def test_sixteen_bit_pnm_is_scaled():
    assert _grey(b"P5 2 1 65535 " + struct.pack(">2H", 0, 25700)) == [[0, 100]]


def test_twelve_bit_pnm_uses_its_whole_range():
    assert _grey(b"P5 2 1 4095 " + struct.pack(">2H", 0, 4095)) == [[0, 255]]


@pytest.mark.parametrize(
    ("floats", "levels"),
    [
        ([0.0, 0.5, 1.0, np.nan], [0, 128, 255, 0]),
        ([-0.01, 0.5, 1.002, np.inf], [0, 128, 255, 255]),  # as after scaling
        ([-3.0, 127.6, 255.0, np.nan], [0, 128, 255, 0]),
        ([0.0, 0.4, 300.0, -np.inf], [0, 0, 255, 0]),
        ([0.0, 0.0, 0.0, np.nan], [0, 0, 0, 0]),
    ],
)
def test_floats_are_scaled_by_what_is_white_among_them(floats, levels):
    stream = _encoded(Image.fromarray(np.array([floats], np.float32)), "TIFF")
    assert _grey(stream) == [levels]


def test_floats_of_which_nobody_knows_what_is_white_are_refused():
    with pytest.raises(ImageError, match="from 0 to 255, got 65535") as refused:
        decode(_encoded(Image.fromarray(np.array([[0.0, 65535.0]], np.float32)), "TIFF"))
    assert refused.value.code == "unsupported"


def test_a_big_picture_of_sixteen_bits_is_not_taken_several_times():
    image = Image.fromarray(np.full((3000, 3000), 25700, np.uint16))
    tracemalloc.start()
    levels = np.asarray(from_image(image).image)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert levels.min() == levels.max() == 100
    assert most < 5 * levels.size  # its own 16 bits, and 8 twice


def test_one_bit_is_black_and_white():
    assert _grey(_encoded(GREY.point(lambda level: 255 * (level > 50)).convert("1"))) == [[0, 255, 255], [0, 0, 0]]


def test_a_palette_is_looked_up():
    image = Image.frombytes("P", (3, 1), bytes([0, 1, 2]))
    image.putpalette([0, 0, 0, 255, 255, 255, 50, 50, 50])
    assert _grey(_encoded(image)) == [[0, 255, 50]]


def test_cmyk_becomes_the_grey_it_prints():
    image = Image.frombytes("CMYK", (3, 1), bytes([0, 0, 0, 0, 0, 0, 0, 255, 0, 0, 0, 155]))
    assert _grey(_encoded(image, "TIFF")) == [[255, 0, 100]]


def test_lab_becomes_its_lightness():
    assert _grey(_encoded(Image.frombytes("LAB", (2, 1), bytes([10, 128, 128, 200, 128, 128])), "TIFF")) == [[10, 200]]


@pytest.mark.parametrize("mode", ["LA", "RGBA"])
def test_alpha_is_kept(mode):
    image = Image.new(mode, (2, 1))
    assert decode(_encoded(image)).image.mode == mode


def test_a_transparent_palette_entry_is_alpha():
    image = Image.frombytes("P", (2, 1), bytes([0, 1]))
    image.putpalette([9, 9, 9, 200, 200, 200])
    decoded = decode(_encoded(image, transparency=0))
    assert np.asarray(decoded.image.getchannel("A")).tolist() == [[0, 255]]


def test_the_first_frame_of_an_animation_counts():
    frames = [Image.new("L", (2, 1), level) for level in (40, 200)]
    assert _grey(_encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])) == [[40, 40]]


ORIENTED = {
    1: [[1, 2, 3], [4, 5, 6]],
    2: [[3, 2, 1], [6, 5, 4]],
    3: [[6, 5, 4], [3, 2, 1]],
    4: [[4, 5, 6], [1, 2, 3]],
    5: [[1, 4], [2, 5], [3, 6]],
    6: [[4, 1], [5, 2], [6, 3]],
    7: [[6, 3], [5, 2], [4, 1]],
    8: [[3, 6], [2, 5], [1, 4]],
}


@pytest.mark.parametrize("form", ["PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_makes_it_upright(orientation, form):
    stored = Image.fromarray(np.array([[1, 2, 3], [4, 5, 6]], np.uint8) * 40)
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True} if form == "WEBP" else {}
    decoded = decode(_encoded(stored.convert("RGB"), form, exif=exif, **options))
    upright = np.asarray(decoded.image.convert("L")) // 40
    assert upright.tolist() == ORIENTED[orientation]
    assert (decoded.width, decoded.height) == upright.shape[::-1]


@pytest.mark.parametrize("orientation", [1, 6])
def test_a_big_jpeg_is_reduced_and_its_full_size_remembered(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    decoded = decode(_encoded(Image.new("L", (1600, 1200), 9), "JPEG", exif=exif), detail=300)
    assert max(decoded.image.size) == 400
    assert (decoded.width, decoded.height) == ((1600, 1200) if orientation == 1 else (1200, 1600))


def test_damaged_exif_does_not_cost_the_picture():
    assert _grey(_encoded(GREY, exif=b"Exif\0\0II*\0\xff\xff\xff\xff")) == [[0, 100, 255], [10, 20, 30]]


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"this is no picture", "not-an-image"),
        (_encoded(GREY)[:50], "damaged"),
        (_encoded(Image.new("RGB", (50, 50)), "PDF"), "not-an-image"),
        (_encoded(Image.new("RGB", (50, 50)), "EPS"), "not-an-image"),
        (_encoded(Image.new("RGB", (50, 50)), "ICO"), "not-an-image"),
    ],
)
def test_what_is_no_picture_is_refused_with_a_code(data, code):
    with pytest.raises(ImageError) as refused:
        decode(data)
    assert refused.value.code == code
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("side", [8001, 20000, 60000])
def test_a_bomb_is_refused_before_it_unfolds(side):
    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    chunk = struct.pack(">I", 13) + b"IHDR" + header + struct.pack(">I", zlib.crc32(b"IHDR" + header))
    idat = zlib.compress(bytes(1000))
    data = struct.pack(">I", len(idat)) + b"IDAT" + idat + struct.pack(">I", zlib.crc32(b"IDAT" + idat))
    with pytest.raises(ImageError) as refused:
        decode(b"\x89PNG\r\n\x1a\n" + chunk + data)
    assert refused.value.code == "too-large"


def test_a_picture_of_64_million_pixels_is_the_largest_that_is_read():
    decoded = decode(b"P4 8000 8000 " + bytes(8_000_000))
    assert (decoded.width, decoded.height) == (8000, 8000)
    with pytest.raises(ImageError, match="at most 64000000 pixels, got 8000 x 8001"):
        decode(b"P4 8000 8001 " + bytes(8_001_000))


@pytest.mark.parametrize("shape", ["{} 1", "1 {}"])
def test_a_side_of_65535_pixels_is_the_longest_that_is_read(shape):
    assert max(decode(f"P4 {shape.format(65_535)} ".encode() + bytes(65_535)).image.size) == 65_535
    with pytest.raises(ImageError, match="at most 65535 pixels a side"):
        decode(f"P4 {shape.format(65_536)} ".encode() + bytes(65_536))


def test_a_tile_may_not_be_larger_than_a_picture():
    tags = [(256, 64), (257, 64), (258, 8), (259, 1), (262, 1), (277, 1), (324, 8), (325, 4)]

    def tiled(side: int) -> bytes:
        fields = sorted([*tags, (322, side), (323, side)])
        entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in fields)
        return struct.pack("<2sHII", b"II", 42, 12, 0) + struct.pack("<H", len(fields)) + entries + bytes(4 + 64 * 64)

    assert decode(tiled(64)).image.size == (64, 64)
    with pytest.raises(ImageError, match="at most 64000000 pixels, got 40000 x 40000") as refused:
        decode(tiled(40_000))
    assert refused.value.code == "too-large"


def _progressive(scans: int) -> bytes:
    """Make a grey JPEG of 64 x 64 pixels whose last scan, which changes nothing, comes again and again."""

    def segment(marker: int, *parts: bytes) -> bytes:
        return struct.pack(">BBH", 0xFF, marker, 2 + len(b"".join(parts))) + b"".join(parts)

    def table(kind: int, symbol: int) -> bytes:
        return segment(0xC4, bytes([kind, 1, *[0] * 15, symbol]))

    header = segment(0xDB, b"\0" + b"\1" * 64) + segment(0xC2, struct.pack(">BHHBBBB", 8, 64, 64, 1, 1, 0x11, 0))
    levels = segment(0xDA, bytes([1, 1, 0, 0, 0, 0])) + bytes(8)
    nothing = segment(0xDA, bytes([1, 1, 0, 1, 63, 0])) + b"\0\0"
    return b"\xff\xd8" + header + table(0, 0) + table(0x10, 0xE0) + levels + nothing * (scans - 1) + b"\xff\xd9"


def test_a_jpeg_may_not_go_over_its_picture_again_and_again():
    assert decode(_progressive(100)).image.size == (64, 64)
    with pytest.raises(ImageError, match="at most 100 scans in a JPEG, got 101") as refused:
        decode(_progressive(101))
    assert refused.value.code == "too-large"


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ValueError("two\nlines"), "two lines"),
        (KeyError(), "KeyError"),
        (SyntaxError("x" * 999), "x" * 200),
    ],
)
def test_whatever_a_decoder_raises_is_told_in_one_short_line(monkeypatch, error, reason):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr(decoding.Image, "open", fail)
    with pytest.raises(ImageError) as refused:
        decode(b"")
    assert str(refused.value) == f"the picture is damaged: {reason}"
    assert refused.value.code == "damaged"


@settings(max_examples=200, deadline=None)
@given(
    st.integers(0, 10**6), st.integers(0, 255), st.sampled_from(["PNG", "GIF", "TIFF", "BMP", "JPEG", "WEBP", "PPM"])
)
def test_a_flipped_byte_gives_a_picture_or_an_image_error(position, value, form):
    data = bytearray(_encoded(GREY.convert("RGB"), form))
    data[position % len(data)] = value
    try:
        outcome = decode(bytes(data)).image.mode
    except ImageError as error:
        outcome = error.code
    assert outcome in ("L", "LA", "RGB", "RGBA", "not-an-image", "damaged", "too-large")


@pytest.mark.parametrize("form", ["PNG", "GIF", "TIFF", "BMP", "JPEG", "WEBP", "PPM"])
def test_every_truncation_gives_a_picture_or_an_image_error(form):
    data = _encoded(Image.effect_noise((40, 30), 80).convert("RGB"), form)
    codes = set()
    for length in range(1, len(data) - 8, 37):
        try:
            decode(data[:length])
        except ImageError as error:
            codes.add(error.code)
    assert codes <= {"not-an-image", "damaged"}
    assert codes


def test_a_vanished_file_is_not_found(tmp_path):
    with pytest.raises(ImageError) as refused:
        read_bytes(tmp_path / "none.png")
    assert refused.value.code == "not-found"


@pytest.mark.parametrize(("number", "reason"), [(13, "Permission denied"), (5, "Input/output error")])
def test_a_file_that_the_system_refuses_is_unreadable_for_its_reason(monkeypatch, number, reason):
    def fail(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(decoding.os, "open", fail)
    with pytest.raises(ImageError, match=reason) as refused:
        read_bytes("a.png")
    assert refused.value.code == "unreadable"


def test_an_empty_file_is_empty(tmp_path):
    (tmp_path / "empty.png").touch()
    with pytest.raises(ImageError) as refused:
        read_bytes(tmp_path / "empty.png")
    assert refused.value.code == "empty"


def test_pipes_sockets_and_folders_are_no_files_and_nothing_hangs(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "socket.png"))
        for path in (tmp_path / "pipe.png", tmp_path / "socket.png", tmp_path):
            with pytest.raises(ImageError) as refused:
                read_bytes(path)
            assert refused.value.code == "not-a-file"


def test_a_huge_file_is_refused_unread(tmp_path, monkeypatch):
    monkeypatch.setattr(decoding, "MAX_BYTES", 2**20)
    with (tmp_path / "huge.png").open("wb") as file:
        file.truncate(2**20 + 1)
    with pytest.raises(ImageError) as refused:
        read_bytes(tmp_path / "huge.png")
    assert refused.value.code == "too-large"


def test_a_file_of_128_mib_is_the_largest_that_is_read(tmp_path):
    path = tmp_path / "large.png"
    with path.open("wb") as file:
        file.truncate(128 * 1024 * 1024)
    assert len(read_bytes(path)) == 134_217_728
    with path.open("ab") as file:
        file.write(b"x")
    with pytest.raises(ImageError, match="at most 128 MiB, got 128 MiB"):
        read_bytes(path)
    with path.open("ab") as file:
        file.truncate(300 * 1024 * 1024)
    with pytest.raises(ImageError, match="at most 128 MiB, got 300 MiB"):
        read_bytes(path)


def test_a_file_that_comes_in_pieces_is_read_whole(tmp_path, monkeypatch):
    content, read = bytes(range(256)), os.read
    (tmp_path / "a.png").write_bytes(content)
    monkeypatch.setattr(decoding.os, "read", lambda handle, size: read(handle, min(size, 7)))
    assert read_bytes(tmp_path / "a.png") == content


def test_a_file_that_grows_or_shrinks_meanwhile_is_read_as_far_as_it_was_and_is(tmp_path, monkeypatch):
    path, fstat, read = tmp_path / "a.png", os.fstat, os.read

    def resized(size):
        def status(handle):
            before = fstat(handle)
            os.truncate(path, size)
            return before

        return status

    monkeypatch.setattr(decoding.os, "read", lambda handle, size: read(handle, min(size, 7)))
    for size, expected in ((50, 20), (8, 8)):
        path.write_bytes(bytes(20))
        monkeypatch.setattr(decoding.os, "fstat", resized(size))
        assert len(read_bytes(path)) == expected


def test_a_path_with_a_zero_byte_is_unreadable():
    with pytest.raises(ImageError) as refused:
        read_bytes("a\0b.png")
    assert refused.value.code == "unreadable"


def test_arrays_of_the_usual_kinds_are_taken():
    assert np.asarray(from_array(np.full((2, 2), 7, np.uint8)).image).tolist() == [[7, 7], [7, 7]]
    assert np.asarray(from_array(np.full((2, 2), 25700, np.uint16)).image).tolist() == [[100, 100], [100, 100]]
    assert np.asarray(from_array(np.full((2, 2), 25700, ">u2")).image).tolist() == [[100, 100], [100, 100]]
    assert np.asarray(from_array(np.full((1, 1), 1.0, np.float32)).image).tolist() == [[255]]
    assert np.asarray(from_array(np.full((1, 1), 0.2, np.float64)).image).tolist() == [[51]]
    assert np.asarray(from_array(np.full((1, 1), True)).image).tolist() == [[255]]
    assert from_array(np.zeros((2, 2, 4), np.uint8)).image.mode == "RGBA"


@pytest.mark.parametrize("kind", ["int8", "int16", "int32", "int64", "uint32", "uint64", "float16", "complex128"])
def test_an_array_of_another_kind_is_refused(kind):
    with pytest.raises(ImageError, match=f"uint8 .* got {kind}") as refused:
        from_array(np.zeros((2, 2), kind))
    assert refused.value.code == "unsupported"


def test_a_pillow_image_is_left_as_it_was():
    image = Image.new("P", (3, 2), 1)
    from_image(image)
    assert image.mode == "P"


def test_levels_of_8_bits_in_32_are_refused():
    levels = np.arange(236, 256, dtype=np.int32).reshape(4, 5)
    with pytest.raises(ImageError, match="expected levels of 16 bits in 32, got none above 255"):
        from_image(Image.fromarray(levels))
    assert np.asarray(from_image(Image.fromarray(levels * 257)).image).tolist() == levels.tolist()


def test_pnm_of_16_bits_is_read():
    data = b"P5 2 1 65535\n" + bytes([0, 0, 255, 255])
    assert np.asarray(decode(data).image).tolist() == [[0, 255]]
