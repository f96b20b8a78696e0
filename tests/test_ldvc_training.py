"""LDVC and ZegCLIP learn: losses equal official code, splits and crops, runs that learn and resume."""

import dataclasses
import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from ldvc_toys import TOKENIZE, TOWER, make_model, make_text, make_vision
from safetensors.torch import load_file
from split_world import TOY, make_world
from zegclip_tensors import DATA, close, weights

from ovs_core.decoders.route_attention import RouteConfig
from ovs_core.decoders.semantic_decoder import (
    SemanticDecoder,
    SemanticDecoderConfig,
    init_decoder,
    start_at_text,
)
from ovs_core.encoders.clip_vit import tokens_and_taps
from ovs_core.encoders.text_tower import text_tower
from ovs_core.methods.ldvc.heads import IMAGENET_MEAN, load_prompted_head
from ovs_core.methods.ldvc.method import PromptedSegmenter, PromptedText, prompted_encoder
from ovs_core.methods.ldvc.official import decoder_state
from ovs_core.training import ldvc
from ovs_core.training.ldvc import (
    Learner,
    PromptedPlan,
    prompted_plan,
    step_losses,
    towers_of,
    train_prompted,
)
from ovs_core.training.ldvc_data import Batch, CropPlan, Crops
from ovs_core.training.ldvc_losses import mask_losses, pseudo_labels, weighted
from ovs_core.training.loop import Schedule, _rate
from ovs_core.training.processes import Processes
from ovs_core.training.split_photos import open_photos
from ovs_core.types import IGNORE, UNLISTED, Vocabulary, Window
from ovs_core.vocabulary import BENCHMARKS
from ovs_core.vocabulary.splits import SPLITS

CROPS = CropPlan(64, (64, 80), label_stride=4, per_photo=2)
PLAN = PromptedPlan(
    layers=2,
    heads=4,
    windows=2,
    k_top=2,
    visual_prompts=3,
    steps=3,
    warmup=1,
    batch=2,
    rate=2e-3,
    crops=CROPS,
)


# Losses.


@pytest.fixture(scope="module")
def reference():
    return load_file(DATA / "parity_zegclip_head.safetensors")


def reference_decoder(tensors):
    made = SemanticDecoder(SemanticDecoderConfig(64, "class", 3, 8, 256, route=None)).eval()
    made.load_state_dict(decoder_state(weights(tensors)))
    return made


def test_losses_and_gradients_equal_zegclips(reference):
    made = reference_decoder(reference)
    found = made(reference["in.visual"], reference["in.cls"], reference["in.text"][:5])
    logits = F.interpolate(found.scores, size=(32, 32), mode="bilinear", align_corners=False)
    labels = reference["in.gt"].long()
    labels = torch.where((labels < 0) | (labels == 255), IGNORE, labels)
    sums = mask_losses(logits, labels)
    losses = weighted(sums, sums.pairs)
    close(losses["focal"][None], reference["out.loss_loss_mask"])
    close(losses["dice"][None], reference["out.loss_loss_dice"])
    (losses["focal"] + losses["dice"]).backward()
    close(made.descriptor.linear.weight.grad, reference["out.grad_q_proj.weight"])
    bias = made.blocks[2].cross.q.bias.grad
    close(bias, reference["out.grad_decoder_1.layers.2.multihead_attn.q.bias"])


def test_pseudo_labels_equal_zegclips(reference):
    made = reference_decoder(reference)
    found = made(reference["in.visual"], reference["in.cls"], reference["in.text"])
    logits = F.interpolate(found.scores, size=(32, 32), mode="bilinear", align_corners=False)
    labels = reference["in.gt"].long()
    assert (labels == UNLISTED).any()
    guessed = pseudo_labels(logits, labels, torch.tensor([5, 6]), UNLISTED)
    assert torch.equal(guessed, reference["out.pseudo_label_gt"].long())


