"""LDVC and ZegCLIP with a trained head: the quick half, and the two slow halves that belong to the head.

Every window is decoded with its own class token; scores of overlapping windows are averaged.

Deviation: official code upsamples each window's scores, takes sigmoids and averages these per pixel. Here
scores are averaged before the sigmoid, on the token grid, as the house does with all evidence. On one window
both are the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ovs_core.decoders.semantic_decoder import Decoded, Routing
from ovs_core.devices import Cancel, Report
from ovs_core.encoders.clip_vit import VisionEncoder
from ovs_core.encoders.text import TextEncoder
from ovs_core.encoders.upsampling import sharpen
from ovs_core.evidence.base import Activation
from ovs_core.evidence.protocol import Evidence
from ovs_core.evidence.score_map import ScoreMap
from ovs_core.methods.base import Answer, Kinds, Point, check_point, check_widths
from ovs_core.methods.ldvc.heads import PromptedHead
from ovs_core.methods.ldvc.model import GAMMA_RANGE, gamma_offsets
from ovs_core.methods.ldvc.views import Trace, prompted_views
from ovs_core.options import Option, Options
from ovs_core.types import Features, TextBank, Vocabulary, Window
from ovs_core.windows import accumulate

if TYPE_CHECKING:  # types only: who builds the model loads its library, which takes seconds
    from open_clip.transformer import VisionTransformer

ROUTINGS: Mapping[str, Routing] = MappingProxyType(
    {"as trained": "routed", "all windows": "everywhere", "off": "skipped"}
)
# ZegCLIP's 0.1 is for closed lists: names of "everything else" are not lowered and would take what is typed.
GAMMA = Option(
    "gamma",
    "number",
    0.0,
    "Taken off the probability of every class that training saw; 0.1 in the papers, whose lists are closed.",
    title="Calibration of seen classes",
    low=GAMMA_RANGE[0],
    high=GAMMA_RANGE[1],
    stage="decide",
    slider=(*GAMMA_RANGE, 0.01),
)
ROUTE_ATTENTION = Option(
    "route_attention",
    "choice",
    "as trained",
    "Which windows of the photo a patch reads before it meets the words; off is not what the paper retrains.",
    choices=tuple(ROUTINGS),
)
OPTIONS = (GAMMA,)
LDVC_OPTIONS = (*OPTIONS, ROUTE_ATTENTION)
_SIGMOID: Activation = "sigmoid"


@dataclass(frozen=True, eq=False)
class PromptedSegmenter:
    """A head on its tower.

    Attributes:
        trained: the head.
        visual: image tower that made the features; only `ln_post` and `proj` run.
    """

    trained: PromptedHead
    visual: VisionTransformer

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
        """Scores of every name, probabilities by a sigmoid; see `ovs_core.methods.base.Method`.

        Options: "route_attention" as trained, over all windows or off (LDVC); "gamma" acts on evidence.

        Views: those of `ovs_core.methods.ldvc.views`.

        Raises:
            ValueError: if features or text are of another tower, or `point` is outside.
        """
        check_widths(self.visual, features, text)
        check_point(point)
        routing = ROUTINGS[str(options.get(ROUTE_ATTENTION.name, ROUTE_ATTENTION.default))]
        rows = text.embeddings.to(features.windows[0].tokens.device, torch.float32)
        decoded = tuple(self.decode(window, rows, routing) for window in features.windows)
        parts = zip(features.windows, (window.scores[0] for window in decoded), strict=True)
        scores = accumulate(parts, features.grid)
        if features.upsampling_weights is not None:
            scores = sharpen(scores, features.upsampling_weights)
        seen = frozenset() if self.trained.self_trained else self.trained.seen
        evidence = ScoreMap(scores, text.vocabulary, features.image_size, _SIGMOID, seen=seen)
        trace = Trace(features, decoded, text, rows, self.trained.seen, self.decode)
        return Answer(evidence, prompted_views(trace, views, point))

    def decode(self, window: Window, rows: Tensor, routing: Routing) -> Decoded:
        """What the decoder says of a window about class embeddings (S, D), a batch of one.

        Raises:
            ValueError: if the window does not carry the tokens that the head reads.
        """
        wanted = self.trained.head.config.taps(len(self.visual.transformer.resblocks))
        if len(window.taps) != len(wanted):
            raise ValueError(f"features must carry what leaves blocks {wanted}, got {len(window.taps)} taps")
        taps = tuple(tokens[None].float() for tokens in window.taps)
        joint = self.trained.head.features(self.visual, taps, window.grid)
        answer: Decoded = self.trained.head(joint, rows, routing=routing)
        return answer


@dataclass(frozen=True, eq=False)
class PromptedText:
    """The text half of a head: names in its language prompts, or in the template it was trained with.

    Attributes:
        encoder: text tower of the model the head was trained on; its cache keeps embeddings.
        trained: the head.
    """

    encoder: TextEncoder
    trained: PromptedHead

    @property
    def identity(self) -> str:
        """Tower and prompts in one string."""
        prompts = self.trained.language_prompts
        own = "|".join(self.trained.templates) if prompts is None else f"deep prompts {prompts.digest[:12]}"
        return f"{self.encoder.identity}|{own}"

    def embed(
        self,
        vocabulary: Vocabulary,
        templates: tuple[str, ...] = (),
        *,
        progress: Report = None,
        cancel: Cancel = None,
    ) -> TextBank:
        """Unit embeddings (S, D); `templates` are not read, the head brings its own."""
        prompts = self.trained.language_prompts
        if prompts is None:
            own = self.trained.templates
            return self.encoder.embed(vocabulary, own, progress=progress, cancel=cancel)
        return self.encoder.embed_prompted(vocabulary, prompts, progress=progress, cancel=cancel)


def prompted_encoder(vision: VisionEncoder, trained: PromptedHead, sha256: str) -> VisionEncoder:
    """The image half of a head: the tower's encoder with the head's prompts, taps and colours.

    Args:
        vision: of the tower.
        trained: the head.
        sha256: of its file, part of the features' identity.

    Raises:
        ValueError: if the prompts are for another tower.
    """
    tokens = tuple(prompt.to(vision.device) for prompt in trained.visual_prompts.tokens)
    frame = trained.frame
    return replace(
        vision,
        identity=f"{vision.identity}+{sha256[:12]}",
        stem_of=vision.stem_of or vision.identity,
        mean=frame.mean or vision.mean,
        std=frame.std or vision.std,
        position_mode="bilinear",
        prompts=replace(trained.visual_prompts, tokens=tokens),
        taps=trained.head.config.taps(len(vision.visual.transformer.resblocks)),
        double_class_token=frame.double_class_token,
    )


def calibrate_seen(evidence: Evidence, options: Options) -> Evidence:
    """Evidence in which classes that training saw are less probable by option "gamma"."""
    gamma = float(str(options.get(GAMMA.name, GAMMA.default)))
    return evidence.calibrated(gamma_offsets(evidence.vocabulary, evidence.seen, gamma))
