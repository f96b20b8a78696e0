"""GKC's recipes from end to end at toy size: lessons, seconds of training, resuming, files that answer."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from instance_toys import SMALL_GKC_PHOTOS, make_instances, toy_resnet, toy_tower

from ovs_core.checkpoints import CheckpointError
from ovs_core.cli import train
from ovs_core.decoders.mask_decoder import MaskDecoderConfig
from ovs_core.decoders.pixel_decoder import PixelDecoderConfig
from ovs_core.encoders.clip_resnet import attention_pool, pyramid
from ovs_core.methods.gkc.head_file import load_gkc_head
from ovs_core.methods.gkc.student import GkcHead, GkcHeadConfig, class_logits
from ovs_core.methods.gkc.teacher import pooled_regions, teach_resnet
from ovs_core.methods.mask_classification.head_file import load_mask_head
from ovs_core.training.data import Sample
from ovs_core.training.fc_clip import MaskSources, train_fc_clip
from ovs_core.training.gkc import (
    GkcPlan,
    StudentModel,
    dense_of_crops,
    gkc_plan,
    head_config,
    region_embeddings,
    student_channels,
    summed_by_kind,
    take_decoders,
    train_gkc,
    unit_cells,
)
from ovs_core.training.gkc_lessons import (
    Words,
    caption_nouns,
    known_nouns,
    learn_words,
    make_lesson,
    read_captions,
    some_nouns,
    with_shared_length,
)
from ovs_core.training.gkc_model import GkcLossPlan, QueryOutputs, batch_losses, own_mask_distillation
from ovs_core.training.gkc_photos import (
    GkcPhotoPlan,
    gkc_photo_plan,
    share_statistics,
    target_of,
    train_gkc_photos,
)
from ovs_core.training.loop import Schedule, _rate, fit
from ovs_core.training.losses import Target, draw_from
from ovs_core.training.mask_plans import FcClipPlan
from ovs_core.training.plans import plan_from_json
from ovs_core.training.processes import SINGLE_PROCESS, Processes
from ovs_core.types import IGNORE, UNLISTED
from ovs_core.vocabulary import TEMPLATES

CPU = torch.device("cpu")
TABLE = {"dog": ("dog", "puppy", "hound"), "person": ("person", "human")}


def unit(*values):
    return F.normalize(torch.tensor(values), dim=0)


@pytest.fixture
def words():
    rows = {
        "cat": unit(1.0, 0, 0, 0),
        "dog": unit(0, 1.0, 0, 0),
        "puppy": unit(0, 1.0, 1.0, 0),
        "hound": unit(0, 1.0, 0, 1.0),
    }
    synonyms = (("cat",), ("dog", "puppy", "hound"))
    return Words(("cat", "dog"), synonyms, rows, rows, torch.tensor(100.0).log())


def targets(*classes):
    return [Target(torch.tensor(own), torch.zeros(len(own), 4, 6)) for own in classes]


def draws(pictures):
    return np.random.default_rng(0).spawn(pictures)


def test_a_pictures_words_do_not_depend_on_which_others_are_here(words):
    """Two processes that share four pictures draw what one draws for them."""
    suits = unit(0, 1.0, 0.5, 0.5)  # puppy and hound alike
    found, regions = targets([1, 1], [1], [], [1, 1, 1]), [suits.expand(n, 4) for n in (2, 1, 0, 3)]
    whole = make_lesson(words, found, regions, "weighted", draws(4))
    for rank in range(2):
        part = make_lesson(words, found[rank::2], regions[rank::2], "weighted", draws(4)[rank::2])
        for mine, all_of_it in zip(part.words, whole.words[rank::2], strict=True):
            assert torch.equal(mine, all_of_it)
    said = torch.cat(list(whole.words))
    assert len(said.unique(dim=0)) > 1  # both words are said


def test_class_lists_are_as_long_as_the_longest_of_all_processes(words):
    lesson = make_lesson(words, targets([1], [0]), [torch.ones(1, 4)] * 2, "plain", draws(2))
    longer = with_shared_length(lesson, Processes(0, 2, lambda lengths: lengths + torch.tensor([0.0, 5.0])))
    assert torch.equal(longer.lists[:, :2], lesson.lists)
    assert longer.lists[:, 2:].shape == (2, 3, 4)
    assert not longer.lists[:, 2:].any()
    assert torch.equal(with_shared_length(lesson, SINGLE_PROCESS).lists, lesson.lists)


def test_running_statistics_are_the_mean_over_processes():
    tower = torch.nn.BatchNorm2d(2)
    tower.running_mean += torch.tensor([2.0, 4.0])
    share_statistics(tower, Processes(0, 2, lambda mine: mine + 6))
    assert tower.running_mean.tolist() == [4, 5]
    assert tower.running_var.tolist() == [3.5, 3.5]
    assert tower.num_batches_tracked == 0


def test_lesson_says_what_suits_each_region(words):
    """Regions that look like a puppy and like a hound; the second photo's list is the shorter one."""
    regions = [torch.stack([unit(0, 1.0, 1.1, 0), unit(0, 1.0, 0, 1.1)]), unit(1.0, 0, 0, 0)[None]]
    lesson = make_lesson(words, targets([1, 1], [0]), regions, "thresholded", draws(2))
    assert [own.tolist() for own in lesson.labels] == [[1, 2], [0]]
    torch.testing.assert_close(
        lesson.lists[0], torch.stack([words.rows[w] for w in ("cat", "puppy", "hound")])
    )
    torch.testing.assert_close(
        lesson.lists[1], torch.stack([words.rows["cat"], words.rows["dog"], torch.zeros(4)])
    )
    torch.testing.assert_close(lesson.words[0], lesson.lists[0][1:])
    torch.testing.assert_close(lesson.plain, torch.stack([words.rows["cat"], words.rows["dog"]]))