def test_losses_by_hand():
    # One picture of 1 x 2 pixels, logits 0: p = 1/2, BCE = log 2; class 0 at the left, nothing at the right.
    labels = torch.tensor([[[0, IGNORE]]])
    sums = mask_losses(torch.zeros(1, 2, 1, 2), labels)
    positive, negative = 0.25 * np.log(2) / 4, 0.75 * np.log(2) / 4
    assert sums.focal.item() == pytest.approx((positive + negative) / 2 + negative)
    assert sums.dice.item() == pytest.approx(1 - (2 * 0.5 + 1) / (1 + 1 + 1))  # of class 0 alone
    assert sums.pairs.item() == 1
    losses = weighted(sums, torch.tensor(4.0))
    assert losses["focal"].item() == pytest.approx(100 * sums.focal.item() / 4)


def test_pictures_without_a_class_still_push_down():
    logits = torch.zeros(2, 3, 4, 5, requires_grad=True)
    sums = mask_losses(logits, torch.full((2, 4, 5), IGNORE))
    assert (sums.pairs.item(), sums.dice.item()) == (0, 0)
    sum(weighted(sums, sums.pairs).values()).backward()
    assert (logits.grad > 0).all()


@pytest.mark.parametrize("queries", ["visual", "class"])
def test_a_decoder_that_starts_at_the_text_scores_as_clip_does(queries):
    # Channels of every vector sum to 0, so layer norms only change lengths.
    generator = torch.Generator().manual_seed(0)
    dense, text = torch.randn(2, 64, 5, 7, generator=generator), torch.randn(3, 64, generator=generator)
    dense, text = (F.normalize(one - one.mean(dim=1, keepdim=True), dim=1) for one in (dense, text))
    route = RouteConfig(2, 2) if queries == "visual" else None
    decoder = SemanticDecoder(SemanticDecoderConfig(64, queries, 3, 8, 128, route=route)).eval()
    init_decoder(decoder, generator)
    start_at_text(decoder, scale=20.0, cosine=0.3)
    whole = F.normalize(torch.randn(2, 64, generator=generator), dim=1)
    scores = decoder(dense, whole, text).scores
    expected = 20 * (torch.einsum("bdhw,sd->bshw", dense, text) - 0.3)
    torch.testing.assert_close(scores, expected, atol=2e-3, rtol=0)  # eps of the norms
    loss = decoder.train()(dense, whole, text).scores.square().mean()
    loss.backward()
    assert all(block.cross.q.weight.grad.abs().max() > 0 for block in decoder.blocks[-1:])


def test_only_attention_of_several_blocks_starts_at_the_text():
    for config in (
        SemanticDecoderConfig(64, layers=1),
        SemanticDecoderConfig(64, readout="dot"),
    ):
        with pytest.raises(ValueError, match="start at the text"):
            start_at_text(SemanticDecoder(config), 20.0, 0.3)


# Splits, photos and crops.


@pytest.mark.parametrize(
    ("split", "vocabulary"), [("voc", "voc20"), ("coco_stuff", "cocostuff171"), ("context", "context59")]
)
def test_splits_have_the_papers_names(split, vocabulary):
    lines = BENCHMARKS[vocabulary].read_text(encoding="utf-8").splitlines()
    names = [line.split(":", 1)[1].split(",")[0] for line in lines]
    assert len(names) == SPLITS[split].classes
    assert set(SPLITS[split].unseen) <= set(names)
    if split == "voc":
        assert (
            list(SPLITS[split].unseen) == names[-5:] == ["pottedplant", "sheep", "sofa", "train", "tvmonitor"]
        )


def test_materials_are_split_30_to_7():
    assert SPLITS["nyuv2"].classes - len(SPLITS["nyuv2"].unseen) == 30


