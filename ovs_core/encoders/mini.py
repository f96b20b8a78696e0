"""The embedded dual encoder: a CLIP with a convolutional stem where a ViT has its patch embedding.

Everything behind the stem (class token, positions, transformer blocks, `ln_post`, `proj`, the text tower)
is a plain CLIP in open_clip's parameter layout, so every method takes the path that full CLIP takes. The stem
is two MobileNetV2 trunks (arXiv 1801.04381; output stride 16 by dilation) with the heads they were first
trained with: ImageNet's classifier and a DeepLabV3 head (arXiv 1706.05587) for PASCAL VOC; and a detector
(`ovs_core.encoders.detector`) for COCO's things, and a segmenter of materials (`ovs_core.encoders.mosaic`);
either may be left out. What a head believes at a position enters the token as the mean of its class names'
text embeddings, weighted by its soft-max (the detector's: a sum, each name with its own probability), beside
the trunk's own features. How far materials are believed is learnt for each place: what knows them from a
distance is wrong about things. Finer maps say how evidence is upsampled (`ovs_core.encoders.upsampling`).
ImageNet's trunk and the segmenter of materials see the photo smaller: cost falls with the square, answers
hardly change, and what they lack in detail the other two see.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ovs_core.encoders.clip_model import PlainClip
from ovs_core.encoders.detector import STRIDES, WIDTH, Detector, at_sixteenth
from ovs_core.encoders.mosaic import CONTEXT, Mosaic
from ovs_core.encoders.padding import conv_same, depthwise_same
from ovs_core.encoders.upsampling import NeighbourWeights

STRIDE = 16  # frame pixels per token
# (expansion, channels, repeats, stride) of MobileNetV2, table 2 of the paper.
STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
QUARTER_BLOCKS, EIGHTH_BLOCKS = 3, 6  # blocks up to 1/4 and 1/8 of the frame
QUARTER_CHANNELS, EIGHTH_CHANNELS, CHANNELS = 24, 32, 320
DETECTOR_PARTS = "visual.conv1.detector"  # names in a model's state begin so
DETECTOR_CHANNELS = len(STRIDES) * WIDTH
MATERIAL_PARTS = "visual.conv1.material"
IMAGENET_SIDE, MATERIAL_SIDE = 3 / 4, 1 / 2  # parts of the frame's sides that these two are shown


class Maps(NamedTuple):
    """Maps (B, C, H/s, W/s) at strides 4, 8 and 16; a MobileNet's have 24, 32 and 320 channels."""

    quarter: Tensor
    eighth: Tensor
    last: Tensor


class InvertedResidual(nn.Module):
    """1x1 expand, 3x3 depth-wise, 1x1 project without activation; batch norms are folded in.

    Args:
        inputs, outputs: channels.
        expansion: hidden channels per input channel; 1 leaves the first convolution out.
        stride, dilation: of the depth-wise convolution.
    """

    def __init__(self, inputs: int, outputs: int, expansion: int, stride: int, dilation: int) -> None:
        super().__init__()
        hidden = inputs * expansion
        self.expand = nn.Conv2d(inputs, hidden, 1) if expansion > 1 else None
        self.depthwise = nn.Conv2d(hidden, hidden, 3, stride, dilation=dilation, groups=hidden)
        self.project = nn.Conv2d(hidden, outputs, 1)
        self.residual = inputs == outputs and stride == 1 and expansion > 1

    def forward(self, x: Tensor) -> Tensor:
        y = depthwise_same(self.depthwise, x, self._expanded, self._projected)
        return x + y if self.residual else y

    def _expanded(self, x: Tensor) -> Tensor:
        return x if self.expand is None else F.relu6(self.expand(x), inplace=True)

    def _projected(self, y: Tensor) -> Tensor:
        projected: Tensor = self.project(F.relu6(y, inplace=True))
        return projected


