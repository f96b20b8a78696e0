"""Inside the tower: words asked of every block, attention head by head, and tokens that stick out."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from rule_toys import WIDTH, random_window, some_text, two_windows
from tiny_clip import make_visual
from towers import random_photo

from ovs_core.encoders.clip_vit import to_joint_space
from ovs_core.engine import Request
from ovs_core.methods import METHODS
from ovs_core.methods.training_free.attention_rules import RULES
from ovs_core.methods.training_free.calibrated import CALIBRATIONS
from ovs_core.methods.training_free.cross_correlation import RESCLIP
from ovs_core.methods.training_free.layer_views import HEADS, LAYERS, NORMS, WORD_COSINES
from ovs_core.methods.training_free.model import TrainingFree
from ovs_core.types import Features, Vocabulary, Window

EVERY = {**RULES, **CALIBRATIONS, "resclip": RESCLIP}
TOKEN_METHODS = [name for name, spec in METHODS.items() if spec.group == "last_block"]


def view_of(kind, features, rule="naclip", text=None, visual=None, **asked):
    method = TrainingFree(visual or make_visual(), EVERY[rule])
    (view,) = method.ask(features, text or some_text(), {}, views={kind}, **asked).views
    assert view.kind == kind
    return view


def whole(grid=(3, 5), layers=3):
    return Features("tiny", (16 * grid[0], 16 * grid[1]), grid, (random_window(grid, layers=layers),))


def test_words_are_asked_of_each_block_as_if_it_were_the_last():
    visual, features, text = make_visual(), whole(), some_text(2)
    view = view_of(LAYERS, features, text=text, visual=visual)
    assert view.labels[:5] == (
        *(f"class 0, block {block} of 3" for block in (1, 2, 3)),
        "class 0, this method",
        "class 1, block 1 of 3",
    )
    window = features.windows[0]
    after = [window.taps[0], window.tokens, visual.transformer.resblocks[2](window.tokens[None])[0]]
    for block, tokens in enumerate(after):
        units = F.normalize(to_joint_space(visual, tokens)[1:], dim=1)
        expected = (text.embeddings @ units.T).view(2, 3, 5)
        torch.testing.assert_close(view.maps[block::4], expected, atol=1e-5, rtol=0)
    low, high = view.limits
    assert low <= float(view.maps.min())
    assert float(view.maps.max()) <= high


def test_what_leaves_the_last_block_as_it_is_is_clip_as_it_is():
    maps = view_of(LAYERS, whole(), "clip").maps.view(3, 4, 3, 5)
    torch.testing.assert_close(maps[:, 2], maps[:, 3], atol=1e-5, rtol=0)
    other = view_of(LAYERS, whole(), "naclip").maps.view(3, 4, 3, 5)
    assert torch.equal(other[:, :3], maps[:, :3])
    assert not torch.allclose(other[:, 3], maps[:, 3], atol=1e-2)


def test_of_several_names_of_a_class_the_best_one_counts():
    text = some_text(4)
    joined = type(text)(Vocabulary((("a", "b"), ("c", "d"))), text.embeddings)
    apart = view_of(LAYERS, whole(), text=text).maps.view(4, 4, 3, 5)
    best = view_of(LAYERS, whole(), text=joined).maps.view(2, 4, 3, 5)
    assert torch.equal(best, apart.view(2, 2, 4, 3, 5).amax(dim=1))


@pytest.mark.parametrize("rule", EVERY)
def test_heads_together_are_the_attention(rule):
    features, point = whole(), (0.4, 0.9)  # row 1, column 4
    heads = view_of(HEADS, features, rule, point=point)
    mean = view_of("attention", features, rule, point=point)
    assert heads.labels == tuple(f"head {n} of 4" for n in (1, 2, 3, 4))
    assert heads.title.endswith("row 2, column 5")
    torch.testing.assert_close(heads.maps.mean(dim=0), mean.maps[0])
    assert heads.limits == (0.0, float(heads.maps.max()))
    if rule != "maskclip":
        assert not torch.allclose(heads.maps[0], heads.maps[1])


def test_without_a_point_heads_are_those_of_the_middle():
    features = two_windows()
    middle = view_of(HEADS, features, point=(0.5, 0.5))
    assert torch.equal(view_of(HEADS, features).maps, middle.maps)
    assert middle.title.endswith("row 2, column 3")
    assert (middle.maps > 0).all()  # both windows hold it, so all places are seen


def test_a_token_ten_times_as_long_sticks_out():
    tokens = F.normalize(torch.randn(16, WIDTH, generator=torch.Generator().manual_seed(0)), dim=1)
    taps = tokens * 3
    tokens = tokens.clone()
    tokens[8] *= 10  # patch 7: row 1, column 2
    features = Features("tiny", (48, 80), (3, 5), (Window(0, 0, (3, 5), tokens, (taps,)),))
    view = view_of(NORMS, features)
    assert view.labels[:2] == ("block 1 of 3, median 3", "block 2 of 3, median 1")
    torch.testing.assert_close(view.maps[0], torch.ones(3, 5), atol=1e-5, rtol=0)
    expected = torch.ones(3, 5)
    expected[1, 2] = 10
    torch.testing.assert_close(view.maps[1], expected, atol=1e-5, rtol=0)
    assert view.limits[0] == 0


def test_words_are_compared_class_by_class_by_their_first_names():
    text = some_text(4, other=1)
    joined = type(text)(Vocabulary((("a", "b"), ("c",), ("d",)), ("o",)), text.embeddings)
    view = view_of(WORD_COSINES, whole(), text=joined)
    rows = text.embeddings[[0, 2, 3]]
    torch.testing.assert_close(view.maps, (rows @ rows.T)[None])
    assert view.columns == ("a", "c", "d")
    assert view.limits == (-1.0, 1.0)
    many = view_of(WORD_COSINES, whole(), text=some_text(23))
    assert many.maps.shape == (1, 20, 20)


def test_they_need_a_deeper_look_and_heads_do_not():
    window = random_window()
    plain = Features("tiny", (48, 80), (3, 5), (Window(0, 0, (3, 5), window.tokens),))
    assert torch.equal(view_of(HEADS, plain).maps, view_of(HEADS, whole()).maps)
    with pytest.raises(ValueError, match="must carry what leaves the first 1 blocks"):
        view_of(LAYERS, plain)


@pytest.mark.parametrize("window", [0, 64])
@pytest.mark.parametrize("method", ["naclip", "sc_clip"])
def test_through_the_engine_they_change_no_answer(engine, method, window):
    options = {"short_side": 96, "window": window, "stride": window // 2}
    asked = Request(random_photo(120, 200), Vocabulary((("dog",), ("grass",))), method, options=options)
    *_, plain = engine.run(asked)
    looks = engine.cache.stats("features").misses
    kinds = frozenset({LAYERS, HEADS, NORMS})
    *_, seen = engine.run(replace(asked, views=kinds, point=(0.2, 0.7)))
    assert engine.cache.stats("features").misses - looks == (1 if method == "naclip" else 0)
    assert torch.equal(plain.evidence.rows, seen.evidence.rows)
    assert {view.kind for view in seen.views} == kinds
    grid = plain.evidence.rows.shape[1:]
    assert all(tuple(view.maps.shape[1:]) == tuple(grid) and view.limits for view in seen.views)
    assert all(torch.isfinite(view.maps).all() for view in seen.views)


@pytest.mark.parametrize("method", TOKEN_METHODS)
def test_each_says_its_equation(method):
    views = {view.kind: view for view in METHODS[method].views}
    assert "cos(ln_post(x_b) P, t)" in views[LAYERS].sentence
    assert METHODS[method].rule in views[HEADS].sentence
    assert "|x_b|" in views[NORMS].sentence
    assert views[LAYERS].per_class
    assert views[HEADS].about_point
