"""LDVC and ZegCLIP as a user trains, adds and asks them: tiny towers, toy photos, official files."""

import dataclasses
import json
from hashlib import sha256
from types import MappingProxyType

import pytest
from ldvc_toys import make_head, make_model
from split_world import TOY, make_world
from towers import random_photo, tiny_spec
from zegclip_files import official_file, official_state

from ovs_core.checkpoints import WeightStore
from ovs_core.cli import train, weights
from ovs_core.encoders.loading import CLIP_MEAN, CLIP_STD, LoadedModel
from ovs_core.encoders.towers import EncoderSpec
from ovs_core.engine import Request, Result
from ovs_core.methods import METHODS
from ovs_core.methods.ldvc.heads import load_prompted_head, save_prompted_head
from ovs_core.vocabulary import parse_vocabulary
from ovs_core.vocabulary.splits import SPLITS

BYTES = b"the tower's weights"
TOWER = sha256(BYTES).hexdigest()
RECIPE = {
    "steps": 2,
    "batch": 2,
    "layers": 1,
    "heads": 4,
    "windows": 2,
    "k_top": 2,
    "crops": {"side": 64, "short_side": [64, 80], "label_stride": 4},
}
WORDS = parse_vocabulary("cat; sky")
REQUEST = Request(random_photo(40, 72), WORDS, "ldvc", "vit_b16_openai")


@pytest.fixture
def tiny_world(tmp_path, monkeypatch):
    """Tiny towers for the registry's, three classes for VOC's twenty."""
    monkeypatch.setattr(train, "ENCODERS", MappingProxyType({"mini": tiny_spec("mini")}))
    monkeypatch.setattr(train, "SPLITS", MappingProxyType({**SPLITS, "voc": TOY}))
    make_world(tmp_path / "data")


def run(tmp_path, method, recipe, *data):
    config = tmp_path / "recipe.json"
    config.write_text(json.dumps(recipe))
    pairs = [f"--data={pair}" for pair in data]
    out = tmp_path / "out" / method
    return train.main([method, *pairs, "--config", str(config), "--out", str(out), "--device", "cpu"])


@pytest.mark.parametrize("method", ["ldvc", "zegclip"])
def test_a_head_is_trained_from_the_terminal(tmp_path, capsys, tiny_world, method):
    assert run(tmp_path, method, RECIPE, f"voc={tmp_path / 'data'}") == 0
    path = tmp_path / "out" / method / f"{method}.safetensors"
    assert capsys.readouterr().out == f"{path}\n"
    tower = next(iter(tiny_spec("mini").load(None).weights.values()))
    found = load_prompted_head(path, tower, method=method)
    assert found.seen == {"cat", "dog"}


@pytest.mark.parametrize(
    ("recipe", "data", "message"),
    [
        (RECIPE, [], "exactly one of voc, coco_stuff, context, coco_mini, nyuv2"),
        (RECIPE, ["context=DATA"], "must name 59 classes"),
        ({"k_tops": 2}, ["voc=DATA"], "unknown settings: k_tops"),
        ({"windows": 2, "k_top": 5}, ["voc=DATA"], "k_top must lie in 1..4, the number of windows, got 5"),
        ({"crops": {"side": "wide"}}, ["voc=DATA"], "cannot be read"),
        ({"method": "zegclip"}, ["voc=DATA"], "The recipe is for zegclip, not for ldvc"),
    ],
)
def test_bad_recipes_are_one_line(tmp_path, capsys, tiny_world, recipe, data, message):
    pairs = [pair.replace("DATA", str(tmp_path / "data")) for pair in data]
    assert run(tmp_path, "ldvc", recipe, *pairs) == 2
    captured = capsys.readouterr()
    (line,) = [line for line in captured.err.splitlines() if line.startswith("train: ")]
    assert message in line
    assert captured.out == ""


