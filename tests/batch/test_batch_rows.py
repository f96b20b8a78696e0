"""Rows: what they say of a photo, how they lie in Parquet files, and how they become files again."""

import json

import numpy as np
import pytest
from batch_toys import PLAN, make_mask_result, make_result, same_rows
from PIL import Image

from ovs_core.batch.rows import check_same_run, error_row, header_of, row_of
from ovs_core.batch.tables import done_ids, read_header, read_rows, row_files, write_rows
from ovs_core.batch.unpack import labels_of, unpack

arrow = pytest.importorskip("pyarrow")

LABELS = np.array([[0, 1, 1], [1, 1, 0]])
HEADER = header_of(make_result(LABELS), PLAN.settings)


def row(name="a.jpg", labels=LABELS):
    return row_of(make_result(labels), name, f"/photos/{name}")


def mask_result():
    masks = np.zeros((2, 4, 6))
    masks[0, :2, :3] = 1  # a dog of 2 x 3 pixels at the upper left
    masks[1, :, :] = 1
    return make_mask_result(masks, [[0.9, 0.05], [0.05, 0.9]])


def test_a_row_counts_the_pixels_of_each_class_that_won_some():
    made = row()
    assert (made.width, made.height) == (3, 2)
    assert [(one.label, one.name, one.area) for one in made.classes] == [(1, "dog", 4), (0, "other", 2)]
    assert np.array_equal(labels_of(made), LABELS)
    assert (made.error, made.instances, made.seconds) == (None, None, 0.25)


def test_a_row_of_a_mask_method_holds_its_objects():
    (dog,) = row_of(mask_result(), "a.jpg", "a.jpg").instances
    assert (dog.label, dog.area, dog.bbox) == (1, 6, (0, 0, 3, 2))
    # Columns of 4 pixels, the upper 2 of the first three inside: 0 out, then 2 in, 2 out, ... and 12 + 2 out.
    mask = np.zeros((4, 6), bool)
    mask[:2, :3] = True
    assert np.array_equal(decoded(dog.counts, mask.shape), mask)


def decoded(counts: str, size) -> np.ndarray:
    """A mask of COCO's compressed run lengths, after its reference decoder's description."""
    lengths, place = [], 0
    while place < len(counts):
        value = shift = 0
        more = True
        while more:
            letter = ord(counts[place]) - 48
            value |= (letter & 31) << shift
            shift += 5
            more = bool(letter & 32)
            place += 1
        if letter & 16:
            value -= 1 << shift
        lengths.append(value + (lengths[-2] if len(lengths) > 2 else 0))
    flat = np.repeat(np.arange(len(lengths)) % 2 == 1, lengths)
    return flat.reshape(size, order="F")


def test_grass_is_not_counted_unless_asked():
    assert {one.label for one in row_of(mask_result(), "a", "a").instances} == {1}
    assert {one.label for one in row_of(mask_result(), "a", "a", stuff="none").instances} == {1, 2}


def test_rows_come_back_as_they_were_written(tmp_path):
    rows = [row(), error_row("b.jpg", "/photos/b.jpg", "“b.jpg” is empty.", 0.5)]
    rows.append(row_of(mask_result(), "ordner/ü.jpg", "c"))
    write_rows(str(tmp_path / "out"), rows, HEADER)
    assert list(read_rows(str(tmp_path / "out"))) == rows
    assert done_ids(str(tmp_path / "out")) == {"a.jpg", "b.jpg", "ordner/ü.jpg"}


def test_a_file_says_once_what_made_it(tmp_path):
    name = write_rows(str(tmp_path), [row()], HEADER)
    header = read_header(str(tmp_path), name)
    assert header == json.loads(json.dumps(HEADER))
    assert header["weights"] == {"mini.safetensors": "ab" * 32}
    assert header["settings"]["classes"] == [["dog"], ["grass"]]
    # Without this program: pandas, pyarrow and DuckDB find it there too.
    assert b"ovs_lens" in arrow.parquet.read_schema(tmp_path / name).metadata


def test_pandas_reads_rows(tmp_path):
    pandas = pytest.importorskip("pandas")
    write_rows(str(tmp_path), [row(), error_row("b", "b", "gone")], HEADER)
    table = pandas.read_parquet(tmp_path)
    assert table["id"].tolist() == ["a.jpg", "b"]
    assert table["classes"][0][0]["area"] == 4


def test_the_same_photos_are_the_same_file(tmp_path):
    first = write_rows(str(tmp_path), [row("a"), row("b")], HEADER)
    again = write_rows(str(tmp_path), [row("a"), row("b")], HEADER)
    other = write_rows(str(tmp_path), [row("ab")], HEADER)
    assert first == again != other
    assert row_files(str(tmp_path)) == tuple(sorted({first, other}))


