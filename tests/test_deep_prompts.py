"""Deep prompts and taps: equal to official code, exact where nothing should change, free where unasked."""

import dataclasses

import pytest
import torch
import torch.nn.functional as F
from ldvc_toys import CPU, TOKENIZE, make_preset, make_text, photo
from ldvc_toys import make_vision as make_encoder
from safetensors.torch import load_file
from tiny_clip import make_model, make_visual
from zegclip_tensors import DATA, SHARED, close, extra_norm, prompted_tower

from ovs_core.encoders.clip_vit import (
    to_joint_space,
    tokens_and_taps,
    tokens_before_last_block,
    tokens_of_patches,
)
from ovs_core.encoders.deep_prompts import LanguagePrompts, VisualPrompts
from ovs_core.encoders.text import TextEncoder
from ovs_core.encoders.text_tower import TextTower, text_tower
from ovs_core.types import Vocabulary

TEMPLATE = "a photo of a {}"
NAMES = ("dog", "fire truck", "a very large and very old stone house by the sea", "日本")


# Image towers.


def prompted_outputs(tensors, key):
    """Dense and class outputs, as official code gives them."""
    visual, prompts, state = prompted_tower(tensors)
    pixels = tensors[f"in.{key}"]
    patches = visual.conv1(pixels)
    last = len(visual.transformer.resblocks) - 1
    (x,) = tokens_and_taps(
        visual,
        patches,
        mode="bilinear",
        prompts=prompts,
        taps=[last],
        double_class_token=prompts is not None,
    ).taps
    x = F.normalize(to_joint_space(visual, extra_norm(state, x)), dim=-1)
    return x[:, 1:].transpose(1, 2).reshape(len(x), -1, *patches.shape[2:]), x[:, 0]


@pytest.mark.parametrize("form", ["vpt_deep", "vpt_shallow"])
def test_prompted_towers_equal_official_code(form):
    tensors = load_file(DATA / f"parity_zegclip_{form}.safetensors")
    dense, whole = prompted_outputs(tensors, "img_rect")
    assert dense.shape == (2, 32, 5, 7)
    close(dense, tensors["out.dense_rect"])
    close(whole, tensors["out.cls_rect"])


@pytest.mark.parametrize("form", ["vpt_deep", "vpt_shallow", "vit_noprompt"])
def test_prompted_towers_equal_official_code_on_squares(form):
    path = SHARED / "zegclip" / f"{form}.safetensors"
    if not path.exists():
        pytest.skip("more reference tensors are kept beside the clone")
    tensors = load_file(path)
    if form == "vit_noprompt":
        visual, _, _ = prompted_tower(tensors)
        (x,) = tokens_and_taps(
            visual, visual.conv1(tensors["in.img"]), taps=[3], double_class_token=True
        ).taps
        plain = F.normalize(to_joint_space(visual, x), dim=-1)
        expected = torch.cat(
            [tensors["out.cls"][:, None], tensors["out.dense"].flatten(2).transpose(1, 2)], 1
        )
        close(plain, expected)
        return
    dense, whole = prompted_outputs(tensors, "img_sq")
    close(dense, tensors["out.dense_sq"])
    close(whole, tensors["out.cls_sq"])