class MobileNetV2(nn.Module):
    """Trunk with output stride 16: the last stage is dilated instead of strided."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 32, 3, 2)
        blocks: list[nn.Module] = []
        channels, reached, dilation = 32, 2, 1
        for expansion, outputs, repeats, first_stride in STAGES:
            for repeat in range(repeats):
                stride, next_dilation = (first_stride if repeat == 0 else 1), dilation
                if stride == 2 and reached == STRIDE:
                    stride, next_dilation = 1, dilation * 2
                reached *= stride
                blocks.append(InvertedResidual(channels, outputs, expansion, stride, dilation))
                channels, dilation = outputs, next_dilation
        self.blocks = nn.ModuleList(blocks)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, H, W) in [-1, 1] to (B, 320, H/16, W/16), sides rounded up."""
        return self.maps(x).last

    def maps(self, x: Tensor) -> Maps:
        """(B, 3, H, W) in [-1, 1] to the last maps of 1/4, 1/8 and 1/16 of its sides, rounded up."""
        x = F.relu6(conv_same(self.stem, x), inplace=True)
        for block in self.blocks[:QUARTER_BLOCKS]:
            x = block(x)
        quarter = x
        for block in self.blocks[QUARTER_BLOCKS:EIGHTH_BLOCKS]:
            x = block(x)
        eighth = x
        for block in self.blocks[EIGHTH_BLOCKS:]:
            x = block(x)
        return Maps(quarter, eighth, x)


