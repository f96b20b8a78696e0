"""The terminal: what is written, what is said, which exit code ends it. A stand-in is the engine."""

import io
import json
from dataclasses import dataclass, field, replace
from types import SimpleNamespace

import numpy as np
import pytest
from hand_made import make_mask_result, make_proposals, make_result
from PIL import Image

from ovs_core.checkpoints import CheckpointError
from ovs_core.cli.segment import main
from ovs_core.devices import choose_compute
from ovs_core.encoders.towers import ENCODERS
from ovs_core.engine import NotEnoughMemory
from ovs_core.methods import METHODS
from ovs_core.refine import REFINERS


@dataclass
class StandIn:
    """Answers like an engine, at once: left half class 1, right half other. Writes down what it was asked."""

    asked: list = field(default_factory=list)
    trouble: BaseException | None = None
    after: int = 0
    mask_method: str = ""  # gives two masks side by side of the first class, and no labels
    absent: str = ""  # a method whose head is not on this machine

    @property
    def compute(self):
        return choose_compute("cpu")

    @property
    def method_specs(self):
        return METHODS

    @property
    def encoder_specs(self):
        return ENCODERS

    @property
    def refiner_specs(self):
        return REFINERS

    def methods(self, encoder):
        return [
            SimpleNamespace(
                name=name,
                masks=name == self.mask_method,
                available=name != self.absent,
                reason="Its head is not here." if name == self.absent else "",
            )
            for name in METHODS
        ]

    def segment(self, photo, vocabulary, *, method, encoder, refiner, options, exemplars):
        if self.trouble is not None and len(self.asked) >= self.after:
            raise self.trouble
        for name, value in options.items():  # as the engine does
            METHODS[method].option(name).checked(value)
        self.asked.append((photo.name, method, encoder, refiner, dict(options)))
        if method == self.mask_method:
            left = np.zeros(photo.pixels.shape[:2], int)
            left[:, : left.shape[1] // 2] = 1
            scores = [[0.9] + [0.0] * (len(vocabulary.names) - 1)] * 2
            return make_mask_result(make_proposals([left, 1 - left], scores, vocabulary.names), method)
        labels = np.zeros(photo.pixels.shape[:2], np.uint8)
        labels[:, : labels.shape[1] // 2] = 1
        made = make_result(labels, photo.pixels, vocabulary.names, vocabulary.other, method)
        return replace(made, vocabulary=vocabulary, refiner=refiner, options=options)


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for name, color in (("a.png", "red"), ("b.jpg", "blue")):
        Image.new("RGB", (8, 6), color).save(folder / name)
    return folder


def run(*arguments, engine=None):
    engine = engine or StandIn()
    return main([str(argument) for argument in arguments], engine), engine


def names(folder):
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))


def test_a_folder_becomes_three_files_per_photo(photos, tmp_path, capsys):
    out = tmp_path / "out"
    code, _ = run(photos, "--classes", "dog; grass", "--out", out)
    assert code == 0
    assert names(out) == [
        f"{stem}.naclip.{end}" for stem in ("a", "b") for end in ("json", "labels.png", "overlay.png")
    ]
    assert np.asarray(Image.open(out / "a.naclip.labels.png")).tolist() == [[1] * 4 + [0] * 4] * 6
    said = capsys.readouterr()
    assert (
        said.out == "a.naclip: dog 50 %, other 50 %, grass 0 %\nb.naclip: dog 50 %, other 50 %, grass 0 %\n"
    )
    assert said.err == ""


def test_methods_settings_and_exports_reach_the_engine_and_the_disk(photos, tmp_path):
    out = tmp_path / "out"
    code, engine = run(
        photos / "a.png", "--classes", "dog", "--method", "sclip", "--method", "clip", "--scale", "25",
        "--threshold", "0.3", "--background", "none", "--export", "coco", "yolo", "npz", "masks",
        "--out", out,
    )  # fmt: skip
    assert code == 0
    wanted = {"scale": 25.0, "threshold": 0.3}
    assert engine.asked == [("a", "sclip", "mini", "none", wanted), ("a", "clip", "mini", "none", wanted)]
    ends = [
        "coco.json",
        "json",
        "labels.png",
        "mask.01-dog.png",
        "npz",
        "overlay.png",
        "yolo.names.txt",
    ]
    labels = ["clip.yolo", "sclip.yolo"]
    assert names(out) == [f"a.{method}.{end}" for method in ("clip", "sclip") for end in ends] + labels
    assert names(out / "clip.yolo") == ["a.txt"]
    report = json.loads((out / "a.clip.json").read_text())
    assert report["source"] == "a.png"
    assert report["vocabulary"]["other"] == []


def test_several_frames_reach_the_engine(photos, tmp_path):
    code, engine = run(photos, "--classes", "dog", "--several-frames", "--out", tmp_path / "out")
    assert code == 0
    assert [asked[-1] for asked in engine.asked] == [{"multi_scale": True}] * 2


