import io
import struct
import warnings
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

from ovs_core.image import ImageError, Photo, display_copy, frame_size, read_photo, to_frame

RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)


def _corners(mode="RGB"):
    """4 x 6 pixels, black but for red top left, green top right and blue bottom left."""
    pixels = np.zeros((4, 6, 3), np.uint8)
    pixels[0, 0], pixels[0, -1], pixels[-1, 0] = RED, GREEN, BLUE
    return Image.fromarray(pixels).convert(mode)


def _encoded(image, kind, **options):
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def _noise(height=64, width=80):
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "PPM", "GIF"])
def test_lossless_files_come_back_exactly(tmp_path, kind):
    path = tmp_path / f"my photo.{kind.lower()}"
    _corners().save(path, kind)
    for source in (path, str(path)):
        photo = read_photo(source)
        assert np.array_equal(photo.pixels, np.array(_corners()))
        assert photo.name == "my photo"
        assert photo.notes == ()
        assert photo.size == (4, 6)
    assert np.array_equal(read_photo(path.read_bytes()).pixels, photo.pixels)
    assert np.array_equal(read_photo(_corners()).pixels, photo.pixels)
    assert read_photo(Image.open(path)).name == "my photo"


@pytest.mark.parametrize("kind", ["JPEG", "WEBP"])
def test_lossy_files_come_back_closely(kind):
    flat = Image.new("RGB", (20, 10), (200, 100, 50))
    pixels = read_photo(_encoded(flat, kind, quality=95)).pixels
    assert np.abs(pixels.astype(int) - (200, 100, 50)).max() <= 4


# Orientation -> (row, column) at which the file stores what belongs top left, top right and bottom left.
STORED = {
    1: ((0, 0), (0, -1), (-1, 0)),
    2: ((0, -1), (0, 0), (-1, -1)),
    3: ((-1, -1), (-1, 0), (0, -1)),
    4: ((-1, 0), (-1, -1), (0, 0)),
    5: ((0, 0), (-1, 0), (0, -1)),
    6: ((-1, 0), (0, 0), (-1, -1)),
    7: ((-1, -1), (0, -1), (-1, 0)),
    8: ((0, -1), (-1, -1), (0, 0)),
}


@pytest.mark.parametrize("orientation", STORED)
@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PIL"])
def test_exif_orientation_is_applied(orientation, kind):
    pixels = np.zeros((4, 6, 3), np.uint8)
    for place, color in zip(STORED[orientation], (RED, GREEN, BLUE), strict=True):
        pixels[place] = color
    image = Image.fromarray(pixels)
    exif = Image.Exif()
    exif[0x0112] = orientation
    if kind == "PIL":
        image.getexif()[0x0112] = orientation
    upright = read_photo(image if kind == "PIL" else _encoded(image, kind, exif=exif)).pixels
    assert upright.shape == ((4, 6, 3) if orientation < 5 else (6, 4, 3))
    assert tuple(upright[0, 0]) == RED
    assert tuple(upright[0, -1]) == GREEN
    assert tuple(upright[-1, 0]) == BLUE


@pytest.mark.parametrize("value", [0, 9, 700])
def test_orientations_that_do_not_exist_change_nothing(value):
    exif = Image.Exif()
    exif[0x0112] = value
    assert np.array_equal(read_photo(_encoded(_corners(), "PNG", exif=exif)).pixels, np.array(_corners()))


def test_a_broken_exif_block_does_not_cost_the_photo():
    data = _encoded(Image.new("RGB", (8, 6), RED), "JPEG", exif=b"Exif\x00\x00II*\x00\xff\xff\xff\xff")
    assert read_photo(data).size == (6, 8)


