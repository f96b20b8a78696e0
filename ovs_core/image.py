"""Photos in, upright 8-bit RGB out: any file, array or PIL picture becomes a `Photo` or an `ImageError`."""

from __future__ import annotations

import hashlib
import io
import struct
import zlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import IO

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

MAX_PIXELS = 100_000_000
"""Larger pictures are refused from their header, before any pixel is unpacked."""

# Raster formats only: PIL's EPS reader, for one, hands the file to another program.
_FORMATS = ("AVIF", "BMP", "DIB", "GIF", "ICO", "JPEG", "JPEG2000", "MPO", "PNG", "PPM", "TIFF", "WEBP")
_ANIMATED_FORMATS = ("GIF", "PNG", "WEBP", "AVIF", "TIFF")
_ORIENTATION_TAG = 0x0112
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
    struct.error,
    zlib.error,
)
# A warning is raised, not printed, where the interpreter was told to be strict.
_BOMBS = (Image.DecompressionBombError, Image.DecompressionBombWarning)


class ImageError(ValueError):
    """A photo that cannot be used; the message is one sentence for the user."""


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


def read_photo(source: str | Path | bytes | Image.Image | NDArray[np.generic]) -> Photo:
    """Read one photo from a path, the bytes of a file, a PIL picture or an array.

    Transparency is laid on white, 16-bit and float values are scaled to 8 bits, EXIF orientation is applied,
    and of an animation the first frame is taken.

    Args:
        source: arrays are (H, W), (H, W, 1), (H, W, 3) RGB or (H, W, 4) RGBA, of bool, uint8, uint16, another
            integer type holding 0..255, or float in [0, 1].

    Raises:
        ImageError: if it is missing, not a picture, damaged, empty or above `MAX_PIXELS`; it names the file.
    """
    if isinstance(source, np.ndarray):
        return Photo(_array_to_rgb(source))
    if isinstance(source, Image.Image):
        name = Path(getattr(source, "filename", "") or "").stem or "photo"
        return _from_pil(source, "The picture", name)
    if isinstance(source, bytes):
        return _from_stream(io.BytesIO(source), len(source), "The picture", "photo")
    return _from_path(Path(source))


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


def display_copy(pixels: NDArray[np.uint8], max_side: int = 1024) -> NDArray[np.uint8]:
    """Copy of a photo (H, W, 3) uint8 whose longer side is at most `max_side` pixels; never enlarged."""
    height, width = pixels.shape[:2]
    scale = max_side / max(height, width)
    if scale >= 1:
        return pixels.copy()
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return np.array(Image.fromarray(pixels).resize(size, Image.Resampling.BILINEAR, reducing_gap=3.0))


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
            return _from_stream(stream, path.stat().st_size, f'"{path.name}"', path.stem)
    except OSError as error:
        raise ImageError(f'"{path}" cannot be opened: {error.strerror or error}.') from error


def _from_stream(stream: IO[bytes], size: int, title: str, name: str) -> Photo:
    """Read the bytes of a picture file; `title` begins every message."""
    if size == 0:
        raise ImageError(f"{title} is empty (0 bytes).")
    Image.init()
    formats = [name for name in _FORMATS if name in Image.OPEN]
    try:
        image = Image.open(stream, formats=formats)
    except _BOMBS as error:
        raise ImageError(_too_large(title)) from error
    except _DECODER_ERRORS as error:
        raise ImageError(f"{title} is not a picture that can be read; save it as JPEG or PNG.") from error
    with image:
        return _from_pil(image, title, name)


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
        pixels, notes = _pil_to_rgb(image)
    except _BOMBS as error:
        raise ImageError(_too_large(title)) from error
    except ImageError:
        raise
    except _DECODER_ERRORS as error:
        raise ImageError(f"{title} is cut off or damaged; save or download it again.") from error
    if frames > 1:
        notes = (*notes, f"This file holds {frames} pictures; the first one is used.")
    return Photo(_turn(pixels, _orientation(image)), name, notes)


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