def test_tables_with_counts_are_read_and_blocks_held_out(tmp_path):
    root = make_world(tmp_path, count=20, part="")
    lines = ["# id\tname\tphotos", "0\tbackground\t9", "1\tcat\t9", "2\tzebra\t9", "5\tdog\t9"]
    lines += ["7\totherfurniture\t3", "255\t(ignore)\t9"]
    (root / "classes.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    train = open_photos(root, TOY, "train2017")
    held = open_photos(root, TOY, "train2017", held_out=True)
    assert (train.seen, train.unseen) == (("cat", "dog"), ("zebra",))
    assert [path.stem for path in held.paths] == ["08", "09", "18", "19"]
    assert len(train.paths) == 16
    assert not {*train.paths} & {*held.paths}
    assert train.sample(0, unseen=UNLISTED).labels[30, 60] == 1


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        ("0 background\n1 cat\n2 dog\n3 cow\n", "zebra among them; it names 3"),
        ("1 cat\n2 zebra\n", "it names 2"),
        ("cat\n", "lines like"),
    ],
)
def test_other_class_lists_are_refused(tmp_path, classes, message):
    root = make_world(tmp_path)
    (root / "classes.txt").write_text(classes, encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        open_photos(root, TOY, "train2017")


@pytest.fixture
def photos(tmp_path):
    return open_photos(make_world(tmp_path / "data"), TOY, "train2017")


RGB = ((0.5,) * 3, (0.25,) * 3)


def test_kept_crops_are_made_once(tmp_path, photos):
    vision = make_vision()
    crops = Crops(vision, photos, CROPS, *RGB, tmp_path / "kept")
    assert len(crops) == 4
    batch = crops.batch([(3, 0), (0, 9)])
    assert batch.patches.shape == (2, 32, 4, 4)
    assert batch.labels.shape == (2, 16, 16)
    assert set(batch.labels.unique().tolist()) <= {IGNORE, UNLISTED, 0, 1}
    files = {path: path.stat().st_mtime_ns for path in (tmp_path / "kept").iterdir()}
    again = Crops(vision, photos, CROPS, *RGB, tmp_path / "kept").batch([(3, 1), (0, 2)])
    assert torch.equal(batch.patches, again.patches)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "kept").iterdir()} == files
    Crops(vision, photos, CROPS, IMAGENET_MEAN, RGB[1], tmp_path / "kept")
    assert len(list((tmp_path / "kept").iterdir())) == 4


def test_drawn_crops_depend_on_their_seed_alone(tmp_path, photos):
    crops = Crops(make_vision(), photos, dataclasses.replace(CROPS, per_photo=0), *RGB, tmp_path)
    both, alone = crops.batch([(0, 5), (1, 6)]), crops.batch([(1, 6)])
    torch.testing.assert_close(both.patches[1:], alone.patches)
    assert torch.equal(both.labels[1:], alone.labels)
    assert (crops.batch([(1, 7)]).patches - alone.patches).abs().max() > 0.1
    chosen = crops.choose(8, np.random.default_rng(0))
    assert sorted(number for number, _ in chosen) == [0, 1]


def test_crops_that_one_class_fills_are_drawn_again(tmp_path, photos):
    strict = dataclasses.replace(CROPS, per_photo=0, largest_class=0.6, label_stride=1, short_side=(128, 128))
    shares = []
    for plan in (strict, dataclasses.replace(strict, largest_class=1.0)):
        crops = Crops(make_vision(), photos, plan, *RGB, tmp_path)
        labels = [crops.batch([(0, seed)]).labels for seed in range(12)]
        known = [one[one >= 0] for one in labels]
        shares.append(np.mean([float(one.bincount().max() / len(one)) for one in known if len(one)]))
    assert shares[0] < shares[1] - 0.05


# Learning.


def learner_of(plan, model):
    return Learner(plan, model.visual, text_tower(model), TOKENIZE)


def test_language_prompts_start_at_zero_shot_clip():
    model = make_model()
    learner = learner_of(PLAN, model)
    ids = TOKENIZE(["a photo of a cat", "a photo of a dog"])
    found = learner.text(text_tower(model), ids)
    words = Vocabulary((("cat",), ("dog",)))
    plain = make_text(model).embed(words, ("a photo of a {}",)).embeddings
    torch.testing.assert_close(found, plain, atol=1e-6, rtol=0)
    found.sum().backward()
    assert learner.language_prompts.grad.abs().max() > 0


