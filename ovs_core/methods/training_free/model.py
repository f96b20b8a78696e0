"""CLIP as a segmenter without training: rebuild the last block by a rule, compare patches with names.

For each window: last block by rule, `ln_post`, projection, class token dropped, L2-normalised, cosine with
the text; cosines of overlapping windows are averaged on the token grid of the frame. Where the tower says
how, evidence is then sharpened (`ovs_core.encoders.upsampling`). Papers and rules:
`ovs_core.methods.training_free.attention_rules`.

MaskCLIP's two optional refinements (arXiv 2112.01071, section 3.3) follow its official code, where the photo
is one window. With several windows, prompt denoising looks at the averaged cosines of the whole photo and
key smoothing at the averaged keys; with one window both are exactly the official ones. Smoothed scores are no
cosines: divided by their sum over names they are probabilities, which need no scale.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from ovs_core.encoders.clip_vit import to_joint_space
from ovs_core.encoders.upsampling import sharpen
from ovs_core.evidence.base import Activation
from ovs_core.evidence.score_map import ScoreMap
from ovs_core.methods.base import (
    MOST_PLACES,
    Answer,
    Kinds,
    Point,
    check_widths,
    similarity_view,
)
from ovs_core.methods.training_free.absent import DROP_ABSENT, LEAST_OVERLAP, absent_names
from ovs_core.methods.training_free.attention_rules import (
    SUPPRESSED,
    LastBlock,
    key_smoothing,
    maskclip_value_path,
    prompt_denoising,
)
from ovs_core.methods.training_free.blocks import STITCH, stitched
from ovs_core.methods.training_free.layer_views import Asked, layer_views
from ovs_core.methods.training_free.places import cell_of, mean_where_seen, token_of
from ovs_core.options import Option, Options
from ovs_core.types import Features, TextBank, View, Window
from ovs_core.windows import accumulate

if TYPE_CHECKING:  # types only: who builds the model loads its library, which takes seconds
    from open_clip.transformer import ResidualAttentionBlock, VisionTransformer

PROMPT_DENOISING = Option(
    "prompt_denoising", "switch", False, "Take out classes that are nowhere convincing."
)
KEY_SMOOTHING = Option("key_smoothing", "switch", False, "Unsure patches follow patches that look alike.")
OPTIONS = (STITCH, DROP_ABSENT)
"""Of every rule on the last block's own tokens."""
MASKCLIP_OPTIONS = (PROMPT_DENOISING, KEY_SMOOTHING, *OPTIONS)
DEEPER_OPTIONS = (DROP_ABSENT,)
"""Of rules that look at earlier blocks, whose windows are not stitched."""

SOFTMAX: Activation = "softmax"
PROBABILITIES: Activation = "none"
PROMPT_DENOISING_FLOOR = 0.5  # MaskCLIP's official settings, probabilities
KEY_SMOOTHING_CEILING = 1.0
_LEAST_SUM = 1e-12  # of smoothed scores, which may all be 0


