"""A whole toy world for the recipe: every folder it may read, and what its teachers would have said."""

from pathlib import Path

import numpy as np
from training_toys import (
    make_caltech,
    make_camvid,
    make_coco,
    make_detector,
    make_pets,
    make_tables,
    make_teachers,
    make_wordnet,
    save_photo,
)

from recipes.mini.sources import Sources


def make_sources(root: Path) -> Sources:
    """A whole toy world in `root`."""
    make_teachers(root / "pretrained")
    make_tables(root / "pretrained" / "clip_text_tables" / "vitb32_detic")
    lists = root / "assets" / "vocabularies"
    lists.mkdir(parents=True)
    (lists / "toy.txt").write_text("0:background\n1:dog,puppy\n2:sofa\n", encoding="utf-8")
    save_photo(root / "imagenet" / "n00004000_dog.jpg", 30, 42)
    (root / "salience").mkdir()
    make_detector(root / "detector")
    return Sources(
        root / "pretrained",
        make_wordnet(root / "wordnet"),
        lists,
        make_coco(root / "coco"),
        make_camvid(root / "camvid"),
        make_pets(root / "pets"),
        make_caltech(root / "caltech"),
        root / "imagenet",
        root / "salience",
        root / "detector",
    )


def save_outdoor_maps(out: Path) -> None:
    """What two teachers would have said, where a run keeps it.

    Sky in the upper half of photo 9; the things of three photos in their left half.
    """
    out.mkdir(parents=True, exist_ok=True)
    found = np.zeros((33, 33), np.int8)
    found[:16] = 1
    np.savez_compressed(out / "outdoor.npz", **{"000000000009": found})
    salience = np.zeros((30, 42), np.uint8)
    salience[:, :20] = 255
    photos = ("imagenet/n00004000_dog", "airplanes/image_0001", "lamp/image_0001")
    np.savez_compressed(out / "salience.npz", **dict.fromkeys(photos, salience))
