"""The measuring programs: numbers worked by hand, photos made here, no weights."""

import json
from pathlib import Path

import numpy as np
import pytest
from conftest import tiny_spec
from PIL import Image

from benchmarks import embedded_model
from benchmarks.confusion import class_iou, confusion, interval, margins, mean_iou
from benchmarks.embedded_model import Bench, Report, Score, Tally, score_maps, sweep_table, table
from benchmarks.labelled_photos import CAMVID_RULES, COCO_RULES, VOC_IN_COCO, open_folder, read_mask
from ovs_core.build import build_method, build_tower, preset_for
from ovs_core.checkpoints import WeightStore
from ovs_core.devices import choose_compute
from ovs_core.scores import decide
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


# Confusion matrices and what comes of them.


def test_confusion_counts_truth_by_rows_and_leaves_pixels_out():
    truth = np.array([[0, 0, 1], [1, 2, -1]], np.int16)
    answer = np.array([[0, 2, 1], [0, 2, 1]], np.int16)
    assert confusion(truth, answer, 3).tolist() == [[1, 0, 1], [1, 1, 0], [0, 0, 1]]


def test_confusion_of_nothing_is_empty():
    nothing = np.full((2, 3), -1)
    assert confusion(nothing, np.zeros((2, 3), int), 2).tolist() == [[0, 0], [0, 0]]


@pytest.mark.parametrize(
    ("truth", "answer"),
    [([0, 3], [0, 0]), ([0, 0], [0, 3]), ([0, 0], [0, -1]), ([0, 0], [0])],
    ids=["truth too large", "answer too large", "answer left out", "shapes differ"],
)
def test_confusion_refuses_what_it_cannot_count(truth, answer):
    with pytest.raises(ValueError, match="must"):
        confusion(np.array(truth), np.array(answer), 3)


def test_margins_are_right_truth_answer():
    matrix = np.array([[5, 1, 0], [2, 3, 0], [0, 4, 0]])
    assert margins(matrix).tolist() == [[5, 3, 0], [6, 5, 4], [7, 8, 0]]


def test_mean_iou_by_hand():
    # Class 0: 5 of 6 + 7 - 5 pixels; class 1: 3 of 5 + 8 - 3; class 2 is in the truth and never found.
    total = margins(np.array([[5, 1, 0], [2, 3, 0], [0, 4, 0]]))
    np.testing.assert_allclose(class_iou(total), [5 / 8, 3 / 10, 0])
    assert float(mean_iou(total)) == pytest.approx((5 / 8 + 3 / 10) / 3)


def test_classes_outside_the_truth_do_not_divide_but_their_pixels_are_wrong():
    # Class 1 is answered on 5 pixels and never true: it costs class 0 its union, and is no class of the mean.
    total = margins(np.array([[15, 5], [0, 0]]))
    assert np.isnan(class_iou(total)[1])
    assert float(mean_iou(total)) == pytest.approx(15 / 20)


def test_mean_iou_of_no_truth_is_not_a_number():
    assert np.isnan(mean_iou(np.zeros((3, 4), np.int64)))


def test_mean_iou_of_many_totals_at_once():
    one, two = margins(np.array([[3, 1], [0, 4]])), margins(np.array([[1, 1], [0, 0]]))
    # Of the first, 3 of 4 and 4 of 5 pixels; of the second, 1 of 2.
    np.testing.assert_allclose(mean_iou(np.stack([one, two])), [(3 / 4 + 4 / 5) / 2, 1 / 2])


def test_interval_of_equal_photos_is_a_point():
    photo = margins(np.array([[3, 1], [0, 4]]))
    low, high = interval(np.stack([photo] * 5))
    assert low == high == pytest.approx((3 / 4 + 4 / 5) / 2)


def test_interval_spans_what_photos_disagree_on():
    # Of two photos, one right and one wrong, each is drawn twice in a quarter of the draws.
    right, wrong = margins(np.array([[0, 0], [0, 10]])), margins(np.array([[0, 0], [10, 0]]))
    assert interval(np.stack([right, wrong])) == (0.0, 1.0)


def test_interval_resamples_photos_not_pixels():
    # 50 photos right, 50 wrong: the share of right ones is binomial, standard deviation 0.05.
    photos = [margins(np.array([[0, 0], [0, 10]])), margins(np.array([[0, 0], [10, 0]]))] * 50
    low, high = interval(np.stack(photos))
    assert low == pytest.approx(0.40, abs=0.021)
    assert high == pytest.approx(0.60, abs=0.021)
    assert interval(np.stack(photos)) == (low, high)