def test_transparency_is_laid_on_white():
    pixels = np.array([[[255, 0, 0, 255], [255, 0, 0, 0], [0, 0, 0, 128]]], np.uint8)
    expected = [[[255, 0, 0], [255, 255, 255], [127, 127, 127]]]
    assert read_photo(_encoded(Image.fromarray(pixels), "PNG")).pixels.tolist() == expected
    assert read_photo(pixels).pixels.tolist() == expected
    grey = Image.fromarray(pixels).convert("LA")
    assert read_photo(grey).pixels[0, 1:].tolist() == expected[0][1:]
    assert read_photo(grey.convert("La")).pixels[0, 1:].tolist() == expected[0][1:]
    assert read_photo(Image.fromarray(pixels).convert("RGBa")).pixels.tolist() == expected


def test_palette_transparency_is_laid_on_white():
    image = Image.new("P", (2, 1))
    image.putpalette([255, 0, 0, 0, 255, 0])
    image.putpixel((1, 0), 1)
    assert read_photo(_encoded(image, "PNG", transparency=0)).pixels.tolist() == [
        [[255, 255, 255], [0, 255, 0]]
    ]
    assert read_photo(image).pixels.tolist() == [[[255, 0, 0], [0, 255, 0]]]


@pytest.mark.parametrize("mode", ["1", "L", "P", "CMYK", "YCbCr", "HSV", "LAB", "RGBX"])
def test_every_colour_mode_becomes_rgb(mode):
    white = Image.new("RGB", (3, 2), (255, 255, 255))
    image = Image.new("LAB", (3, 2), (255, 128, 128)) if mode == "LAB" else white.convert(mode)
    pixels = read_photo(image).pixels
    assert pixels.shape == (2, 3, 3)
    assert pixels.min() >= 250


def test_cmyk_files_are_read_as_colours():
    red = Image.new("RGB", (16, 16), RED).convert("CMYK")
    pixels = read_photo(_encoded(red, "JPEG", quality=95)).pixels
    assert np.abs(pixels.astype(int) - RED).max() <= 5


def test_sixteen_bits_use_the_full_range():
    levels = np.array([[0, 257, 32768, 65535]], np.uint16)
    expected = [[[0] * 3, [1] * 3, [128] * 3, [255] * 3]]
    assert read_photo(levels).pixels.tolist() == expected
    assert read_photo(_encoded(Image.fromarray(levels), "PNG")).pixels.tolist() == expected
    assert read_photo(_encoded(Image.fromarray(levels), "TIFF")).pixels.tolist() == expected


@pytest.mark.parametrize(
    ("values", "expected", "notes"),
    [
        (np.array([[0, 65535]], np.int32), [0, 255], 0),
        (np.array([[0, 200]], np.int32), [0, 200], 0),  # 8 bits in a wide coat
        (np.array([[-100, 100]], np.int32), [0, 255], 1),
        (np.array([[0, 1_000_000]], np.int32), [0, 255], 1),
        (np.array([[0.0, 1.0]], np.float32), [0, 255], 0),
        (np.array([[0.0, 100.0]], np.float32), [0, 100], 0),
        (np.array([[-5.0, -5.0]], np.float32), [0, 0], 1),
    ],
)
def test_thirty_two_bits_are_scaled(values, expected, notes):
    photo = read_photo(Image.fromarray(values))
    assert photo.pixels[0, :, 0].tolist() == expected
    assert len(photo.notes) == notes


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (np.array([[False, True]]), [0, 255]),
        (np.array([[0.0, 0.5]]), [0, 128]),
        (np.array([[0, 255]], np.int64), [0, 255]),
        (np.array([[[7], [9]]], np.uint8), [7, 9]),
    ],
)
def test_arrays_of_many_types_are_read(values, expected):
    photo = read_photo(values)
    assert photo.pixels[0, :, 1].tolist() == expected
    assert photo.name == "photo"


