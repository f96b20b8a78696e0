"""Clips in and out: every kind of file that people have, or one sentence; times and sound come through."""

import sys
from fractions import Fraction

import numpy as np
import pytest
from clips import RATE, moving_blocks, read_back, write_clip
from PIL import Image

from ovs_core.video.clips import VideoError, inspect_clip, read_frames
from ovs_core.video.mp4 import mp4_writer


def test_frames_come_in_order_with_their_times(tmp_path):
    frames = moving_blocks(7)
    info = inspect_clip(write_clip(tmp_path / "clip.mp4", frames))
    read = list(read_frames(info))
    assert (info.size, info.rate, info.frames, info.has_sound) == ((48, 64), RATE, 7, False)
    assert [frame.number for frame in read] == list(range(7))
    assert [float(frame.time) for frame in read] == pytest.approx(
        [i / float(RATE) for i in range(7)], abs=1e-4
    )
    for frame, pixels in zip(read, frames, strict=True):
        assert np.abs(frame.pixels.astype(int) - pixels).mean() < 12  # colours are halved both ways


def test_variable_frame_rate_keeps_its_times(tmp_path):
    times = [0, 40, 200, 1000]
    path = write_clip(tmp_path / "clip.mkv", moving_blocks(4), times=times)
    info = inspect_clip(path)
    assert [float(frame.time) for frame in read_frames(info)] == pytest.approx([t / 1000 for t in times])
    with mp4_writer(tmp_path / "out.mp4", info) as write:
        for frame in read_frames(info):
            write(frame.pixels, frame.time)
    assert read_back(tmp_path / "out.mp4")[0] == pytest.approx([t / 1000 for t in times], abs=1e-3)


@pytest.mark.parametrize(("rotation", "size"), [(90, (64, 48)), (-90, (64, 48)), (180, (48, 64))])
def test_a_turned_telephone_clip_is_upright(tmp_path, rotation, size):
    frames = moving_blocks(2)
    frames[:, :8, :8] = (255, 0, 0)  # a mark in one corner of what the sensor saw
    frames[:, 8:, 8:] //= 4
    info = inspect_clip(write_clip(tmp_path / "clip.mp4", frames, rotation=rotation))
    first = next(iter(read_frames(info))).pixels
    assert (info.size, first.shape[:2]) == (size, size)
    corner = {90: first[-8:, :8], -90: first[:8, -8:], 180: first[-8:, -8:]}[rotation]
    assert corner[..., 0].mean() > 200
    assert corner[..., 1].mean() < 90


def test_a_broken_frame_is_left_out_and_told(tmp_path):
    path = write_clip(tmp_path / "clip.avi", moving_blocks(8), codec="mjpeg")
    content = bytearray(path.read_bytes())
    starts = [at for at in range(len(content) - 3) if content[at : at + 3] == b"\xff\xd8\xff"]
    content[starts[3] : starts[4] - 8] = bytes(starts[4] - 8 - starts[3])
    path.write_bytes(bytes(content))
    read = list(read_frames(inspect_clip(path)))
    assert len(read) == 7
    assert sum(frame.unreadable for frame in read) == 1
    assert float(read[3].time) == pytest.approx(4 / float(RATE), abs=1e-3)  # the gap stays a gap


def test_a_file_that_breaks_off_gives_what_it_has(tmp_path):
    path = write_clip(tmp_path / "clip.ts", moving_blocks(20))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert 0 < len(list(read_frames(inspect_clip(path)))) < 20


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda path: path.with_name("nowhere.mp4"), "There is no file"),
        (lambda path: [path, path.write_bytes(b"")][0], "empty"),
        (lambda path: path.write_text("no clip at all\n" * 40) and path, "not a video that can be read"),
        (lambda path: write_sound_alone(path), "holds sound and no picture"),
        (lambda path: path.parent / "frames", "no picture in the folder"),
    ],
)
def test_what_is_no_clip_ends_in_one_sentence(tmp_path, make, sentence):
    (tmp_path / "frames").mkdir()
    with pytest.raises(VideoError, match=sentence) as error:
        inspect_clip(make(tmp_path / "clip.mp4"))
    assert "\n" not in str(error.value)


