"""Every layout, written in small: what is found, which class a mask value is, what a wrong folder is told."""

import os
import shutil
import struct
import zlib

import numpy as np
import pytest
from labelled_toys import classes_of, halves, make_folder, save_mask, save_photo
from PIL import Image

from ovs_core.labelled.class_lists import read_classes
from ovs_core.labelled.datasets import DATASETS, open_dataset, read_example
from ovs_core.labelled.files import MASK_ENDS, file_of
from ovs_core.labelled.layouts import BENCHMARKS
from ovs_core.labelled.mask_values import cityscapes_ids, coco_object_ids, coco_stuff_ids, read_mask
from ovs_core.vocabulary import BENCHMARKS as CLASS_LISTS
from ovs_core.vocabulary import read_vocabulary

SIZE = (8, 12)
BIG = np.uint16


def row(*values, kind=np.uint8):
    """A mask of SIZE whose first pixels have these values, the others the last one."""
    mask = np.full(SIZE, values[-1], kind)
    mask[0, : len(values)] = values
    return mask


def listed(root, path, *keys):
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text("".join(f"{key}\n" for key in keys), encoding="utf-8")


# (dataset, folder of the photos, end of photos, folder of the masks, end of masks, list, mask, its classes)
LAYOUTS = [
    ("voc21", "JPEGImages", ".jpg", "SegmentationClass", ".png", "ImageSets/Segmentation/val.txt",
     row(0, 1, 20, 21, 255), [0, 1, 20, None, None]),
    ("voc20", "JPEGImages", ".jpg", "SegmentationClass", ".png", "ImageSets/Segmentation/val.txt",
     row(0, 1, 20, 255), [None, 1, 20, None]),
    ("voc21", "images/validation", ".jpg", "annotations_pascal21/validation", ".png", None,
     row(0, 20, 255), [0, 20, None]),
    ("voc20", "images/validation", ".jpg", "annotations_pascal20/validation", ".png", None,
     row(0, 19, 255), [1, 20, None]),
    ("context60", "JPEGImages", ".jpg", "SegmentationClassContext", ".png",
     "ImageSets/SegmentationContext/val.txt", row(0, 1, 59, 60), [0, 1, 59, None]),
    ("context59", "JPEGImages", ".jpg", "SegmentationClassContext", ".png",
     "ImageSets/SegmentationContext/val.txt", row(0, 1, 59, 60), [None, 1, 59, None]),
    ("context59", "images/validation", ".jpg", "annotations_ctx59/validation", ".png", None,
     row(0, 58, 255), [1, 59, None]),
    ("context59", "JPEGImages", ".jpg", "annotations_detectron2/pc59_val", ".png", None,
     row(0, 58, 255), [1, 59, None]),
    ("context459", "images/validation", ".jpg", "annotations_ctx459/validation", ".tif", None,
     row(0, 458, 459, 65535, kind=BIG), [1, 459, None, None]),
    ("context459", "JPEGImages", ".jpg", "annotations_detectron2/pc459_val", ".tif", None,
     row(0, 458, 65535, kind=BIG), [1, 459, None]),
    ("ade150", "images/validation", ".jpg", "annotations/validation", ".png", None,
     row(0, 1, 150, 151), [None, 1, 150, None]),
    ("ade150", "images/validation", ".jpg", "annotations_detectron2/validation", ".png", None,
     row(0, 149, 255), [1, 150, None]),
    ("ade847", "images_detectron2/validation", ".jpg", "annotations_detectron2/validation", ".tif", None,
     row(0, 846, 65535, kind=BIG), [1, 847, None]),
    ("cocostuff171", "images/val2017", ".jpg", "annotations/val2017", ".png", None,
     row(0, 10, 11, 12, 89, 91, 181, 255), [1, 11, None, 12, 80, 81, 171, None]),
    ("cocostuff171", "val2017", ".jpg", "stuffthingmaps/val2017", ".png", None, row(0, 181), [1, 171]),
    ("cocostuff171", "images/val2017", ".jpg", "annotations/val2017", "_labelTrainIds.png", None,
     row(0, 11, 170, 255), [1, 12, 171, None]),
    ("cocostuff171", "val2017", ".jpg", "stuffthingmaps_detectron2/val2017", ".png", None,
     row(0, 170, 255), [1, 171, None]),
    ("cocoobject81", "images/val2017", ".jpg", "annotations/val2017", ".png", None,
     row(0, 89, 91, 181, 255, 11), [1, 80, 0, 0, None, None]),
    ("cocoobject80", "val2017", ".jpg", "stuffthingmaps/val2017", ".png", None,
     row(0, 89, 91), [1, 80, None]),
    ("cocoobject81", "images/val2017", ".jpg", "annotations/val2017", "_instanceTrainIds.png", None,
     row(0, 1, 80, 255), [0, 1, 80, None]),
    ("cocoobject80", "images/val2017", ".jpg", "annotations/val2017", "_instanceTrainIds.png", None,
     row(0, 1, 80), [None, 1, 80]),
    ("cityscapes19", "leftImg8bit/val/ulm", "_leftImg8bit.png", "gtFine/val/ulm", "_gtFine_labelIds.png",
     None, row(0, 7, 8, 11, 26, 29, 33), [None, 1, 2, 3, 14, None, 19]),
    ("cityscapes19", "leftImg8bit/val/ulm", "_leftImg8bit.png", "gtFine/val/ulm", "_gtFine_labelTrainIds.png",
     None, row(0, 18, 255), [1, 19, None]),
    ("camvid11", "val", ".png", "valannot", ".png", None, row(0, 10, 11), [1, 11, None]),
    ("camvid11", "images/val", ".jpg", "masks/val", ".png", None, row(0, 10, 11), [1, 11, None]),
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "photos", "photo_end", "masks", "mask_end", "listing", "mask", "classes"),
    LAYOUTS,
    ids=[f"{layout[0]}-{layout[3].replace('/', '-')}{layout[4]}" for layout in LAYOUTS],
)
def test_every_layout(tmp_path, name, photos, photo_end, masks, mask_end, listing, mask, classes):
    root = tmp_path / BENCHMARKS[name].places[-1]
    for key in ("b", "a", "unlisted"):
        save_photo(root / photos / f"{key}{photo_end}", SIZE)
        if key != "unlisted":
            save_mask(root / masks / f"{key}{mask_end}", mask)
    if listing:
        listed(root, listing, "b", "a")
    elif "pc" not in masks:  # without a list the photos say what belongs to the split, here the masks do
        (root / photos / f"unlisted{photo_end}").unlink()
    dataset = open_dataset(name, tmp_path)
    assert dataset.split in (photos + masks + str(listing))
    assert [example.key.split("/")[-1] for example in dataset.examples] == ["a", "b"]
    photo, truth = read_example(dataset, dataset.examples[0])
    assert photo.size == truth.shape == SIZE
    assert classes_of(truth)[0][: len(classes)] == classes


