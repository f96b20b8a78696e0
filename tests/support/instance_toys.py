"""A toy COCO with annotated objects and captions, and two towers to train on it."""

import json
from pathlib import Path

import torch
from open_clip.model import CLIP
from tiny_clip import randomise
from training_toys import CONFIG, save_photo

from ovs_core.encoders.mini import build_mini
from ovs_core.encoders.text import TextEncoder
from ovs_core.training.fc_clip import MaskTower
from ovs_core.training.gkc_photos import ResNetTower

SIZE = (64, 96)  # of every photo
SHA = "a" * 64
CATEGORIES = ((1, "person"), (18, "dog"), (24, "zebra"))


def box(left, top, right, bottom):
    """A polygon's corners, x and y in pixels."""
    return [left, top, right, top, right, bottom, left, bottom]


def annotation(photo, category, area, segmentation, crowd=0):
    return {
        "image_id": photo,
        "category_id": category,
        "area": area,
        "segmentation": segmentation,
        "iscrowd": crowd,
    }


def make_instances(root: Path, part="train2017") -> Path:
    """Three photos: 7 with a dog in front of a person, 8 with a zebra and a crowd, 9 with nothing."""
    for number in (7, 8, 9):
        save_photo(root / "images" / part / f"{number:012}.jpg", *SIZE)
    # A crowd in columns 0 and 1: runs go down the columns, first those outside.
    crowd = {"size": list(SIZE), "counts": [0, 2 * SIZE[0], (SIZE[1] - 2) * SIZE[0]]}
    content = {
        "images": [],
        "categories": [{"id": number, "name": name} for number, name in CATEGORIES],
        "annotations": [
            annotation(7, 18, 30 * 40, [box(10, 10, 39, 49)]),
            annotation(7, 1, 50 * 60, [box(0, 0, 49, 59)]),
            annotation(8, 24, 30 * 30, [box(40, 10, 69, 39)]),
            annotation(8, 1, 2 * SIZE[0], crowd, 1),
        ],
    }
    (root / "instances.json").write_text(json.dumps(content), encoding="utf-8")
    captions = [{"image_id": 7, "caption": "A dog and a person."}, {"image_id": 9, "caption": "Nothing"}]
    (root / "captions.json").write_text(json.dumps({"annotations": captions}), encoding="utf-8")
    return root


SMALL_HEAD = {
    "width": 64,
    "queries": 12,
    "pixel_layers": 1,
    "mask_layers": 3,
    "feedforward": 16,
    "points": 16,
    "hold_out": ["zebra"],
}


def toy_tower(seed=0) -> MaskTower:
    """The toy world's embedded model, random."""
    torch.manual_seed(seed)
    model = build_mini(CONFIG).eval().requires_grad_(False)
    text = TextEncoder(model, f"toy {seed}", torch.device("cpu"))
    return MaskTower(model.visual, text, torch.tensor(3.0), SHA)


SMALL_GKC_PHOTOS = {
    "side": 64,
    "width": 64,
    "queries": 8,
    "pixel_layers": 1,
    "mask_layers": 2,
    "pixel_feedforward": 16,
    "mask_feedforward": 16,
    "steps": 2,
    "batch": 2,
    "warmup": 0,
    "hold_out": ["zebra"],
    "losses": {"points": 16, "plain": 1.0},
}


def toy_resnet() -> ResNetTower:
    """A tiny random CLIP ResNet."""
    vision = {"layers": [1, 1, 1, 1], "width": 8, "image_size": 64}
    text = {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1}
    model = randomise(CLIP(32, vision, text), 0)
    return ResNetTower(
        model.visual, TextEncoder(model, "toy", torch.device("cpu")), torch.tensor(3.0), "d" * 64
    )