@pytest.mark.parametrize(
    ("changes", "learnt"),
    [
        (
            {},
            {
                "visual_prompts",
                "prompt_proj",
                "language_prompts",
                "head.extra_norm",
                "head.decoder.blocks.0.route",
            },
        ),
        ({"routed": False}, {"language_prompts"}),
        ({"language_prompts": False}, {"head.decoder.blocks.0.route"}),
        ({"deep": False}, {"language_prompts"}),
        ({"method": "zegclip"}, {"head.extra_norm"}),
        ({"aux_block": 1}, {"head.aux_norm"}),
    ],
)
def test_a_recipe_says_what_is_learnt(changes, learnt):
    model = make_model()
    learner = learner_of(dataclasses.replace(PLAN, **changes), model)
    names = {name for name, _ in learner.named_parameters()}
    found = {part for part in learnt if any(name.startswith(part) for name in names)}
    assert found == learnt
    zegclip = changes.get("method") == "zegclip"
    assert any("route" in name for name in names) == (not zegclip and changes.get("routed", True))
    assert ("language_prompts" in names) == (not zegclip and changes.get("language_prompts", True))
    assert any("extra_norm" in name for name in names) == changes.get("deep", True)


def test_dropout_of_prompts_differs_per_picture_in_training_alone():
    learner = learner_of(PLAN, make_model()).train()
    tokens = learner.prompts(2).tokens[0]
    assert tokens.shape == (2, 3, 32)
    assert not torch.equal(tokens[0], tokens[1])
    assert torch.equal(learner.eval().prompts(2).tokens[1][0], learner.prompts().tokens[1])


def answer_loss(trained, model, batch):
    """Losses of a head's answers about crops, asked as an app asks."""
    names = Vocabulary((("cat",), ("dog",)))
    vision = prompted_encoder(make_vision(model.visual), trained, "ef" * 32)
    segmenter = PromptedSegmenter(trained, model.visual)
    rows = PromptedText(make_text(model), trained).embed(names).embeddings
    taps = tokens_and_taps(
        vision.visual,
        batch.patches,
        mode=vision.position_mode,
        prompts=vision.prompts,
        taps=vision.taps,
        double_class_token=vision.double_class_token,
    ).taps
    windows = [Window(0, 0, (4, 4), one, (one,)) for one in taps[0]]
    scores = torch.cat([segmenter.decode(window, rows, "routed").scores for window in windows])
    logits = F.interpolate(scores, size=batch.labels.shape[1:], mode="bilinear", align_corners=False)
    sums = mask_losses(logits, batch.labels)
    return sum(weighted(sums, sums.pairs).values()).item()


@pytest.mark.parametrize("method", ["ldvc", "zegclip"])
def test_heads_learn_and_towers_stay(tmp_path, photos, method):
    model = make_model()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    plan = dataclasses.replace(PLAN, method=method, steps=30, warmup=3, batch=4, rate=6e-3)
    towers = towers_of(make_vision(model.visual), model, TOWER)
    path = train_prompted(towers, photos, plan, tmp_path / "out")
    assert path.name == f"{method}.safetensors"
    lines = [json.loads(line) for line in (tmp_path / "out" / "log.jsonl").read_text().splitlines()]
    assert set(lines[-1]) >= {"focal", "dice", "step"}
    trained = load_prompted_head(path, TOWER, method=method)
    assert trained.seen == {"cat", "dog"}
    assert trained.training["photos"] == 2
    assert (trained.language_prompts is not None) == (method == "ldvc")
    crops = Crops(towers.vision, photos, CROPS, towers.vision.mean, towers.vision.std, tmp_path / "out")
    batch = crops.batch([(number, 0) for number in range(4)])
    fresh = learner_of(plan, model).eval().trained(TOWER, frozenset(), {})
    with torch.no_grad():
        assert answer_loss(trained, model, batch) < 0.8 * answer_loss(fresh, model, batch)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_self_training_brings_unseen_names_in_half_way(tmp_path, photos, monkeypatch):
    entered = []
    original = ldvc.step_losses

    def watch(learner, decoded, batch, unseen, processes):
        entered.append((decoded.scores.shape[1], unseen))
        return original(learner, decoded, batch, unseen, processes)

    monkeypatch.setattr(ldvc, "step_losses", watch)
    model = make_model()
    plan = dataclasses.replace(PLAN, steps=4, self_training=True)
    path = train_prompted(towers_of(make_vision(model.visual), model, TOWER), photos, plan, tmp_path / "out")
    assert entered == [(2, 0), (2, 0), (3, 1), (3, 1)]
    assert load_prompted_head(path, TOWER).training["self_training"] is True


