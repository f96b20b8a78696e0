"""`train mvp-seg` and `train mvp-seg-plus` as a user types them, on tiny towers and toy photos."""

import json
from types import MappingProxyType

import pytest
from split_world import TOY, make_world
from towers import tiny_spec

from ovs_core.cli import train
from ovs_core.methods.mvp_seg.contexts import load_contexts
from ovs_core.vocabulary.splits import SPLITS

RECIPE = {"k": 2, "length": 3, "steps": 2, "batch": 2, "crops": {"side": 64, "short_side": [64, 80]}}
PLUS = {"trunk": "test_resnet", "steps": 2, "batch": 2, "side": 64, "short_side": [64, 80]}


@pytest.fixture(autouse=True)
def tiny_world(tmp_path, monkeypatch):
    """Tiny towers for the registry's, three classes for COCO's eighty."""
    monkeypatch.setattr(
        train, "ENCODERS", MappingProxyType({"mini": tiny_spec("mini"), "two": tiny_spec("two", 1)})
    )
    monkeypatch.setattr(train, "SPLITS", MappingProxyType({**SPLITS, "coco_mini": TOY}))
    make_world(tmp_path / "data")


def run(tmp_path, method, recipe, *data, out="out"):
    config = tmp_path / f"{method}.json"
    config.write_text(json.dumps(recipe))
    pairs = [f"--data={pair}" for pair in data]
    return train.main([method, *pairs, "--config", str(config), "--out", str(tmp_path / out)])


def only_line(capsys):
    captured = capsys.readouterr()
    assert captured.out == ""
    (line,) = [line for line in captured.err.splitlines() if line.startswith("train: ")]
    assert "Traceback" not in captured.err
    return line


def test_contexts_then_their_student(tmp_path, capsys):
    data = f"coco_mini={tmp_path / 'data'}"
    assert run(tmp_path, "mvp-seg", RECIPE, data) == 0
    path = tmp_path / "out" / "mvp_seg.safetensors"
    assert capsys.readouterr().out == f"{path}\n"
    sha256 = next(iter(tiny_spec("mini").load(None).weights.values()))
    assert load_contexts(path, sha256, k=2).training["seen"] == ["cat", "dog"]
    contexts = f"contexts={tmp_path / 'out'}"
    assert run(tmp_path, "mvp-seg-plus", PLUS, data, contexts, out="plus") == 0
    assert capsys.readouterr().out == f"{tmp_path / 'plus' / 'mvp_seg_plus.safetensors'}\n"
    assert run(tmp_path, "mvp-seg-plus", {**PLUS, "encoder": "two"}, data, contexts, out="other") == 2
    assert "trained on another tower" in only_line(capsys)
    assert run(tmp_path, "mvp-seg", {**RECIPE, "k": 1}, data) == 2
    assert "another recipe" in only_line(capsys)


@pytest.mark.parametrize(
    ("method", "recipe", "data", "said"),
    [
        ("mvp-seg", RECIPE, [], "exactly one of voc, coco_stuff, context, coco_mini"),
        ("mvp-seg", RECIPE, ["coco_mini=DATA", "voc=DATA"], "exactly one of"),
        ("mvp-seg", RECIPE, ["voc=DATA"], "must name 20 classes"),
        ("mvp-seg", RECIPE, ["coco=DATA"], "NAME one of voc"),
        ("mvp-seg", {"views": 2}, ["coco_mini=DATA"], "unknown settings: views"),
        ("mvp-seg", {**RECIPE, "encoder": "large"}, ["coco_mini=DATA"], "encoder must be one of mini, two"),
        ("mvp-seg-plus", PLUS, ["coco_mini=DATA"], "--data is needed for contexts"),
        ("mvp-seg-plus", PLUS, ["coco_mini=DATA", "contexts=DATA"], "There is no file"),
    ],
)
def test_bad_input_is_one_line(tmp_path, capsys, method, recipe, data, said):
    pairs = [pair.replace("DATA", str(tmp_path / "data")) for pair in data]
    assert run(tmp_path, method, recipe, *pairs) == 2
    assert said in only_line(capsys)
    assert not (tmp_path / "out").exists()