def test_a_photo_does_not_change_with_the_array_it_came_from():
    source = _noise()
    photo = read_photo(source)
    source[:] = 0
    assert photo.pixels.any()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.zeros((3, 4, 5), np.uint8), r"\(H, W, 4\), got \(3, 4, 5\)"),
        (np.zeros(7, np.uint8), r"got \(7,\)"),
        (np.zeros((0, 4, 3), np.uint8), "no pixels"),
        (np.full((2, 2), 1.5), r"must lie in \[0, 1\], got \[1.5, 1.5\]"),
        (np.full((2, 2), np.nan), r"must lie in \[0, 1\]"),
        (np.full((2, 2), 256), r"must lie in \[0, 255\]"),
        (np.full((2, 2), "a"), "must hold numbers"),
        (np.broadcast_to(np.uint8(0), (10_001, 10_000)), "more than 100 megapixels"),
    ],
)
def test_arrays_that_are_no_photo_are_refused(values, message):
    with pytest.raises(ImageError, match=message):
        read_photo(values)


def test_values_that_are_not_numbers_are_refused():
    with pytest.raises(ImageError, match="not numbers"):
        read_photo(Image.fromarray(np.array([[0.0, np.nan]], np.float32)))


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "TIFF"])
def test_animations_give_their_first_frame_with_a_note(kind):
    frames = [Image.new("RGB", (8, 6), color) for color in (RED, GREEN, BLUE)]
    lossless = {"lossless": True} if kind == "WEBP" else {}
    photo = read_photo(_encoded(frames[0], kind, save_all=True, append_images=frames[1:], **lossless))
    assert tuple(photo.pixels[3, 4]) == RED
    assert photo.notes == ("This file holds 3 pictures; the first one is used.",)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF", "BMP"])
@pytest.mark.parametrize("part", [0.1, 0.5, 0.9])
def test_truncated_files_are_refused_by_name(tmp_path, kind, part):
    data = _encoded(Image.fromarray(_noise()), kind)
    path = tmp_path / "holiday.jpg"
    path.write_bytes(data[: int(len(data) * part)])
    with pytest.raises(ImageError, match=r'^"holiday\.jpg" is ') as caught:
        read_photo(path)
    assert str(caught.value).count("\n") == 0


def test_damaged_bytes_end_in_a_photo_or_a_sentence():
    generator = np.random.default_rng(1)
    seen = set()
    for kind in ("PNG", "JPEG", "GIF", "WEBP", "TIFF", "BMP"):
        original = np.frombuffer(_encoded(Image.fromarray(_noise()), kind), np.uint8)
        for _ in range(30):
            data = original.copy()
            places = generator.integers(0, len(data), 8)
            data[places] = generator.integers(0, 256, 8)
            data[generator.integers(0, 60)] ^= 255
            try:
                photo = read_photo(data.tobytes())
            except ImageError as error:
                seen.add(str(error))
            else:
                assert photo.pixels.dtype == np.uint8
    assert len(seen) > 1
    assert all(sentence.endswith(".") for sentence in seen)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r'^"notes.png" is empty \(0 bytes\)\.$'),
        (b"dear diary, " * 99, '^"notes.png" is not a picture that can be read'),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not a picture"),  # would start Ghostscript
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "not a picture"),
    ],
)
def test_files_that_are_no_picture_are_refused_by_name(tmp_path, content, message):
    path = tmp_path / "notes.png"
    path.write_bytes(content)
    with pytest.raises(ImageError, match=message):
        read_photo(path)


def test_paths_that_are_no_file_are_refused_by_name(tmp_path):
    with pytest.raises(ImageError, match=r'There is no file ".*gone\.jpg"'):
        read_photo(tmp_path / "gone.jpg")
    with pytest.raises(ImageError, match="is a folder, not a photo"):
        read_photo(str(tmp_path))
    with pytest.raises(ImageError, match=r"cannot be opened|no file"):
        read_photo(tmp_path / ("x" * 5000))


