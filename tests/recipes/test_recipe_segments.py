"""Segments of labelled sets: things one by one, materials as a whole, what is held out is not known."""

from types import MappingProxyType

import numpy as np
import torch
from instance_toys import SMALL_HEAD, make_instances, toy_tower
from recipe_toys import make_msrc
from training_toys import save_mask, save_photo

from ovs_core.methods.gkc.head_file import load_gkc_head
from ovs_core.methods.mask_classification.head_file import load_mask_head
from ovs_core.training.fc_clip import MaskSources, train_fc_clip
from ovs_core.training.gkc import gkc_plan, train_gkc
from ovs_core.training.mask_plans import FcClipPlan
from ovs_core.training.plans import plan_from_json
from ovs_core.types import IGNORE
from recipes.mini.labelled import LabelledNames
from recipes.mini.segments import Segments, segment_sources

NAMES = LabelledNames(
    MappingProxyType({1: ("sofa", "couch"), 2: ("wall",), 3: ("bed",), 4: ("face",), 5: ("plants", "bush")}),
    loose=frozenset({5}),
)


def photo_with(root, mask):
    save_photo(root / "images" / "a.jpg", *mask.shape)
    save_mask(root / "masks" / "a.png", mask)
    return root / "images" / "a.jpg"


def test_things_come_one_by_one_and_materials_whole(tmp_path):
    """Two sofas apart, a wall in two pieces, a speck of sofa, and what is not labelled."""
    mask = np.full((60, 100), 255, np.uint8)
    mask[:20, :20], mask[:20, 40:60], mask[30, 30:34] = 1, 1, 1
    mask[40:, :30], mask[40:, 50:80] = 2, 2
    sample = Segments([photo_with(tmp_path, mask)], NAMES, frozenset()).sample(np.random.default_rng(0))
    assert sample.groups == (("couch",), ("couch",), ("wall",))  # COCO's word for a sofa
    assert sample.labels[5, 5] != sample.labels[5, 50]
    assert sample.labels[50, 10] == sample.labels[50, 60] == 2
    assert sample.labels[30, 31] == IGNORE
    assert sample.labels[25, 90] == IGNORE


def test_held_out_classes_parts_and_loose_names_are_not_known(tmp_path):
    mask = np.repeat(np.array([[1, 3, 4, 5]], np.uint8), 40, axis=0).repeat(40, axis=1)
    segments = Segments([photo_with(tmp_path, mask)], NAMES, frozenset({"bed"}))
    assert dict(segments.classes) == {1: "couch", 2: "wall"}
    sample = segments.sample(np.random.default_rng(0))
    assert sample.groups == (("couch",),)
    assert (sample.labels[:, 40:] == IGNORE).all()


def test_what_is_measured_is_not_drawn(tmp_path):
    source = segment_sources({"msrc": make_msrc(tmp_path)}, frozenset({"person"}))["msrc"]
    assert source.photos == ("2.jpg",)
    assert {"grass", "sky", "airplane", "potted plant", "dining table"} & set(source.names) == {
        *("grass", "sky", "airplane")
    }
    assert source.sample(np.random.default_rng(0)).groups == (("grass",), ("sky",))


def test_a_head_learns_the_names_of_materials_too(tmp_path):
    more = segment_sources({"msrc": make_msrc(tmp_path / "msrc")}, frozenset({"zebra"}))
    weights = [["coco", 0.5], ["msrc", 0.5]]
    crops = {"count": 6, "side": 64, "short_side": [64, 72], "pastes": 0, "source_weights": weights}
    plan = plan_from_json(FcClipPlan(), {**SMALL_HEAD, "crops": crops, "steps": 2, "batch": 2})
    sources = MaskSources(make_instances(tmp_path / "coco"), more=more)
    tower = toy_tower()
    path = train_fc_clip(tower, sources, plan, tmp_path / "out")
    head = load_mask_head(path, tower.sha256)
    assert {"person", "dog", "grass", "sky"} <= set(head.seen)
    assert "zebra" not in head.seen
    kept = np.load(next((tmp_path / "out" / "crops").glob("classes-*.npy")))
    learnt = [*("person", "dog"), *(name for name in more["msrc"].names if name not in ("person", "dog"))]
    drawn = {learnt[number] for number in np.unique(kept[kept >= 0])}
    assert "grass" in drawn
    assert torch.isfinite(next(head.head.parameters())).all()


def test_gkc_says_the_words_of_every_set(tmp_path):
    """Crops name what all sets name; its words were COCO's alone once."""
    more = segment_sources({"msrc": make_msrc(tmp_path / "msrc")}, frozenset({"zebra"}))
    crops = {"count": 6, "side": 64, "short_side": [64, 72], "pastes": 0, "source_weights": [["msrc", 1.0]]}
    sizes = {name: value for name, value in SMALL_HEAD.items() if name != "points"}
    losses = {"points": 16, "grounding": 0}
    plan = gkc_plan({**sizes, "crops": crops, "steps": 2, "batch": 2, "losses": losses})
    sources = MaskSources(make_instances(tmp_path / "coco"), more=more)
    tower = toy_tower()
    head = load_gkc_head(train_gkc(tower, sources, plan, tmp_path / "out"), tower.sha256)
    assert {"dog", "grass", "sky"} <= head.seen
