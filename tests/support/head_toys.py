"""Trained heads in toy size for the embedded tower."""

from dataclasses import replace

import torch
from instance_toys import SHA
from training_toys import CONFIG

from ovs_core.decoders.mask_decoder import MaskDecoderConfig
from ovs_core.decoders.pixel_decoder import PixelDecoderConfig
from ovs_core.encoders.loading import LoadedModel
from ovs_core.encoders.mini import build_mini
from ovs_core.encoders.mini_pyramid import pyramid_channels
from ovs_core.encoders.towers import EncoderSpec, mini_pyramid
from ovs_core.methods import METHODS
from ovs_core.methods.mask_classification.head import MaskHead, MaskHeadConfig
from ovs_core.methods.mask_classification.head_file import TrainedHead
from ovs_core.methods.mvp_seg.contexts import Contexts
from ovs_core.options import Preset
from ovs_core.types import Vocabulary

PRESET = Preset(scale=20, threshold=0.0, short_side=64, window=None, stride=0, templates="single1")
WORDS = Vocabulary((("dog", "puppy"), ("cat",)), ("wall",))
HEADS = {"mvp_seg": "mvp_seg", "fc_clip": "fc_clip", "maft_plus": "maft_plus"}
UNTRAINED = frozenset({"zegclip", "ldvc", "gkc", "two_stage"})  # no toy head here: they have own tests
JOINT, WIDTH = CONFIG["embed_dim"], CONFIG["vision_cfg"]["width"]


def toy_model(seed=0):
    torch.manual_seed(seed)
    return build_mini(CONFIG)


def toy_spec(tower_sha=SHA, **changes):
    def load(store):
        half = (0.5, 0.5, 0.5)
        return LoadedModel(toy_model(), half, half, {"toy.safetensors": tower_sha})

    spec = EncoderSpec(
        "mini",
        "Toy of the embedded model",
        "",
        None,
        "embedded",
        "mini",
        16,
        load,
        pyramid=mini_pyramid,
        heads=HEADS,
    )
    return replace(spec, **changes)


def toy_head(method, visual, seed=1):
    torch.manual_seed(seed)
    config = MaskHeadConfig(
        PixelDecoderConfig(pyramid_channels(visual), 64, 32, 1),
        MaskDecoderConfig(JOINT, 64, 5, 32, 3),
        "panoptic" if method == "maft_plus" else None,
    )
    head = MaskHead(config).eval()
    tuned = {}
    if method == "maft_plus":
        torch.manual_seed(5)
        parts = visual.transformer.state_dict()
        tuned = {
            f"transformer.{name}": value + 0.1 * torch.randn(value.shape) for name, value in parts.items()
        }
    return TrainedHead(method, head, SHA, frozenset({"dog"}), tuned)


def toy_contexts(seed=3):
    generator = torch.Generator().manual_seed(seed)
    width = CONFIG["text_cfg"]["width"]
    views, whole = torch.randn(3, 4, width, generator=generator), torch.randn(4, width, generator=generator)
    return Contexts(views, whole, SHA, tau1=30.0, tau2=0.07, gamma=100.0)


def declared(method, preset):
    """Of a preset's settings those that a method has as options."""
    return {name: value for name, value in preset.options.items() if METHODS[method].option(name)}
