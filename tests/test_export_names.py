"""Files that other programs read: bits of a PNG, names that pair with the photo, numbers of a list."""

import io
import json
import zipfile
from dataclasses import replace

import numpy as np
import pytest
import torch
from hand_made import make_mask_result, make_proposals, make_result
from PIL import Image
from torchvision.io import ImageReadMode, decode_png

from ovs_core.export.coco import coco_document
from ovs_core.export.files import result_files, save_result, zip_result
from ovs_core.export.pictures import label_png
from ovs_core.export.report import report
from ovs_core.export.yolo import yolo_lines, yolo_names
from ovs_core.types import LabelClass, LabelMap, Vocabulary


def bits(content):
    """Bits per sample and colour type, as the header of a PNG says."""
    return content[24], content[25]


def numbered(labels, ids, names=None):
    names = names or tuple(f"thing {number}" for number in ids)
    result = make_result(labels, names=names)
    return replace(result, vocabulary=replace(result.vocabulary, ids=tuple(ids)))


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 15, 16, 17, 255])
def test_label_maps_have_eight_bits_however_few_their_classes(count):
    labels = np.array([[0, 1, min(2, count)], [count, 1, 0]])
    content = label_png(make_result(labels, names=tuple(f"thing {k}" for k in range(count))))
    assert bits(content) == (8, 3)
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(content))), labels)


def test_torchvision_reads_the_numbers():
    labels = np.array([[0, 1, 2, 3], [3, 2, 1, 0]], np.uint8)
    result = make_result(labels, names=("a", "b", "c"))
    files = {name.split(".", 2)[2]: content for name, content in result_files(result, "x", ["ids", "masks"])}
    data = torch.frombuffer(bytearray(files["ids.png"]), dtype=torch.uint8)
    assert np.array_equal(decode_png(data, ImageReadMode.UNCHANGED)[0].numpy(), labels)
    assert {name: bits(content) for name, content in files.items() if name.endswith(".png")} == {
        "labels.png": (8, 3),
        "overlay.png": (8, 2),
        "mask.01-a.png": (8, 0),
        "mask.02-b.png": (8, 0),
        "mask.03-c.png": (8, 0),
        "ids.png": (8, 0),
    }


@pytest.mark.parametrize(
    ("ids", "expected", "depth"),
    [
        ((), [[0, 1, 2]], 8),  # no list: the labels themselves
        ((3, 7), [[0, 3, 7]], 8),
        ((0, 7), [[255, 0, 7]], 8),  # 0 is a class, so what is none of them is 255
        ((0, 255), [[65535, 0, 255]], 16),
        ((1, 300), [[0, 1, 300]], 16),
    ],
)
def test_a_picture_of_the_lists_own_numbers(ids, expected, depth):
    result = numbered([[0, 1, 2]], ids, ("a", "b"))
    content = dict(result_files(result, "x", ["ids"]))["x.naclip.ids.png"]
    assert bits(content) == (depth, 0)
    assert np.asarray(Image.open(io.BytesIO(content))).tolist() == expected
    assert np.asarray(Image.open(io.BytesIO(label_png(result)))).tolist() == [[0, 1, 2]]


def test_numbers_that_no_picture_holds_are_refused_before_anything_is_written(tmp_path):
    with pytest.raises(ValueError, match=r"0\.\.65534.*-1\.\.5"):
        save_result(numbered([[1, 2]], (-1, 5)), tmp_path / "out", "x", ["ids"])
    assert not (tmp_path / "out").exists()


def test_numbers_of_the_list_are_those_of_coco_and_yolo():
    result = numbered([[0, 1, 2, 3]], (0, 5, 10), ("a", "b", "c"))
    document = coco_document(result, "x.jpg")
    assert [(entry["id"], entry["name"]) for entry in document["categories"]] == [
        (0, "a"),
        (5, "b"),
        (10, "c"),
    ]
    assert [entry["category_id"] for entry in document["annotations"]] == [0, 5, 10]
    assert [line.split()[0] for line in yolo_lines(result).splitlines()] == ["0", "5", "10"]
    assert yolo_names(result).splitlines()[5] == "b"
    assert yolo_names(result).splitlines()[6] == "unused 6"
    assert report(result)["vocabulary"]["numbers"] == [0, 5, 10]
    assert [entry["id"] for entry in report(result)["classes"]] == [1, 2, 3, 0]  # of labels.png


def test_a_class_added_by_hand_gets_a_number_behind_those_of_the_list():
    result = numbered([[0, 1, 2]], (0, 5), ("a", "b"))
    more = LabelMap(
        np.array([[3, 1, 2]], np.uint8), (*result.label_map.classes, LabelClass(3, ("c",), (1, 2, 3)))
    )
    document = coco_document(replace(result, label_map=more), "x.jpg")
    assert [(entry["id"], entry["name"]) for entry in document["categories"]] == [
        (0, "a"),
        (5, "b"),
        (6, "c"),
    ]
    assert [entry["category_id"] for entry in document["annotations"]] == [0, 5, 6]


