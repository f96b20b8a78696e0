"""The recipe's command as a user types it: bad input in one line, a whole toy run, stages skipped."""

import dataclasses
import functools
import hashlib
import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from recipe_toys import make_sources, save_outdoor_maps
from training_toys import CONFIG, fake_sentences

from ovs_core.checkpoints import load_strict, read_state
from ovs_core.encoders.eight_bits import in_eight_bits, in_full
from ovs_core.encoders.mini import build_mini, fitting
from recipes.mini import __main__ as command
from recipes.mini import chain
from recipes.mini.chain import train_mini, word_table
from recipes.mini.plan import ImagePlan, Member, MiniPlan, plan_from_json
from recipes.mini.text_space import fit_text_space

SOURCES = (("coco", 0.3), ("mosaic", 0.3), ("camvid", 0.2), ("pets", 0.2))
IMAGE = ImagePlan(64, (64, 80), 2, SOURCES)
MEMBER = Member(IMAGE, 2, dataclasses.replace(IMAGE, trunk_rate=3e-5), 1)
REFINE = dataclasses.replace(IMAGE, trunk_rate=3e-5, thing_chance=1.0, belief_weight=0.3, half_trunks=True)
DETECT = dataclasses.replace(REFINE, thing_chance=0.0, paste_chance=1.0)
MATERIALS = dataclasses.replace(DETECT, source_weights=(*SOURCES, ("msrc", 0.5), ("voc", 0.5), ("nyu", 0.5)))
MEMBERS = (MEMBER, dataclasses.replace(MEMBER, seed=7))
PLAN = MiniPlan(2, 16, MEMBERS, REFINE, 1, (3, 4), DETECT, 2, materials=MATERIALS, materials_steps=2)
WITH_DETECTOR = {**CONFIG, "stem": {**CONFIG["stem"], "detector_names": 3}}


@pytest.fixture
def world(tmp_path, monkeypatch):
    """Toy data in place of the real, a folder that stands for the repository, made-up sentence embeddings."""
    sources = make_sources(tmp_path)
    (tmp_path / "checkpoints" / "mini").mkdir(parents=True)
    (tmp_path / "checkpoints" / "mini" / "mini.json").write_text(json.dumps(WITH_DETECTOR))
    (tmp_path / "recipe.json").write_text(json.dumps(dataclasses.asdict(PLAN)))
    monkeypatch.setattr(command, "ROOT", tmp_path)
    monkeypatch.setattr(chain, "fit_text_space", functools.partial(fit_text_space, sentences=fake_sentences))
    return sources


def arguments(root, *more):
    pairs = [f"--data={name}={root / name}" for name in ("pretrained", "wordnet", "coco", "camvid", "pets")]
    pairs += [f"--data={name}={root / name}" for name in ("caltech", "imagenet", "salience", "detector")]
    pairs += [f"--data={name}={root / name}" for name in ("ade", "msrc", "voc")]
    return ["tower", *pairs, "--config", str(root / "recipe.json"), "--out", str(root / "out"), *more]


