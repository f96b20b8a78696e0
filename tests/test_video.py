"""The video room: a loop round the engine, quiet answers, and what is measured of them."""

import gc
import json
import threading
import tracemalloc
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import torch
from clips import RATE, moving_blocks, read_back, write_clip
from PIL import Image

from ovs_core.cli.video import main
from ovs_core.devices import Cancelled
from ovs_core.evidence.decide import class_probabilities, decide
from ovs_core.evidence.proposals import MaskProposals
from ovs_core.evidence.score_map import ScoreMap
from ovs_core.image import Photo
from ovs_core.types import LabelMap, Vocabulary
from ovs_core.video.clips import VideoError
from ovs_core.video.consistency import Consistency, FlickerCount
from ovs_core.video.motion import optical_flow, warped
from ovs_core.video.segment import VideoProgress, VideoSettings, last_result, segment_video
from ovs_core.video.smoothing import Smoothing, as_evidence, remember
from ovs_core.vocabulary.exemplars import Exemplar

SETTINGS = VideoSettings("naclip", "mini")
WORDS = "dog; grass; sky"


@pytest.fixture
def clip(tmp_path):
    return write_clip(tmp_path / "a clip.mp4", moving_blocks(6), sound="aac")


def done(engine, source, out, settings=SETTINGS, **more):
    return list(segment_video(engine, source, WORDS, out, settings, background="none", **more))


def test_every_frame_is_answered_as_a_photo_is(engine, tmp_path):
    frames = moving_blocks(3)
    for number, pixels in enumerate(frames):
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
    events = done(engine, tmp_path, tmp_path / "out")
    for event, pixels in zip(events[:-1], frames, strict=True):
        expected = engine.segment(Photo(pixels), WORDS, method="naclip", background="none")
        np.testing.assert_array_equal(event.labels, expected.labels)
    assert [(event.done, event.total) for event in events[:-1]] == [(1, 3), (2, 3), (3, 3)]


def test_boxes_are_found_in_every_frame_as_in_a_photo(engine, tmp_path):
    frames = moving_blocks(3)
    for number, pixels in enumerate(frames):
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
    kitchen = Photo(moving_blocks(1, seed=3)[0])
    boxes = (Exemplar(kitchen, (5, 5, 30, 40), "mug"), Exemplar(kitchen, (0, 0, 9, 9), "other"))
    events = done(engine, tmp_path, tmp_path / "out", replace(SETTINGS, exemplars=boxes))
    for event, pixels in zip(events[:-1], frames, strict=True):
        expected = engine.segment(Photo(pixels), WORDS, background="none", exemplars=boxes)
        np.testing.assert_array_equal(event.labels, expected.labels)
    assert engine.cache.stats("boxes").misses == 2  # each is looked at once, not at every frame
    report = last_result(events).report.read_text(encoding="utf-8")
    head = json.loads(report.splitlines()[0])
    assert head["vocabulary"]["classes"][3:] == [["mug (box)"]]
    assert head["exemplars"] == [{"name": box.name, "photo_sha256": kitchen.key} for box in boxes]


def test_files_have_the_clips_times_sound_and_a_line_per_frame(engine, clip, tmp_path):
    events = done(engine, clip, tmp_path / "out")
    result = last_result(events)
    times, size, rate, _, codec = read_back(result.video)
    assert result.video.name == "a clip.naclip.mp4"
    assert (len(times), size, codec) == (6, (48, 64), "aac")
    assert float(rate) == pytest.approx(float(RATE), rel=2e-3)
    head, *lines = (json.loads(line) for line in result.report.read_text(encoding="utf-8").splitlines())
    assert (head["schema"], head["source"], head["image"]) == (
        "ovs-lens/video/1",
        "a clip.mp4",
        {"width": 64, "height": 48},
    )
    assert [line["frame"] for line in lines] == list(range(6))
    assert [line["seconds"] for line in lines] == pytest.approx(times, abs=1e-3)
    for event, line in zip(events, lines, strict=False):
        assert {entry["id"] for entry in line["classes"]} == set(np.unique(event.labels).tolist())
        assert sum(entry["area_share"] for entry in line["classes"]) == pytest.approx(1)
    assert [event.seconds_left is not None for event in events[:-1]] == [True] * 6


