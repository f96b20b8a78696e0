"""CLIP and MaskCLIP on CLIP's ResNets: each place's feature, compared with names.

Paper: MaskCLIP (arXiv 2112.01071), section 3.2; numbers follow its official code (chongzhou96/MaskCLIP
245d31f), which runs the whole photo at once. Its value path is the attention pool without attention; "CLIP
as it is" is the pool as it is, place by place. The two refinements are those of a ViT
(`ovs_core.methods.training_free.model`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from ovs_core.encoders.clip_resnet import attention_pool, value_path
from ovs_core.evidence.score_map import ScoreMap
from ovs_core.methods.base import Answer, Kinds, Point, check_widths, similarity_view
from ovs_core.methods.training_free.absent import DROP_ABSENT
from ovs_core.methods.training_free.attention_rules import key_smoothing, prompt_denoising
from ovs_core.methods.training_free.blocks import STITCH
from ovs_core.methods.training_free.model import (
    KEY_SMOOTHING,
    KEY_SMOOTHING_CEILING,
    PROBABILITIES,
    PROMPT_DENOISING,
    PROMPT_DENOISING_FLOOR,
    SOFTMAX,
)
from ovs_core.options import Options
from ovs_core.types import Features, TextBank, View, Window
from ovs_core.windows import accumulate

if TYPE_CHECKING:  # types only: who builds the model loads its library, which takes seconds
    from open_clip.modified_resnet import ModifiedResNet

_LEAST_SUM = 1e-12  # of smoothed scores, which may all be 0

PoolRule = Literal["maskclip", "clip"]
"""The value path, or the attention pool as it is."""


@dataclass(frozen=True, eq=False)
class ResNetTrainingFree:
    """CLIP's ResNet as a segmenter without training.

    Attributes:
        visual: open_clip's `ModifiedResNet` that made the features; only its attention pool runs.
        rule: what is read of it.
    """

    visual: ModifiedResNet
    rule: PoolRule

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
        """Cosine evidence for every row of `text`; options as on a ViT, the one view is "similarity"."""
        check_widths(self.visual, features, text)
        if options.get(STITCH.name) or options.get(DROP_ABSENT.name):
            raise ValueError(f"{STITCH.name} and {DROP_ABSENT.name} need the blocks of a ViT, not a ResNet.")
        rows = text.embeddings.to(features.windows[0].tokens.device, torch.float32)
        cosines = accumulate(
            ((window, torch.einsum("sd,dhw->shw", rows, self._dense(window))) for window in features.windows),
            features.grid,
        )  # (S, h, w)
        seen: tuple[View, ...] = ()
        if "similarity" in views:
            raw = ScoreMap(cosines, text.vocabulary, features.image_size)
            seen = (similarity_view("Cosine to each class", raw),)
        scores, activation = cosines, SOFTMAX
        if options.get(PROMPT_DENOISING.name):
            scores = prompt_denoising(scores, PROMPT_DENOISING_FLOOR)
        if options.get(KEY_SMOOTHING.name):
            scores, activation = self._smoothed(scores, features), PROBABILITIES
        return Answer(ScoreMap(scores, text.vocabulary, features.image_size, activation), seen)

    def _dense(self, window: Window) -> Tensor:
        """Unit features of a window, (D, h, w) float32."""
        last = _map(window)
        if self.rule == "clip":
            dense = attention_pool(self.visual, last)[0, 1:].T.reshape(-1, *window.grid)
        else:
            dense = value_path(self.visual, last).features[0]
        return F.normalize(dense.float(), dim=0)

    def _smoothed(self, cosines: Tensor, features: Features) -> Tensor:
        """Probabilities (S, h, w) of names after MaskCLIP's key smoothing of cosines (S, h, w)."""
        parts = (
            (window, value_path(self.visual, _map(window)).keys[0].float()) for window in features.windows
        )
        keys = accumulate(parts, features.grid)  # (C, h, w)
        scores = key_smoothing(cosines, keys.flatten(1).T, KEY_SMOOTHING_CEILING).clamp(min=0)
        return scores / scores.sum(dim=0).clamp(min=_LEAST_SUM)


def _map(window: Window) -> Tensor:
    """The last stage's map (1, C, h, w) of a window."""
    return window.tokens[1:].T.reshape(1, -1, *window.grid)
