"""Labelled photos of a few seen and unseen classes to train in."""

import numpy as np
from PIL import Image

from ovs_core.vocabulary.splits import Split

TOWER = "ab" * 32
TOY = Split(("zebra",), 3)


def make_world(root, count=2, part="train2017"):
    """Photos of 80 x 96: red cats left of green dogs, blue zebras below, value 0 and 200 at the rim."""
    root.mkdir(parents=True, exist_ok=True)
    (root / "classes.txt").write_text("0 background\n1 cat\n2 zebra\n5 dog\n", encoding="utf-8")
    mask = np.zeros((80, 96), np.uint8)
    mask[2:60, 2:48], mask[2:60, 48:], mask[60:], mask[:, 95] = 1, 5, 2, 200
    colors = {0: (90, 90, 90), 1: (220, 30, 30), 2: (30, 30, 220), 5: (30, 200, 30), 200: (0, 0, 0)}
    for kind in ("images", "masks"):
        (root / kind / part).mkdir(parents=True, exist_ok=True)
    for number in range(count):
        noise = np.random.default_rng(number).integers(0, 30, (80, 96, 3))
        photo = np.zeros((80, 96, 3))
        for value, color in colors.items():
            photo[mask == value] = color
        pixels = np.clip(photo + noise, 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(root / "images" / part / f"{number:02}.jpg", quality=95)
        Image.fromarray(mask).save(root / "masks" / part / f"{number:02}.png")
    return root
