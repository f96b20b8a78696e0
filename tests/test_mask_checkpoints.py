"""Official files of MAFT+ and FC-CLIP: told apart, loaded strictly, refused in one clear sentence."""

import pytest
import torch
from mask_toys import (
    CLASSES,
    conv_clip,
    joint_space,
    official_keys,
    official_state,
    random_head,
    random_pyramid,
    random_text,
)

from ovs_core.checkpoints import CheckpointError, read_state
from ovs_core.decoders.mask_decoder import MaskDecoderConfig
from ovs_core.decoders.pixel_decoder import PixelDecoderConfig
from ovs_core.encoders.clip_conv import STAGE_CHANNELS
from ovs_core.encoders.loading import build_open_clip
from ovs_core.encoders.official_clip import clip_state, load_clip
from ovs_core.methods.mask_classification.fc_clip import FcClip
from ovs_core.methods.mask_classification.frame import propose_masks
from ovs_core.methods.mask_classification.head import MaskHead, MaskHeadConfig
from ovs_core.methods.mask_classification.maft_plus import MaftPlus
from ovs_core.methods.mask_classification.official import build_method, head_state, load_head, recognise

ARCHITECTURES = {"base": "convnext_base_w_320", "large": "convnext_large_d_320"}


def empty_file(variant, classes=171):
    """Names and shapes of an official file, without values."""
    state = {name: torch.empty(shape, device="meta") for name, (shape, _) in official_keys(variant).items()}
    return state | {"criterion.empty_weight": torch.empty(classes + 1, device="meta")}


def shapes(state):
    return {name: tuple(value.shape) for name, value in state.items()}


@pytest.mark.parametrize(
    ("variant", "joint", "names"), [("base", 640, 493), ("large", 768, 543)], ids=["base", "large"]
)
def test_official_sizes_have_the_official_keys(variant, joint, names):
    state = empty_file(variant)
    form = recognise(state, source="official")
    assert form.architecture == ARCHITECTURES[variant]
    assert (form.method, form.classes, form.has_text) == ("maft_plus", 171, True)
    inputs = STAGE_CHANNELS[form.architecture]
    assert form.head == MaskHeadConfig(PixelDecoderConfig(inputs), MaskDecoderConfig(joint), "semantic")
    with torch.device("meta"):
        head, model = MaskHead(form.head), build_open_clip(form.architecture)
    assert shapes(head.state_dict()) == shapes(head_state(state))
    assert len(head.state_dict()) == 117 + 184 + 1 + 8
    assert shapes(model.state_dict()) == shapes(clip_state(state))
    assert len(model.state_dict()) == names


def test_the_panoptic_file_is_known_by_its_classes():
    assert recognise(empty_file("large", 133), source="official").head.transfer == "panoptic"


def test_fc_clip_files_have_no_transfer():
    state = {name: value for name, value in empty_file("large", 133).items() if not name.startswith("cdt.")}
    form = recognise(state, source="official")
    assert (form.method, form.head.transfer, form.architecture) == ("fc_clip", None, "convnext_large_d_320")


def test_another_number_of_classes_needs_a_word():
    state = empty_file("large", 5)
    with pytest.raises(CheckpointError, match=r"expected 171 \(semantic\) or 133 \(panoptic\).*got 5"):
        recognise(state, source="maftp.pth")
    assert recognise(state, source="maftp.pth", residual="panoptic").head.transfer == "panoptic"
    del state["criterion.empty_weight"]
    with pytest.raises(CheckpointError, match="got None"):
        recognise(state, source="maftp.pth")


@pytest.mark.parametrize("transfer", ["semantic", "panoptic", None])
def test_a_file_round_trip_gives_the_same_answer(transfer, tmp_path):
    model, head = conv_clip(seed=1), random_head(transfer, seed=1)
    path = tmp_path / "official.pth"
    extras = {"iteration": 55_000, "optimizer": {"state": {0: {"step": 1}}}}
    torch.save({"model": official_state(model, head), **extras}, path)
    state = read_state(path)
    form = recognise(state, source="official.pth")
    other = conv_clip(seed=2)
    load_clip(other, state, source="official.pth")
    seen = frozenset({"lawn"})
    method = build_method(state, form, other, seen, source="official.pth")
    pyramid, text = random_pyramid(), random_text(CLASSES)
    if transfer is None:
        expected = FcClip(head, joint_space(model), model.logit_scale, seen, resize_masks=True)
    else:
        expected = MaftPlus(head, joint_space(model), model.logit_scale)
    assert type(method) is type(expected)
    found, wanted = propose_masks(method, pyramid, text), propose_masks(expected, pyramid, text)
    assert torch.equal(found.scores, wanted.scores)
    assert torch.equal(found.masks, wanted.masks)
    assert found.resize_masks is (transfer != "semantic")


def test_a_file_without_text_tower_and_frozen_copy_is_enough():
    model, head = conv_clip(seed=1), random_head(seed=1)
    text = ("positional", "text_projection", "token_embedding", "transformer", "ln_final")
    absent = ("backbone_t.", *(f"backbone.clip_model.{part}" for part in text))
    state = {
        name: value for name, value in official_state(model, head).items() if not name.startswith(absent)
    }
    form = recognise(state, source="official.pth")
    assert not form.has_text
    other = conv_clip(seed=2)
    before = {name: value.clone() for name, value in other.state_dict().items()}
    load_clip(other, state, source="official.pth")
    after = other.state_dict()
    assert torch.equal(after["token_embedding.weight"], before["token_embedding.weight"])
    assert torch.equal(after["visual.trunk.stem.0.weight"], model.state_dict()["visual.trunk.stem.0.weight"])
    assert torch.equal(after["logit_scale"], model.logit_scale)


def test_missing_and_unexpected_keys_are_named():
    model, head = conv_clip(), random_head()
    state = official_state(model, head)
    form = recognise(state, source="official.pth")
    del state["cdt.cross_atten.norm.bias"]
    state["sem_seg_head.predictor.surprise"] = torch.zeros(2)
    with pytest.raises(CheckpointError, match=r"1 missing: cdt\.norm\.bias.*1 unexpected.*surprise"):
        load_head(state, form, source="official.pth")
    del state["backbone.clip_model.visual.trunk.stem.0.bias"]
    with pytest.raises(CheckpointError, match=r"1 missing: visual\.trunk\.stem\.0\.bias"):
        load_clip(model, state, source="official.pth")


@pytest.mark.parametrize(
    ("gone", "sentence"),
    [
        ("sem_seg_head.predictor.query_feat.weight", "is not a checkpoint of FC-CLIP or MAFT"),
        ("sem_seg_head.pixel_decoder.adapter_1.weight", "is not a checkpoint of FC-CLIP or MAFT"),
        ("sem_seg_head.pixel_decoder.mask_features.weight", "lacks sem_seg_head.pixel_decoder.mask_features"),
    ],
)
def test_other_files_are_refused(gone, sentence):
    state = empty_file("base")
    del state[gone]
    with pytest.raises(CheckpointError, match=sentence):
        recognise(state, source="other.pth")


def test_a_tower_without_pyramid_is_refused():
    from tiny_clip import make_model

    state = official_state(conv_clip(), random_head())
    with pytest.raises(ValueError, match="visual must be open_clip's ConvNeXt"):
        load_clip(make_model(), state, source="official.pth")
