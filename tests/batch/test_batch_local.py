"""A run on one machine: sources, order, errors as rows, stopping and going on."""

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from batch_toys import PLAN, answer_by_brightness, make_photos, same_rows, sources_in
from PIL import Image

from ovs_core.batch.local import MOST_SURPRISES, answerers, in_parallel, label_here, rows_of
from ovs_core.batch.plan import Answerer, prepare
from ovs_core.batch.sources import Source, listed_sources, shard_of, without
from ovs_core.batch.tables import done_ids, read_header, read_rows, row_files
from ovs_core.batch.unpack import labels_of

arrow = pytest.importorskip("pyarrow")
pytest.importorskip("pyarrow.parquet")


@pytest.fixture
def photos(tmp_path) -> Path:
    return make_photos(tmp_path / "photos", 10)


def ready(workers=2) -> tuple[Answerer, ...]:
    return answerers(PLAN, workers, answer_by_brightness)


# Sources


def test_photos_of_a_table(tmp_path):
    make_photos(tmp_path, 2)
    table = arrow.table({"id": [7, 8], "path": ["photo-000.png", "s3://bucket/b.png"]})
    arrow.parquet.write_table(table, tmp_path / "list.parquet")
    assert listed_sources(str(tmp_path / "list.parquet")) == (
        Source("7", str(tmp_path / "photo-000.png")),
        Source("8", "s3://bucket/b.png"),
    )


@pytest.mark.parametrize(
    ("columns", "sentence"),
    [
        ({"file": ["a.png"]}, "has no column 'path'"),
        ({"path": ["a.png", "a.png"]}, "The id 'a.png' stands twice"),
        ({"path": arrow.array([], arrow.string())}, "There is no photo in"),
    ],
)
def test_a_table_that_cannot_be_used_is_one_sentence(tmp_path, columns, sentence):
    arrow.parquet.write_table(arrow.table(columns), tmp_path / "list.parquet")
    with pytest.raises(ValueError, match=sentence):
        listed_sources(str(tmp_path / "list.parquet"))


def test_shards_are_all_photos_once():
    sources = tuple(Source(str(number), "") for number in range(11))
    shards = [shard_of(sources, f"{part}/3") for part in (1, 2, 3)]
    assert sorted((one for shard in shards for one in shard), key=sources.index) == list(sources)
    assert {len(shard) for shard in shards} == {3, 4}
    assert without(shards[0], frozenset({"0", "9"})) == (sources[3], sources[6])


@pytest.mark.parametrize("shard", ["0/3", "4/3", "1", "a/3", "1/3/5", "-1/3", ""])
def test_a_shard_that_is_none_is_one_sentence(shard):
    with pytest.raises(ValueError, match="--shard must be"):
        shard_of((), shard)


# Rows


def test_rows_come_in_order_whoever_is_ready_first():
    first_may_end = threading.Event()

    def work(number):
        if number == 0:
            assert first_may_end.wait(10)
        if number == 1:
            first_may_end.set()
        return number

    assert list(in_parallel(work, range(9), workers=2)) == list(range(9))


def test_only_a_few_photos_are_under_way():
    started = []
    answers = in_parallel(started.append, iter(range(100)), workers=3)
    next(answers)
    assert len(started) <= 3 * 2 + 1
    answers.close()
    assert len(started) < 20


def test_every_photo_has_a_row(photos, tmp_path):
    sources = sources_in(photos)
    rows = list(label_here(sources, ready(), str(tmp_path / "out"), rows_per_file=4))
    assert [row.id for row in rows] == [one.id for one in sources]
    assert [row.classes[0].area for row in rows] == list(range(1, 11))
    assert np.array_equal(np.flatnonzero(labels_of(rows[2]) == 1), [0, 1, 2])
    assert len(row_files(str(tmp_path / "out"))) == 3
    assert sorted(read_rows(str(tmp_path / "out")), key=lambda row: row.id) == rows


def threads_of_a_new_thread() -> int:
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(torch.get_num_threads).result()


