"""The frame of FC-CLIP and MAFT+: propose masks, have them named, answer; they differ in the naming alone."""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from typing import Protocol

import torch
from torch import Tensor

from ovs_core.decoders.text_transfer import ToJointSpace
from ovs_core.methods.base import expect_pyramid
from ovs_core.methods.mask_head import Classified, MaskHead, Proposed, propose, to_proposals
from ovs_core.types import Features, MaskProposals, Pyramid, Segmentation, TextBank, ViewKind, Vocabulary


class MaskNaming(Protocol):
    """What the frame needs of a method."""

    @property
    def name(self) -> str:
        """Registry name."""
        ...

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
        text: unit rows of the ViLD prompts ("vild14") from the same model's text tower.
        attention: keep the maps.

    Raises:
        ValueError: if text or maps are of another width than the head.
    """
    proposed = propose(method.head, method.to_joint_space, pyramid, text, attention=attention)
    return method.name_masks(proposed, pyramid.dense, text.vocabulary)


def propose_masks(method: MaskNaming, pyramid: Pyramid, text: TextBank) -> MaskProposals:
    """Masks of a photo and the share of each class in each of them; see `classify`."""
    found = classify(method, pyramid, text)
    return to_proposals(found, pyramid, text.vocabulary, resize_masks=method.resize_masks)


def segment_masks(
    method: MaskNaming, features: Features | Pyramid, text: TextBank, views: AbstractSet[ViewKind]
) -> Segmentation:
    """Answer with masks; see `ovs_core.methods.base.Method`."""
    return Segmentation(propose_masks(method, expect_pyramid(features, method.name), text))
