"""LDVC and ZegCLIP answer: from prompted tokens and words to calibrated labels, with views of the way."""

import dataclasses

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from ldvc_toys import (
    CPU,
    TOKENIZE,
    TOWER,
    make_head,
    make_model,
    make_preset,
    make_text,
    make_vision,
    photo,
)
from safetensors.torch import load_file
from zegclip_files import official_file, official_state
from zegclip_tensors import DATA, close

from ovs_core import Engine, Request, parse_vocabulary
from ovs_core.checkpoints import CheckpointError
from ovs_core.encoders.towers import Tower
from ovs_core.engine.paired import run_paired
from ovs_core.evidence.decide import class_probabilities, decide
from ovs_core.evidence.score_map import ScoreMap
from ovs_core.image import Photo
from ovs_core.methods import METHODS
from ovs_core.methods.head_format import HeadFile
from ovs_core.methods.ldvc.heads import IMAGENET_MEAN, save_prompted_head
from ovs_core.methods.ldvc.method import (
    PromptedSegmenter,
    PromptedText,
    calibrate_seen,
    prompted_encoder,
)
from ovs_core.methods.ldvc.model import gamma_offsets
from ovs_core.methods.ldvc.official import load_zegclip
from ovs_core.types import TextBank, Vocabulary

WORDS = Vocabulary((("cat", "kitten"), ("sky",), ("zebra",)), ("wall", "grass"))
KINDS = {name: {view.kind for view in METHODS[name].views} for name in ("zegclip", "ldvc")}


def bound(method="ldvc", head=None, **settings):
    """Halves of a head of random weights on the tiny tower."""
    trained = head or make_head(method, **settings)
    vision = prompted_encoder(make_vision(), trained, "ef" * 32)
    return vision, PromptedText(make_text(), trained), PromptedSegmenter(trained, vision.visual)


def ask(halves, pixels, words=WORDS, options=None, preset=None, **settings):
    vision, text, method = halves
    features = vision.encode(pixels, preset or make_preset(short_side=48))
    return method.ask(features, text.embed(words), options or {}, **settings)


@pytest.mark.parametrize("method", ["zegclip", "ldvc"])
def test_an_answer_is_the_formula(method):
    vision, text, segmenter = bound(method)
    features = vision.encode(photo(60, 100), make_preset(short_side=48))
    assert features.grid == (3, 5)
    evidence = segmenter.ask(features, text.embed(WORDS), {}).evidence
    head, visual = segmenter.trained.head, vision.visual
    (window,) = features.windows
    x = head.extra_norm(window.taps[0])
    joint = F.normalize(visual.ln_post(x) @ visual.proj, dim=-1)
    dense = joint[1:].T.reshape(1, 24, 3, 5)
    expected = head.decoder(dense, joint[:1], text.embed(WORDS).embeddings).scores[0]
    assert evidence.rows.shape == (6, 3, 5)
    assert evidence.rows.std() > 0.01
    torch.testing.assert_close(evidence.rows, expected, atol=1e-5, rtol=1e-5)
    assert evidence.activation == "sigmoid"
    probabilities = class_probabilities(evidence, 1.0, (3, 5))
    close(probabilities[0], expected[:2].sigmoid().amax(dim=0))
    close(probabilities[3], expected[4:].sigmoid().amax(dim=0))


def test_scores_are_upsampled_before_the_sigmoid_as_official_code_does():
    tensors = load_file(DATA / "parity_zegclip_head.safetensors")
    scores = tensors["out.layer2_attn_logits"][1].reshape(7, 8, 8)
    words = Vocabulary(tuple((name,) for name in "abcdefg"))
    seen = frozenset("abcde")
    evidence = ScoreMap(scores, words, (32, 32), "sigmoid", seen=seen)
    close(class_probabilities(evidence, 1.0, (32, 32)), tensors["out.pred_selftrain"][1])
    expected = tensors["out.pred_inductive"][1].argmax(dim=0) + 1
    labels, _ = decide(calibrate_seen(evidence, {"gamma": 0.1}), 1.0, 0.0)
    assert (labels == expected.numpy()).all()
    without, _ = decide(calibrate_seen(evidence, {"gamma": 0.0}), 1.0, 0.0)
    assert (without == tensors["out.pred_selftrain"][1].argmax(dim=0).numpy() + 1).all()
    assert (without != labels).any()