def _pil_to_rgb(image: Image.Image) -> tuple[NDArray[np.uint8], tuple[str, ...]]:
    """Convert any PIL mode to (H, W, 3) uint8 RGB, with notes on what was lost."""
    if image.mode.startswith("I;16"):
        return _array_to_rgb(np.array(image).astype(np.uint16)), ()
    if image.mode in ("I", "F"):
        return _wide_to_rgb(np.array(image))
    if image.mode == "La":  # PIL knows no direct way from here
        image = image.convert("LA")
    if image.has_transparency_data:
        return _array_to_rgb(np.array(image.convert("RGBA"))), ()
    return np.array(image.convert("RGB")), ()


def _wide_to_rgb(values: NDArray[np.generic]) -> tuple[NDArray[np.uint8], tuple[str, ...]]:
    """Scale 32-bit values (H, W) by the narrowest range that holds them: [0, 1] if float, 8 bits, 16 bits.

    Values outside all three are stretched between their own smallest and largest, with a note.
    """
    low, high = float(values.min()), float(values.max())
    if not np.isfinite(low + high):
        raise ImageError("The picture holds values that are not numbers; save it as 8-bit PNG or JPEG.")
    notes: tuple[str, ...] = ()
    white = 1.0 if high <= 1 and values.dtype.kind == "f" else 255.0 if high <= 255 else 65535.0
    wide = values.astype(np.float32)
    if low < 0 or high > 65535:
        notes = (f"Its values run from {low:g} to {high:g}; they were stretched from black to white.",)
        wide, white = wide - low, high - low
    return _grey_to_rgb(_round(wide * (255 / (white or 1)))), notes


def _array_to_rgb(values: NDArray[np.generic]) -> NDArray[np.uint8]:
    """Convert an array as `read_photo` accepts it to (H, W, 3) uint8 RGB, in memory of its own."""
    if values.ndim not in (2, 3) or (values.ndim == 3 and values.shape[2] not in (1, 3, 4)):
        raise ImageError(f"An array must be (H, W), (H, W, 3) or (H, W, 4), got {values.shape}.")
    if values.size == 0:
        raise ImageError(f"The picture has no pixels (shape {values.shape}).")
    if values.shape[0] * values.shape[1] > MAX_PIXELS:
        raise ImageError(_too_large("The picture", (values.shape[0], values.shape[1])))
    levels = _to_8_bits(values)
    if levels.ndim == 2:
        return _grey_to_rgb(levels)
    if levels.shape[2] == 1:
        return _grey_to_rgb(levels[..., 0])
    return _on_white(levels) if levels.shape[2] == 4 else np.array(levels, order="C")


def _to_8_bits(values: NDArray[np.generic]) -> NDArray[np.uint8]:
    """Scale array values to 0..255 by the range their type stands for."""
    if values.dtype == np.uint8:
        return values.view(np.uint8)
    if values.dtype == np.bool_:
        return values.astype(np.uint8) * np.uint8(255)
    if values.dtype.kind not in "uif":
        raise ImageError(f"An array must hold numbers, got {values.dtype}.")
    if values.dtype == np.uint16:
        return _round(values.astype(np.float32) / 257)
    low, high = float(values.min()), float(values.max())
    limit = 1 if values.dtype.kind == "f" else 255
    if not (low >= 0 and high <= limit):
        raise ImageError(f"A {values.dtype} array must lie in [0, {limit}], got [{low:g}, {high:g}].")
    return _round(values.astype(np.float32) * (255 / limit))


def _round(values: NDArray[np.floating]) -> NDArray[np.uint8]:
    """Nearest integer of values in [0, 255], halves up."""
    return (values + 0.5).astype(np.uint8)


def _grey_to_rgb(levels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Repeat one channel (H, W) three times."""
    return np.repeat(levels[..., None], 3, axis=2)


def _on_white(levels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Lay straight-alpha RGBA (H, W, 4) on white; exact in 16 bits, since 255 * 255 + 127 < 65536."""
    alpha = levels[..., 3:].astype(np.uint16)
    blended = levels[..., :3] * alpha + np.uint16(255) * (255 - alpha) + np.uint16(127)
    return (blended // 255).astype(np.uint8)
