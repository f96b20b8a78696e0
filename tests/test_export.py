"""Files: what is in them, what they are called, and that they appear whole or not at all."""

import io
import json
import zipfile
from dataclasses import replace
from hashlib import sha256

import numpy as np
import pytest
from hand_made import make_result
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image

from ovs_core.export.coco import coco_document, run_lengths
from ovs_core.export.files import FORMATS, MASK_FORMATS, result_files, save_result, zip_result
from ovs_core.export.names import photo_stem, safe_name
from ovs_core.export.outlines import outlines
from ovs_core.export.pictures import label_png, mask_pngs
from ovs_core.export.report import report
from ovs_core.export.yolo import yolo_lines, yolo_names
from ovs_core.render.palette import colors_for

LABEL_FORMATS = tuple(name for name in FORMATS if name not in MASK_FORMATS)  # what every result can become
HOSTILE = (
    "../../etc/passwd",
    "C:\\CON",
    "a/b",
    "\x00",
    "..",
    "<script>",
    "犬",
    "नमस्ते",
    "x" * 200,
    "\ud800",
    "a\nb",
)


def opened(content):
    return Image.open(io.BytesIO(content))


def filled(polygons, shape):
    """Even-odd fill at pixel centres: inside is where an odd number of vertical edges lies to the left."""
    inside = np.zeros(shape, int)
    for ring in polygons:
        crossings = np.zeros((shape[0], shape[1] + 1), int)
        for (x, y), (next_x, next_y) in zip(ring, np.roll(ring, -1, axis=0), strict=True):
            assert x == next_x or y == next_y
            if x == next_x:
                crossings[min(y, next_y) : max(y, next_y), x] += 1
        inside += np.cumsum(crossings, axis=1)[:, :-1] % 2
    return inside


# label map


def test_label_png_keeps_values_and_shows_class_colours():
    labels = np.array([[0, 1, 2], [2, 2, 1]], np.uint8)
    picture = opened(label_png(make_result(labels)))
    assert picture.mode == "P"
    assert_array_equal(np.asarray(picture), labels)
    shown = np.asarray(picture.convert("RGB"))
    assert_array_equal(shown, np.array(colors_for(["dog", "grass"]))[labels])


@pytest.mark.parametrize(("count", "mode"), [(255, "P"), (256, "I;16"), (300, "I;16")])
def test_label_png_of_many_classes(count, mode):
    labels = np.array([[0, 1, count], [count, 17, 3]])
    picture = opened(label_png(make_result(labels, names=tuple(f"thing {k}" for k in range(count)))))
    assert picture.mode == mode
    assert_array_equal(np.asarray(picture), labels)


# report


def test_report_holds_every_promised_field():
    result = make_result([[0, 1, 1], [2, 2, 2]])
    assert json.loads(json.dumps(report(result, "a.jpg"))) == {
        "schema": "ovs-lens/result/1",
        "source": "a.jpg",
        "image": {"width": 3, "height": 2, "sha256": sha256(np.full((2, 3, 3), 100, np.uint8)).hexdigest()},
        "method": "naclip",
        "encoder": "mini",
        "weights": {"mini.safetensors": {"sha256": "ab" * 32}},
        "preset": {
            "scale": 40.0,
            "threshold": 0.0,
            "short_side": 336,
            "window": None,
            "stride": 0,
            "templates": "single1",
            "frames": [1.0],
        },
        "refine": "none",
        "switches": [],
        "options": {},
        "vocabulary": {
            "classes": [["dog"], ["grass"]],
            "asked": [["dog"], ["grass"]],
            "numbers": [1, 2],
            "ids": [],
            "other": ["sky"],
            "literal": [],
            "guards": [],
        },
        "exemplars": [],
        "excluded": [],
        "edits": [],
        "classes": [
            {"id": 1, "names": ["dog"], "color": [0, 158, 115], "area_share": 2 / 6, "mean_score": 0.5},
            {"id": 2, "names": ["grass"], "color": [120, 204, 120], "area_share": 0.5, "mean_score": 0.5},
            {"id": 0, "names": ["other"], "color": [128, 128, 128], "area_share": 1 / 6, "mean_score": 0.5},
        ],
        "seconds": {"method": 0.25},
        "notes": [],
    }