class ConvStem(nn.Module):
    """Stands where open_clip has `visual.conv1`: (B, 3, H, W) in [-1, 1] to tokens (B, width, H/16, W/16).

    Args:
        width: channels of a token.
        text_width: width of the joint image-text space.
        imagenet_names, voc_names: outputs of the two heads, "background" included.
        upsampling: whether the stem also says how evidence is upsampled.
        detector_names: outputs of the detector; 0 leaves it out.
        material_names: outputs of the segmenter of materials, "none of them" included; 0 leaves it out.
    """

    def __init__(
        self,
        width: int,
        text_width: int,
        imagenet_names: int,
        voc_names: int,
        upsampling: bool = False,
        detector_names: int = 0,
        material_names: int = 0,
    ) -> None:
        super().__init__()
        self.imagenet, self.voc = MobileNetV2(), MobileNetV2()
        self.imagenet_top = nn.Conv2d(320, 1280, 1)
        self.imagenet_classifier = nn.Conv2d(1280, imagenet_names, 1)
        self.voc_aspp, self.voc_pooling = nn.Conv2d(320, 256, 1), nn.Conv2d(320, 256, 1)
        self.voc_projection = nn.Conv2d(512, 256, 1)
        self.voc_classifier = nn.Conv2d(256, voc_names, 1)
        self.detector = Detector(detector_names) if detector_names else None
        # Columns of these are text embeddings of the heads' class names when training starts.
        self.imagenet_words = nn.Conv2d(imagenet_names, text_width, 1, bias=False)
        self.voc_words = nn.Conv2d(voc_names, text_width, 1, bias=False)
        inputs = 2 * text_width + CHANNELS + 256
        if detector_names:
            self.detector_words = nn.Conv2d(detector_names, text_width, 1, bias=False)
            inputs += text_width + DETECTOR_CHANNELS
        self.materials = Mosaic(material_names) if material_names else None
        if material_names:
            self.material_words = nn.Conv2d(material_names, text_width, 1, bias=False)
            believing = CONTEXT + material_names + voc_names + detector_names
            self.material_gate = nn.Conv2d(believing, 1, 1)
            inputs += text_width + CONTEXT
        self.mix = nn.Conv2d(inputs, width, 1)
        channels = (2 * QUARTER_CHANNELS + material_names, 2 * EIGHTH_CHANNELS, width)
        # `shares` is what shipped weight files call these tensors (`conv1.shares.`).
        self.shares = NeighbourWeights(*channels) if upsampling else None

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, H, W) in [-1, 1] to (B, width, H/16, W/16), sides rounded up."""
        return self.with_maps(x)[0]

    def with_upsampling(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """Tokens (B, width, h, w) of (B, 3, 16h, 16w) in [-1, 1], and weights (B, 9, 4h, 4w) or None."""
        tokens, maps = self.with_maps(x)
        if self.shares is None:
            return tokens, None
        eighth = maps.eighth[:, : 2 * EIGHTH_CHANNELS]
        return tokens, self.shares(maps.quarter, eighth, tokens)

    def with_maps(self, x: Tensor) -> tuple[Tensor, Maps]:
        """Tokens (B, width, h, w) of (B, 3, 16h, 16w) in [-1, 1], and the maps of all trunks side by side."""
        small, voc = self.imagenet.maps(shrunk(x, IMAGENET_SIDE)), self.voc.maps(x)
        imagenet = Maps(*(spread(level, like) for level, like in zip(small, voc, strict=True)))
        quarter, eighth, last = ([level, other] for level, other in zip(imagenet, voc, strict=True))
        voc_features, voc_logits = self.voc_head(voc.last)
        beliefs = [voc_logits.softmax(dim=1)]
        parts = [
            spread(self.imagenet_words(self.imagenet_belief(small.last)), voc.last),
            self.voc_words(beliefs[0]),
            imagenet.last,
            voc_features,
        ]
        if self.detector is not None:
            detected = self.detector(x)
            features, belief = at_sixteenth(detected)
            eighth.append(detected.hidden[0])
            last.append(features)
            beliefs.append(belief)
            parts += [self.detector_words(belief), features]
        if self.materials is not None:
            seen = self.materials(shrunk(x, MATERIAL_SIDE))
            fine, context = spread(seen.logits.softmax(dim=1), voc.quarter), spread(seen.context, voc.last)
            belief = F.avg_pool2d(fine, 4, ceil_mode=True)
            # From 0 to 2; 1 where nothing was learnt.
            gate = 2 * self.material_gate(torch.cat([context, belief, *beliefs], dim=1)).sigmoid()
            quarter.append(fine)
            eighth.append(spread(seen.decoded, voc.eighth))
            last.append(context)
            parts += [gate * self.material_words(belief), context]
        maps = Maps(torch.cat(quarter, dim=1), torch.cat(eighth, dim=1), torch.cat(last, dim=1))
        return self.mix(torch.cat(parts, dim=1)), maps

    def imagenet_belief(self, imagenet: Tensor) -> Tensor:
        """ImageNet's classifier on its trunk's last map: class probabilities (B, 1001, h, w)."""
        logits: Tensor = self.imagenet_classifier(F.relu6(self.imagenet_top(imagenet)))
        return logits.softmax(dim=1)

    def voc_head(self, voc: Tensor) -> tuple[Tensor, Tensor]:
        """DeepLabV3's head on its trunk's last map: features (B, 256, h, w), logits (B, V, h, w)."""
        pooled = F.relu(self.voc_pooling(voc.mean(dim=(2, 3), keepdim=True))).expand(-1, -1, *voc.shape[2:])
        voc = F.relu(self.voc_projection(torch.cat([pooled, F.relu(self.voc_aspp(voc))], dim=1)))
        return voc, self.voc_classifier(voc)


def shrunk(x: Tensor, side: float) -> Tensor:
    """A frame (B, 3, H, W) at `side` of its sides, each to the nearest whole number of tokens."""
    height, width = (max(STRIDE, round(length * side / STRIDE) * STRIDE) for length in x.shape[2:])
    # In float32, as processors have no antialiased sampling in half precision.
    small = F.interpolate(x.float(), (height, width), mode="bilinear", antialias=True, align_corners=False)
    return small.to(x.dtype)


def spread(small: Tensor, like: Tensor) -> Tensor:
    """Maps (B, C, h, w) of a smaller frame, interpolated to the sides of `like`."""
    return F.interpolate(small, like.shape[2:], mode="bilinear", align_corners=False)


def build_mini(config: Mapping[str, Any]) -> PlainClip:
    """Build the embedded model from `checkpoints/mini/mini.json`, with random weights.

    Args:
        config: open_clip's `embed_dim`, `vision_cfg`, `text_cfg`, and `stem` with the number of names of each
            head, {"imagenet_names", "voc_names"}, `upsampling`, `detector_names` and `material_names` (left
            out: false and 0).

    Returns:
        A plain CLIP whose `visual.conv1` is a `ConvStem`.
    """
    model = PlainClip(config["embed_dim"], config["vision_cfg"], config["text_cfg"])
    model.visual.conv1 = ConvStem(config["vision_cfg"]["width"], config["embed_dim"], **config["stem"])
    return model


def without_detector(config: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration of `build_mini` with neither detector nor segmenter of materials in the stem."""
    return {**config, "stem": {**config["stem"], "detector_names": 0, "material_names": 0}}


def without_materials(config: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration of `build_mini` with no segmenter of materials in the stem."""
    return {**config, "stem": {**config["stem"], "material_names": 0}}


def fitting(config: Mapping[str, Any], state: Mapping[str, Tensor]) -> Mapping[str, Any]:
    """The configuration for a model's state: with the parts of the stem that the state has."""
    stem = {**config["stem"]}
    for part, setting in ((DETECTOR_PARTS, "detector_names"), (MATERIAL_PARTS, "material_names")):
        words = state.get(f"{part}_words.weight")
        stem[setting] = 0 if words is None else words.shape[1]
    return {**config, "stem": stem}
