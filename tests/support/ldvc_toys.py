"""Small towers, heads and photos that LDVC's tests share."""

import numpy as np
import torch
from open_clip.transformer import VisionTransformer
from tiny_clip import make_model, randomise

from ovs_core.decoders.route_attention import RouteConfig
from ovs_core.decoders.semantic_decoder import SemanticDecoderConfig
from ovs_core.encoders.clip_vit import VisionEncoder
from ovs_core.encoders.deep_prompts import LanguagePrompts, VisualPrompts
from ovs_core.encoders.prompts import clip_tokenizer
from ovs_core.encoders.text import TextEncoder
from ovs_core.methods.ldvc.heads import Frame, PromptedHead
from ovs_core.methods.ldvc.model import HeadConfig, SemanticHead
from ovs_core.options import Preset

CPU = torch.device("cpu")
TOWER = "ab" * 32
TOKENIZE = clip_tokenizer(77)
SEEN = frozenset({"cat", "dog"})


def make_vision(visual=None, **changes):
    """An encoder of the tiny tower, 3 blocks 32 wide, joint width 24."""
    settings = {
        "name": "tiny",
        "identity": "tiny:0:float32",
        "visual": visual or make_model().visual,
        "mean": (0.5, 0.4, 0.3),
        "std": (0.2, 0.3, 0.4),
        "patch": 16,
        "device": CPU,
        "dtype": torch.float32,
    }
    return VisionEncoder(**{**settings, **changes})


def make_text(model=None, tokenizer=TOKENIZE, **settings):
    return TextEncoder(model or make_model(), "tiny:0:float32", CPU, tokenizer=tokenizer, **settings)


def make_preset(short_side=64, window=None, stride=16):
    return Preset(1.0, 0.0, short_side, window, stride, "single1")


def photo(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def make_head(method="ldvc", *, aux_block=None, language=True, seen=SEEN, training=None, **decoder):
    """A head of random weights for the tiny tower: shown nowhere, it only has to be computed with."""
    route = None if method == "zegclip" else RouteConfig(3, 2)
    queries = "class" if method == "zegclip" else "visual"
    settings = {"queries": queries, "layers": 2, "heads": 4, "feedforward": 40, "route": route, **decoder}
    head = SemanticHead(HeadConfig(SemanticDecoderConfig(24, **settings), 32, True, aux_block))
    randomise(head, 3)
    generator = torch.Generator().manual_seed(4)
    visual = VisualPrompts(tuple(torch.randn(3, 5, 32, generator=generator)))
    prompts = None
    if method == "ldvc" and language:
        prompts = LanguagePrompts(torch.randn(3, 4, 32, generator=generator), "a photo of a {}")
    return PromptedHead(
        method,
        head,
        visual,
        prompts,
        ("a photo of a {}",),
        Frame(64, 64, 48),
        TOWER,
        seen,
        training or {"steps": 3},
    )


def make_square_tower(width=32):
    """A tower of another width."""
    return randomise(VisionTransformer(64, 16, width, 3, 4, 2.0, output_dim=24))