def test_numbers_too_large_for_a_list_of_names_are_counted_anew():
    result = numbered([[0, 1, 2]], (3, 20_000), ("a", "b"))
    assert [line.split()[0] for line in yolo_lines(result).splitlines()] == ["0", "1"]
    assert yolo_names(result) == "a\nb\n"


def test_numbers_of_the_list_are_those_of_segments():
    left = np.zeros((4, 6), int)
    left[:, :3] = 1
    proposals = make_proposals([left, 1 - left], [[0.9, 0.0], [0.0, 0.9]], ("dog", "cat"))
    vocabulary = replace(proposals.vocabulary, ids=(7, 40))
    result = replace(make_mask_result(replace(proposals, vocabulary=vocabulary)), vocabulary=vocabulary)
    files = dict(result_files(result, "x", ["panoptic", "instances"]))
    panoptic = json.loads(files["x.maft_plus.panoptic.json"])
    assert [entry["id"] for entry in panoptic["categories"]] == [7, 40]
    assert {entry["category_id"] for entry in panoptic["annotations"][0]["segments_info"]} == {7, 40}
    instances = json.loads(files["x.maft_plus.instances.json"])
    assert {entry["category_id"] for entry in instances["annotations"]} == {7, 40}


def test_ids_are_as_many_as_classes():
    with pytest.raises(ValueError, match="ids must be 2 different numbers"):
        Vocabulary((("a",), ("b",)), ids=(1,))
    with pytest.raises(ValueError, match="queries must hold"):
        Vocabulary((("a",), ("b",)), queries=(("a",),))


def named(source, shade=100):
    return replace(make_result([[1, 2, 0]], np.full((1, 3, 3), shade, np.uint8)), source=source)


def stems(folder):
    return sorted(path.name.removesuffix(".naclip.json") for path in folder.glob("*.naclip.json"))


def test_files_are_named_by_the_photo(tmp_path):
    for name in ("first.jpg", "second.PNG", "IMG_1 (2).tif"):
        named(name).save(tmp_path)
    assert stems(tmp_path) == ["IMG_1 (2)", "first", "second"]
    written = named("first.jpg").save(tmp_path, "other")
    assert written[0].name == "other.naclip.labels.png"
    assert named("").save(tmp_path)[0].name == "photo.naclip.labels.png"


def test_two_photos_of_one_name_never_overwrite_each_other(tmp_path):
    for shade, source in ((1, "a/img.jpg"), (2, "b/img.png"), (3, "img.jpg"), (2, "img.jpg")):
        named(source, shade).save(tmp_path, formats="yolo")
    assert stems(tmp_path) == ["img", "img-2", "img-3"]
    sources = {
        stem: json.loads((tmp_path / f"{stem}.naclip.json").read_text())["source"] for stem in stems(tmp_path)
    }
    assert sources == {"img": "a/img.jpg", "img-2": "img.jpg", "img-3": "img.jpg"}
    assert sorted(path.name for path in (tmp_path / "naclip.yolo").iterdir()) == [
        "img-2.txt",
        "img-3.txt",
        "img.txt",
    ]


def test_a_report_that_cannot_be_read_is_replaced(tmp_path):
    (tmp_path / "img.naclip.json").write_text("[1")
    named("img.jpg").save(tmp_path)
    assert stems(tmp_path) == ["img"]
    assert json.loads((tmp_path / "img.naclip.json").read_text())["source"] == "img.jpg"


def test_documents_name_the_photos_own_file():
    name = "IMG 1, (2) \u732b.JPG"
    files = dict(result_files(named(name), "IMG 1", ["coco", "coco-polygons"]))
    for ending in ("coco.json", "coco-polygons.json"):
        assert json.loads(files[f"IMG 1.naclip.{ending}"])["images"][0]["file_name"] == name
    assert json.loads(files["IMG 1.naclip.json"])["source"] == name
    assert report(named(name))["source"] == name
    told = dict(result_files(named(name), "x", ["coco"], source="below/y.jpg"))
    assert json.loads(told["x.naclip.coco.json"])["images"][0]["file_name"] == "below/y.jpg"


def test_labels_of_yolo_are_called_as_the_photo_is(tmp_path):
    result = named("IMG_1 (2).jpg")
    written = save_result(result, tmp_path, formats="yolo")
    assert tmp_path / "naclip.yolo" / "IMG_1 (2).txt" in written
    assert tmp_path / "IMG_1 (2).naclip.yolo.names.txt" in written
    path = zip_result(result, tmp_path / "all.zip", formats=["yolo"])
    with zipfile.ZipFile(path) as archive:
        assert "naclip.yolo/IMG_1 (2).txt" in archive.namelist()
