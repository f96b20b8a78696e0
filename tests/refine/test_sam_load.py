"""SAM files: told apart by what they hold, loaded strictly, refused in one clear sentence."""

import pickle

import pytest
import torch
from safetensors.torch import save_file
from sam_toys import empty_state, official_keys, random_state

from ovs_core.checkpoints import CheckpointError
from ovs_core.refine.sam.load import build_sam, load_sam, recognise, sam_from_state
from ovs_core.refine.sam.tiny_vit import TinyViT


@pytest.mark.parametrize("kind", ["vit_b", "vit_l", "vit_h", "vit_t"])
def test_a_file_says_itself_which_model_it_is(kind):
    assert recognise(empty_state(kind), source="file") == kind


def test_mobile_sam_has_the_official_names():
    with torch.device("meta"):
        ours = {name: tuple(value.shape) for name, value in build_sam("vit_t").state_dict().items()}
    official = official_keys()
    unused = {
        name for name in official if name.startswith(("image_encoder.head.", "image_encoder.norm_head."))
    }
    assert ours == {name: shape for name, shape in official.items() if name not in unused}


def test_prompts_and_masks_are_those_of_every_sam():
    def rest(kind):
        return {
            name: tuple(value.shape)
            for name, value in empty_state(kind).items()
            if not name.startswith("image_encoder.")
        }

    assert rest("vit_t") == rest("vit_b") == rest("vit_l") == rest("vit_h")


@pytest.mark.parametrize("wrapped", [False, True], ids=["plain", "under a key"])
def test_an_official_file_is_loaded_value_by_value(tmp_path, wrapped):
    state = random_state()
    path = tmp_path / "any name.pt"
    torch.save({"model": state} if wrapped else state, path)
    sam = load_sam(path)
    assert isinstance(sam.image_encoder, TinyViT)
    assert not sam.training
    loaded = sam.state_dict()
    assert all(torch.equal(loaded[name], state[name]) for name in loaded)
    assert not any(parameter.requires_grad for parameter in sam.parameters())


def test_vit_b_is_loaded_into_the_real_class():
    state = build_sam("vit_b").state_dict()
    state["image_encoder.pos_embed"] = torch.full_like(state["image_encoder.pos_embed"], 0.25)
    sam = sam_from_state(state, source="file")
    assert float(sam.image_encoder.pos_embed.mean()) == 0.25


def _without(state, name):
    return {key: value for key, value in state.items() if key != name}


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda s: _without(s, "mask_decoder.iou_token.weight"), "1 missing: mask_decoder.iou_token.weight"),
        (lambda s: s | {"adapter": torch.zeros(1)}, "1 unexpected: adapter"),
        (lambda s: s | {"image_encoder.neck.0.weight": torch.zeros(256, 160, 1, 1)}, "of another shape"),
        (lambda s: s | {"mask_decoder.hf_mlp.layers.0.weight": torch.zeros(1)}, "is SAM-HQ"),
        (lambda s: s | {"image_encoder.trunk.pos_embed": torch.zeros(1)}, "is SAM 2"),
        (lambda s: {"visual.proj": torch.zeros(4, 4)}, "is not a Segment Anything file"),
        (
            lambda s: {"image_encoder.patch_embed.proj.weight": torch.zeros(384, 3, 16, 16)},
            "is a SAM of width 384; those known here have 768, 1024, 1280",
        ),
    ],
    ids=["missing", "unexpected", "shape", "sam-hq", "sam 2", "clip", "other width"],
)
def test_wrong_tensors_are_refused_in_one_sentence(change, expected):
    with pytest.raises(CheckpointError, match=expected):
        sam_from_state(change(random_state()), source="some.pt")


def test_a_damaged_file_and_code_are_refused(tmp_path):
    whole = tmp_path / "whole.pt"
    torch.save({"a": torch.zeros(1000)}, whole)
    cut = tmp_path / "cut.pt"
    cut.write_bytes(whole.read_bytes()[:900])
    code = tmp_path / "code.pt"
    torch.save({"a": pickle.loads}, code)
    page = tmp_path / "page.pt"
    page.write_text("<html>Sign in</html>")
    for path, sentence in ((cut, "cannot be read"), (code, "cannot be read"), (page, "is a web page")):
        with pytest.raises(CheckpointError, match=sentence):
            load_sam(path)
    with pytest.raises(CheckpointError, match="There is no file"):
        load_sam(tmp_path / "absent.pt")


def test_safetensors_are_as_good(tmp_path):
    path = tmp_path / "sam.safetensors"
    state = random_state(1)
    save_file(state, path)
    name = "mask_decoder.iou_token.weight"
    assert torch.equal(load_sam(path).state_dict()[name], state[name])
