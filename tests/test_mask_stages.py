"""Training mask heads on the embedded tower: photos by object, crops, both stages as a user starts them."""

import dataclasses
import json
from types import MappingProxyType

import numpy as np
import pytest
import torch
from instance_toys import SHA, make_instances, toy_tower
from mask_recipes import FC_CLIP, TUNING
from training_toys import make_camvid, make_pets

from ovs_core.checkpoints import CheckpointError, read_state
from ovs_core.cli import train
from ovs_core.encoders.loading import LoadedModel
from ovs_core.encoders.mini import build_mini
from ovs_core.encoders.towers import EncoderSpec
from ovs_core.methods.mask_classification.head_file import load_mask_head
from ovs_core.training import mask_tuning
from ovs_core.training.data import CamVid, Pets, Sample
from ovs_core.training.fc_clip import MaskSources, _rays, train_fc_clip
from ovs_core.training.losses import Target, class_loss, on_unclear_ground
from ovs_core.training.mask_crops import MOST_MASKS, NO_MASK, NOTHING, UNCLEAR, kept_labels
from ovs_core.training.mask_photos import CocoInstances, camvid_sample, paste, pet_sample
from ovs_core.training.mask_plans import FcClipPlan, MaskCropPlan, TuningPlan
from ovs_core.training.mask_tuning import train_maft_plus
from ovs_core.training.matcher import MatchWeights, match
from ovs_core.training.plans import plan_from_json
from ovs_core.types import IGNORE, UNLISTED


@pytest.fixture
def coco(tmp_path):
    return make_instances(tmp_path / "coco")


def test_objects_in_front_and_what_is_not_known(coco):
    photos = CocoInstances(coco, "train2017", frozenset({"zebra"}))
    assert photos.seen == ("person", "dog")
    front = photos.read(0)
    assert front.groups == (("person",), ("dog",))
    assert front.labels[5, 5] == 0  # the person, as the larger one, behind
    assert front.labels[20, 20] == 1
    assert front.labels[63, 95] == UNLISTED
    hidden = photos.read(1)
    assert hidden.groups == ()
    assert (hidden.labels[:, :2] == IGNORE).all()  # the crowd
    assert hidden.labels[20, 50] == IGNORE  # the zebra
    assert hidden.labels[20, 20] == UNLISTED
    assert (photos.read(2).labels == UNLISTED).all()


def test_nothing_hidden_is_everything_seen(coco):
    assert CocoInstances(coco, "train2017").read(1).groups == (("zebra",),)


def test_unknown_classes_and_empty_folders_are_named(coco):
    with pytest.raises(ValueError, match="no class called yak"):
        CocoInstances(coco, "train2017", frozenset({"yak"}))
    with pytest.raises(ValueError, match="holds no"):
        CocoInstances(coco, "val2017")


def test_a_pet_is_one_object_on_unknown_ground(tmp_path):
    rng = np.random.default_rng(0)
    dog = pet_sample(Pets(make_pets(tmp_path / "a")), rng)
    assert dog.groups == (("dog",),)
    assert (dog.labels[:10] == 0).all()
    assert (dog.labels[10:] == IGNORE).all()
    cat = pet_sample(Pets(make_pets(tmp_path / "b", "Bombay_1")), rng)
    assert cat.groups == (("cat",),)


def test_a_street_has_a_mask_per_material_and_no_classes(tmp_path):
    found = camvid_sample(CamVid(make_camvid(tmp_path)), np.random.default_rng(0))
    assert found.groups == ((), ())  # sky and road
    assert set(np.unique(found.labels[:, :-1])) == {0, 1}
    assert (found.labels[:, -1] == IGNORE).all()


def test_a_pasted_object_is_in_front_and_in_the_crop():
    donor = np.full((100, 120), UNLISTED, np.int16)
    donor[20:80, 30:90] = 0
    red = np.zeros((100, 120, 3), np.uint8)
    red[20:80, 30:90, 0] = 255
    onto = Sample(np.zeros((80, 90, 3), np.uint8), np.full((80, 90), IGNORE, np.int16), (("cat",),))
    found = paste(onto, Sample(red, donor, (("dog",),)), np.random.default_rng(0))
    assert found.groups == (("cat",), ("dog",))
    there = found.labels == 1
    assert there.any()
    assert (found.pixels[there][:, 0] > 100).all()
    assert (found.pixels[~there] == 0).all()
    row, column = found.focus
    assert there[int(row * 80), int(column * 90)]
    assert not (onto.labels == 1).any()