def test_gamma_lowers_what_training_saw_by_any_of_its_names():
    seen = frozenset({"kitten", "zebra"})
    assert gamma_offsets(WORDS, seen, 0.2) == {1: -0.2, 3: -0.2}
    assert gamma_offsets(Vocabulary((("Zebra",),)), seen, 0.1) == {1: -0.1}
    assert gamma_offsets(WORDS, seen, 0.0) == {}
    for gamma in (-0.01, 0.31):
        with pytest.raises(ValueError, match=r"gamma must lie in \[0.0, 0.3\]"):
            gamma_offsets(WORDS, seen, gamma)
    for gamma in (-0.01, 0.31):
        with pytest.raises(ValueError, match=r"gamma must be a number in \[0, 0.3\]"):
            METHODS["ldvc"].option("gamma").checked(gamma)


def test_gamma_follows_classes_that_are_put_together_anew():
    evidence = ask(bound(seen=frozenset({"zebra"})), photo(60, 100)).evidence
    assert dict(calibrate_seen(evidence, {}).offsets) == {}  # off unless asked for
    evidence = calibrate_seen(evidence, {"gamma": 0.1})
    assert dict(evidence.offsets) == {3: -0.1}
    merged = Vocabulary((("cat", "kitten", "sky"), ("zebra",)), ("wall", "grass"))
    again = calibrate_seen(evidence.for_vocabulary(merged), {"gamma": 0.25})
    assert dict(again.offsets) == {2: -0.25}


def test_self_trained_heads_are_not_calibrated():
    evidence = ask(bound(training={"self_training": True}), photo(60, 100)).evidence
    assert dict(calibrate_seen(evidence, {}).offsets) == {}


@pytest.mark.parametrize("method", ["zegclip", "ldvc"])
def test_a_single_class_has_the_hidden_names_to_compete_with(method):
    names = ("cat", "wall", "grass", "sky")
    halves, wins = bound(method), np.zeros((60, 100), int)
    for name in names:
        one = Vocabulary(((name,),), tuple(other for other in names if other != name))
        labels, _ = decide(ask(halves, photo(60, 100), one).evidence, 1.0, 0.0)
        assert set(np.unique(labels)) <= {0, 1}
        wins += labels
    assert (wins == 1).all()  # every pixel goes to the one word that it would go to among four classes
    # With one name in all, the soft-max inside LDVC's blocks is constant, yet scores are finite.
    alone = ask(bound(method), photo(60, 100), Vocabulary((("cat",),))).evidence
    assert torch.isfinite(alone.rows).all()
    assert (decide(alone, 1.0, 0.0)[0] == 1).all()


@pytest.mark.parametrize("method", ["zegclip", "ldvc"])
def test_what_ran_before_changes_nothing(method):
    halves = bound(method)
    first = ask(halves, photo(60, 100, 1), views=frozenset(KINDS[method]))
    ask(halves, photo(90, 30, 2), Vocabulary((("dog",),)))
    again = ask(halves, photo(60, 100, 1))
    assert torch.equal(first.evidence.rows, again.evidence.rows)


@pytest.mark.parametrize("size", [(1, 1), (17, 200), (300, 20)])
@pytest.mark.parametrize("method", ["zegclip", "ldvc"])
def test_photos_of_any_shape(method, size):
    answer = ask(bound(method), photo(*size), views=frozenset(KINDS[method]), point=(1.0, 1.0))
    assert torch.isfinite(answer.evidence.rows).all()
    assert all(torch.isfinite(view.maps).all() for view in answer.views)


def test_many_classes():
    words = Vocabulary(tuple((f"thing {n}",) for n in range(200)))
    vision, _, method = bound()
    bank = TextBank(
        words, F.normalize(torch.randn(200, 24, generator=torch.Generator().manual_seed(0)), dim=1)
    )
    features = vision.encode(photo(60, 100), make_preset(short_side=48))
    assert method.ask(features, bank, {}).evidence.rows.shape == (200, 3, 5)


def test_windows_are_decoded_each_with_its_own_class_token():
    halves = bound()
    preset = make_preset(short_side=64, window=32, stride=32)
    vision, text, method = halves
    features = vision.encode(photo(64, 112), preset)
    assert len(features.windows) == 8
    rows = text.embed(WORDS).embeddings
    found = method.ask(features, text.embed(WORDS), {}).evidence.rows
    first = method.decode(features.windows[0], rows, "routed").scores[0]
    torch.testing.assert_close(found[:, :2, :2], first, atol=1e-5, rtol=1e-5)
    # Columns 5 are covered by the windows at 4 (first column) and 5 (last): the mean of both.
    third, last = (method.decode(features.windows[n], rows, "routed").scores[0] for n in (2, 3))
    mean = (third[:, :, 1] + last[:, :, 0]) / 2
    torch.testing.assert_close(found[:, :2, 5], mean, atol=1e-5, rtol=1e-5)


