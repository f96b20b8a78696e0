"""MVP-SEG: several learned prompts look at each class, a global one says which classes are there at all.

Paper: MVP-SEG (arXiv 2304.06957). There is no official code; formulas are the paper's as summarised second
hand, and what they leave open is inferred. Contexts p_1..p_k (views) and p_0 (global) are learnt, CLIP is
frozen, and one set of contexts serves every class, so any typed word works.

    m_i^c(x) = <F(x), t_i^c>                          F: MaskCLIP's dense features, t: prompts, both unit
    m_f      = softmax_c(tau1 * sum_i m_i)             fusion of the views i = 1..k
    pooled_c = sum_x m_0^c(x) softmax_x(gamma m_0^c)   Global Prompt Refining (GPR)
    g_c      = sigmoid(pooled_c / tau2);  m_c = m_f g_c;  label = argmax_c m_c

Since sum_i <F, t_i> = <F, sum_i t_i>, fusion is one matrix product with the summed embeddings, whatever k is;
maps of single views are made only for `views`.

Inferred, not in the paper (each is a value in `MvpSegPlan` or in the contexts' file): m_i are cosines, M = 16
vectors with the class name behind them, tau1 starts at 100 / k, tau2 at 0.07, gamma = 100.

Deviation: the house wants evidence that is soft-maxed over names at a preset's scale. Evidence here is
(tau1 sum_i m_i + log g) / 100, so at scale 100 a share is m_c divided by its sum over names: the arg-max is
the paper's, the share is renormalised. Bilinear upsampling then acts on cosines, not on probabilities.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from open_clip.modified_resnet import ModifiedResNet
from open_clip.transformer import VisionTransformer
from torch import Tensor

from ovs_core.encoders.clip_resnet import value_path
from ovs_core.encoders.clip_vit import to_joint_space
from ovs_core.encoders.contexts import Contexts
from ovs_core.encoders.text import TextEncoder
from ovs_core.encoders.upsampling import sharpen
from ovs_core.methods.attention_rules import RULES, maskclip_value_path
from ovs_core.methods.base import Kinds, Point, check_widths, expect_tokens, similarity_view
from ovs_core.methods.mvp_seg_formulas import log_gate, view_scores
from ovs_core.methods.mvp_seg_views import Looked, Words, mvp_seg_views
from ovs_core.methods.training_free import TrainingFree
from ovs_core.types import Features, Pyramid, ScoreMap, Segmentation, TextBank, View, Window
from ovs_core.windows import accumulate

EVIDENCE_SCALE = 100.0
"""Scale of the preset at which shares are the paper's m_c, renormalised."""
NO_REFINING = "no_refining"

Prompted = Callable[[Sequence[str]], Tensor]
"""Names to unit embeddings (V, S, D): the global prompt first, if there is one, then the k views."""


def dense_features(visual: VisionTransformer | ModifiedResNet, window: Window) -> Tensor:
    """MaskCLIP's unit features of a window, (D, h, w) float32, by the value path of its tower."""
    if isinstance(visual, ModifiedResNet):
        last = window.tokens[1:].T.reshape(1, -1, *window.grid)  # (1, C, h, w)
        return F.normalize(value_path(visual, last).features[0].float(), dim=0)
    values = maskclip_value_path(visual.transformer.resblocks[-1], window.tokens[None]).values
    dense = to_joint_space(visual, values)[0, 1:].float()  # (h*w, D)
    return F.normalize(dense, dim=-1).T.reshape(-1, *window.grid)