def test_without_diversification_lists_are_plain(words):
    lesson = make_lesson(words, targets([1, 0]), [torch.ones(2, 4)], "plain", draws(1), every_name=True)
    torch.testing.assert_close(lesson.lists[0], torch.stack([words.rows["cat"], words.rows["dog"]]))
    assert lesson.counts == (1, 3)
    assert lesson.plain.shape == (4, 4)


def test_masks_that_nobody_names_have_no_word(words):
    lesson = make_lesson(words, targets([UNLISTED, 1]), [torch.ones(2, 4)], "plain", draws(1))
    assert lesson.labels[0].tolist() == [UNLISTED, 1]
    assert lesson.words[0][0].abs().sum() == 0


def test_captions_give_rows_of_their_nouns(words):
    regions = [torch.zeros(0, 4), torch.zeros(0, 4)]
    lesson = make_lesson(words, targets([], []), regions, "plain", draws(2), captions=[("dog", "cat"), ()])
    assert [len(rows) for rows in lesson.captions] == [2, 0]
    torch.testing.assert_close(lesson.captions[0][0], words.rows["dog"])


@pytest.mark.parametrize(
    ("caption", "nouns"),
    [
        ("Two dogs and a hot dog stand.", ("dog", "hot dog")),
        ("The PUPPY, the puppies", ("puppy",)),
        ("nothing at all", ()),
        ("", ()),
    ],
)
def test_nouns_of_a_caption_are_known_words(caption, nouns):
    table = {"dog": ("dog", "puppy"), "hot dog": ("hot dog", "wiener")}
    assert caption_nouns(caption, known_nouns(table)) == nouns


def test_some_nouns_are_left_out_and_five_stay():
    rng = np.random.default_rng(0)
    lengths = [len(some_nouns([f"noun {i}" for i in range(4)], rng)) for _ in range(500)]
    assert np.mean(lengths) == pytest.approx(3, abs=0.15)
    assert max(len(some_nouns([f"noun {i}" for i in range(40)], rng)) for _ in range(20)) == 5


