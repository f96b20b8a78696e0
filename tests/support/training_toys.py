"""A toy world to train in: plain photos, a WordNet of a few lines, random teachers, made-up sentences."""

import json
import zlib
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file

from ovs_core.encoders.detector import Detector
from ovs_core.encoders.mini import ConvStem

SENTENCE_WIDTH, CLIP_WIDTH, JOINT_WIDTH = 12, 10, 8
CONFIG = {
    "embed_dim": JOINT_WIDTH,
    "vision_cfg": {
        "image_size": 64,
        "layers": 2,
        "width": 16,
        "head_width": 8,
        "patch_size": 16,
        "mlp_ratio": 2.0,
    },
    "text_cfg": {
        "context_length": 77,
        "vocab_size": 49408,
        "width": JOINT_WIDTH,
        "heads": 2,
        "layers": 1,
    },
    "stem": {"imagenet_names": 3, "voc_names": 3, "upsampling": True},
}
LVIS_NAMES = ("dog", "cat_(pet)", "tennis_ball", "car", "tree")
OBJECTS_NAMES = ("Person", "Dog", "Boat", "Lamp")

# Offset, lexicographer's file, part of speech, names, pointers, gloss: WordNet's own format.
DATA_NOUN = """\
  1 This is the licence, which is indented.
00001930 03 n 01 physical_entity 0 000 | what has a body
00002000 03 n 01 whole 0 001 @ 00001930 n 0000 | all of it
00003000 05 n 02 animal 0 beast 0 002 @ 00002000 n 0000 ~ 00004000 n 0000 | it lives
00004000 05 n 03 dog 0 domestic_dog 0 Canis_familiaris 0 001 @ 00003000 n 0000 | it barks
00004100 05 n 02 settee 0 couch 0 001 @ 00002000 n 0000 | to sit on
00005000 09 n 01 idea 0 000 | a thought
00006000 05 n 01 Lassie 0 001 @i 00003000 n 0000 | one dog
"""
INDEX_NOUN = """\
  1 This is the licence, which is indented.
animal n 1 2 @ ~ 1 1 00003000
couch n 1 1 @ 1 0 00004100
dog n 2 1 @ 2 1 00005000 00004000
domestic_dog n 1 1 @ 1 0 00004000
idea n 1 0 1 0 00005000
lassie n 1 1 @i 1 0 00006000
settee n 1 1 @ 1 0 00004100
"""


def fake_sentences(texts):
    """A fixed unit vector for every string."""
    table = np.random.default_rng(0).standard_normal((997, SENTENCE_WIDTH)).astype(np.float32)
    table /= np.linalg.norm(table, axis=1, keepdims=True)
    return table[[zlib.crc32(text.encode()) % len(table) for text in texts]]


def save_photo(path: Path, height: int, width: int, color=(90, 120, 150)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(zlib.crc32(path.name.encode())).integers(0, 40, (height, width, 3))
    Image.fromarray((np.array(color) + noise).astype(np.uint8)).save(path)


def save_mask(path: Path, mask) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(mask, np.uint8)).save(path)


def make_wordnet(root: Path) -> Path:
    root.mkdir(parents=True, exist_ok=True)
    (root / "data.noun").write_text(DATA_NOUN, encoding="utf-8")
    (root / "index.noun").write_text(INDEX_NOUN, encoding="utf-8")
    return root


def make_coco(root: Path) -> Path:
    """Two photos of 40 x 56: a dog (class 2) fills the left half of the first, nothing is in the second."""
    mask = np.zeros((40, 56), np.uint8)
    mask[:, :28] = 2
    for name, drawn in (("000000000007", mask), ("000000000009", np.zeros_like(mask))):
        save_photo(root / "images" / "train2017" / f"{name}.jpg", 40, 56)
        save_mask(root / "masks" / "train2017" / f"{name}.png", drawn)
    (root / "classes.txt").write_text("0 background\n1 person\n2 dog\n3 cell phone\n", encoding="utf-8")
    captions = [
        {"image_id": 7, "caption": "A dog on the lawn."},
        {"image_id": 7, "caption": "Dog, near trees"},
        {"image_id": 9, "caption": "The sea"},
    ]
    (root / "captions.json").write_text(json.dumps({"annotations": captions}), encoding="utf-8")
    return root


def make_camvid(root: Path) -> Path:
    """One street of 32 x 48: sky (0) above road (3), void (11) in the last column."""
    mask = np.zeros((32, 48), np.uint8)
    mask[16:], mask[:, -1] = 3, 11
    save_photo(root / "images" / "train" / "street.jpg", 32, 48)
    save_mask(root / "masks" / "train" / "street.png", mask)
    return root