def test_an_intermediate_block_is_read_where_the_head_says_so():
    halves = bound(aux_block=0)
    assert halves[0].taps == (2, 0)
    plain = bound()
    found, without = (ask(one, photo(60, 100)).evidence.rows for one in (halves, plain))
    assert (found - without).abs().max() > 1e-3
    features = plain[0].encode(photo(60, 100), make_preset(short_side=48))
    with pytest.raises(ValueError, match=r"must carry what leaves blocks \(2, 0\), got 1 taps"):
        halves[2].ask(features, halves[1].embed(WORDS), {})


def test_features_and_text_of_other_towers_are_refused():
    vision, text, method = bound()
    features = vision.encode(photo(60, 100), make_preset(short_side=48))
    bank = text.embed(WORDS)
    narrow = dataclasses.replace(bank, embeddings=bank.embeddings[:, :16])
    with pytest.raises(ValueError, match="text embeddings must be 24 wide, got 16"):
        method.ask(features, narrow, {})
    with pytest.raises(ValueError, match="point must be"):
        method.ask(features, bank, {}, point=(0.5, 1.5))


def test_a_tower_in_half_precision_answers_nearly_the_same():
    trained = make_head()
    visual = make_model().visual.to(torch.bfloat16)
    vision = prompted_encoder(make_vision(visual, dtype=torch.bfloat16), trained, "ef" * 32)
    halves = (vision, PromptedText(make_text(), trained), PromptedSegmenter(trained, vision.visual))
    found, full = (ask(one, photo(60, 100)).evidence.rows for one in (halves, bound()))
    assert found.dtype == torch.float32
    assert (found - full).abs().mean() < 0.1 * full.abs().mean()


# Halves.


def test_the_image_half_has_an_identity_of_its_own():
    trained = make_head()
    vision = make_vision()
    plan = make_preset()
    first, other = (prompted_encoder(vision, trained, sha) for sha in ("ef" * 32, "aa" * 32))
    identities = {one.features_identity(plan) for one in (vision, first, other)}
    assert len(identities) == 3
    assert first.mean == vision.mean
    framed = dataclasses.replace(trained.frame, mean=IMAGENET_MEAN, double_class_token=False)
    tuned = prompted_encoder(vision, dataclasses.replace(trained, frame=framed), "ef" * 32)
    assert (tuned.mean, tuned.std, tuned.double_class_token) == (IMAGENET_MEAN, vision.std, False)
    assert not vision.taps
    assert vision.prompts is None


def test_names_are_encoded_once_per_head():
    calls = []

    def counting(prompts):
        calls.extend(prompts)
        return TOKENIZE(prompts)

    trained = make_head()
    text = PromptedText(make_text(tokenizer=counting), trained)
    first = text.embed(WORDS)
    encoded = len(calls)
    again = text.embed(Vocabulary((("zebra",), ("cat",))))
    assert [prompt for prompt in calls[encoded:] if "cat" in prompt or "zebra" in prompt] == []
    assert torch.equal(again.embeddings, first.embeddings[[3, 0]])
    plain = PromptedText(make_text(), make_head("zegclip"))
    assert plain.identity != text.identity
    expected = make_text().embed(WORDS, ("a photo of a {}",)).embeddings
    assert torch.equal(plain.embed(WORDS, ("never read {}",)).embeddings, expected)


def test_prompts_of_another_tower_are_refused_when_bound(tmp_path):
    trained = make_head()
    narrow = dataclasses.replace(
        trained.visual_prompts, tokens=tuple(one[:, :16] for one in trained.visual_prompts.tokens)
    )
    path = save_prompted_head(dataclasses.replace(trained, visual_prompts=narrow), tmp_path / "h.safetensors")
    with pytest.raises(CheckpointError, match="does not fit its tower: visual prompts must be 32 wide"):
        METHODS["ldvc"].bind(toy_tower(), HeadFile(path, "ef" * 32))


def toy_tower(model=None):
    model = model or make_model()
    return Tower(make_text(model), {"tower.pt": TOWER}, model, CPU, "openai", make_vision(model.visual))