def test_nothing_large_enough_is_pasted():
    onto = Sample(np.zeros((8, 8, 3), np.uint8), np.full((8, 8), UNLISTED, np.int16), ())
    donor = Sample(np.zeros((8, 8, 3), np.uint8), np.zeros((8, 8), np.int16), (("dog",),))
    assert paste(onto, donor, np.random.default_rng(0)) is onto


def test_small_masks_do_not_count():
    labels = np.full((64, 64), UNLISTED, np.int16)
    labels[:32, :32], labels[40:44, 40:44], labels[:, 60:] = 0, 1, IGNORE
    labels[48:, :32] = 2
    kept = kept_labels(Sample(np.zeros((64, 64, 3), np.uint8), labels, (("dog",), ("cat",), ())), {"dog": 5})
    assert kept.labels.shape == (32, 32)
    assert (kept.labels[:16, :16] == 0).all()
    assert (kept.labels[20:22, 20:22] == UNCLEAR).all()  # 2 x 2 labels of a cat
    assert (kept.labels[:, 30:] == UNCLEAR).all()
    assert kept.labels[17, 17] == NOTHING
    assert (kept.labels[24:, :16] == 1).all()  # nobody asks for its class
    assert kept.classes.tolist() == [5, UNLISTED, *[NO_MASK] * (MOST_MASKS - 2)]


def test_unclear_queries_and_unknown_classes_do_not_count():
    logits = torch.zeros(1, 3, 3)
    logits[0, 2] = torch.tensor([9.0, 0.0, 0.0])  # would cost dearly as "no object"
    left = torch.tensor([False, False, True])
    assigned = [(torch.tensor([0]), torch.tensor([UNLISTED]))]
    found = class_loss(logits, assigned, 0.1, [left])
    assert found.item() == pytest.approx(np.log(3))  # query 1 alone
    nothing = class_loss(logits, assigned, 0.1, [torch.tensor([False, True, True])])
    assert nothing.item() == 0


def test_queries_on_unclear_ground():
    masks = torch.full((3, 2, 2), -1.0)
    masks[0, 0], masks[1, :, 0] = 1.0, 1.0  # the upper row, the left column, nothing
    unclear = torch.zeros(4, 4, dtype=torch.bool)
    unclear[:2] = True
    target = Target(torch.zeros(0, dtype=torch.long), torch.zeros(0, 4, 4), unclear)
    assert on_unclear_ground(masks, target).tolist() == [True, False, False]


def test_a_mask_of_unknown_class_is_matched_by_its_shape():
    masks = torch.full((2, 4, 4), -9.0)
    masks[1, :2] = 9.0
    logits = torch.tensor([[0.0, 9.0], [0.0, 0.0]])
    target = Target(torch.tensor([UNLISTED]), masks[1:] > 0)
    queries, _ = match(logits, masks, target, torch.rand(1, 64, 2), MatchWeights(100, 5, 5))
    assert queries.tolist() == [1]


def test_offsets_start_as_rays():
    rays = _rays(4, 2, 3).view(4, 2, 3, 2)
    torch.testing.assert_close(rays[0, 1, 2], torch.tensor([3.0, 0.0]))
    torch.testing.assert_close(rays[1, 0, 0], torch.tensor([0.0, 1.0]))


def test_plans_from_json():
    plan = plan_from_json(FcClipPlan(), FC_CLIP)
    assert plan.crops == MaskCropPlan(4, 64, (64, 72), pastes=1)
    assert plan.hold_out == ("zebra",)
    with pytest.raises(ValueError, match="unknown settings: colour"):
        plan_from_json(FcClipPlan(), {"crops": {"colour": 1}})