def test_report_passes_on_what_was_out_of_the_ordinary():
    result = make_result([[1, 2]])
    vocabulary = replace(result.vocabulary, notes=("1 blank name was left out.",))
    changed = replace(result, vocabulary=vocabulary, notes=("Memory ran out.",))
    assert report(changed)["notes"] == ["1 blank name was left out.", "Memory ran out."]


# outlines


def test_outline_of_a_rectangle_runs_along_its_pixel_edges():
    mask = np.zeros((5, 6), bool)
    mask[1:3, 2:5] = True
    (ring,) = outlines(mask)
    assert sorted(map(tuple, ring.tolist())) == [(2, 1), (2, 3), (5, 1), (5, 3)]


def test_a_single_pixel_is_a_square_and_diagonal_pixels_are_two():
    assert [len(ring) for ring in outlines(np.eye(2, dtype=bool))] == [4, 4]


def test_a_hole_is_cut_open():
    mask = np.ones((5, 7), bool)
    mask[2, 3] = False
    (ring,) = outlines(mask)
    x, y = ring.T
    assert abs((x * np.roll(y, -1) - np.roll(x, -1) * y).sum()) / 2 == 34  # 5 * 7 less the hole
    assert_array_equal(filled([ring], mask.shape), mask)


@pytest.mark.parametrize("share", [0.2, 0.5, 0.8, 0.95])
def test_filling_the_outlines_gives_the_mask_back(share):
    random = np.random.default_rng(7)
    for _ in range(40):
        mask = random.random(tuple(random.integers(1, 15, 2))) < share
        assert_array_equal(filled(outlines(mask), mask.shape), mask)


def test_rings_inside_holes_inside_rings():
    mask = np.zeros((11, 13), bool)
    for inset in range(5):
        mask[inset : 11 - inset, inset : 13 - inset] = inset % 2 == 0
    assert len(outlines(mask)) == 3
    assert_array_equal(filled(outlines(mask), mask.shape), mask)


def test_nothing_has_no_outline():
    assert outlines(np.zeros((3, 4), bool)) == []


# COCO


def test_run_lengths_go_down_the_columns_and_begin_outside():
    mask = np.array([[0, 1, 1], [0, 1, 0]], bool)  # columns: 00 11 10
    assert run_lengths(mask) == [2, 3, 1]
    assert run_lengths(~mask) == [0, 2, 3, 1]
    assert run_lengths(np.zeros((2, 3), bool)) == [6]
    assert run_lengths(np.ones((2, 3), bool)) == [0, 6]


def test_coco_document_by_hand():
    document = coco_document(make_result([[0, 2, 2], [0, 2, 0]]), "a.jpg")
    assert document["images"] == [{"id": 1, "file_name": "a.jpg", "width": 3, "height": 2}]
    assert [(c["id"], c["name"]) for c in document["categories"]] == [(1, "dog"), (2, "grass")]
    assert document["annotations"] == [
        {
            "id": 2,
            "image_id": 1,
            "category_id": 2,
            "iscrowd": 0,
            "area": 3,
            "bbox": [1, 0, 2, 2],
            "segmentation": {"counts": [2, 3, 1], "size": [2, 3]},
        }
    ]


def test_coco_run_lengths_decode_to_the_mask():
    labels = np.random.default_rng(3).integers(0, 3, (9, 14))
    for annotation in coco_document(make_result(labels), "a")["annotations"]:
        counts = annotation["segmentation"]["counts"]
        flat = np.repeat(np.arange(len(counts)) % 2, counts)
        assert_array_equal(flat.reshape(14, 9).T, labels == annotation["category_id"])


def test_coco_polygons_fill_to_the_mask():
    labels = np.random.default_rng(4).integers(0, 3, (8, 11))
    for annotation in coco_document(make_result(labels), "a", polygons=True, tolerance=0)["annotations"]:
        rings = [np.array(flat).reshape(-1, 2) for flat in annotation["segmentation"]]
        assert_array_equal(filled(rings, labels.shape), labels == annotation["category_id"])