@pytest.mark.parametrize("method", ["zegclip", "ldvc"])
def test_a_file_is_bound_to_its_tower(tmp_path, method):
    path = save_prompted_head(make_head(method), tmp_path / "head.safetensors", half=False)
    made = METHODS[method].bind(toy_tower(), HeadFile(path, "ef" * 32))
    assert made.weights == {"head.safetensors": "ef" * 32}
    features = made.image.encode(photo(60, 100), make_preset(short_side=48))
    evidence = made.method.ask(features, made.text.embed(WORDS, ("{}",)), {}).evidence
    close(evidence.rows, ask(bound(method), photo(60, 100)).evidence.rows)
    other = "ldvc" if method == "zegclip" else "zegclip"
    with pytest.raises(CheckpointError, match=f"holds a head of {method}, expected {other}"):
        METHODS[other].bind(toy_tower(), HeadFile(path, "ef" * 32))
    with pytest.raises(CheckpointError, match="needs the file of its trained head"):
        METHODS[method].bind(toy_tower(), None)


def test_an_official_checkpoint_answers(tmp_path):
    model = make_model()
    path = official_file(tmp_path, official_state(model.visual))
    trained = load_zegclip(path, model.visual, TOWER, heads=4)
    vision = prompted_encoder(make_vision(model.visual), trained, "ef" * 32)
    halves = (vision, PromptedText(make_text(model), trained), PromptedSegmenter(trained, vision.visual))
    evidence = ask(halves, photo(60, 100)).evidence
    assert evidence.rows.std() > 1e-3
    assert dict(calibrate_seen(evidence, {"gamma": 0.1}).offsets) == {1: -0.1}  # VOC's seen 15 hold cats


# Views.


def views_of(method="ldvc", words=WORDS, point=None, preset=None, **settings):
    answer = ask(
        bound(method, **settings),
        photo(60, 100),
        words,
        views=frozenset(KINDS["ldvc"]),
        point=point,
        preset=preset,
    )
    return {view.kind: view for view in answer.views}


def test_every_declared_view_is_made_and_no_other():
    assert set(views_of()) == KINDS["ldvc"]
    assert set(views_of("zegclip")) == KINDS["zegclip"]
    assert KINDS["ldvc"] - KINDS["zegclip"] == {"routing_off", "routing_windows"}
    assert ask(bound(), photo(60, 100)).views == ()


def test_attention_is_shown_for_every_class_and_block():
    view = views_of()["class_attention"]
    assert view.labels == tuple(f"{name}, block {b}" for name in ("cat", "sky", "zebra") for b in (1, 2))
    evidence = ask(bound(), photo(60, 100)).evidence
    close(view.maps[1::2], evidence.class_scores[:3])
    assert view.limits == (float(view.maps.min()), float(view.maps.max()))


def test_probabilities_stand_alone_and_shares_do_not():
    views = views_of(words=Vocabulary((("cat",), ("sky",))))
    close(views["class_softmax"].maps.sum(dim=0), torch.ones(3, 5))
    assert (views["class_probability"].maps.sum(dim=0) - 1).abs().max() > 1e-3
    assert views["class_probability"].limits == (0.0, 1.0)


def test_calibration_shows_both_sides():
    view = views_of(seen=frozenset({"zebra"}))["calibration"]
    assert view.labels[:2] == ("cat, before gamma", "cat, after gamma")
    assert torch.equal(view.maps[0], view.maps[1])
    close(view.maps[4] - 0.1, view.maps[5])
    assert "calibration" not in views_of(seen=frozenset())


def test_routing_is_shown_as_trained_everywhere_and_off():
    view = views_of()["routing_off"]
    assert view.labels[:3] == ("cat, as trained", "cat, all windows", "cat, off")
    assert "not retrained" in view.title
    halves = bound()
    for number, choice in enumerate(("as trained", "all windows", "off")):
        rows = ask(halves, photo(60, 100), options={"route_attention": choice}).evidence.class_scores
        close(view.maps[number::3], rows[:3])
    assert (view.maps[0] - view.maps[2]).abs().max() > 1e-3


