"""The slow half of SAM: look at a photo once, whatever is asked about it later.

Paper: Segment Anything (arXiv 2304.02643). Resizing, normalisation and padding are those of
`segment_anything.SamPredictor`, bit for bit; unlike there, what was seen is a value and not a state.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ovs_core.devices import Cancel, stop_if_cancelled

if TYPE_CHECKING:  # types only: who builds the model loads its library, which takes seconds
    from segment_anything.modeling import Sam


@dataclass(frozen=True, eq=False)
class SamEmbedding:
    """What SAM says about one photo before anything is asked.

    Attributes:
        weights: identity of the model that made it; part of a cache key.
        image_size: (H, W) of the photo in its own pixels.
        frame: (Hf, Wf) of the photo inside the square padded frame, in pixels of that frame.
        side: of the padded frame, in pixels.
        embedding: (1, 256, h, w) on the device of the model.
    """

    weights: str
    image_size: tuple[int, int]
    frame: tuple[int, int]
    side: int
    embedding: Tensor

    def __post_init__(self) -> None:
        if self.embedding.ndim != 4 or self.embedding.shape[0] != 1:
            raise ValueError(f"embedding must be (1, C, h, w), got {tuple(self.embedding.shape)}")
        if max(self.frame) > self.side:
            raise ValueError(f"frame must fit into {self.side} x {self.side} pixels, got {self.frame}")

    @property
    def nbytes(self) -> int:
        """Bytes held, for the cache budget."""
        return self.embedding.nbytes

    @property
    def scale(self) -> tuple[float, float]:
        """Frame pixels per photo pixel, (x, y)."""
        return self.frame[1] / self.image_size[1], self.frame[0] / self.image_size[0]


@torch.no_grad()
def look(sam: Sam, pixels: NDArray[np.uint8], *, weights: str = "", cancel: Cancel = None) -> SamEmbedding:
    """Embed a photo (H, W, 3), uint8 RGB.

    Args:
        sam: from `ovs_core.refine.sam.load`.
        pixels: upright photo.
        weights: identity of the model.
        cancel: looked at before the work; the encoder itself is one step.

    Raises:
        Cancelled: if `cancel` was set.
    """
    from segment_anything.utils.transforms import ResizeLongestSide  # loads torchvision: only with SAM

    stop_if_cancelled(cancel)
    height, width = pixels.shape[:2]
    side = int(sam.image_encoder.img_size)
    frame = ResizeLongestSide(side).apply_image(pixels)  # (Hf, Wf, 3)
    tensor = torch.as_tensor(frame, device=sam.device).permute(2, 0, 1).contiguous()[None]
    embedding = sam.image_encoder(sam.preprocess(tensor))
    return SamEmbedding(weights, (height, width), (int(frame.shape[0]), int(frame.shape[1])), side, embedding)
