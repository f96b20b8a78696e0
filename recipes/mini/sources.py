"""Folders to learn from, and the samplers that draw pictures from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ovs_core.training.data import SYNONYMS, CamVid, Pets, Sample, Sampler
from recipes.mini.ade import MATERIALS, kept_maps
from recipes.mini.coco import Coco
from recipes.mini.labelled_sets import SETS, labelled_samplers
from recipes.mini.names import caltech_name
from recipes.mini.plan import ImagePlan
from recipes.mini.teachers import outdoor_maps, salience_maps
from recipes.mini.text_space import clean_name
from recipes.mini.things import Mosaic, Named, Thing, depicts, paste_things, segmentable
from recipes.mini.words import kinds_of, read_wordnet

LABELS = "imagenet_labels_1001.txt"
MAPS_PER_FOLDER = 4  # photos of a Caltech class that are searched for their thing, at a second each
NEEDED = ("pretrained", "wordnet", "coco")
OPTIONAL = ("camvid", "pets", "caltech", "imagenet", "salience", "detector", "ade", *SETS)
IMAGENET_REPEATS = 3  # one photo a class, drawn about as often as Caltech's 45 a class


@dataclass(frozen=True)
class Sources:
    """Folders to learn from.

    Attributes:
        pretrained: teachers' weights, label lists and CLIP text tables.
        wordnet: `data.noun` and `index.noun` of WordNet 3.0.
        vocabularies: benchmark class lists (their names are taught to the text tower).
        coco, camvid, pets, caltech, imagenet: photo folders; a missing one is left out.
        salience: folder of `u2net.onnx`, which says where the thing is in photos of one thing; without it
            nothing is pasted from those.
        detector: folder of `nanodet.json` and `nanodet.bin`, which the stem's detector starts from; needed by
            a recipe with `detect_steps`.
        ade: folder of the networks that learnt ADE20K: the stem's segmenter of materials starts from one, and
            they say where materials are; needed by a recipe with `materials_steps`.
        labelled: folders of further sets by name (`recipes.mini.labelled_sets.SETS`), any of them.
    """

    pretrained: Path
    wordnet: Path
    vocabularies: Path
    coco: Path
    camvid: Path | None = None
    pets: Path | None = None
    caltech: Path | None = None
    imagenet: Path | None = None
    salience: Path | None = None
    detector: Path | None = None
    ade: Path | None = None
    labelled: Mapping[str, Path] = field(default_factory=dict)


def photo_sources(
    sources: Sources, plan: ImagePlan, out: Path, hold_out: tuple[str, ...] = ()
) -> dict[str, Sampler]:
    """Samplers by name for the folders that are there; the teacher's maps are kept in `out`."""
    hidden = frozenset(word for name in hold_out for word in SYNONYMS.get(name, (name,)))
    maps = out / "outdoor.npz"
    if not maps.exists():
        coco_photos = sorted((sources.coco / "images" / "train2017").glob("*.jpg"))
        teacher = sources.pretrained / "deeplab_mobilenet_edgetpu_slim_cityscapes_quant.tflite"
        found_maps: dict[str, Any] = dict(outdoor_maps(coco_photos, teacher))
        np.savez_compressed(maps, **found_maps)
    with np.load(maps) as stored:
        outdoor = dict(stored)
    named = _unhidden((*_imagenet_photos(sources), *caltech_photos(sources)), hidden)
    things = _things(sources, hidden, out) if plan.needs_things else []
    coco = partial(
        Coco(sources.coco, outdoor, hidden).sample,
        rare_chance=plan.rare_chance,
        paste_chance=plan.paste_chance,
    )
    samplers: dict[str, Sampler] = {"coco": _with_things(coco, things, plan.thing_chance)}
    if sources.camvid:
        samplers["camvid"] = _with_things(CamVid(sources.camvid).sample, things, plan.thing_chance)
    if sources.pets:
        samplers["pets"] = _with_things(Pets(sources.pets).sample, things, plan.thing_chance)
    if named:
        samplers["mosaic"] = Mosaic(named, plan.side).sample
    if things:
        samplers["things"] = Mosaic((), plan.side, things).sample
    return samplers


def sources_of(folders: Mapping[str, Path], vocabularies: Path) -> Sources:
    """Folders by the names of the command line, of `NEEDED` all and of `OPTIONAL` any."""
    labelled = {name: folder for name, folder in folders.items() if name in SETS}
    others = {name: folder for name, folder in folders.items() if name not in SETS}
    return Sources(vocabularies=vocabularies, labelled=labelled, **others)


