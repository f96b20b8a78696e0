"""Tiny towers with a pyramid and heads for them, as the reference tensors of MAFT+ were made with."""

import gzip
from functools import partial
from pathlib import Path

import torch
from open_clip.model import CLIP
from safetensors.torch import load_file
from timm.models.convnext import ConvNeXt
from tiny_clip import randomise

from ovs_core.decoders.mask_decoder import MaskDecoderConfig
from ovs_core.decoders.pixel_decoder import PixelDecoderConfig
from ovs_core.encoders.clip_conv import conv_to_joint_space
from ovs_core.methods.mask_classification.head import MaskHead, MaskHeadConfig
from ovs_core.methods.mask_classification.official import our_name
from ovs_core.types import Pyramid, TextBank, Vocabulary

DATA = Path(__file__).resolve().parents[1] / "data"
JOINT = 32
DIMS, DEPTHS = (16, 32, 64, 128), (1, 1, 2, 1)
TEXT = {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2}
CLASSES = Vocabulary(
    (
        ("cat", "cats", "kitten"),
        ("grass", "lawn"),
        ("sky",),
        ("bus", "buses"),
        ("tree", "trees", "plant"),
        ("road",),
    )
)
"""What the reference tensors were asked."""


def conv_clip(projection="mlp", seed=0):
    """A CLIP with a ConvNeXt of the reference tensors' sizes; `projection` as open_clip names it."""
    vision = {"timm_model_name": "convnext_atto", "timm_pool": "", "timm_proj": projection, "image_size": 64}
    model = CLIP(JOINT, vision, TEXT)
    model.visual.trunk = ConvNeXt(dims=DIMS, depths=DEPTHS, num_classes=0)
    if projection == "linear":
        model.visual.head.proj = torch.nn.Linear(DIMS[-1], JOINT, bias=False)
    else:
        model.visual.head.mlp.fc1 = torch.nn.Linear(DIMS[-1], 2 * JOINT)
    return randomise(model, seed)


def head_config(transfer="semantic", *, queries=12, inputs=DIMS, layers=9):
    """Sizes of the reference tensors' head, or others."""
    return MaskHeadConfig(
        PixelDecoderConfig(inputs, width=64, feedforward=1024),
        MaskDecoderConfig(JOINT, width=64, queries=queries, feedforward=128, layers=layers),
        transfer,
    )


def random_head(transfer="semantic", seed=0, **sizes):
    return randomise(MaskHead(head_config(transfer, **sizes)), seed)


def reference():
    """Tensors made by the official code; see tests/data/README.md."""
    return load_file(DATA / "parity_maft_plus.safetensors")


def official_keys(variant):
    """Official name -> (shape, trained) of "base" or "large", without the frozen copy `backbone_t`."""
    found = {}
    for line in gzip.decompress((DATA / "maft_plus_keys.txt.gz").read_bytes()).decode().splitlines():
        if line.startswith(variant):
            _, name, shape, trained = line.split()
            sides = () if shape == "-" else tuple(int(side) for side in shape.split("x"))
            found[name] = (sides, trained == "1")
    return found


def official_state(model, head):
    """What an official file of these two would hold, under official names."""
    state = {f"backbone.clip_model.{name}": value for name, value in model.state_dict().items()}
    state |= {f"backbone_t.clip_model.{name}": value for name, value in model.state_dict().items()}
    ours = head.state_dict()
    for name in official_keys("large"):
        if not name.startswith(("backbone.", "criterion.")) and our_name(name) in ours:
            state[name] = ours[our_name(name)]
    state["criterion.empty_weight"] = torch.ones(172 if head.config.transfer == "semantic" else 134)
    return state


def random_pyramid(image_size=(50, 70), padded=(64, 96), dims=DIMS, seed=0):
    """What a tower might say of a photo; frame and photo are of one size."""
    generator = torch.Generator().manual_seed(seed)
    maps = tuple(
        torch.randn(dim, padded[0] // stride, padded[1] // stride, generator=generator)
        for dim, stride in zip(dims, (4, 8, 16, 32), strict=True)
    )
    return Pyramid("toy", image_size, image_size, padded, maps, maps[-1])


def random_text(vocabulary, seed=0):
    rows = torch.randn(len(vocabulary.rows), JOINT, generator=torch.Generator().manual_seed(seed))
    return TextBank(vocabulary, torch.nn.functional.normalize(rows, dim=1))


def joint_space(model):
    """The head of a tower, as methods take it."""
    return partial(conv_to_joint_space, model.visual)
