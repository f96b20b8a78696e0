"""Reference tensors of official ZegCLIP and BiFormer code, as modules and values of this project."""

from pathlib import Path

import torch
from open_clip.transformer import QuickGELU, VisionTransformer
from torch.nn import functional as F

from ovs_core.encoders.deep_prompts import VisualPrompts

DATA = Path(__file__).resolve().parents[1] / "data"
SHARED = Path(__file__).resolve().parents[3] / "shared" / "reference" / "parity"
PROMPT_NAMES = ("prompt_embeddings", "deep_prompt_embeddings", "prompt_proj", "prompt_norm")


def weights(tensors, prefix="w."):
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def prompted_tower(tensors):
    """A reference tower, its prompts, and the state of its weights."""
    state = weights(tensors)
    visual = VisionTransformer(64, 16, 48, 4, 4, 4.0, output_dim=32, act_layer=QuickGELU)
    visual.load_state_dict(
        {
            name: value
            for name, value in state.items()
            if not name.startswith("prompt_") and not name.startswith("deep_")
        }
    )
    return visual.eval().requires_grad_(False), prompts_of(state), state


def prompts_of(state):
    if "prompt_embeddings" not in state:
        return None
    raw = [state["prompt_embeddings"][0], *state.get("deep_prompt_embeddings", ())]
    return VisualPrompts(
        tuple(F.linear(one, state["prompt_proj.weight"], state["prompt_proj.bias"]) for one in raw)
    )


def extra_norm(state, x):
    """ZegCLIP's LayerNorm behind the last block, in its deep form."""
    if "deep_prompt_embeddings" not in state:
        return x
    return F.layer_norm(x, x.shape[-1:], state["prompt_norm.weight"], state["prompt_norm.bias"], 1e-6)


def close(found, expected):
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
