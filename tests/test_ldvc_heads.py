"""Files of LDVC and ZegCLIP heads: ours come back whole, official ones are mapped, others refused."""

import dataclasses
import re

import pytest
import torch
import torch.nn.functional as F
from ldvc_toys import TOWER, make_head, make_square_tower
from safetensors.torch import load_file, save_file
from tiny_clip import make_visual
from zegclip_files import official_file, official_state
from zegclip_tensors import DATA, close, weights

from ovs_core.checkpoints import CheckpointError
from ovs_core.decoders.semantic_decoder import SemanticDecoder, SemanticDecoderConfig
from ovs_core.methods.ldvc.heads import (
    IMAGENET_MEAN,
    PromptedHead,
    load_prompted_head,
    save_prompted_head,
)
from ovs_core.methods.ldvc.model import HeadConfig, new_head
from ovs_core.methods.ldvc.official import decoder_state, holds_zegclip, is_zegclip, load_zegclip

OTHER = "cd" * 32


@pytest.mark.parametrize("half", [True, False])
@pytest.mark.parametrize(
    "settings",
    [{}, {"method": "zegclip"}, {"language": False}, {"aux_block": 1}, {"route": None}, {"readout": "dot"}],
)
def test_a_head_comes_back_whole(tmp_path, settings, half):
    head = make_head(**settings)
    path = save_prompted_head(head, tmp_path / "head.safetensors", half=half)
    found = load_prompted_head(path, TOWER)
    assert found.head.config == head.head.config
    for name in ("method", "templates", "frame", "tower", "seen", "training"):
        assert getattr(found, name) == getattr(head, name)
    tolerance = 2e-3 if half else 0
    for name, value in head.head.state_dict().items():
        torch.testing.assert_close(found.head.state_dict()[name], value, atol=tolerance, rtol=tolerance)
    for one, other in zip(found.visual_prompts.tokens, head.visual_prompts.tokens, strict=True):
        torch.testing.assert_close(one, other, atol=tolerance, rtol=tolerance)
    assert (found.language_prompts is None) == (head.language_prompts is None)
    if found.language_prompts is not None:
        assert found.language_prompts.template == head.language_prompts.template
    assert not any(parameter.requires_grad for parameter in found.head.parameters())
    assert [file.name for file in tmp_path.iterdir()] == ["head.safetensors"]


def saved(tmp_path, notes):
    """A head's file whose notes were changed by hand."""
    path = save_prompted_head(make_head(), tmp_path / "head.safetensors")
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        kept = dict(file.metadata())
    save_file(load_file(path), path, metadata={**kept, **notes})
    return path


@pytest.mark.parametrize(
    ("tower", "method", "notes", "message"),
    [
        (
            OTHER,
            None,
            {},
            r"was trained on another tower \(SHA-256 abababababab\.\.\., in use is cdcdcdcdcdcd",
        ),
        (TOWER, "zegclip", {}, "holds a head of ldvc, expected zegclip"),
        (TOWER, None, {"method": "mvp"}, "holds a head of mvp, expected zegclip or ldvc"),
        (TOWER, None, {"format": "2"}, "has format 2, this version reads format 1"),
        (TOWER, None, {"kind": "mask head"}, "is not a file of a head of LDVC or ZegCLIP"),
        (TOWER, None, {"head": "{}"}, "cannot be read as a head of ldvc"),
        (TOWER, None, {"seen": "nobody"}, "cannot be read as a head of ldvc"),
    ],
)
def test_wrong_heads_are_refused_in_one_sentence(tmp_path, tower, method, notes, message):
    with pytest.raises(CheckpointError, match=message) as error:
        load_prompted_head(saved(tmp_path, notes), tower, method=method)
    assert "\n" not in str(error.value)


def test_a_head_with_missing_parts_is_refused(tmp_path):
    path = save_prompted_head(make_head(), tmp_path / "head.safetensors")
    tensors = load_file(path)
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        notes = dict(file.metadata())
    without = {name: value for name, value in tensors.items() if "cross.q" not in name}
    save_file(without, path, metadata=notes)
    with pytest.raises(CheckpointError, match=r"4 missing: decoder\.blocks\.0\.cross\.q"):
        load_prompted_head(path, TOWER)
    without = {name: value for name, value in tensors.items() if name != "prompts.visual"}
    save_file(without, path, metadata=notes)
    with pytest.raises(CheckpointError, match="cannot be read as a head"):
        load_prompted_head(path, TOWER)


def test_heads_that_contradict_themselves_are_refused():
    head = make_head()
    with pytest.raises(ValueError, match="zegclip cannot have visual queries"):
        dataclasses.replace(head, method="zegclip")
    with pytest.raises(ValueError, match="language prompts or templates"):
        dataclasses.replace(head, language_prompts=None, templates=())
    with pytest.raises(ValueError, match=r"aux_block must lie in 0\.\.1, got 2"):
        HeadConfig(SemanticDecoderConfig(24, heads=4), 32, aux_block=2).taps(3)


def test_self_training_is_remembered():
    assert not make_head().self_trained
    assert make_head(training={"self_training": True}).self_trained


