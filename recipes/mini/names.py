"""The names that stand in the training material: class lists, ImageNet's labels, folders."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from recipes.mini.text_space import clean_name, clip_tables

LONGEST_NAME = 60  # letters; longer entries of the class lists are descriptions
VOC_WORDS: Mapping[str, str] = MappingProxyType(
    {
        "aeroplane": "airplane",
        "diningtable": "dining table",
        "motorbike": "motorcycle",
        "pottedplant": "potted plant",
        "sofa": "couch",
        "tvmonitor": "television",
    }
)
CALTECH_WORDS: Mapping[str, str] = MappingProxyType(
    {
        "Faces": "face",
        "Faces_easy": "face",
        "Leopards": "leopard",
        "Motorbikes": "motorcycle",
        "airplanes": "airplane",
        "car_side": "car",
        "cellphone": "cell phone",
        "cougar_body": "cougar",
        "cougar_face": "cougar face",
        "crocodile_head": "crocodile head",
        "flamingo_head": "flamingo head",
        "gerenuk": "antelope",
        "hawksbill": "turtle",
        "inline_skate": "inline skate",
        "water_lilly": "water lily",
        "windsor_chair": "chair",
        "yin_yang": "yin yang symbol",
    }
)


def caltech_name(folder: str) -> str:
    """What a Caltech-101 folder shows, in words a person would type."""
    return CALTECH_WORDS.get(folder, clean_name(folder))


def imagenet_names(labels: Path) -> tuple[tuple[str, ...], ...]:
    """Synonyms of each classifier output, one line of `labels` each; output 0 is background."""
    lines = labels.read_text(encoding="utf-8").splitlines()
    return tuple(
        tuple(dict.fromkeys(clean_name(name) for name in line.split(","))) for line in lines if line.strip()
    )


def voc_names(labels: Path) -> tuple[str, ...]:
    """The 21 outputs of the PASCAL VOC teacher in words; output 0 is background."""
    lines = labels.read_text(encoding="utf-8").splitlines()[:21]
    return tuple(VOC_WORDS.get(line.strip(), line.strip()) for line in lines)


def vocabulary_names(folder: Path) -> tuple[str, ...]:
    """Every name in the benchmark class lists (`id:name,name` lines) of `assets/vocabularies`."""
    names: dict[str, None] = {}
    for path in sorted(folder.glob("*.txt")):
        for line in path.read_text(encoding="utf-8").splitlines():
            names |= dict.fromkeys(clean_name(n) for n in re.sub(r"^\d+:", "", line).split(","))
    return tuple(name for name in names if 0 < len(name) <= LONGEST_NAME)


def everyday_names(pretrained: Path, vocabularies: Path) -> tuple[str, ...]:
    """Names that a person is likely to type: benchmark lists, CLIP's tables, ImageNet's and VOC's labels."""
    tables, _ = clip_tables(pretrained / "clip_text_tables" / "vitb32_detic")
    imagenet = imagenet_names(pretrained / "imagenet_labels_1001.txt")
    return tuple(
        dict.fromkeys(
            [
                *vocabulary_names(vocabularies),
                *tables,
                *(name for names in imagenet for name in names),
                *voc_names(pretrained / "pascal_voc_segmentation_labels.txt"),
            ]
        )
    )
