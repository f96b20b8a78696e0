"""A pyramid that comes with its photo, for what looks again at the regions that masks propose."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from ovs_core.devices import Cancel, Report
from ovs_core.encoders.base import ImageEncoder
from ovs_core.evidence.proposals import MaskProposals
from ovs_core.evidence.segments import instance_mask
from ovs_core.image import display_copy
from ovs_core.options import Preset
from ovs_core.types import Pyramid, Vocabulary

LONGEST_COPY = 1024  # pixels of the photo's copy that regions are cut from


class PhotoPyramid(NamedTuple):
    """What proposes masks starts from, and the photo that they are cut out of."""

    pyramid: Pyramid
    pixels: NDArray[np.uint8]

    @property
    def nbytes(self) -> int:
        """Bytes held, for the cache budget."""
        return self.pyramid.nbytes + self.pixels.nbytes


@dataclass(frozen=True, eq=False)
class PhotoPyramidEncoder:
    """A pyramid encoder that keeps the photo, in a copy of at most `LONGEST_COPY` pixels."""

    pyramid: ImageEncoder[Pyramid]

    @property
    def identity(self) -> str:
        """That of the pyramid's tower."""
        return self.pyramid.identity

    def encode(
        self, pixels: NDArray[np.uint8], preset: Preset, *, progress: Report = None, cancel: Cancel = None
    ) -> PhotoPyramid:
        """The pyramid, as its encoder makes it, and the copy."""
        pyramid = self.pyramid.encode(pixels, preset, progress=progress, cancel=cancel)
        return PhotoPyramid(pyramid, display_copy(pixels, LONGEST_COPY))

    def features_identity(self, preset: Preset) -> str:
        """What presets of equal answers agree on."""
        return f"{self.pyramid.features_identity(preset)}|photo"


def masks_on_photo(masks: Tensor, features: PhotoPyramid) -> Iterator[NDArray[np.bool_]]:
    """Pixels (H, W) of the photo's copy that each mask holds, one mask after the other.

    Args:
        masks: logits (N, h, w) on a grid that covers the padded frame.
        features: frame and photo.
    """
    pyramid, pixels = features
    nameless = masks.new_zeros(len(masks), 1)
    proposals = MaskProposals(
        masks,
        nameless,
        nameless[:, 0],
        Vocabulary((("region",),)),
        (pixels.shape[0], pixels.shape[1]),
        pyramid.frame,
        pyramid.padded,
    )
    return (instance_mask(proposals, place) for place in range(len(masks)))