def random_prompts(blocks, count=3, width=32, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return VisualPrompts(tuple(torch.randn(count, width, generator=generator) for _ in range(blocks)))


def test_of_too_few_deep_prompts_the_rest_of_the_blocks_has_none():
    visual, patches = make_visual(), torch.randn(2, 32, 3, 5)
    prompts = random_prompts(2)
    found = tokens_and_taps(visual, patches, prompts=prompts, taps=[0, 1, 2])
    x = prompts.entering(torch.cat([found.taps[1]]), 2, 15)  # block 2 has no prompts of its own
    assert x.shape == (2, 16, 32)
    torch.testing.assert_close(found.taps[2], visual.transformer.resblocks[2](x))
    torch.testing.assert_close(found.tokens, found.taps[1])


def test_prompts_may_differ_per_picture_and_get_gradients():
    visual, patches = make_visual(), torch.randn(2, 32, 3, 5)
    own = torch.randn(2, 4, 32, requires_grad=True)
    found = tokens_and_taps(visual, patches, prompts=VisualPrompts((own,)), taps=[2]).taps[0]
    alone = tokens_and_taps(visual, patches[1:], prompts=VisualPrompts((own[1],)), taps=[2]).taps[0]
    torch.testing.assert_close(found[1:], alone, atol=1e-5, rtol=0)
    found[0].sum().backward()
    assert own.grad[0].abs().min() > 0
    assert (own.grad[1] == 0).all()


def test_taps_are_what_leaves_each_block():
    visual, patches = make_visual(), torch.randn(2, 32, 3, 5)
    blocks = visual.transformer.resblocks
    found = tokens_and_taps(visual, patches, taps=[2, 0])
    assert torch.equal(found.tokens, tokens_of_patches(visual, patches))
    torch.testing.assert_close(blocks[1](found.taps[1]), found.tokens)
    assert torch.equal(blocks[2](found.tokens), found.taps[0])


def test_what_nobody_taps_does_not_run():
    visual = make_visual()
    visual.transformer.resblocks[2] = torch.nn.Linear(1, 1)  # would fail
    tokens_and_taps(visual, torch.randn(1, 32, 2, 3), taps=[1])


@pytest.mark.parametrize("taps", [(3,), (-1,), (1, 1)])
def test_taps_that_a_tower_has_not_are_refused(taps):
    with pytest.raises(ValueError, match="taps must be different blocks from 0 to 2"):
        make_encoder(taps=taps)


@pytest.mark.parametrize("prompts", [random_prompts(4), random_prompts(1, width=16)])
def test_prompts_of_another_tower_are_refused(prompts):
    with pytest.raises(ValueError, match="32 wide for at most 3 blocks"):
        make_encoder(prompts=prompts)
    with pytest.raises(ValueError, match="32 wide for at most 3 blocks"):
        tokens_and_taps(make_visual(), torch.randn(1, 32, 2, 2), prompts=prompts)


def test_unequal_prompts_are_refused():
    with pytest.raises(ValueError, match="alike, one per block"):
        VisualPrompts((torch.zeros(2, 8), torch.zeros(3, 8)))
    with pytest.raises(ValueError, match="alike, one per block"):
        VisualPrompts(())


def test_windows_carry_taps_and_prompts_change_them():
    plan = make_preset(short_side=64, window=32, stride=32)
    plain = make_encoder().encode(photo(64, 112), plan)
    tapped = make_encoder(taps=(2, 0)).encode(photo(64, 112), plan)
    prompted = make_encoder(taps=(2, 0), prompts=random_prompts(3)).encode(photo(64, 112), plan)
    last = make_encoder().visual.transformer.resblocks[2]
    assert all(not one.taps for one in plain.windows)
    for one, other, third in zip(plain.windows, tapped.windows, prompted.windows, strict=True):
        assert torch.equal(one.tokens, other.tokens)
        torch.testing.assert_close(last(other.tokens[None])[0], other.taps[0], atol=1e-5, rtol=0)
        assert other.taps[1].shape == third.taps[0].shape == one.tokens.shape
        assert (third.taps[0] - other.taps[0]).abs().max() > 0.1
    assert tapped.nbytes == 3 * plain.nbytes
    stored = [one for window in prompted.windows for one in (window.tokens, *window.taps)]
    assert all(one.untyped_storage().nbytes() == one.nbytes for one in stored)


def test_a_window_refuses_taps_of_another_size():
    (window,) = make_encoder(taps=(0,)).encode(photo(48, 80), make_preset(short_side=48)).windows
    with pytest.raises(ValueError, match="tokens must be"):
        dataclasses.replace(window, taps=(window.taps[0][1:],))


def test_identity_tells_prompts_and_taps_apart_and_stays_where_there_are_none():
    plan = make_preset()
    assert make_encoder().features_identity(plan) == "tiny:0:float32|bicubic|64|whole"
    asked = [
        {},
        {"taps": (1,)},
        {"taps": (1, 2)},
        {"prompts": random_prompts(3)},
        {"prompts": random_prompts(3, seed=1)},
        {"prompts": random_prompts(2)},
        {"double_class_token": True},
    ]
    assert len({make_encoder(**one).features_identity(plan) for one in asked}) == len(asked)


def test_the_class_token_counts_once_unless_asked():
    visual, pixels = make_visual(), torch.randn(1, 3, 48, 80)
    twice = tokens_and_taps(visual, visual.conv1(pixels), double_class_token=True).tokens
    with torch.no_grad():
        visual.class_embedding *= 2
    torch.testing.assert_close(twice, tokens_before_last_block(visual, pixels))


# Text towers.


def vocabulary(*names):
    return Vocabulary(tuple((name,) for name in names))


class CountingTokenizer:
    """Counts how often names are tokenised."""

    calls = 0

    def __call__(self, prompts):
        self.calls += 1
        return TOKENIZE(prompts)


def test_the_templates_own_states_change_nothing():
    tower, encoder = text_tower(make_model()), make_text()
    prompts = encoder.template_states(TEMPLATE)
    assert prompts.states.shape == (3, 4, 32)
    ids = TOKENIZE(prompts.prompts(NAMES))
    with torch.no_grad():
        plain, prompted = tower.embed(ids), tower.embed_deep(ids, prompts.states)
    assert plain.std() > 0.1
    torch.testing.assert_close(prompted, plain, atol=1e-6, rtol=0)


def test_zero_shot_clip_comes_back_through_the_encoder():
    encoder, words = make_text(), Vocabulary((("dog", "puppy"), ("sky",)), ("wall",))
    prompted = encoder.embed_prompted(words, encoder.template_states(TEMPLATE))
    plain = encoder.embed(words, (TEMPLATE,))
    assert prompted.vocabulary is words
    torch.testing.assert_close(prompted.embeddings, plain.embeddings, atol=1e-6, rtol=0)


def test_states_replace_the_words_before_every_block():
    tower = text_tower(make_model())
    states = torch.randn(3, 4, 32, requires_grad=True)
    one, other = TOKENIZE(["a photo of a dog", "on my old wall dog"])  # the same length
    found = tower.embed_deep(torch.stack([one, other]), states)
    torch.testing.assert_close(found[0], found[1])  # nothing of the template's words is left
    found.sum().backward()
    assert (states.grad.flatten(1).abs().amax(dim=1) > 0).all()


def test_prompted_names_are_encoded_once_per_prompts():
    tokenizer = CountingTokenizer()
    encoder = TextEncoder(make_model(), "tiny", CPU, tokenizer=tokenizer)
    prompts = encoder.template_states(TEMPLATE)
    first = encoder.embed_prompted(vocabulary("dog", "cat"), prompts)
    calls = tokenizer.calls
    again = encoder.embed_prompted(
        vocabulary("cat", "dog"), LanguagePrompts(prompts.states.clone(), TEMPLATE)
    )
    assert tokenizer.calls == calls + 1  # the template's words alone
    assert torch.equal(again.embeddings, first.embeddings[[1, 0]])
    other = encoder.embed_prompted(vocabulary("dog"), LanguagePrompts(torch.randn(3, 4, 32), TEMPLATE))
    assert (other.embeddings[0] - first.embeddings[0]).abs().max() > 1e-3


@pytest.mark.parametrize(
    ("shape", "template", "message"),
    [
        ((3, 3, 32), TEMPLATE, "must be 4 tokens"),
        ((2, 4, 32), TEMPLATE, r"must be \(3, m, 32\)"),
        ((3, 4, 16), TEMPLATE, r"must be \(3, m, 32\)"),
        ((3, 1, 32), "{}", "must be 0 tokens"),
    ],
)
def test_language_prompts_that_do_not_fit_are_refused(shape, template, message):
    prompts = LanguagePrompts(torch.zeros(shape), template)
    with pytest.raises(ValueError, match=message):
        make_text().embed_prompted(vocabulary("dog"), prompts)


def test_language_prompts_need_a_template_and_tokens():
    with pytest.raises(ValueError, match=r"needs a \{\}"):
        LanguagePrompts(torch.zeros(3, 4, 32), "a photo")
    with pytest.raises(ValueError, match=r"must be \(blocks, m, C\)"):
        make_text().template_states("{}")


def test_language_prompts_leave_room_for_a_name():
    tower = text_tower(make_model())
    with pytest.raises(ValueError, match="must fit texts of 1 tokens"):
        tower.embed_deep(TOKENIZE(["dog"]), torch.zeros(3, 2, 32))


def test_the_text_tower_equals_official_code():
    path = SHARED / "zegclip" / "text_encoder.safetensors"
    if not path.exists():
        pytest.skip("more reference tensors are kept beside the clone")
    tensors = load_file(path)
    model = make_text_like(tensors)
    with torch.no_grad():
        close(model.embed(tensors["in.tokens"]), tensors["out.emb_unnormalised"])


def make_text_like(tensors):
    """A text tower of the reference's sizes with its weights; attention heads are not in the file."""
    from open_clip.transformer import QuickGELU, Transformer

    transformer = Transformer(32, 3, 4, act_layer=QuickGELU)
    state = {name: value for name, value in tensors.items() if name.startswith("w.transformer.")}
    transformer.load_state_dict({name.removeprefix("w.transformer."): value for name, value in state.items()})
    table = torch.nn.Embedding.from_pretrained(tensors["w.token_embedding.weight"])
    norm = torch.nn.LayerNorm(32)
    norm.load_state_dict({"weight": tensors["w.ln_final.weight"], "bias": tensors["w.ln_final.bias"]})
    mask = torch.full((16, 16), float("-inf")).triu(1)
    positions, projection = tensors["w.positional_embedding"], tensors["w.text_projection"]
    return TextTower(table, positions, transformer.eval(), mask, norm, projection, None)


def test_a_digest_depends_on_every_number():
    states = torch.zeros(3, 4, 32)
    changed = states.clone()
    changed[2, 3, 31] = 1e-6
    assert len({LanguagePrompts(one, TEMPLATE).digest for one in (states, changed)}) == 2
    assert LanguagePrompts(states, "an image of a {}").digest != LanguagePrompts(states, TEMPLATE).digest
