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

Evidence is the logits tau1 sum_i m_i + log g, so at scale 1 a probability is m_c divided by its sum over
names: the arg-max is the paper's, the probability is renormalised. Deviation: bilinear upsampling acts on
logits, not on probabilities.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from ovs_core.devices import Cancel, Report
from ovs_core.encoders.clip_resnet import is_resnet, value_path
from ovs_core.encoders.clip_vit import to_joint_space
from ovs_core.encoders.text import TextEncoder
from ovs_core.encoders.upsampling import sharpen
from ovs_core.evidence.score_map import ScoreMap
from ovs_core.methods.base import Answer, Kinds, Point, check_widths, similarity_view
from ovs_core.methods.mvp_seg.contexts import Contexts
from ovs_core.methods.mvp_seg.formulas import log_gate, view_scores
from ovs_core.methods.mvp_seg.views import MvpSegTrace, Words, mvp_seg_views
from ovs_core.methods.training_free.attention_rules import RULES, maskclip_value_path
from ovs_core.methods.training_free.model import TrainingFree
from ovs_core.options import Option, Options
from ovs_core.types import Features, TextBank, View, Vocabulary, Window
from ovs_core.windows import accumulate

if TYPE_CHECKING:  # types only: who builds the model loads its library, which takes seconds
    from open_clip.modified_resnet import ModifiedResNet
    from open_clip.transformer import VisionTransformer

NO_REFINING = Option(
    "no_refining", "switch", False, "Do not ask the global prompt which classes are in the photo."
)
OPTIONS = (NO_REFINING,)


def dense_features(visual: VisionTransformer | ModifiedResNet, window: Window) -> Tensor:
    """MaskCLIP's unit features of a window, (D, h, w) float32, by the value path of its tower."""
    if is_resnet(visual):
        last = window.tokens[1:].T.reshape(1, -1, *window.grid)  # (1, C, h, w)
        return F.normalize(value_path(visual, last).features[0].float(), dim=0)
    values = maskclip_value_path(visual.transformer.resblocks[-1], window.tokens[None]).values
    dense = to_joint_space(visual, values)[0, 1:].float()  # (h*w, D)
    return F.normalize(dense, dim=-1).T.reshape(-1, *window.grid)


@dataclass(frozen=True, eq=False)
class ContextText:
    """The text half of MVP-SEG: names in the learned contexts of a file.

    Attributes:
        encoder: text tower of the model the contexts were trained on; its cache keeps embeddings.
        contexts: the learned vectors.
        sha256: of their file.
    """

    encoder: TextEncoder
    contexts: Contexts
    sha256: str = ""

    @property
    def identity(self) -> str:
        """Tower and contexts in one string."""
        return f"{self.encoder.identity}|contexts {self.sha256[:12]}"

    def embed(
        self,
        vocabulary: Vocabulary,
        templates: tuple[str, ...] = (),
        *,
        progress: Report = None,
        cancel: Cancel = None,
    ) -> TextBank:
        """Unit embeddings (V, S, D) in the order of `contexts.titles`; templates are not read."""
        prompts = self.encoder.embed_contexts(
            vocabulary.rows, self.contexts.stacked, self.contexts.position, progress=progress, cancel=cancel
        )
        return TextBank(vocabulary, prompts)


@dataclass(frozen=True, eq=False)
class MvpSeg:
    """MVP-SEG on one frozen tower.

    Attributes:
        visual: tower that made the features; only its value path runs.
        contexts: temperatures and the learned vectors, which the views show.
        words: the words nearest to the contexts, asked only for a view.
    """

    visual: VisionTransformer | ModifiedResNet
    contexts: Contexts
    words: Words

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
        """Evidence for every name of `text`, embedded in the learned contexts by `ContextText`.

        Options: "no_refining" leaves Global Prompt Refining out, as contexts without a global prompt do.

        Views: "similarity", the mean cosine of the views; "attention" of MaskCLIP (each patch looks at itself
        only); the others are those of `ovs_core.methods.mvp_seg.views`.
        """
        check_widths(self.visual, features, text)
        prompts = text.embeddings.to(features.windows[0].tokens.device)  # (V, S, D)
        refine = self.contexts.whole is not None and not options.get(NO_REFINING.name)
        fused, whole = self._cosines(features, prompts, refine)
        scores = self.contexts.tau1 * fused
        if whole is not None:
            gates = log_gate(whole, self.contexts.gamma, self.contexts.tau2)  # (S,)
            scores = scores + gates[:, None, None]
        if features.upsampling_weights is not None:
            scores = sharpen(scores, features.upsampling_weights)
        evidence = ScoreMap(scores, text.vocabulary, features.image_size)
        return Answer(evidence, self._views(features, text, views, point))

    def _cosines(self, features: Features, prompts: Tensor, refine: bool) -> tuple[Tensor, Tensor | None]:
        """Sum of the views' cosines and, where refining, the global prompt's, (S, h, w) each: one product."""
        k = self.contexts.k
        rows = prompts[-k:].sum(dim=0)  # (S, D)
        if refine:
            rows = torch.cat([rows, prompts[0]])
        parts = (
            (window, torch.einsum("sd,dhw->shw", rows, dense_features(self.visual, window)))
            for window in features.windows
        )
        scores = accumulate(parts, features.grid)
        names = prompts.shape[1]
        return scores[:names], scores[names:] if refine else None

    def _views(self, features: Features, text: TextBank, kinds: Kinds, point: Point) -> tuple[View, ...]:
        if not kinds:
            return ()
        seen: list[View] = []
        prompts = text.embeddings.to(features.windows[0].tokens.device)
        parts = (
            (window, view_scores(dense_features(self.visual, window), prompts).flatten(0, 1))
            for window in features.windows
        )
        maps = accumulate(parts, features.grid).reshape(*prompts.shape[:2], *features.grid)  # (V, S, h, w)
        if "similarity" in kinds:
            mean = ScoreMap(maps[-self.contexts.k :].mean(dim=0), text.vocabulary, features.image_size)
            seen.append(similarity_view("Mean cosine of the views to each class", mean))
        if not is_resnet(self.visual):
            rule = TrainingFree(self.visual, RULES["maskclip"])
            if "attention" in kinds:
                seen.append(rule.attention_view(features, point, {}))
            if "affinity" in kinds:
                seen.append(rule.affinity_view(features, {}))
        trace = MvpSegTrace(maps, prompts, text.vocabulary, self.contexts)
        return (*seen, *mvp_seg_views(trace, kinds, self.words))


def build_mvp_seg(
    visual: VisionTransformer | ModifiedResNet, text: TextEncoder, contexts: Contexts
) -> MvpSeg:
    """MVP-SEG from both towers and the contexts that were trained on them.

    Args:
        visual: image tower.
        text: text tower of the same model; asked for the words nearest to the contexts.
        contexts: from `load_contexts`, which refuses another tower's.
    """
    return MvpSeg(visual, contexts, partial(text.nearest_words, contexts.stacked))
