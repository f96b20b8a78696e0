"""Heads of every method that needs training, on a tower that this recipe made, in the order they build on.

A head names the tower's SHA-256, so each tower has its own folder of heads; what lies there is skipped.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from types import MappingProxyType

import numpy as np

from ovs_core.checkpoints import sha256_of
from ovs_core.methods.ldvc.model import MethodName
from ovs_core.methods.mvp_seg.contexts import load_contexts
from ovs_core.methods.mvp_seg.model import ContextText, build_mvp_seg
from ovs_core.training.data import Sample
from ovs_core.training.fc_clip import MaskSources, MaskTower, train_fc_clip
from ovs_core.training.gkc import GkcPlan, train_gkc
from ovs_core.training.ldvc import PromptedPlan, towers_of, train_prompted
from ovs_core.training.ldvc_data import CropPlan
from ovs_core.training.mask_photos import SegmentSource
from ovs_core.training.mask_plans import FcClipPlan, MaskCropPlan, TuningPlan
from ovs_core.training.mask_tuning import train_maft_plus
from ovs_core.training.mvp_seg import MvpSegPlan, train_mvp_seg
from ovs_core.training.mvp_seg_plus import Lessons, PlusPlan, lessons_of, train_mvp_seg_plus
from ovs_core.training.split_photos import open_photos
from ovs_core.types import IGNORE
from ovs_core.vocabulary.splits import SPLITS
from recipes.mini.segments import segment_sources
from recipes.mini.sources import Sources, drawn_sources
from recipes.mini.tower_file import tower_of_file
from recipes.mini.tuned_words import TunedWordsPlan, tune_words

log = logging.getLogger(__name__)

PHOTOS, SPLIT = "train2017", "coco_mini"
DIGITS = 12  # of the tower's SHA-256, in the name of its heads' folder


# Where materials are labelled, mask heads learn them too: one segment per material.
CROPS = MaskCropPlan(
    count=2400,
    source_weights=(
        *(("coco", 0.5), ("pets", 0.1), ("camvid", 0.08)),
        *(("nyu", 0.14), ("msrc", 0.1), ("voc", 0.05), ("labelme_facade", 0.03)),
    ),
)


# For a few hundred photos: words to start from, and a weight at which L_cls, a sum over classes, leaves the
# clipped step something of L_seg.
CONTEXTS = MvpSegPlan(steps=600, classes_per_step=32, init="words", length=8, cls_weight=0.05)

# How often MVP-SEG+'s student sees a set, of 1; the rest is COCO, whose unseen names its teacher looks for.
LESSON_WEIGHTS: Mapping[str, float] = MappingProxyType(
    {"nyu": 0.2, "msrc": 0.15, "voc": 0.15, "labelme_facade": 0.05}
)


def prompted_plan(method: MethodName) -> PromptedPlan:
    """Crops, start and steps are the same for ZegCLIP and LDVC, so that tables compare the methods.

    Patches of the embedded tower agree with text, so scores start there: of the 65 seen names focal and dice
    are 2.3 and 0.68 before any step, 5 and 0.9 after 600 steps from random values.
    """
    crops = CropPlan(side=384, short_side=(320, 720), label_stride=4, per_photo=8)
    return PromptedPlan(method=method, start_scale=20.0, steps=1500, warmup=100, crops=crops)


@dataclass(frozen=True)
class HeadPlans:
    """Recipes of the heads."""

    tuned_words: TunedWordsPlan = field(default_factory=TunedWordsPlan)
    mvp_seg: MvpSegPlan = CONTEXTS
    mvp_seg_plus: PlusPlan = field(default_factory=PlusPlan)
    fc_clip: FcClipPlan = field(default_factory=lambda: FcClipPlan(crops=CROPS))
    maft_plus: TuningPlan = field(default_factory=TuningPlan)
    zegclip: PromptedPlan = field(default_factory=lambda: prompted_plan("zegclip"))
    ldvc: PromptedPlan = field(default_factory=lambda: prompted_plan("ldvc"))
    gkc: GkcPlan = field(default_factory=lambda: GkcPlan(crops=CROPS, steps=2600))


Stage = Callable[
    [Path, Sources, HeadPlans, Path], Path
]  # tower's file, folders, recipes, folder of all heads


def train_heads(
    weights: Path, sources: Sources, plans: HeadPlans, out: Path, only: str | None = None
) -> dict[str, Path]:
    """Train all heads of a tower, or go on where that was stopped.

    Args:
        weights: the tower's file.
        sources: folders.
        plans: recipes.
        out: working folder.
        only: name of one of `STAGES`, which is trained alone; what it starts from must be there.

    Returns:
        Name of each head -> its file.

    Raises:
        FileExistsError: if `out` holds heads of this tower by other recipes.
    """
    folder = out / f"heads-{sha256_of(weights)[:DIGITS]}"
    files: dict[str, Path] = {}
    for name, stage in STAGES.items():
        if only not in (None, name):
            continue
        log.info("head %s", name)
        files[name] = stage(weights, sources, plans, folder)
    return files


def collect(weights: Path, words: Sequence[Path], heads: Mapping[str, Path], folder: Path) -> Path:
    """Copy what ships into one folder: the tower, its lists of words and its heads; returns the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in (weights, *words, *heads.values()):
        partial = folder / f"{path.name}.part"
        shutil.copyfile(path, partial)
        partial.replace(folder / path.name)
    return folder