def test_coco_polygons_have_few_corners_unless_they_must_be_exact():
    y, x = np.mgrid[:60, :80]
    labels = ((y - 30) ** 2 + (x - 40) ** 2 < 25**2).astype(np.uint8)

    def corners(**tolerance):
        (annotation,) = coco_document(make_result(labels), "a", polygons=True, **tolerance)["annotations"]
        return len(annotation["segmentation"][0]) // 2

    assert corners(tolerance=0) > 4 * corners()
    assert corners() == corners(tolerance=1) > corners(tolerance=4) >= 3


# YOLO


def test_yolo_line_by_hand():
    labels = np.zeros((4, 8), int)
    labels[1:3, 2:6] = 2
    index, *numbers = yolo_lines(make_result(labels)).split()
    assert index == "1"  # the second class, counted from 0
    corners = {(float(x), float(y)) for x, y in zip(numbers[::2], numbers[1::2], strict=True)}
    assert corners == {(0.25, 0.25), (0.75, 0.25), (0.75, 0.75), (0.25, 0.75)}


def test_yolo_coordinates_stay_inside_the_photo():
    lines = yolo_lines(make_result(np.random.default_rng(5).integers(0, 3, (17, 9)))).splitlines()
    assert len(lines) > 10
    for line in lines:
        index, *numbers = line.split()
        assert index in {"0", "1"}
        assert len(numbers) % 2 == 0
        assert len(numbers) >= 6
        assert all(0 <= float(number) <= 1 for number in numbers)


def test_yolo_names_are_one_a_line_whatever_they_hold():
    assert yolo_names(make_result([[0]], names=("a\nb", "grass"))) == "a b\ngrass\n"


# names


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("dog", "dog"),
        ("../../etc/passwd", "etc-passwd"),
        ("C:\\dir\\x", "C-dir-x"),
        ("Café", "Café"),
        ("..", "unnamed"),
        ("", "unnamed"),
        ("犬" * 50, "犬" * 10),
        ("a\u0000b\nc", "a-b-c"),
    ],
)
def test_safe_name(text, name):
    assert safe_name(text, 30) == name


@pytest.mark.parametrize(
    ("name", "stem"),
    [
        ("IMG_2024.06 (1)", "IMG_2024.06 (1)"),
        ("_DSC0001", "_DSC0001"),
        ("a--b, c+d & e@2x [3] {4} #5 100%", "a--b, c+d & e@2x [3] {4} #5 100%"),
        ("caf\u00e9 \u732b", "caf\u00e9 \u732b"),
        ("../.hidden", "hidden"),
        ("-rf", "rf"),
        ('a/b\\c:d*e?f"g<h>i|j', "a-b-c-d-e-f-g-h-i-j"),
        ("a\nb\x1bc\udce9d\u202ee", "a-b-c-d-e"),
        (" . ", "unnamed"),
        ("trailing. ", "trailing"),
        ("\u732b" * 80, "\u732b" * 40),
    ],
)
def test_photos_keep_their_names_where_every_system_can(name, stem):
    assert photo_stem(name) == stem


# files


def test_save_writes_exactly_the_promised_files(tmp_path):
    result = make_result(np.ones((4, 6)))
    written = result.save(tmp_path / "new" / "folder", stem="cat.1", formats=LABEL_FORMATS)
    names = [path.name for path in written]
    assert names == [
        "cat.1.naclip.labels.png",
        "cat.1.naclip.overlay.png",
        "cat.1.naclip.json",
        "cat.1.naclip.coco.json",
        "cat.1.naclip.coco-polygons.json",
        "cat.1.txt",
        "cat.1.naclip.yolo.names.txt",
        "cat.1.naclip.npz",
        "cat.1.naclip.mask.01-dog.png",
        "cat.1.naclip.mask.02-grass.png",
        "cat.1.naclip.ids.png",
    ]
    there = sorted(path for path in (tmp_path / "new" / "folder").rglob("*") if path.is_file())
    assert there == sorted(written)


def test_masks_are_white_on_black_and_written_for_empty_classes_too():
    (_, dog), (_, grass) = mask_pngs(make_result([[1, 0, 1], [1, 1, 0]]))
    assert np.asarray(opened(dog)).tolist() == [[255, 0, 255], [255, 255, 0]]
    assert np.asarray(opened(grass)).tolist() == [[0, 0, 0], [0, 0, 0]]