# Folders and questions.


def test_folder_reads_classes_in_order(coco):
    folder = open_folder(coco, "val2017")
    assert folder.names == NAMES
    assert [path.name for path in folder.photos] == ["1.jpg", "2.jpg", "3.jpg"]
    _, truth = next(folder.read())
    assert truth.shape == (40, 64)
    assert np.unique(truth[:10]).tolist() == [CAT]
    assert np.unique(truth[10:]).tolist() == [0]


def test_void_and_unlisted_values_do_not_count(tmp_path):
    mask = np.array([[0, 1, 2, 200]], np.uint8).repeat(20, axis=0)
    make_folder(tmp_path, "val", {"1": mask}, ("sky", "road", "void(ignore)"))
    folder = open_folder(tmp_path, "val")
    assert folder.names == ("sky", "road")
    _, truth = next(folder.read())
    assert truth[0].tolist() == [1, 2, -1, -1]
    question = folder.ask(CAMVID_RULES["camvid"], truth)
    assert question.vocabulary.names == ("sky", "road")
    assert question.vocabulary.other == ()
    assert question.truth[0].tolist() == [1, 2, -1, -1]


def test_limit_spreads_over_the_folder(tmp_path):
    mask = np.ones((20, 20), np.uint8)
    make_folder(tmp_path, "val2017", {f"{number}": mask for number in range(6)})
    assert [path.stem for path in open_folder(tmp_path, "val2017", 3).photos] == ["0", "2", "4"]
    assert len(open_folder(tmp_path, "val2017", 60).photos) == 6


@pytest.mark.parametrize(
    ("rule", "typed", "other", "truth"),
    [
        ("a", ("cat", "zebra"), True, [0, CAT, ZEBRA, -1]),
        ("a_fg", ("cat", "zebra"), False, [-1, CAT, ZEBRA, -1]),
        ("b", NAMES, True, [0, CAT, ZEBRA, -1]),
        ("b_fg", NAMES, False, [-1, CAT, ZEBRA, -1]),
        ("c", VOC_IN_COCO, True, [0, CAT, 0, -1]),
    ],
)
def test_rules(coco, rule, typed, other, truth):
    folder = open_folder(coco, "val2017")
    question = folder.ask(COCO_RULES[rule], np.array([[0, CAT, ZEBRA, -1]], np.int16))
    assert question.vocabulary.names == typed
    assert bool(question.vocabulary.other) == other
    assert set(question.vocabulary.other) <= set(default_background())
    assert question.truth.tolist() == [truth]
    assert [0, *(NAMES.index(name) + 1 for name in typed)] == question.classes.tolist()


def test_a_photo_without_classes_has_nothing_to_type(coco):
    folder = open_folder(coco, "val2017")
    nothing = np.zeros((2, 2), np.int16)
    assert folder.ask(COCO_RULES["a"], nothing) is None
    assert folder.ask(COCO_RULES["b"], nothing).truth.tolist() == [[0, 0], [0, 0]]


def test_broken_pairs_are_named_and_left_out(coco, capsys):
    (coco / "images/val2017/1.jpg").write_bytes(b"no picture")
    Image.fromarray(np.zeros((5, 5), np.uint8)).save(coco / "masks/val2017/2.png")
    folder = open_folder(coco, "val2017")
    assert [photo.name for photo, _ in folder.read()] == ["3"]
    assert [sentence.split(":")[0] for sentence in folder.skipped] == ["1.jpg", "2.jpg"]
    assert "left out 1.jpg" in capsys.readouterr().err


@pytest.mark.parametrize(
    "content", [None, b"", b"\x89PNG\r\n\x1a\n broken"], ids=["absent", "empty", "damaged"]
)
def test_masks_that_cannot_be_read(tmp_path, content):
    if content is not None:
        (tmp_path / "1.png").write_bytes(content)
    with pytest.raises(ValueError, match=r"1\.png cannot be read"):
        read_mask(tmp_path / "1.png", (5, 5))


