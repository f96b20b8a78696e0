"""MVP-SEG: its formulas in float64, the sum identity, MaskCLIP as a special case, answers and views."""

import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from open_clip.modified_resnet import ModifiedResNet
from resnet_reference import DATA as RESNET_DATA
from resnet_reference import open_clip_name
from safetensors.torch import load_file
from tiny_clip import make_model, make_visual, randomise

from ovs_core.encoders.clip_resnet import ResNetEncoder
from ovs_core.encoders.clip_vit import VisionEncoder, to_joint_space
from ovs_core.encoders.text import TextEncoder
from ovs_core.evidence.decide import decide
from ovs_core.methods.mvp_seg.contexts import Contexts
from ovs_core.methods.mvp_seg.formulas import (
    context_cosines,
    fused_scores,
    log_gate,
    log_probabilities,
    orthogonality,
    pooling_weights,
    view_scores,
)
from ovs_core.methods.mvp_seg.model import NO_REFINING, ContextText, MvpSeg, build_mvp_seg, dense_features
from ovs_core.methods.training_free.attention_rules import maskclip_value_path
from ovs_core.options import Preset
from ovs_core.types import TextBank, View, Vocabulary
from ovs_core.vocabulary import TEMPLATES

CPU = torch.device("cpu")
FORMULAS = Path(__file__).parent / "data" / "mvp_seg_formulas.npz"
DOG_OR_GRASS = Vocabulary((("dog",), ("grass", "lawn")), ("sky", "wall"))
WHOLE = Preset(scale=100, threshold=0.0, short_side=64, window=None, stride=0, templates="single1")
WINDOWS = Preset(scale=100, threshold=0.0, short_side=96, window=64, stride=32, templates="single1")
ALL_VIEWS = frozenset(
    {
        *("view_maps", "view_wins", "global_map", "pooling_weights", "class_gates", "refining"),
        *("context_cosines", "prompt_cosines", "context_words", "similarity", "attention"),
    }
)


# The formulas.


@pytest.fixture(scope="module")
def golden():
    with np.load(FORMULAS) as stored:
        return {name: torch.from_numpy(np.array(value)) for name, value in stored.items()}


def equal(found, expected):
    torch.testing.assert_close(found, expected, atol=1e-9, rtol=1e-9)


def test_formulas_equal_the_papers(golden):
    g = golden
    maps = view_scores(g["F"], g["t"])
    equal(maps, g["m"])
    fused = fused_scores(g["F"], g["t"][1:])
    equal(log_probabilities(fused, g["tau1"], None).exp(), g["m_f"])
    gate = log_gate(maps[0], float(g["gamma"]), g["tau2"])
    equal((maps[0] * pooling_weights(maps[0], float(g["gamma"]))).sum(dim=(1, 2)), g["pooled"])
    equal(gate.exp(), g["g"])
    equal(log_probabilities(fused, g["tau1"], gate).exp(), g["m_c"])
    equal(orthogonality(g["P"][1:]), g["L_oc"])


def test_formulas_work_on_batches(golden):
    g, gamma = golden, float(golden["gamma"])
    features = torch.stack([g["F"], g["F"].flip(-1)])
    maps = view_scores(features, g["t"])
    fused, gates = fused_scores(features, g["t"][1:]), log_gate(maps[:, 0], gamma, g["tau2"])
    shares = log_probabilities(fused, g["tau1"], gates).exp()
    equal(shares, torch.stack([g["m_c"], g["m_c"].flip(-1)]))


def test_sum_identity(golden):
    equal(fused_scores(golden["F"], golden["t"][1:]), view_scores(golden["F"], golden["t"][1:]).sum(dim=0))


@pytest.mark.parametrize("k", [1, 2, 3, 5])
def test_orthogonality_at_its_ends(k):
    eye = torch.eye(8)[:k, None].repeat(1, 4, 1)  # mean of view i is axis i
    assert orthogonality(eye) == 0
    assert orthogonality(torch.ones(k, 4, 8)).item() == pytest.approx(k * (k - 1) / 2)
    assert orthogonality(torch.cat([eye, -eye])).item() == pytest.approx(k)  # opposite counts as equal


def test_equal_contexts_have_no_way_out():
    same = torch.randn(1, 4, 8).repeat(3, 1, 1).requires_grad_(True)
    orthogonality(same).backward()
    assert same.grad.abs().max() < 1e-6
    near = (same.detach() + 0.1 * torch.randn(3, 4, 8)).requires_grad_(True)
    orthogonality(near).backward()
    assert near.grad.abs().max() > 1e-3


