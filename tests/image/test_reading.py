from __future__ import annotations

import cv2
import numpy as np
import pytest
from PIL import Image

from onnxviz.errors import InputError
from onnxviz.image import is_picture, read_pixels


@pytest.fixture
def pixels():
    return np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)


def write(path, pixels):
    """Pixels in OpenCV's BGR(A) order into a file."""
    assert cv2.imwrite(str(path), pixels)
    return path


def test_files_are_read_in_rgb(tmp_path, pixels):
    path = write(tmp_path / "a.png", pixels[..., ::-1])
    np.testing.assert_array_equal(read_pixels(path), pixels)
    np.testing.assert_array_equal(read_pixels(str(path)), pixels)


def test_grey_and_sixteen_bits(tmp_path):
    ramp = np.arange(256, dtype=np.uint16).reshape(16, 16)
    for picture in (ramp.astype(np.uint8), ramp * 257):
        for source in (picture, write(tmp_path / "a.png", picture)):
            np.testing.assert_array_equal(read_pixels(source), np.repeat(ramp[..., None], 3, axis=2))
    deep = np.stack([ramp * 257, ramp, ramp], axis=2)
    np.testing.assert_array_equal(read_pixels(write(tmp_path / "b.png", deep[..., ::-1]))[..., 0], ramp)


def test_transparency_lies_over_white(tmp_path):
    picture = np.zeros((1, 3, 4), np.uint8)
    picture[..., 0] = 100
    picture[0, :, 3] = (0, 51, 255)
    expected = np.array([[[255, 255, 255], [224, 204, 204], [100, 0, 0]]])
    np.testing.assert_array_equal(read_pixels(picture), expected)
    np.testing.assert_array_equal(read_pixels(write(tmp_path / "a.png", picture[..., [2, 1, 0, 3]])), expected)


def jpeg_with_orientation(pixels, orientation):
    """A JPEG whose EXIF block holds one entry: tag 0x0112, the orientation."""
    content = cv2.imencode(".jpg", pixels)[1].tobytes()
    tiff = b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0" + bytes([orientation]) + b"\0\0\0\0\0\0"
    exif = b"Exif\0\0" + tiff
    return content[:2] + b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif + content[2:]


def test_exif_orientation_is_applied(tmp_path):
    picture = np.zeros((16, 32, 3), np.uint8)
    picture[:, :16] = 255
    path = tmp_path / "a.jpg"
    path.write_bytes(jpeg_with_orientation(picture, 1))
    assert read_pixels(path).shape == (16, 32, 3)
    path.write_bytes(jpeg_with_orientation(picture, 6))  # to be turned by a quarter to the right
    turned = read_pixels(path)
    assert turned.shape == (32, 16, 3)
    assert turned[:16].min() > 200
    assert turned[16:].max() < 50


@pytest.mark.parametrize("content", [b"", b"not a picture", b"\x89PNG\r\n\x1a\n"])
def test_what_is_no_picture(tmp_path, content):
    path = tmp_path / "a.png"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"a\.png.*not a picture"):
        read_pixels(path)


def test_a_missing_file_and_a_folder(tmp_path):
    for path in (tmp_path / "none.png", tmp_path):
        with pytest.raises(InputError, match="cannot read the picture"):
            read_pixels(path)


@pytest.mark.parametrize("array", [np.zeros((4, 4)), np.zeros((4, 4, 2), np.uint8), np.zeros((0, 4, 3), np.uint8)])
def test_what_is_no_array_of_pixels(array):
    with pytest.raises(InputError, match="the array has"):
        read_pixels(array)


def corner():
    """A picture without symmetry: red at the top left, blue at the bottom right."""
    pixels = np.full((16, 24, 3), 128, np.uint8)
    pixels[:8, :8], pixels[8:, 16:] = (255, 0, 0), (0, 0, 255)
    return pixels


TURNS = {
    1: lambda p: p, 2: lambda p: p[:, ::-1], 3: lambda p: p[::-1, ::-1], 4: lambda p: p[::-1],
    5: lambda p: p.swapaxes(0, 1), 6: lambda p: np.rot90(p, -1), 7: lambda p: p[::-1, ::-1].swapaxes(0, 1),
    8: np.rot90,
}  # fmt: skip
"""EXIF's orientation: what is to be done to the stored pixels (CIPA DC-008, 4.6.4)."""