def test_every_benchmark_has_a_layout_test():
    assert {layout[0] for layout in LAYOUTS} == set(BENCHMARKS)
    tested = {(layout[0], layout[3].split("/")[0], layout[4]) for layout in LAYOUTS}
    known = {
        (name, layout.masks.format(split="val").split("/")[0], layout.mask_end)
        for name, benchmark in BENCHMARKS.items()
        for layout in benchmark.layouts
    }
    # The same maps stand under two names.
    same = {("cocoobject81", "stuffthingmaps", ".png"), ("cocoobject80", "annotations", ".png")}
    assert known - tested == same


@pytest.mark.parametrize("name", [name for name in BENCHMARKS if name != "camvid11"])
def test_class_lists_are_the_vocabularys(name):
    benchmark = BENCHMARKS[name]
    listed_classes = read_classes(CLASS_LISTS[benchmark.classes])
    vocabulary = read_vocabulary(f"@{name}")
    assert listed_classes.classes == vocabulary.classes
    assert bool(listed_classes.background) == benchmark.background == bool(vocabulary.other)


def test_contexts_59_classes_stand_in_the_order_of_the_converters():
    # mmsegmentation's and FC-CLIP's converters sort these numbers of the 459 classes (their `_mapping`).
    text = """
        2 259 260 415 324 9 258 144 18 19 22 23 397 25 284 158 159 416 33 162 420 454 295 296 427 44 45 46 308
        59 440 445 31 232 65 354 424 68 326 72 458 34 207 80 355 85 347 220 349 360 98 187 104 105 366 189 368
        113 115"""
    many, few = (read_classes(CLASS_LISTS[name]).classes for name in ("context459", "context59"))
    pairs = list(zip((many[number - 1] for number in sorted(map(int, text.split()))), few, strict=True))
    assert [(one, other) for one, other in pairs if not {*one} & {*other}] == [
        (("computer",), ("computer case",))
    ]


