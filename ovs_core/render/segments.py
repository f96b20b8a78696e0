"""Panoptic and instance answers as pictures: one family of colours per class, one shade per object."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
from numpy.typing import NDArray

from ovs_core.evidence.segments import Panoptic, Segment
from ovs_core.render.legend import shrunk, with_legend
from ovs_core.render.overlay import paint
from ovs_core.render.palette import shades
from ovs_core.types import OTHER_COLOR, ClassSummary, Labelled


def segment_colors(panoptic: Panoptic, result: Labelled) -> NDArray[np.uint8]:
    """Colours of the numbers in a map of segments, (n + 1, 3) uint8; 0 is grey, the first of a class its own.

    Args:
        panoptic: segments of typed classes, numbered from 1.
        result: whose class colours to take.
    """
    colors = result.label_map.color_table
    table = np.zeros((len(panoptic.segments) + 1, 3), np.uint8)
    table[0] = OTHER_COLOR
    for label, segments in _by_class(panoptic).items():
        red, green, blue = colors[label].tolist()
        table[[segment.number for segment in segments]] = shades((red, green, blue), len(segments))
    return table


def segment_summaries(panoptic: Panoptic, result: Labelled) -> tuple[ClassSummary, ...]:
    """Legend of a map of segments: one line per class in typed order, then "other".

    Several objects of a class are counted, "dog (3)"; scores are means over their pixels.
    """
    by_class, pixels = _by_class(panoptic), panoptic.numbers.size
    colors = result.label_map.color_table
    lines = []
    for label, (name, *synonyms) in enumerate(result.vocabulary.classes, start=1):
        segments = by_class[label]
        area = sum(segment.area for segment in segments)
        score = sum(segment.score * segment.area for segment in segments) / max(area, 1)
        count = f" ({len(segments)})" if len(segments) > 1 else ""
        red, green, blue = colors[label].tolist()
        lines.append(ClassSummary(label, (name + count, *synonyms), (red, green, blue), area / pixels, score))
    rest = int((panoptic.numbers == 0).sum())
    return (*lines, ClassSummary(0, ("other",), OTHER_COLOR, rest / pixels, 0.0))


def segment_names(panoptic: Panoptic, result: Labelled) -> dict[int, str]:
    """Number of each segment to what it is called: "sky", and "dog 1", "dog 2" where there are several."""
    names = {}
    for label, segments in _by_class(panoptic).items():
        name = result.vocabulary.names[label - 1]
        for place, segment in enumerate(segments, start=1):
            names[segment.number] = f"{name} {place}" if len(segments) > 1 else name
    return names


def segment_figure(panoptic: Panoptic, result: Labelled, max_side: int | None = None) -> NDArray[np.uint8]:
    """A result's photo with segments over it and the legend of classes below it, (H', W', 3).

    Args:
        panoptic: segments at the photo's size.
        result: whose photo it is.
        max_side: as for `figure`.
    """
    image, numbers = shrunk(result.image, panoptic.numbers, max_side)
    return with_legend(
        paint(image, numbers, segment_colors(panoptic, result)), segment_summaries(panoptic, result)
    )


def _by_class(panoptic: Panoptic) -> defaultdict[int, list[Segment]]:
    """Segments of each label, in order of their numbers."""
    groups: defaultdict[int, list[Segment]] = defaultdict(list)
    for segment in panoptic.segments:
        groups[segment.label].append(segment)
    return groups