def make_pets(root: Path, stem: str = "yorkshire_terrier_12") -> Path:
    """One pet in rows 0-9, its unsure edge in rows 10-11, ground below; 24 x 36."""
    mask = np.full((24, 36), 2, np.uint8)
    mask[:10], mask[10:12] = 1, 3
    save_photo(root / "images" / f"{stem}.jpg", 24, 36)
    save_mask(root / "masks" / f"{stem}.png", mask)
    return root


def make_caltech(root: Path) -> Path:
    for folder in ("airplanes", "lamp", "water_lilly", "gerenuk"):
        save_photo(root / folder / "image_0001.jpg", 30, 42)
    return root


def make_tables(root: Path) -> Path:
    """CLIP text tables for two name lists that share "dog"."""
    root.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(3)
    entries = [{"id": i, "name": name} for i, name in enumerate(LVIS_NAMES)]
    (root / "lvis_v1_train_cat_info.json").write_text(json.dumps(entries[::-1]), encoding="utf-8")
    lines = [f"{i},{name}\n" for i, name in enumerate(OBJECTS_NAMES)]
    (root / "Objects365_names_fix.csv").write_text("".join(lines), encoding="utf-8")
    for file, names in (("lvis_v1_clip_a+cname", LVIS_NAMES), ("o365_clip_a+cnamefix", OBJECTS_NAMES)):
        np.save(root / f"{file}.npy", 5 * rng.standard_normal((len(names), CLIP_WIDTH)).astype(np.float16))
    return root


def make_teachers(root: Path) -> ConvStem:
    """Write both teachers' files with random weights in half precision; returns a stem that holds them."""
    root.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(5)
    stem = ConvStem(CONFIG["vision_cfg"]["width"], JOINT_WIDTH, **CONFIG["stem"]).half().float()
    state = {name: value.half() for name, value in stem.state_dict().items()}
    imagenet = {k.removeprefix("imagenet."): v for k, v in state.items() if k.startswith("imagenet.")}
    imagenet |= {f"top.{part}": state[f"imagenet_top.{part}"] for part in ("weight", "bias")}
    imagenet["classifier.weight"] = state["imagenet_classifier.weight"][..., 0, 0].contiguous()
    imagenet["classifier.bias"] = state["imagenet_classifier.bias"]
    save_file(imagenet, root / "mobilenetv2_imagenet_classifier.safetensors")
    parts = {
        "voc": "trunk",
        "voc_aspp": "aspp0",
        "voc_pooling": "image_pooling",
        "voc_projection": "concat_projection",
        "voc_classifier": "logits",
    }
    voc = {
        f"{new}.{key.removeprefix(f'{old}.')}": value
        for old, new in parts.items()
        for key, value in state.items()
        if key.startswith(f"{old}.")
    }
    save_file(voc, root / "deeplabv3_mobilenetv2_voc.safetensors")
    (root / "imagenet_labels_1001.txt").write_text("background\ntench, Tinca tinca\nsofa bed\n")
    (root / "pascal_voc_segmentation_labels.txt").write_text("background\naeroplane\npottedplant\n")
    return stem


def make_detector(root: Path) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Write a NanoDet of random weights as TensorFlow.js saves one; returns them in their order.

    Weights are (O, I, k, k). Heads say 3 names and 44 numbers of a box; nodes and tensors lie out of order.
    """
    root.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(6)
    detector = Detector(3 + 44).half().float()
    parts = [part for part in detector.modules() if isinstance(part, torch.nn.Conv2d)]
    body, heads, outputs = parts[:28], parts[28:31], parts[31:]
    ordered = [*body, *(part for pair in zip(heads, outputs, strict=True) for part in pair)]
    weights = [(part.weight.detach(), part.bias.detach()) for part in ordered]
    nodes, entries, content = [], [], b""
    for i in reversed(range(len(weights))):
        conv = "convolution" + (f"_{i}" if i else "")
        nodes.append({"op": "Add", "name": f"sum/{i}", "input": [conv, f"bias/{i}"]})
        nodes.append({"op": "Conv2D", "name": conv, "input": ["x", f"kernel/{i}"]})
        for name, value in ((f"kernel/{i}", weights[i][0].permute(2, 3, 1, 0)), (f"bias/{i}", weights[i][1])):
            half = {"dtype": "float16", "original_dtype": "float32"}
            entries.append(
                {"name": name, "shape": list(value.shape), "dtype": "float32", "quantization": half}
            )
            content += value.contiguous().numpy().astype(np.float16).tobytes()
    nodes.append({"op": "Add", "name": "merge", "input": ["sum/1", "sum/2"]})
    manifest = [{"paths": ["nanodet.bin"], "weights": entries}]
    graph = {"modelTopology": {"node": nodes}, "weightsManifest": manifest}
    (root / "nanodet.json").write_text(json.dumps(graph), encoding="utf-8")
    (root / "nanodet.bin").write_bytes(content)
    return weights
