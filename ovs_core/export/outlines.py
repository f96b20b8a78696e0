"""Polygons of a mask: exactly along the edges of its pixels, or with fewer corners within a tolerance.

Polygon formats (COCO, YOLO) know one ring per region and nothing of holes. The tracers of OpenCV and
supervision walk through pixel centres: thin regions vanish, the others lose half a pixel all round, and every
hole comes back as one more solid region. Here a region's holes are joined to its outer ring by a cut of no
width, so that filling the polygon (even-odd or non-zero) gives the mask back pixel by pixel.

With a tolerance, corners are left out as Douglas and Peucker do (1973): none of them is farther than that
from the line drawn instead. Cuts stay as they are; every piece of border between two is simplified alone.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

TOLERANCE = 1.0  # pixels of the photo, for files that people go on working with
_LEAST_AREA_KEPT = 0.5  # of a ring; one that would lose more is drawn exactly


@dataclass(frozen=True, eq=False)
class _Runs:
    """Straight pieces of border between two turns, (R,) each; the region is on the right as y points down.

    Attributes:
        start, end: corner coordinates (x, y), (R, 2).
        heading: 0 right, 1 down, 2 left, 3 up.
    """

    start: NDArray[np.int64]
    end: NDArray[np.int64]
    heading: NDArray[np.int64]


def outlines(mask: NDArray[np.bool_], tolerance: float = 0.0) -> list[NDArray[np.int64]]:
    """One polygon (N, 2) per 4-connected region of a mask (H, W).

    Points are pixel corners (x, y), x in 0..W and y in 0..H, clockwise on screen; the last point joins the
    first. Holes are cut open: the polygon runs into the hole, round it, and back along the same line.

    Args:
        mask: pixels of one class.
        tolerance: pixels that a left-out corner may lie off the polygon; 0 is exact.

    Raises:
        ValueError: for a tolerance that is no number of at least 0.
    """
    check_tolerance(tolerance)
    runs = _runs(mask)
    following = _following(runs)
    rings = _rings(following)
    points = runs.start.tolist()
    areas = [_signed_area(runs.start[ring]) for ring in rings]
    outer = [ring for ring, area in zip(rings, areas, strict=True) if area > 0]
    holes = [ring for ring, area in zip(rings, areas, strict=True) if area < 0]
    fixed = set(range(len(points), len(points) + 3 * len(holes)))  # the ends of cuts
    fixed |= _cut_open(runs, holes, points, following)
    return [_walk(points, following, ring[0], fixed, tolerance) for ring in outer]


def check_tolerance(tolerance: float) -> None:
    """Refuse what is no distance in pixels.

    Raises:
        ValueError: for a number below 0 or none at all.
    """
    if not 0 <= tolerance < float("inf"):
        raise ValueError(f"tolerance must be 0 or more pixels, got {tolerance}")


def _runs(mask: NDArray[np.bool_]) -> _Runs:
    """All straight border pieces of a mask (H, W)."""
    solid = np.pad(np.asarray(mask, bool), 1)
    above, below = solid[:-1, 1:-1], solid[1:, 1:-1]  # of each horizontal pixel edge, (H + 1, W)
    left, right = solid[1:-1, :-1].T, solid[1:-1, 1:].T  # of each vertical one, (W + 1, H)
    starts, ends, headings = [], [], []
    for heading, edges in enumerate((below & ~above, left & ~right, above & ~below, right & ~left)):
        line, first, last = _stretches(edges)
        if heading >= 2:
            first, last = last, first
        pair = [np.stack([along, line], 1) for along in (first, last)]
        if heading % 2:
            pair = [corners[:, ::-1] for corners in pair]
        starts.append(pair[0])
        ends.append(pair[1])
        headings.append(np.full(len(line), heading))
    return _Runs(np.concatenate(starts), np.concatenate(ends), np.concatenate(headings))


def _stretches(edges: NDArray[np.bool_]) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Line number, first corner and last corner of every unbroken stretch of edges along the second axis."""
    steps = np.diff(np.pad(edges, ((0, 0), (1, 1))).astype(np.int8), axis=1)
    line, first = np.nonzero(steps == 1)
    return line, first, np.nonzero(steps == -1)[1]


def _following(runs: _Runs) -> list[int]:
    """For each run the one that goes on at its end; to the right if possible: corners do not connect."""
    width = int(runs.end[:, 0].max(initial=0)) + 1
    key = (runs.start[:, 1] * width + runs.start[:, 0]) * 4 + runs.heading
    order = np.argsort(key)
    ordered = key[order]
    corner = (runs.end[:, 1] * width + runs.end[:, 0]) * 4
    wanted = corner + (runs.heading + 1) % 4
    place = np.minimum(np.searchsorted(ordered, wanted), max(len(ordered) - 1, 0))
    missing = ordered[place] != wanted
    place[missing] = np.searchsorted(ordered, (corner + (runs.heading + 3) % 4)[missing])
    return order[place].tolist()


def _rings(following: list[int]) -> list[list[int]]:
    """The closed rings that the runs form, each as run numbers in walking order."""
    seen = bytearray(len(following))
    rings = []
    for first in range(len(following)):
        ring = []
        run = first
        while not seen[run]:
            seen[run] = 1
            ring.append(run)
            run = following[run]
        if ring:
            rings.append(ring)
    return rings