def write_sound_alone(path):
    import av

    write_clip(path.with_name("both.mp4"), moving_blocks(20), sound="aac")
    with av.open(str(path.with_name("both.mp4"))) as source, av.open(str(path), "w") as output:
        track = source.streams.audio[0]
        copy = output.add_stream_from_template(track)
        for packet in source.demux(track):
            if packet.dts is not None:
                packet.stream = copy
                output.mux(packet)
    return path


def test_without_pyav_one_sentence_says_how_to_get_it(tmp_path, monkeypatch):
    path = write_clip(tmp_path / "clip.mp4", moving_blocks(2))
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(VideoError, match="pip install"):
        inspect_clip(path)


def test_a_folder_of_frames_is_a_clip(tmp_path):
    for number, pixels in enumerate(moving_blocks(11)):
        Image.fromarray(pixels).save(tmp_path / f"frame {number}.png")
    (tmp_path / "frame 3.png").write_bytes(b"broken")
    (tmp_path / "notes.txt").write_text("not a frame")
    info = inspect_clip(tmp_path, Fraction(10))
    read = list(read_frames(info))
    assert (info.frames, info.rate, info.size) == (11, 10, (48, 64))
    assert [float(frame.time) for frame in read] == pytest.approx([i / 10 for i in range(11) if i != 3])
    np.testing.assert_array_equal(read[-1].pixels, moving_blocks(11)[10])  # 9 comes before 10
    assert read[3].unreadable == 1


def test_frames_of_two_sizes_are_refused(tmp_path):
    Image.new("RGB", (30, 20)).save(tmp_path / "1.png")
    Image.new("RGB", (30, 21)).save(tmp_path / "2.png")
    with pytest.raises(VideoError, match="has 30 x 21 pixels"):
        list(read_frames(inspect_clip(tmp_path)))
    with pytest.raises(VideoError, match="above 0"):
        inspect_clip(tmp_path, Fraction(0))


@pytest.mark.parametrize(
    ("ending", "codec", "expected"), [("mp4", "aac", "aac"), ("mkv", "pcm_s16le", "aac"), ("mp4", None, None)]
)
def test_rate_and_sound_come_through(tmp_path, ending, codec, expected):
    path = write_clip(tmp_path / f"clip.{ending}", moving_blocks(40), sound=codec)
    info = inspect_clip(path)
    with mp4_writer(tmp_path / "out" / "clip.mp4", info) as write:
        for frame in read_frames(info):
            write(frame.pixels, frame.time)
    times, size, rate, sound, found = read_back(tmp_path / "out" / "clip.mp4")
    assert (len(times), size, found) == (40, (48, 64), expected)
    assert float(rate) == pytest.approx(float(RATE), rel=2e-3)
    if expected:
        assert sound == pytest.approx(40 / float(RATE), abs=0.1)


def test_odd_sides_get_one_more_row_and_column(tmp_path):
    for number in range(3):
        Image.new("RGB", (31, 23), (200, 40, 40)).save(tmp_path / f"{number}.png")
    info = inspect_clip(tmp_path)
    with mp4_writer(tmp_path / "out.mp4", info) as write:
        for frame in read_frames(info):
            write(frame.pixels, frame.time)
    times, size, rate, _, _ = read_back(tmp_path / "out.mp4")
    assert (len(times), size, rate) == (3, (24, 32), 25)


def test_a_file_that_was_not_finished_is_not_there(tmp_path):
    info = inspect_clip(write_clip(tmp_path / "clip.mp4", moving_blocks(3)))
    with pytest.raises(ValueError, match="ndim"), mp4_writer(tmp_path / "out" / "a.mp4", info) as write:
        write(np.zeros((48, 64), np.uint8), Fraction(0))  # no colours: no frame
    assert list((tmp_path / "out").iterdir()) == []
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(VideoError, match="cannot be written"),
        mp4_writer(tmp_path / "file" / "a.mp4", info),
    ):
        pass