@dataclass(frozen=True, eq=False)
class MvpSeg:
    """MVP-SEG on one frozen tower.

    Attributes:
        name: registry name.
        visual: tower that made the features; only its value path runs.
        contexts: temperatures and the learned vectors, which the views show.
        prompted: names to embeddings in these contexts, in the order of `contexts.titles`.
        words: the words nearest to the contexts, asked only for a view.
        refine: Global Prompt Refining; it needs a trained global context.
    """

    name: str
    visual: VisionTransformer | ModifiedResNet
    contexts: Contexts
    prompted: Prompted
    words: Words
    refine: bool = True

    def __post_init__(self) -> None:
        if self.refine and self.contexts.whole is None:
            raise ValueError("refine needs contexts with a global prompt; these were trained without one")

    @torch.no_grad()
    def segment(
        self, features: Features | Pyramid, text: TextBank, *, views: Kinds = frozenset(), point: Point = None
    ) -> Segmentation:
        """Evidence for every row of `text`, whose names are embedded anew in the learned contexts.

        Views: "similarity", the mean cosine of the views; "attention" of MaskCLIP (each patch looks at itself
        only); the others are those of `ovs_core.methods.mvp_seg_views`.
        """
        features = expect_tokens(features, self.name)
        check_widths(self.visual, features, text)
        device = features.windows[0].tokens.device
        prompts = self.prompted(text.vocabulary.rows).to(device)  # (V, S, D)
        fused, whole = self._cosines(features, prompts)
        gates = None
        if self.refine and whole is not None:
            gates = log_gate(whole, self.contexts.gamma, self.contexts.tau2)  # (S,)
        evidence = self.contexts.tau1 * fused
        if gates is not None:
            evidence = evidence + gates[:, None, None]
        if features.shares is not None:
            evidence = sharpen(evidence, features.shares)
        found = ScoreMap(evidence / EVIDENCE_SCALE, text.vocabulary, features.image_size)
        return Segmentation(found, self._views(features, text, prompts, views, point))

    def _cosines(self, features: Features, prompts: Tensor) -> tuple[Tensor, Tensor | None]:
        """Sum of the views' cosines and, where refining, the global prompt's, (S, h, w) each: one product."""
        k = self.contexts.k
        rows = prompts[-k:].sum(dim=0)  # (S, D)
        if self.refine:
            rows = torch.cat([rows, prompts[0]])
        parts = (
            (window, torch.einsum("sd,dhw->shw", rows, dense_features(self.visual, window)))
            for window in features.windows
        )
        scores = accumulate(parts, features.grid)
        names = prompts.shape[1]
        return scores[:names], scores[names:] if self.refine else None

    def _views(
        self,
        features: Features,
        text: TextBank,
        prompts: Tensor,
        kinds: Kinds,
        point: Point,
    ) -> tuple[View, ...]:
        if not kinds:
            return ()
        seen: list[View] = []
        parts = (
            (window, view_scores(dense_features(self.visual, window), prompts).flatten(0, 1))
            for window in features.windows
        )
        maps = accumulate(parts, features.grid).reshape(*prompts.shape[:2], *features.grid)  # (V, S, h, w)
        if "similarity" in kinds:
            mean = ScoreMap(maps[-self.contexts.k :].mean(dim=0), text.vocabulary, features.image_size)
            seen.append(similarity_view("Mean cosine of the views to each class", mean))
        if "attention" in kinds and isinstance(self.visual, VisionTransformer):
            rule = TrainingFree(self.name, self.visual, RULES["maskclip"])
            seen += rule.segment(features, text, views={"attention"}, point=point).views
        looked = Looked(maps, prompts, text.vocabulary, self.contexts)
        return (*seen, *mvp_seg_views(looked, kinds, self.words))


def build_mvp_seg(
    visual: VisionTransformer | ModifiedResNet,
    text: TextEncoder,
    contexts: Contexts,
    switches: AbstractSet[str] = frozenset(),
) -> MvpSeg:
    """MVP-SEG from both towers and the contexts that were trained on them.

    Args:
        visual: image tower.
        text: text tower of the same model; its cache keeps the prompted embeddings.
        contexts: from `load_contexts`, which refuses another tower's.
        switches: "no_refining" leaves Global Prompt Refining out.
    """
    prompted = partial(text.embed_contexts, vectors=contexts.stacked, position=contexts.position)
    words = partial(text.nearest_words, contexts.stacked)
    refine = contexts.whole is not None and NO_REFINING not in switches
    return MvpSeg("mvp_seg", visual, contexts, prompted, words, refine)