def test_cocos_pixel_maps_are_one_below_the_official_ids():
    lines = CLASS_LISTS["cocostuff171"].read_text(encoding="utf-8").splitlines()
    official = [int(line.split(":")[0]) for line in lines]
    expected = [(number - 1, label) for label, number in enumerate(official, start=1)]
    assert list(coco_stuff_ids(171, False).pairs()) == expected
    things = [(value, label if label <= 80 else 0) for value, label in expected]
    assert list(coco_object_ids(80, True).pairs()) == things
    assert list(coco_object_ids(80, False).pairs()) == things[:80]


def test_cityscapes_ids_are_those_of_its_scripts():
    names = {
        7: "road", 8: "sidewalk", 11: "building", 12: "wall", 13: "fence", 17: "pole", 19: "traffic light",
        20: "traffic sign", 21: "vegetation", 22: "terrain", 23: "sky", 24: "person", 25: "rider", 26: "car",
        27: "truck", 28: "bus", 31: "train", 32: "motorcycle", 33: "bicycle",
    }  # fmt: skip
    classes = read_classes(CLASS_LISTS["cityscapes19"]).classes
    pairs = dict(cityscapes_ids(19, False).pairs())
    assert list(pairs) == list(names)
    assert all(name in classes[pairs[value] - 1] for value, name in names.items())


def test_voc_knows_its_own_background():
    dataset_names = read_classes(CLASS_LISTS["voc21"]).background.split(";")
    assert dataset_names[:3] == ["background", "sky", "wall"]


@pytest.mark.parametrize("name", [name for name in DATASETS if name != "folder"])
def test_a_wrong_folder_is_told_what_is_expected(tmp_path, name):
    with pytest.raises(ValueError, match="is not laid out like") as error:
        open_dataset(name, tmp_path)
    assert "it must hold" in str(error.value)
    assert "{" not in str(error.value)
    assert "\n" not in str(error.value)


def test_masks_of_another_split_are_not_taken(tmp_path):
    save_photo(tmp_path / "images/training/a.jpg", SIZE)
    save_mask(tmp_path / "annotations/training/a.png", row(1))
    with pytest.raises(ValueError, match="images/validation"):
        open_dataset("ade150", tmp_path)
    assert len(open_dataset("ade150", tmp_path, split="training").examples) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "coco"}, "dataset must be one of voc21, voc20"),
        ({"root": "absent"}, "There is no folder"),
        ({"limit": 0}, "at least 1 photo"),
    ],
)
def test_wrong_arguments(tmp_path, arguments, message):
    root = tmp_path / arguments.pop("root", "")
    with pytest.raises(ValueError, match=message):
        open_dataset(arguments.pop("name", "voc21"), root, **arguments)


def test_a_class_list_of_ones_own_must_fit(tmp_path):
    save_photo(tmp_path / "val/a.png", SIZE)
    save_mask(tmp_path / "valannot/a.png", row(0, 1))
    listed(tmp_path, "names.txt", *(f"{value}:name {value},synonym {value}" for value in range(11)))
    listed(tmp_path, "short.txt", "0:sky", "1:road")
    dataset = open_dataset("camvid11", tmp_path, class_list=tmp_path / "names.txt")
    assert dataset.classes[10] == ("name 10", "synonym 10")
    with pytest.raises(ValueError, match="must name the 11 classes in order, got 2"):
        open_dataset("camvid11", tmp_path, class_list=tmp_path / "short.txt")


