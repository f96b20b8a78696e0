"""Photos in, upright 8-bit RGB out: any file, array or PIL picture becomes a `Photo` or an `ImageError`."""

from __future__ import annotations

import base64
import hashlib
import io
import re
import struct
import zlib
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import IO
from urllib.parse import unquote_to_bytes

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from ovs_core.image.picture_kinds import HEAD_BYTES, is_heic, is_raw, other_kind
from ovs_core.image.pixels import ImageError, array_to_rgb, bands_to_rgb, pil_to_rgb, values_to_rgb
from ovs_core.image.png_repair import PNG_START, shallow_colors, without_metadata
from ovs_core.image.tiff_bands import TiffError, is_camera_raw, read_bands, tiff_size

__all__ = [
    "MAX_PIXELS",
    "ImageError",
    "Photo",
    "display_copy",
    "fitted",
    "frame_size",
    "read_photo",
    "to_frame",
]

MAX_PIXELS = 100_000_000
"""Larger pictures are refused from their header, before any pixel is unpacked."""

# Raster formats only: PIL's EPS reader, for one, hands the file to another program.
_FORMATS = ("AVIF", "BMP", "DIB", "GIF", "ICO", "JPEG", "JPEG2000", "MPO", "PNG", "PPM", "TIFF", "WEBP")
_ANIMATED_FORMATS = ("GIF", "PNG", "WEBP", "AVIF", "TIFF")
_ORIENTATION_TAG = 0x0112
_TIFF_STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
# What PIL's decoders raise on broken data, by reading them and by feeding them damaged files.
_DECODER_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    EOFError,
    LookupError,
    ArithmeticError,
    MemoryError,
    RuntimeError,  # AVIF
    struct.error,
    zlib.error,
)
# A warning is raised, not printed, where the interpreter was told to be strict.
_BOMBS = (Image.DecompressionBombError, Image.DecompressionBombWarning)