@dataclass(frozen=True, eq=False)
class TrainingFree:
    """One rule on the last block of one tower.

    Attributes:
        visual: open_clip's `VisionTransformer` that made the features; only its last block, `ln_post` and
            `proj` run.
        rule: what happens in the last block: one of `attention_rules.RULES` or `calibrated.CALIBRATIONS`.
        denoise_floor: of MaskCLIP's prompt denoising, a probability.
        smooth_ceiling: of MaskCLIP's key smoothing, a probability.
        absent_overlap: of FreeCP's purification, see `absent.absent_names`.
    """

    visual: VisionTransformer
    rule: LastBlock
    denoise_floor: float = PROMPT_DENOISING_FLOOR
    smooth_ceiling: float = KEY_SMOOTHING_CEILING
    absent_overlap: float = LEAST_OVERLAP

    @torch.no_grad()
    def ask(
        self,
        features: Features,
        text: TextBank,
        options: Options,
        *,
        views: Kinds = frozenset(),
        point: Point = None,
    ) -> Answer:
        """Cosine evidence for every row of `text`; see `ovs_core.methods.base.Method`.

        Options: "prompt_denoising" and "key_smoothing" of MaskCLIP, "stitch" (one attention over all windows)
        and "drop_absent" (`absent.absent_names`), all off by default; those of the rule.

        Views: "similarity", the cosine of each class (its best name) before any refinement; "attention", how
        much the patch under `point`, or without a point the class token, takes from each patch; "affinity",
        the same for every place of a coarse grid; those of `layer_views`.
        """
        check_widths(self.visual, features, text)
        if options.get(STITCH.name):
            features = stitched(features)
        rows = text.embeddings.to(features.windows[0].tokens.device, torch.float32)
        parts = ((window, self._cosines(window, rows, options)) for window in features.windows)
        cosines = accumulate(parts, features.grid)  # (S, h, w)
        seen: list[View] = []
        if "similarity" in views:
            raw = ScoreMap(cosines, text.vocabulary, features.image_size)
            seen.append(similarity_view("Cosine to each class", raw))
        if "attention" in views:
            seen.append(self.attention_view(features, point, options))
        if "affinity" in views:
            seen.append(self.affinity_view(features, options))
        asked = Asked(self.visual, self.rule, features, rows, text.vocabulary, cosines, options, point)
        seen += layer_views(asked, views)
        scores, activation = cosines, SOFTMAX
        if options.get(PROMPT_DENOISING.name):
            scores = prompt_denoising(scores, self.denoise_floor)
        if options.get(DROP_ABSENT.name):
            typed = sum(map(len, text.vocabulary.classes))
            absent = absent_names(self.visual, features, cosines, typed, self.absent_overlap)
            scores = scores.masked_fill(absent[:, None, None], SUPPRESSED)
        if options.get(KEY_SMOOTHING.name):
            scores, activation = self._smoothed(scores, features), PROBABILITIES
        if features.upsampling_weights is not None:
            scores = sharpen(scores, features.upsampling_weights)
        return Answer(ScoreMap(scores, text.vocabulary, features.image_size, activation), tuple(seen))

    @property
    def _block(self) -> ResidualAttentionBlock:
        return self.visual.transformer.resblocks[-1]

    def _cosines(self, window: Window, rows: Tensor, options: Options) -> Tensor:
        """Cosine of each patch of a window with each text row (S, D), (S, h, w) float32."""
        dense = to_joint_space(self.visual, self.rule.leave(self.visual, window, options))[1:]  # (h*w, D)
        return (rows @ F.normalize(dense.float(), dim=-1).T).reshape(-1, *window.grid)  # (S, h, w)

    def _weights(self, window: Window, tokens: Tensor, options: Options) -> Tensor:
        """How much each of `tokens` (R,) takes from each one of its window, (R, L) float32, mean of heads."""
        total = torch.zeros(len(tokens), len(window.tokens), device=window.tokens.device)
        for weights in self.rule.heads(self.visual, window, tokens, options):
            total += weights
        return total / self._block.attn.num_heads

    def _smoothed(self, cosines: Tensor, features: Features) -> Tensor:
        """Probabilities (S, h, w) of names after MaskCLIP's key smoothing of cosines (S, h, w)."""
        parts = ((window, self._keys(window)) for window in features.windows)
        keys = accumulate(parts, features.grid)  # (C, h, w)
        scores = key_smoothing(cosines, keys.flatten(1).T, self.smooth_ceiling).clamp(min=0)
        return scores / scores.sum(dim=0).clamp(min=_LEAST_SUM)

    def _keys(self, window: Window) -> Tensor:
        """Keys of a window's patches as MaskCLIP has them, (C, h, w) float32."""
        keys = maskclip_value_path(self._block, window.tokens[None]).keys
        return keys[0, 1:].float().T.reshape(-1, *window.grid)

    def attention_view(self, features: Features, point: Point, options: Options) -> View:
        """How much the patch under a point, or without one the class token, takes from each patch."""
        cell = None if point is None else cell_of(point, features.grid)
        parts: list[tuple[Window, Tensor]] = []
        for window in features.windows:
            token = 0 if cell is None else token_of(window, cell)
            if token is not None:
                index = torch.tensor([token], device=window.tokens.device)
                weights = self._weights(window, index, options)
                parts.append((window, weights[:, 1:].reshape(1, *window.grid)))  # (1, h, w)
        label = "class token" if cell is None else f"row {cell[0] + 1}, column {cell[1] + 1}"
        title = "Where the last block looks from " + ("the class token" if cell is None else "this patch")
        return View("attention", title, mean_where_seen(parts, features.grid), (label,))

    def affinity_view(self, features: Features, options: Options) -> View:
        """How much each place of a coarse grid takes from all of them, a mean over the windows that hold it.

        A place is the token in its middle; what it takes from a place is the mean over that place's tokens.
        """
        height, width = features.grid
        rows, columns = coarse_grid(features.grid)
        down = ((torch.arange(rows) + 0.5) * height / rows).long()
        across = ((torch.arange(columns) + 0.5) * width / columns).long()
        cells = torch.cartesian_prod(down, across)  # (N, 2)
        total = torch.zeros(len(cells), height, width, device=features.windows[0].tokens.device)
        count = total.new_zeros(len(cells), 1, 1)
        for window in features.windows:
            tall, wide = window.grid
            top, left = window.top, window.left
            inside = cells - torch.tensor([top, left])
            held = ((inside >= 0) & (inside < torch.tensor([tall, wide]))).all(dim=1)
            index = (1 + inside[held] @ torch.tensor([wide, 1])).to(total.device)
            weights = self._weights(window, index, options)
            held = held.to(total.device)
            total[held, top : top + tall, left : left + wide] += weights[:, 1:].reshape(-1, tall, wide)
            count[held] += 1
        maps = F.adaptive_avg_pool2d(total / count.clamp(min=1), (rows, columns))
        labels = tuple(
            f"row {place // columns + 1}, column {place % columns + 1}" for place in range(len(cells))
        )
        return View("affinity", "Where the last block looks from each place", maps, labels)


def coarse_grid(grid: tuple[int, int], most: int = MOST_PLACES) -> tuple[int, int]:
    """The grid (h, w), or one of the same shape with at most `most` places."""
    shrink = min(1.0, math.sqrt(most / (grid[0] * grid[1])))
    rows = min(max(1, int(grid[0] * shrink)), most)
    return rows, max(1, min(int(grid[1] * shrink), most // rows))