# Plain folders.


@pytest.mark.parametrize("split", ["", "val"])
def test_plain_folder(tmp_path, split):
    make_folder(tmp_path, {"2": halves(0, 2), "1": halves(1, 255)}, split=split)
    dataset = open_dataset("folder", tmp_path, split=split)
    assert dataset.names == ("cat", "dog")
    assert dataset.background == "default"
    assert [example.key for example in dataset.examples] == ["1", "2"]
    _, truth = read_example(dataset, dataset.examples[0])
    assert [classes_of(truth)[0][place] for place in (0, -1)] == [1, None]


def test_all_splits_of_a_plain_folder_at_once(tmp_path):
    for split in ("train", "val"):
        make_folder(tmp_path, {"1": halves(0, 1)}, split=split)
    assert [example.key for example in open_dataset("folder", tmp_path).examples] == ["train/1", "val/1"]


def test_trimaps_whose_second_value_is_the_background(tmp_path):
    make_folder(tmp_path, {"1": row(1, 2, 3)}, ("1 pet", "2 background", "3 void(edge)"))
    dataset = open_dataset("folder", tmp_path)
    _, truth = read_example(dataset, dataset.examples[0])
    assert dataset.names == ("pet",)
    assert classes_of(truth)[0][:3] == [1, 0, None]


def test_a_class_list_may_lie_elsewhere(tmp_path):
    make_folder(tmp_path / "set", {"1": halves(1, 2)})
    (tmp_path / "set/classes.txt").unlink()
    listed(tmp_path, "mine.txt", "1:kitten,cat", "2 hound | dog")
    with pytest.raises(ValueError, match=r"classes\.txt with lines"):
        open_dataset("folder", tmp_path / "set")
    dataset = open_dataset("folder", tmp_path / "set", class_list=tmp_path / "mine.txt")
    assert dataset.classes == (("kitten", "cat"), ("hound", "dog"))
    assert dataset.background == ""


def test_masks_of_16_bits(tmp_path):
    make_folder(tmp_path, {"1": row(0)}, ("300 cat", "0 background"))
    save_mask(tmp_path / "masks/1.png", row(300, 0, 301, kind=BIG))
    _, truth = read_example(*(lambda one: (one, one.examples[0]))(open_dataset("folder", tmp_path)))
    assert classes_of(truth)[0][:3] == [1, 0, None]


def test_limit_spreads_over_the_folder(tmp_path):
    make_folder(tmp_path, {str(number): row(1) for number in range(6)})
    dataset = open_dataset("folder", tmp_path, limit=3)
    assert [example.key for example in dataset.examples] == ["0", "2", "4"]
    assert len(open_dataset("folder", tmp_path, limit=60).examples) == 6


def test_two_photos_cannot_share_a_mask(tmp_path):
    make_folder(tmp_path, {"1": row(1)})
    save_photo(tmp_path / "images/1.png", SIZE)
    with pytest.raises(ValueError, match="two photos called '1'"):
        open_dataset("folder", tmp_path)


def test_photos_without_masks_are_no_dataset(tmp_path):
    make_folder(tmp_path, {"1": row(1)})
    (tmp_path / "masks/1.png").unlink()
    with pytest.raises(ValueError, match="no photo with a mask"):
        open_dataset("folder", tmp_path)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (("person",), "lines like"),
        (("65536 person",), "lines like"),
        (("7",), "lines like"),
        (("7 ",), "lines like"),
        (("1 cat", "1 dog"), "value 1 twice"),
        (("0 background", "1 void"), "at least one class"),
    ],
)
def test_class_lists_that_cannot_be_read(tmp_path, lines, message):
    listed(tmp_path, "classes.txt", *lines)
    with pytest.raises(ValueError, match=message):
        read_classes(tmp_path / "classes.txt")