def test_regions_are_pooled_softly():
    dense = torch.arange(12.0).reshape(2, 2, 3)
    masks = torch.zeros(2, 4, 6)
    masks[0, :2, :3] = 1  # one cell and half of the next one
    found = pooled_regions(dense, masks)
    torch.testing.assert_close(found[0], torch.tensor([(0 + 0.5 * 1) / 1.5, (6 + 0.5 * 7) / 1.5]))
    assert found[1].tolist() == [0, 0]


# Training on the embedded tower.

SMALL = {
    "width": 64,
    "queries": 8,
    "pixel_layers": 1,
    "mask_layers": 2,
    "feedforward": 16,
    "class_width": 40,
    "hold_out": ["zebra"],
    "steps": 3,
    "batch": 2,
    "losses": {"points": 16, "grounding": 0.0},
    "crops": {"count": 4, "side": 64, "short_side": [64, 80], "shares": [["coco", 1.0]], "pastes": 0},
}


@pytest.fixture(scope="module")
def coco(tmp_path_factory):
    return make_instances(tmp_path_factory.mktemp("coco"))


def test_embedded_recipe_ends_in_a_file_for_its_tower(coco, tmp_path):
    tower = toy_tower()
    path = train_gkc(tower, MaskSources(coco), gkc_plan(SMALL), tmp_path / "run")
    found = load_gkc_head(path, tower.sha256)
    assert {"dog", "puppy", "person"} <= found.seen
    assert "zebra" not in found.seen
    assert found.tuned == {}
    assert found.head.config.reads_dense
    assert found.head.class_embed.weight.shape == (40, 64)
    assert found.head.embed_proj.weight.shape == (tower.visual.proj.shape[1], 40)
    lines = [json.loads(line) for line in (tmp_path / "run" / "gkc" / "log.jsonl").read_text().splitlines()]
    assert {"loss_syn", "loss_mask", "loss_dice", "loss_kd", "loss_text_kd"} <= set(lines[-1])
    with pytest.raises(CheckpointError, match="another tower"):
        load_gkc_head(path, "c" * 64)
    with pytest.raises(FileExistsError, match="another recipe"):
        train_gkc(tower, MaskSources(coco), gkc_plan({**SMALL, "steps": 4}), tmp_path / "run")


def test_it_may_start_from_the_decoders_of_a_head_that_proposes_masks(coco, tmp_path):
    tower = toy_tower()
    sizes = {name: value for name, value in SMALL.items() if name not in ("losses", "class_width")}
    plan = plan_from_json(FcClipPlan(), {**sizes, "points": 16})
    start = train_fc_clip(tower, MaskSources(coco), plan, tmp_path / "fc_clip")
    given = load_mask_head(start, tower.sha256).head.state_dict()
    joint = tower.visual.proj.shape[1]
    head = GkcHead(head_config(gkc_plan(SMALL), student_channels(tower.visual), joint))
    before = {name: value.clone() for name, value in head.state_dict().items()}
    take_decoders(head, start, tower.sha256)
    for name, value in head.state_dict().items():
        if not name.startswith(("pixel_decoder.", "mask_decoder.")):
            assert torch.equal(value, before[name]), name
            continue
        more = value[:, given[name].shape[1] :] if value.ndim == 4 else value[:0]
        assert torch.equal(value[:, : given[name].shape[1]] if value.ndim == 4 else value, given[name]), name
        assert not more.any(), name  # what FC-CLIP does not read: the dense map
    path = train_gkc(tower, MaskSources(coco), gkc_plan(SMALL), tmp_path / "run", start=start)
    assert load_gkc_head(path, tower.sha256).seen
    with pytest.raises(FileExistsError, match="another recipe"):  # the start is part of it
        train_gkc(tower, MaskSources(coco), gkc_plan(SMALL), tmp_path / "run")
    other = GkcHeadConfig(PixelDecoderConfig((8, 8, 8, 8), 64, 16, 1), head.config.masks)
    with pytest.raises(CheckpointError):
        take_decoders(GkcHead(other), start, tower.sha256)