def test_a_stopped_run_ends_as_one_that_was_not(tmp_path, photos, monkeypatch):
    model = make_model()
    towers = towers_of(make_vision(model.visual), model, TOWER)
    plan = dataclasses.replace(PLAN, steps=6)
    whole = train_prompted(towers, photos, plan, tmp_path / "whole")
    monkeypatch.setattr(ldvc, "Schedule", lambda *args, **kw: Schedule(*args, **kw, save_every=3))
    original = ldvc.step_losses

    calls = iter(range(99))

    def stop(*arguments):
        if next(calls) == 4:
            raise KeyboardInterrupt
        return original(*arguments)

    monkeypatch.setattr(ldvc, "step_losses", stop)
    with pytest.raises(KeyboardInterrupt):
        train_prompted(towers, photos, plan, tmp_path / "cut")
    monkeypatch.setattr(ldvc, "step_losses", original)
    cut = train_prompted(towers, photos, plan, tmp_path / "cut")
    one, other = load_file(whole), load_file(cut)
    assert all(torch.equal(value, other[name]) for name, value in one.items())
    with pytest.raises(FileExistsError, match="another recipe"):
        train_prompted(towers, photos, dataclasses.replace(plan, seed=1), tmp_path / "cut")


def test_processes_share_a_batch_exactly():
    model = make_model()
    learner = learner_of(dataclasses.replace(PLAN, prompt_dropout=0.0), model).eval()
    patches = torch.randn(3, 32, 4, 4, generator=torch.Generator().manual_seed(0))
    labels = torch.randint(-2, 2, (3, 8, 8), generator=torch.Generator().manual_seed(1))
    labels[2] = IGNORE  # a process whose pictures have no class still pushes down
    ids = TOKENIZE(["a photo of a cat", "a photo of a dog"])

    def losses_of(part, processes):
        batch = Batch(patches[part], labels[part])
        decoded = learner.head(
            learner.features(model.visual, batch.patches), learner.text(text_tower(model), ids)
        )
        return step_losses(learner, decoded, batch, 0, processes)

    whole = losses_of([0, 1, 2], Processes())
    pairs = mask_losses(torch.zeros(3, 2, 8, 8), labels).pairs.float()
    parts = [losses_of(part, Processes(0, 2, lambda _: pairs)) for part in ([0, 1], [2])]
    for name, value in whole.items():
        torch.testing.assert_close(parts[0][name] + parts[1][name], value)


def test_the_rate_falls_to_its_floor_by_a_power():
    plan = Schedule(110, 10, power=0.9, floor=0.005)
    assert _rate(9, plan) == 1
    assert _rate(60, plan) == pytest.approx(0.005 + 0.995 * 0.5**0.9)
    assert _rate(110, plan) == pytest.approx(0.005)
    assert _rate(110, Schedule(110, 10)) == pytest.approx(0)


# Recipes.


def test_recipes_are_read_and_wrong_ones_refused():
    plan = prompted_plan({"steps": 5, "crops": {"side": 64, "short_side": [64, 80]}}, "zegclip")
    assert (plan.method, plan.steps, plan.crops.short_side, plan.route) == ("zegclip", 5, (64, 80), None)
    for values, message in (
        ({"step": 5}, "unknown settings: step"),
        ({"crops": {"sides": 5}}, "unknown settings: sides"),
        ({"method": "zegclip"}, "is for zegclip, not for ldvc"),
        ({"steps": 0}, "steps must be at least 1"),
        ({"k_top": 65}, r"k_top must lie in 1..64, the number of windows, got 65"),
        ({"template": "a photo"}, "needs a"),
        ({"crops": {"label_stride": 0}}, "label_stride must lie in"),
    ):
        with pytest.raises(ValueError, match=message):
            prompted_plan(values, "ldvc")


def test_imagenets_colours_are_kept_with_the_head():
    plan = dataclasses.replace(PLAN, colours="imagenet")
    model = make_model()
    trained = learner_of(plan, model).trained(TOWER, frozenset({"cat"}), {})
    assert trained.frame.mean == IMAGENET_MEAN
    assert learner_of(PLAN, model).trained(TOWER, frozenset(), {}).frame.mean is None