def test_windows_of_a_point_are_those_that_its_window_reads():
    vision, text, method = bound()
    features = vision.encode(photo(60, 100), make_preset(short_side=96))
    assert features.grid == (6, 10)
    bank = text.embed(WORDS)
    (view,) = method.ask(features, bank, {}, views=frozenset({"routing_windows"}), point=(0.99, 0.0)).views
    routes = method.decode(features.windows[0], bank.embeddings, "routed").routes
    assert view.labels == (
        "block 1: affinity",
        "block 1: windows read",
        "block 2: affinity",
        "block 2: windows read",
    )
    assert routes[0].window == (2, 4)  # 10 columns are filled up to 12
    for block in range(2):
        affinity, read = view.maps[2 * block], view.maps[2 * block + 1]
        assert read.unique().tolist() == [0, 1]
        chosen = set(
            routes[block].chosen[0, 6].tolist()
        )  # row 5, column 0: the first window of the third row
        for window in range(9):
            rows, columns = slice(2 * (window // 3), 2 * (window // 3) + 2), slice(4 * (window % 3), None)
            cell = read[rows, columns][0, 0]
            assert bool(cell) == (window in chosen)
            torch.testing.assert_close(affinity[rows, columns][0, 0], routes[block].affinity[0, 6, window])
    assert "row 6, column 1" in view.title


def test_a_point_among_sliding_windows_is_found():
    preset = make_preset(short_side=64, window=32, stride=32)
    view = views_of(point=(0.9, 0.9), preset=preset)["routing_windows"]
    assert view.maps.shape == (4, 4, 7)
    assert (view.maps[1][:2, :3] == 0).all()  # outside the window that holds the point


def test_drift_and_contraction_in_numbers():
    for method, moved in (("ldvc", "visual"), ("zegclip", "asked")):
        vision, text, segmenter = bound(method)
        features = vision.encode(photo(60, 100), make_preset(short_side=48))
        bank = text.embed(WORDS)
        answer = segmenter.ask(features, bank, {}, views=frozenset({"class_drift", "contraction"}))
        drift, near = answer.views
        decoded = segmenter.decode(features.windows[0], bank.embeddings, "routed")
        last = decoded.asked[-1][0]
        for number, row in enumerate((0, 2, 3)):
            expected = 1 - F.cosine_similarity(last[row], bank.embeddings[row], dim=0)
            close(drift.maps[number, 0, 0], expected)
        assert drift.labels == ("cat", "sky", "zebra")
        assert near.labels == ("before", "after block 1", "after block 2")
        for step in range(3):
            sides = {"visual": decoded.visual[0], "asked": decoded.asked[0]}
            sides[moved] = getattr(decoded, moved)[step]
            cosines = F.normalize(sides["visual"][0], dim=1) @ F.normalize(sides["asked"][0], dim=1).T
            close(near.maps[step, 0, 0], cosines.amax(dim=1).mean())


def test_ldvc_stands_beside_zegclip_on_one_colour_scale():
    """Figure 1: class by class the blocks of the one, then those of the other."""
    engine = Engine("cpu", offline=True)
    photo = Photo(np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8), "noise.png")
    kinds = frozenset({"class_attention"})
    words = parse_vocabulary("cat; grass")
    (of_ldvc,), (of_zegclip,) = (
        [*engine.run(Request(photo, words, name, views=kinds))][-1].views for name in ("ldvc", "zegclip")
    )
    request = Request(photo, words, "ldvc", views=kinds | {"class_drift"})
    *_, result = run_paired(engine, request)
    both, drift = result.views
    assert [label.split(", ")[0] for label in both.labels] == [
        *(f"{title}: {name}" for name in ("cat", "grass") for title in ("LDVC",) * 3 + ("ZegCLIP",) * 3),
    ]
    assert both.limits == (
        min(of_ldvc.limits[0], of_zegclip.limits[0]),
        max(of_ldvc.limits[1], of_zegclip.limits[1]),
    )
    torch.testing.assert_close(both.maps[[0, 1, 2, 6, 7, 8]], of_ldvc.maps)
    torch.testing.assert_close(both.maps[[3, 4, 5, 9, 10, 11]], of_zegclip.maps)
    assert drift.kind == "class_drift"
    assert result.method == "ldvc"


def test_a_view_stays_alone_where_the_other_method_cannot_be_asked():
    engine = Engine("cpu", offline=True, methods={"ldvc": METHODS["ldvc"]})
    photo = Photo(np.zeros((32, 48, 3), np.uint8), "black.png")
    asked = Request(photo, parse_vocabulary("cat"), "ldvc", views=frozenset({"class_attention"}))
    *_, result = run_paired(engine, asked)
    assert result.views[0].labels == ("cat, block 1", "cat, block 2", "cat, block 3")


def test_the_embedded_model_has_both_heads():
    engine = Engine("cpu", offline=True)
    ready = {info.name for info in engine.methods() if not info.reason}
    for name in ("zegclip", "ldvc"):
        spec = METHODS[name]
        assert spec.head is not None
        assert spec.head.published == {"mini": f"mini-{name}"}
        assert name in ready
        assert [option.stage for option in spec.options if option.name == "gamma"] == ["decide"]
        assert not {"templates"} & {option.name for option in spec.options}