def test_context_cosines_by_hand():
    """Means (3, 0), (0, -2), (-1, 1): cosines 0, -1 / sqrt 2, -1 / sqrt 2."""
    contexts = torch.tensor([[[2.0, 0], [4, 0]], [[0, -1.0], [0, -3]], [[-2, 1.0], [0, 1]]])
    half = 2**-0.5
    expected = torch.tensor([[1, 0, half], [0, 1, half], [half, half, 1]])
    torch.testing.assert_close(context_cosines(contexts), expected)
    assert orthogonality(contexts).item() == pytest.approx(2 * half)


def test_gate_by_hand():
    """One place: the pooled value is the cosine itself; g = sigmoid(0.07 / 0.07)."""
    gate = log_gate(torch.full((1, 1, 1), 0.07, dtype=torch.float64), 100.0, 0.07)
    assert gate.exp().item() == pytest.approx(1 / (1 + np.exp(-1)))


def test_pooling_is_a_soft_maximum():
    scores = torch.tensor([[[0.1, 0.5], [0.2, 0.3]]])
    assert torch.equal(pooling_weights(scores, 0.0), torch.full((1, 2, 2), 0.25))
    torch.testing.assert_close((scores * pooling_weights(scores, 1e4)).sum(), torch.tensor(0.5))


# The method on tiny towers.


@pytest.fixture(scope="module")
def model():
    return make_model()


@pytest.fixture(scope="module")
def vision(model):
    mean, std = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)
    return VisionEncoder("mini", "tiny:0:float32", model.visual, mean, std, 16, CPU, torch.float32)


@pytest.fixture(scope="module")
def text(model):
    return TextEncoder(model, "tiny:0:float32", CPU)


@pytest.fixture(scope="module")
def pixels():
    return np.random.default_rng(1).integers(0, 256, (70, 110, 3), np.uint8)


def make_contexts(k=3, whole=True, seed=0, tau1=None, tau2=0.07):
    vectors = torch.randn(k + 1, 4, 32, generator=torch.Generator().manual_seed(seed))
    return Contexts(vectors[1:], vectors[0] if whole else None, "ab" * 32, tau1 or 100 / k, tau2, 100.0)


def make_bank(text, vocabulary=DOG_OR_GRASS, contexts=None):
    return ContextText(text, contexts or make_contexts()).embed(vocabulary)


@pytest.mark.parametrize("preset", [WHOLE, WINDOWS], ids=["whole", "windows"])
def test_shares_are_the_papers_m_renormalised(model, vision, text, pixels, preset):
    contexts, bank = make_contexts(), make_bank(text)
    features = vision.encode(pixels, preset)
    found = build_mvp_seg(model.visual, text, contexts).ask(features, bank, {}).evidence
    prompts = text.embed_contexts(bank.vocabulary.rows, contexts.stacked)
    counts = torch.zeros(features.grid)
    maps = torch.zeros(4, 5, *features.grid)
    for window in features.windows:
        rows, columns = (slice(a, a + n) for a, n in zip((window.top, window.left), window.grid, strict=True))
        maps[:, :, rows, columns] += view_scores(dense_features(model.visual, window), prompts)
        counts[rows, columns] += 1
    maps = maps / counts
    m_c = log_probabilities(maps[1:].sum(dim=0), contexts.tau1, log_gate(maps[0], 100.0, 0.07)).exp()
    shares = found.rows.softmax(dim=0)
    torch.testing.assert_close(shares, m_c / m_c.sum(dim=0), atol=1e-5, rtol=0)
    assert len(features.windows) == (1 if preset is WHOLE else 8)
    assert torch.equal(found.rows.argmax(dim=0), m_c.argmax(dim=0))


def test_one_view_of_85_templates_without_refining_is_maskclip(model, vision, text, pixels):
    bank = text.embed(DOG_OR_GRASS, TEMPLATES["maskclip85"])
    features = vision.encode(pixels, WHOLE)
    contexts = Contexts(torch.ones(1, 1, 32), None, "ab" * 32, 100.0, 0.07, 100.0)
    method = MvpSeg(model.visual, contexts, tuple)
    found = method.ask(features, replace(bank, embeddings=bank.embeddings[None]), {}).evidence
    (window,) = features.windows
    values = maskclip_value_path(model.visual.transformer.resblocks[-1], window.tokens[None]).values
    dense = F.normalize(to_joint_space(model.visual, values)[0, 1:], dim=1)
    maskclip = (bank.embeddings @ dense.T).reshape(5, *window.grid)
    torch.testing.assert_close(found.rows / 100, maskclip, atol=1e-6, rtol=0)


