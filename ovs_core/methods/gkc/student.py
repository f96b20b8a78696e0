"""GKC's student: decoders on a pyramid, and one projection that takes each query to the joint space.

Paper: Liu et al., "Global Knowledge Calibration for Fast Open-Vocabulary Segmentation", ICCV 2023, arXiv
2303.09181, section 3; sizes and order of steps follow yongliu20/GKC 21313c8, written anew from a description
(its licence forbids copying). The pixel and mask decoders are those of all mask methods; their class head,
which pools features inside masks, is taken off: a query's own projection is compared with names instead.

No official weights exist. The scale of cosines is learned and, as in the code, not limited.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ovs_core.decoders.mask_decoder import (
    START_LOGIT_SCALE,
    Decoded,
    MaskDecoder,
    MaskDecoderConfig,
    Prediction,
)
from ovs_core.decoders.pixel_decoder import DecodedPixels, PixelDecoder, PixelDecoderConfig
from ovs_core.methods.mask_classification.head import best_names

_NO_DIVISION_BY_ZERO = 1e-7


@dataclass(frozen=True)
class GkcHeadConfig:
    """Sizes of a head; both decoders are equally wide.

    Attributes:
        pixels: of the pixel decoder.
        masks: of the mask decoder.
        reads_dense: the maps at strides 16 and 32 end with what leaves the transformer (`with_dense`):
            in the embedded tower that is the last stage, which a ResNet's maps hold anyway.
        class_width: channels of a query's class feature; None makes it as wide as the decoders (official).
            Queries of a narrow decoder know more than as narrow a projection can say.
    """

    pixels: PixelDecoderConfig
    masks: MaskDecoderConfig
    reads_dense: bool = False
    class_width: int | None = None

    def __post_init__(self) -> None:
        if self.pixels.width != self.masks.width:
            raise ValueError(f"both decoders must be {self.pixels.width} wide, got {self.masks.width}")


class Proposed(NamedTuple):
    """Masks of a batch of pictures before any word is known.

    Attributes:
        pixels: from the pixel decoder.
        decoded: from the mask decoder.
    """

    pixels: DecodedPixels
    decoded: Decoded


class GkcHead(nn.Module):
    """Pixel decoder, mask decoder, class feature, projection, "no object" and scale.

    Args:
        config: sizes.
    """

    def __init__(self, config: GkcHeadConfig) -> None:
        super().__init__()
        width, joint = config.masks.width, config.masks.joint
        self.config = config
        self.pixel_decoder = PixelDecoder(config.pixels)
        self.mask_decoder = proposing(MaskDecoder(config.masks))
        self.class_embed = nn.Linear(width, config.class_width or width)
        self.embed_proj = nn.Linear(config.class_width or width, joint)
        self.void_embedding = nn.Parameter(joint**-0.5 * torch.randn(1, joint))
        self.logit_scale = nn.Parameter(torch.tensor(START_LOGIT_SCALE))

    def propose(
        self, maps: Sequence[Tensor], *, every_layer: bool = False, attention: bool = False
    ) -> Proposed:
        """Masks for four maps (B, C_i, h_i, w_i), finest first; see `MaskDecoder.forward`."""
        pixels = self.pixel_decoder(maps)
        return Proposed(pixels, self.mask_decoder(pixels, every_layer=every_layer, attention=attention))

    def class_features(self, prediction: Prediction) -> Tensor:
        """What each query shows, before any projection, (B, N, `class_width`)."""
        return self.class_embed(prediction.queries)

    def embeddings(self, prediction: Prediction) -> Tensor:
        """The same in the joint space, (B, N, D), not normalised."""
        return self.embed_proj(F.relu(self.class_features(prediction)))

    def with_void(self, rows: Tensor) -> Tensor:
        """Put the row of "no object" behind name embeddings (.., S, D): (.., S + 1, D)."""
        if rows.shape[-1] != self.void_embedding.shape[1]:
            expected = self.void_embedding.shape[1]
            raise ValueError(f"text embeddings must be {expected} wide, got {rows.shape[-1]}")
        return torch.cat([rows, self.void_embedding.expand(*rows.shape[:-2], -1, -1)], dim=-2)


def with_dense(maps: Sequence[Tensor], dense: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Four maps (B, C_i, h_i, w_i) of which the last two also hold the dense map (B, C, h_2, w_2)."""
    quarter, eighth, sixteenth, _ = maps
    sixteenth = torch.cat([sixteenth, dense], dim=1)
    return quarter, eighth, sixteenth, F.avg_pool2d(sixteenth, 2)


def proposing(decoder: MaskDecoder) -> MaskDecoder:
    """A mask decoder without its class head (FC-CLIP's): it proposes masks and names nothing."""
    del decoder.class_embed, decoder.mask_pooling_proj, decoder.logit_scale
    return decoder


def name_logits(embeddings: Tensor, rows: Tensor, log_scale: Tensor) -> Tensor:
    """Scaled cosines of queries (B, N, D) with names (S + 1, D) or (B, S + 1, D): (B, N, S + 1)."""
    queries, names = (_unit(vectors) for vectors in (embeddings, rows))
    return log_scale.exp() * queries @ names.transpose(-2, -1)


def class_logits(embeddings: Tensor, rows: Tensor, log_scale: Tensor, counts: Sequence[int]) -> Tensor:
    """Logits of classes and "no object", (B, N, K + 1): of each class its best name."""
    return best_names(name_logits(embeddings, rows, log_scale), counts)


def _unit(rows: Tensor) -> Tensor:
    return rows / (rows.norm(dim=-1, keepdim=True) + _NO_DIVISION_BY_ZERO)