@dataclass(frozen=True, eq=False)
class Photo:
    """One photo, ready for every encoder and every picture we draw.

    Attributes:
        pixels: (H, W, 3) uint8 RGB, upright (EXIF orientation applied).
        name: file name without its ending, "photo" if unknown; exports are named after it.
        notes: what reading changed, one sentence each, to be shown to the user.
        file_name: name of the file with its ending, "" if it came from none.
    """

    pixels: NDArray[np.uint8]
    name: str = "photo"
    notes: tuple[str, ...] = ()
    file_name: str = ""

    def __post_init__(self) -> None:
        shape = self.pixels.shape
        if self.pixels.dtype != np.uint8 or len(shape) != 3 or shape[2] != 3 or 0 in shape:
            raise ImageError(f"pixels must be (H, W, 3) uint8, got {shape} {self.pixels.dtype}")

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) in pixels."""
        return self.pixels.shape[0], self.pixels.shape[1]

    @cached_property
    def key(self) -> str:
        """SHA-256 (hex) of shape and pixels: equal photos share cached features whatever they are called."""
        digest = hashlib.sha256(repr(self.pixels.shape).encode())
        digest.update(np.ascontiguousarray(self.pixels).data)
        return digest.hexdigest()


def read_photo(
    source: str | Path | bytes | bytearray | memoryview | IO[bytes] | Image.Image | NDArray[np.generic],
) -> Photo:
    """Read one photo from a path, the bytes of a file, an open file, a PIL picture or an array.

    Transparency is laid on white, 16-bit and float values are scaled to 8 bits, EXIF orientation is applied,
    and of an animation the first frame is taken; notes say what was out of the ordinary.

    Args:
        source: arrays are (H, W), (H, W, 1), (H, W, 3) RGB or (H, W, 4) RGBA, of bool, uint8, uint16, another
            integer type holding 0..255, or float in [0, 1]. Text may be a `data:` address.

    Raises:
        ImageError: if it is missing, not a picture, damaged, empty, above `MAX_PIXELS` or of another type; it
            names the file.
    """
    if isinstance(source, np.ndarray):
        if source.ndim >= 2 and source.shape[0] * source.shape[1] > MAX_PIXELS:
            raise ImageError(_too_large("The picture", (source.shape[0], source.shape[1])))
        return Photo(*_swapped(array_to_rgb(source)))
    if isinstance(source, Image.Image):
        path = Path(str(getattr(source, "filename", "") or ""))
        return _from_pil(source, "The picture", path.name)
    if isinstance(source, bytes | bytearray | memoryview):
        return _from_stream(io.BytesIO(source), len(source), "The picture", "")
    if isinstance(source, str | Path):
        return _from_text(source) if isinstance(source, str) else _from_path(source)
    if callable(getattr(source, "read", None)):
        content = source.read()
        if isinstance(content, bytes):
            return _from_stream(io.BytesIO(content), len(content), "The picture", "")
    raise ImageError(
        "A photo is a path, the bytes of a file, a PIL picture or an array (H, W, 3); "
        f"got {type(source).__module__}.{type(source).__qualname__}."
    )


def frame_size(
    image_size: tuple[int, int], short_side: int, multiple: int, max_ratio: float = 4.0
) -> tuple[int, int]:
    """Choose the size (Hf, Wf) in pixels at which a tower looks at a photo.

    The shorter side becomes `short_side`; a photo longer than `max_ratio` to 1 is fitted by its long side
    instead (`max_ratio * short_side`), so that a panorama never costs more than a 4:1 photo. Both sides
    are then rounded to the nearest multiple of `multiple`, at least one.

    Args:
        image_size: (H, W) of the photo in pixels.
        short_side: wanted shorter side, in pixels.
        multiple: patch size of the tower, in pixels.
        max_ratio: longest side allowed, in units of `short_side`.

    Raises:
        ValueError: if a size is not positive or `max_ratio` is below 1.
    """
    if min(*image_size, short_side, multiple) < 1 or max_ratio < 1:
        raise ValueError(
            f"sizes must be positive and max_ratio at least 1, got image_size={image_size}, "
            f"short_side={short_side}, multiple={multiple}, max_ratio={max_ratio}"
        )
    scale = min(short_side / min(image_size), max_ratio * short_side / max(image_size))
    height, width = (max(1, int(side * scale / multiple + 0.5)) * multiple for side in image_size)
    return height, width


def to_frame(pixels: NDArray[np.uint8], size: tuple[int, int]) -> Tensor:
    """Resize (H, W, 3) uint8 to a frame (3, Hf, Wf), float32 in [0, 1], by antialiased bilinear sampling.

    PIL resamples in 8-bit fixed point, as the towers' own preprocessing does: one answer on every machine.
    """
    height, width = size
    resized = Image.fromarray(pixels).resize((width, height), Image.Resampling.BILINEAR)
    frame = torch.from_numpy(np.array(resized))  # (Hf, Wf, 3)
    return frame.permute(2, 0, 1).to(torch.float32).div_(255).contiguous()  # (3, Hf, Wf)


def fitted(size: tuple[int, int], max_side: int) -> tuple[int, int]:
    """Shrink (H, W) so that the longer side is at most `max_side`; at least 1 x 1."""
    factor = min(1.0, max_side / max(size))
    return max(1, round(size[0] * factor)), max(1, round(size[1] * factor))


def display_copy(pixels: NDArray[np.uint8], max_side: int = 1024) -> NDArray[np.uint8]:
    """Copy of a photo (H, W, 3) uint8 whose longer side is at most `max_side` pixels; never enlarged."""
    size = (pixels.shape[0], pixels.shape[1])
    if max(size) <= max_side:
        return pixels.copy()
    height, width = fitted(size, max_side)
    return np.array(
        Image.fromarray(pixels).resize((width, height), Image.Resampling.BILINEAR, reducing_gap=3.0)
    )


def _swapped(
    read: tuple[NDArray[np.uint8], tuple[str, ...]],
) -> tuple[NDArray[np.uint8], str, tuple[str, ...]]:
    """Pixels and notes as the first fields of a photo without a name."""
    return read[0], "photo", read[1]


def _from_text(text: str) -> Photo:
    """Read a path, or the picture that a `data:` address holds."""
    if not text.startswith("data:"):
        if re.match("https?://", text):
            raise ImageError(f'"{text[:80]}" is an address on the web; download the photo first.')
        return _from_path(Path(text))
    head, _, content = text.partition(",")
    try:
        data = (
            base64.b64decode(content, validate=False)
            if head.endswith(";base64")
            else unquote_to_bytes(content)
        )
    except ValueError as error:
        raise ImageError("The data: address is cut off or damaged.") from error
    return _from_stream(io.BytesIO(data), len(data), "The picture", "")


def _from_path(path: Path) -> Photo:
    """Read a file, telling apart all the ways in which a path is not a photo."""
    try:
        if path.is_dir():
            raise ImageError(f'"{path}" is a folder, not a photo.')
        if not path.exists():
            raise ImageError(f'There is no file "{path}".')
        if not path.is_file():
            raise ImageError(f'"{path}" is not an ordinary file.')
        with path.open("rb") as stream:
            return _from_stream(stream, path.stat().st_size, f'"{path.name}"', path.name)
    except ImageError:
        raise
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ImageError(f'"{path}" cannot be opened: {reason}.') from error


def _from_stream(stream: IO[bytes], size: int, title: str, name: str) -> Photo:
    """Read the bytes of a picture file; `title` begins every message."""
    if size == 0:
        raise ImageError(f"{title} is empty (0 bytes).")
    head = stream.read(HEAD_BYTES)
    stream.seek(0)
    if is_heic(head):
        return _from_heic(stream, title, name)
    if is_raw(name) or (head[:4] in _TIFF_STARTS and is_camera_raw(stream)):
        raise ImageError(f"{title} is a camera's raw file, not a picture; save it as JPEG or PNG.")
    if head[:4] in _TIFF_STARTS and (photo := _from_bands(stream, title, name)):
        return photo
    try:
        return _from_image(stream, title, name)
    except ImageError:
        # Pillow gives up a whole PNG for a comment or a profile that it finds too large.
        if not head.startswith(PNG_START):
            raise
        stream.seek(0)
        plain = without_metadata(stream.read())
        photo = _from_image(io.BytesIO(plain), title, name)
        return replace(photo, notes=(*photo.notes, "Its metadata could not be read and was left out."))


def _from_image(stream: IO[bytes], title: str, name: str) -> Photo:
    """Read a file that Pillow knows."""
    Image.init()
    formats = [name for name in _FORMATS if name in Image.OPEN]
    stream.seek(0)
    head = stream.read(HEAD_BYTES)
    stream.seek(0)
    try:
        image = Image.open(stream, formats=formats)
    except _BOMBS as error:
        raise ImageError(_too_large(title)) from error
    except _DECODER_ERRORS as error:
        kind = other_kind(head, name)
        what = f"{kind}, not a picture" if kind else "not a picture"
        raise ImageError(f"{title} is {what} that can be read; save it as JPEG or PNG.") from error
    with image:
        photo = _from_pil(image, title, name)
        shallow = shallow_colors(stream, head)
        if shallow is None:
            return photo
        pixels, notes = values_to_rgb(shallow)
        return replace(photo, pixels=_turn(pixels, _orientation(image)), notes=(*notes, *photo.notes))


def _from_heic(stream: IO[bytes], title: str, name: str) -> Photo:
    """Read what phones write, with a package that not everybody has."""
    try:
        import pillow_heif
    except ImportError as error:
        raise ImageError(
            f"{title} is a HEIC picture, which needs one more package (pip install pillow-heif); "
            "or save it as JPEG."
        ) from error
    try:
        image = pillow_heif.open_heif(stream, convert_hdr_to_8bit=True).to_pillow()
    except _BOMBS as error:
        raise ImageError(_too_large(title)) from error
    except (*_DECODER_ERRORS, RuntimeError) as error:
        raise ImageError(f"{title} is cut off or damaged; save or download it again.") from error
    return _from_pil(image, title, name)


def _from_bands(stream: IO[bytes], title: str, name: str) -> Photo | None:
    """Read a TIFF whose bands Pillow has no mode for, or whose colours it would cut to 8 bits; else None."""
    try:
        height, width, samples, bits = tiff_size(stream)
        if samples in (3, 4) and bits == 8 and _opens(stream):
            return None
        if height * width > MAX_PIXELS:
            raise ImageError(_too_large(title, (height, width)))
        read = read_bands(stream)
        pixels, notes = bands_to_rgb(read.values)
    except TiffError:
        return None
    finally:
        stream.seek(0)
    if not read.colored and read.bands > 2:
        bands = "bands 1, 2 and 3 are shown as red, green and blue"
        notes = (f"This TIFF has {read.bands} bands that it does not name; {bands}.", *notes)
    if read.more:
        notes = (*notes, "This file holds several pictures; the first one is used.")
    return _photo(_turn(pixels, read.orientation), name, notes)


def _opens(stream: IO[bytes]) -> bool:
    """Whether Pillow has a mode for a TIFF."""
    stream.seek(0)
    try:
        with Image.open(stream, formats=["TIFF"]):
            return True
    except (*_BOMBS, *_DECODER_ERRORS):
        return False


def _from_pil(image: Image.Image, title: str, name: str) -> Photo:
    """Unpack, convert and turn a PIL picture."""
    width, height = image.size
    if width < 1 or height < 1:
        raise ImageError(f"{title} has no pixels.")
    if width * height > MAX_PIXELS:
        raise ImageError(_too_large(title, (height, width)))
    try:
        image.load()
        frames = getattr(image, "n_frames", 1) if image.format in _ANIMATED_FORMATS else 1
        pixels, notes = pil_to_rgb(image)
    except _BOMBS as error:
        raise ImageError(_too_large(title)) from error
    except ImageError:
        raise
    except _DECODER_ERRORS as error:
        raise ImageError(f"{title} is cut off or damaged; save or download it again.") from error
    if frames > 1:
        notes = (*notes, f"This file holds {frames} pictures; the first one is used.")
    return _photo(_turn(pixels, _orientation(image)), name, notes)


def _photo(pixels: NDArray[np.uint8], name: str, notes: tuple[str, ...]) -> Photo:
    """A photo with the name of its file, "" if it has none."""
    return Photo(pixels, Path(name).stem or "photo", notes, name)


def _too_large(title: str, size: tuple[int, int] | None = None) -> str:
    """Sentence for a picture above the limit, (H, W) in pixels if known."""
    limit = f"{MAX_PIXELS // 1_000_000} megapixels"
    if size is None:
        return f"{title} is larger than {limit}; make it smaller first."
    return f"{title} has {size[1]} x {size[0]} pixels, more than {limit}; make it smaller first."


def _orientation(image: Image.Image) -> int:
    """EXIF orientation 1..8 of a loaded picture; 1 where the tag is absent, damaged or out of range."""
    try:
        value = image.getexif().get(_ORIENTATION_TAG, 1)
    except _DECODER_ERRORS:  # a broken tag says nothing about the pixels, which were read
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _turn(pixels: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """Make stored pixels (H, W, 3) upright; numbers as in the EXIF standard (6: rotate clockwise)."""
    if orientation >= 5:  # rows and columns are exchanged
        pixels = pixels.transpose(1, 0, 2)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)