def test_plain_recipe_has_neither_teacher_nor_synonyms(coco, tmp_path):
    losses = {"points": 16, "grounding": 0, "distillation": 0, "structure": 0, "sampling": "plain"}
    tower = toy_tower()
    path = train_gkc(tower, MaskSources(coco), gkc_plan({**SMALL, "losses": losses}), tmp_path / "run")
    assert load_gkc_head(path, None).seen == {"dog", "person"}
    line = json.loads((tmp_path / "run" / "gkc" / "log.jsonl").read_text().splitlines()[-1])
    assert not [name for name in line if "kd" in name]


def test_teacher_of_the_embedded_tower_is_its_own_dense_map():
    tower = toy_tower()
    channels = tower.visual.conv1.mix.out_channels
    maps = torch.randn(1, channels + 5, 4, 6, generator=torch.Generator().manual_seed(0))
    whole = [Target(torch.tensor([0]), torch.ones(1, 64, 96))]
    dense, same = (dense_of_crops(tower.visual, one) for one in (maps, maps[:, :channels]))
    [region] = region_embeddings(tower.visual, dense, whole)
    [again] = region_embeddings(tower.visual, same, whole)
    cells = unit_cells(tower.visual, dense)
    assert cells.shape == (1, region.shape[1], 4, 6)
    torch.testing.assert_close(cells.norm(dim=1), torch.ones(1, 4, 6))
    assert region.shape[0] == 1
    torch.testing.assert_close(region, again)  # what follows the patches is not looked at


def test_distillation_of_own_masks_by_hand():
    # Two masks on 1 x 2 cells: the first covers the left cell, the second none. Only the first is taught.
    masks = torch.tensor([[[[9.0, -9.0]], [[-9.0, -9.0]]]])  # (1, 2, 1, 2)
    dense = torch.tensor([[[[1.0, 0.0]], [[0.0, 1.0]]]])  # left cell (1, 0), right cell (0, 1)
    embedded = torch.tensor([[[0.0, 2.0], [5.0, 5.0]]])
    loss = own_mask_distillation(QueryOutputs(embedded, embedded, masks), dense, GkcLossPlan(own_masks=10.0))
    assert loss.value.item() == pytest.approx(10 * 2.0)  # |(0, 1) - (1, 0)|^2 = 2
    assert loss.weight.item() == 1
    nowhere = own_mask_distillation(
        QueryOutputs(embedded, embedded, masks - 99), dense, GkcLossPlan(own_masks=1.0)
    )
    assert (nowhere.value.item(), nowhere.weight.item()) == (0, 0)


def test_recipes_refuse_unknown_settings():
    with pytest.raises(ValueError, match="unknown settings: speed"):
        gkc_plan({"speed": 3})
    with pytest.raises(ValueError, match="unknown settings: grondinf"):
        gkc_plan({"losses": {"grondinf": 1}})
    with pytest.raises(ValueError, match="crops"):
        gkc_photo_plan({"regions": "boxes"})
    assert gkc_plan({"losses": {"sampling": "weighted"}}).losses == dataclasses.replace(
        GkcPlan().losses, sampling="weighted"
    )


def test_summed_by_kind():
    losses = {
        "loss_kd": torch.tensor(1.0),
        "loss_kd_0": torch.tensor(2.0),
        "loss_text_kd_11": torch.tensor(4.0),
    }
    assert {name: float(loss) for name, loss in summed_by_kind(losses).items()} == {
        "loss_kd": 3,
        "loss_text_kd": 4,
    }


# The official recipe on a tiny ResNet.


@pytest.fixture(scope="module")
def resnet():
    return toy_resnet()


