"""ZegCLIP's official checkpoints: told by their names, mapped to ours, refused where they are something else.

A checkpoint of ZiqinZhou66/ZegCLIP (MIT) is an mmsegmentation file: `backbone.*` is CLIP's frozen image tower
with visual prompts in it, `decode_head.*` the decoder, `text_encoder.*` CLIP's frozen text tower. Each
decoder layer carries a self-attention and a norm that its forward never uses; they are left behind. Text
embeddings are not in the file: names are embedded anew by the tower in use, in the template of the VOC config
(the COCO one averages 15 templates, which the file does not name).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ovs_core.checkpoints import CheckpointError, load_strict, read_state, read_training_state
from ovs_core.decoders.semantic_decoder import SemanticDecoderConfig
from ovs_core.encoders.deep_prompts import VisualPrompts
from ovs_core.encoders.positions import resize_positions
from ovs_core.methods.ldvc.heads import IMAGENET_MEAN, IMAGENET_STD, Frame, PromptedHead
from ovs_core.methods.ldvc.model import HeadConfig, SemanticHead, seen_names
from ovs_core.methods.trained_files import part_of
from ovs_core.vocabulary.splits import SPLITS

if TYPE_CHECKING:  # types only: who builds the model loads its library, which takes seconds
    from open_clip.transformer import VisionTransformer

ZEGCLIP_TOWER = "vit_b16_openai"
"""Registry name of the tower that every official checkpoint was trained on."""
_HEAD, _TOWER = "decode_head.", "backbone."
_MARKS = ("decode_head.q_proj.weight", "decode_head.decoder_1.layers.0.linear1.weight")
_UNUSED = re.compile(r"decoder_1\.layers\.\d+\.(self_attn|norm1)\.")
_NAMES = (
    (re.compile(r"^q_proj\."), "descriptor.linear."),
    (re.compile(r"^decoder_1\.layers\.(\d+)\.multihead_attn\."), r"blocks.\1.cross."),
    (re.compile(r"^decoder_1\.layers\.(\d+)\.norm2\."), r"blocks.\1.cross_norm."),
    (re.compile(r"^decoder_1\.layers\.(\d+)\.norm3\."), r"blocks.\1.feedforward_norm."),
    (re.compile(r"^decoder_1\.layers\.(\d+)\."), r"blocks.\1."),
)
_PROMPTS = ("prompt_embeddings", "deep_prompt_embeddings", "prompt_proj.", "prompt_norm.")
_TEMPLATE = "a photo of a {}"
_CROP, _STRIDE = 512, 426
_HALF_STEP = 2e-3  # towers are compared to the precision of half floats


def holds_zegclip(path: Path) -> bool:
    """Whether a file is an official ZegCLIP checkpoint; False for what cannot be read at all, too."""
    try:
        return is_zegclip(frozenset(read_state(path)))
    except CheckpointError:
        return False


def is_zegclip(names: frozenset[str]) -> bool:
    """Whether a file with tensors of these names is an official ZegCLIP checkpoint."""
    return names.issuperset(_MARKS) and f"{_TOWER}prompt_embeddings" in names


def decoder_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors of an official decode head under the names of `SemanticDecoder`; unused ones left out."""
    renamed = {}
    for name, value in state.items():
        if _UNUSED.match(name):
            continue
        ours = next((mark.sub(new, name) for mark, new in _NAMES if mark.match(name)), name)
        renamed[ours] = value
    return renamed


def load_zegclip(path: Path, visual: VisionTransformer, tower: str, *, heads: int = 8) -> PromptedHead:
    """Read an official checkpoint as a head for the tower that it was trained on.

    Args:
        path: the checkpoint.
        visual: image tower in use, CLIP ViT-B/16 as OpenAI published it.
        tower: SHA-256 of its file.
        heads: attention heads of the decoder, which no tensor tells (official: 8).

    Raises:
        CheckpointError: if the file is something else, or was trained on another tower.
    """
    state = read_state(path)
    if not is_zegclip(frozenset(state)):
        raise CheckpointError(f"{path} is not a checkpoint of ZegCLIP.")
    backbone = part_of(state, _TOWER)
    _expect_tower(backbone, visual, path)
    decoder = decoder_state(part_of(state, _HEAD))
    layers = len({name.split(".")[1] for name in decoder if name.startswith("blocks.")})
    hidden, width = decoder["blocks.0.linear1.weight"].shape
    if width % heads:
        raise CheckpointError(f"{path} has a decoder {width} wide, which {heads} heads cannot share.")
    deep = "deep_prompt_embeddings" in backbone
    config = SemanticDecoderConfig(width, "class", layers, heads, hidden, route=None)
    head = SemanticHead(HeadConfig(config, backbone["class_embedding"].shape[0], extra_norm=deep))
    load_strict(head.decoder, decoder, source=str(path))
    if head.extra_norm is not None:
        load_strict(head.extra_norm, part_of(backbone, "prompt_norm."), source=str(path))
    return PromptedHead(
        "zegclip",
        head.float().eval().requires_grad_(False),
        visual_prompts(backbone, path),
        None,
        (_TEMPLATE,),
        Frame(_CROP, _CROP, _STRIDE, IMAGENET_MEAN, IMAGENET_STD),
        tower,
        _seen(path),
        {"source": "official ZegCLIP checkpoint", "file": path.name},
    )


def visual_prompts(backbone: Mapping[str, Tensor], path: Path) -> VisualPrompts:
    """Prompts of an official backbone, taken through its projection.

    Raises:
        CheckpointError: if their shapes do not fit each other.
    """
    try:
        raw = [backbone["prompt_embeddings"][0], *backbone.get("deep_prompt_embeddings", ())]
        weight, bias = backbone["prompt_proj.weight"].float(), backbone["prompt_proj.bias"].float()
        return VisualPrompts(tuple(F.linear(prompt.float(), weight, bias) for prompt in raw))
    except (KeyError, RuntimeError, ValueError) as error:
        raise CheckpointError(f"{path} has no usable visual prompts: {error}.") from error


def _expect_tower(backbone: Mapping[str, Tensor], visual: VisionTransformer, path: Path) -> None:
    """Return if the frozen part of a checkpoint's tower is the tower in use."""
    own = visual.state_dict()
    frozen = {name: value for name, value in backbone.items() if not name.startswith(_PROMPTS)}
    if set(frozen) != set(own):
        raise CheckpointError(f"{path} was trained on a tower of other parts than the one in use.")
    for name, value in frozen.items():
        mine = own[name]
        if name == "positional_embedding" and mine.shape != value.shape:
            side = round((len(value) - 1) ** 0.5)
            mine = resize_positions(mine, (side, side), mode="bilinear")
        if mine.shape != value.shape or not torch.allclose(
            mine.float().cpu(), value.float(), atol=_HALF_STEP, rtol=_HALF_STEP
        ):
            raise CheckpointError(f"{path} was trained on another tower: {name} differs from the one in use.")


def _seen(path: Path) -> frozenset[str]:
    """Names that training saw, by the class list that mmsegmentation writes down; empty where it did not."""
    meta: Any = read_training_state(path).get("meta")
    names = tuple(meta.get("CLASSES") or ()) if isinstance(meta, Mapping) else ()
    for split in SPLITS.values():
        if split.classes == len(names) and set(split.unseen) <= set(names):
            return seen_names([name for name in names if name not in split.unseen])
    return frozenset()