def test_switches_go_to_the_methods_that_have_them(photos, tmp_path, capsys):
    switch = ("--switch", "key_smoothing")
    both = ("--method", "naclip", "--method", "maskclip")
    code, _ = run(photos / "a.png", "--classes", "dog", "--out", tmp_path, *both, *switch)
    assert code == 0
    reports = {
        method: json.loads((tmp_path / f"a.{method}.json").read_text()) for method in ("naclip", "maskclip")
    }
    assert {name: report["switches"] for name, report in reports.items()} == {
        "naclip": [],
        "maskclip": ["key_smoothing"],
    }
    code, engine = run(photos / "a.png", "--classes", "dog", "--out", tmp_path, *switch)
    assert (code, engine.asked) == (2, [])
    assert "--switch key_smoothing belongs to maskclip" in capsys.readouterr().err


def test_segments_are_written_for_methods_that_propose_masks(photos, tmp_path):
    ask = (photos / "a.png", "--classes", "dog", "--background", "none", "--export", "panoptic", "instances")
    for stuff, areas in (((), [24, 24]), (("--stuff", "dog; sky"), [48])):
        out = tmp_path / f"{len(areas)}"
        code, _ = run(*ask, *stuff, "--out", out, engine=StandIn(mask_method="naclip"))
        assert code == 0
        assert len(names(out)) == 8
        document = json.loads((out / "a.naclip.panoptic.json").read_text())
        assert [segment["area"] for segment in document["annotations"][0]["segments_info"]] == areas
        assert len(json.loads((out / "a.naclip.instances.json").read_text())["annotations"]) == (
            0 if stuff else 2
        )


@pytest.mark.parametrize(
    ("mask_method", "advice"),
    [("clip", "choose clip with --method"), ("", "none that is ready on mini does")],
)
def test_segments_of_other_methods_are_refused_before_any_work(photos, tmp_path, capsys, mask_method, advice):
    engine = StandIn(mask_method=mask_method)
    ask = (photos, "--classes", "dog", "--method", "sclip", "--export", "coco", "panoptic")
    code, _ = run(*ask, "--out", tmp_path / "out", engine=engine)
    assert (code, engine.asked) == (2, [])
    sentence = "--export panoptic needs a method that proposes masks, and sclip does not"
    assert capsys.readouterr().err == f"{sentence}; {advice}.\n"
    assert not (tmp_path / "out").exists()


def test_method_that_cannot_answer_here_is_refused_before_any_work(photos, tmp_path, capsys):
    ask = (photos, "--classes", "dog", "--method", "naclip", "--method", "mvp_seg")
    code, engine = run(*ask, "--out", tmp_path / "out", engine=StandIn(absent="mvp_seg"))
    assert (code, engine.asked) == (2, [])
    assert capsys.readouterr().err == "Its head is not here.\n"
    assert not (tmp_path / "out").exists()


def test_without_settings_the_engine_chooses(photos, tmp_path):
    _, engine = run(photos / "a.png", "--classes", "dog", "--out", tmp_path / "out")
    assert engine.asked == [("a", "naclip", "mini", "none", {})]


def test_classes_may_come_from_a_file(photos, tmp_path):
    (tmp_path / "classes.txt").write_text("dog\nsky | clouds\n")
    out = tmp_path / "out"
    assert run(photos / "a.png", "--classes", f"@{tmp_path / 'classes.txt'}", "--out", out)[0] == 0
    report = json.loads((out / "a.naclip.json").read_text())
    assert report["vocabulary"]["classes"] == [["dog"], ["sky", "clouds"]]


def test_equal_stems_never_overwrite_each_other(tmp_path):
    for place in ("x", "y", "x/y"):
        (tmp_path / place).mkdir()
        Image.new("RGB", (4, 3)).save(tmp_path / place / "img.png")
    Image.new("RGB", (4, 3)).save(tmp_path / "x" / "IMG.jpg")
    out = tmp_path / "out"
    code, engine = run(tmp_path / "x", tmp_path / "y", "--recursive", "--classes", "dog", "--out", out)
    assert code == 0
    assert len(engine.asked) == 4
    assert [name for name in names(out) if name.endswith(".json")] == [
        "IMG.naclip.json",
        "x-img.naclip.json",
        "y-img-2.naclip.json",
        "y-img.naclip.json",
    ]
    assert json.loads((out / "y-img.naclip.json").read_text())["source"] == "y/img.png"


def test_a_photo_named_twice_is_done_once(photos, tmp_path):
    _, engine = run(photos, photos / "a.png", "--classes", "dog", "--out", tmp_path / "out")
    assert len(engine.asked) == 2


def test_folders_are_searched_deeper_only_on_request(photos, tmp_path):
    (photos / "deeper").mkdir()
    Image.new("RGB", (4, 3)).save(photos / "deeper" / "c.webp")
    assert len(run(photos, "--classes", "dog", "--out", tmp_path / "1")[1].asked) == 2
    assert len(run(photos, "--recursive", "--classes", "dog", "--out", tmp_path / "2")[1].asked) == 3