@pytest.mark.parametrize("orientation", TURNS)
@pytest.mark.parametrize("suffix", ["png", "webp", "tiff"])
def test_every_orientation(tmp_path, orientation, suffix):
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = Image.fromarray(corner())
    image.save(tmp_path / f"a.{suffix}", exif=exif, **({"lossless": True} if suffix == "webp" else {}))
    expected = TURNS[orientation](corner())
    np.testing.assert_array_equal(read_pixels(tmp_path / f"a.{suffix}"), expected)
    with Image.open(tmp_path / f"a.{suffix}") as opened:
        np.testing.assert_array_equal(read_pixels(opened), expected)


def test_orientation_of_a_file_with_alpha(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(corner()).convert("RGBA").save(tmp_path / "a.png", exif=exif)
    np.testing.assert_array_equal(read_pixels(tmp_path / "a.png"), np.rot90(corner(), -1))


def palette_with_transparency(path):
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.putdata([0, 1])
    image.save(path, transparency=1)


def grey_with_alpha(path):
    Image.merge("LA", [Image.new("L", (2, 1), 100), Image.frombytes("L", (2, 1), bytes([255, 0]))]).save(path)


def sixteen_bits_of_grey(path):
    Image.fromarray(np.array([[0, 257 * 100]], np.uint16)).save(path)


KINDS = {
    "palette": ("gif", lambda p: Image.fromarray(np.uint8([[[9, 8, 7], [1, 2, 3]]])).quantize(4).save(p),
                [[9, 8, 7], [1, 2, 3]]),
    "palette, transparent": ("png", palette_with_transparency, [[10, 20, 30], [255, 255, 255]]),
    "grey, alpha": ("png", grey_with_alpha, [[100, 100, 100], [255, 255, 255]]),
    "black and white": ("png", lambda p: Image.frombytes("1", (2, 1), b"\x40").save(p), [[0, 0, 0], [255, 255, 255]]),
    "16 bits, PNG": ("png", sixteen_bits_of_grey, [[0, 0, 0], [100, 100, 100]]),
    "16 bits, TIFF": ("tiff", sixteen_bits_of_grey, [[0, 0, 0], [100, 100, 100]]),
    "16 bits, PGM": ("pgm", lambda p: p.write_bytes(b"P5 2 1 65535\n" + bytes([0, 0, 100, 100])),
                     [[0, 0, 0], [100, 100, 100]]),
    "CMYK": ("tiff", lambda p: Image.new("CMYK", (2, 1), (0, 255, 255, 0)).save(p), [[255, 0, 0], [255, 0, 0]]),
    "CMYK, JPEG": ("jpg", lambda p: Image.new("CMYK", (2, 1), (0, 255, 255, 0)).save(p, quality=100),
                   [[255, 0, 0], [255, 0, 0]]),
    "bitmap": ("bmp", lambda p: Image.fromarray(np.uint8([[[9, 8, 7], [1, 2, 3]]])).save(p), [[9, 8, 7], [1, 2, 3]]),
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_file(kind, tmp_path):
    suffix, write_to, expected = KINDS[kind]
    path = tmp_path / f"a.{suffix}"
    write_to(path)
    found = read_pixels(path)
    assert np.abs(found[0].astype(int) - expected).max() <= (1 if suffix == "jpg" else 0)


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tiff", "bmp"])
def test_files_that_are_cut_off(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    Image.fromarray(noise).save(path)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * 2 // 3])
    with pytest.raises(InputError, match=rf"a\.{suffix}' (is damaged|is not a picture)"):
        read_pixels(path)


def test_damaged_bytes_raise_nothing_else(tmp_path):
    path, rng = tmp_path / "a.png", np.random.default_rng(0)
    Image.fromarray(corner()).save(path)
    content, refused = path.read_bytes(), 0
    for _ in range(200):
        damaged = bytearray(content)
        damaged[rng.integers(8, len(content))] ^= 1 << rng.integers(8)
        path.write_bytes(damaged)
        try:
            assert read_pixels(path).shape[2] == 3
        except InputError:
            refused += 1
    assert refused > 50


def test_floating_point_and_wide_files_are_refused(tmp_path):
    for values, message in ((np.zeros((2, 2), np.float32), "floating-point"), (np.full((2, 2), 70000), "to 70000")):
        Image.fromarray(values.astype(np.int32) if values.dtype == int else values).save(tmp_path / "a.tiff")
        with pytest.raises(InputError, match=message):
            read_pixels(tmp_path / "a.tiff")


def test_what_counts_as_a_picture(tmp_path, pixels):
    for picture in ("a.png", tmp_path, pixels, pixels[..., 0], pixels.astype(np.uint16), Image.fromarray(pixels)):
        assert is_picture(picture)
    for other in (pixels[None], pixels / 255, [1, 2], None, 3):
        assert not is_picture(other)
