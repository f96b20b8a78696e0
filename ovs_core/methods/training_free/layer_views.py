"""Inside the tower, for every rule: words asked of each block, attention of each head, tokens that stick out.

Reading the tokens of an earlier block with the last layer norm and the projection is a "logit lens": it shows
where in the tower a word finds its place. What leaves the last block is shown as the tower was trained, and
beside it what the rule makes of it. How alike the words are is a property of the text tower alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from ovs_core.encoders.clip_vit import to_joint_space
from ovs_core.evidence.base import class_counts, largest_per_group
from ovs_core.methods.base import Kinds, Point
from ovs_core.methods.training_free.attention_rules import LastBlock
from ovs_core.methods.training_free.blocks import block_outputs
from ovs_core.methods.training_free.places import cell_of, mean_where_seen, token_of
from ovs_core.options import Options
from ovs_core.types import Features, View, Vocabulary, Window
from ovs_core.views import Source, ViewSpec
from ovs_core.windows import accumulate

if TYPE_CHECKING:  # types only: who builds the model loads its library, which takes seconds
    from open_clip.transformer import VisionTransformer

LAYERS, HEADS, NORMS, WORD_COSINES = "layers", "heads", "norms", "word_cosines"
_MIDDLE = (0.5, 0.5)
_MOST_WORDS = 20  # of the matrix of cosines


def layer_specs(attention: str) -> tuple[ViewSpec, ...]:
    """What is said about the views of a rule whose attention in the last block has this formula."""
    return (
        ViewSpec(
            LAYERS,
            "heat",
            "This class, block by block",
            "cos(ln_post(x_b) P, t): the tokens x_b that leave block b, read as if it were the last one, and "
            "the class's best name t. The last map is this method's own. All are on one scale.",
            per_class=True,
            most=40,
            source=Source("cos(ln_post(x_b) P, t)"),
        ),
        ViewSpec(
            HEADS,
            "heat",
            "Where each head of the last block looks",
            f"What the place takes from each patch, head by head, on one scale; A v is {attention}.",
            titled=True,
            about_point="Click a place to see where each head looks from it.",
        ),
        ViewSpec(
            NORMS,
            "heat",
            "Tokens that stick out, block by block",
            "|x_b| of every patch that leaves block b, divided by the median of that block. Patches far "
            "above 1 no longer tell of their place.",
            most=40,
            source=Source("|x_b| / median of |x_b|"),
        ),
        ViewSpec(
            WORD_COSINES,
            "matrix",
            "How alike the words are",
            "Cosine between the words of each two classes, whatever the photo. Near 1 no method can tell "
            "their pixels apart: join such words as one class with |. At most 20 classes.",
            source=Source("cos(t_i, t_j)"),
        ),
    )


@dataclass(frozen=True, eq=False)
class Asked:
    """One question, as the views need it.

    Attributes:
        visual: the tower.
        rule: what happens in its last block.
        features: of the photo; with what leaves earlier blocks where the views read that.
        rows: unit embeddings of all names, (S, D) float32.
        vocabulary: whose names.
        cosines: of the rule with every name, (S, h, w).
        options: of the question.
        point: (row, column) of the photo, each in [0, 1]; None is the middle.
    """

    visual: VisionTransformer
    rule: LastBlock
    features: Features
    rows: Tensor
    vocabulary: Vocabulary
    cosines: Tensor
    options: Options
    point: Point

    def per_window(self, maps: Callable[[Window], Tensor]) -> Tensor:
        """Maps (M, h, w) of the frame from those of each window."""
        parts = ((window, maps(window)) for window in self.features.windows)
        return accumulate(parts, self.features.grid)


def layer_views(asked: Asked, kinds: Kinds) -> Iterator[View]:
    """The views that were asked for."""
    if LAYERS in kinds:
        yield _layers(asked)
    if HEADS in kinds:
        yield _heads(asked)
    if NORMS in kinds:
        yield _norms(asked)
    if WORD_COSINES in kinds:
        yield _word_cosines(asked)


def every_block(visual: VisionTransformer, window: Window) -> Iterator[Tensor]:
    """What leaves each block of the tower in turn, the last one as it was trained, (1 + h*w, C) each."""
    yield from block_outputs(visual, window)
    yield visual.transformer.resblocks[-1](window.tokens[None])[0]


def _layers(asked: Asked) -> View:
    """Class by class the cosines of every block and of the rule, (K * (L + 1), h, w)."""
    blocks, names = len(asked.visual.transformer.resblocks), asked.vocabulary.names
    counts = class_counts(asked.vocabulary)

    def lens(window: Window) -> Tensor:
        views = []
        for tokens in every_block(asked.visual, window):
            units = F.normalize(to_joint_space(asked.visual, tokens)[1:].float(), dim=-1)  # (h*w, D)
            scores = (asked.rows @ units.T).reshape(-1, *window.grid)
            views.append(largest_per_group(scores, counts)[: len(names)])
        return torch.cat(views)  # (L * K, h, w)

    read = asked.per_window(lens).view(blocks, len(names), *asked.features.grid)
    own = largest_per_group(asked.cosines, counts)[: len(names)]
    maps = torch.cat([read, own[None]]).transpose(0, 1).flatten(0, 1)
    steps = (*(f"block {block} of {blocks}" for block in range(1, blocks + 1)), "this method")
    labels = tuple(f"{name}, {step}" for name in names for step in steps)
    return View(LAYERS, "Cosine to each class, block by block", maps, labels, _ends(maps))


def _heads(asked: Asked) -> View:
    """The pointed place's row of attention, head by head, (T, h, w)."""
    grid = asked.features.grid
    row, column = cell_of(asked.point or _MIDDLE, grid)
    parts: list[tuple[Window, Tensor]] = []
    for window in asked.features.windows:
        token = token_of(window, (row, column))
        if token is not None:
            index = torch.tensor([token], device=window.tokens.device)
            heads = torch.cat(list(asked.rule.heads(asked.visual, window, index, asked.options)))  # (T, L)
            parts.append((window, heads[:, 1:].reshape(-1, *window.grid)))
    maps = mean_where_seen(parts, grid)
    labels = tuple(f"head {head} of {len(maps)}" for head in range(1, len(maps) + 1))
    title = f"Last block, from row {row + 1}, column {column + 1}"
    return View(HEADS, title, maps, labels, (0.0, float(maps.max())))


