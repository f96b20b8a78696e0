"""MaskCLIP on CLIP's ResNets: each place's feature by the attention pool's value path, compared with names.

Paper: MaskCLIP (arXiv 2112.01071), section 3.2; numbers follow its official code (chongzhou96/MaskCLIP
245d31f), which runs the whole photo at once. Its two refinements are those of
`ovs_core.methods.attention_rules`; smoothed scores become evidence as in `ovs_core.methods.training_free`, as
log(share) / scale. `clip` is the attention pool as it is, place by place: what the value path improves on.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from open_clip.modified_resnet import ModifiedResNet
from torch import Tensor

from ovs_core.encoders.clip_resnet import attention_pool, value_path
from ovs_core.methods.attention_rules import TEMPERATURE, key_smoothing, prompt_denoising
from ovs_core.methods.base import Kinds, Point, check_widths, expect_tokens, similarity_view
from ovs_core.types import Features, Pyramid, ScoreMap, Segmentation, TextBank, View, Window
from ovs_core.windows import accumulate

LEAST_SHARE = 1e-12  # smoothed scores may be 0 or below; their logarithm may not

Path = Literal["maskclip", "clip"]


@dataclass(frozen=True, eq=False)
class ResNetMaskClip:
    """CLIP's ResNet as a segmenter without training.

    Attributes:
        name: "maskclip" for the value path, "clip" for the attention pool as it is.
        visual: open_clip's `ModifiedResNet` that made the features; only its attention pool runs.
        denoise_floor: prompt denoising, a probability (officially 0.5); None leaves it out.
        smooth_ceiling: key smoothing, a probability (officially 1.0); None leaves it out.
        smoothed_scale: at which the shares of smoothed scores are themselves; the scale of the preset.
    """

    name: Path
    visual: ModifiedResNet
    denoise_floor: float | None = None
    smooth_ceiling: float | None = None
    smoothed_scale: float = TEMPERATURE

    @torch.no_grad()
    def segment(
        self, features: Features | Pyramid, text: TextBank, *, views: Kinds = frozenset(), point: Point = None
    ) -> Segmentation:
        """Cosine evidence for every row of `text`; the one view is "similarity", before any refinement."""
        features = expect_tokens(features, self.name)
        check_widths(self.visual, features, text)
        rows = text.embeddings.to(features.windows[0].tokens.device, torch.float32)
        cosines = accumulate(
            ((window, torch.einsum("sd,dhw->shw", rows, self._dense(window))) for window in features.windows),
            features.grid,
        )  # (S, h, w)
        evidence = cosines
        if self.denoise_floor is not None:
            evidence = prompt_denoising(evidence, self.denoise_floor)
        if self.smooth_ceiling is not None:
            evidence = self._smoothed(evidence, features)
        seen: tuple[View, ...] = ()
        if "similarity" in views:
            raw = ScoreMap(cosines, text.vocabulary, features.image_size)
            seen = (similarity_view("Cosine to each class", raw),)
        return Segmentation(ScoreMap(evidence, text.vocabulary, features.image_size), seen)

    def _dense(self, window: Window) -> Tensor:
        """Unit features of a window, (D, h, w) float32."""
        last = _map(window)
        if self.name == "clip":
            dense = attention_pool(self.visual, last)[0, 1:].T.reshape(-1, *window.grid)
        else:
            dense = value_path(self.visual, last).features[0]
        return F.normalize(dense.float(), dim=0)

    def _smoothed(self, evidence: Tensor, features: Features) -> Tensor:
        parts = (
            (window, value_path(self.visual, _map(window)).keys[0].float()) for window in features.windows
        )
        keys = accumulate(parts, features.grid)  # (C, h, w)
        scores = key_smoothing(evidence, keys.flatten(1).T, self.smooth_ceiling or 0.0).clamp(min=0)
        share = scores / scores.sum(dim=0).clamp(min=LEAST_SHARE)
        return share.clamp(min=LEAST_SHARE).log() / self.smoothed_scale


def _map(window: Window) -> Tensor:
    """The last stage's map (1, C, h, w) of a window."""
    return window.tokens[1:].T.reshape(1, -1, *window.grid)