@pytest.mark.parametrize("regions", ["crops", "places"])
def test_official_recipe_tunes_a_copy_of_the_tower(resnet, coco, tmp_path, regions):
    before = {name: value.clone() for name, value in resnet.visual.state_dict().items()}
    plan = gkc_photo_plan({**SMALL_GKC_PHOTOS, "regions": regions})
    path = train_gkc_photos(resnet, coco, plan, tmp_path / "run")
    found = load_gkc_head(path, "d" * 64)
    for name, value in resnet.visual.state_dict().items():
        torch.testing.assert_close(value, before[name], atol=0, rtol=0)
    assert not any(name.startswith("attnpool.") for name in found.tuned)
    assert not torch.allclose(found.tuned["bn1.running_mean"], before["bn1.running_mean"].half().float())
    line = json.loads((tmp_path / "run" / "gkc" / "log.jsonl").read_text().splitlines()[-1])
    assert "loss_grounding" in line


def test_defaults_are_the_papers():
    plan = GkcPhotoPlan()
    assert (plan.batch, plan.steps, plan.rate, plan.tower_rate) == (112, 50_000, 3e-4, 3e-5)
    losses = plan.losses
    assert (losses.masks, losses.diversified, losses.grounding, losses.distillation) == (5, 2, 2, 2)
    schedule = Schedule(plan.steps, plan.warmup, milestones=plan.milestones)
    rates = [_rate(step, schedule) for step in (0, 9, 39_999, 40_000, 45_000)]
    assert rates == pytest.approx([0.1, 1, 1, 0.1, 0.01])


def test_crops_of_a_photo_become_targets():
    labels = np.full((8, 8), UNLISTED, np.int16)
    labels[:4], labels[4:6], labels[7] = 0, 1, IGNORE
    labels[6, 0] = 2  # too small to count
    sample = Sample(np.zeros((8, 8, 3), np.uint8), labels, (("dog",), (), ("dog",)))
    target = target_of(sample, {"dog": 5})
    assert target.classes.tolist() == [5, UNLISTED]
    assert target.masks.sum(dim=(1, 2)).tolist() == [32, 16]
    assert target.unclear.sum() == 8


def test_teacher_looks_at_each_region_alone(resnet):
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    masks = torch.zeros(2, 64, 64, dtype=torch.bool)
    masks[0, :32], masks[1, 32:] = True, True
    first = teach_resnet(resnet.visual, pixels, masks, "crops", 64)
    changed = pixels.copy()
    changed[32:] = 0
    second = teach_resnet(resnet.visual, changed, masks, "crops", 64)
    torch.testing.assert_close(first[0], second[0], atol=1e-5, rtol=1e-4)
    assert not torch.allclose(first[1], second[1])
    assert teach_resnet(resnet.visual, pixels, masks[:0], "crops").shape == (0, 32)
    with torch.no_grad():
        assert attention_pool(resnet.visual, pyramid(resnet.visual, torch.zeros(1, 3, 64, 96))[-1]).shape == (
            1,
            7,
            32,
        )


# It learns: synonyms of seen words, from blocks of colour.


def colour_world(count, rng):
    """Pyramids of blocks: left and right half of a picture each show one of three colours."""
    shades = torch.eye(3)
    maps, found = [], []
    for _ in range(count):
        left, right = rng.choice(3, size=2, replace=False)
        picture = torch.zeros(3, 64, 64)
        picture[:, :, :32], picture[:, :, 32:] = shades[left][:, None, None], shades[right][:, None, None]
        masks = torch.zeros(2, 64, 64)
        masks[0, :, :32], masks[1, :, 32:] = 1, 1
        maps.append([F.avg_pool2d(picture[None], stride) for stride in (4, 8, 16, 32)])
        found.append(Target(torch.tensor([left, right]), masks))
    return [torch.cat(levels) for levels in zip(*maps, strict=True)], found


