"""Folders as people have them: every file is answered, or counted and named; nothing overwrites anything."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from ovs_core.cli import segment
from ovs_core.engine import Engine

REPOSITORY = Path(__file__).resolve().parents[1]
ALL_FORMATS = ("coco", "coco-polygons", "yolo", "npz", "masks", "ids")


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    return Engine("cpu", offline=True, text_dir=tmp_path_factory.mktemp("text"))


@pytest.fixture
def folder(tmp_path):
    place = tmp_path / "photos"
    place.mkdir()
    return place


def picture(path, color="red", kind=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (24, 16), color).save(path, kind)
    return path


def run(engine, capsys, *arguments, out=None):
    """Exit code, lines of stderr, and the sources of the reports in the output folder by stem."""
    out = out or Path(arguments[0]).parent / "out"
    code = segment.main([*map(str, arguments), "--classes", "cat", "--out", str(out)], engine)
    said = capsys.readouterr().err.splitlines()
    reports = out.glob("*.naclip.json") if out.is_dir() else ()
    sources = {
        path.name.removesuffix(".naclip.json"): json.loads(path.read_text())["source"] for path in reports
    }
    return code, said, sources


def test_a_photo_of_a_kind_that_cannot_be_read_is_named_and_counted(engine, folder, capsys):
    picture(folder / "a.jpg")
    for name, start in (
        ("b.heic", b"\0\0\0\x18ftypheic"),
        ("c.CR2", b"II*\0"),
        ("d.jxl", b"\xff\n"),
        ("e.psd", b"8BPS"),
    ):
        (folder / name).write_bytes(start + bytes(100))
    code, said, sources = run(engine, capsys, folder)
    assert code == 1
    assert sources == {"a": "a.jpg"}
    assert [line.split(":")[0] for line in said] == [
        *(f"Skipped {folder / name}" for name in ("b.heic", "c.CR2", "d.jxl", "e.psd")),
        f"4 of 5 photos could not be done; they are listed in {folder.parent / 'out' / 'failed.txt'}.",
    ]


def test_other_files_are_counted_and_named(engine, folder, capsys):
    picture(folder / "a.jpg")
    for name in ("notes.txt", "table.csv", ".secret.jpg", "._a.jpg", ".DS_Store", "Thumbs.db"):
        (folder / name).write_text("no photo")
    picture(folder / "deeper" / "b.jpg")
    code, said, sources = run(engine, capsys, folder)
    assert code == 0
    assert sources == {"a": "a.jpg"}
    assert said == [
        f"Left out of {folder}: 2 files that are no pictures (notes.txt, table.csv); "
        "1 hidden file (.secret.jpg); 1 folder, which --recursive looks into (deeper)."
    ]


def test_long_lists_of_names_end(engine, folder, capsys):
    picture(folder / "a.jpg")
    for number in range(8):
        (folder / f"{number}.txt").write_text("")
    _, said, _ = run(engine, capsys, folder)
    assert "8 files that are no pictures (0.txt, 1.txt, 2.txt, 3.txt, 4.txt and 3 more)" in said[0]


def test_a_picture_is_one_whatever_it_is_called(engine, folder, capsys):
    for name in ("IMG_1", "b.jpg_large", "c.JPG~", "d.PNG", "e.image"):
        picture(folder / name, kind="PNG")
    code, said, sources = run(engine, capsys, folder)
    assert (code, said) == (0, [])
    assert sorted(sources.values()) == ["IMG_1", "b.jpg_large", "c.JPG~", "d.PNG", "e.image"]


@pytest.mark.parametrize("formats", [ALL_FORMATS, ()])
def test_own_outputs_are_left_out_of_the_next_run_and_said(engine, folder, capsys, formats):
    picture(folder / "a.jpg")
    picture(folder / "b.c.png")
    export = ("--export", *formats) if formats else ()
    for _ in range(3):
        code, said, sources = run(engine, capsys, folder, "--recursive", *export, out=folder)
        assert code == 0
        assert sources == {"a": "a.jpg", "b.c": "b.c.png"}
    written = [path for path in folder.rglob("*") if path.is_file() and path.name not in ("a.jpg", "b.c.png")]
    assert len(said) == 1
    assert said[0].startswith(f"Left out of {folder}: {len(written)} files that this program wrote (")


def test_pictures_of_segments_are_own_outputs_too(engine, folder, capsys):
    picture(folder / "a.jpg")
    for end in (
        "panoptic.png",
        "panoptic.overlay.png",
        "instances.overlay.png",
        "labels.png",
        "mask.07-x.png",
    ):
        picture(folder / f"a.maft_plus.{end}")
    _, said, sources = run(engine, capsys, folder)
    assert sources == {"a": "a.jpg"}
    assert "5 files that this program wrote" in said[0]


def test_what_only_looks_like_an_output_is_a_photo(engine, folder, capsys):
    names = ("overlay.png", "labels.png", "my.overlay.jpg", "a.naclip.png", "mask.png")
    for name in names:
        picture(folder / name)
    (folder / "labels.json").write_text("{}")
    _, said, sources = run(engine, capsys, folder)
    assert sorted(sources.values()) == sorted(names)
    assert said == [f"Left out of {folder}: 1 file that is no picture (labels.json)."]


def test_equal_names_in_any_folder_and_ending_have_files_of_their_own(engine, tmp_path, capsys):
    places = (
        "x/img.jpg",
        "x/img.png",
        "x/IMG.webp",
        "y/img.jpg",
        "z/x/img.jpg",
        "z/x-img.jpg",
        "z/img 2.jpg",
    )
    for place in places:
        picture(tmp_path / place)
    out = tmp_path / "out"
    folders = [tmp_path / name for name in "xyz"]
    code, _, sources = run(engine, capsys, *folders, "--recursive", "--export", "yolo", out=out)
    assert code == 0
    assert len(sources) == len(places)
    assert len(list((out / "naclip.yolo").iterdir())) == len(places)
    assert len({stem.casefold() for stem in sources}) == len(places)


def test_names_in_other_encodings_are_answered(engine, folder, capsys):
    picture(folder / "a.jpg")
    odd = os.fsdecode(b"caf\xe9 \xff.jpg")
    try:
        (folder / odd).write_bytes((folder / "a.jpg").read_bytes())
        (folder / os.fsdecode(b"n\xf6tes.txt")).write_text("")
        (folder / os.fsdecode(b"\xe4")).mkdir()
    except OSError:
        pytest.skip("this file system has UTF-8 names only")
    code, said, sources = run(engine, capsys, folder, "--export", *ALL_FORMATS)
    assert code == 0
    assert sources == {"a": "a.jpg", "caf- -": odd}
    assert "1 file that is no picture (n?tes.txt)" in said[0]
    again, said, _ = run(engine, capsys, folder / odd)
    assert (again, said) == (0, [])


def test_odd_letters_in_names_are_answered(engine, folder, capsys):
    names = (
        "\u732b \U0001f408.jpg",
        "a\nb.jpg",
        "-rf.jpg",
        "$(x);&.jpg",
        "c'd\".jpg",
        " .. .jpg",
        "%20%.jpg",
        "\u202egpj.jpg",
    )
    for name in names:
        picture(folder / name)
    code, said, sources = run(engine, capsys, folder)
    assert code == 0
    assert sorted(sources.values()) == sorted(names)
    assert all(len(line.splitlines()) == 1 for line in said)


def test_links_are_followed_once(engine, folder, capsys):
    photo = picture(folder / "a.jpg")
    (folder / "b.jpg").symlink_to(photo)
    (folder / "gone.jpg").symlink_to(folder / "nowhere")
    (folder / "circle.jpg").symlink_to(folder / "circle.jpg")
    (folder / "here").symlink_to(folder)
    code, said, sources = run(engine, capsys, folder, "--recursive")
    assert code == 1
    assert sources == {"a": "a.jpg"}
    assert "1 other name of a photo given here (b.jpg)" in said[0]
    assert "(here)" in said[0]
    assert [line.split(":")[0] for line in said[1:3]] == [
        f"Skipped {folder / name}" for name in ("circle.jpg", "gone.jpg")
    ]


def test_what_is_no_ordinary_file_ends_no_run(engine, folder, capsys):
    picture(folder / "a.jpg")
    os.mkfifo(folder / "pipe.jpg")
    os.mkfifo(folder / "pipe")
    (folder / "folder.jpg").mkdir()
    code, said, sources = run(engine, capsys, folder)
    assert code == 1
    assert sources == {"a": "a.jpg"}
    assert "1 file that is no picture (pipe)" in said[0]
    assert "not an ordinary file" in said[1]


@pytest.mark.skipif(os.geteuid() == 0, reason="root opens everything")
def test_folders_that_cannot_be_opened_are_named(engine, folder, capsys):
    picture(folder / "a.jpg")
    closed = folder / "closed"
    closed.mkdir(mode=0)
    try:
        code, said, _ = run(engine, capsys, folder, "--recursive")
        assert code == 0
        assert "1 folder that cannot be opened (closed)" in said[0]
        assert run(engine, capsys, closed)[1] == [f'"{closed}" cannot be opened: Permission denied.']
    finally:
        closed.chmod(0o700)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda folder: None, 'There is no photo in the folder "'),
        (lambda folder: (folder / "a.txt").write_text(""), "(1 file that is no picture (a.txt))."),
        (lambda folder: picture(folder / "in" / "a.jpg"), "(1 folder, which --recursive looks into (in))."),
    ],
)
def test_a_folder_without_photos_says_what_it_holds(engine, folder, capsys, make, message):
    make(folder)
    code, (said,), _ = run(engine, capsys, folder)
    assert code == 2
    assert message in said


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("https://example.com/a.jpg", "photos on the web must be downloaded first"),
        ("x" * 5000, "cannot be opened"),
        ("nowhere.jpg", 'There is no file or folder "nowhere.jpg".'),
    ],
)
def test_paths_that_lead_nowhere_are_one_line(engine, tmp_path, capsys, path, message):
    code = segment.main([path, "--classes", "cat", "--out", str(tmp_path / "out")], engine)
    said = capsys.readouterr().err.splitlines()
    assert (code, len(said)) == (2, 1)
    assert message in said[0]


@pytest.mark.parametrize(
    ("command", "stream", "other"),
    [(["ovs_core.cli", "segment"], "stdout", "stderr"), (["ovs_core.cli.segment"], "stderr", "stdout")],
)
def test_a_reader_that_goes_away_stops_nothing(folder, tmp_path, command, stream, other):
    for name in "abc":
        picture(folder / f"{name}.png")
    out = tmp_path / "out"
    arguments = [str(folder), "--classes", "cat; cat.", "--out", str(out)]
    reading, writing = os.pipe()
    os.close(reading)
    ended = subprocess.run(
        [sys.executable, "-m", *command, *arguments],
        cwd=REPOSITORY,
        env={**os.environ, "XDG_CACHE_HOME": str(tmp_path)},
        check=False,
        **{stream: writing, other: subprocess.PIPE},
    )
    os.close(writing)
    assert ended.returncode == 0
    assert b"Traceback" not in getattr(ended, other)
    assert len(list(out.glob("*.json"))) == 3