def test_notes_in_parentheses_are_no_classes(tmp_path):
    lines = "# id\tname\tphotos\n0\t(none)\t9\n1\tfire hydrant\t3\n2\tcup (blue)\t1\n255\t(ignore)\t1"
    (tmp_path / "classes.txt").write_text(lines)
    found = read_classes(tmp_path / "classes.txt")
    assert found.names == ("fire hydrant", "cup (blue)")
    assert found.values.pairs() == ((1, 1), (2, 2))


def test_an_absent_class_list(tmp_path):
    with pytest.raises(ValueError, match=r"none\.txt cannot be read: No such file"):
        read_classes(tmp_path / "none.txt")


@pytest.mark.parametrize(
    "content", [None, b"", b"\x89PNG\r\n\x1a\n broken"], ids=["absent", "empty", "damaged"]
)
def test_masks_that_cannot_be_read(tmp_path, content):
    if content is not None:
        (tmp_path / "1.png").write_bytes(content)
    with pytest.raises(ValueError, match=r"1\.png cannot be read"):
        read_mask(tmp_path / "1.png", (5, 5))


def test_colour_masks_and_wrong_sizes_are_refused(tmp_path):
    Image.new("RGB", (5, 5)).save(tmp_path / "1.png")
    Image.new("L", (5, 4)).save(tmp_path / "2.png")
    for name, got in (("1", r"RGB \(5, 5\)"), ("2", r"L \(4, 5\)")):
        with pytest.raises(ValueError, match=rf"one 8- or 16-bit channel of \(5, 5\) pixels, got {got}"):
            read_mask(tmp_path / f"{name}.png", (5, 5))


# Files as people have them.


