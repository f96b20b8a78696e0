"""A two-stage baseline: CLIP looks at a crop of every mask that a trained head proposes.

Papers: SimBaseline (arXiv 2112.14757) and OVSeg (2210.04150) name masks so: each is cut out on grey, and
CLIP's global embedding of the crop is joined with what the trained head says by a geometric mean. Masks
here are FC-CLIP's, and so is the mean: the two methods differ in the second opinion alone, so that their
labels, seconds and operations can be compared (GKC, arXiv 2303.09181, table 2, counts 1165 GFLOPs against
151).

Deviations from both papers: CLIP is not tuned to masked crops; masks are cut from a copy of the photo of at
most 1,024 pixels, which is above the crops' own size.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ovs_core.decoders.text_transfer import ToJointSpace
from ovs_core.encoders.region_crops import region_crops
from ovs_core.evidence.base import class_counts
from ovs_core.evidence.decide import decide
from ovs_core.evidence.proposals import MaskProposals
from ovs_core.methods.base import Answer, Kinds, Point, check_point
from ovs_core.methods.mask_classification.fc_clip import (
    SEEN_EXPONENT,
    UNSEEN_EXPONENT,
    geometric_ensemble,
    seen_classes,
)
from ovs_core.methods.mask_classification.head import (
    Classified,
    MaskHead,
    Proposed,
    best_names,
    log_probabilities,
    name_logits,
    propose,
    to_proposals,
)
from ovs_core.methods.mask_classification.views import MaskTrace, mask_method_views
from ovs_core.methods.photo_pyramid import PhotoPyramid, masks_on_photo
from ovs_core.options import Option, Options
from ovs_core.types import TextBank, View, Vocabulary

RESCORING = Option(
    "rescoring",
    "number",
    1.0,
    "How much CLIP's look at a crop of each mask counts; 0 leaves the second stage out, and its time.",
    low=0,
    high=1,
    slider=(0, 1, 0.05),
)
OPTIONS = (RESCORING,)
RESCORED = "rescored"
"""View: labels and seconds with the second stage and without."""
CROPS_AT_ONCE = 16

EmbedPictures = Callable[[Tensor], Tensor]
"""Pictures (n, 3, side, side) in [0, 1] to CLIP's global embeddings (n, D), not normalised."""


class _Timed(NamedTuple):
    """Names of the masks, and the seconds that naming them took."""

    classified: Classified
    proposals: MaskProposals
    seconds: float


