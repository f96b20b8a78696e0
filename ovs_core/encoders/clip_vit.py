"""CLIP's image tower: from photo pixels to the tokens that enter its last block, for any H x W.

The tower is open_clip's `VisionTransformer`, read part by part and never changed (Radford et al., arXiv
2103.00020). Every training-free method and MVP-SEG start from these tokens, so a photo is encoded once for
all of them.

Windows: official code cuts windows in pixels, upsamples the logits of each and averages them at full size.

Here every window starts on the token grid of the whole frame and has whole tokens, so evidence of
overlapping windows is averaged directly on that grid and no K x H x W array is ever needed; upsampling
comes after.

Methods that need more ask for it: deep prompts are an argument of the same pass, and *taps* give the tokens
that leave chosen blocks, the last one included, which runs for a tap alone. Nothing asked, nothing paid.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ovs_core.devices import Cancel, Report, advance
from ovs_core.encoders.base import Channels, Remember, made_anew, normalised, stem_name
from ovs_core.encoders.deep_prompts import VisualPrompts
from ovs_core.encoders.mini import ConvStem
from ovs_core.encoders.positions import PositionMode, resize_positions
from ovs_core.encoders.upsampling import FINER
from ovs_core.image import frame_size, to_frame
from ovs_core.options import Preset
from ovs_core.types import Features, Window
from ovs_core.windows import Box, accumulate, plan_windows

if TYPE_CHECKING:  # types only: who builds the model loads its library, which takes seconds
    from open_clip.transformer import VisionTransformer

MAX_WINDOW_SIDE = 64  # tokens: attention is quadratic, and towers learn positions of 7 x 7 to 24 x 24
BATCH_TOKENS = 2048  # tokens that enter the tower at once: enough to fill it, little to wait for a cancel


@dataclass(frozen=True, eq=False)
class VisionEncoder:
    """An image tower with all it takes to run it; takes the tower over (evaluation mode, no gradients).

    Attributes:
        name: registry name, e.g. "mini".
        identity: name, weights and precision in one string (`tower_identity`); part of every cache key.
        visual: open_clip's `VisionTransformer`; its `conv1` may be any module (B, 3, H, W) -> (B, C, h, w).
        mean, std: what the tower was trained to have subtracted and divided by, per RGB channel of [0, 1].
        patch: frame pixels per token, both ways.
        device: where `visual` lives.
        dtype: precision of `visual`; tokens come out in it.
        position_mode: how positions are resized to another grid.
        prompts: tokens that stand between the class token and the patches, or None.
        taps: blocks, from 0, whose outputs each window carries beside its tokens.
        double_class_token: add the class embedding twice, as ZegCLIP's official code does.
        stem_of: identity of the tower whose stem this is; "" for its own.
    """

    name: str
    identity: str
    visual: VisionTransformer
    mean: Channels
    std: Channels
    patch: int
    device: torch.device
    dtype: torch.dtype
    position_mode: PositionMode = "bicubic"
    prompts: VisualPrompts | None = None
    taps: tuple[int, ...] = ()
    double_class_token: bool = False
    stem_of: str = ""

    def __post_init__(self) -> None:
        check_visual(self.visual)
        check_taps(self.visual, self.taps)
        if self.prompts is not None:
            self.prompts.fitting(self.visual.class_embedding.shape[0], len(self.visual.transformer.resblocks))
        self.visual.eval().requires_grad_(False)

    def encode(
        self,
        pixels: NDArray[np.uint8],
        preset: Preset,
        *,
        progress: Report = None,
        cancel: Cancel = None,
        remember: Remember = made_anew,
    ) -> Features:
        """Tokens of every window, as `ovs_core.encoders.base.ImageEncoder` says; windows go in batches.

        The embedded stem, two thirds of the work, is asked once for all prompts and taps.
        """
        return self.encode_many([pixels], preset, progress=progress, cancel=cancel, remember=remember)[0]

    @property
    def shares_stem(self) -> bool:
        """Whether the stem is the embedded one."""
        return isinstance(self.visual.conv1, ConvStem)

    def encode_many(
        self,
        photos: Sequence[NDArray[np.uint8]],
        preset: Preset,
        *,
        progress: Report = None,
        cancel: Cancel = None,
        remember: Remember = made_anew,
    ) -> list[Features]:
        """The same of photos (H, W, 3) whose frames have one size, so many times as much in a batch.

        Args:
            photos: to be looked at.
            preset: as in `encode`.
            progress: as in `encode`.
            cancel: as in `encode`.
            remember: as in `encode`; only for a single photo.

        Raises:
            ValueError: if frames differ in size.
        """
        frames = [self._framed(pixels, preset) for pixels in photos]  # (3, Hf, Wf) each
        if len({frame.shape for frame in frames}) > 1:
            raise ValueError("photos that are looked at together must have frames of one size")
        grid = (frames[0].shape[1] // self.patch, frames[0].shape[2] // self.patch)
        boxes = self.boxes(grid, preset)
        crops = [(frame, box) for frame in frames for box in boxes]
        windows: list[Window] = []
        weights: list[Tensor] = []
        advance(0, len(crops), progress, cancel)
        for batch in _batches(crops, BATCH_TOKENS * len(photos)):
            batch_windows, batch_weights = self._encode_windows(batch, remember)
            windows += batch_windows
            weights += batch_weights
            advance(len(windows), len(crops), progress, cancel)
        made = []
        for start, pixels in zip(range(0, len(crops), len(boxes)), photos, strict=True):
            own = windows[start : start + len(boxes)]
            whole = _whole_weights(own, weights[start : start + len(boxes)], grid) if weights else None
            made.append(Features(self.features_identity(preset), pixels.shape[:2], grid, tuple(own), whole))
        return made

    def frame(self, size: tuple[int, int], preset: Preset) -> tuple[int, int]:
        """Frame (Hf, Wf) in pixels at which a photo of size (H, W) is looked at."""
        return frame_size(size, preset.short_side, self.patch)

    def _framed(self, pixels: NDArray[np.uint8], preset: Preset) -> Tensor:
        frame = to_frame(pixels, self.frame(pixels.shape[:2], preset)).to(self.device)  # (3, Hf, Wf)
        return normalised(frame, self.mean, self.std).to(self.dtype)

    def boxes(self, grid: tuple[int, int], preset: Preset) -> tuple[Box, ...]:
        """Windows (top, left, height, width), in tokens, that cover a frame of `grid` tokens."""
        if preset.window is None:
            if grid[0] * grid[1] <= MAX_WINDOW_SIDE**2:
                return ((0, 0, *grid),)
            return plan_windows(grid, MAX_WINDOW_SIDE, MAX_WINDOW_SIDE // 2)
        window = min(MAX_WINDOW_SIDE, max(1, round(preset.window / self.patch)))
        stride = min(window, max(1, round(preset.stride / self.patch)))
        return plan_windows(grid, window, stride)

    def features_identity(self, preset: Preset) -> str:
        """What presets of equal features agree on: tower, positions, frame and windows; the cache key."""
        plan = "whole" if preset.window is None else f"{preset.window}/{preset.stride}"
        parts = [self.identity, self.position_mode, str(preset.short_side), plan]
        if self.prompts is not None:
            parts.append(f"prompts {self.prompts.digest[:12]}")
        if self.double_class_token:
            parts.append("double class token")
        if self.taps:
            parts.append("taps " + ",".join(map(str, self.taps)))
        return "|".join(parts)

    @torch.no_grad()
    def _encode_windows(
        self, crops: Sequence[tuple[Tensor, Box]], remember: Remember
    ) -> tuple[list[Window], list[Tensor]]:
        """Windows of frames, and the weights (9, 4h, 4w) of each where the stem gives them."""
        name = stem_name(self.stem_of or self.identity, self.mean, self.std, crops[0][0].shape[1:])
        patches, weights = remember(
            f"{name}|{[box for _, box in crops]}",
            lambda: patches_and_upsampling(
                self.visual,
                torch.stack([self._crop(frame, box) for frame, box in crops]),  # (B, 3, Hw, Ww)
            ),
        )
        tokens, tapped = tokens_and_taps(
            self.visual,
            patches,
            mode=self.position_mode,
            prompts=self.prompts,
            taps=self.taps,
            double_class_token=self.double_class_token,
        )  # (B, 1 + h*w, C)
        windows = [  # a view would keep its whole batch alive
            Window(*box[:2], box[2:], tokens[i].clone(), tuple(tap[i].clone() for tap in tapped))
            for i, (_, box) in enumerate(crops)
        ]
        return windows, [] if weights is None else [part.clone() for part in weights]

    def _crop(self, frame: Tensor, box: Box) -> Tensor:
        top, left, height, width = (side * self.patch for side in box)
        return frame[:, top : top + height, left : left + width]


def tower_identity(name: str, weights_sha256: str, dtype: torch.dtype) -> str:
    """One string for "these weights in this precision", e.g. "mini:0f3a9c5d21b7:float32"."""
    return f"{name}:{weights_sha256[:12]}:{str(dtype).removeprefix('torch.')}"


def joint_width(visual: VisionTransformer) -> int:
    """D, the width of the space that an image tower shares with its text tower."""
    width: int = visual.class_embedding.shape[0] if visual.proj is None else visual.proj.shape[1]
    return width


def check_visual(visual: VisionTransformer) -> None:
    """Return if this image tower is one whose last block can be rebuilt.

    Raises:
        ValueError: if it is another architecture, or pools with attention instead of a class token.
    """
    blocks = getattr(getattr(visual, "transformer", None), "resblocks", None)
    if not blocks or not hasattr(visual, "class_embedding"):
        raise ValueError(f"visual must be open_clip's VisionTransformer, got {type(visual).__name__}")
    if not isinstance(blocks[-1].attn, nn.MultiheadAttention) or visual.attn_pool is not None:
        raise ValueError("visual must have plain attention and a class token, as CLIP has")


def tokens_before_last_block(
    visual: VisionTransformer,
    pixels: Tensor,
    *,
    mode: PositionMode = "bicubic",
    naclip_scale_factor: bool = False,
) -> Tensor:
    """Tokens that enter the last block, (B, 1 + h*w, C), for normalised pixels (B, 3, Hf, Wf) of any size."""
    patches = visual.conv1(pixels)
    return tokens_of_patches(visual, patches, mode=mode, naclip_scale_factor=naclip_scale_factor)


def patches_and_upsampling(visual: VisionTransformer, pixels: Tensor) -> tuple[Tensor, Tensor | None]:
    """What the stem makes of normalised pixels (B, 3, Hf, Wf): patches (B, C, h, w), and weights or None.

    Weights (B, 9, 4h, 4w) say how evidence is upsampled (`ovs_core.encoders.upsampling`); CLIP has none.
    """
    if isinstance(visual.conv1, ConvStem):
        return visual.conv1.with_upsampling(pixels)
    return visual.conv1(pixels), None


class TokensAndTaps(NamedTuple):
    """What a pass through an image tower gives, prompts left out.

    Attributes:
        tokens: those that enter the last block, (B, 1 + h*w, C).
        taps: those that leave the blocks asked for, in the order asked, (B, 1 + h*w, C) each.
    """

    tokens: Tensor
    taps: tuple[Tensor, ...]


def check_taps(visual: VisionTransformer, taps: Sequence[int]) -> None:
    """Return if the tower has these blocks.

    Raises:
        ValueError: if it has not, or one is asked for twice.
    """
    blocks = len(visual.transformer.resblocks)
    if len(set(taps)) != len(taps) or any(not 0 <= tap < blocks for tap in taps):
        raise ValueError(f"taps must be different blocks from 0 to {blocks - 1}, got {tuple(taps)}")


def tokens_of_patches(
    visual: VisionTransformer,
    patches: Tensor,
    *,
    mode: PositionMode = "bicubic",
    naclip_scale_factor: bool = False,
) -> Tensor:
    """Tokens that enter the last block, (B, 1 + h*w, C), for the stem's patches (B, C, h, w).

    Patch dropout, a training device, is left out.
    """
    return tokens_and_taps(visual, patches, mode=mode, naclip_scale_factor=naclip_scale_factor).tokens


def tokens_and_taps(
    visual: VisionTransformer,
    patches: Tensor,
    *,
    mode: PositionMode = "bicubic",
    naclip_scale_factor: bool = False,
    prompts: VisualPrompts | None = None,
    taps: Sequence[int] = (),
    double_class_token: bool = False,
) -> TokensAndTaps:
    """Run the stem's patches (B, C, h, w) up to the last block, or through it where that is tapped.

    Args:
        visual: the tower; unchanged.
        patches: from its stem.
        mode: see `resize_positions`.
        naclip_scale_factor: see `resize_positions`.
        prompts: tokens between the class token and the patches; gradients flow to them.
        taps: blocks, from 0, whose outputs are wanted.
        double_class_token: add the class embedding twice (ZegCLIP's official code).

    Raises:
        ValueError: if the tower has no such blocks or takes prompts of another width.
    """
    blocks = visual.transformer.resblocks
    check_taps(visual, taps)
    if prompts is not None:
        prompts.fitting(patches.shape[1], len(blocks))
    grid = (patches.shape[2], patches.shape[3])
    patches = patches.flatten(2).transpose(1, 2)  # (B, h*w, C)
    count = patches.shape[1]
    first = visual.class_embedding.to(patches.dtype).expand(len(patches), 1, -1)
    first = 2 * first if double_class_token else first
    positions = resize_positions(
        visual.positional_embedding, grid, mode=mode, naclip_scale_factor=naclip_scale_factor
    )
    x = visual.ln_pre(torch.cat([first, patches], dim=1) + positions.to(patches.dtype))  # (B, 1 + h*w, C)
    left: dict[int, Tensor] = {}
    entering = x
    for number, block in enumerate(blocks):
        last = number == len(blocks) - 1
        if last:
            entering = _without_prompts(x, count)
            if number not in taps:
                break
        x = block(x if prompts is None else prompts.entering(x, number, count))
        if number in taps:
            left[number] = _without_prompts(x, count)
    return TokensAndTaps(entering, tuple(left[tap] for tap in taps))


def _without_prompts(x: Tensor, patches: int) -> Tensor:
    """Class token and patches of a sequence (B, L, C)."""
    return x if x.shape[1] == 1 + patches else torch.cat([x[:, :1], x[:, x.shape[1] - patches :]], dim=1)


def to_joint_space(visual: VisionTransformer, x: Tensor) -> Tensor:
    """Tokens after the last block, (B, L, C), in the space shared with text, (B, L, D), not normalised."""
    x = visual.ln_post(x)
    return x if visual.proj is None else x @ visual.proj


def _whole_weights(windows: Sequence[Window], weights: Sequence[Tensor], grid: tuple[int, int]) -> Tensor:
    """Weights (9, 4h, 4w) of a frame from those of its windows; means of weights still sum to 1."""
    if len(weights) == 1:
        return weights[0]
    boxes = [tuple(FINER * side for side in (window.top, window.left, *window.grid)) for window in windows]
    parts = [((top, left, h, w), part) for (top, left, h, w), part in zip(boxes, weights, strict=True)]
    return accumulate(parts, (FINER * grid[0], FINER * grid[1]))


def _batches(crops: Sequence[tuple[Tensor, Box]], most: int) -> Iterator[Sequence[tuple[Tensor, Box]]]:
    """Up to `most` tokens of windows at a time, at least one window; those of a plan share a size."""
    height, width = crops[0][1][2:]
    step = max(1, most // (1 + height * width))
    for start in range(0, len(crops), step):
        yield crops[start : start + step]
