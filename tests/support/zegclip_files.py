"""Official files of ZegCLIP in toy size."""

import torch

from ovs_core.encoders.positions import resize_positions


def official_state(visual, seed=3, *, deep=True, width=24, queries=3):
    """A checkpoint as official code writes one, for a tiny tower: its own names, dead layers included."""
    generator = torch.Generator().manual_seed(seed)

    def noise(*shape):
        return 0.3 * torch.randn(*shape, generator=generator)

    state = {f"backbone.{name}": value.clone() for name, value in visual.state_dict().items()}
    positions = resize_positions(visual.positional_embedding, (6, 6), mode="bilinear")
    state["backbone.positional_embedding"] = positions.clone()
    state["backbone.prompt_embeddings"] = noise(1, 5, 32)
    if deep:
        state["backbone.deep_prompt_embeddings"] = noise(2, 5, 32)
    for part, shapes in {
        "backbone.prompt_proj": ((32, 32), (32,)),
        "backbone.prompt_norm": ((32,), (32,)),
        "decode_head.q_proj": ((width, 2 * width), (width,)),
    }.items():
        state |= {f"{part}.weight": noise(*shapes[0]), f"{part}.bias": noise(*shapes[1])}
    for layer in range(2):
        prefix = f"decode_head.decoder_1.layers.{layer}."
        for part in ("q", "k", "v", "proj"):
            state[f"{prefix}multihead_attn.{part}.weight"] = noise(width, width)
            state[f"{prefix}multihead_attn.{part}.bias"] = noise(width)
        for part in ("norm1", "norm2", "norm3"):
            state[f"{prefix}{part}.weight"], state[f"{prefix}{part}.bias"] = 1 + noise(width), noise(width)
        state[f"{prefix}linear1.weight"], state[f"{prefix}linear1.bias"] = noise(40, width), noise(40)
        state[f"{prefix}linear2.weight"], state[f"{prefix}linear2.bias"] = noise(width, 40), noise(width)
        state[f"{prefix}self_attn.in_proj_weight"] = noise(3 * width, width)
        state[f"{prefix}self_attn.out_proj.bias"] = noise(width)
    state["text_encoder.ln_final.weight"] = noise(queries)
    return state


VOC = ("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable")
VOC += ("dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor")


def official_file(tmp_path, state, classes=VOC):
    path = tmp_path / "iter_20000.pth"
    torch.save({"meta": {"CLASSES": classes, "iter": 20000}, "state_dict": state}, path)
    return path