def test_colour_masks_are_refused(tmp_path):
    Image.new("RGB", (5, 5)).save(tmp_path / "1.png")
    with pytest.raises(ValueError, match="one 8-bit channel"):
        read_mask(tmp_path / "1.png", (5, 5))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("person", "lines like"),
        ("256 person", "lines like"),
        ("7", "lines like"),
        ("1 a;b", "every name once"),
    ],
)
def test_class_lists_that_cannot_be_used(coco, line, message):
    (coco / "classes.txt").write_text(f"0 background\n{line}\n", encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        open_folder(coco, "val2017").ask(COCO_RULES["b"], np.zeros((1, 1), np.int16))


# Measuring.


def test_tally_means_over_both_photos(coco):
    folder = open_folder(coco, "val2017")
    tally = Tally(seconds=[9.0, 1.0, 3.0])
    truths = [np.array([[0, CAT, CAT, CAT]], np.int16), np.array([[0, 0, DOG, DOG]], np.int16)]
    answers = [np.array([[0, 1, 1, 0]]), np.array([[0, 1, 1, 0]])]  # label 1 is the class that was typed
    for truth, labels in zip(truths, answers, strict=True):
        tally.add("a", folder.ask(COCO_RULES["a"], truth), labels, len(NAMES) + 1)
    report = tally.report(folder.names)
    # background: right 2, truth 3, answer 4: 2/5; cat: 2/3; dog: right 1, truth 2, answer 2: 1/3
    assert report.scores["a"].iou == {"background": 40.0, "cat": 66.67, "dog": 33.33}
    assert report.scores["a"].miou == pytest.approx(46.67)
    assert (report.scores["a"].photos, report.scores["a"].classes) == (2, 3)
    assert report.seconds == 2.0


@pytest.mark.parametrize("name", ["clip", "naclip"])
def test_shared_evidence_is_what_each_question_alone_gives(bench, coco, name):
    folder = open_folder(coco, "val2017")
    photo, truth = next(folder.read())
    preset = preset_for(name, tiny_spec("mini"), bench.compute.device)
    features, _ = bench.encode(photo, preset)
    method = build_method(name, bench.tower.vision.visual)
    questions = {metric: folder.ask(rule, truth) for metric, rule in COCO_RULES.items()}
    maps = score_maps(method, features, bench.tower.text, preset.templates, questions)
    for metric, question in questions.items():
        text = bench.tower.text.embed(question.vocabulary, TEMPLATES[preset.templates])
        alone = method.segment(features, text).score_map
        assert maps[metric].vocabulary == question.vocabulary
        np.testing.assert_allclose(maps[metric].evidence, alone.evidence, atol=1e-6)


def test_methods_that_weigh_names_are_asked_one_by_one(bench, coco):
    folder = open_folder(coco, "val2017")
    photo, truth = next(folder.read())
    preset = preset_for("maskclip", tiny_spec("mini"), bench.compute.device)
    features, _ = bench.encode(photo, preset)
    method = build_method("maskclip", bench.tower.vision.visual, frozenset({"prompt_denoising"}))
    questions = {metric: folder.ask(COCO_RULES[metric], truth) for metric in ("a_fg", "b_fg")}
    maps = score_maps(method, features, bench.tower.text, preset.templates, questions)
    # One name alone has probability 1 and stays; of 22, those that are best nowhere are taken out.
    assert float(maps["a_fg"].evidence.min()) > -1
    assert float(maps["b_fg"].evidence.min()) == -100


def test_measure_counts_every_photo_where_it_belongs(bench, coco):
    folder = open_folder(coco, "val2017")
    preset = preset_for("naclip", tiny_spec("mini"), bench.compute.device)
    tally = bench.measure(folder, COCO_RULES, {"naclip": preset})["naclip"]
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


def test_sweep_is_what_deciding_anew_gives(bench, coco):
    folder = open_folder(coco, "val2017")
    preset = preset_for("clip", tiny_spec("mini"), bench.compute.device)
    values = bench.sweep(folder, "clip", preset)
    tally = Tally()
    method = build_method("clip", bench.tower.vision.visual)
    for photo, whole in folder.read():
        question = folder.ask(COCO_RULES["b"], truth := whole[::2, ::2])
        features, _ = bench.encode(photo, preset)
        maps = score_maps(method, features, bench.tower.text, preset.templates, {"b": question})
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
        (["--split", "test"], "must hold photos"),
        (["--limit", "0"], "--limit must be at least 1"),
        (["--threshold", "2"], "threshold must lie"),
        (["--sweep", "--split", "val2017"], "training photos"),
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
