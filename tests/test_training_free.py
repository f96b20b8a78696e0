"""Training-free methods end to end: official tokens, windows, views, MaskCLIP's switches, no hidden state."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from tiny_clip import make_visual, naclip_tower

from ovs_core.encoders.clip_vit import VisionEncoder, to_joint_space, tokens_before_last_block
from ovs_core.evidence.decide import decide
from ovs_core.methods.training_free.attention_rules import (
    RULES,
    attention_weights,
    key_smoothing,
    leave_last_block,
    maskclip_value_path,
    prompt_denoising,
)
from ovs_core.methods.training_free.model import TrainingFree
from ovs_core.options import Preset
from ovs_core.types import Features, TextBank, Vocabulary, Window

WIDTH, JOINT = 32, 24  # of the tiny tower


def make_features(grid=(3, 5), boxes=None, seed=0, dtype=torch.float32):
    """Random tokens for windows (top, left, h, w) over a grid; one whole window by default."""
    generator = torch.Generator().manual_seed(seed)
    boxes = boxes or ((0, 0, *grid),)
    windows = tuple(
        Window(top, left, (h, w), torch.randn(1 + h * w, WIDTH, generator=generator).to(dtype))
        for top, left, h, w in boxes
    )
    return Features("tiny", (48, 80), grid, windows)


def make_text(names=3, other=0, seed=0, width=JOINT, synonyms=1):
    classes = tuple(tuple(f"class {n} {s}" for s in range(synonyms)) for n in range(names))
    vocabulary = Vocabulary(classes, tuple(f"other {n}" for n in range(other)))
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randn(len(vocabulary.rows), width, generator=generator)
    return TextBank(vocabulary, F.normalize(rows, dim=1))


def with_two_alike(text):
    """The same text with its first two rows equal: neither ever reaches a share above 0.5."""
    rows = text.embeddings.clone()
    rows[0] = rows[1]
    return TextBank(text.vocabulary, rows)


def make_method(name="naclip", **settings):
    return TrainingFree(make_visual(), RULES[name], **settings)


def cosines_of(method, window, text):
    """The pipeline of one window written out: (S, h, w)."""
    block = method.visual.transformer.resblocks[-1]
    x = leave_last_block(method.rule, block, window.tokens[None], window.grid)
    dense = F.normalize(to_joint_space(method.visual, x)[0, 1:], dim=1)
    return torch.einsum("sd,pd->sp", text.embeddings, dense).reshape(-1, *window.grid)


@pytest.mark.parametrize("image", [0, 1])
@pytest.mark.parametrize("name", ["clip", "sclip", "naclip", "kk_reduced"])
def test_evidence_is_the_cosine_of_the_official_tokens(name, image):
    visual, tensors = naclip_tower()
    pixels = tensors[f"in.image{image}"]
    grid = (pixels.shape[2] // 16, pixels.shape[3] // 16)
    x = tokens_before_last_block(visual, pixels, naclip_scale_factor=True)[0]
    features = Features("naclip", (pixels.shape[2], pixels.shape[3]), grid, (Window(0, 0, grid, x),))
    text = make_text(7, width=32)
    evidence = TrainingFree(visual, RULES[name]).ask(features, text, {}).evidence.rows
    official = F.normalize(tensors[f"out.{name}.tokens{image}"][0, 1:], dim=1)  # (h*w, D)
    expected = (text.embeddings @ official.T).reshape(7, *grid)
    torch.testing.assert_close(evidence, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("grid", [(3, 5), (1, 1), (1, 7), (6, 2)])
def test_any_grid_and_vocabulary(name, grid):
    method = make_method(name)
    for names, other in ((1, 0), (1, 3), (200, 2)):
        score_map = method.ask(make_features(grid), make_text(names, other), {}).evidence
        assert score_map.rows.shape == (names + other, *grid)
        assert score_map.rows.dtype == torch.float32
        assert score_map.rows.abs().max() <= 1 + 1e-5
        assert score_map.image_size == (48, 80)


def test_rows_keep_their_order_and_patches_their_place():
    method, text = make_method(), make_text(4, 2)
    features = make_features((2, 7))
    evidence = method.ask(features, text, {}).evidence.rows
    torch.testing.assert_close(evidence, cosines_of(method, features.windows[0], text), atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", RULES)
def test_overlapping_windows_are_averaged(name):
    method, text = make_method(name), make_text()
    features = make_features((2, 5), ((0, 0, 2, 3), (0, 2, 2, 3)))  # they share column 2
    evidence = method.ask(features, text, {}).evidence.rows
    left, right = (cosines_of(method, window, text) for window in features.windows)
    torch.testing.assert_close(evidence[..., :2], left[..., :2], atol=1e-5, rtol=0)
    torch.testing.assert_close(evidence[..., 2], (left[..., 2] + right[..., 0]) / 2, atol=1e-5, rtol=0)
    torch.testing.assert_close(evidence[..., 3:], right[..., 1:], atol=1e-5, rtol=0)


def test_a_b_a_is_bit_equal():
    method, text = make_method("sclip"), make_text(5, 3)
    boxes = ((0, 0, 3, 3), (0, 2, 3, 3))
    first = method.ask(make_features((3, 5), boxes), text, {}, views={"attention", "similarity"})
    method.ask(make_features((4, 2), seed=9), make_text(2, seed=9), {}, views={"attention"}, point=(0.1, 0.9))
    again = method.ask(make_features((3, 5), boxes), text, {}, views={"attention", "similarity"})
    assert torch.equal(first.evidence.rows, again.evidence.rows)
    for a, b in zip(first.views, again.views, strict=True):
        assert torch.equal(a.maps, b.maps)


def test_features_and_text_are_only_read():
    features, text = make_features(), make_text()
    tokens, rows = features.windows[0].tokens.clone(), text.embeddings.clone()
    for name in RULES:
        method = make_method(name, denoise_floor=0.5, smooth_ceiling=1.0)
        method.ask(features, text, {}, views={"attention", "similarity"}, point=(0.5, 0.5))
    assert torch.equal(features.windows[0].tokens, tokens)
    assert torch.equal(text.embeddings, rows)


def test_views_are_only_made_when_asked():
    features, text = make_features(), make_text()
    plain = make_method().ask(features, text, {})
    asked = make_method().ask(features, text, {}, views={"similarity", "attention"}, point=(0.5, 0.5))
    assert plain.views == ()
    assert [view.kind for view in asked.views] == ["similarity", "attention"]
    assert torch.equal(plain.evidence.rows, asked.evidence.rows)


def test_the_similarity_view_is_the_best_name_of_each_class():
    features, text = make_features(), make_text(3, other=2, synonyms=2)
    segmentation = make_method().ask(features, text, {}, views={"similarity"})
    (view,) = segmentation.views
    evidence = segmentation.evidence.rows
    assert view.labels == ("class 0 0", "class 1 0", "class 2 0")
    torch.testing.assert_close(view.maps, evidence[:6].reshape(3, 2, 3, 5).amax(dim=1))


@pytest.mark.parametrize("name", ["clip", "sclip", "naclip"])
def test_the_attention_view_is_the_row_of_the_patch_under_the_point(name):
    method, features = make_method(name), make_features((3, 5))
    (view,) = method.ask(features, make_text(), {}, views={"attention"}, point=(0.99, 0.5)).views
    weights = attention_weights(
        method.rule, method.visual.transformer.resblocks[-1], features.windows[0].tokens, (3, 5)
    )
    # Row 0.99 of 3 is row 2, column 0.5 of 5 is column 2: token 1 + 2 * 5 + 2.
    torch.testing.assert_close(view.maps, weights[13, 1:].reshape(1, 3, 5))
    assert view.labels == ("row 3, column 3",)


def test_the_attention_view_comes_from_the_windows_that_hold_the_point():
    method = make_method("maskclip")  # a patch looks at itself only: hand-made expectations
    features = make_features((2, 5), ((0, 0, 2, 3), (0, 2, 2, 3)))
    for point, cell in (((0, 0), (0, 0)), ((1, 1), (1, 4)), ((0.5, 0.5), (1, 2))):
        (view,) = method.ask(features, make_text(), {}, views={"attention"}, point=point).views
        expected = torch.zeros(1, 2, 5)
        expected[0, cell[0], cell[1]] = 1
        assert torch.equal(view.maps, expected)


def test_where_windows_overlap_their_attention_is_averaged():
    method = make_method("clip")
    features = make_features((2, 5), ((0, 0, 2, 3), (0, 2, 2, 3)))
    (view,) = method.ask(features, make_text(), {}, views={"attention"}, point=(0, 0.5)).views
    block = method.visual.transformer.resblocks[-1]
    rows = [
        attention_weights(method.rule, block, window.tokens, (2, 3))[token, 1:].reshape(2, 3)
        for window, token in zip(features.windows, (3, 1), strict=True)
    ]
    expected = torch.zeros(2, 5)
    expected[:, :2], expected[:, 3:] = rows[0][:, :2], rows[1][:, 1:]
    expected[:, 2] = (rows[0][:, 2] + rows[1][:, 0]) / 2
    torch.testing.assert_close(view.maps[0], expected)


def test_without_a_point_the_attention_view_is_the_class_tokens():
    method, features = make_method("clip"), make_features((3, 5))
    (view,) = method.ask(features, make_text(), {}, views={"attention"}).views
    block = method.visual.transformer.resblocks[-1]
    weights = attention_weights(method.rule, block, features.windows[0].tokens, (3, 5))
    torch.testing.assert_close(view.maps, weights[0, 1:].reshape(1, 3, 5))
    assert view.labels == ("class token",)


@pytest.mark.parametrize("point", [(-0.1, 0.5), (0.5, 1.1), (float("nan"), 0.5)])
def test_a_point_outside_the_photo_is_refused(point):
    with pytest.raises(ValueError, match="point must be"):
        make_method().ask(make_features(), make_text(), {}, views={"attention"}, point=point)


def test_prompt_denoising_is_a_setting():
    features, text = make_features(), with_two_alike(make_text(6))
    cosines = make_method("maskclip").ask(features, text, {}).evidence.rows
    method = make_method("maskclip", denoise_floor=0.9)
    answer = method.ask(features, text, {"prompt_denoising": True}, views={"similarity"})
    assert torch.equal(answer.evidence.rows, prompt_denoising(cosines, 0.9))
    assert (answer.evidence.rows[:2] == -100).all()
    assert torch.equal(answer.views[0].maps, cosines)  # what was measured, before anything was taken out


def test_key_smoothing_gives_probabilities():
    features, text = make_features((3, 5), ((0, 0, 3, 5),)), make_text(6)
    method = make_method("maskclip")
    cosines = method.ask(features, text, {}).evidence.rows
    tokens = features.windows[0].tokens[None]
    keys = maskclip_value_path(method.visual.transformer.resblocks[-1], tokens).keys
    kept = key_smoothing(cosines, keys[0, 1:], 1.0).clamp(min=0)
    evidence = method.ask(features, text, {"key_smoothing": True}).evidence
    sure = kept.amax(dim=0) > 1e-3
    assert sure.sum() > 5
    assert evidence.activation == "none"
    torch.testing.assert_close(evidence.rows[:, sure], (kept / kept.sum(dim=0))[:, sure], atol=1e-6, rtol=0)
    labels, confidence = decide(
        evidence, 40.0, 0.0, (3, 5)
    )  # no scale: the best score of a patch is its label
    assert np.array_equal(labels[sure.numpy()], kept.argmax(dim=0)[sure].numpy() + 1)
    np.testing.assert_allclose(confidence, evidence.rows.amax(dim=0), atol=1e-6)


def test_a_class_that_denoising_took_out_is_not_smoothed_back_in():
    features, text = make_features((4, 4)), with_two_alike(make_text(6))
    method = make_method("maskclip", denoise_floor=0.9)
    denoised = method.ask(features, text, {"prompt_denoising": True}).evidence.rows
    gone = (denoised == -100).flatten(1).all(dim=1)
    assert gone[:2].all()
    assert not gone.all()
    both = method.ask(features, text, {"prompt_denoising": True, "key_smoothing": True}).evidence.rows
    assert torch.isfinite(both).all()
    assert not gone[both.flatten(1).argmax(dim=0)].any()


def test_a_half_precision_tower_gives_float32_evidence_near_the_full_one():
    text = make_text(8)
    full = make_method("sclip").ask(make_features(), text, {}).evidence.rows
    method = TrainingFree(make_visual().to(torch.bfloat16), RULES["sclip"])
    half = method.ask(make_features(dtype=torch.bfloat16), text, {}, views={"attention"})
    assert half.evidence.rows.dtype == torch.float32
    assert half.views[0].maps.dtype == torch.float32
    torch.testing.assert_close(half.evidence.rows, full, atol=0.03, rtol=0)


def test_features_or_text_of_another_tower_are_refused():
    wrong = Features("big", (16, 16), (1, 1), (Window(0, 0, (1, 1), torch.zeros(2, 8)),))
    with pytest.raises(ValueError, match="features must be 32 wide, got 8"):
        make_method().ask(wrong, make_text(), {})
    with pytest.raises(ValueError, match="text embeddings must be 24 wide, got 16"):
        make_method().ask(make_features(), make_text(width=16), {})


def test_from_a_photo_to_evidence():
    visual = make_visual()
    encoder = VisionEncoder(
        "tiny", "tiny", visual, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5), 16, torch.device("cpu"), torch.float32
    )
    pixels = np.random.default_rng(0).integers(0, 256, (60, 100, 3), dtype=np.uint8)
    for window in (None, 32):
        features = encoder.encode(pixels, Preset(40, 0.1, 64, window, 16, "single1"))
        for rule in RULES.values():
            score_map = TrainingFree(visual, rule).ask(features, make_text(2, 1), {}).evidence
            assert score_map.rows.shape == (3, 4, 7)
            assert score_map.image_size == (60, 100)
            assert score_map.rows.std() > 0
