"""Small CLIP towers with every parameter random, so that no forgotten bias or scale goes unseen."""

from functools import partial
from pathlib import Path

import torch
from open_clip.model import CLIP, CLIPTextCfg, CLIPVisionCfg, CustomTextCLIP
from open_clip.transformer import LayerNorm, QuickGELU, VisionTransformer
from safetensors.torch import load_file
from torch import nn

DATA = Path(__file__).resolve().parents[1] / "data"


def randomise(module, seed=0):
    """Give every parameter new values, seeded: scales near 1, everything else small."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            is_scale = parameter.ndim == 1 and name.endswith(("weight", "gamma"))
            parameter.copy_(1 + 0.1 * noise if is_scale else 0.2 * noise)
    return module.eval().requires_grad_(False)


def make_visual(seed=0, *, image_size=64, patch=16, width=32, layers=3, heads=4, **settings):
    settings = {"output_dim": 24, "mlp_ratio": 2.0, **settings}
    return randomise(VisionTransformer(image_size, patch, width, layers, heads, **settings), seed)


def make_model(seed=0, *, custom=False, quick_gelu=False, context_length=77, **text_settings):
    """A dual encoder with 24 joint dimensions."""
    text = CLIPTextCfg(width=32, heads=4, layers=3, context_length=context_length, **text_settings)
    vision = CLIPVisionCfg(image_size=64, patch_size=16, width=32, layers=3, head_width=8)
    kind = CustomTextCLIP if custom else CLIP
    return randomise(kind(24, vision, text, quick_gelu=quick_gelu), seed)


def naclip_tower():
    """The tower of the NACLIP reference tensors, and those tensors."""
    tensors = load_file(DATA / "parity_naclip_vit.safetensors")
    visual = VisionTransformer(112, 16, 64, 3, 4, 4.0, output_dim=32, act_layer=QuickGELU)
    visual.load_state_dict({name[2:]: value for name, value in tensors.items() if name.startswith("w.")})
    return visual.eval().requires_grad_(False), tensors


def maskclip_tower():
    """The backbone of the MaskCLIP reference tensors (exact GELU, LayerNorm 1e-6), and those tensors."""
    tensors = load_file(DATA / "parity_maskclip_vit.safetensors")
    visual = VisionTransformer(64, 16, 48, 3, 4, 4.0, norm_layer=partial(LayerNorm, eps=1e-6))
    visual.proj = None
    shapes = {name: value.shape for name, value in visual.state_dict().items()}
    names = {name: _open_clip_name(name[2:]) for name in tensors if name.startswith("w.")}
    visual.load_state_dict({new: tensors[old].reshape(shapes[new]) for old, new in names.items()})
    return visual.eval().requires_grad_(False), tensors


def _open_clip_name(name):
    if name.startswith("layers."):
        pairs = {
            "layers.": "transformer.resblocks.",
            ".attn.attn.": ".attn.",
            ".ffn.transformer.resblocks.0.0.": ".mlp.c_fc.",
            ".ffn.transformer.resblocks.1.": ".mlp.c_proj.",
            ".ln1.": ".ln_1.",
            ".ln2.": ".ln_2.",
        }
    else:
        pairs = {
            "cls_token": "class_embedding",
            "pos_embed": "positional_embedding",
            "ln0.": "ln_pre.",
            "ln1.": "ln_post.",
            "patch_embed.projection.": "conv1.",
        }
    for old, new in pairs.items():
        name = name.replace(old, new)
    return name


class Stem(nn.Module):
    """Stands for `conv1` like a convolutional stem: another stride per stage, a bias, a non-linearity."""

    def __init__(self, width=32):
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 8, 4, 4), nn.Conv2d(8, width, 4, 4)

    def forward(self, x):
        return self.second(torch.relu(self.first(x)))
