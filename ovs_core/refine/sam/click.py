"""One object by clicks: plus and minus points and a box, each answer the start of the next one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from ovs_core.refine.sam.embedding import SamEmbedding
from ovs_core.refine.sam.prompts import Click, ask, at_photo_size
from ovs_core.vocabulary.boxes import Box

if TYPE_CHECKING:  # types only: who builds the model loads its library, which takes seconds
    from segment_anything.modeling import Sam


@dataclass(frozen=True, eq=False)
class Clicked:
    """The object that the clicks so far mean.

    Attributes:
        mask: (H, W) at the photo's own size.
        predicted_iou: how well SAM thinks it fits, about in [0, 1].
        logits: (h, w), for the next click.
    """

    mask: NDArray[np.bool_]
    predicted_iou: float
    logits: Tensor


def clicked_mask(
    sam: Sam,
    embedding: SamEmbedding,
    clicks: Sequence[Click],
    box: Box | None = None,
    previous: Clicked | None = None,
) -> Clicked:
    """The object under some clicks.

    A single point may mean a whole or a part: then SAM's own best of three masks is taken. From the second
    click on the previous answer is given along, as SAM's demonstration does.

    Args:
        sam: the model that made the embedding.
        embedding: of the photo.
        clicks: all places so far, not only the new one.
        box: around the object.
        previous: answer to the clicks before the last one.

    Raises:
        ValueError: for no place inside and no box, or places and boxes that mean nothing.
    """
    ambiguous = len(clicks) == 1 and box is None
    known = None if previous is None or ambiguous else previous.logits
    best = ask(sam, embedding, clicks, box, known, several=ambiguous).best()
    mask = at_photo_size(sam, embedding, best.logits)[0] > sam.mask_threshold
    return Clicked(mask.cpu().numpy(), float(best.predicted_iou[0]), best.logits[0])