def _signed_area(ring: NDArray[np.int64]) -> int:
    """Twice the area of a ring (N, 2): positive for an outer ring, negative for a hole."""
    x, y = ring.T
    return int((x * np.roll(y, -1) - np.roll(x, -1) * y).sum())


def _cut_open(runs: _Runs, holes: list[list[int]], points: list[list[int]], following: list[int]) -> set[int]:
    """Join every hole to the border straight above its top left corner; changes both lists in place.

    Holes go from top to bottom: whatever lies above one already belongs to an outer ring. Nodes are added for
    the ends of each cut, three a hole; those answered are the holes' own corners where their cuts end.
    """
    ceilings = np.flatnonzero(runs.heading == 0)
    begin, finish, height = runs.start[ceilings, 0], runs.end[ceilings, 0], runs.start[ceilings, 1]
    pieces: dict[int, list[tuple[int, int]]] = {}  # run -> (x where a piece of it starts, node there)
    tops = [min((points[run][1], points[run][0], run) for run in hole) for hole in holes]
    for y, x, top in sorted(tops):
        over = (begin <= x) & (finish > x) & (height < y)
        best = int(ceilings[np.where(over, height, -1).argmax()])
        parts = pieces.setdefault(best, [(points[best][0], best)])
        node = parts[bisect_right(parts, (x, len(points))) - 1][1]
        ceiling = points[best][1]
        # node -> (x, ceiling) -> hole's corner -> round the hole -> same corner -> (x, ceiling) -> as before
        down, corner, up = len(points), len(points) + 1, len(points) + 2
        before = next(run for run in _ring_from(following, top) if following[run] == top)
        points += [[x, ceiling], [x, y], [x, ceiling]]
        following += [top, up, following[node]]
        following[node], following[before] = down, corner
        insort(parts, (x, up))
    return {top for _, _, top in tops}


def _ring_from(following: list[int], first: int) -> list[int]:
    """The nodes met from `first` on until it comes round again."""
    ring = [first]
    while following[ring[-1]] != first:
        ring.append(following[ring[-1]])
    return ring


def _walk(
    points: list[list[int]], following: list[int], first: int, fixed: set[int], tolerance: float
) -> NDArray[np.int64]:
    """Corners (N, 2) of one ring; a corner met twice in a row is named once, `fixed` ones stay."""
    nodes = _ring_from(following, first)
    ring = np.array([points[node] for node in nodes])
    if tolerance > 0:
        ring = _simplified(ring, np.array([node in fixed for node in nodes]), tolerance)
    return ring[(ring != np.roll(ring, 1, axis=0)).any(axis=1)]


def _simplified(ring: NDArray[np.int64], fixed: NDArray[np.bool_], tolerance: float) -> NDArray[np.int64]:
    """A ring (N, 2) with fewer corners; the exact one where too little of its area would be left."""
    anchors = np.flatnonzero(fixed)
    if not len(anchors):
        anchors = np.array([0, int(((ring - ring[0]) ** 2).sum(axis=1).argmax())])
    pieces = []
    for start, stop in zip(anchors, np.roll(anchors, -1), strict=True):
        stop = stop if stop > start else stop + len(ring)
        piece = ring[np.arange(start, stop + 1) % len(ring)]
        pieces.append(_kept_piece(piece, tolerance)[:-1])
    simple = np.concatenate(pieces)
    return simple if _area_kept(ring, simple) else ring


def _kept_piece(piece: NDArray[np.int64], tolerance: float) -> NDArray[np.int64]:
    """A piece of border (N, 2) without corners that do not matter; a hole keeps half its area at least."""
    simple = piece[_corners_that_matter(piece, tolerance)]
    closed = bool((piece[0] == piece[-1]).all())
    return piece if closed and not _area_kept(piece, simple) else simple


def _corners_that_matter(piece: NDArray[np.int64], tolerance: float) -> NDArray[np.bool_]:
    """Which corners (N,) a piece of border (N, 2) keeps, by Douglas and Peucker."""
    keep = np.zeros(len(piece), np.bool_)
    keep[[0, -1]] = True
    waiting = [(0, len(piece) - 1)]
    while waiting:
        start, stop = waiting.pop()
        if stop - start < 2:
            continue
        far = _distances(piece[start + 1 : stop], piece[start], piece[stop])
        farthest = int(far.argmax())
        if far[farthest] > tolerance:
            middle = start + 1 + farthest
            keep[middle] = True
            waiting += [(start, middle), (middle, stop)]
    return keep


def _distances(
    points: NDArray[np.int64], start: NDArray[np.int64], stop: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Distance of points (N, 2) from the straight piece between two others."""
    along, away = (stop - start).astype(np.float64), (points - start).astype(np.float64)
    length = float(along @ along)
    place = (away @ along / length).clip(0, 1) if length else np.zeros(len(points))
    off = away - place[:, None] * along
    return np.hypot(off[:, 0], off[:, 1])


def _area_kept(exact: NDArray[np.int64], simple: NDArray[np.int64]) -> bool:
    """Whether a simplified ring still has most of its area, on the same side of its border."""
    if len(simple) < 3:
        return False
    before, after = _signed_area(exact), _signed_area(simple)
    return after * before > 0 and abs(after - before) <= _LEAST_AREA_KEPT * abs(before)