def _norms(asked: Asked) -> View:
    """Norm of every patch over the median of its block, (L, h, w)."""

    def norms(window: Window) -> Tensor:
        every = every_block(asked.visual, window)
        return torch.stack([x[1:].float().norm(dim=-1).view(window.grid) for x in every])

    maps = asked.per_window(norms)
    medians = maps.flatten(1).median(dim=1).values
    maps = maps / medians[:, None, None].clamp(min=torch.finfo(maps.dtype).tiny)
    blocks = enumerate(medians.tolist(), start=1)
    labels = tuple(f"block {block} of {len(maps)}, median {median:.3g}" for block, median in blocks)
    return View(NORMS, "Norm of each token over the block's median", maps, labels, (0.0, float(maps.max())))


def _word_cosines(asked: Asked) -> View:
    """Cosine of the first name of each class with that of every other, (1, K, K)."""
    counts = class_counts(asked.vocabulary)
    names = asked.vocabulary.names[:_MOST_WORDS]
    first = asked.rows[[sum(counts[:k]) for k in range(len(names))]].float()  # (K, D)
    title = "Cosine between words"
    return View(WORD_COSINES, title, (first @ first.T)[None], ("words",), (-1.0, 1.0), columns=names)


def _ends(maps: Tensor) -> tuple[float, float]:
    return float(maps.min()), float(maps.max())