def digest(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_whole_run_and_one_that_starts_again_at_each_stage(world, tmp_path, capsys):
    out = tmp_path / "out"
    save_outdoor_maps(out)
    assert command.main(arguments(tmp_path)) == 0
    assert capsys.readouterr().out == f"{out / 'mini.safetensors'}\n"
    assert plan_from_json(json.loads((out / "recipe.json").read_text())) == PLAN
    shipped = read_state(out / "mini.safetensors")
    assert "attn_mask" not in shipped
    assert shipped["token_embedding.weight"].dtype == torch.int8
    small = {name.removesuffix(".steps") for name in shipped if name.endswith(".steps")}
    others = {name: value for name, value in shipped.items() if name.removesuffix(".weight") not in small}
    assert {value.dtype for name, value in others.items() if ".steps" not in name} == {torch.float16}
    model = build_mini(fitting(WITH_DETECTOR, shipped))
    assert model.visual.conv1.material_words.in_channels == 32
    load_strict(model, in_full(shipped), source="shipped", ignore=("attn_mask",))
    assert {path.name for path in out.iterdir()} == {
        *("recipe.json", "outdoor.npz", "text", "1-text.safetensors"),
        *("member-1", "member-2", "members.safetensors", "salience.npz", "mini.safetensors"),
        *("refine-3", "refine-4", "refined-3.safetensors", "refined-4.safetensors"),
        *("refined.safetensors", "detect", "detected.safetensors", "near_words.tsv", "known_words.txt"),
        *("materials-coco.npz", "materials-voc.npz", "materials", "with-materials.safetensors"),
    }
    for member in ("member-1", "member-2"):
        assert {path.name for path in (out / member).iterdir()} == {
            *("image", "tune", "2-image.safetensors", "3-tune.safetensors")
        }
    tuned = [read_state(out / f"member-{n}" / "3-tune.safetensors") for n in (1, 2)]
    assert not torch.equal(*(state["visual.conv1.mix.weight"] for state in tuned))
    refined = [read_state(out / f"refined-{seed}.safetensors") for seed in (3, 4)]
    before, detected = read_state(out / "refined.safetensors"), read_state(out / "detected.safetensors")
    learnt = read_state(out / "with-materials.safetensors")
    expected = 0.3 * before["visual.proj"].float() + 0.7 * detected["visual.proj"]
    expected = 0.3 * expected + 0.7 * learnt["visual.proj"]
    torch.testing.assert_close(shipped["visual.proj"], expected.half(), atol=1e-3, rtol=1e-3)
    assert not torch.equal(shipped["visual.proj"], before["visual.proj"])
    assert not torch.equal(*(state["visual.conv1.mix.weight"] for state in refined))
    mean = read_state(out / "members.safetensors")
    for several, made in ((tuned, mean), ([mean, *refined], before)):
        for name, value in made.items():
            expected = torch.stack([state[name].float() for state in several]).mean(dim=0)
            assert torch.equal(value, expected.half()), name
    first = digest(out / "mini.safetensors")
    text_lines = (out / "text" / "log.jsonl").read_text()
    (out / "member-1" / "3-tune.safetensors").unlink()
    made = ("members", "refined-3", "refined-4", "refined", "detected", "with-materials", "mini")
    for name in ("member-2/2-image", "member-2/3-tune", *made):
        (out / f"{name}.safetensors").unlink()
    assert command.main(arguments(tmp_path)) == 0
    assert (out / "text" / "log.jsonl").read_text() == text_lines  # that stage was skipped
    assert digest(out / "mini.safetensors") == first


def test_another_recipe_in_the_same_folder_is_refused(world, tmp_path, capsys):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "recipe.json").write_text("{}\n")
    assert command.main(arguments(tmp_path)) == 2
    assert "another recipe" in only_line(capsys)


def test_missing_teacher_is_one_line(world, tmp_path, capsys, monkeypatch):
    def learn_nothing(model, everyday, *_):
        assert "dog" in everyday

    monkeypatch.setattr(chain, "_learn_text", learn_nothing)
    save_outdoor_maps(tmp_path / "out")
    (tmp_path / "pretrained" / "deeplabv3_mobilenetv2_voc.safetensors").unlink()
    assert command.main(arguments(tmp_path)) == 2
    assert "deeplabv3_mobilenetv2_voc.safetensors" in only_line(capsys)


def only_line(capsys):
    """What was said on stderr, which must be one line besides the log's."""
    captured = capsys.readouterr()
    assert captured.out == ""
    (line,) = [line for line in captured.err.splitlines() if line.startswith("mini: ")]
    assert "Traceback" not in captured.err
    return line


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (["coco"], "is not NAME=DIR"),
        (["movies=."], "with NAME one of pretrained"),
        (["coco=/no/such/folder"], "--data coco: /no/such/folder is not a folder"),
        (["coco=.", "wordnet=."], "--data is needed for pretrained"),
        ([], "--data is needed for pretrained, wordnet, coco"),
    ],
)
def test_bad_data_is_one_line(tmp_path, capsys, data, said):
    options = [f"--data={pair}" for pair in data]
    assert command.main(["tower", *options, "--out", str(tmp_path)]) == 2
    assert said in only_line(capsys)


