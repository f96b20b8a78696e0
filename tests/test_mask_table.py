"""The table of mask methods: segments matched by hand, truth from objects, a toy run from end to end."""

import json
from types import MappingProxyType

import numpy as np
import pytest
import torch
from instance_toys import SHA, make_instances, toy_tower
from labelled_toys import classes_of
from mask_recipes import FC_CLIP, TUNING
from training_toys import CONFIG

from benchmarks import mask_table
from benchmarks.mask_segments import true_classes, true_segments
from ovs_core.encoders.loading import LoadedModel
from ovs_core.encoders.mini import build_mini
from ovs_core.encoders.towers import EncoderSpec
from ovs_core.training.data import Sample
from ovs_core.training.fc_clip import MaskSources, train_fc_clip
from ovs_core.training.mask_plans import FcClipPlan
from ovs_core.training.plans import plan_from_json
from ovs_core.types import IGNORE, UNLISTED

NAMES = ("person", "dog", "zebra")


def test_truth_of_objects():
    labels = np.array([[0, 1, UNLISTED, IGNORE]], np.int16)
    sample = Sample(np.zeros((1, 4, 3), np.uint8), labels, (("dog",), ("person",)))
    assert classes_of(true_segments(sample)) == [[1, 2, 0, None]]
    assert classes_of(true_classes(sample, NAMES)) == [[2, 1, None, None]]


def test_a_run_from_end_to_end(tmp_path, monkeypatch, capsys):
    def load(store):
        torch.manual_seed(0)
        return LoadedModel(build_mini(CONFIG), (0.5,) * 3, (0.5,) * 3, {"mini.safetensors": SHA})

    spec = EncoderSpec("mini", "Toy", "", None, "embedded", "mini", 16, load)
    monkeypatch.setattr(mask_table, "ENCODERS", MappingProxyType({"mini": spec}))
    coco = make_instances(tmp_path / "coco")
    train_fc_clip(toy_tower(), MaskSources(coco), plan_from_json(FcClipPlan(), FC_CLIP), tmp_path / "out")
    (tmp_path / "tuning.json").write_text(json.dumps(TUNING))
    arguments = ["--coco", str(coco), "--out", str(tmp_path / "out"), "--part", "train2017"]
    arguments += ["--config", str(tmp_path / "tuning.json"), "--short-side", "64"]
    assert mask_table.main(arguments) == 0
    assert "--train makes it" in capsys.readouterr().out
    assert mask_table.main([*arguments, "--train", "--json", str(tmp_path / "t.json")]) == 0
    printed = capsys.readouterr().out
    content = json.loads((tmp_path / "t.json").read_text())
    assert list(content["rows"]) == [
        mask_table.NACLIP,
        mask_table.FC_CLIP,
        mask_table.FROZEN,
        *(title for title, _, _ in mask_table.ROWS),
    ]
    assert all(f"| {title} |" in printed for title in content["rows"])
    assert list(content["gains"]) == [title for title, _, _ in mask_table.ROWS]


def test_a_missing_head_is_one_sentence(tmp_path, capsys, monkeypatch):
    coco = make_instances(tmp_path / "coco")
    assert mask_table.main(["--coco", str(coco), "--out", str(tmp_path)]) == 2
    assert "There is no file" in capsys.readouterr().err


@pytest.mark.parametrize("signed", [False, True])
def test_table_is_markdown(signed):
    from ovs_core.metrics.resampling import Interval

    row = dict.fromkeys(mask_table.COLUMNS, Interval(0.5, 0.25, 0.75))
    last = mask_table.table({"x": row}, signed=signed).splitlines()[-1]
    assert last.startswith("| x | +50.0 [+25.0, +75.0] |" if signed else "| x | 50.0 [25.0, 75.0] |")