def test_an_intermediate_block_adds_nothing_at_first():
    config = HeadConfig(SemanticDecoderConfig(24, heads=4, route=None), 32, aux_block=0)
    visual, head = make_visual(), new_head(config, 0).eval()
    taps = tuple(torch.randn(1, 7, 32, generator=torch.Generator().manual_seed(n)) for n in range(2))
    joint = head.features(visual, taps, (2, 3))
    assert (joint.added == 0).all()
    torch.nn.init.normal_(head.aux_linear.weight)
    assert head.features(visual, taps, (2, 3)).added.std() > 0.1


# Official checkpoints.


def test_names_of_the_reference_are_all_mapped():
    state = decoder_state(weights(load_file(DATA / "parity_zegclip_head.safetensors")))
    made = SemanticDecoder(SemanticDecoderConfig(64, "class", 3, 8, 256, route=None))
    assert set(state) == set(made.state_dict())
    assert decoder_state({"decoder_1.layers.2.self_attn.in_proj_weight": torch.zeros(1)}) == {}
    assert decoder_state({"decoder_1.layers.0.norm1.bias": torch.zeros(1)}) == {}


def test_an_official_checkpoint_becomes_a_head(tmp_path):
    visual = make_visual()
    state = official_state(visual)
    path = official_file(tmp_path, state)
    assert holds_zegclip(path)
    found = load_zegclip(path, visual, TOWER, heads=4)
    assert found.method == "zegclip"
    assert found.head.config.extra_norm
    assert found.head.config.decoder.layers == 2
    assert found.frame.mean == IMAGENET_MEAN
    assert (found.frame.window, found.frame.stride, found.frame.double_class_token) == (512, 426, True)
    assert "motorbike" in found.seen
    assert "sheep" not in found.seen
    assert {"aeroplane", "airplane", "dining table"} <= found.seen
    weight, bias = state["backbone.prompt_proj.weight"], state["backbone.prompt_proj.bias"]
    tokens = found.visual_prompts.tokens
    close(tokens[0], F.linear(state["backbone.prompt_embeddings"][0], weight, bias))
    close(tokens[2], F.linear(state["backbone.deep_prompt_embeddings"][1], weight, bias))
    assert torch.equal(found.head.extra_norm.weight, state["backbone.prompt_norm.weight"])
    own = found.head.decoder.blocks[1].cross.v.weight
    assert torch.equal(own, state["decode_head.decoder_1.layers.1.multihead_attn.v.weight"])
    again = save_prompted_head(found, tmp_path / "zegclip.safetensors", half=False)
    assert torch.equal(load_prompted_head(again, TOWER).head.decoder.blocks[1].cross.v.weight, own)


def test_the_shallow_form_has_no_extra_norm(tmp_path):
    visual = make_visual()
    found = load_zegclip(official_file(tmp_path, official_state(visual, deep=False)), visual, TOWER, heads=4)
    assert not found.head.config.extra_norm
    assert len(found.visual_prompts.tokens) == 1


def test_an_unknown_class_list_says_nothing_about_seen_classes(tmp_path):
    visual = make_visual()
    path = official_file(tmp_path, official_state(visual), classes=("polyp", "other"))
    assert load_zegclip(path, visual, TOWER, heads=4).seen == frozenset()


def drop(name):
    return lambda state: {key: value for key, value in state.items() if not key.startswith(name)}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (drop("decode_head.q_proj"), "is not a checkpoint of ZegCLIP"),
        (drop("backbone.prompt_proj"), "has no usable visual prompts"),
        (drop("backbone.ln_pre"), "a tower of other parts"),
        (drop("decode_head.decoder_1.layers.1.linear2"), "2 missing: blocks.1.linear2"),
        (
            lambda state: {**state, "backbone.proj": state["backbone.proj"] + 0.1},
            "another tower: proj differs",
        ),
        (
            lambda state: {**state, "backbone.positional_embedding": torch.zeros(37, 32)},
            "another tower: positional_embedding differs",
        ),
    ],
)
def test_wrong_checkpoints_are_refused_in_one_sentence(tmp_path, change, message):
    visual = make_visual()
    path = official_file(tmp_path, change(official_state(visual)))
    with pytest.raises(CheckpointError, match=re.escape(message)) as error:
        load_zegclip(path, visual, TOWER, heads=4)
    assert "\n" not in str(error.value)


def test_a_checkpoint_of_another_width_is_refused(tmp_path):
    path = official_file(tmp_path, official_state(make_visual()))
    with pytest.raises(CheckpointError, match="another tower"):
        load_zegclip(path, make_square_tower(64), TOWER, heads=4)
    with pytest.raises(CheckpointError, match="24 wide, which 5 heads cannot share"):
        load_zegclip(path, make_visual(), TOWER, heads=5)


def test_other_files_are_not_taken_for_zegclip(tmp_path):
    ours = save_prompted_head(make_head("zegclip"), tmp_path / "ours.safetensors")
    text = tmp_path / "note.pth"
    text.write_text("<html>")
    assert not holds_zegclip(ours)
    assert not holds_zegclip(text)
    assert not holds_zegclip(tmp_path / "nothing.pth")
    assert not is_zegclip(frozenset({"decode_head.q_proj.weight"}))
    assert isinstance(load_prompted_head(ours, None), PromptedHead)
