"""Colours: one class name, one colour, in every panel, photo, file and session.

The fixed palette starts with the seven colours of Okabe and Ito (2008, "Color universal design") and goes on
with the colours that stay furthest from all earlier ones in OKLab, seen normally and with simulated
protanopia and deuteranopia (Machado et al. 2009). No two of them come closer than 0.055 OKLab in any of the
three; the eye starts to see a difference at about 0.02.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from ovs_core.types import OTHER_COLOR, Color, Vocabulary

# OKLab distances: at the first, two colours over a photo are called by two names; at the second they can
# still be told apart in a legend.
_CLEARLY_APART, _APART = 0.25, 0.15
_LIGHTEST, _DARKEST = 0.65, 0.6  # most white or black in a shade: the hue still tells the class

PALETTE: tuple[Color, ...] = (
    (0, 114, 178),  # blue
    (230, 159, 0),  # orange
    (0, 158, 115),  # green
    (204, 121, 167),  # rose
    (86, 180, 233),  # sky
    (240, 228, 66),  # yellow
    (213, 94, 0),  # vermilion
    (132, 0, 96),  # plum
    (48, 84, 0),  # forest
    (144, 72, 252),  # violet
    (48, 252, 228),  # turquoise
    (72, 24, 180),  # indigo
    (120, 204, 120),  # leaf
    (204, 24, 180),  # magenta
    (192, 24, 72),  # crimson
    (252, 168, 180),  # pink
    (36, 72, 120),  # navy
    (108, 132, 240),  # cornflower
    (120, 84, 132),  # mauve
    (252, 48, 108),  # raspberry
    (252, 132, 252),  # orchid
    (132, 252, 132),  # mint
    (144, 216, 252),  # ice
    (0, 72, 216),  # cobalt
)

# OKLab (Ottosson 2020) to the cube roots of cone responses, and these cubed to linear sRGB.
_TO_LMS = np.array(
    [
        [1.0, 0.3963377774, 0.2158037573],
        [1.0, -0.1055613458, -0.0638541728],
        [1.0, -0.0894841775, -1.2914855480],
    ]
)
_TO_RGB = np.array(
    [
        [4.0767416621, -3.3077115913, 0.2309699292],
        [-1.2684380046, 2.6097574011, -0.3413193965],
        [-0.0041960863, -0.7034186147, 1.7076147010],
    ]
)

# Everyday words with a colour that everyone expects; index into PALETTE.
_NATURAL: Mapping[str, int] = MappingProxyType(
    {
        "sky": 4,
        "grass": 12,
        "tree": 8,
        "trees": 8,
        "water": 0,
        "sea": 0,
        "sun": 5,
        "banana": 5,
        "orange": 1,
        "sand": 1,
    }
)


def colors_for(classes: Vocabulary | Sequence[str]) -> tuple[Color, ...]:
    """Colour of every label, (K + 1) entries: index 0 is "other", index k the k-th class as typed.

    A class asks for colours in an order that depends on its casefolded name alone and gets, in typed order,
    the first one that nobody will mistake for an earlier class's; where none is left, the one furthest from
    them. So adding a class at the end never changes an earlier one, and no two classes share a colour. From
    the 25th class on, colours come from an endless fixed list.
    """
    # "sky." asks for sky and looks like it.
    names = [group[0] for group in classes.asked] if isinstance(classes, Vocabulary) else tuple(classes)
    taken: list[int] = []
    apart = _distances(PALETTE)
    further = _further_colors()
    colors = [OTHER_COLOR]
    for name in names:
        if len(taken) == len(PALETTE):
            colors.append(next(further))
            continue
        wishes = _wishes(name, apart)
        room = apart[:, taken].min(axis=1, initial=np.inf)  # (24,): to the nearest colour that is taken
        natural = _NATURAL.get(_key(name))
        least = [_APART if slot == natural else _CLEARLY_APART for slot in wishes]
        free = (slot for slot, far in zip(wishes, least, strict=True) if room[slot] >= far)
        slot = next(free, int(room.argmax()))
        taken.append(slot)
        colors.append(PALETTE[slot])
    return tuple(colors)


def shades(color: Color, count: int) -> tuple[Color, ...]:
    """Colours of one family: this one first, then by turns lighter and darker, further off each time."""
    steps = count // 2
    family = [color]
    for place in range(1, count):
        end, most = ((255, 255, 255), _LIGHTEST) if place % 2 else ((0, 0, 0), _DARKEST)
        part = most * ((place + 1) // 2) / steps
        red, green, blue = (round(own + part * (there - own)) for own, there in zip(color, end, strict=True))
        family.append((red, green, blue))
    return tuple(family[:count])


def text_color(background: Color) -> Color:
    """Black or white, whichever reads better on this colour (higher WCAG 2 contrast ratio)."""
    channels = np.asarray(background, np.float64) / 255
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    luminance = float(linear @ (0.2126, 0.7152, 0.0722))
    # Contrast with black is (Y + 0.05) / 0.05, with white 1.05 / (Y + 0.05); they meet at 0.179.
    return (0, 0, 0) if (luminance + 0.05) ** 2 > 0.05 * 1.05 else (255, 255, 255)


def _key(name: str) -> str:
    """What names of one colour have in common."""
    return " ".join(name.casefold().split())


def _wishes(name: str, apart: NDArray[np.float64]) -> list[int]:
    """Every palette slot, in the order this name would like to have it.

    Others' natural colours come last, and before them what would keep others from those: sky is sky blue.

    Args:
        name: of a class.
        apart: distances between the slots.
    """
    key = _key(name)
    digest = hashlib.blake2b(key.encode("utf-8", "replace"), digest_size=len(PALETTE)).digest()
    room = apart[:, sorted(set(_NATURAL.values()))].min(axis=1)  # to the nearest natural colour, itself: 0
    wishes = sorted(
        range(len(PALETTE)), key=lambda slot: (room[slot] == 0, room[slot] < _APART, digest[slot])
    )
    natural = _NATURAL.get(key)
    return wishes if natural is None else [natural, *wishes]


def _distances(colors: Sequence[Color]) -> NDArray[np.float64]:
    """OKLab distance (N, N) between sRGB colours, as normal sight has it."""
    encoded = np.asarray(colors, np.float64) / 255
    linear = np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)
    lab = np.cbrt(linear @ np.linalg.inv(_TO_RGB).T) @ np.linalg.inv(_TO_LMS).T  # (N, 3)
    return np.linalg.norm(lab[:, None] - lab, axis=-1)


def _further_colors() -> Iterator[Color]:
    """Endless list of distinct colours outside the palette, spread evenly over hue, lightness and chroma."""
    seen = {*PALETTE, OTHER_COLOR}
    # Additive recurrence on the inverse powers of the plastic number's 3-D kin, the most even one known.
    step = 1.2207440846057596 ** -np.arange(1.0, 4.0)
    start = 0
    while True:
        points = (0.5 + np.arange(start, start + 256)[:, None] * step) % 1  # (256, 3)
        start += 256
        lightness, chroma, hue = 0.42 + 0.48 * points[:, 0], 0.08 + 0.14 * points[:, 1], points[:, 2]
        for red, green, blue in _oklch_to_rgb(lightness, chroma, 2 * np.pi * hue).tolist():
            if (red, green, blue) not in seen:
                seen.add((red, green, blue))
                yield red, green, blue


def _oklch_to_rgb(
    lightness: NDArray[np.float64], chroma: NDArray[np.float64], hue: NDArray[np.float64]
) -> NDArray[np.uint8]:
    """OKLCh (Ottosson 2020), three arrays of (N,), hue in radians, to sRGB (N, 3), clipped to its range."""
    lab = np.stack([lightness, chroma * np.cos(hue), chroma * np.sin(hue)], axis=1)  # (N, 3)
    linear = np.clip((lab @ _TO_LMS.T) ** 3 @ _TO_RGB.T, 0, 1)
    encoded = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return np.round(encoded * 255).astype(np.uint8)