def _png_header(width, height):
    """A PNG that claims a size and holds next to nothing."""

    def chunk(kind, data):
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b""))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("size", [(10_001, 10_000), (20_000, 20_000), (2**31 - 1, 2**31 - 1)])
@pytest.mark.parametrize("strict", [False, True])
def test_bombs_are_refused_from_their_header(tmp_path, size, strict):
    path = tmp_path / "bomb.png"
    path.write_bytes(_png_header(*size))
    limit = Image.MAX_IMAGE_PIXELS
    with warnings.catch_warnings():
        warnings.simplefilter("error" if strict else "ignore", Image.DecompressionBombWarning)
        with pytest.raises(ImageError, match=r'^"bomb.png" .*100 megapixels; make it smaller first\.$'):
            read_photo(path)
    assert limit == Image.MAX_IMAGE_PIXELS


def test_photos_are_known_by_their_pixels():
    first, second = read_photo(_noise()), Photo(_noise(), name="another")
    assert first.key == second.key
    assert len(first.key) == 64
    turned = Photo(np.zeros((2, 3, 3), np.uint8)), Photo(np.zeros((3, 2, 3), np.uint8))
    assert turned[0].key != turned[1].key


def test_a_photo_must_be_eight_bit_rgb():
    with pytest.raises(ImageError, match="must be"):
        Photo(np.zeros((2, 3), np.uint8))


@pytest.mark.parametrize(
    ("image_size", "short_side", "multiple", "expected"),
    [
        ((480, 640), 336, 16, (336, 448)),
        ((640, 480), 336, 16, (448, 336)),
        ((1, 1), 224, 16, (224, 224)),
        ((3000, 4000), 224, 14, (224, 294)),  # 298.7 is 21.3 patches
        ((100, 300), 224, 32, (224, 672)),
        ((100, 400), 224, 16, (224, 896)),
        ((100, 800), 224, 16, (112, 896)),  # longer than 4 : 1 shrinks
        ((800, 100), 224, 16, (896, 112)),
        ((100, 20_000), 336, 16, (16, 1344)),  # never less than one patch
        ((1, 100_000), 336, 16, (16, 1344)),
        ((480, 640), 100, 32, (96, 128)),
    ],
)
def test_frame_sizes_worked_by_hand(image_size, short_side, multiple, expected):
    assert frame_size(image_size, short_side, multiple) == expected


def test_frame_sizes_need_positive_numbers():
    with pytest.raises(ValueError, match="must be positive"):
        frame_size((0, 5), 224, 16)
    with pytest.raises(ValueError, match="max_ratio at least 1"):
        frame_size((5, 5), 224, 16, max_ratio=0.5)


def test_a_frame_of_the_same_size_keeps_every_value():
    pixels = _noise(5, 7)
    frame = to_frame(pixels, (5, 7))
    assert frame.shape == (3, 5, 7)
    assert frame.dtype == torch.float32
    assert torch.equal(frame, torch.from_numpy(pixels).permute(2, 0, 1) / 255)


def test_a_smaller_frame_is_antialiased():
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::2] = 255  # finer than the frame: must become even grey, not stripes
    frame = to_frame(stripes, (8, 16))
    assert frame.shape == (3, 8, 16)
    assert abs(frame[:, :, 2:-2] - 0.5).max() < 0.03


def test_frames_follow_the_bilinear_rule():
    pixels = _noise(6, 9)
    expected = torch.nn.functional.interpolate(
        torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255,
        size=(12, 5),
        mode="bilinear",
        antialias=True,
    )[0]
    assert (to_frame(pixels, (12, 5)) - expected).abs().max() < 1.6 / 255


def test_display_copies_are_small_and_apart():
    pixels = _noise(300, 2000)
    small = display_copy(pixels, 1000)
    assert small.shape == (150, 1000, 3)
    assert display_copy(_noise(1, 5000), 100).shape == (1, 100, 3)
    same = display_copy(pixels, 2000)
    assert np.array_equal(same, pixels)
    assert not np.shares_memory(same, pixels)
