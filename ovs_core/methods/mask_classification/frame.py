"""The frame of FC-CLIP and MAFT+: propose masks, have them named, answer; they differ in the naming alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

from ovs_core.decoders.text_transfer import ToJointSpace
from ovs_core.evidence.proposals import MaskProposals
from ovs_core.methods.base import Answer, Kinds, Point, check_point
from ovs_core.methods.mask_classification.head import Classified, MaskHead, Proposed, propose, to_proposals
from ovs_core.methods.mask_classification.views import MaskTrace, mask_method_views
from ovs_core.types import Pyramid, TextBank, Vocabulary

FrozenDense = Callable[[Pyramid], Tensor]
"""From a photo's pyramid the dense map (C, h, w) of the tower before it was tuned."""


class MaskNaming(Protocol):
    """What the frame needs of a method."""

    @property
    def head(self) -> MaskHead:
        """Proposes masks."""
        ...

    @property
    def to_joint_space(self) -> ToJointSpace:
        """Head of the tower that makes the pyramid."""
        ...

    @property
    def resize_masks(self) -> bool:
        """Order of steps of the answer, see `MaskProposals`."""
        ...

    def name_masks(self, proposed: Proposed, dense: Tensor, vocabulary: Vocabulary) -> Classified:
        """Say what each mask shows; the photo's dense map is (C, h, w)."""
        ...


@torch.no_grad()
def classify(method: MaskNaming, pyramid: Pyramid, text: TextBank, *, attention: bool = False) -> Classified:
    """Everything an answer is made of; with `attention` also where every layer's queries look.

    Args:
        method: FC-CLIP or MAFT+.
        pyramid: from the tower its head was trained on.
        text: unit rows from the same model's text tower, of the prompts the head was trained with: ViLD's
            ("vild14") for official weights.
        attention: keep the maps.

    Raises:
        ValueError: if text or maps are of another width than the head.
    """
    proposed = propose(method.head, method.to_joint_space, pyramid, text, attention=attention)
    return method.name_masks(proposed, pyramid.dense, text.vocabulary)


def propose_masks(method: MaskNaming, pyramid: Pyramid, text: TextBank) -> MaskProposals:
    """Masks of a photo and the probability of each class in each of them; see `classify`."""
    classified = classify(method, pyramid, text)
    return to_proposals(classified, pyramid, text.vocabulary, resize_masks=method.resize_masks)


@torch.no_grad()
def segment_masks(
    method: MaskNaming,
    pyramid: Pyramid,
    text: TextBank,
    views: Kinds,
    point: Point,
    *,
    frozen: FrozenDense | None = None,
    spatial_transfer: bool = False,
) -> Answer:
    """Answer with masks; see `ovs_core.methods.base.Method`.

    Args:
        method: FC-CLIP or MAFT+.
        pyramid: from the tower its head was trained on.
        text: as for `classify`.
        views: kinds of `ovs_core.methods.mask_classification.views`.
        point: views of masks begin with those that hold this place; None begins with the surest ones.
        frozen: gives the dense map before tuning, for views.
        spatial_transfer: whether tokens of content-dependent transfer are places.
    """
    check_point(point)
    classified = classify(method, pyramid, text, attention="query_attention" in views)
    proposals = to_proposals(classified, pyramid, text.vocabulary, resize_masks=method.resize_masks)
    if not views:
        return Answer(proposals)
    trace = MaskTrace(
        classified,
        pyramid,
        text.vocabulary,
        method.to_joint_space,
        spatial_transfer=spatial_transfer,
        frozen=None if frozen is None else frozen(pyramid),
        point=point,
    )
    return Answer(proposals, mask_method_views(trace, views))