@dataclass(frozen=True, eq=False)
class TwoStage:
    """A head that proposes, and CLIP.

    Attributes:
        head: FC-CLIP's, trained on the tower that makes the pyramid.
        to_joint_space: the tower's head, vectors (n, C) of the dense map to (n, D).
        embed: CLIP's image tower as a whole.
        logit_scale: logarithm of CLIP's own scale.
        seen: every name of the classes that the head was trained on.
    """

    head: MaskHead
    to_joint_space: ToJointSpace
    embed: EmbedPictures
    logit_scale: Tensor
    seen: frozenset[str]

    def __post_init__(self) -> None:
        self.head.eval().requires_grad_(False)

    @torch.no_grad()
    def ask(
        self,
        features: PhotoPyramid,
        text: TextBank,
        options: Options,
        *,
        views: Kinds = frozenset(),
        point: Point = None,
    ) -> Answer:
        """Masks and their classes; views: FC-CLIP's, "CLIP" being CLIP on crops, and `RESCORED`."""
        check_point(point)
        pyramid, vocabulary = features.pyramid, text.vocabulary
        attention = "query_attention" in views
        proposed = propose(self.head, self.to_joint_space, pyramid, text, attention=attention)
        weight = float(options.get(RESCORING.name, RESCORING.default))  # type: ignore[arg-type]
        answer = self._answer(proposed, features, vocabulary, weight)
        if not views:
            return Answer(answer.proposals)
        trace = MaskTrace(answer.classified, pyramid, vocabulary, self.to_joint_space, point=point)
        shown = mask_method_views(trace, views)
        if RESCORED in views:
            other = self._answer(proposed, features, vocabulary, 0.0 if weight else 1.0)
            shown += (rescored_view(*((other, answer) if weight else (answer, other))),)
        return Answer(answer.proposals, shown)

    def _answer(
        self, proposed: Proposed, features: PhotoPyramid, vocabulary: Vocabulary, rescoring: float
    ) -> _Timed:
        began = time.perf_counter()
        classified = self.name_masks(proposed, features, vocabulary, rescoring)
        proposals = to_proposals(classified, features.pyramid, vocabulary, resize_masks=False)
        proposals.scores.sum().item()  # waits for the device
        return _Timed(classified, proposals, time.perf_counter() - began)

    def name_masks(
        self, proposed: Proposed, features: PhotoPyramid, vocabulary: Vocabulary, rescoring: float
    ) -> Classified:
        """Join what head and CLIP say of each mask; those without a pixel keep the head's word."""
        names, counts = proposed.names, class_counts(vocabulary)
        logits = names.new_zeros(len(proposed.embeddings), len(names))
        joined = proposed.in_vocabulary[:, :-1].softmax(dim=1)
        if rescoring:
            crops, places = mask_crops(proposed.decoded.predictions[-1].masks[0], features)
            if len(places):
                seen_in_crops = torch.cat(
                    [self.embed(part) for part in torch.split(crops, CROPS_AT_ONCE)]
                ).float()
                logits[places] = name_logits(seen_in_crops, names, self.logit_scale.to(names))
                classes = best_names(logits, counts)
                exponents = (rescoring * SEEN_EXPONENT, rescoring * UNSEEN_EXPONENT)
                seen = seen_classes(vocabulary, self.seen).to(logits.device)
                known, asked = proposed.in_vocabulary[places, :-1], classes[places, :-1]
                joined[places] = geometric_ensemble(known, asked, seen, exponents)
        void = proposed.in_vocabulary.softmax(dim=1)[:, -1]
        return Classified(
            proposed, names, best_names(logits, counts), logits, log_probabilities(joined, void)
        )


def rescored_view(without: _Timed, rescored: _Timed) -> View:
    """Labels on the masks' grid without the second stage and with it, told with the seconds of each."""
    maps = []
    for answer in (without, rescored):
        sides = zip(
            answer.proposals.masks.shape[1:], answer.proposals.frame, answer.proposals.padded, strict=True
        )
        height, width = (-(-cells * inside // whole) for cells, inside, whole in sides)
        labels, _ = decide(answer.proposals, 1.0, 0.0, (height, width))
        maps.append(torch.from_numpy(labels.astype(np.float32)))
    changed = float((maps[0] != maps[1]).float().mean())
    title = (
        f"Naming took {_spoken(without.seconds)} without CLIP's second look, {_spoken(rescored.seconds)} "
        f"with it, which changes {changed:.0%} of the photo"
    )
    return View(RESCORED, title, torch.stack(maps), ("trained head alone", "and CLIP on each mask"))


def _spoken(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds >= 0.01 else "less than 0.01 s"


def mask_crops(masks: Tensor, features: PhotoPyramid) -> tuple[Tensor, Tensor]:
    """Pictures of masks that hold a pixel, (n, 3, side, side) in [0, 1], and which masks they are, (n,).

    Args:
        masks: logits (N, h, w) on a grid that covers the padded frame.
        features: frame and photo.
    """
    pixels = features.pixels
    crops, places = [], []
    for place, inside in enumerate(masks_on_photo(masks, features)):
        if inside.any():
            crops.append(region_crops(pixels, inside[None]))
            places.append(place)
    regions = torch.cat(crops) if crops else region_crops(pixels, np.zeros((0, *pixels.shape[:2]), bool))
    return regions.to(masks.device), torch.tensor(places, dtype=torch.long, device=masks.device)