def test_words_are_encoded_once_and_equal_frames_looked_at_once(engine, tmp_path):
    still = np.repeat(moving_blocks(1), 4, axis=0)
    for number, pixels in enumerate([*still, *moving_blocks(2, seed=1)]):
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
    asked = []
    answer = engine.segment

    def counted(photo, *arguments, **settings):
        asked.append(answer(photo, *arguments, **settings))
        return asked[-1]

    engine.segment = counted
    done(engine, tmp_path, tmp_path / "out")
    assert len(asked) == 3
    assert ["text" in result.seconds for result in asked] == [True, False, False]


def test_cancelling_leaves_no_file(engine, clip, tmp_path):
    cancel = threading.Event()
    events = segment_video(engine, clip, WORDS, tmp_path / "out", SETTINGS, cancel=cancel)
    assert isinstance(next(events), VideoProgress)
    cancel.set()
    with pytest.raises(Cancelled):
        next(events)
    assert list((tmp_path / "out").iterdir()) == []


def test_leaving_early_leaves_no_file(engine, clip, tmp_path):
    events = segment_video(engine, clip, WORDS, tmp_path / "out", SETTINGS)
    next(events)
    events.close()
    assert list((tmp_path / "out").iterdir()) == []


def test_a_folder_that_cannot_be_written_ends_in_one_sentence(engine, clip, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(VideoError, match="annot"):
        done(engine, clip, tmp_path / "file" / "out")


def test_smoothing_makes_a_noisy_clip_quieter(engine, tmp_path):
    rng = np.random.default_rng(0)
    still = moving_blocks(1)[0].astype(np.int16)
    for number in range(8):
        noisy = np.clip(still + rng.integers(-9, 10, still.shape), 0, 255).astype(np.uint8)
        Image.fromarray(noisy).save(tmp_path / f"{number}.png")
    words = "; ".join(f"word {letter}" for letter in "abcdefghijklmnopqrstuvwxyz")  # many that nearly win
    flicker = {}
    for weight in (0.0, 0.8):
        settings = replace(SETTINGS, options={"threshold": 0.0}, smoothing=Smoothing(weight))
        events = segment_video(engine, tmp_path, words, tmp_path / "out", settings, background="none")
        flicker[weight] = last_result(list(events)).flicker
    assert flicker[0.0] > 0
    assert flicker[0.8] < flicker[0.0]


def evidence_of(chance, size=(4, 6)):
    vocabulary = Vocabulary((("dog",), ("grass",)))
    rows = torch.tensor([chance, 1 - chance]).log()[:, None, None].expand(2, *size)
    return ScoreMap(rows, vocabulary, size)


def test_average_is_exponential_and_a_cut_starts_anew():
    grey = np.full((4, 6, 3), 90, np.uint8)
    half = Smoothing(0.5)
    first = remember(None, evidence_of(0.9), 1.0, grey, half)
    second = remember(first, evidence_of(0.1), 1.0, grey, half)
    third = remember(second, evidence_of(0.1), 1.0, grey, half)
    assert [float(one.probabilities[0, 0, 0]) for one in (first, second, third)] == pytest.approx(
        [0.9, 0.5, 0.3]
    )
    after_cut = remember(third, evidence_of(0.8), 1.0, np.full_like(grey, 220), half)
    assert float(after_cut.probabilities[0, 0, 0]) == pytest.approx(0.8)


def test_masks_are_smoothed_like_rows():
    masks = torch.full((2, 4, 6), -8.0)
    masks[0, :, :3], masks[1, :, 3:] = 8.0, 8.0
    scores, vocabulary = torch.tensor([[0.9, 0.05], [0.05, 0.9]]), Vocabulary((("dog",), ("grass",)))
    proposals = MaskProposals(masks, scores, 1 - scores.sum(dim=1), vocabulary, *[(4, 6)] * 3)
    grey = np.full((4, 6, 3), 90, np.uint8)
    state = remember(None, proposals, 1.0, grey, Smoothing(0.5))
    smooth = as_evidence(state, proposals.vocabulary, (4, 6))
    np.testing.assert_array_equal(decide(smooth, 1.0, 0.0)[0], decide(proposals, 1.0, 0.0)[0])
    torch.testing.assert_close(
        class_probabilities(smooth, 1.0, (4, 6)), state.probabilities, atol=1e-5, rtol=0
    )


@pytest.mark.parametrize("weight", [-0.1, 1.0])
def test_weight_must_leave_room_for_the_frame(weight):
    with pytest.raises(ValueError, match=r"\[0, 1\)"):
        Smoothing(weight)


def texture(shift, size=(60, 90)):
    """A smooth random picture moved by (x, y) cells."""
    generator = torch.Generator().manual_seed(3)
    coarse = torch.rand(1, 1, 24, 36, generator=generator)
    wide = torch.nn.functional.interpolate(coarse, scale_factor=size[1] // 18, mode="bicubic")[0, 0].clamp(
        0, 1
    )
    x, y = shift
    return wide[10 - y : 10 - y + size[0], 15 - x : 15 - x + size[1]]


@pytest.mark.parametrize("shift", [(0, 0), (3, 0), (0, -2), (-5, 4)])
def test_flow_finds_where_things_were(shift):
    before, after = texture((0, 0)), texture(shift)
    flow = optical_flow(before, after)
    inside = flow[:, 12:-12, 12:-12].mean(dim=(1, 2))
    assert inside.tolist() == pytest.approx([-shift[0], -shift[1]], abs=0.35)
    error = (warped(before[None], flow)[0] - after)[12:-12, 12:-12].abs().mean()
    assert float(error) < 0.03


def test_flow_is_even_where_all_moves_alike():
    """Sides are odd, so that pictures of half the size do not fit; cells may err, but hardly any does."""
    before, after = texture((0, 0), (121, 163)), texture((6, -3), (121, 163))
    flow = optical_flow(before, after)
    assert flow.shape == (2, 121, 163)
    off = (flow - torch.tensor([-6.0, 3.0])[:, None, None]).square().sum(dim=0).sqrt()[16:-16, 16:-16]
    assert float(off.mean()) < 0.2
    assert float((off > 1).float().mean()) < 0.01


def test_a_thing_moves_and_its_ground_does_not():
    rows, columns = torch.meshgrid(torch.arange(120), torch.arange(160), indexing="ij")
    ground, thing = texture((0, 0), (120, 160)), texture((7, 3), (120, 160)).flip(1)
    discs = [(rows - 60) ** 2 + (columns - middle) ** 2 < 30**2 for middle in (70, 76)]
    before, after = (
        torch.where(disc, thing.roll(shift, 1), ground) for disc, shift in zip(discs, (0, 6), strict=True)
    )
    carried = warped(discs[0][None].float(), optical_flow(before, after))[0] > 0.5
    assert float((carried & discs[1]).sum() / (carried | discs[1]).sum()) > 0.9
    assert float((discs[0] & discs[1]).sum() / (discs[0] | discs[1]).sum()) < 0.8  # where it stayed


def test_flow_of_two_sizes_is_refused():
    with pytest.raises(ValueError, match="equal"):
        optical_flow(torch.zeros(4, 6), torch.zeros(4, 7))


def test_what_is_remembered_follows_the_motion():
    grey = [(texture(shift) * 100 + 70).to(torch.uint8) for shift in ((0, 0), (4, 0))]
    pictures = [one[..., None].expand(-1, -1, 3).numpy() for one in grey]
    chances = torch.full((60, 90), 0.05)
    chances[:, 30:50] = 0.95
    rows = torch.stack([chances, 1 - chances]).log()
    before = ScoreMap(rows, Vocabulary((("dog",), ("grass",))), (60, 90))
    unsure = ScoreMap(torch.zeros(2, 60, 90), before.vocabulary, (60, 90))
    for along, column in ((False, 40), (True, 44)):
        smoothing = Smoothing(0.9, along)
        state = remember(None, before, 1.0, pictures[0], smoothing)
        state = remember(state, unsure, 1.0, pictures[1], smoothing)
        sure = state.probabilities[0, 30] > 0.5
        assert float(sure.nonzero().float().mean()) == pytest.approx(column, abs=1)


def test_flicker_counts_labels_that_change_where_the_frame_does_not():
    count = FlickerCount()
    pixels = np.zeros((2, 5, 3), np.uint8)
    moved = pixels.copy()
    moved[:, 0] = 200
    labels = np.zeros((2, 5), np.uint8)
    other = labels.copy()
    other[0, :3] = 1  # one of them where the frame changed
    assert count.share is None
    count.add(labels, pixels)
    count.add(other, moved)
    assert count.share == pytest.approx(2 / 8)


def test_consistency_is_the_share_that_is_always_right():
    found = Consistency(length=2)
    known = np.array([[True, True, True, False]])
    found.add(LabelMap(np.array([[1, 1, 2, 0]]), (), known), np.array([[True, True, True, True]]))
    found.add(LabelMap(np.array([[1, 1, 1, 0]]), (), known), np.array([[True, False, True, True]]))
    assert found.scores == [0.5]  # two pixels keep their class, one of them is right in both frames
    assert found.mean == 0.5
    assert Consistency(length=3).mean is None


def test_command_line(engine, clip, tmp_path, capsys):
    arguments = [str(clip), str(tmp_path / "gone.mp4"), "--classes", WORDS, "--out", str(tmp_path / "out")]
    arguments += ["--background", "none"]
    assert main([*arguments, "--smoothing", "0.5", "--along-motion"], engine) == 1
    said = capsys.readouterr()
    assert said.out.startswith("a clip.naclip.mp4: 6 frames, ")
    assert "There is no file" in said.err
    assert "1 of 2 clips could not be done." in said.err
    report = (tmp_path / "out" / "a clip.naclip.frames.jsonl").read_text(encoding="utf-8")
    assert json.loads(report.splitlines()[0])["smoothing"] == {"weight": 0.5, "along_motion": True}


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        (["--smoothing", "1"], "smoothing must lie in"),
        (["--method", "fc_clip"], "FC-CLIP"),
        (["--threshold", "3"], "threshold"),
    ],
)
def test_command_line_refuses_in_one_line(engine, clip, tmp_path, capsys, more, sentence):
    assert main([str(clip), "--classes", WORDS, "--out", str(tmp_path / "out"), *more], engine) == 2
    assert sentence in capsys.readouterr().err
    assert not list((tmp_path / "out").glob("*"))


