"""Trained heads in toy size for the embedded tower."""

from dataclasses import replace

import torch
from instance_toys import SHA
from tiny_clip import randomise
from training_toys import CONFIG

from ovs_core.decoders.mask_decoder import MaskDecoderConfig
from ovs_core.decoders.pixel_decoder import PixelDecoderConfig
from ovs_core.decoders.route_attention import RouteConfig
from ovs_core.decoders.semantic_decoder import SemanticDecoderConfig
from ovs_core.encoders.deep_prompts import LanguagePrompts, VisualPrompts
from ovs_core.encoders.loading import LoadedModel
from ovs_core.encoders.mini import build_mini
from ovs_core.encoders.mini_pyramid import pyramid_channels
from ovs_core.encoders.towers import EncoderSpec, mini_pyramid
from ovs_core.methods import METHODS
from ovs_core.methods.gkc.head_file import TrainedGkc, save_gkc_head
from ovs_core.methods.gkc.student import GkcHead, GkcHeadConfig
from ovs_core.methods.ldvc.heads import Frame, PromptedHead, save_prompted_head
from ovs_core.methods.ldvc.model import HeadConfig, SemanticHead
from ovs_core.methods.mask_classification.head import MaskHead, MaskHeadConfig
from ovs_core.methods.mask_classification.head_file import TrainedHead, save_mask_head
from ovs_core.methods.mvp_seg.contexts import Contexts, save_contexts
from ovs_core.methods.mvp_seg.student import EMBEDDED_TRUNK, TrainedStudent, make_student, save_student
from ovs_core.options import Preset
from ovs_core.types import Vocabulary

PRESET = Preset(scale=20, threshold=0.0, short_side=64, window=None, stride=0, templates="single1")
WORDS = Vocabulary((("dog", "puppy"), ("cat",)), ("wall",))
# Method -> name of the file of its head; the two-stage baseline names FC-CLIP's masks.
HEADS = {
    **{name: name for name in ("mvp_seg", "mvp_seg_plus", "fc_clip", "maft_plus", "zegclip", "ldvc", "gkc")},
    "two_stage": "fc_clip",
}
HEAD_FILES = tuple(sorted(set(HEADS.values())))
TOKEN_HEADS = ("mvp_seg", "mvp_seg_plus", "zegclip", "ldvc")  # whose evidence is rows of scores
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


def toy_prompted(method, seed=6):
    """A head of ZegCLIP or LDVC of random weights."""
    route = None if method == "zegclip" else RouteConfig(2, 2)
    queries = "class" if method == "zegclip" else "visual"
    decoder = SemanticDecoderConfig(JOINT, queries=queries, layers=2, heads=2, feedforward=16, route=route)
    layers, text = (CONFIG[part]["layers"] for part in ("vision_cfg", "text_cfg"))
    generator = torch.Generator().manual_seed(seed)
    visual = VisualPrompts(tuple(torch.randn(layers, 3, WIDTH, generator=generator)))
    prompts = None
    if method == "ldvc":
        starts = torch.randn(text, 4, CONFIG["text_cfg"]["width"], generator=generator)
        prompts = LanguagePrompts(starts, "a photo of a {}")
    return PromptedHead(
        method,
        randomise(SemanticHead(HeadConfig(decoder, WIDTH, True, None)), seed),
        visual,
        prompts,
        ("a photo of a {}",),
        Frame(64, None, 0),
        SHA,
        frozenset({"dog"}),
        {"steps": 3},
    )


def toy_gkc(visual, seed=7):
    config = GkcHeadConfig(
        PixelDecoderConfig(pyramid_channels(visual), 64, 32, 1), MaskDecoderConfig(JOINT, 64, 5, 32, 3)
    )
    return TrainedGkc(randomise(GkcHead(config), seed), SHA, frozenset({"dog"}), training={"steps": 3})


def write_toy_student(visual, path, seed=8):
    """A student of random weights on the toy's stem."""
    student = make_student(EMBEDDED_TRUNK, visual, JOINT)
    randomise(student.head, seed)
    save_student(student, TrainedStudent(EMBEDDED_TRUNK, {}, toy_contexts(), ("dog",), ("cat",)), path)


def write_toy_heads(folder, again=0):
    """Write the file of every head in `folder`; another `again` is another training."""
    visual = toy_model().visual
    for method in ("fc_clip", "maft_plus"):
        save_mask_head(toy_head(method, visual, seed=1 + again), folder / f"{method}.safetensors")
    for method in ("zegclip", "ldvc"):
        save_prompted_head(toy_prompted(method, seed=6 + again), folder / f"{method}.safetensors")
    save_gkc_head(toy_gkc(visual, seed=7 + again), folder / "gkc.safetensors")
    save_contexts(toy_contexts(seed=3 + again), folder / "mvp_seg.safetensors")
    write_toy_student(visual, folder / "mvp_seg_plus.safetensors", seed=8 + again)


def declared(method, preset):
    """Of a preset's settings those that a method has as options."""
    return {name: value for name, value in preset.options.items() if METHODS[method].option(name)}
