"""The measuring programs: numbers worked by hand, photos made here, no weights."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import tiny_spec
from labelled_toys import classes_of, truth_of
from ovs_core.SCORES import mean_evidence
from ovs_core.UNKNOWN import build_method, preset_for
from PIL import Image

from benchmarks import embedded_model
from benchmarks.embedded_model import Bench, Report, Score, Tally, score_maps, sweep_table, table
from benchmarks.labelled_photos import CAMVID_RULES, COCO_RULES, VOC_IN_COCO, open_photos, questions_about
from ovs_core.checkpoints import WeightStore
from ovs_core.devices import choose_compute
from ovs_core.encoders.towers import build_tower
from ovs_core.evidence.decide import decide
from ovs_core.metrics.confusion import mean_iou
from ovs_core.vocabulary import TEMPLATES, default_background

OTHERS = ("zebra", "umbrella")  # two classes that VOC lacks
NAMES = (*VOC_IN_COCO, *OTHERS)
CAT, DOG, ZEBRA = (NAMES.index(name) + 1 for name in ("cat", "dog", "zebra"))


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    compute = choose_compute("cpu")
    spec = tiny_spec("mini")
    loaded = spec.load(WeightStore(offline=True))
    return Bench(build_tower(spec, loaded, compute, tmp_path_factory.mktemp("text")), compute)


@pytest.fixture
def coco(tmp_path):
    """Three photos: a cat above background, a zebra beside a dog, nothing but background."""
    cat = np.zeros((40, 64), np.uint8)
    cat[:10] = CAT
    zebra = np.full((64, 48), ZEBRA, np.uint8)
    zebra[:, 24:] = DOG
    nothing = np.zeros((48, 48), np.uint8)
    make_folder(tmp_path / "coco", "val2017", {"1": cat, "2": zebra, "3": nothing})
    return tmp_path / "coco"


def make_folder(root: Path, split, masks, names=("background", *NAMES)):
    root.mkdir(exist_ok=True)
    lines = [f"{value} {name}" for value, name in enumerate(names)]
    (root / "classes.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    generator = np.random.default_rng(0)
    for part in ("images", "masks"):
        (root / part / split).mkdir(parents=True)
    for name, mask in masks.items():
        picture = generator.integers(0, 256, (*mask.shape, 3), np.uint8)
        Image.fromarray(picture).save(root / "images" / split / f"{name}.jpg")
        Image.fromarray(mask).save(root / "masks" / split / f"{name}.png")


# Questions.


@pytest.mark.parametrize(
    ("rule", "typed", "other", "truth"),
    [
        ("a", ("cat", "zebra"), True, [0, CAT, ZEBRA, None]),
        ("a_fg", ("cat", "zebra"), False, [None, CAT, ZEBRA, None]),
        ("b", NAMES, True, [0, CAT, ZEBRA, None]),
        ("b_fg", NAMES, False, [None, CAT, ZEBRA, None]),
        ("c", VOC_IN_COCO, True, [0, CAT, 0, None]),
    ],
)
def test_rules(coco, rule, typed, other, truth):
    dataset = open_photos(coco, "val2017", None).dataset
    question = questions_about(dataset, {rule: COCO_RULES[rule]}, truth_of([[0, CAT, ZEBRA, None]]))[rule]
    assert question.vocabulary.names == typed
    assert bool(question.vocabulary.other) == other
    assert set(question.vocabulary.other) <= set(default_background())
    assert classes_of(question.truth) == [truth]
    assert [0, *(NAMES.index(name) + 1 for name in typed)] == question.classes.tolist()


def test_a_photo_without_classes_has_nothing_to_type(coco):
    dataset = open_photos(coco, "val2017", None).dataset
    questions = questions_about(dataset, COCO_RULES, truth_of([[0, 0], [0, 0]]))
    assert set(questions) == {"b", "b_fg", "c"}
    assert classes_of(questions["b"].truth) == [[0, 0], [0, 0]]


def test_vocs_classes_must_be_there_to_be_asked_for(tmp_path):
    make_folder(tmp_path, "val2017", {"1": np.ones((20, 20), np.uint8)}, ("background", "cat"))
    dataset = open_photos(tmp_path, "val2017", None).dataset
    with pytest.raises(ValueError, match="'airplane' is not there"):
        questions_about(dataset, COCO_RULES, truth_of([[1, 1]]))


def test_camvid_has_no_background(tmp_path):
    mask = np.array([[0, 1, 2, 200]], np.uint8).repeat(20, axis=0)
    make_folder(tmp_path, "val", {"1": mask}, ("sky", "road", "void(ignore)"))
    photos = open_photos(tmp_path, "val", None)
    _, truth = next(photos.read())
    question = questions_about(photos.dataset, CAMVID_RULES, truth)["camvid"]
    assert question.vocabulary.names == ("sky", "road")
    assert question.vocabulary.other == ()
    assert classes_of(question.truth)[0] == [1, 2, None, None]


def test_broken_pairs_are_named_and_left_out(coco, capsys):
    (coco / "images/val2017/1.jpg").write_bytes(b"no picture")
    Image.fromarray(np.zeros((5, 5), np.uint8)).save(coco / "masks/val2017/2.png")
    photos = open_photos(coco, "val2017", None)
    assert [photo.name for photo, _ in photos.read()] == ["3"]
    assert [sentence.split(":")[0] for sentence in photos.skipped] == ["1.jpg", "2.jpg"]
    assert "left out 1.jpg" in capsys.readouterr().err


# Measuring.


def test_tally_means_over_both_photos(coco):
    photos = open_photos(coco, "val2017", None)
    tally = Tally(seconds=[9.0, 1.0, 3.0])
    truths = [truth_of([[0, CAT, CAT, CAT]]), truth_of([[0, 0, DOG, DOG]])]
    answers = [np.array([[0, 1, 1, 0]]), np.array([[0, 1, 1, 0]])]  # label 1 is the class that was typed
    for truth, labels in zip(truths, answers, strict=True):
        question = questions_about(photos.dataset, {"a": COCO_RULES["a"]}, truth)["a"]
        tally.add("a", question, labels, len(NAMES) + 1)
    report = tally.report(photos.dataset.names)
    # background: right 2, truth 3, answer 4: 2/5; cat: 2/3; dog: right 1, truth 2, answer 2: 1/3
    assert report.scores["a"].iou == {"background": 40.0, "cat": 66.67, "dog": 33.33}
    assert report.scores["a"].miou == pytest.approx(46.67)
    assert (report.scores["a"].photos, report.scores["a"].classes) == (2, 3)
    assert report.seconds == 2.0


@pytest.mark.parametrize("name", ["clip", "naclip"])
def test_shared_evidence_is_what_each_question_alone_gives(bench, coco, name):
    photos = open_photos(coco, "val2017", None)
    photo, truth = next(photos.read())
    preset = preset_for(name, tiny_spec("mini"), bench.compute.device)
    ready = bench.ready(name)
    method = ready.method
    features, _ = bench.encode(ready, photo, preset)
    questions = questions_about(photos.dataset, COCO_RULES, truth)
    maps = score_maps(method, features, bench.tower.text, preset.templates, questions)
    for metric, question in questions.items():
        text = bench.tower.text.embed(question.vocabulary, TEMPLATES[preset.templates])
        alone = method.segment(features, text).score_map
        assert maps[metric].vocabulary == question.vocabulary
        np.testing.assert_allclose(maps[metric].evidence, alone.evidence, atol=1e-6)


def test_methods_that_weigh_names_are_asked_one_by_one(bench, coco):
    photos = open_photos(coco, "val2017", None)
    photo, truth = next(photos.read())
    preset = preset_for("maskclip", tiny_spec("mini"), bench.compute.device)
    ready = build_method("maskclip", bench.tower, frozenset({"prompt_denoising"}))
    method = ready.method
    features, _ = bench.encode(ready, photo, preset)
    rules = {metric: COCO_RULES[metric] for metric in ("a_fg", "b_fg")}
    questions = questions_about(photos.dataset, rules, truth)
    maps = score_maps(method, features, bench.tower.text, preset.templates, questions)
    # One name alone has probability 1 and stays; of 22, those that are best nowhere are taken out.
    assert float(maps["a_fg"].evidence.min()) > -1
    assert float(maps["b_fg"].evidence.min()) == -100


def test_measure_counts_every_photo_where_it_belongs(bench, coco):
    photos = open_photos(coco, "val2017", None)
    preset = preset_for("naclip", tiny_spec("mini"), bench.compute.device)
    tally = bench.measure(photos, COCO_RULES, {"naclip": preset})["naclip"]
    sizes = {metric: len(photos) for metric, photos in tally.photos.items()}
    assert sizes == {"a": 2, "a_fg": 2, "b": 3, "b_fg": 3, "c": 3}
    pixels = {metric: int(sum(photo[1].sum() for photo in photos)) for metric, photos in tally.photos.items()}
    cat, zebra, nothing = 40 * 64, 64 * 48, 48 * 48
    assert pixels["a"] == cat + zebra
    assert pixels["a_fg"] == pixels["b_fg"] == 10 * 64 + zebra
    assert pixels["b"] == pixels["c"] == cat + zebra + nothing
    voc_truth = sum(photo[1] for photo in tally.photos["c"])
    assert voc_truth[ZEBRA] == 0
    assert voc_truth[DOG] == 64 * 24
    assert all(photo[2, 0] == 0 for photo in tally.photos["b_fg"])  # without an other, nothing is background


def test_several_frames_are_measured_by_their_mean(bench, coco):
    photos = open_photos(coco, "val2017", None)
    preset = replace(preset_for("naclip", tiny_spec("mini"), bench.compute.device), frames=(1.0, 0.5))
    tally = bench.measure(photos, {"b": COCO_RULES["b"]}, {"naclip": preset})["naclip"]
    ready, counted = bench.ready("naclip"), []
    for photo, truth in photos.read():
        questions = questions_about(photos.dataset, {"b": COCO_RULES["b"]}, truth)
        looks = [
            score_maps(
                ready.method,
                bench.encode(ready, photo, one)[0],
                bench.tower.text,
                preset.templates,
                questions,
            )["b"]
            for one in preset.alone
        ]
        labels = decide(mean_evidence(looks), (preset.scale, preset.threshold))[0]
        own = Tally()
        own.add("b", questions["b"], labels, len(NAMES) + 1)
        counted += own.photos["b"]
    np.testing.assert_array_equal(np.stack(tally.photos["b"]), np.stack(counted))


def test_sweep_is_what_deciding_anew_gives(bench, coco):
    photos = open_photos(coco, "val2017", None)
    preset = preset_for("clip", tiny_spec("mini"), bench.compute.device)
    values = bench.sweep(photos, "clip", preset)
    tally = Tally()
    ready = bench.ready("clip")
    for photo, whole in photos.read():
        truth = replace(whole, labels=whole.labels[::2, ::2], known=whole.known[::2, ::2])
        question = questions_about(photos.dataset, {"b": COCO_RULES["b"]}, truth)["b"]
        features, _ = bench.encode(ready, photo, preset)
        maps = score_maps(ready.method, features, bench.tower.text, preset.templates, {"b": question})
        tally.add("b", question, decide(maps["b"], (30.0, 0.05), truth.shape)[0], len(NAMES) + 1)
    assert values["b"][0.05, 30.0] == pytest.approx(float(mean_iou(sum(tally.photos["b"]))))
    assert values["b"][0.0, 10.0] == values["b"][0.0, 40.0]  # without a threshold, scales agree
    assert set(values) == {"a", "b"}
    assert sweep_table("b", values["b"]).splitlines()[0] == "| b: threshold, scale | 10 | 15 | 20 | 30 | 40 |"


def test_table_has_a_line_for_each_method():
    rules = {"a": COCO_RULES["a"], "c": COCO_RULES["c"]}
    score = Score(12.34, 10.0, 14.96, 7, 3, {})
    reports = {"clip": {"coco": Report({"a": score}, 0.256)}, "naclip": {"coco": Report({}, None)}}
    assert table(reports, rules).splitlines() == [
        "| method | a | c | s/photo | photos |",
        "| --- | --- | --- | --- | --- |",
        "| clip | 12.3 [10.0, 15.0] | - | 0.26 | 7 |",
        "| naclip | - | - | - | 0 |",
    ]


@pytest.fixture
def tiny_registry(monkeypatch, tmp_path):
    monkeypatch.setattr(embedded_model, "ENCODERS", {"mini": tiny_spec("mini")})


@pytest.mark.usefixtures("tiny_registry")
def test_command_line(coco, tmp_path, capsys):
    numbers = tmp_path / "numbers.json"
    camvid = tmp_path / "camvid"
    make_folder(camvid, "val", {"1": np.array([[0, 1]], np.uint8).repeat(20, 0)}, ("sky", "road"))
    arguments = [
        "--coco",
        str(coco),
        "--camvid",
        str(camvid),
        "--methods",
        "clip",
        "naclip",
        "--short-side",
        "64",
    ]
    assert embedded_model.main([*arguments, "--json", str(numbers)]) == 0
    printed = capsys.readouterr().out
    head = "| method | a | a, foreground | b | b, foreground | c | CamVid | s/photo | photos |"
    assert head in printed
    assert "cannot be read: 0" in printed
    content = json.loads(numbers.read_text(encoding="utf-8"))
    assert set(content["methods"]) == {"clip", "naclip"}
    assert content["presets"]["naclip"]["short_side"] == 64
    scores = content["methods"]["clip"]["coco"]["scores"]
    assert set(scores["c"]["iou"]) == {"background", "cat", "dog"}
    assert scores["a"]["low"] <= scores["a"]["miou"] <= scores["a"]["high"]
    assert set(content["methods"]["clip"]["camvid"]["scores"]["camvid"]["iou"]) == {"sky", "road"}


@pytest.mark.usefixtures("tiny_registry")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--split", "test"], "must hold images/test"),
        (["--limit", "0"], "--limit must be at least 1"),
        (["--threshold", "2"], "threshold must lie"),
        (["--sweep", "--split", "val2017"], "training photos"),
        (["--file", "nowhere.safetensors"], "--file must name weights of the embedded model"),
        (["--sweep", "--methods", "clip", "naclip"], "one method"),
        (["--sweep", "--scale", "3"], "does not use --scale"),
        (["--json", "no such folder/numbers.json"], "folder that exists"),
    ],
)
def test_command_line_refuses_in_one_sentence(coco, capsys, arguments, message):
    assert embedded_model.main(["--coco", str(coco), *arguments]) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.out == ""
