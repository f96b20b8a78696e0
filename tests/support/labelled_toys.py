"""Labelled photos made up for tests."""

from pathlib import Path

import numpy as np
from PIL import Image

from ovs_core.evaluation.run import function_subject
from ovs_core.types import LabelMap


def save_photo(path: Path, size, seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(seed)
    blocks = generator.integers(0, 256, (-(-size[0] // 8), -(-size[1] // 8), 3), np.uint8)
    pixels = blocks.repeat(8, axis=0).repeat(8, axis=1)[: size[0], : size[1]]
    Image.fromarray(pixels).save(path)


def save_mask(path: Path, mask):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(mask)).save(path)


def make_folder(root: Path, masks, lines=("0 background", "1 cat", "2 dog"), split=""):
    """images/, masks/ and classes.txt with one photo for each mask."""
    root.mkdir(parents=True, exist_ok=True)
    (root / "classes.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    for seed, (name, mask) in enumerate(masks.items()):
        mask = np.asarray(mask, np.uint8)
        save_photo(root / "images" / split / f"{name}.jpg", mask.shape, seed)
        save_mask(root / "masks" / split / f"{name}.png", mask)
    return root


def halves(left, right, size=(32, 48)):
    """A mask whose left half is one value and whose right half another."""
    mask = np.full(size, left, np.uint8)
    mask[:, size[1] // 2 :] = right
    return mask


def truth_of(rows):
    """A truth from rows of classes; None is not known."""
    known = np.array([[label is not None for label in row] for row in rows])
    return LabelMap(np.array([[label or 0 for label in row] for row in rows], np.uint16), (), known)


def classes_of(truth):
    """The same rows back."""
    return np.where(truth.known, truth.labels.astype(object), None).tolist()


def always(label, name="always", asked=None):
    """A subject that gives every pixel one class of the dataset, or other where it was not typed."""

    def function(photo, vocabulary):
        if asked is not None:
            asked.append((photo.name, vocabulary))
        names = ("other", *vocabulary.names)
        return np.full(photo.size, names.index(label) if label in names else 0)

    return function_subject(name, function, {"label": label})
