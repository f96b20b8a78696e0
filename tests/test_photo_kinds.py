"""Photos as people have them: depths, bands, alpha, metadata, kinds that are not read, and other types."""

import base64
import io
import itertools
import struct
import sys
import zlib

import numpy as np
import pytest
import torch
from made_tiff import made_tiff
from PIL import Image

from ovs_core.engine import Engine
from ovs_core.image import ImageError, read_photo

SIZE = (7, 9)


def encoded(image, kind, **options):
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def values(count, high, dtype="u2", seed=0):
    made = np.random.default_rng(seed).integers(0, high, (*SIZE, count))
    made[0, 0] = high - 1
    return made.astype(dtype)


def made_png(pixels, color_type, extra=b""):
    """A PNG of 16 bits per channel, which Pillow cannot write; `extra` stands before the pixels."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    height, width = pixels.shape[:2]
    lines = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    header = struct.pack(">IIBBBBB", width, height, 16, color_type, 0, 0, 0)
    parts = (chunk(b"IHDR", header), extra, chunk(b"IDAT", zlib.compress(lines)), chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


# depth


@pytest.mark.parametrize(("bits", "high"), [(8, 200), (10, 1000), (12, 3000), (12, 4096), (14, 9000)])
def test_grey_of_fewer_bits_in_sixteen_is_scaled_by_what_is_there(bits, high):
    grey = values(1, high)[..., 0]
    white = (1 << bits) - 1
    expected = np.floor(grey * (255 / white) + 0.5).astype(np.uint8)
    for source in (encoded(Image.fromarray(grey), "PNG"), encoded(Image.fromarray(grey), "TIFF"), grey):
        photo = read_photo(source)
        assert np.array_equal(photo.pixels, np.repeat(expected[..., None], 3, axis=2))
        (note,) = photo.notes
        assert note == f"Its 16-bit values end at {high - 1}; they were read as {bits} bits (0 to {white})."


@pytest.mark.parametrize("high", [20_000, 65_536])
def test_values_that_need_sixteen_bits_are_of_sixteen_bits(high):
    grey = values(1, high)[..., 0]
    photo = read_photo(encoded(Image.fromarray(grey), "PNG"))
    assert np.abs(photo.pixels[..., 0].astype(int) - grey / 257).max() <= 0.51
    assert photo.notes == ()
    assert read_photo(np.zeros((2, 3), np.uint16)).notes == ()  # black is black


@pytest.mark.parametrize(("color_type", "channels"), [(2, 3), (6, 4), (4, 2)])
def test_colours_of_twelve_bits_in_a_png_keep_all_of_them(color_type, channels):
    pixels = values(channels, 4096)
    if channels in (2, 4):
        pixels[..., -1] = 65535
    photo = read_photo(made_png(pixels, color_type))
    shown = pixels[..., [0, 0, 0]] if channels == 2 else pixels[..., :3]
    assert np.abs(photo.pixels.astype(int) - shown / 4095 * 255).max() <= 0.51
    assert "read as 12 bits" in photo.notes[0]


@pytest.mark.parametrize(("color_type", "channels"), [(2, 3), (6, 4), (4, 2)])
def test_colours_of_sixteen_bits_in_a_png_are_not_scaled(color_type, channels):
    pixels = values(channels, 65_536)
    pixels[..., -1] = 65535
    photo = read_photo(made_png(pixels, color_type))
    shown = pixels[..., [0, 0, 0]] if channels == 2 else pixels[..., :3]
    assert np.abs(photo.pixels.astype(int) - shown / 257).max() <= 1
    assert photo.notes == ()


@pytest.mark.parametrize("channels", [3, 4])
def test_arrays_of_twelve_bits(channels):
    pixels = values(channels, 4096)
    if channels == 4:
        pixels[..., 3] = 4095
    photo = read_photo(pixels)
    assert np.abs(photo.pixels.astype(int) - pixels[..., :3] / 4095 * 255).max() <= 0.51
    assert "12 bits" in photo.notes[0]


def test_a_photo_of_twelve_bits_is_answered_as_its_eight_bits_are(tmp_path):
    engine = Engine("cpu", offline=True, text_dir=tmp_path)
    eight = np.random.default_rng(1).integers(0, 256, (48, 64), np.uint8)
    twelve = (eight.astype(np.uint16) << 4) | (eight >> 4)
    answers = [
        engine.segment(encoded(Image.fromarray(one), "PNG"), "cat; sky").labels for one in (eight, twelve)
    ]
    assert np.array_equal(*answers)


# bands

ORDERS = ("<", ">")
FORMS = [
    {},
    {"rows": 3},
    {"apart": True},
    {"apart": True, "rows": 2},
    {"tile": (16, 16)},
    {"tile": (4, 4)},
    {"tile": (4, 4), "apart": True},
    {"packing": 8, "rows": 3},
    {"packing": 8, "differences": True, "rows": 3},
    {"packing": 5, "rows": 4, "differences": True},
    {"packing": 5},
    {"packing": 32773, "rows": 2},
    {"packing": 8, "tile": (4, 8), "differences": True},
    {"big": True, "rows": 3},
]


@pytest.mark.parametrize("form", FORMS, ids=str)
@pytest.mark.parametrize("count", [3, 4, 5, 8, 13])
def test_bands_of_any_number_are_read(form, count):
    for order, dtype in itertools.product(ORDERS, ("u1", "u2")):
        pixels = values(count, 250, dtype)
        extra = (0,) * (count - 1)
        photo = read_photo(made_tiff(pixels, order=order, extra=extra, **form))
        assert np.array_equal(photo.pixels, pixels[..., :3].astype(np.uint8))
        told = "that it does not name; bands 1, 2 and 3 are shown as red, green and blue."
        assert photo.notes[0] == f"This TIFF has {count} bands {told}"


@pytest.mark.parametrize("apart", [False, True])
def test_colours_with_bands_behind_them_need_no_note(apart):
    pixels = values(5, 256, "u1")
    photo = read_photo(made_tiff(pixels, rgb=True, extra=(0, 0), apart=apart))
    assert np.array_equal(photo.pixels, pixels[..., :3])
    assert photo.notes == ()


def test_colours_of_sixteen_bits_in_a_tiff_are_rounded_and_twelve_bits_scaled():
    for high, white in ((65_536, 65_535), (4096, 4095)):
        pixels = values(3, high)
        photo = read_photo(made_tiff(pixels, rgb=True, rows=2, packing=8))
        assert np.abs(photo.pixels.astype(int) - pixels / white * 255).max() <= 0.51
        assert len(photo.notes) == (white == 4095)


@pytest.mark.parametrize(("dtype", "low", "high"), [("i2", -500, 3000), ("f4", 0, 1), ("i4", 0, 200_000)])
def test_bands_of_other_numbers_are_scaled_by_one_scale(dtype, low, high):
    pixels = np.random.default_rng(2).uniform(low, high, (*SIZE, 4)).astype(dtype)
    pixels[0, 0, :3], pixels[0, 1, :3] = low, high
    photo = read_photo(made_tiff(pixels, extra=(0, 0, 0)))
    expected = (pixels[..., :3].astype(float) - low) / (high - low) * 255
    assert np.abs(photo.pixels - expected).max() <= 0.6


def test_two_bands_are_grey_and_alpha_is_alpha():
    pixels = values(2, 256, "u1")
    assert np.array_equal(read_photo(made_tiff(pixels, extra=(0,))).pixels[..., 2], pixels[..., 0])
    four = np.full((*SIZE, 4), 100, np.uint16) * 257
    four[..., 3] = 65535
    four[0, 0, 3] = 0
    photo = read_photo(made_tiff(four, rgb=True, extra=(2,)))
    assert photo.pixels[0, 0].tolist() == [255] * 3
    assert photo.pixels[1, 1].tolist() == [100] * 3
    halved = four.copy()
    halved[2, 2] = (50 * 257, 50 * 257, 50 * 257, 32768)  # premultiplied: half of 100 on white
    assert abs(int(read_photo(made_tiff(halved, rgb=True, extra=(1,))).pixels[2, 2, 0]) - 177) <= 1


def test_bands_are_turned_and_later_pictures_said():
    pixels = values(4, 256, "u1")
    turned = read_photo(made_tiff(pixels, extra=(0, 0, 0), tags=[(274, [6])]))
    assert np.array_equal(turned.pixels, np.rot90(pixels[..., :3], -1))
    more = read_photo(made_tiff(pixels, extra=(0, 0, 0), following=8))
    assert more.notes[-1] == "This file holds several pictures; the first one is used."


def test_damaged_bands_end_in_a_photo_or_a_sentence():
    generator = np.random.default_rng(3)
    made = [made_tiff(values(5, 250, "u2"), extra=(0,) * 4, **form) for form in FORMS]
    for whole in made:
        for cut in (9, 40, len(whole) // 2, len(whole) - 30):
            with pytest.raises(ImageError):
                read_photo(whole[:cut])
        original = np.frombuffer(whole, np.uint8)
        for _ in range(40):
            data = original.copy()
            data[generator.integers(0, len(data), 6)] = generator.integers(0, 256, 6)
            data[len(data) - 1 - generator.integers(0, 150)] ^= 255
            try:
                assert read_photo(data.tobytes()).pixels.dtype == np.uint8
            except ImageError as error:
                assert str(error).endswith(".")  # noqa: PT017 - either will do


def test_more_bands_than_memory_are_refused_by_their_header():
    head = made_tiff(np.zeros((1, 1, 4), np.uint16), extra=(0, 0, 0), tags=[(256, [90_000]), (257, [90_000])])
    with pytest.raises(ImageError, match=r"not a picture that can be read|megapixels"):
        read_photo(head)


# alpha


@pytest.mark.parametrize("alpha", [0, 1, 7])
def test_a_photo_that_is_transparent_all_over_is_shown_and_said(alpha):
    pixels = values(4, 256, "u1")
    pixels[..., 3] = alpha
    for source in (encoded(Image.fromarray(pixels), "PNG"), Image.fromarray(pixels), pixels):
        photo = read_photo(source)
        assert np.array_equal(photo.pixels, pixels[..., :3])
        assert photo.notes == ("All of it is transparent; it is shown as if it were not.",)
    grey = Image.fromarray(pixels[..., [0, 3]], "LA")
    assert read_photo(encoded(grey, "PNG")).notes[-1].startswith("All of it is transparent")


def test_a_photo_of_which_something_can_be_seen_is_laid_on_white():
    pixels = values(4, 256, "u1")
    pixels[..., 3] = 0
    pixels[3, 3, 3] = 255
    photo = read_photo(encoded(Image.fromarray(pixels), "PNG"))
    assert photo.notes == ()
    assert (photo.pixels == 255).all(axis=2).sum() >= SIZE[0] * SIZE[1] - 1


# metadata


def text_chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


BIG = b"x" * 3_000_000


@pytest.mark.parametrize(
    "chunks",
    [
        text_chunk(b"zTXt", b"Comment\0\0" + zlib.compress(BIG)),
        text_chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(BIG)),
        text_chunk(b"iCCP", b"profile\0\0" + zlib.compress(BIG)),
        text_chunk(b"zTXt", b"Comment\0\0" + zlib.compress(BIG[:900_000])) * 90,
        text_chunk(b"tEXt", b"a\0" + BIG)[:-4] + b"bad!",
        text_chunk(b"gAMA", b""),
        text_chunk(b"pHYs", b"12"),
    ],
    ids=["zTXt", "iTXt", "iCCP", "many", "checksum", "gamma", "size"],
)
@pytest.mark.parametrize("behind", [False, True])
def test_metadata_never_costs_a_photo(chunks, behind):
    image = Image.fromarray(values(3, 256, "u1"))
    plain = encoded(image, "PNG")
    place = len(plain) - 12 if behind else 33
    photo = read_photo(plain[:place] + chunks + plain[place:])
    assert np.array_equal(photo.pixels, np.array(image))
    assert photo.notes in ((), ("Its metadata could not be read and was left out.",))


def test_a_png_whose_metadata_is_left_out_is_still_turned():
    exif = Image.Exif()
    exif[0x0112] = 6
    image = Image.fromarray(values(3, 256, "u1"))
    data = encoded(image, "PNG", exif=exif)
    big = text_chunk(b"zTXt", b"Comment\0\0" + zlib.compress(BIG))
    photo = read_photo(data[:33] + big + data[33:])
    assert np.array_equal(photo.pixels, np.rot90(np.array(image), -1))
    assert len(photo.notes) == 1


def test_a_large_profile_in_other_files_does_no_harm():
    image = Image.fromarray(values(3, 256, "u1"))
    for kind in ("JPEG", "TIFF", "WEBP"):
        assert read_photo(encoded(image, kind, icc_profile=BIG[:500_000])).size == SIZE


# kinds that are not read, and other types


@pytest.mark.parametrize(
    ("name", "start", "kind"),
    [
        ("a.pdf", b"%PDF-1.7\n", "a PDF document, not a picture that can be read"),
        ("a.jpg", b"%PDF-1.7\n", "a PDF document"),
        ("a.jxl", b"\xff\x0a\xfa\x7f", "a JPEG XL picture"),
        ("a.psd", b"8BPS\0\1", "a Photoshop file"),
        ("a.svg", b"<?xml version='1.0'?><svg>", "an SVG drawing"),
        ("a.jpg", b"<!DOCTYPE html><html>", "a web page"),
        ("a.mp4", b"\0\0\0\x18ftypisom", "a video"),
        ("a.png", b"version https://git-lfs.github.com/spec/v1\n", "a pointer of Git LFS"),
        ("a.zip", b"PK\x03\x04", "a ZIP archive"),
        ("a.NEF", b"MM\0*\0\0\0\x08", "a camera's raw file"),
        ("a.cr3", b"\0\0\0\x18ftypcrx ", "a camera's raw file"),
        ("a.tga", b"\0\0\2\0", "a TGA picture"),
        ("a.txt", b"dear diary", '"a.txt" is not a picture that can be read'),
    ],
)
def test_other_kinds_are_named(tmp_path, name, start, kind):
    path = tmp_path / name
    path.write_bytes(start + bytes(64))
    with pytest.raises(ImageError, match=kind) as caught:
        read_photo(path)
    assert str(caught.value).startswith(f'"{name}" is ')
    assert len(str(caught.value).splitlines()) == 1


def test_a_preview_is_not_taken_for_a_raw_photo():
    pixels = values(3, 256, "u1")
    for tags in ([(50706, [1])], [(254, [1]), (330, [8])]):
        with pytest.raises(ImageError, match="a camera's raw file"):
            read_photo(made_tiff(pixels, rgb=True, tags=tags))


def test_heic_without_its_package_is_told_which(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    path = tmp_path / "IMG_1.HEIC"
    path.write_bytes(b"\0\0\0\x18ftypheic" + bytes(99))
    with pytest.raises(ImageError, match=r'^"IMG_1.HEIC" is a HEIC picture, .*pip install pillow-heif'):
        read_photo(path)


def test_heic_with_its_package(tmp_path):
    heif = pytest.importorskip("pillow_heif")
    image = Image.fromarray(np.full((40, 60, 3), (200, 100, 50), np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6
    path = tmp_path / "IMG_1.HEIC"
    heif.from_pillow(image).save(path, quality=90)
    photo = read_photo(path)
    assert photo.size == (40, 60)
    assert np.abs(photo.pixels.astype(int) - (200, 100, 50)).max() <= 8
    assert photo.file_name == "IMG_1.HEIC"
    with pytest.raises(ImageError, match="cut off or damaged"):
        read_photo(path.read_bytes()[:200])


@pytest.mark.parametrize(
    ("source", "got"),
    [
        (None, "NoneType"),
        (3, "int"),
        (["a.jpg"], "list"),
        (torch.zeros(3, 4, 5), "torch.Tensor"),
        (io.StringIO("text"), "StringIO"),
        ({"path": "a.jpg"}, "dict"),
    ],
)
def test_other_types_get_one_sentence(source, got):
    with pytest.raises(ImageError, match=rf"^A photo is a path, the bytes .*; got .*{got}\.$"):
        read_photo(source)


def test_channels_first_get_a_hint():
    with pytest.raises(ImageError, match="put the channels last"):
        read_photo(np.zeros((3, 40, 50), np.uint8))


def test_bytes_of_any_type_and_open_files_are_read(tmp_path):
    image = Image.fromarray(values(3, 256, "u1"))
    data = encoded(image, "PNG")
    (tmp_path / "a.png").write_bytes(data)
    with (tmp_path / "a.png").open("rb") as stream:
        sources = [bytearray(data), memoryview(data), io.BytesIO(data), stream]
        assert all(np.array_equal(read_photo(source).pixels, np.array(image)) for source in sources)
    address = "data:image/png;base64," + base64.b64encode(data).decode()
    assert np.array_equal(read_photo(address).pixels, np.array(image))
    for broken in ("data:image/png;base64,xx", "data:,hello", "data:image/png;base64,"):
        with pytest.raises(ImageError):
            read_photo(broken)
    with pytest.raises(ImageError, match="download the photo first"):
        read_photo("https://example.com/a.jpg")
    with pytest.raises(ImageError, match=r"no file|cannot be opened"):
        read_photo("a\0b.jpg")


def test_a_photo_knows_the_name_of_its_file(tmp_path):
    path = tmp_path / "IMG 1, (2).JPG"
    Image.new("RGB", (4, 3)).save(path, "JPEG")
    photo = read_photo(path)
    assert (photo.name, photo.file_name) == ("IMG 1, (2)", "IMG 1, (2).JPG")
    assert read_photo(Image.open(path)).file_name == "IMG 1, (2).JPG"
    assert read_photo(path.read_bytes()).file_name == ""
    assert read_photo(np.zeros((2, 2), np.uint8)).name == "photo"