def test_arrays_open_without_pickle(tmp_path):
    labels = np.array([[0, 1, 2]], np.uint8)
    save_result(make_result(labels), tmp_path, formats={"npz"})
    with np.load(tmp_path / "photo.naclip.npz", allow_pickle=False) as arrays:
        assert_array_equal(arrays["labels"], labels)
        assert arrays["labels"].dtype == np.uint8
        assert arrays["share"].dtype == np.float16
        assert_allclose(arrays["share"], np.full((1, 3), 0.5))  # as the result has it, not decided again
        assert arrays["names"].tolist() == ["other", "dog", "grass"]


def test_hostile_names_stay_text(tmp_path):
    out = tmp_path / "deep" / "out"
    labels = np.arange(12).reshape(3, 4)
    written = save_result(make_result(labels, names=HOSTILE), out, "../../up", LABEL_FORMATS)
    assert all(path.parent in (out, out / "naclip.yolo") for path in written)
    assert sorted(p for p in tmp_path.rglob("*") if p.is_file()) == sorted(written)
    assert all(path.name.startswith("up.naclip.") or path.name == "up.txt" for path in written)
    coco = json.loads((out / "up.naclip.coco.json").read_text(encoding="utf-8"))
    assert [c["name"] for c in coco["categories"]][6:8] == ["犬", "नमस्ते"]


def test_a_result_without_any_class_pixel_is_a_result(tmp_path):
    save_result(make_result(np.zeros((3, 5))), tmp_path, formats=LABEL_FORMATS)
    assert (tmp_path / "naclip.yolo" / "photo.txt").read_text() == ""
    assert json.loads((tmp_path / "photo.naclip.coco.json").read_text())["annotations"] == []


def test_saving_twice_replaces_and_leaves_nothing_behind(tmp_path):
    save_result(make_result([[1, 1]]), tmp_path)
    written = save_result(make_result([[2, 0]]), tmp_path)
    assert sorted(tmp_path.iterdir()) == sorted(written)
    assert np.asarray(Image.open(tmp_path / "photo.naclip.labels.png")).tolist() == [[2, 0]]


def test_an_interrupted_write_leaves_the_old_file_whole(tmp_path, monkeypatch):
    (old, *_) = save_result(make_result([[1, 1]]), tmp_path)
    before = old.read_bytes()

    def full_disk(self, content):
        with self.open("wb") as file:
            file.write(content[:10])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.write_bytes", full_disk)
    with pytest.raises(ValueError, match="No space left on device"):
        save_result(make_result([[2, 0]]), tmp_path)
    assert old.read_bytes() == before
    assert not list(tmp_path.glob("*.part"))
    assert not list(tmp_path.glob(".*"))


def test_unknown_format_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(ValueError, match=r"Unknown export format 'pdf'; known formats: coco, .*instances"):
        save_result(make_result([[1]]), tmp_path / "out", formats=["npz", "pdf"])
    assert not (tmp_path / "out").exists()


def test_a_file_where_the_folder_should_be_is_a_clear_error(tmp_path):
    (tmp_path / "taken").write_text("")
    with pytest.raises(ValueError, match="Cannot write into"):
        save_result(make_result([[1]]), tmp_path / "taken")


def test_zip_holds_the_same_files_and_the_settings(tmp_path):
    result = make_result(np.ones((4, 6)))
    path = zip_result(result, tmp_path / "sub" / "all.zip", "cat", {"coco", "masks"})
    with zipfile.ZipFile(path) as archive:
        packed = {name: archive.read(name) for name in archive.namelist()}
    settings = json.loads(packed.pop("settings.json"))
    assert packed == dict(result_files(result, "cat", {"coco", "masks"}))
    assert len(packed) == 6
    full = json.loads(packed["cat.naclip.json"])
    assert settings.pop("schema") == "ovs-lens/settings/1"
    assert settings == {name: full[name] for name in settings}
    assert {"method", "encoder", "refine", "options", "vocabulary", "excluded", "edits"} < settings.keys()
    assert not {"classes", "seconds", "weights", "source"} & settings.keys()
