"""The embedded model's plain CLIP beside open_clip's: the same start, the same answers, bit for bit."""

import pytest
import torch
from open_clip import tokenizer, zero_shot_metadata
from open_clip.model import CLIP
from training_toys import CONFIG

from ovs_core.encoders.clip_model import PlainClip
from ovs_core.encoders.clip_vit import to_joint_space, tokens_before_last_block
from ovs_core.encoders.prompts import clip_tokenizer
from ovs_core.encoders.text_tower import text_tower
from ovs_core.vocabulary import TEMPLATES

PARTS = (CONFIG["embed_dim"], CONFIG["vision_cfg"], CONFIG["text_cfg"])
PROMPTS = ["a photo of a dog.", "  Señor's CAFÉ &amp; bar,  über-42 ", "狗 🐕", "", "word " * 100]


def built(kind):
    torch.manual_seed(5)
    return kind(*PARTS).eval().requires_grad_(False)


@pytest.fixture(scope="module")
def ours():
    return built(PlainClip)


@pytest.fixture(scope="module")
def theirs():
    return built(CLIP)


def test_both_start_from_the_same_random_weights(ours, theirs):
    expected, state = theirs.state_dict(), ours.state_dict()
    assert set(state) == set(expected)
    assert [name for name in state if not torch.equal(state[name], expected[name])] == []
    assert torch.equal(ours.attn_mask, theirs.attn_mask)


def test_words_mean_the_same_to_both(ours, theirs):
    ids = tokenizer.tokenize(PROMPTS)
    with torch.no_grad():
        assert torch.equal(text_tower(ours).embed(ids), text_tower(theirs).embed(ids))


def test_photos_look_the_same_to_both(ours, theirs):
    pixels = torch.rand(2, 3, 48, 80, generator=torch.Generator().manual_seed(1))

    def seen(model):
        visual = model.visual
        tokens = tokens_before_last_block(visual, pixels)
        return to_joint_space(visual, visual.transformer.resblocks[-1](tokens))

    with torch.no_grad():
        assert torch.equal(seen(ours), seen(theirs))


def test_mixed_precision_keeps_the_precision_of_what_is_asked(ours, theirs):
    x = torch.rand(1, 3, CONFIG["text_cfg"]["width"]).bfloat16()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(ours.ln_final(x), theirs.ln_final(x))
        assert ours.ln_final(x).dtype == torch.bfloat16


def test_an_unknown_setting_is_not_passed_over():
    with pytest.raises(TypeError, match="patch_dropout"):
        PlainClip(PARTS[0], {**PARTS[1], "patch_dropout": 0.5}, PARTS[2])


@pytest.mark.parametrize("length", [77, 16])
def test_prompts_are_cut_into_open_clips_tokens(length):
    assert torch.equal(clip_tokenizer(length)(PROMPTS), tokenizer.tokenize(PROMPTS, context_length=length))


def test_prompt_templates_are_open_clips():
    for name, theirs in (
        ("imagenet80", zero_shot_metadata.OPENAI_IMAGENET_TEMPLATES),
        ("short7", zero_shot_metadata.SIMPLE_IMAGENET_TEMPLATES),
    ):
        assert [one.format("dog") for one in TEMPLATES[name]] == [one("dog") for one in theirs]