def test_refining_moves_labels_and_can_be_left_out(model, vision, text, pixels):
    features = vision.encode(pixels, WHOLE)
    contexts = make_contexts(tau1=0.01, tau2=0.5)
    with_it, without, never = (
        build_mvp_seg(model.visual, text, made)
        .ask(features, make_bank(text, contexts=made), options)
        .evidence.rows
        for made, options in (
            (contexts, {}),
            (contexts, {NO_REFINING.name: True}),
            (make_contexts(whole=False, tau1=0.01), {}),
        )
    )
    torch.testing.assert_close(without, never, atol=1e-6, rtol=1e-5)
    lowered = (with_it - without).flatten(1)
    assert (lowered <= 0).all()  # log g is never positive
    torch.testing.assert_close(lowered, lowered[:, :1].expand_as(lowered), atol=1e-6, rtol=0)
    assert lowered.min() < -0.1
    assert lowered[:, 0].unique().numel() == 5  # each name has its own


def test_a_vocabulary_of_one_takes_everything(model, vision, text, pixels):
    vocabulary = Vocabulary((("dog",),))
    features = vision.encode(pixels, WHOLE)
    method = build_mvp_seg(model.visual, text, make_contexts())
    answer = method.ask(features, make_bank(text, vocabulary), {}, views=ALL_VIEWS)
    labels, share = decide(answer.evidence, 1.0, 0.0)
    assert (labels == 1).all()
    assert share == pytest.approx(1)
    assert len(answer.views) == len(ALL_VIEWS)


def test_other_names_change_no_evidence(model, vision, text, pixels):
    features = vision.encode(pixels, WHOLE)
    method = build_mvp_seg(model.visual, text, make_contexts())
    alone = method.ask(features, make_bank(text, Vocabulary((("lawn",),))), {}).evidence.rows
    among = method.ask(features, make_bank(text), {}).evidence.rows
    torch.testing.assert_close(alone[0], among[2], atol=1e-4, rtol=0)


def test_wrong_widths_are_refused(model, vision, text, pixels):
    method = build_mvp_seg(model.visual, text, make_contexts())
    wide = make_visual(width=48)
    other = VisionEncoder("x", "x", wide, (0,) * 3, (1,) * 3, 16, CPU, torch.float32)
    with pytest.raises(ValueError, match="features must be 32 wide, got 48"):
        method.ask(other.encode(pixels, WHOLE), make_bank(text), {})
    bank = TextBank(DOG_OR_GRASS, torch.zeros(5, 7))
    with pytest.raises(ValueError, match="text embeddings must be 24 wide, got 7"):
        method.ask(vision.encode(pixels, WHOLE), bank, {})


# Views.


@pytest.fixture(scope="module")
def answer(model, vision, text, pixels):
    method = build_mvp_seg(model.visual, text, make_contexts(tau1=0.01, tau2=0.5))
    return method.ask(vision.encode(pixels, WHOLE), make_bank(text), {}, views=ALL_VIEWS, point=(0.9, 0.1))


@pytest.fixture(scope="module")
def views(answer):
    return {view.kind: view for view in answer.views}


def test_views_are_outputs_and_change_nothing(answer, model, vision, text, pixels):
    method = build_mvp_seg(model.visual, text, make_contexts(tau1=0.01, tau2=0.5))
    plain = method.ask(vision.encode(pixels, WHOLE), make_bank(text), {})
    assert plain.views == ()
    assert torch.equal(plain.evidence.rows, answer.evidence.rows)
    assert {view.kind for view in answer.views} == ALL_VIEWS


def test_view_maps_share_one_colour_scale(views):
    view = views["view_maps"]
    labels = [f"{name}, view {i}" for name, i in itertools.product(("dog", "grass"), (1, 2, 3))]
    assert list(view.labels) == labels
    assert view.limits == (float(view.maps.min()), float(view.maps.max()))
    mean = view.maps.reshape(2, 3, *view.maps.shape[1:]).mean(dim=1)
    torch.testing.assert_close(mean[0], views["similarity"].maps[0])


def test_the_winning_view_has_the_largest_cosine(views):
    maps = views["view_maps"].maps.reshape(2, 3, *views["view_maps"].maps.shape[1:])
    assert torch.equal(views["view_wins"].maps, maps.argmax(dim=1) + 1.0)
    share = (views["view_wins"].maps[0] == 2).float().mean()
    assert views["view_wins"].labels[0].startswith("dog: view 1 ")
    assert f"view 2 {float(share):.0%}" in views["view_wins"].labels[0]


def test_pooling_weights_belong_to_the_global_map(views):
    weights, maps = views["pooling_weights"].maps, views["global_map"].maps
    torch.testing.assert_close(weights.sum(dim=(1, 2)), torch.ones(2))
    assert torch.equal(weights.flatten(1).argmax(dim=1), maps.flatten(1).argmax(dim=1))
    pooled = (weights * maps)[0].sum()
    torch.testing.assert_close(views["class_gates"].maps[0, 0, 0], torch.sigmoid(pooled / 0.5))
    assert views["class_gates"].maps.shape == (2, 1, 1)
    assert views["class_gates"].limits == (0, 1)


