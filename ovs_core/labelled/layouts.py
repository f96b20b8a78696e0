"""Where the benchmarks keep photos and masks on people's disks, as data.

Layouts: the benchmarks' own archives, what mmsegmentation's converters write beside them (Context 59/60,
`*_labelTrainIds.png`, COCO-Object's `*_instanceTrainIds.png`), and what the `prepare_*.py` scripts of
MaskFormer, FC-CLIP and CAT-Seg write (`annotations_detectron2`, `*_detectron2`, pc59_val, pc459_val).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Literal

from ovs_core.labelled.class_lists import read_keys
from ovs_core.labelled.files import Example, keyed_files, spellings
from ovs_core.labelled.mask_values import (
    MaskValues,
    cityscapes_ids,
    coco_object_ids,
    coco_stuff_ids,
    from_one,
    from_zero,
)


@dataclass(frozen=True)
class Layout:
    """One way to lay out a benchmark; `{split}` stands for the split in every path.

    Attributes:
        photos, photo_end: folder below the root, and what file names end with after the photo's key.
        masks, mask_end: the same for masks; a photo's mask has its key.
        values: from (number of classes, background counts) to the table of mask values.
        keys: what says which photos belong to the split: the photos, the masks, or a list of keys.
        listing: that list, a text file with one key in each line.
    """

    photos: str
    photo_end: str
    masks: str
    mask_end: str
    values: Callable[[int, bool], MaskValues]
    keys: Literal["photos", "masks", "list"] = "photos"
    listing: str = ""

    def find(self, root: Path, split: str) -> tuple[Example, ...]:
        """The split's photos by key; none if this is not how `root` is laid out."""
        photos, masks = root / self.photos.format(split=split), root / self.masks.format(split=split)
        if not photos.is_dir() or not masks.is_dir():
            return ()
        photo_files = keyed_files(photos, spellings(self.photo_end))
        mask_files = keyed_files(masks, spellings(self.mask_end))
        if self.keys == "list":
            keys = sorted({*read_keys(root / self.listing.format(split=split))})
        else:
            keys = sorted(photo_files if self.keys == "photos" else mask_files)
        if mask_files.keys().isdisjoint(keys):
            return ()
        return tuple(
            Example(
                key,
                photo_files.get(key, (photos / f"{key}{self.photo_end}",))[0],
                mask_files.get(key, (masks / f"{key}{self.mask_end}",))[0],
            )
            for key in keys
        )


@dataclass(frozen=True)
class Benchmark:
    """A benchmark that people have on their disks.

    Attributes:
        title: as papers call it.
        classes: name of its class list (`ovs_core.vocabulary.BENCHMARKS`); None for CamVid's 11 names.
        background: whether "none of the classes" is a class that counts.
        splits: the one papers measure on, under every name it has in a layout; the first is the usual one.
        places: folders below the given one that are looked into, in this order.
        layouts: ways it may be laid out there; the first one that fits is taken.
        expected: for the error message, what the folder must hold.
    """

    title: str
    classes: str | None
    background: bool
    splits: tuple[str, ...]
    places: tuple[str, ...]
    layouts: tuple[Layout, ...]
    expected: str


_VAL = ("val", "validation")  # FC-CLIP's scripts call it by the longer name
_VOC_PLACES = ("", "VOC2012", "VOCdevkit/VOC2012", "pascal_voc_d2")
_VOC_FILES = Layout(
    "JPEGImages", ".jpg", "SegmentationClass", ".png", from_one, "list", "ImageSets/Segmentation/{split}.txt"
)
_VOC_EXPECTED = (
    "JPEGImages/, SegmentationClass/ and ImageSets/Segmentation/{split}.txt "
    "(or what FC-CLIP's script makes of it)"
)
_CONTEXT_PLACES = ("", "VOC2010", "VOCdevkit/VOC2010", "pascal_ctx_d2")
_CONTEXT_FILES = Layout(
    *("JPEGImages", ".jpg", "SegmentationClassContext", ".png"),
    *(from_one, "list", "ImageSets/SegmentationContext/{split}.txt"),
)
_CONTEXT_EXPECTED = (
    "JPEGImages/, SegmentationClassContext/ and ImageSets/SegmentationContext/{split}.txt, "
    "as mmsegmentation's converter writes them (for 59 classes FC-CLIP's or CAT-Seg's will do)"
)
_ADE_EXPECTED = "images/{split}/*.jpg and annotations/{split}/*.png"
_COCO_PLACES = ("", "coco_stuff164k", "coco")
_COCO_MAPS = ("annotations/{split}", "stuffthingmaps/{split}")
_COCO_EXPECTED = (
    "images/{split}/*.jpg (or {split}/*.jpg) and annotations/{split}/*.png or stuffthingmaps/{split}/*.png"
)


def _coco(masks: str, end: str, table: Callable[[int, bool], MaskValues]) -> tuple[Layout, ...]:
    """COCO's photos lie in a folder "images" or beside the masks."""
    return tuple(Layout(photos, ".jpg", masks, end, table) for photos in ("images/{split}", "{split}"))


def _detectron2(masks: str, end: str, table: Callable[[int, bool], MaskValues]) -> Layout:
    """What FC-CLIP's scripts make of VOC and Context."""
    return Layout("images/{split}", ".jpg", masks, end, table)