def test_command_line_asks_by_boxes_alone(engine, clip, tmp_path, capsys):
    Image.fromarray(moving_blocks(1)[0]).save(tmp_path / "kitchen.png")
    box = f"mug={tmp_path / 'kitchen.png'}:5,5,30,40"
    arguments = [str(clip), "--out", str(tmp_path / "out"), "--exemplar"]
    assert main([*arguments, box], engine) == 0
    report = (tmp_path / "out" / "a clip.naclip.frames.jsonl").read_text(encoding="utf-8")
    assert json.loads(report.splitlines()[0])["vocabulary"]["classes"] == [["mug (box)"]]
    capsys.readouterr()
    for wrong, sentence in (
        (box.replace("40", "400"), "reaches out of the photo"),
        ("mug", "An exemplar is written name=photo.jpg:left,top,right,bottom"),
    ):
        assert main([*arguments, wrong], engine) == 2
        assert sentence in capsys.readouterr().err
    assert main(arguments[:-1], engine) == 2
    assert "Type at least one class name." in capsys.readouterr().err


@pytest.mark.parametrize("rate", ["0", "no", "1/0"])
def test_command_line_refuses_a_frame_rate(clip, tmp_path, capsys, rate):
    with pytest.raises(SystemExit) as stopped:
        main([str(clip), "--classes", WORDS, "--out", str(tmp_path), "--frame-rate", rate])
    assert stopped.value.code == 2
    assert "above 0" in capsys.readouterr().err


def test_memory_does_not_grow_with_length(make_engine, tmp_path):
    """What is alive after 24 frames is what was alive after 8: one frame, and a cache with a budget."""
    for number, pixels in enumerate(moving_blocks(24)):
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
    engine = make_engine(cache_bytes=1 << 16)  # full before the first look at memory
    held = {}
    tracemalloc.start()
    try:
        for event in segment_video(
            engine, tmp_path, WORDS, tmp_path / "out", SETTINGS, background="none", frame_rate=Fraction(5)
        ):
            if isinstance(event, VideoProgress) and event.done in (8, 24):
                gc.collect()
                held[event.done] = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert held[24] < held[8] + 100_000


def test_smoothing_decides_a_frames_labels_once(engine, clip, tmp_path):
    """The photo's own labels are not wanted there: they are those of one pixel."""
    sizes = []
    answer = engine.segment

    def watched(*asked, **how):
        result = answer(*asked, **how)
        sizes.append(result.labels.shape)
        return result

    engine.segment = watched
    events = done(engine, clip, tmp_path / "out", replace(SETTINGS, smoothing=Smoothing(0.5)))
    assert set(sizes) == {(1, 1)}
    assert {event.labels.shape for event in events[:-1]} == {(48, 64)}
