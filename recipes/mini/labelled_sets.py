"""What each set of labelled photos declares, in words that a person would type; and which photos teach.

Words of one value mean the same to most people. What a set calls by no word ("otherstructure") counts as not
known, and so does what its labellers were not sure of.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import numpy as np

from ovs_core.training.data import SYNONYMS, Sample, Sampler
from recipes.mini.ade import MATERIALS, kept_maps
from recipes.mini.coco import coco_names
from recipes.mini.labelled import Labelled, LabelledNames, Split, in_blocks

# Materials that photos of things seldom label, without two words that may both be right for a pixel.
FREE_MATERIALS = (
    *("sky", "grass", "tree", "water", "sea", "sand", "snow", "road", "pavement", "wall", "floor", "ceiling"),
    *("window", "door", "mountain", "building", "carpet", "curtain", "fence", "rock", "mud", "leaves"),
)
NOTHING = frozenset({0})

NYU = LabelledNames(
    MappingProxyType(
        {
            0: ("wall",),
            1: ("floor",),
            2: ("cabinet", "cupboard"),
            3: ("bed",),
            4: ("chair",),
            5: ("sofa", "couch"),
            6: ("table",),
            7: ("door",),
            8: ("window",),
            9: ("bookshelf", "bookcase"),
            10: ("picture", "painting", "poster"),
            11: ("counter", "countertop"),
            12: ("blinds", "window blind"),
            13: ("desk",),
            14: ("shelves", "shelf", "rack"),
            15: ("curtain", "drapes"),
            16: ("dresser", "chest of drawers"),
            17: ("pillow", "cushion"),
            18: ("mirror",),
            19: ("floor mat", "rug", "mat", "carpet"),
            20: ("clothes", "clothing"),
            21: ("ceiling",),
            22: ("books", "book"),
            23: ("refrigerator", "fridge"),
            24: ("television", "tv"),
            25: ("paper", "sheet of paper"),
            26: ("towel",),
            27: ("shower curtain",),
            28: ("box", "cardboard box"),
            29: ("whiteboard",),
            30: ("person", "people"),
            31: ("night stand", "nightstand", "bedside table"),
            32: ("toilet",),
            33: ("sink", "washbasin"),
            34: ("lamp",),
            35: ("bathtub", "bath"),
            36: ("bag",),
        }
    )
)
# Of the finer names those that are things of their own; the others lie in one of the names above.
NYU_FINE = LabelledNames(
    MappingProxyType(
        {
            **{value: words for value, words in NYU.words.items() if value != 22},
            40: ("bottle",),
            41: ("oven",),
            42: ("dishwasher",),
            43: ("books", "book"),
            44: ("garbage bin", "trash can", "waste bin"),
            45: ("monitor", "computer screen"),
            46: ("column", "pillar"),
            47: ("stove", "cooker"),
            49: ("headboard",),
            50: ("piano",),
            51: ("plant", "houseplant"),
            52: ("printer",),
            53: ("coffee table",),
            56: ("cup", "mug"),
            57: ("drawer",),
            58: ("ottoman", "footstool"),
            60: ("bench",),
            61: ("computer",),
            62: ("bowl",),
            64: ("fireplace",),
            67: ("basket",),
            68: ("coffee machine", "coffee maker"),
            70: ("blackboard", "chalkboard"),
            71: ("chandelier",),
            72: ("stuffed animal", "soft toy"),
            73: ("backpack", "rucksack"),
            75: ("air conditioner",),
            76: ("tissue box",),
            78: ("range hood", "cooker hood"),
            80: ("banister", "handrail"),
            81: ("vase",),
            82: ("faucet", "tap"),
            85: ("flower", "flowers"),
            87: ("jar",),
            89: ("telephone", "phone"),
            92: ("loudspeaker", "speaker"),
            93: ("sculpture", "statue"),
            94: ("laptop", "notebook computer"),
            95: ("magazine",),
            96: ("shoe", "shoes"),
            97: ("keyboard",),
            98: ("tray",),
            101: ("stereo",),
            104: ("exercise equipment",),
            106: ("plate", "dish"),
            109: ("stairs", "staircase"),
            110: ("pot", "cooking pot"),
            112: ("toilet paper",),
            113: ("ladder",),
            130: ("candle",),
        }
    )
)
MSRC = LabelledNames(
    MappingProxyType(
        {
            1: ("building", "house"),
            2: ("grass", "lawn"),
            3: ("tree", "trees"),
            4: ("cow", "cattle"),
            5: ("horse",),
            6: ("sheep",),
            7: ("sky",),
            8: ("mountain", "hill"),
            9: ("aeroplane", "airplane", "plane"),
            10: ("water",),
            11: ("face",),
            12: ("car", "automobile"),
            13: ("bicycle", "bike"),
            14: ("flower", "flowers"),
            15: ("sign", "road sign"),
            16: ("bird",),
            17: ("book", "books"),
            18: ("chair",),
            19: ("road", "street"),
            20: ("cat",),
            21: ("dog",),
            22: ("body",),
            23: ("boat", "ship"),
        }
    ),
    whole=MappingProxyType({(11, 22): ("person", "people", "human")}),
)
VOC_NAMES = (
    *("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *("dining table", "dog", "horse", "motorbike", "person", "potted plant", "sheep", "sofa", "train"),
    "tv monitor",
)
VOC_SYNONYMS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "aeroplane": ("airplane", "aeroplane", "plane"),
        "dining table": ("dining table", "table"),
        "motorbike": ("motorcycle", "motorbike"),
        "sofa": ("couch", "sofa"),
        "tv monitor": ("television", "tv", "monitor"),
    }
)
VOC = LabelledNames(
    MappingProxyType(
        {
            value: VOC_SYNONYMS.get(name, SYNONYMS.get(name, (name,)))
            for value, name in enumerate(VOC_NAMES, start=1)
        }
    ),
    negative=NOTHING,
    unlabelled=FREE_MATERIALS,
)
PLANT_WORDS = ("vegetation", "tree", "grass", "bush", "plants")
VEHICLES = ("car", "truck", "bus")  # street sets call all of them cars
LABELME_FACADE = LabelledNames(
    MappingProxyType(
        {
            1: ("building", "house"),
            2: VEHICLES,
            3: ("door",),
            4: ("pavement", "sidewalk"),
            5: ("road", "street"),
            6: ("sky",),
            7: PLANT_WORDS,
            8: ("window",),
        }
    ),
    loose=frozenset({2, 7}),
)
FACADE = LabelledNames(
    MappingProxyType(
        {
            1: ("facade", "building", "wall"),
            2: ("window",),
            3: ("balcony fence", "balcony", "railing"),
            4: ("shop", "shop window", "storefront"),
            5: PLANT_WORDS,
            6: ("street", "road"),
            7: VEHICLES,
            9: ("fence",),
        }
    ),
    loose=frozenset({3, 5, 7}),
)
FURNITURE = LabelledNames(
    MappingProxyType(
        {
            1: ("bed",),
            2: ("chair",),
            3: ("plant pot", "flower pot"),
            4: ("sofa", "couch"),
            5: ("swivel chair", "office chair", "desk chair"),
            6: ("table",),
        }
    )
)
CLOTHES = (
    *(4, 5, 6, 7, 8, 10, 11, 13, 14, 16, 18, 20, 21, 22, 24, 25, 26, 27, 28, 31, 32, 35, 36, 37, 38, 39, 40),
    *(42, 43, 44, 45, 46, 48, 49, 51, 52, 53, 54, 55, 58),
)
CLOTHING = LabelledNames(
    MappingProxyType(
        {
            2: ("bag", "handbag"),
            3: ("belt",),
            4: ("blazer",),
            5: ("blouse",),
            7: ("boots",),
            10: ("cape",),
            11: ("cardigan",),
            13: ("coat", "overcoat"),
            14: ("dress", "gown"),
            19: ("hair",),
            20: ("hat",),
            24: ("jacket",),
            25: ("jeans",),
            26: ("jumper",),
            27: ("leggings",),
            31: ("pants", "trousers"),
            33: ("purse",),
            35: ("romper",),
            36: ("sandals",),
            37: ("scarf",),
            38: ("shirt",),
            39: ("shoes",),
            40: ("shorts",),
            41: ("skin",),
            42: ("skirt",),
            43: ("sneakers", "trainers"),
            44: ("socks",),
            45: ("stockings",),
            46: ("suit",),
            47: ("sunglasses",),
            48: ("sweater", "pullover"),
            49: ("sweatshirt",),
            51: ("t-shirt", "tee shirt"),
            52: ("tie", "necktie"),
            53: ("tights",),
            54: ("top",),
            55: ("vest", "waistcoat"),
        }
    ),
    whole=MappingProxyType({(19, 41, *CLOTHES): ("person", "woman", "people")}),
    negative=NOTHING,
    unlabelled=FREE_MATERIALS,
)


def coco_declares(root: Path) -> LabelledNames:
    """COCO's 80 things, from a folder's `classes.txt`."""
    names = coco_names(root)
    words = {value: SYNONYMS.get(name, (name,)) for value, name in enumerate(names, start=1)}
    return LabelledNames(MappingProxyType(words), negative=NOTHING, unlabelled=FREE_MATERIALS)


def split_photos(name: str, photos: Sequence[Path]) -> dict[Split, tuple[Path, ...]]:
    """Which photos teach, which settings may be chosen on, and which are kept for measuring.

    NYUv2: five blocks of 30 are kept and four of 10 chosen on, with five photos left out beside each. MSRC:
    every fifth photo is kept and every tenth of the others chosen on. COCO128: every fourth is chosen on. All
    photos of the other sets teach.
    """
    if name == "nyu":
        kept, rest = in_blocks(photos, 5, 30, 5)
        choose, train = in_blocks(rest, 4, 10, 5)
        return {"train": train, "choose": choose, "kept": kept}
    if name == "msrc":
        others = [photo for index, photo in enumerate(photos) if index % 5]
        return {
            "train": tuple(photo for index, photo in enumerate(others) if index % 10),
            "choose": tuple(others[::10]),
            "kept": tuple(photos[::5]),
        }
    if name == "coco128":
        return {
            "train": tuple(photo for index, photo in enumerate(photos) if index % 4),
            "choose": tuple(photos[::4]),
            "kept": (),
        }
    return {"train": tuple(photos), "choose": (), "kept": ()}


# Set -> what it declares; COCO128's names come from its folder.
DECLARED: Mapping[str, LabelledNames] = MappingProxyType(
    {
        "nyu": NYU,
        "msrc": MSRC,
        "voc": VOC,
        "labelme_facade": LABELME_FACADE,
        "facade": FACADE,
        "furniture": FURNITURE,
        "clothing": CLOTHING,
    }
)
SETS = (*DECLARED, "coco128")
WITHOUT_MATERIALS = frozenset({"coco128", "voc"})  # an unlabelled pixel may be any material


def labelled_samplers(
    folders: Mapping[str, Path], ade: Path | None, out: Path, known: Collection[str] = ()
) -> dict[str, Sampler]:
    """A sampler for each set that is there.

    Args:
        folders: set -> its folder.
        ade: folder of the ADE20K networks, which say where materials are in photos that label none; None
            leaves those unlabelled.
        out: the maps of those networks are kept here.
        known: stems of photos that another set holds too: they are left out.
    """
    samplers: dict[str, Sampler] = {}
    for name, root in folders.items():
        photos = split_photos(name, sorted((root / "images").glob("*.jpg")))["train"]
        photos = tuple(photo for photo in photos if photo.stem not in known)
        names = DECLARED[name] if name in DECLARED else coco_declares(root)
        maps = {}
        if ade is not None and name in WITHOUT_MATERIALS:
            maps = kept_maps(photos, ade, out / f"materials-{name}.npz")
        samplers[name] = Labelled(photos, names, maps, MATERIALS).sample
        if name == "nyu" and (root / "masks_fine").is_dir():
            samplers[name] = either(
                samplers[name], Labelled(photos, NYU_FINE, folder="masks_fine").sample, FINE_CHANCE
            )
    return samplers


FINE_CHANCE = 0.3  # of NYUv2's samples, with the finer and less sure names


def either(first: Sampler, second: Sampler, chance: float) -> Sampler:
    """Draws from `second` with that chance."""

    def sample(rng: np.random.Generator) -> Sample:
        return second(rng) if rng.random() < chance else first(rng)

    return sample
