"""Where several methods, asked the same question about the same photo, agree and where they do not."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ovs_core.render.heatmap import blend, heatmap
from ovs_core.render.overlay import borders
from ovs_core.types import Color, Labelled

_STRONGEST = 0.75  # weight of the class colour where all agree
_PAPER = 235  # grey of a consensus that nobody shares, in 0..255


def disagreement(label_maps: Sequence[NDArray[np.integer]]) -> NDArray[np.float32]:
    """Part of the M methods that does not side with the most frequent label, (H, W) in [0, 1 - 1/M].

    0 where all agree; of four methods, 0.25 where one stands alone and 0.75 where each says something else.

    Args:
        label_maps: one (H, W) label map per method, same size, same vocabulary.

    Raises:
        ValueError: for fewer than two maps or different sizes.
    """
    count = len(label_maps)
    _, votes = consensus(label_maps)
    return ((count - votes) / np.float32(count)).astype(np.float32)


def consensus(
    label_maps: Sequence[NDArray[np.integer]],
) -> tuple[NDArray[np.integer], NDArray[np.int16]]:
    """Most frequent label of every pixel (H, W), and how many of the M methods gave it, (H, W) in 1..M.

    Where two labels are equally frequent, that of the earlier method stands.

    Args:
        label_maps: as in `disagreement`.

    Raises:
        ValueError: as `disagreement`.
    """
    if len(label_maps) < 2:
        raise ValueError(f"A disagreement map needs at least two results, got {len(label_maps)}.")
    shapes = {labels.shape for labels in label_maps}
    if len(shapes) > 1:
        raise ValueError(f"Results can only be compared at one size, got {sorted(shapes)}.")
    winner = label_maps[0].copy()
    most = np.zeros(winner.shape, np.int16)
    for labels in label_maps:
        votes = np.zeros(winner.shape, np.int16)
        for other in label_maps:
            votes += labels == other
        better = votes > most
        winner[better], most[better] = labels[better], votes[better]
    return winner, most


def pairwise_agreement(label_maps: Sequence[NDArray[np.integer]]) -> NDArray[np.float64]:
    """Share of pixels to which two methods give the same label, (M, M) in [0, 1], 1 on the diagonal.

    Args:
        label_maps: as in `disagreement`; one is enough.
    """
    return np.array([[float((first == second).mean()) for second in label_maps] for first in label_maps])


def disagreement_picture(
    results: Sequence[Labelled], opacity: float = 0.75
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Disagreement of several results over their photo (H, W, 3), dark = all agree, and its map (H, W).

    Raises:
        ValueError: where the results do not answer the same question (classes, sizes) or are fewer than two.
    """
    _check_one_question(results)
    against = disagreement([result.labels for result in results])
    most = 1 - 1 / len(results)
    return blend(heatmap(against, against.shape, 0, most, "inferno"), results[0].image, opacity), against


def disagreement_colors(count: int) -> tuple[Color, ...]:
    """Colours of `disagreement_picture`, not blended, where 0, 1, ... of `count` methods differ."""
    from matplotlib import colormaps  # takes half a second to load: only for those who compare

    steps = np.linspace(0, 1, count)
    return tuple((int(r), int(g), int(b)) for r, g, b, _ in colormaps["inferno"](steps, bytes=True))


def consensus_picture(results: Sequence[Labelled]) -> tuple[NDArray[np.uint8], NDArray[np.int16]]:
    """The label that most methods give, stronger the more give it, over the greyed photo; and the votes.

    Class colours are three quarters of the mixture where all agree, and less the fewer do.
    Pixels of label 0 stay grey; white lines part neighbours.

    Returns:
        picture (H, W, 3), and how many methods gave the label, (H, W) in 1..M.

    Raises:
        ValueError: as `disagreement_picture`.
    """
    _check_one_question(results)
    labels, votes = consensus([result.labels for result in results])
    grey = blend(results[0].image, results[0].image, 0)
    weight = np.where(labels == 0, 0, _strength(votes, len(results)))[..., None]  # (H, W, 1)
    colors = np.asarray(results[0].label_map.color_table, np.float32)
    picture = np.round(grey * (1 - weight) + colors[labels] * weight).astype(np.uint8)
    picture[borders(labels)] = 255
    return picture, votes


def consensus_colors(color: Color, count: int) -> tuple[Color, ...]:
    """A class colour as `consensus_picture` mixes it with grey where `count`, count - 1, ..., 1 agree."""
    weights = _strength(np.arange(count, 0, -1), count)
    mixed = np.round(_PAPER * (1 - weights[:, None]) + np.array(color) * weights[:, None])
    return tuple((int(r), int(g), int(b)) for r, g, b in mixed)


def _strength(votes: NDArray[np.integer], count: int) -> NDArray[np.float64]:
    """Weight of the class colour, in (0, `_STRONGEST`]."""
    return _STRONGEST * (votes.astype(np.float64) - 0.5) / (count - 0.5)


def _check_one_question(results: Sequence[Labelled]) -> None:
    if len({result.vocabulary.classes for result in results}) > 1:
        raise ValueError(
            "Results can only be compared when they were asked for the same classes in the same order."
        )