def test_own_pictures_other_files_and_hidden_files_are_not_photos(photos):
    (photos / "notes.txt").write_text("no photo")
    (photos / "._a.png").write_bytes(b"made by a Mac")
    for _ in range(2):
        code, engine = run(photos, "--classes", "dog", "--export", "masks", "--out", photos)
        assert code == 0
        assert [asked[0] for asked in engine.asked] == ["a", "b"]


def test_broken_photos_are_named_skipped_and_counted(photos, tmp_path, capsys):
    (photos / "aa.png").write_text("no picture")
    (photos / "cut.jpg").write_bytes((photos / "b.jpg").read_bytes()[:200])
    code, engine = run(photos, "--classes", "dog", "--out", tmp_path / "out")
    assert code == 1
    assert [asked[0] for asked in engine.asked] == ["a", "b"]
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 3
    assert lines[0].startswith(f"Skipped {photos / 'aa.png'}: ")
    assert lines[1].startswith(f"Skipped {photos / 'cut.jpg'}: ")
    listed = tmp_path / "out" / "failed.txt"
    assert lines[2] == f"2 of 4 photos could not be done; they are listed in {listed}."
    assert len(listed.read_text(encoding="utf-8").splitlines()) == 2


def test_a_photo_that_does_not_fit_is_skipped(photos, tmp_path, capsys):
    engine = StandIn(trouble=NotEnoughMemory("This photo does not fit."))
    assert run(photos, "--classes", "dog", "--out", tmp_path / "out", engine=engine)[0] == 1
    assert capsys.readouterr().err.count("This photo does not fit.") == 2


def test_missing_weights_end_the_run_with_one_line(photos, tmp_path, capsys):
    engine = StandIn(trouble=CheckpointError("Get the weights first."))
    assert run(photos, "--classes", "dog", "--out", tmp_path / "out", engine=engine)[0] == 2
    assert capsys.readouterr().err == "Get the weights first.\n"


def test_ctrl_c_ends_cleanly(photos, tmp_path, capsys):
    engine = StandIn(trouble=KeyboardInterrupt(), after=1)
    assert run(photos, "--classes", "dog", "--out", tmp_path / "out", engine=engine)[0] == 130
    assert capsys.readouterr().err == "Stopped; 1 of 2 photos are done. --resume goes on from there.\n"
    assert len(names(tmp_path / "out")) == 3


def test_notes_on_classes_and_photos_are_passed_on(photos, tmp_path, capsys):
    frames = [Image.new("RGB", (4, 3), color) for color in ("red", "blue")]
    frames[0].save(photos / "moving.gif", save_all=True, append_images=frames[1:])
    assert run(photos, "--classes", "dog; dog", "--out", tmp_path / "out")[0] == 0
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert "dog" in lines[0]
    assert lines[1].startswith("moving.gif: ")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"--classes": " ; "}, "class"),
        ({"--classes": "@no-such-file"}, "no-such-file"),
        ({"PATH": "no-such-photo.jpg"}, 'There is no file or folder "no-such-photo.jpg".'),
        ({"--method": "magic"}, "magic"),
        ({"--encoder": "magic"}, "magic"),
        ({"--threshold": "2"}, "threshold must be a number in [0, 1]"),
        ({"--scale": "0"}, "scale must be a number in [0.001, 10000]"),
        ({"--scale": "big"}, "big"),
        ({"--export": "pdf"}, "pdf"),
        ({"--what": "1"}, "--what"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(photos, tmp_path, capsys, change, message):
    options = {"PATH": photos, "--classes": "dog", "--out": tmp_path / "out"} | change
    path = options.pop("PATH")
    try:
        code, _ = run(path, *(part for option in options.items() for part in option))
    except SystemExit as stop:
        code = stop.code
    said = capsys.readouterr()
    assert code == 2
    assert len(said.err.splitlines()) == 1
    assert message in said.err
    assert said.out == ""
    assert not (tmp_path / "out").exists()


def test_an_unknown_method_is_told_the_known_ones(photos, tmp_path, capsys):
    with pytest.raises(SystemExit):
        run(photos, "--classes", "dog", "--method", "magic", "--out", tmp_path)
    said = capsys.readouterr().err
    assert all(name in said for name in METHODS)


@pytest.mark.parametrize(("encoding", "shown"), [("utf-8", "犬 ? é"), ("latin-1", "? ? é")])
def test_no_name_breaks_the_terminal(tmp_path, monkeypatch, encoding, shown):
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    monkeypatch.setattr("sys.stderr", stream)
    (tmp_path / "犬 \x1b é.png").write_text("no picture")
    assert run(tmp_path, "--classes", "dog", "--out", tmp_path / "out")[0] == 1
    stream.seek(0)
    assert f"{shown}.png: " in stream.readline()


def test_a_folder_without_photos_is_an_error(tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    assert run(tmp_path / "empty", "--classes", "dog", "--out", tmp_path / "out")[0] == 2
    assert "There is no photo in the folder" in capsys.readouterr().err


def test_a_place_that_cannot_be_written_is_an_error(photos, tmp_path, capsys):
    (tmp_path / "taken").write_text("")
    assert run(photos, "--classes", "dog", "--out", tmp_path / "taken")[0] == 2
    assert capsys.readouterr().err.startswith("Cannot write into")
