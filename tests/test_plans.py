"""Recipes written before settings were renamed are read, and runs that began with them go on."""

import dataclasses
import json

import pytest

from ovs_core.training.mask_plans import FcClipPlan
from ovs_core.training.mvp_seg_plus import PlusPlan, plus_plan
from ovs_core.training.plans import keep_recipe, plan_from_json


def test_former_names_are_read():
    plan = plan_from_json(FcClipPlan(), {"crops": {"shares": [["coco", 1.0]]}})
    assert plan.crops.source_weights == (("coco", 1.0),)
    assert plan.crops.count == FcClipPlan().crops.count
    assert plus_plan({"teacher_share": 0.3}) == PlusPlan(teacher_part=0.3)


def test_a_setting_under_both_names_is_refused():
    with pytest.raises(ValueError, match="unknown settings: teacher_share"):
        plus_plan({"teacher_share": 0.3, "teacher_part": 0.2})


def test_a_run_goes_on_from_a_recipe_with_former_names(tmp_path):
    recipe = dataclasses.asdict(FcClipPlan()) | {"tower": "abc"}
    keep_recipe(recipe, tmp_path)
    path = tmp_path / "recipe.json"
    written = path.read_text()
    path.write_text(written.replace('"source_weights"', '"shares"'))
    keep_recipe(recipe, tmp_path)
    assert path.read_text() == written


@pytest.mark.parametrize("kept", ["{}", "no JSON", '{"tower": "other"}'])
def test_another_recipe_is_refused(tmp_path, kept):
    (tmp_path / "recipe.json").write_text(kept)
    with pytest.raises(FileExistsError, match="another recipe"):
        keep_recipe(dataclasses.asdict(PlusPlan()) | {"tower": "abc"}, tmp_path)
    assert (tmp_path / "recipe.json").read_text() == kept


def test_plans_survive_json():
    plan = dataclasses.replace(FcClipPlan(), steps=3, hold_out=("cat",))
    assert plan_from_json(FcClipPlan(), json.loads(json.dumps(dataclasses.asdict(plan)))) == plan
