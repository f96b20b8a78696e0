"""The quick half of SAM: from points, a box or a coarse mask to masks, all in pixels of the photo."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ovs_core.refine.sam.embedding import SamEmbedding
from ovs_core.vocabulary.boxes import Box, check_box

if TYPE_CHECKING:  # types only: who builds the model loads its library, which takes seconds
    from segment_anything.modeling import Sam

MAX_POINTS = 100


@dataclass(frozen=True)
class Click:
    """A place (x, y) in pixels of the photo that belongs to the object, or does not."""

    x: float
    y: float
    inside: bool = True


@dataclass(frozen=True)
class ObjectPrompt:
    """An object of the photo that belongs to a class.

    Attributes:
        label: id of the class, 0 = other.
        clicks: places on the object, and beside it.
        box: around it, in pixels of the photo.
    """

    label: int
    clicks: tuple[Click, ...] = ()
    box: Box | None = None


@dataclass(frozen=True, eq=False)
class Masks:
    """What SAM answers to one prompt.

    Attributes:
        logits: (M, h, w) on a grid of a quarter of the padded frame's resolution; above 0 is inside.
        predicted_iou: (M,) how well SAM thinks each mask fits, about in [0, 1].
    """

    logits: Tensor
    predicted_iou: Tensor

    def best(self) -> Masks:
        """The mask that SAM trusts most, alone."""
        place = int(self.predicted_iou.argmax())
        return Masks(self.logits[place : place + 1], self.predicted_iou[place : place + 1])


def check_prompt(image_size: tuple[int, int], clicks: Sequence[Click], box: Box | None) -> None:
    """Refuse a prompt that means nothing.

    Raises:
        ValueError: for neither a place inside nor a box, too many places, one outside, or a box of no area.
    """
    height, width = image_size
    photo = f"the photo of {width} x {height} pixels"
    if len(clicks) > MAX_POINTS:
        raise ValueError(f"A mask takes up to {MAX_POINTS} points; these are {len(clicks)}.")
    if box is None and not any(click.inside for click in clicks):
        raise ValueError("Click at least once inside the object, or draw a box around it.")
    for click in clicks:
        if not (0 <= click.x <= width and 0 <= click.y <= height):
            raise ValueError(f"The point ({click.x:g}, {click.y:g}) lies outside {photo}.")
    if box is not None:
        check_box(box, image_size)


@torch.no_grad()
def ask(
    sam: Sam,
    embedding: SamEmbedding,
    clicks: Sequence[Click] = (),
    box: Box | None = None,
    mask_logits: Tensor | None = None,
    *,
    several: bool = False,
) -> Masks:
    """Masks for one prompt.

    Args:
        sam: the model that made the embedding.
        embedding: of the photo.
        clicks: places in or out of the object.
        box: around the object.
        mask_logits: (h, w) on the grid of `Masks.logits`: an earlier answer, or a coarse mask; alone it says
            little.
        several: three masks, from whole to part, for prompts that may mean several things.

    Raises:
        ValueError: for a prompt that means nothing; see `check_prompt`.
    """
    check_prompt(embedding.image_size, clicks, box)
    places = [(click.x, click.y) for click in clicks]
    logits, predicted_iou = decode(
        sam,
        embedding,
        torch.tensor([places], dtype=torch.float32) if places else None,
        torch.tensor([[int(click.inside) for click in clicks]]) if places else None,
        torch.tensor([box], dtype=torch.float32) if box is not None else None,
        mask_logits[None, None] if mask_logits is not None else None,
        several=several,
    )
    return Masks(logits[0], predicted_iou[0])


@torch.no_grad()
def decode(
    sam: Sam,
    embedding: SamEmbedding,
    places: Tensor | None,
    inside: Tensor | None,
    boxes: Tensor | None = None,
    mask_logits: Tensor | None = None,
    *,
    several: bool,
) -> tuple[Tensor, Tensor]:
    """Masks for B prompts at once.

    Args:
        sam: the model that made the embedding.
        embedding: of the photo.
        places: (B, n, 2), x and y in pixels of the photo.
        inside: (B, n), 1 in the object, 0 out of it.
        boxes: (B, 4), left, top, right and bottom in pixels of the photo.
        mask_logits: (B, 1, h, w).
        several: three masks per prompt instead of one.

    Returns:
        Logits (B, M, h, w) and predicted IoU (B, M).
    """
    device = embedding.embedding.device
    scale = torch.tensor(embedding.scale, dtype=torch.float32, device=device)
    points = None
    if places is not None and inside is not None:
        points = (places.to(device) * scale, inside.to(device))
    sparse, dense = sam.prompt_encoder(
        points=points,
        boxes=None if boxes is None else boxes.to(device) * scale.repeat(2),
        masks=None if mask_logits is None else mask_logits.to(device),
    )
    logits, predicted_iou = sam.mask_decoder(
        image_embeddings=embedding.embedding,
        image_pe=sam.prompt_encoder.get_dense_pe(),
        sparse_prompt_embeddings=sparse,
        dense_prompt_embeddings=dense,
        multimask_output=several,
    )
    return logits, predicted_iou


@torch.no_grad()
def at_photo_size(sam: Sam, embedding: SamEmbedding, logits: Tensor) -> Tensor:
    """Logits (M, h, w) of masks at the photo's own size, (M, H, W), as SAM's own post-processing has them."""
    enlarged: Tensor = sam.postprocess_masks(logits[None], embedding.frame, embedding.image_size)[0]
    return enlarged


def on_mask_grid(sam: Sam, embedding: SamEmbedding, values: Tensor, padding: float) -> Tensor:
    """Values (h, w) of any grid that covers the photo, on the grid that SAM takes masks on.

    Args:
        sam: the model that made the embedding.
        embedding: of the photo.
        values: anything that can be interpolated.
        padding: value outside the photo, below and to the right of it.
    """
    rows, columns = sam.prompt_encoder.mask_input_size
    inside = [
        max(1, round(part * side / embedding.side))
        for part, side in zip(embedding.frame, (rows, columns), strict=True)
    ]
    grid = values.new_full((rows, columns), padding)
    resized = torch.nn.functional.interpolate(
        values[None, None], size=inside, mode="bilinear", align_corners=False
    )
    grid[: inside[0], : inside[1]] = resized[0, 0]
    return grid
