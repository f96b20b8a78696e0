"""The table of GKC heads: a toy run from end to end."""

from types import MappingProxyType

import torch
from instance_toys import SHA, make_instances, toy_tower
from test_gkc_training import SMALL
from training_toys import CONFIG

from benchmarks import gkc_table
from ovs_core.encoders.loading import LoadedModel
from ovs_core.encoders.mini import build_mini
from ovs_core.encoders.towers import EncoderSpec, mini_pyramid
from ovs_core.training.fc_clip import MaskSources, train_fc_clip
from ovs_core.training.gkc import gkc_plan, train_gkc
from ovs_core.training.mask_plans import FcClipPlan
from ovs_core.training.plans import plan_from_json


def test_other_words_keep_the_order_of_classes():
    assert gkc_table.in_other_words(("zebra", "dog")).classes == (("zebra",), ("puppy",))


def test_a_run_from_end_to_end(tmp_path, monkeypatch, capsys):
    def load(store):
        torch.manual_seed(0)
        return LoadedModel(build_mini(CONFIG), (0.5,) * 3, (0.5,) * 3, {"mini.safetensors": SHA})

    spec = EncoderSpec("mini", "Toy", "", None, "embedded", "mini", 16, load, pyramid=mini_pyramid)
    monkeypatch.setattr(gkc_table, "ENCODERS", MappingProxyType({"mini": spec}))
    tower, sources = toy_tower(), MaskSources(make_instances(tmp_path / "coco"))
    sizes = {name: value for name, value in SMALL.items() if name not in ("losses", "class_width")}
    fc_clip = train_fc_clip(tower, sources, plan_from_json(FcClipPlan(), sizes), tmp_path / "fc_clip")
    plans = (gkc_plan({**SMALL, "seed": seed}) for seed in (0, 1))
    first, second = (train_gkc(tower, sources, plan, tmp_path / f"gkc{plan.seed}") for plan in plans)
    asked = ["--coco", str(tmp_path / "coco"), "--part", "train2017", "--fc-clip", str(fc_clip)]
    assert gkc_table.main([*asked, "--head", f"plain={first}", "--head", f"+ TD={second}"]) == 0
    printed = capsys.readouterr().out
    for title in ("FC-CLIP", "plain", "+ TD"):
        assert f"| {title} |" in printed
        assert f"- {title}: " in printed  # synonyms
    assert "Against plain, paired" in printed


def test_a_head_of_another_method_is_refused(tmp_path, capsys):
    coco = make_instances(tmp_path / "coco")
    fc_clip = gkc_table.shipped_folder("checkpoints") / "mini" / "fc_clip.safetensors"
    assert gkc_table.main(["--coco", str(coco), "--part", "train2017", "--head", f"a={fc_clip}"]) == 2
    assert "is not a file of a GKC head" in capsys.readouterr().err
