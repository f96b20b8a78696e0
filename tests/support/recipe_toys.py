"""A whole toy world for the recipe: every folder it may read, and what its teachers would have said."""

from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from training_toys import (
    make_caltech,
    make_camvid,
    make_coco,
    make_detector,
    make_pets,
    make_tables,
    make_teachers,
    make_wordnet,
    save_mask,
    save_photo,
)

from ovs_core.encoders.mosaic import Mosaic
from recipes.mini.ade import LABELS_FILE, MATERIAL_NAMES, MOSAIC_FILE
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
    make_ade(root / "ade")
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
        root / "ade",
        {"msrc": make_msrc(root / "msrc"), "voc": make_voc(root / "voc")},
    )


def make_msrc(root: Path) -> Path:
    """Three photos of 30 x 40, grass (2) below sky (7); the last of them teaches."""
    mask = np.full((30, 40), 7, np.uint8)
    mask[18:] = 2
    for number in range(3):
        save_photo(root / "images" / f"{number}.jpg", 30, 40)
        save_mask(root / "masks" / f"{number}.png", mask)
    return root


def make_coco128(root):
    """Eight photos of 24 x 32 with a person (1) on the left; every fourth is chosen on."""
    mask = np.zeros((24, 32), np.uint8)
    mask[:, :16] = 1
    for number in range(8):
        save_photo(root / "images" / f"{number}.jpg", 24, 32)
        save_mask(root / "masks" / f"{number}.png", mask)
    (root / "classes.txt").write_text("0\t(none)\t8\n1\tperson\t8\n2\tdog\t0\n255\t(ignore)\t0\n")
    return root


def make_voc(root: Path) -> Path:
    """One photo of 40 x 30: a dog (12) in the middle, nothing drawn around it."""
    mask = np.zeros((40, 30), np.uint8)
    mask[10:30, 8:22] = 12
    save_photo(root / "images" / "cat_1.jpg", 40, 30)
    save_mask(root / "masks" / "cat_1.png", mask)
    return root


def make_ade(root: Path) -> Mosaic:
    """Write a MOSAIC of random weights as ONNX, and names of ADE20K; returns the network.

    As in the authors' file, convolutions of the dilated blocks have no bias and a batch norm behind them, and
    the decoder's convolution at stride 4 stands before the block's last one.
    """
    root.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(8)
    net = Mosaic(MATERIAL_NAMES).half().float()
    parts = [(name, part) for name, part in net.named_modules() if isinstance(part, torch.nn.Conv2d)]
    order = [name for name, _ in parts if name != "quarter"]
    order.insert(order.index("blocks.1.project"), "quarter")
    nodes, tensors = [], []
    for index, part in enumerate(dict(parts)[name] for name in order):
        weight, bias = part.weight.detach(), part.bias.detach()
        entries = {f"w{index}": weight, f"b{index}": bias}
        norm = [f"y{index}", *(f"{letter}{index}" for letter in "gomv")]
        if part.dilation[0] > 1:
            mean = torch.linspace(-1, 1, len(bias))
            entries = {f"w{index}": weight, f"o{index}": bias + mean, f"m{index}": mean}
            # The factor is 2 / sqrt(4): 1.
            entries |= {f"g{index}": torch.full_like(bias, 2), f"v{index}": torch.full_like(bias, 4 - 1e-3)}
        inputs = [f"x{index}", *(key for key in entries if key[0] in "wb")]
        nodes.append(helper.make_node("Conv", inputs, [f"y{index}"]))
        if part.dilation[0] > 1:
            nodes.append(helper.make_node("BatchNormalization", norm, [f"z{index}"], epsilon=1e-3))
        tensors += [numpy_helper.from_array(value.numpy(), key) for key, value in entries.items()]
    value = helper.make_tensor_value_info("x0", TensorProto.FLOAT, [1, 3, 512, 512])
    onnx.save(helper.make_model(helper.make_graph(nodes, "mosaic", [value], [], tensors)), root / MOSAIC_FILE)
    names = [f"{number}\tmaterial {number}" for number in range(1, 151)]
    (root / LABELS_FILE).write_text("\n".join(names) + "\n", encoding="utf-8")
    return net


def save_outdoor_maps(out: Path) -> None:
    """What teachers would have said, where a run keeps it.

    Sky in the upper half of photo 9; the things of three photos in their left half; grass around the dog.
    """
    out.mkdir(parents=True, exist_ok=True)
    found = np.zeros((33, 33), np.int8)
    found[:16] = 1
    np.savez_compressed(out / "outdoor.npz", **{"000000000009": found})
    salience = np.zeros((30, 42), np.uint8)
    salience[:, :20] = 255
    photos = ("imagenet/n00004000_dog", "airplanes/image_0001", "lamp/image_0001")
    np.savez_compressed(out / "salience.npz", **dict.fromkeys(photos, salience))
    sky = np.where(found > 0, 3, 0).astype(np.uint8)
    np.savez_compressed(out / "materials-coco.npz", **{"000000000009": sky})
    np.savez_compressed(out / "materials-voc.npz", cat_1=np.full((4, 4), 10, np.uint8))