@pytest.fixture
def runs(coco, tmp_path, monkeypatch):
    """A head, and the tower tuned for halves of its pictures.

    What a head of two steps proposes is chance, which falls otherwise on other processors: where all masks
    are empty nothing is pooled, and no gradient reaches the transfer.
    """
    views_of = mask_tuning._frozen_views

    def halves(*given):
        views = views_of(*given)
        masks = np.full(views.masks.shape, -5, np.float16)
        masks[:, ::2, : masks.shape[2] // 2], masks[:, 1::2, :, masks.shape[3] // 2 :] = 5, 5
        return dataclasses.replace(views, masks=masks)

    monkeypatch.setattr(mask_tuning, "_frozen_views", halves)
    tower, sources = toy_tower(), MaskSources(coco)
    first = train_fc_clip(tower, sources, plan_from_json(FcClipPlan(), FC_CLIP), tmp_path / "first")
    plan = plan_from_json(TuningPlan(), TUNING)
    return tower, first, train_maft_plus(tower, sources, first, plan, tmp_path / "second")


def test_both_stages(runs):
    tower, first, second = runs
    head, tuned = load_mask_head(first, SHA, method="fc_clip"), load_mask_head(second, SHA)
    assert head.seen == {"person", "people", "dog", "puppy"}
    assert tuned.seen == head.seen
    # The head stays; the transformer and the transfer learn, the stem and the projection do not.
    after = tuned.head.state_dict()
    for name, value in head.head.state_dict().items():
        torch.testing.assert_close(after[name], value, atol=0, rtol=0)
    assert after["cdt.linear.weight"].abs().sum() > 0
    before = tower.visual.state_dict()
    assert all(name.startswith("transformer.resblocks.") for name in tuned.tuned)
    moved = [
        name for name, value in tuned.tuned.items() if not torch.equal(value, before[name].half().float())
    ]
    assert moved
    assert not first.parent.joinpath("fc_clip", "state.pt").exists()


def test_the_same_command_again_takes_what_is_there(runs, coco, tmp_path):
    tower, first, _ = runs
    before = read_state(first)
    plan = plan_from_json(FcClipPlan(), FC_CLIP)
    again = train_fc_clip(tower, MaskSources(coco), plan, tmp_path / "first")
    for name, value in read_state(again).items():
        assert torch.equal(value, before[name])
    with pytest.raises(FileExistsError, match="another recipe"):
        train_fc_clip(tower, MaskSources(coco), FcClipPlan(), tmp_path / "first")


def test_a_head_of_an_earlier_tower_may_be_the_start(runs, coco, tmp_path):
    _, first, _ = runs
    later = dataclasses.replace(toy_tower(1), sha256="c" * 64)
    plan = plan_from_json(FcClipPlan(), {**FC_CLIP, "rate": 0.0})
    path = train_fc_clip(later, MaskSources(coco), plan, tmp_path / "later", start=first)
    found, before = load_mask_head(path, "c" * 64), load_mask_head(first, SHA)
    assert found.training["start"]["tower"] == SHA
    for name, value in found.head.state_dict().items():
        torch.testing.assert_close(value, before.head.state_dict()[name], atol=2e-3, rtol=2e-3)


def test_without_transfer_names_stay(runs, coco, tmp_path):
    tower, first, _ = runs
    plan = plan_from_json(TuningPlan(), {**TUNING, "transfer": False, "compensation": 0.0})
    path = train_maft_plus(tower, MaskSources(coco), first, plan, tmp_path / "third", cache=tmp_path / "c")
    head = load_mask_head(path, SHA).head
    names = torch.eye(8)[:3]
    assert torch.equal(head.adapt(names, torch.rand(1, 8, 4, 4)).rows[0], names)


def test_a_maft_plus_head_is_no_start(runs, coco, tmp_path):
    tower, _, second = runs
    with pytest.raises(CheckpointError, match="expected one of fc_clip"):
        train_maft_plus(tower, MaskSources(coco), second, TuningPlan(), tmp_path / "fourth")


def test_commands_as_a_user_types_them(coco, tmp_path, monkeypatch, capsys):
    from training_toys import CONFIG

    def load(store):
        torch.manual_seed(0)
        return LoadedModel(build_mini(CONFIG), (0.5,) * 3, (0.5,) * 3, {"mini.safetensors": SHA})

    spec = EncoderSpec("mini", "Toy", "", None, "embedded", "mini", 16, load)
    monkeypatch.setattr(train, "ENCODERS", MappingProxyType({"mini": spec}))
    for name, values in (("fc", FC_CLIP), ("maft", TUNING)):
        (tmp_path / f"{name}.json").write_text(json.dumps(values))
    out = tmp_path / "out"
    pets, camvid = make_pets(tmp_path / "pets"), make_camvid(tmp_path / "camvid")
    data = [f"--data=coco={coco}", f"--data=pets={pets}", f"--data=camvid={camvid}"]
    config = ["--config", str(tmp_path / "fc.json")]
    assert train.main(["fc-clip", *data, *config, "--out", str(out)]) == 0
    assert capsys.readouterr().out == f"{out / 'fc_clip.safetensors'}\n"
    config = ["--config", str(tmp_path / "maft.json")]
    more = tmp_path / "more"
    assert train.main(["maft-plus", *data, f"--data=head={out}", *config, "--out", str(more)]) == 0
    assert load_mask_head(more / "maft_plus.safetensors", SHA).method == "maft_plus"
    assert train.main(["maft-plus", *data, "--out", str(more)]) == 2
    assert "--data is needed for head" in capsys.readouterr().err