_STUFF = (
    *_coco("annotations/{split}", "_labelTrainIds.png", from_zero),
    *_coco("stuffthingmaps_detectron2/{split}", ".png", from_zero),
    *(layout for maps in _COCO_MAPS for layout in _coco(maps, ".png", coco_stuff_ids)),
)
_OBJECT = (
    *_coco("annotations/{split}", "_instanceTrainIds.png", from_one),
    *(layout for maps in _COCO_MAPS for layout in _coco(maps, ".png", coco_object_ids)),
)
_CITYSCAPES = tuple(
    Layout("leftImg8bit/{split}", "_leftImg8bit.png", "gtFine/{split}", f"_gtFine_{end}.png", table)
    for end, table in (("labelTrainIds", from_zero), ("labelIds", cityscapes_ids))
)
CAMVID_NAMES = (
    *("sky", "building", "pole", "road", "pavement", "tree", "sign symbol", "fence", "car"),
    *("pedestrian", "bicyclist"),
)
"""The 11 classes of SegNet's CamVid, in the order of its masks."""

BENCHMARKS: Mapping[str, Benchmark] = MappingProxyType(
    {
        "voc21": Benchmark(
            *("PASCAL VOC 2012 with background", "voc21", True, _VAL, _VOC_PLACES),
            (_VOC_FILES, _detectron2("annotations_pascal21/{split}", ".png", from_one)),
            _VOC_EXPECTED,
        ),
        "voc20": Benchmark(
            *("PASCAL VOC 2012 without background", "voc20", False, _VAL, _VOC_PLACES),
            (_VOC_FILES, _detectron2("annotations_pascal20/{split}", ".png", from_zero)),
            _VOC_EXPECTED,
        ),
        "context60": Benchmark(
            *("PASCAL Context 59 with background", "context60", True, _VAL, _CONTEXT_PLACES),
            (_CONTEXT_FILES,),
            _CONTEXT_EXPECTED,
        ),
        "context59": Benchmark(
            *("PASCAL Context 59", "context59", False, _VAL, _CONTEXT_PLACES),
            (
                _CONTEXT_FILES,
                _detectron2("annotations_ctx59/{split}", ".png", from_zero),
                Layout(
                    "JPEGImages", ".jpg", "annotations_detectron2/pc59_{split}", ".png", from_zero, "masks"
                ),
            ),
            _CONTEXT_EXPECTED,
        ),
        "context459": Benchmark(
            *("PASCAL Context 459", "context459", False, _VAL, _CONTEXT_PLACES),
            (
                _detectron2("annotations_ctx459/{split}", ".tif", from_zero),
                Layout(
                    "JPEGImages", ".jpg", "annotations_detectron2/pc459_{split}", ".tif", from_zero, "masks"
                ),
            ),
            "images/{split}/*.jpg and annotations_ctx459/{split}/*.tif (0 to 458, from FC-CLIP's script), "
            "or JPEGImages/ and annotations_detectron2/pc459_{split}/*.tif (from CAT-Seg's)",
        ),
        "ade150": Benchmark(
            *("ADE20K 150", "ade150", False, ("validation",), ("", "ADEChallengeData2016")),
            (
                Layout("images/{split}", ".jpg", "annotations/{split}", ".png", from_one),
                Layout("images/{split}", ".jpg", "annotations_detectron2/{split}", ".png", from_zero),
            ),
            _ADE_EXPECTED,
        ),
        "ade847": Benchmark(
            *("ADE20K 847 (full)", "ade847", False, ("validation",), ("", "ADE20K_2021_17_01")),
            (
                Layout(
                    "images_detectron2/{split}", ".jpg", "annotations_detectron2/{split}", ".tif", from_zero
                ),
            ),
            "images_detectron2/{split}/*.jpg and annotations_detectron2/{split}/*.tif (0 to 846), as "
            "MaskFormer's and FC-CLIP's prepare_ade20k_full_sem_seg.py write them",
        ),
        "cocostuff171": Benchmark(
            "COCO-Stuff 164k", "cocostuff171", False, ("val2017",), _COCO_PLACES, _STUFF, _COCO_EXPECTED
        ),
        "cocoobject81": Benchmark(
            *("COCO-Object with background", "cocoobject81", True, ("val2017",), _COCO_PLACES),
            _OBJECT,
            _COCO_EXPECTED,
        ),
        "cocoobject80": Benchmark(
            "COCO-Object", "cocoobject80", False, ("val2017",), _COCO_PLACES, _OBJECT, _COCO_EXPECTED
        ),
        "cityscapes19": Benchmark(
            *("Cityscapes", "cityscapes19", False, ("val",), ("", "cityscapes")),
            _CITYSCAPES,
            "leftImg8bit/{split}/CITY/*_leftImg8bit.png and gtFine/{split}/CITY/*_gtFine_labelIds.png "
            "(or *_labelTrainIds.png)",
        ),
        "camvid11": Benchmark(
            *("CamVid 11", None, False, ("val",), ("", "CamVid")),
            (
                Layout("{split}", ".png", "{split}annot", ".png", from_zero),
                Layout("images/{split}", ".jpg", "masks/{split}", ".png", from_zero),
                Layout("images/{split}", ".png", "masks/{split}", ".png", from_zero),
            ),
            "{split}/*.png and {split}annot/*.png (0 to 10, 11 = void), as SegNet's tutorial lays it out, or "
            "images/{split}/ and masks/{split}/",
        ),
    }
)
"""Name on the command line -> benchmark."""
