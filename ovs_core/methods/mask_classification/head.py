"""The head of FC-CLIP and MAFT+ on a tower's pyramid: it proposes masks and says what they show.

Papers: FC-CLIP (arXiv 2308.02487), MAFT+ (2408.00744); official code bytedance/fc-clip and
jiaosiyu1999/MAFT-Plus fd12806. A class with synonyms is as likely as its likeliest name. "No object" is one
more, learned, row behind the names.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ovs_core.decoders.mask_decoder import Decoded, MaskDecoder, MaskDecoderConfig, Prediction
from ovs_core.decoders.mask_pooling import mask_pooling
from ovs_core.decoders.pixel_decoder import DecodedPixels, PixelDecoder, PixelDecoderConfig
from ovs_core.decoders.text_transfer import Residual, TextTransfer, ToJointSpace, Transferred
from ovs_core.evidence.base import class_counts
from ovs_core.evidence.proposals import MaskProposals
from ovs_core.types import Pyramid, TextBank, Vocabulary

LARGEST_SCALE = 100.0
_LEAST_PROBABILITY = 1e-8  # added before a logarithm, as official code does


@dataclass(frozen=True)
class MaskHeadConfig:
    """Sizes of a head.

    Attributes:
        pixels, masks: of its decoders; equal widths.
        transfer: form of content-dependent transfer; None has none (FC-CLIP).
    """

    pixels: PixelDecoderConfig
    masks: MaskDecoderConfig
    transfer: Residual | None = None

    def __post_init__(self) -> None:
        if self.pixels.width != self.masks.width:
            raise ValueError(f"both decoders must be {self.pixels.width} wide, got {self.masks.width}")


class MaskHead(nn.Module):
    """Pixel decoder, mask decoder, the row for "no object" and, for MAFT+, content-dependent transfer.

    Args:
        config: sizes.
    """

    def __init__(self, config: MaskHeadConfig) -> None:
        super().__init__()
        self.config = config
        self.pixel_decoder = PixelDecoder(config.pixels)
        self.mask_decoder = MaskDecoder(config.masks)
        self.void_embedding = nn.Embedding(1, config.masks.joint)
        joint = config.masks.joint
        self.cdt = None if config.transfer is None else TextTransfer(joint, config.transfer)

    def with_void(self, rows: Tensor) -> Tensor:
        """Put the unit row of "no object" behind name embeddings (S, D): (S + 1, D)."""
        width = self.void_embedding.embedding_dim
        if rows.ndim != 2 or rows.shape[1] != width:
            raise ValueError(f"text embeddings must be (S, {width}), got {tuple(rows.shape)}")
        return torch.cat([rows, F.normalize(self.void_embedding.weight, dim=-1)])

    def adapt(self, names: Tensor, tokens: Tensor) -> Transferred:
        """Adapt names (S + 1, D) to pictures whose tokens are (B, D, h, w).

        Raises:
            ValueError: if this head has no content-dependent transfer.
        """
        if self.cdt is None:
            raise ValueError("this head has no content-dependent transfer: it is FC-CLIP's")
        return self.cdt(names, tokens)

    def in_vocabulary(
        self, prediction: Prediction, pixels: DecodedPixels, rows: Tensor, counts: Sequence[int]
    ) -> Tensor:
        """Logits of the trained class head, (B, N, K + 1), "no object" last.

        Args:
            prediction: masks and queries of one layer.
            pixels: from the pixel decoder.
            rows: name embeddings with "no object" last, (S + 1, D).
            counts: names per class.
        """
        embeddings = self.mask_decoder.class_embeddings(prediction, pixels.mask_features)
        return class_logits(embeddings, rows, self.mask_decoder.logit_scale, counts)


class Proposed(NamedTuple):
    """What a head says of one photo before classes are weighed, for any method; a batch of one.

    Attributes:
        pixels: from the pixel decoder.
        decoded: from the mask decoder.
        names: unit name embeddings, "no object" last, (S + 1, D).
        in_vocabulary: logits of the trained class head, (N, K + 1).
        pooled: mean dense feature inside each mask, (N, C).
        embeddings: the same in the joint space, (N, D), not normalised.
    """

    pixels: DecodedPixels
    decoded: Decoded
    names: Tensor
    in_vocabulary: Tensor
    pooled: Tensor
    embeddings: Tensor


class Classified(NamedTuple):
    """How the proposals of one photo were named: everything worth showing.

    Attributes:
        proposed: masks and what the trained head says.
        rows: the rows that `out_vocabulary` compares with, (S + 1, D); adapted to the photo by MAFT+.
        out_vocabulary: logits of the tower's own features, (N, K + 1), "no object" last.
        name_logits: the same per name, (N, S + 1), scaled cosines: which synonym won.
        log_probabilities: logarithm of the probability of each class and of "no object", (N, K + 1).
        transfer_attention: how much each row took from each of the photo's tokens, (S + 1, h*w); None where
            rows are as they were.
    """

    proposed: Proposed
    rows: Tensor
    out_vocabulary: Tensor
    name_logits: Tensor
    log_probabilities: Tensor
    transfer_attention: Tensor | None = None


def propose(
    head: MaskHead, to_joint_space: ToJointSpace, pyramid: Pyramid, text: TextBank, *, attention: bool = False
) -> Proposed:
    """Run both decoders and the trained class head on one photo, in float32.

    Args:
        head: the head.
        to_joint_space: the tower's own head, vectors (n, C) of the dense map to (n, D).
        pyramid: from the tower the head was trained on.
        text: unit rows from the same model's text tower.
        attention: keep cross-attention maps of every layer.
    """
    pixels = head.pixel_decoder([level[None].float() for level in pyramid.maps])
    decoded = head.mask_decoder(pixels, attention=attention)
    names = head.with_void(text.embeddings.to(pixels.mask_features))
    last = decoded.predictions[-1]
    known = head.in_vocabulary(last, pixels, names, class_counts(text.vocabulary))[0]
    pooled = mask_pooling(pyramid.dense[None].float(), last.masks)[0]  # (N, C)
    embeddings = to_joint_space(pooled.to(pyramid.dense.dtype)).float()
    return Proposed(pixels, decoded, names, known, pooled, embeddings)


def name_logits(embeddings: Tensor, rows: Tensor, log_scale: Tensor) -> Tensor:
    """Scaled products of unit embeddings and rows as they are: (B, N, S + 1) of (B, N, D).

    Args:
        embeddings: (B, N, D), normalised here.
        rows: (S + 1, D) for all pictures or (B, S + 1, D); their length counts.
        log_scale: logarithm of the scale, which is at most 100.
    """
    scale = log_scale.exp().clamp(max=LARGEST_SCALE)
    return scale * F.normalize(embeddings, dim=-1) @ rows.transpose(-2, -1)


def best_names(logits: Tensor, counts: Sequence[int]) -> Tensor:
    """Reduce names to classes by maximum: (.., S + 1) to (.., K + 1), the last column kept."""
    groups = torch.split(logits, [*counts, 1], dim=-1)
    return torch.stack([group.amax(dim=-1) for group in groups], dim=-1)


def class_logits(embeddings: Tensor, rows: Tensor, log_scale: Tensor, counts: Sequence[int]) -> Tensor:
    """Logits of classes and "no object", (B, N, K + 1); see `name_logits` and `best_names`."""
    return best_names(name_logits(embeddings, rows, log_scale), counts)


def log_probabilities(classes: Tensor, void: Tensor) -> Tensor:
    """Logarithms (N, K + 1): classes (N, K), summing to 1, get what "no object" (N,) leaves them."""
    probabilities = torch.cat([classes * (1 - void[:, None]), void[:, None]], dim=1)
    return (probabilities + _LEAST_PROBABILITY).log()


def to_proposals(
    classified: Classified, pyramid: Pyramid, vocabulary: Vocabulary, *, resize_masks: bool
) -> MaskProposals:
    """Masks and class probabilities as the value that labels are made from."""
    probabilities = classified.log_probabilities.softmax(dim=1)
    masks = classified.proposed.decoded.predictions[-1].masks[0]
    return MaskProposals(
        masks,
        probabilities[:, :-1],
        probabilities[:, -1],
        vocabulary,
        pyramid.image_size,
        pyramid.frame,
        pyramid.padded,
        resize_masks,
    )