def test_refining_shows_labels_before_and_after(views, answer):
    before, after = views["refining"].maps
    rows = torch.tensor(DOG_OR_GRASS.row_label)
    assert torch.equal(after, rows[answer.evidence.rows.argmax(dim=0)].float())
    assert set(before.unique().tolist()) <= {0.0, 1.0, 2.0}
    assert not torch.equal(before, after)
    assert after.unique().numel() == 1  # at this low tau1 the gates alone decide


def test_matrices_of_contexts_and_prompts(views):
    contexts, prompts = views["context_cosines"], views["prompt_cosines"]
    assert contexts.labels == ("global", "view 1", "view 2", "view 3")
    torch.testing.assert_close(contexts.maps[:, 0], context_cosines(make_contexts().stacked))
    assert prompts.labels == ("dog", "grass")
    assert prompts.maps.shape == (2, 4, 4)
    torch.testing.assert_close(prompts.maps.diagonal(dim1=1, dim2=2), torch.ones(2, 4))


def test_every_context_vector_has_a_word(views):
    view = views["context_words"]
    assert view.maps.shape == (4, 1, 4)
    assert [len(row) for row in view.words] == [4, 4, 4, 4]
    assert all(word.isalpha() for row in view.words for word in row)


def test_attention_is_each_patch_alone(views):
    (patch,) = views["attention"].maps.flatten(1)
    assert patch.sum() == 1


def test_an_untrained_global_prompt_has_no_views(model, vision, text, pixels):
    method = build_mvp_seg(model.visual, text, make_contexts(whole=False))
    bank = make_bank(text, contexts=make_contexts(whole=False))
    found = method.ask(vision.encode(pixels, WHOLE), bank, {}, views=ALL_VIEWS)
    missing = {"global_map", "pooling_weights", "class_gates", "refining"}
    assert {view.kind for view in found.views} == ALL_VIEWS - missing
    assert all("global" not in label for view in found.views for label in view.labels)


def test_words_must_fit_the_maps():
    with pytest.raises(ValueError, match="one per cell"):
        View("context_words", "", torch.zeros(2, 1, 3), ("a", "b"), words=(("x", "y", "z"), ("x",)))


# CLIP's ResNet.


def test_resnet_takes_the_value_path_of_its_attention_pool():
    """The official scores again, this time through the encoder and the method's dense features."""
    official = load_file(RESNET_DATA)
    visual = ModifiedResNet((3, 4, 6, 3), output_dim=64, heads=4, image_size=64, width=8)
    state = {}
    for name, value in official.items():
        if name.startswith("w.backbone."):
            state[open_clip_name(name.removeprefix("w.backbone."))] = value
        elif name.startswith("w.head.") and "proj" in name:
            state["attnpool." + name.removeprefix("w.head.")] = value.flatten(1) if value.ndim == 4 else value
    visual.load_state_dict(state, strict=False)
    encoder = ResNetEncoder("rn", "rn:0", visual, (0, 0, 0), (1, 1, 1), CPU, torch.float32)
    picture = np.random.default_rng(0).integers(0, 256, (96, 128, 3), np.uint8)
    features = encoder.encode(picture, Preset(100, 0.0, 96, None, 0, "single1"))
    assert features.grid == (3, 4)
    pixels = torch.from_numpy(picture).permute(2, 0, 1)[None] / 255
    with torch.no_grad():
        last = visual.layer4(visual.layer3(visual.layer2(visual.layer1(visual.stem(pixels)))))
        places = last.flatten(2).transpose(1, 2)
        dense = F.normalize(visual.attnpool.c_proj(visual.attnpool.v_proj(places)), dim=2)[0]
    found = dense_features(visual, features.windows[0])
    torch.testing.assert_close(found.flatten(1).T, dense, atol=1e-5, rtol=0)


def test_the_whole_method_runs_on_a_resnet(text, pixels):
    visual = randomise(ModifiedResNet((1, 1, 1, 1), output_dim=24, heads=4, image_size=64, width=8))
    encoder = ResNetEncoder("rn", "rn:0", visual, (0.5,) * 3, (0.25,) * 3, CPU, torch.float32)
    features = encoder.encode(pixels, WHOLE)
    assert features.image_size == (70, 110)
    method = build_mvp_seg(visual, text, make_contexts())
    found = method.ask(features, make_bank(text), {}, views=ALL_VIEWS)
    assert found.evidence.rows.shape == (5, 2, 3)
    assert {view.kind for view in found.views} == ALL_VIEWS - {"attention"}
    with pytest.raises(ValueError, match="must be open_clip's ModifiedResNet"):
        ResNetEncoder("x", "x", make_visual(), (0,) * 3, (1,) * 3, CPU, torch.float32)