@pytest.mark.parametrize(
    ("recipe", "said"),
    [
        ("{", "is not JSON"),
        ("[1]", "must hold a JSON object"),
        ('{"steps": 3}', "unknown settings: steps"),
        ('{"members": [{"image": {"sides": 3}}]}', "unknown settings: sides"),
        ('{"members": []}', "members must hold at least one"),
        (None, "No such file"),
    ],
)
def test_bad_recipe_is_one_line(tmp_path, capsys, recipe, said):
    config = tmp_path / "recipe.json"
    if recipe is not None:
        config.write_text(recipe)
    data = [f"--data={name}={tmp_path}" for name in ("pretrained", "wordnet", "coco")]
    assert command.main(["tower", *data, "--config", str(config), "--out", str(tmp_path / "out")]) == 2
    assert said in only_line(capsys)
    assert not (tmp_path / "out").exists()


def test_recipe_survives_json():
    plan = MiniPlan(members=(Member(image_steps=7, image=ImagePlan(short_side=(100, 200))),), seed=3)
    assert plan_from_json(json.loads(json.dumps(dataclasses.asdict(plan)))) == plan
    assert plan_from_json({}) == MiniPlan()


def test_shipped_recipe_is_the_default_with_a_shorter_last_stage():
    """What ships learnt materials in two runs; the recipe is that of the second one (docs/training.md)."""
    recipe = Path(__file__).parents[2] / "checkpoints" / "mini" / "recipe.json"
    assert plan_from_json(json.loads(recipe.read_text(encoding="utf-8"))) == MiniPlan(materials_steps=320)


def test_former_names_are_read():
    former = {
        "detect": {"shares": [["coco", 1.0]], "rare_share": 0.1, "paste_share": 0.2, "thing_share": 0.3},
        "detect_share": 0.4,
        "materials_share": 0.5,
    }
    plan = plan_from_json(former)
    assert plan.detect.source_weights == (("coco", 1.0),)
    assert (plan.detect.rare_chance, plan.detect.paste_chance, plan.detect.thing_chance) == (0.1, 0.2, 0.3)
    assert (plan.detect_part, plan.materials_part) == (0.4, 0.5)
    assert plan.detect.side == MiniPlan().detect.side


def test_what_a_part_leaves_out_keeps_the_default_of_that_part():
    (member,) = plan_from_json({"members": [{"tune": {"side": 64}}]}).members
    assert member.tune == dataclasses.replace(Member().tune, side=64)
    assert member.tune.trunk_rate > 0
    assert member.image == Member().image


def test_word_table_asks_for_each_name_once(monkeypatch):
    asked = []

    def encode(model, names, templates, tokenize):
        asked.append(tuple(names))
        return torch.arange(len(names), dtype=torch.float32)[:, None] + 10 * len(asked)

    monkeypatch.setattr(chain, "encode_words", encode)
    words = word_table(SimpleNamespace(context_length=77))
    assert words(("dog", "cat", "dog")).flatten().tolist() == [10, 20, 10]
    assert words(("cat", "hat")).flatten().tolist() == [20, 30]
    assert asked == [("dog",), ("cat",), ("hat",)]


