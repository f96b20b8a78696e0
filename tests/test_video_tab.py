"""The Video tab without a browser: steps, sentences, files, and a page that can be laid out."""

import json
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from clips import moving_blocks, write_clip
from PIL import Image

from ovs_core.ui.app import build_ui
from ovs_core.ui.asking import Question
from ovs_core.ui.boxes import SOURCE_GONE, DrawnBox
from ovs_core.ui.video_tab import CLIP_GONE, NO_CLIP, progress_status, video_steps
from ovs_core.video.segment import VideoProgress
from ovs_core.video.smoothing import Smoothing


@pytest.fixture
def clip(tmp_path):
    return str(write_clip(tmp_path / "clip.mp4", moving_blocks(4)))


def ask(classes="dog; grass", refiner="none"):
    return Question(None, classes, "none", "mini", refiner)


def run(engine, clip, out, question=None, token=None):
    return list(video_steps(engine, token, clip, question or ask(), "naclip", Smoothing(0.5), out))


def test_a_clip_becomes_two_files(engine, clip, tmp_path):
    steps = run(engine, clip, tmp_path / "out")
    *busy, (status, (_, files)) = steps
    assert {said.kind for said, _ in busy} == {"busy"}
    assert status.kind == "done"
    assert status.text.startswith("4 frames done")
    assert [path.rsplit(".", 1)[1] for path in files] == ["mp4", "jsonl"]
    pictures = [shown[0] for _, shown in busy if shown is not None]
    assert pictures[0].shape == (48, 64, 3)


@pytest.mark.parametrize(("path", "sentence"), [(None, NO_CLIP), ("", CLIP_GONE), ("/gone.mp4", CLIP_GONE)])
def test_without_a_clip_one_sentence_says_so(engine, tmp_path, path, sentence):
    [(status, shown)] = run(engine, path, tmp_path / "out")
    assert (status.kind, status.text, shown) == ("error", sentence, None)


def test_no_words_and_no_video_end_in_one_sentence(engine, clip, tmp_path):
    [(status, _)] = run(engine, clip, tmp_path / "out", ask(""))
    assert (status.kind, status.text) == ("error", "Type at least one class name.")
    broken = tmp_path / "broken.mp4"
    broken.write_text("nothing")
    [(status, _)] = run(engine, str(broken), tmp_path / "out")
    assert status.kind == "error"
    assert "not a video that can be read" in status.text


def test_boxes_belong_to_the_question(engine, clip, tmp_path):
    Image.fromarray(moving_blocks(1)[0]).save(tmp_path / "kitchen.png")
    box = DrawnBox(str(tmp_path / "kitchen.png"), (5, 5, 30, 40), "mug")
    *_, (status, (_, files)) = run(engine, clip, tmp_path / "out", replace(ask(""), boxes=(box,)))
    assert status.kind == "done"
    head = Path(files[1]).read_text(encoding="utf-8").splitlines()[0]
    assert json.loads(head)["vocabulary"]["classes"] == [["mug (box)"]]
    gone = replace(box, photo=str(tmp_path / "gone.png"))
    [(status, _)] = run(engine, clip, tmp_path / "out", replace(ask(), boxes=(gone,)))
    assert (status.kind, status.text) == ("error", SOURCE_GONE)


def test_cancelling_is_said_and_leaves_no_file(engine, clip, tmp_path):
    token = threading.Event()
    token.set()
    [(status, _)] = run(engine, clip, tmp_path / "out", token=token)
    assert status.kind == "warning"
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize(
    ("progress", "text", "fraction"),
    [
        ((3, 12, 8.4), "Frame 3 of 12, 8 s left", 0.25),
        ((3, 12, 200.0), "Frame 3 of 12, 3 min left", 0.25),
        ((13, 12, 0.0), "Frame 13 of 13, 1 s left", 1.0),  # the file said too few
        ((3, None, None), "3 frames done", None),
    ],
)
def test_progress_says_what_is_left(progress, text, fraction):
    status = progress_status(VideoProgress(*progress, None, None))
    assert (status.text, status.fraction) == (text, fraction)


def test_the_page_has_the_tab(engine):
    page = build_ui(engine, examples=())
    ids = {getattr(block, "elem_id", None) for block in page.blocks.values()}
    assert {"video-clip", "video-method", "video-start", "video-stop", "video-newest"} <= ids