def synonym_accuracy(sampling, tmp_path):
    """Part of regions that the synonym names right, after training that said names or synonyms too."""
    generator = torch.Generator().manual_seed(1)
    names = (("red", "scarlet"), ("green", "olive"), ("blue", "navy"))
    rows = {
        word: F.normalize(torch.randn(16, generator=generator), dim=0) for group in names for word in group
    }
    words = Words(tuple(group[0] for group in names), names, rows, rows, torch.tensor(0.0))
    torch.manual_seed(0)
    config = GkcHeadConfig(PixelDecoderConfig((3, 3, 3, 3), 64, 32, 1), MaskDecoderConfig(16, 64, 4, 32, 1))
    model = StudentModel(config)
    plan = GkcLossPlan(
        points=64, plain=0.0, grounding=0.0, distillation=0.0, structure=0.0, sampling=sampling
    )

    def step_loss(step, rng):
        maps, found = colour_world(4, rng)
        # A region suits both words of its class equally.
        regions = [torch.stack([sum(rows[w] for w in names[k]) for k in one.classes]) for one in found]
        lesson = make_lesson(words, found, regions, sampling, rng.spawn(len(found)))
        losses = batch_losses(model.head, model.projections, maps, lesson, plan, draw_from(None, CPU))
        return {name: loss.value for name, loss in losses.items()}

    fit(model, [(model, 3e-3)], step_loss, Schedule(60, 5, log_every=1000), tmp_path / sampling)
    maps, found = colour_world(20, np.random.default_rng(99))
    with torch.no_grad():
        prediction = model.head.propose(maps).decoded.predictions[-1]
        synonyms = model.head.with_void(torch.stack([rows[group[1]] for group in names]))
        logits = class_logits(model.head.embeddings(prediction), synonyms, model.head.logit_scale, [1, 1, 1])
    right = 0
    for own, masks, target in zip(logits, prediction.masks, found, strict=True):
        small = F.adaptive_avg_pool2d(target.masks[None], masks.shape[1:])[0]
        overlap = (masks.sigmoid()[:, None] * small[None]).sum(dim=(2, 3))  # (N, 2)
        best = overlap.argmax(dim=0)
        right += int((own[best, :3].argmax(dim=1) == target.classes).sum())
    return right / (2 * len(found))


def test_diversification_teaches_synonyms_that_plain_names_do_not(tmp_path):
    with_synonyms = synonym_accuracy("weighted", tmp_path)
    plain = synonym_accuracy("plain", tmp_path)
    assert with_synonyms >= 0.8
    assert with_synonyms > plain + 0.2


def test_words_are_embedded_once_in_both_prompts(resnet):
    words = learn_words(("dog", "tree-merged"), TABLE, resnet.text, TEMPLATES["name"], torch.tensor(0.0))
    assert words.synonyms == (("dog", "puppy", "hound"), ("tree",))
    assert set(words.rows) == {"dog", "puppy", "hound", "tree"}
    assert not torch.allclose(words.rows["dog"], words.region_rows["dog"])
    torch.testing.assert_close(words.plain.norm(dim=1), torch.ones(2))


def test_captions_of_a_photo_are_read(coco):
    assert read_captions(coco / "captions.json") == {7: ("A dog and a person.",), 9: ("Nothing",)}


# The terminal.


def test_official_config_is_the_recipes_defaults():
    path = Path(__file__).resolve().parents[1] / "recipes" / "gkc_rn50.json"
    values = json.loads(path.read_text(encoding="utf-8"))
    assert values.pop("encoder") == "rn50_openai"
    assert gkc_photo_plan(values) == GkcPhotoPlan()


@pytest.mark.parametrize(
    ("recipe", "said"),
    [
        ({"stepps": 1}, "unknown settings: stepps"),
        ({"encoder": "rn50_openai", "regions": "boxes"}, "regions must be"),
        ({"encoder": "nobody"}, "encoder must be one of"),
    ],
)
def test_the_command_refuses_in_one_line(tmp_path, capsys, recipe, said):
    config = tmp_path / "recipe.json"
    config.write_text(json.dumps(recipe), encoding="utf-8")
    arguments = ["gkc", f"--data=coco={tmp_path}", "--config", str(config), "--out", str(tmp_path / "out")]
    assert train.main(arguments) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