def packed_png(path, rows, bits):
    """A grey PNG of few bits, as GIMP, ImageMagick and `optipng` write masks of few classes."""
    width, each = len(rows[0]), 8 // bits
    lines = b""
    for values in rows:
        wide = [*values, *[0] * (-width % each)]
        groups = zip(*[iter(wide)] * each, strict=True)
        lines += b"\0" + bytes(sum(v << (8 - bits * (n + 1)) for n, v in enumerate(g)) for g in groups)

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    size = struct.pack(">IIBBBBB", width, len(rows), bits, 0, 0, 0, 0)
    parts = chunk(b"IHDR", size) + chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + parts)


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_grey_masks_of_few_bits_are_read_as_they_are_written(tmp_path, bits):
    largest = (1 << bits) - 1
    rows = [[0, 1, largest, 1, 0], [largest, 0, 1, largest // 2, 0]]
    packed_png(tmp_path / "1.png", rows, bits)
    assert read_mask(tmp_path / "1.png", (2, 5)).tolist() == rows


def test_inverted_grey_is_read_as_it_is_written(tmp_path):
    Image.fromarray(row(0, 1, 254)).save(tmp_path / "1.tif", tiffinfo={262: 0})  # 0 is white
    with Image.open(tmp_path / "1.tif") as picture:
        stored = np.frombuffer((tmp_path / "1.tif").read_bytes()[picture.tile[0][2] :], np.uint8)
    assert read_mask(tmp_path / "1.tif").ravel().tolist() == stored[: SIZE[0] * SIZE[1]].tolist()


@pytest.mark.parametrize("mode", ["P", "1"])
def test_masks_with_a_palette_and_of_two_values(tmp_path, mode):
    picture = Image.fromarray(row(1, 0)).convert("P") if mode == "P" else Image.fromarray(row(1, 0) > 0)
    if mode == "P":
        picture.putpalette([9, 9, 9, 200, 0, 0])
    picture.save(tmp_path / "1.png")
    assert read_mask(tmp_path / "1.png", SIZE)[0, :2].tolist() == [1, 0]


def test_ends_of_file_names_may_be_written_large(tmp_path):
    make_folder(tmp_path, {"1": row(1), "2": row(2)})
    (tmp_path / "masks/1.png").rename(tmp_path / "masks/1.PNG")
    (tmp_path / "images/2.jpg").rename(tmp_path / "images/2.JPEG")
    dataset = open_dataset("folder", tmp_path)
    for example, label in zip(dataset.examples, (1, 2), strict=True):
        assert read_example(dataset, example)[1].labels[0, 0] == label


@pytest.mark.parametrize("folder", ["", "deep/"])
def test_the_file_of_one_key(tmp_path, folder):
    save_mask(tmp_path / f"{folder}1.png", row(1))
    (tmp_path / f"{folder}1.png").rename(tmp_path / f"{folder}1.TIFF")
    assert file_of(tmp_path, f"{folder}1", MASK_ENDS).name == "1.TIFF"
    assert file_of(tmp_path, f"{folder}2", MASK_ENDS) == tmp_path / f"{folder}2.png"  # not there


def test_a_benchmarks_files_too(tmp_path):
    save_photo(tmp_path / "JPEGImages/a.jpg", SIZE)
    (tmp_path / "JPEGImages/a.jpg").rename(tmp_path / "JPEGImages/a.JPG")
    save_mask(tmp_path / "SegmentationClass/a.png", row(1))
    (tmp_path / "SegmentationClass/a.png").rename(tmp_path / "SegmentationClass/a.Png")
    listed(tmp_path, "ImageSets/Segmentation/val.txt", "a")
    dataset = open_dataset("voc21", tmp_path)
    assert read_example(dataset, dataset.examples[0])[1].labels[0, 0] == 1


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_lists_with_a_byte_order_mark(tmp_path, encoding):
    for key in ("a", "b"):
        save_photo(tmp_path / f"JPEGImages/{key}.jpg", SIZE)
        save_mask(tmp_path / f"SegmentationClass/{key}.png", row(1))
    listed(tmp_path, "ImageSets/Segmentation/val.txt")
    (tmp_path / "ImageSets/Segmentation/val.txt").write_text("a\r\nb\r\n", encoding=encoding)
    assert [example.key for example in open_dataset("voc21", tmp_path).examples] == ["a", "b"]
    (tmp_path / "names.txt").write_text("0 background\n1 Hündin\n", encoding=encoding)
    assert read_classes(tmp_path / "names.txt").names == ("Hündin",)


def test_class_lists_with_comments_and_further_columns(tmp_path):
    listed(tmp_path, "classes.txt", "# id\tname\tphotos", "0\tbackground\t99", "1\tpotted plant\t12\t0.5", "")
    names = read_classes(tmp_path / "classes.txt")
    assert (names.names, names.background) == (("potted plant",), "default")


def test_a_file_name_in_another_encoding_is_a_photo_like_others(tmp_path):
    make_folder(tmp_path, {"1": row(1)})
    odd = os.fsdecode(b"caf\xe9")
    try:
        for folder, end in (("images", ".jpg"), ("masks", ".png")):
            shutil.copy(tmp_path / folder / f"1{end}", tmp_path / folder / f"{odd}{end}")
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    dataset = open_dataset("folder", tmp_path)
    assert {example.key for example in dataset.examples} == {"1", odd}
    assert all(read_example(dataset, example)[1].labels[0, 0] == 1 for example in dataset.examples)
    # A split's list holds the same bytes.
    save_photo(tmp_path / f"JPEGImages/{odd}.jpg", SIZE)
    save_mask(tmp_path / f"SegmentationClass/{odd}.png", row(1))
    listed(tmp_path, "ImageSets/Segmentation/val.txt")
    (tmp_path / "ImageSets/Segmentation/val.txt").write_bytes(b"caf\xe9\n")
    assert open_dataset("voc21", tmp_path).examples[0].photo.is_file()


def test_a_labelled_photo_of_a_kind_that_cannot_be_read_is_named(tmp_path):
    make_folder(tmp_path, {"1": row(1), "2": row(1)})
    (tmp_path / "images/2.jpg").unlink()
    (tmp_path / "images/2.heic").write_bytes(b"ftypheic")
    (tmp_path / "images/notes.txt").write_text("no photo")
    dataset = open_dataset("folder", tmp_path)
    assert [example.key for example in dataset.examples] == ["1", "2"]
    with pytest.raises(ValueError, match=r"2\.heic"):
        read_example(dataset, dataset.examples[1])