def test_a_uri_is_a_folder_too(tmp_path):
    uri = (tmp_path / "out").as_uri()
    write_rows(uri, [row()], HEADER)
    assert same_rows(read_rows(uri), read_rows(str(tmp_path / "out")))
    assert len(row_files(uri)) == 1


def test_what_is_half_written_is_not_there(tmp_path):
    (tmp_path / ".rows-00.parquet.part").write_bytes(b"PAR1")
    assert row_files(str(tmp_path)) == ()
    assert row_files(str(tmp_path / "nowhere")) == ()


def test_a_damaged_file_is_one_sentence(tmp_path):
    name = write_rows(str(tmp_path), [row()], HEADER)
    path = tmp_path / name
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(ValueError, match=f"{name} is not a Parquet file that can be read"):
        done_ids(str(tmp_path))


def test_other_tables_are_told_apart(tmp_path):
    arrow.parquet.write_table(arrow.table({"id": ["a"]}), tmp_path / "foreign.parquet")
    with pytest.raises(ValueError, match=r"foreign\.parquet holds no rows of this program\."):
        list(read_rows(str(tmp_path)))


def test_a_file_in_the_place_of_the_folder_is_one_sentence(tmp_path):
    (tmp_path / "out").write_text("")
    with pytest.raises(ValueError, match="Cannot write into"):
        write_rows(str(tmp_path / "out"), [row()], HEADER)


def test_the_same_run_may_go_on_and_no_other():
    check_same_run(json.loads(json.dumps(HEADER)), HEADER)
    check_same_run(HEADER, {"settings": PLAN.settings})
    other = {**PLAN.settings, "method": "sclip"}
    with pytest.raises(ValueError, match=r"\(settings: method was \"naclip\", now \"sclip\"\)"):
        check_same_run(HEADER, {"settings": other})
    with pytest.raises(ValueError, match=r"weights: mini\.safetensors was"):
        check_same_run(HEADER, {**HEADER, "weights": {"mini.safetensors": "cd" * 32}})


def test_label_maps_become_files_that_never_meet(tmp_path):
    ids = ["a.jpg", "a.png", "A.jpg", "sub/a.jpg", "../../a.jpg", "/etc/a.jpg", "s3://bucket/a.jpg"]
    write_rows(str(tmp_path / "rows"), [row(name) for name in ids], HEADER)
    (folder,) = unpack(str(tmp_path / "rows"), tmp_path / "out", ["png"])
    written = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.png"))
    assert len(written) == len(ids)
    assert all(path.startswith("out/labels/") for path in written)
    assert {"out/labels/a.jpg.png", "out/labels/a.png.png", "out/labels/sub/a.jpg.png"} <= set(written)
    with Image.open(folder / "a.jpg.png") as picture:
        assert np.array_equal(np.asarray(picture), LABELS)


def test_regions_become_coco(tmp_path):
    rows = [row("a.jpg"), error_row("b.jpg", "b.jpg", "empty"), row("c.jpg", np.array([[2, 2], [0, 1]]))]
    write_rows(str(tmp_path / "rows"), rows, HEADER)
    (path,) = unpack(str(tmp_path / "rows"), tmp_path, ["coco"])
    document = json.loads(path.read_text(encoding="utf-8"))
    assert [(one["id"], one["file_name"], one["width"], one["height"]) for one in document["images"]] == [
        (1, "a.jpg", 3, 2),
        (2, "c.jpg", 2, 2),
    ]
    assert [one["name"] for one in document["categories"]] == ["dog", "grass"]
    found = [(one["image_id"], one["category_id"], one["area"]) for one in document["annotations"]]
    assert found == [(1, 1, 4), (2, 1, 1), (2, 2, 2)]
    first = document["annotations"][0]["segmentation"]
    assert np.array_equal(decoded(first["counts"], first["size"]), LABELS == 1)
    assert [one["id"] for one in document["annotations"]] == [1, 2, 3]


def test_objects_become_coco(tmp_path):
    write_rows(str(tmp_path / "rows"), [row_of(mask_result(), "a.jpg", "a.jpg")], HEADER)
    (path,) = unpack(str(tmp_path / "rows"), tmp_path, ["instances"])
    (one,) = json.loads(path.read_text(encoding="utf-8"))["annotations"]
    assert (one["image_id"], one["category_id"], one["area"], one["bbox"]) == (1, 1, 6, [0, 0, 3, 2])
    assert 0 < one["score"] <= 1


def test_what_cannot_be_unpacked_is_one_sentence(tmp_path):
    with pytest.raises(ValueError, match="There are no rows in"):
        unpack(str(tmp_path), tmp_path / "out", ["png"])
    write_rows(str(tmp_path / "rows"), [row()], HEADER)
    with pytest.raises(ValueError, match="proposes no masks"):
        unpack(str(tmp_path / "rows"), tmp_path / "out", ["instances"])
    assert list((tmp_path / "out").iterdir()) == []