def test_stage_that_is_there_is_not_learnt_again(world, tmp_path, monkeypatch):
    """All stages lie in the folder: only the file to ship is made."""
    out = tmp_path / "out"
    save_outdoor_maps(out)
    model = build_mini(CONFIG)
    chain._save(model.state_dict(), out / "1-text.safetensors")
    for member in ("member-1", "member-2"):
        (out / member).mkdir()
        for name in ("2-image", "3-tune"):
            chain._save(model.state_dict(), out / member / f"{name}.safetensors")
    for seed in PLAN.refine_seeds:
        chain._save(model.state_dict(), out / f"refined-{seed}.safetensors")
    detected = build_mini(WITH_DETECTOR)
    chain._save(detected.state_dict(), out / "detected.safetensors")
    stem = {**WITH_DETECTOR["stem"], "material_names": 32}
    learnt = build_mini({**WITH_DETECTOR, "stem": stem})
    chain._save(learnt.state_dict(), out / "with-materials.safetensors")
    for name in ("train_text", "train_image", "start_image_tower"):
        monkeypatch.setattr(chain, name, None)  # calling it would fail
    plan = dataclasses.replace(PLAN, detect_part=1.0, materials_part=1.0)
    shipped = read_state(train_mini(tmp_path / "checkpoints/mini/mini.json", world, plan, out))
    assert torch.equal(shipped["visual.proj"], learnt.visual.proj.detach().half())


def test_a_recipe_with_a_detector_needs_its_folder(world, tmp_path, capsys):
    given = [one for one in arguments(tmp_path) if not one.startswith("--data=detector")]
    assert command.main(given) == 2
    assert "needs --data detector=DIR" in only_line(capsys)
    given = [one for one in arguments(tmp_path) if not one.startswith("--data=ade")]
    assert command.main(given) == 2
    assert "needs --data ade=DIR" in only_line(capsys)
    assert not (tmp_path / "out").exists()


def test_the_last_stage_goes_on_from_a_file(world, tmp_path, capsys):
    """Only what comes after the file is made; a set that was not given is not drawn."""
    start = build_mini(WITH_DETECTOR)
    chain._save(in_eight_bits(start.half().state_dict()), tmp_path / "start.safetensors")
    out = tmp_path / "out"
    save_outdoor_maps(out)
    assert command.main(arguments(tmp_path, "--start", str(tmp_path / "start.safetensors"))) == 0
    made = {path.name for path in out.glob("*.safetensors")}
    assert made == {"with-materials.safetensors", "mini.safetensors"}
    shipped = read_state(out / "mini.safetensors")
    first = digest(out / "mini.safetensors")
    assert torch.equal(shipped["ln_final.weight"], start.ln_final.weight)  # the text tower is left alone
    for path in out.glob("*.safetensors"):
        path.unlink()
    assert command.main(arguments(tmp_path, "--start", str(tmp_path / "start.safetensors"))) == 0
    assert digest(out / "mini.safetensors") == first


def test_names_cannot_be_held_out_of_a_detector(world, tmp_path):
    plan = dataclasses.replace(PLAN, hold_out=("dog",))
    with pytest.raises(ValueError, match="detect_steps must be 0"):
        train_mini(tmp_path / "checkpoints/mini/mini.json", world, plan, tmp_path / "out")
    plan = dataclasses.replace(plan, detect_steps=0)
    with pytest.raises(ValueError, match="materials_steps must be 0"):
        train_mini(tmp_path / "checkpoints/mini/mini.json", world, plan, tmp_path / "out")


def test_without_a_seed_and_a_detector_the_mean_of_the_members_ships(world, tmp_path):
    out = tmp_path / "out"
    plan = dataclasses.replace(PLAN, refine_seeds=(), detect_steps=0, materials_steps=0)
    model = build_mini(CONFIG)
    out.mkdir()
    for name in ("1-text", "members"):
        chain._save(model.state_dict(), out / f"{name}.safetensors")
    shipped = read_state(train_mini(tmp_path / "checkpoints/mini/mini.json", world, plan, out))
    assert torch.equal(shipped["visual.proj"], model.visual.proj.detach().half())


def test_help_names_the_data(capsys):
    with pytest.raises(SystemExit) as stop:
        command.main(["tower", "--help"])
    assert stop.value.code == 0
    assert "needed: pretrained, wordnet, coco; others: camvid" in " ".join(capsys.readouterr().out.split())


def test_wrong_use_is_one_line(capsys):
    with pytest.raises(SystemExit) as stop:
        command.main(["maxi", "--out", "x"])
    assert stop.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1
