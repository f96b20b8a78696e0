"""Reference tensors of the ResNet of CLIP."""

from pathlib import Path

import pytest
from open_clip.modified_resnet import ModifiedResNet
from safetensors.torch import load_file

DATA = Path(__file__).resolve().parents[1] / "data" / "parity_maskclip_rn50.safetensors"
STEM = {"0": "conv1", "1": "bn1", "3": "conv2", "4": "bn2", "6": "conv3", "7": "bn3"}


@pytest.fixture(scope="module")
def official():
    return load_file(DATA)


@pytest.fixture(scope="module")
def visual(official):
    model = ModifiedResNet((3, 4, 6, 3), output_dim=64, heads=4, image_size=64, width=8).eval()
    state = {}
    for name, value in official.items():
        if name.startswith("w.backbone."):
            state[open_clip_name(name.removeprefix("w.backbone."))] = value
        elif name.startswith("w.head.") and "proj" in name:
            state["attnpool." + name.removeprefix("w.head.")] = value.flatten(1) if value.ndim == 4 else value
    missing, unexpected = model.load_state_dict(state, strict=False)
    assert missing == ["attnpool.positional_embedding"]
    assert unexpected == []
    return model


def open_clip_name(name):
    part, rest = name.split(".", 1)
    if part == "stem":
        index, rest = rest.split(".", 1)
        return f"{STEM[index]}.{rest}"
    head, mark, tail = name.partition(".downsample.")
    if not mark:
        return name
    index, rest = tail.split(".", 1)
    # The official block keeps its pooling at place 0, open_clip names it "-1".
    return f"{head}.downsample.{int(index) - 1}.{rest}"