@pytest.fixture
def full_tower(tmp_path, monkeypatch):
    """A tiny tower in the place of ViT-B/16, whose file lies in a folder of weights of its own."""
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    (folder / "tower.pt").write_bytes(BYTES)
    entry = {
        "name": "tower",
        "title": "Tiny tower",
        "kind": "clip",
        "files": ["tower.pt"],
        "url": None,
        "sha256": TOWER,
        "bytes": len(BYTES),
        "licence": "MIT",
        "source": "nowhere",
        "paper": "",
        "open_clip_model": None,
    }
    (folder / "catalogue.json").write_text(json.dumps({"weights": [entry]}))

    def load(store):
        return LoadedModel(make_model(), CLIP_MEAN, CLIP_STD, {"tower.pt": TOWER})

    spec = EncoderSpec("vit_b16_openai", "Tiny full tower", "", "tower", "full", "openai", 16, load)
    encoders = MappingProxyType({"vit_b16_openai": spec})
    monkeypatch.setattr(weights, "ENCODERS", encoders)
    monkeypatch.setattr(weights, "WeightStore", lambda *arguments: WeightStore(*arguments, root=folder))
    return folder, encoders


def ask(make_engine, folder, encoders, method):
    engine = make_engine(encoders=encoders)
    engine.store = WeightStore(root=folder)
    available = {info.name: info for info in engine.methods("vit_b16_openai")}[method]
    request = dataclasses.replace(REQUEST, method=method, views=METHODS[method].view_kinds)
    if not available.available:
        return available.reason, None
    *_, result = engine.run(request)
    assert isinstance(result, Result)
    return engine, result


@pytest.mark.parametrize("method", ["ldvc", "zegclip"])
def test_without_a_head_one_sentence_says_the_next_step(make_engine, full_tower, method):
    reason, _ = ask(make_engine, *full_tower, method)
    assert reason.startswith(f"{METHODS[method].title} needs a part that is trained on Tiny full tower, and")
    assert "Train it, then" in reason


def test_an_added_head_answers_and_gamma_runs_no_model(tmp_path, capsys, make_engine, full_tower):
    head = dataclasses.replace(make_head(), tower=TOWER)
    assert weights.main(["add", str(save_prompted_head(head, tmp_path / "mine.safetensors"))]) == 0
    assert "LDVC on Tiny full tower" in capsys.readouterr().out
    engine, result = ask(make_engine, *full_tower, "ldvc")
    assert {view.kind for view in result.views} == METHODS["ldvc"].view_kinds
    assert f"ldvc-{TOWER[:16]}.safetensors" in result.weights
    assert result.options["gamma"] == 0.0
    again = engine.relabel(result, {"gamma": 0.3})
    assert set(again.seconds) == {"decide"}
    with pytest.raises(ValueError, match=r"gamma must be a number in \[0, 0.3\], got 0.5"):
        engine.relabel(result, {"gamma": 0.5})
    wrong = dataclasses.replace(REQUEST, options={"route_attention": "on"})
    with pytest.raises(ValueError, match="route_attention must be one of as trained, all windows, off"):
        list(engine.run(wrong))


def test_an_official_checkpoint_is_added(tmp_path, capsys, make_engine, full_tower):
    path = official_file(tmp_path, official_state(make_model().visual))
    assert weights.main(["add", str(path)]) == 0
    assert "ZegCLIP on Tiny full tower" in capsys.readouterr().out
    _, result = ask(make_engine, *full_tower, "zegclip")
    assert result.evidence.seen >= {"cat", "airplane"}
    assert "routing_off" not in {view.kind for view in result.views}


def test_a_checkpoint_of_another_tower_is_refused_in_one_line(tmp_path, capsys, full_tower):
    state = official_state(make_model(5).visual)
    assert weights.main(["add", str(official_file(tmp_path, state))]) == 2
    captured = capsys.readouterr()
    assert "was trained on another tower" in captured.err
    assert captured.err.count("\n") == 1