def material_sources(sources: Sources, ade: Path, plan: ImagePlan, out: Path) -> dict[str, Sampler]:
    """Samplers of all sets, for the stage that learns materials; the maps of `ade` are kept in `out`."""
    photos = sorted((sources.coco / "images" / "train2017").glob("*.jpg"))
    seen = kept_maps(photos, ade, out / "materials-coco.npz")
    coco = Coco(sources.coco, seen, seen_names=MATERIALS)
    samplers: dict[str, Sampler] = {
        "coco": partial(coco.sample, rare_chance=plan.rare_chance, paste_chance=plan.paste_chance)
    }
    if sources.camvid:
        samplers["camvid"] = CamVid(sources.camvid).sample
    if sources.pets:
        samplers["pets"] = Pets(sources.pets).sample
    named = (*_imagenet_photos(sources), *caltech_photos(sources))
    if named:
        samplers["mosaic"] = Mosaic(named, plan.side).sample
    known = frozenset(photo.stem for photo in photos)
    return {**samplers, **labelled_samplers(sources.labelled, ade, out, known)}


def _with_things(sampler: Sampler, things: Sequence[Thing], chance: float) -> Sampler:
    """`sampler`, with things pasted into a picture with that chance."""
    if not things or not chance:
        return sampler

    def sample(rng: np.random.Generator) -> Sample:
        drawn = sampler(rng)
        return paste_things(drawn, things, rng) if rng.random() < chance else drawn

    return sample


def _things(sources: Sources, hidden: AbstractSet[str], out: Path) -> list[Thing]:
    """The photos of one thing that is set apart; the network's maps are kept in `out`."""
    if sources.salience is None:
        return []
    named = (*_imagenet_photos(sources), *caltech_photos(sources, MAPS_PER_FOLDER))
    maps = out / "salience.npz"
    if not maps.exists():
        photos = dict.fromkeys(photo.path for photo in named)
        salient: dict[str, Any] = dict(salience_maps(photos, sources.salience / "u2net.onnx"))
        np.savez_compressed(maps, **salient)
    with np.load(maps) as stored:
        return segmentable(_unhidden(named, hidden), dict(stored))


def _unhidden(photos: Sequence[Named], hidden: AbstractSet[str]) -> list[Named]:
    return [photo for photo in photos if not depicts(photo, hidden)]


def _imagenet_photos(sources: Sources) -> list[Named]:
    """Photos called `wnid_name.jpg`; the synset's names, then what it is a kind of."""
    if sources.imagenet is None:
        return []
    synsets, _ = read_wordnet(sources.wordnet)
    photos = []
    for path in sorted(sources.imagenet.glob("n*.jpg")):
        offset = path.name[1:9]
        names = tuple(clean_name(name) for name in synsets[offset].names[:3])
        photos.append(Named(path, names, kinds_of(synsets, offset)))
    return photos * IMAGENET_REPEATS


def caltech_photos(sources: Sources, most: int | None = None) -> list[Named]:
    """Photos in folders that say what they show, the first `most` of each or all."""
    if sources.caltech is None:
        return []
    folders = sorted(path for path in sources.caltech.iterdir() if path.is_dir())
    return [
        Named(path, (caltech_name(folder.name),), ())
        for folder in folders
        for path in sorted(folder.glob("*.jpg"))[:most]
    ]


def drawn_sources(sources: Sources, out: Path, rare_chance: float = 0.5) -> dict[str, Sampler]:
    """Samplers of all sets as people labelled them: no teacher adds anything, nothing is pasted.

    Args:
        sources: folders.
        out: nothing is kept there without a teacher.
        rare_chance: how often a class of COCO is drawn first and a photo of it second.
    """
    known = frozenset(photo.stem for photo in (sources.coco / "images" / "train2017").glob("*.jpg"))
    samplers: dict[str, Sampler] = {"coco": partial(Coco(sources.coco, {}).sample, rare_chance=rare_chance)}
    if sources.camvid:
        samplers["camvid"] = CamVid(sources.camvid).sample
    if sources.pets:
        samplers["pets"] = Pets(sources.pets).sample
    return {**samplers, **labelled_samplers(sources.labelled, None, out, known)}