def _tuned_words(weights: Path, sources: Sources, plans: HeadPlans, folder: Path) -> Path:
    tower, loaded = tower_of_file(weights)
    out = folder / "tuned_words"
    log_scale = loaded.model.logit_scale.detach()
    samplers = drawn_sources(sources, out)
    return tune_words(tower.vision, tower.text, log_scale, tower.sha256, samplers, plans.tuned_words, out)


def _mvp_seg(weights: Path, sources: Sources, plans: HeadPlans, folder: Path) -> Path:
    tower, loaded = tower_of_file(weights)
    photos = open_photos(sources.coco, SPLITS[SPLIT], PHOTOS)
    plan = replace(
        plans.mvp_seg, tau1_scale=round(float(loaded.model.logit_scale.exp()), 3)
    )  # the tower's own
    return train_mvp_seg(tower.vision, loaded.model, tower.sha256, photos, plan, folder / "mvp_seg")


def _mvp_seg_plus(weights: Path, sources: Sources, plans: HeadPlans, folder: Path) -> Path:
    tower, _ = tower_of_file(weights)
    contexts = load_contexts(folder / "mvp_seg" / "mvp_seg.safetensors", tower.sha256)
    method = build_mvp_seg(tower.vision.visual, tower.text, contexts)
    text = ContextText(tower.text, contexts)
    coco = lessons_of(open_photos(sources.coco, SPLITS[SPLIT], PHOTOS))
    lessons = with_segments(coco, segment_sources(sources.labelled, frozenset(coco.unseen)), LESSON_WEIGHTS)
    out = folder / "mvp_seg_plus"
    return train_mvp_seg_plus(tower.vision, method, text, lessons, plans.mvp_seg_plus, out)


def with_segments(first: Lessons, more: Mapping[str, SegmentSource], weights: Mapping[str, float]) -> Lessons:
    """Lessons that also teach what other sets label; what those leave unlabelled nobody knows.

    Args:
        first: comes with the split.
        more: set -> its segments, named in the same words, unseen classes left out.
        weights: how often a set is drawn, of 1; the rest is `first`'s.
    """
    seen = tuple(dict.fromkeys((*first.seen, *(name for source in more.values() for name in source.names))))
    place = {name: index for index, name in enumerate(seen)}
    names = [name for name in more if weights.get(name)]
    ends = np.cumsum([weights[name] for name in names])

    def draw(rng: np.random.Generator) -> Sample:
        number = int(np.searchsorted(ends, rng.random(), side="right"))
        if number == len(names):
            return first.draw(rng)
        sample = more[names[number]].sample(rng)
        index = np.array([*(place[group[0]] for group in sample.groups), IGNORE], np.int16)
        labels = np.where(sample.labels >= 0, index[np.maximum(sample.labels, 0)], IGNORE).astype(np.int16)
        return replace(sample, labels=labels, groups=())

    return Lessons(seen, first.unseen, draw)


def _fc_clip(weights: Path, sources: Sources, plans: HeadPlans, folder: Path) -> Path:
    photos = _mask_sources(sources, plans)
    return train_fc_clip(_mask_tower(weights), photos, plans.fc_clip, folder / "fc_clip")


def _maft_plus(weights: Path, sources: Sources, plans: HeadPlans, folder: Path) -> Path:
    start = folder / "fc_clip" / "fc_clip.safetensors"
    tower, photos = _mask_tower(weights), _mask_sources(sources, plans)
    return train_maft_plus(tower, photos, start, plans.maft_plus, folder / "maft_plus")


def _gkc(weights: Path, sources: Sources, plans: HeadPlans, folder: Path) -> Path:
    start = folder / "fc_clip" / "fc_clip.safetensors"
    tower, photos = _mask_tower(weights), _mask_sources(sources, plans)
    return train_gkc(tower, photos, plans.gkc, folder / "gkc", start=start)


def _mask_tower(weights: Path) -> MaskTower:
    tower, _ = tower_of_file(weights)
    return MaskTower(tower.vision.visual, tower.text, tower.model.logit_scale.detach(), tower.sha256)


def _mask_sources(sources: Sources, plans: HeadPlans) -> MaskSources:
    more = segment_sources(sources.labelled, frozenset(plans.fc_clip.hold_out))
    return MaskSources(sources.coco, sources.pets, sources.camvid, more)


def _prompted(method: MethodName, weights: Path, sources: Sources, plans: HeadPlans, folder: Path) -> Path:
    """ZegCLIP's or LDVC's decoder and prompts."""
    tower, loaded = tower_of_file(weights)
    photos = open_photos(sources.coco, SPLITS[SPLIT], PHOTOS)
    towers = towers_of(tower.vision, loaded.model, tower.sha256)
    plan = plans.ldvc if method == "ldvc" else plans.zegclip
    return train_prompted(towers, photos, plan, folder / method)


STAGES: Mapping[str, Stage] = MappingProxyType(
    {
        "tuned_words": _tuned_words,
        "mvp_seg": _mvp_seg,
        "mvp_seg_plus": _mvp_seg_plus,
        "fc_clip": _fc_clip,
        "maft_plus": _maft_plus,
        "zegclip": partial(_prompted, "zegclip"),
        "ldvc": partial(_prompted, "ldvc"),
        "gkc": _gkc,
    }
)