def test_cores_are_divided_and_given_back(photos):
    """What a run sets for its own threads must not last: it would change sums of later answers."""
    before, seen = torch.get_num_threads(), set()

    def noting(photo, name, path):
        seen.add(torch.get_num_threads())
        return ready(1)[0].row(photo, name, path)

    noters = tuple(replace(one, row=noting) for one in ready(2))
    assert len(list(rows_of(sources_in(photos), noters, cores=2 * (before + 2)))) == 10
    assert seen == {before + 2}
    assert (torch.get_num_threads(), threads_of_a_new_thread()) == (before, before)


def test_threads_change_nothing(photos):
    sources = sources_in(photos)
    assert same_rows(rows_of(sources, ready(1)), rows_of(sources, ready(3)))


def test_an_error_is_a_row(photos, tmp_path):
    (photos / "photo-003.png").write_bytes(b"")
    (photos / "photo-004.png").write_bytes((photos / "photo-005.png").read_bytes()[:45])
    Image.fromarray(np.zeros((5, 13, 3), np.uint8)).save(photos / "photo-006.png")
    sources = (*sources_in(photos), Source("gone", str(tmp_path / "gone.png")))
    rows = list(label_here(sources, ready(), str(tmp_path / "out")))
    errors = {row.id: row.error for row in rows if row.error is not None}
    assert errors == {
        "photo-003.png": '"photo-003.png" is empty (0 bytes).',
        "photo-004.png": '"photo-004.png" is cut off or damaged; save or download it again.',
        "photo-006.png": "RuntimeError: the model broke",
        "gone": f'There is no file "{tmp_path / "gone.png"}".',
    }
    assert len(rows) == 11
    assert same_rows(read_rows(str(tmp_path / "out")), rows)


def test_a_model_that_always_breaks_ends_the_run(tmp_path):
    make_photos(tmp_path, MOST_SURPRISES + 5, size=(5, 13))
    with pytest.raises(ValueError, match=f"{MOST_SURPRISES} photos after each other failed.*model broke"):
        list(rows_of(sources_in(tmp_path), ready()))


def test_photos_that_are_all_damaged_do_not_end_it(tmp_path):
    for number in range(MOST_SURPRISES + 5):
        (tmp_path / f"{number}.jpg").write_bytes(b"not a picture")
    assert len(list(rows_of(sources_in(tmp_path), ready()))) == MOST_SURPRISES + 5


def test_what_was_done_is_written_when_a_run_is_stopped(photos, tmp_path):
    rows = label_here(sources_in(photos), ready(), str(tmp_path / "out"), rows_per_file=100)
    for _ in range(3):
        next(rows)
    with pytest.raises(KeyboardInterrupt):
        rows.throw(KeyboardInterrupt)
    assert done_ids(str(tmp_path / "out")) == {"photo-000.png", "photo-001.png", "photo-002.png"}


# The engine behind it


def test_the_embedded_model_makes_rows(tmp_path):
    (answerer,) = answerers(PLAN, 1)
    assert "mini.safetensors" in answerer.header["weights"]
    assert answerer.header["settings"]["method"] == "naclip"
    make_photos(tmp_path, 1, size=(40, 60))
    (row,) = label_here(sources_in(tmp_path), [answerer], str(tmp_path / "out"))
    assert (row.error, row.width, row.height) == (None, 60, 40)
    assert sum(one.area for one in row.classes) == 40 * 60
    assert labels_of(row).shape == (40, 60)
    (name,) = row_files(str(tmp_path / "out"))
    assert read_header(str(tmp_path / "out"), name)["preset"]["scale"] > 0


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"method": "nothing"}, "nothing"),
        ({"options": {"threshold": 2.0}}, "threshold"),
        ({"device": "tpu"}, "device must be one of"),
        ({"options": {"nothing": True}}, "nothing"),
    ],
)
def test_what_is_wrong_is_told_before_any_work(change, sentence):

    with pytest.raises(ValueError, match=sentence):
        prepare(replace(PLAN, **change))
