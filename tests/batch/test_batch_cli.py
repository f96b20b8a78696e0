"""`ovs-lens batch`: from a folder to rows and back, going on, parts for machines, one line for bad input."""

import json

import numpy as np
import pytest
from batch_toys import answer_by_brightness, make_photos

from ovs_core.batch import local
from ovs_core.batch.tables import done_ids, read_rows, row_files
from ovs_core.cli import batch

arrow = pytest.importorskip("pyarrow")
pytest.importorskip("pyarrow.parquet")


@pytest.fixture(autouse=True)
def quick_engine(monkeypatch):
    def make(plan, workers):
        return local.answerers(plan, workers, answer_by_brightness)

    monkeypatch.setattr(batch, "answerers", make)


@pytest.fixture
def photos(tmp_path):
    return make_photos(tmp_path / "photos", 5)


def run(photos, *more, classes="dog; grass"):
    return batch.main([str(photos), "--classes", classes, "--background", "sky", *map(str, more)])


def test_a_folder_becomes_rows(photos, tmp_path, capsys):
    assert run(photos, "--out", tmp_path / "out", "--rows-per-file", 2) == 0
    assert len(row_files(str(tmp_path / "out"))) == 3
    assert len(done_ids(str(tmp_path / "out"))) == 5


def test_folders_within_the_folder_are_told_or_looked_into(photos, tmp_path, capsys):
    make_photos(photos / "sub", 2)
    assert run(photos, "--out", tmp_path / "flat") == 0
    assert "folder, which --recursive looks into" in capsys.readouterr().err
    assert run(photos, "--out", tmp_path / "deep", "--recursive") == 0
    assert done_ids(str(tmp_path / "deep")) - done_ids(str(tmp_path / "flat")) == {
        "sub/photo-000.png",
        "sub/photo-001.png",
    }


def test_a_table_of_paths(photos, tmp_path):
    arrow.parquet.write_table(arrow.table({"path": ["photos/photo-003.png"]}), tmp_path / "list.parquet")
    assert run(tmp_path / "list.parquet", "--out", tmp_path / "out") == 0
    (row,) = read_rows(str(tmp_path / "out"))
    assert (row.id, row.classes[0].area) == ("photos/photo-003.png", 4)


def test_a_folder_that_is_not_there_is_one_line(tmp_path, capsys):
    assert run(tmp_path / "nowhere", "--out", tmp_path / "out") == 2
    assert capsys.readouterr().err.startswith("There is no file or folder ")


def test_errors_are_told_and_exit_1(photos, tmp_path, capsys):
    (photos / "photo-001.png").write_bytes(b"")
    assert run(photos, "--out", tmp_path / "out") == 1
    told = capsys.readouterr().err
    assert 'photo-001.png: "photo-001.png" is empty (0 bytes).' in told
    assert "1 of 5 photos could not be done; their rows say why." in told


def test_a_second_run_needs_to_say_that_it_goes_on(photos, tmp_path, capsys):
    assert run(photos, "--out", tmp_path / "out") == 0
    assert run(photos, "--out", tmp_path / "out") == 2
    assert "add --resume to go on" in capsys.readouterr().err


def test_resume_does_what_is_left_once(photos, tmp_path, capsys):
    assert run(photos, "--out", tmp_path / "out", "--shard", "1/2") == 0
    assert run(photos, "--out", tmp_path / "out", "--resume") == 0
    assert "3 of 5 photos are done already." in capsys.readouterr().err
    ids = [row.id for row in read_rows(str(tmp_path / "out"))]
    assert len(ids) == len(set(ids)) == 5
    before = row_files(str(tmp_path / "out"))
    assert run(photos, "--out", tmp_path / "out", "--resume") == 0
    assert row_files(str(tmp_path / "out")) == before


def test_machines_share_a_folder(photos, tmp_path, capsys):
    for part in ("2/3", "1/3", "3/3"):
        assert run(photos, "--out", tmp_path / "out", "--shard", part) == 0
    assert len(done_ids(str(tmp_path / "out"))) == 5
    assert run(photos, "--out", tmp_path / "out", "--shard", "2/3") == 2
    assert "Rows of this part are in" in capsys.readouterr().err


def test_rows_of_another_question_are_left_alone(photos, tmp_path, capsys):
    assert run(photos, "--out", tmp_path / "out", "--shard", "1/2") == 0
    assert run(photos, "--out", tmp_path / "out", "--resume", classes="cat; grass") == 2
    assert 'settings: classes was [["dog"], ["grass"]], now [["cat"], ["grass"]]' in capsys.readouterr().err


def test_rows_become_files(photos, tmp_path, capsys):
    assert run(photos, "--out", tmp_path / "rows") == 0
    asked = [str(tmp_path / "rows"), "--unpack", "png", "coco", "--out", str(tmp_path / "files")]
    assert batch.main(asked) == 0
    assert capsys.readouterr().out.splitlines() == [
        str(tmp_path / "files" / "labels"),
        str(tmp_path / "files" / "classes.coco.json"),
    ]
    assert len(list((tmp_path / "files" / "labels").iterdir())) == 5
    document = json.loads((tmp_path / "files" / "classes.coco.json").read_text())
    assert len(document["images"]) == 5
    assert np.isclose(sum(one["area"] for one in document["annotations"]), 5 * 6 * 9)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--out", "o"], "Say what to look for with --classes."),
        (["--out", "o", "--classes", ";"], "Type at least one class name."),
        (["--out", "o", "--classes", "a", "--shard", "5/4"], "--shard must be"),
        (["--out", "o", "--classes", "a", "--rows-per-file", "0"], "must be at least 1"),
        (["--out", "o", "--classes", "a", "--method", "clip", "--method", "sclip"], "has one --method"),
        (["--out", "o", "--unpack", "png"], "There are no rows in"),
    ],
)
def test_bad_input_is_one_line_and_exit_2(photos, monkeypatch, tmp_path, capsys, arguments, sentence):
    monkeypatch.chdir(tmp_path)
    assert batch.main([str(photos), *arguments]) == 2
    told = capsys.readouterr().err
    assert sentence in told
    assert told.count("\n") == 1
    assert not (tmp_path / "o").exists()


def test_ctrl_c_leaves_what_was_done(photos, tmp_path, monkeypatch, capsys):
    def stop_after_two(rows, **_):
        yield next(rows)
        yield next(rows)
        rows.throw(KeyboardInterrupt)

    monkeypatch.setattr(batch, "tqdm", stop_after_two)
    assert run(photos, "--out", tmp_path / "out") == 130
    assert "--resume goes on from there" in capsys.readouterr().err
    assert len(done_ids(str(tmp_path / "out"))) == 2
