"""MVP-SEG's first stage: losses, splits, cached crops, runs that learn and resume."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from split_world import TOWER, TOY, make_world
from tiny_clip import make_model

from ovs_core.checkpoints import CheckpointError
from ovs_core.encoders import clip_vit
from ovs_core.encoders.clip_vit import VisionEncoder
from ovs_core.encoders.prompts import clip_tokenizer, context_prompts
from ovs_core.encoders.text_tower import text_tower
from ovs_core.methods.mvp_seg.contexts import load_contexts
from ovs_core.methods.mvp_seg.formulas import orthogonality
from ovs_core.training import mvp_seg, mvp_seg_data
from ovs_core.training.loop import Schedule
from ovs_core.training.mvp_seg import (
    MvpSegPlan,
    PromptLearner,
    batch_losses,
    cls_loss,
    mvp_seg_plan,
    seg_loss,
    train_contexts,
    train_mvp_seg,
)
from ovs_core.training.mvp_seg_data import CachedCrops, CropPlan, cache_crops, draw_classes
from ovs_core.training.split_photos import open_photos
from ovs_core.types import IGNORE, UNLISTED
from ovs_core.vocabulary import BENCHMARKS
from ovs_core.vocabulary.splits import SPLITS, spoken_name

FORMULAS = Path(__file__).parent / "data" / "mvp_seg_formulas.npz"
CROPS = CropPlan(side=64, short_side=(64, 80), per_photo=2, label_stride=8)
PLAN = MvpSegPlan(k=2, length=3, steps=3, warmup=1, batch=2, crops=CROPS, rate=0.02, tau1_scale=20.0)


# Losses.


@pytest.fixture(scope="module")
def golden():
    with np.load(FORMULAS) as stored:
        return {name: torch.from_numpy(np.array(value)) for name, value in stored.items()}


def test_losses_equal_the_formulas(golden):
    g = golden
    labels = g["gt"]
    assert (labels >= 0).all()
    mean = seg_loss(g["m_c"].log()[None], labels[None])
    torch.testing.assert_close(mean * labels.numel(), g["L_seg_sum"], rtol=1e-9, atol=0)
    logits, present = (g["pooled"] / g["tau2"])[None], g["y"][None]
    torch.testing.assert_close(cls_loss(logits, present, "bce"), g["L_cls_bce"], rtol=1e-9, atol=0)
    positive = cls_loss(logits, present, "positive_only")
    torch.testing.assert_close(positive, g["L_cls_positive_only"], rtol=1e-9, atol=0)


def test_pixels_without_a_label_do_not_count():
    logs = torch.tensor([[[[0.25, 0.9]], [[0.75, 0.1]]]]).log()
    labels = torch.tensor([[[0, IGNORE]]])
    assert seg_loss(logs, labels).item() == pytest.approx(-np.log(0.25))
    assert seg_loss(logs, torch.full((1, 1, 2), IGNORE)).item() == 0


@pytest.mark.parametrize(("kind", "push"), [("bce", 0.5), ("positive_only", 0.0)])
def test_only_the_negative_term_lowers_gates_of_absent_classes(kind, push):
    logits = torch.zeros(1, 2, requires_grad=True)
    cls_loss(logits, torch.tensor([[1.0, 0.0]]), kind).backward()
    assert logits.grad.tolist() == [[-0.5, push]]


# Splits and photos.


@pytest.mark.parametrize(
    ("split", "vocabulary", "seen", "unseen"),
    [
        ("voc", "voc20", 15, 5),
        ("coco_stuff", "cocostuff171", 156, 15),
        ("context", "context59", 49, 10),
        ("coco_mini", "cocoobject80", 65, 15),
    ],
)
def test_splits_fit_the_class_lists(split, vocabulary, seen, unseen):
    lines = BENCHMARKS[vocabulary].read_text(encoding="utf-8").splitlines()
    names = {line.split(":", 1)[1].split(",")[0] for line in lines}
    assert len(names) == SPLITS[split].classes == seen + unseen
    assert len(SPLITS[split].unseen) == len(set(SPLITS[split].unseen)) == unseen
    assert set(SPLITS[split].unseen) <= names


@pytest.mark.parametrize(
    ("written", "spoken"),
    [
        ("tvmonitor", "tv monitor"),
        ("wall-brick", "brick wall"),
        ("ceiling-other", "ceiling"),
        ("door-stuff", "door"),
        ("window-blind", "window blind"),
        ("traffic light", "traffic light"),
    ],
)
def test_names_are_worded_for_people(written, spoken):
    assert spoken_name(written) == spoken


@pytest.fixture
def photos(tmp_path):
    return open_photos(make_world(tmp_path / "data"), TOY, "train2017")


def test_photos_know_seen_from_unseen(photos):
    assert photos.seen == ("cat", "dog")
    assert photos.unseen == ("zebra",)
    left_out, marked = (photos.sample(0, unseen=value).labels for value in (IGNORE, UNLISTED))
    assert np.unique(left_out).tolist() == [IGNORE, 0, 1]
    assert marked[30, 10] == 0
    assert marked[30, 60] == 1
    assert marked[70, 10] == UNLISTED
    assert left_out[70, 10] == marked[0, 0] == marked[30, 95] == IGNORE


@pytest.mark.parametrize(
    ("classes", "said"),
    [
        ("0 background\n1 cat\n2 dog\n3 cow\n", "zebra among them; it names 3"),
        ("1 cat\n2 zebra\n", "3 classes, all unseen ones among them; it names 2"),
        ("cat\n", "lines like"),
        ("1 cat\n70000 dog\n", "lines like"),
    ],
)
def test_another_class_list_is_refused(tmp_path, classes, said):
    root = make_world(tmp_path)
    (root / "classes.txt").write_text(classes, encoding="utf-8")
    with pytest.raises(ValueError, match=said):
        open_photos(root, TOY, "train2017")


def test_a_folder_without_photos_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"images holds no photo and no folder val2017"):
        open_photos(make_world(tmp_path), TOY, "val2017")


def test_classes_of_a_step_hold_all_that_are_present():
    rng = np.random.default_rng(0)
    drawn = draw_classes([7, 3], 10, 5, rng)
    assert len(drawn) == len(set(drawn.tolist())) == 5
    assert {3, 7} <= set(drawn.tolist()) <= set(range(10))
    assert drawn.tolist() == sorted(drawn)
    assert draw_classes([0, 1, 2], 10, 2, rng).tolist() == [0, 1, 2]
    assert draw_classes([], 4, 64, rng).tolist() == [0, 1, 2, 3]


# Cached features.


@pytest.fixture(scope="module")
def model():
    return make_model()


@pytest.fixture(scope="module")
def vision(model):
    rgb = ((0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
    return VisionEncoder("mini", "tiny:0:float32", model.visual, *rgb, 16, torch.device("cpu"), torch.float32)


def test_crops_are_encoded_once(tmp_path, photos, vision, monkeypatch):
    first = cache_crops(vision, photos, CROPS, tmp_path / "cache")
    assert first.features.shape == (4, 24, 4, 4)
    assert first.labels.shape == (4, 8, 8)
    assert set(np.unique(first.labels)) <= {IGNORE, 0, 1}
    # Zebras, a quarter of each photo, are left out; the rim without a class is a twentieth.
    assert (first.labels == IGNORE).mean() > 0.12
    np.testing.assert_allclose(np.linalg.norm(np.float32(first.features), axis=1), 1, atol=2e-3)
    monkeypatch.setattr(mvp_seg_data, "encode_crop", None)  # calling it would fail
    again = cache_crops(vision, photos, CROPS, tmp_path / "cache")
    assert np.array_equal(first.features, again.features)
    assert np.array_equal(first.labels, again.labels)
    other = dataclasses.replace(CROPS, seed=1)
    with pytest.raises(TypeError):
        cache_crops(vision, photos, other, tmp_path / "cache")


def test_a_cut_write_leaves_no_cache(tmp_path, photos, vision, monkeypatch):
    done = []

    def encode(encoder, pixels):
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(pixels.shape)
        return np.zeros((24, 4, 4), np.float16)

    monkeypatch.setattr(mvp_seg_data, "encode_crop", encode)
    with pytest.raises(KeyboardInterrupt):
        cache_crops(vision, photos, CROPS, tmp_path / "cache")
    assert done == [(64, 64, 3)] * 2
    assert list((tmp_path / "cache").glob("*.npy")) == []


def test_crops_too_large_for_one_window_are_refused(vision, monkeypatch):
    monkeypatch.setattr(clip_vit, "MAX_WINDOW_SIDE", 3)
    with pytest.raises(ValueError, match="side must fit one window of the tower, got 64 pixels"):
        mvp_seg_data.encode_crop(vision, np.zeros((64, 64, 3), np.uint8))


# Learning.


def toy_crops(model, plan, names, seed=5):
    """Crops whose features are the prompts of hidden contexts: what there is to find."""
    hidden = PromptLearner(dataclasses.replace(plan, seed=seed, init_std=1.0, refine=True), text_tower(model))
    ids = context_prompts(clip_tokenizer(77), names, plan.length)
    with torch.no_grad():
        rows = hidden.prompts(text_tower(model), ids)[1]  # (S, 24)
    rng = np.random.default_rng(0)
    labels = rng.integers(0, len(names), (6, 4, 6)).astype(np.int16)
    labels[:, :2] = np.arange(6)[:, None, None] % len(names)
    labels[:, 2:] = labels[:, :2]
    noise = 0.1 * rng.standard_normal((6, 4, 6, 24))
    features = rows.numpy()[labels] + noise
    features /= np.linalg.norm(features, axis=-1, keepdims=True)
    return CachedCrops(features.transpose(0, 3, 1, 2).astype(np.float16), labels)


NAMES = ("cat", "dog", "zebra", "traffic light")


def test_contexts_learn_and_nothing_else_changes(tmp_path, model):
    plan = dataclasses.replace(PLAN, steps=60, warmup=5, batch=4, cls_weight=0.2)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    learner = PromptLearner(plan, text_tower(model))
    start, first = learner.stacked.detach().clone(), losses_of(plan, model, learner)
    train_contexts(learner, text_tower(model), NAMES, toy_crops(model, plan, NAMES), plan, tmp_path)
    last = losses_of(plan, model, learner)
    assert last["seg"] < 0.8 * first["seg"]
    assert last["cls"] < 0.5 * first["cls"]
    assert last["oc"] < first["oc"]
    assert (learner.stacked - start).abs().amax(dim=(1, 2)).min() > 1e-3  # every context moved
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())


def losses_of(plan, model, learner=None):
    learner = learner or PromptLearner(plan, text_tower(model))
    crops = toy_crops(model, plan, NAMES)
    prompts = learner.prompts(text_tower(model), context_prompts(clip_tokenizer(77), NAMES, plan.length))
    features = torch.from_numpy(np.float32(crops.features))
    return batch_losses(learner, prompts, features, torch.from_numpy(np.int64(crops.labels)), plan)


@pytest.mark.parametrize(
    ("switch", "losses", "parameters"),
    [
        ({}, {"seg", "cls", "oc"}, {"views", "whole", "log_tau1", "log_tau2"}),
        ({"oc_weight": 0.0}, {"seg", "cls"}, {"views", "whole", "log_tau1", "log_tau2"}),
        ({"refine": False}, {"seg", "oc"}, {"views", "log_tau1"}),
        ({"k": 1, "oc_weight": 0.0, "refine": False}, {"seg"}, {"views", "log_tau1"}),
        ({"k": 1}, {"seg", "cls"}, {"views", "whole", "log_tau1", "log_tau2"}),
        ({"cls_weight": 0.0}, {"seg", "oc"}, {"views", "whole", "log_tau1", "log_tau2"}),
    ],
)
def test_ablation_switches(model, switch, losses, parameters):
    plan = dataclasses.replace(PLAN, **switch)
    learner = PromptLearner(plan, text_tower(model))
    assert {name for name, _ in learner.named_parameters()} == parameters
    found = losses_of(plan, model, learner)
    assert set(found) == losses
    sum(found.values()).backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in learner.parameters())
    contexts = learner.contexts(TOWER, {})
    assert contexts.k == plan.k
    assert (contexts.whole is not None) == plan.refine
    assert contexts.tau1 == pytest.approx(20 / plan.k)


def test_weights_multiply_losses(model):
    plain, heavy = (
        losses_of(dataclasses.replace(PLAN, seg_weight=w, cls_weight=w, oc_weight=w), model)
        for w in (1.0, 3.0)
    )
    for name, loss in plain.items():
        torch.testing.assert_close(heavy[name], 3 * loss)


def test_noise_starts_apart_and_words_alone_would_not(model):
    tower = text_tower(model)
    noise = PromptLearner(dataclasses.replace(PLAN, k=3, length=16), tower)
    assert orthogonality(noise.views).item() < 1.5
    same = PromptLearner(dataclasses.replace(PLAN, k=3, length=4, init="words", init_std=0.0), tower)
    words = tower.token_embedding(clip_tokenizer(77)(["a photo of a"]))[0, 1:5]
    torch.testing.assert_close(same.views[0].detach(), words)
    assert not torch.equal(same.views[0], same.views[2])  # the three templates end in other words


def test_a_run_of_one_seed_is_one_run(tmp_path, model):
    plan = dataclasses.replace(PLAN, steps=4)
    found = []
    for folder in ("one", "two"):
        learner = PromptLearner(plan, text_tower(model))
        crops = toy_crops(model, plan, NAMES)
        train_contexts(learner, text_tower(model), NAMES, crops, plan, tmp_path / folder)
        found.append(learner.state_dict())
    assert all(torch.equal(value, found[1][name]) for name, value in found[0].items())


def test_a_stopped_run_goes_on_to_the_same_end(tmp_path, model, monkeypatch):
    plan = dataclasses.replace(PLAN, steps=6)
    monkeypatch.setattr(mvp_seg, "Schedule", lambda *a, **k: Schedule(*a, **{**k, "save_every": 2}))
    crops = toy_crops(model, plan, NAMES)

    def run(folder, stop_at=None):
        learner = PromptLearner(plan, text_tower(model))
        calls = []

        def losses(*arguments):
            if len(calls) == stop_at:
                raise KeyboardInterrupt
            calls.append(1)
            return batch_losses(*arguments)

        monkeypatch.setattr(mvp_seg, "batch_losses", losses)
        train_contexts(learner, text_tower(model), NAMES, crops, plan, tmp_path / folder)
        return learner.state_dict(), len(calls)

    straight, _ = run("straight")
    with pytest.raises(KeyboardInterrupt):
        run("cut", stop_at=5)
    resumed, steps = run("cut")
    assert steps == 2
    assert all(torch.equal(value, resumed[name]) for name, value in straight.items())


def test_a_whole_run_gives_a_file_for_its_tower(tmp_path, photos, vision, model):
    out = tmp_path / "out"
    path = train_mvp_seg(vision, model, TOWER, photos, PLAN, out, cache=tmp_path / "cache")
    assert path == out / "mvp_seg.safetensors"
    contexts = load_contexts(path, TOWER, k=2, width=32)
    assert contexts.training["seen"] == ["cat", "dog"]
    assert contexts.training["steps"] == 3
    with pytest.raises(CheckpointError, match="another tower"):
        load_contexts(path, "cd" * 32)
    changed = path.stat().st_mtime_ns
    assert train_mvp_seg(vision, model, TOWER, photos, PLAN, out, cache=tmp_path / "cache") == path
    assert path.stat().st_mtime_ns == changed
    assert len(list((tmp_path / "cache").iterdir())) == 2
    for plan, tower in ((dataclasses.replace(PLAN, k=1), TOWER), (PLAN, "cd" * 32)):
        with pytest.raises(FileExistsError, match="another recipe"):
            train_mvp_seg(vision, model, tower, photos, plan, out)


def test_a_run_freezes_the_model_it_is_given(tmp_path, photos, vision):
    free = make_model().requires_grad_(True)
    train_mvp_seg(vision, free, TOWER, photos, dataclasses.replace(PLAN, steps=1), tmp_path / "out")
    assert not any(parameter.requires_grad for parameter in free.parameters())
    assert all(parameter.grad is None for parameter in free.parameters())


# Recipes.


def test_recipe_survives_json():
    values = json.loads(json.dumps(dataclasses.asdict(PLAN)))
    assert mvp_seg_plan(values) == PLAN
    assert mvp_seg_plan({}) == MvpSegPlan()


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"views": 3}, "unknown settings: views"),
        ({"crops": {"size": 3}}, "unknown settings: size"),
        ({"k": 0}, "k must be at least 1, got 0"),
        ({"k": "3"}, "cannot be read"),
    ],
)
def test_bad_recipes_are_refused(values, said):
    with pytest.raises(ValueError, match=said):
        mvp_seg_plan(values)
