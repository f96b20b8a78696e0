"""From a tower to what ships: heads in order, each tower its own, and files together in one folder."""

from types import MappingProxyType

import pytest
import torch
from safetensors.torch import save_file

from ovs_core.checkpoints import read_state, sha256_of
from ovs_core.encoders.eight_bits import in_full
from ovs_core.encoders.towers import DEFAULT_ENCODER
from recipes.mini import __main__ as command
from recipes.mini import heads
from recipes.mini.heads import STAGES, HeadPlans, collect, train_heads
from recipes.mini.tower_file import spec_of_file, tower_of_file

SHIPPED = command.ROOT / "checkpoints" / "mini" / "mini.safetensors"


@pytest.fixture
def asked(monkeypatch):
    """Stages that write their name, and a list of who was asked about which tower."""
    calls = []

    def stage(name):
        def work(weights, sources, plans, folder):
            path = folder / name / f"{name}.safetensors"
            if not path.exists():
                calls.append((name, weights.read_text()))
                path.parent.mkdir(parents=True)
                path.write_text(f"{name} of {weights.read_text()}")
            return path

        return work

    monkeypatch.setattr(heads, "STAGES", MappingProxyType({name: stage(name) for name in STAGES}))
    return calls


def test_heads_are_trained_in_order_and_anew_for_another_tower(asked, tmp_path):
    weights = tmp_path / "mini.safetensors"
    for content in ("first", "first", "second"):
        weights.write_text(content)
        found = train_heads(weights, None, HeadPlans(), tmp_path / "out")
    names = ["tuned_words", "mvp_seg", "mvp_seg_plus", "fc_clip", "maft_plus", "zegclip", "ldvc", "gkc"]
    assert asked == [(name, tower) for tower in ("first", "second") for name in names]
    assert list(found) == names
    assert found["fc_clip"].read_text() == "fc_clip of second"
    folders = {path.name for path in (tmp_path / "out").iterdir()}
    assert f"heads-{sha256_of(weights)[:12]}" in folders
    assert len(folders) == 2


def test_what_ships_lies_in_one_folder(asked, tmp_path):
    weights, words = (
        tmp_path / "mini.safetensors",
        [tmp_path / "near_words.tsv", tmp_path / "known_words.txt"],
    )
    weights.write_text("tower")
    for path, text in zip(words, ("lorry\ttruck\n", "lorry\n"), strict=True):
        path.write_text(text)
    made = train_heads(weights, None, HeadPlans(), tmp_path / "out")
    folder = collect(weights, words, made, tmp_path / "ships")
    assert {path.name for path in folder.iterdir()} == {
        *("mini.safetensors", "near_words.tsv", "mvp_seg.safetensors", "mvp_seg_plus.safetensors"),
        *("fc_clip.safetensors", "maft_plus.safetensors", "zegclip.safetensors", "ldvc.safetensors"),
        *("gkc.safetensors", "known_words.txt", "tuned_words.safetensors"),
    }
    assert (folder / "mini.safetensors").read_text() == "tower"


def test_a_file_of_the_recipe_is_a_tower_to_train_on(tmp_path):
    """The shipped weights with one tensor changed, under another name."""
    state = dict(read_state(SHIPPED))
    state["visual.proj"] = state["visual.proj"] * 0.5
    save_file(state, tmp_path / "new.safetensors")
    tower, loaded = tower_of_file(tmp_path / "new.safetensors")
    assert tower.sha256 == sha256_of(tmp_path / "new.safetensors")
    torch.testing.assert_close(loaded.model.visual.proj.detach(), in_full(state)["visual.proj"].float())
    assert tower.vision.dtype == torch.float32
    assert spec_of_file(tmp_path / "new.safetensors").name == DEFAULT_ENCODER


def test_one_command_makes_everything(asked, tmp_path, monkeypatch, capsys):
    def train(config, sources, plan, out, start):
        out.mkdir()
        (out / "mini.safetensors").write_text("tower")
        for name in ("near_words.tsv", "known_words.txt"):
            (out / name).write_text("")
        return out / "mini.safetensors"

    monkeypatch.setattr(command, "train_mini", train)
    data = [f"--data={name}={tmp_path}" for name in ("pretrained", "wordnet", "coco")]
    out = tmp_path / "out"
    assert command.main(["all", *data, "--out", str(out)]) == 0
    assert capsys.readouterr().out == f"{out / 'ships'}\n"
    assert (out / "ships" / "maft_plus.safetensors").read_text() == "maft_plus of tower"
    assert command.main(["heads", *data, "--out", str(out)]) == 0
    assert [name for name, _ in asked] == list(STAGES)  # the second time all of them were there
