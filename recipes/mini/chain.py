"""The embedded model from nothing but given folders: text tower, image towers, and one file to ship.

Nothing outside `out` is written. Each stage leaves a file there and is skipped when it is found, so a stopped
run goes on where it was; `loop.fit` resumes within a stage.
"""

from __future__ import annotations

import dataclasses
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from open_clip.model import CLIP
from safetensors.torch import save_file
from torch import Tensor

from ovs_core.checkpoints import load_strict, read_state
from ovs_core.encoders.eight_bits import in_eight_bits, in_full
from ovs_core.encoders.mini import (
    build_mini,
    fitting,
    without_detector,
    without_materials,
)
from ovs_core.encoders.prompts import clip_tokenizer
from ovs_core.training.loop import Schedule, seed_torch
from ovs_core.training.plans import keep_recipe
from ovs_core.vocabulary import default_background
from recipes.mini.ade import MATERIAL_NAMES, ade_names
from recipes.mini.coco import coco_names
from recipes.mini.image import join_detector, join_materials, start_image_tower, train_image
from recipes.mini.losses import WordTable
from recipes.mini.names import everyday_names, imagenet_names, voc_names
from recipes.mini.near_words import write_known_words, write_near_words
from recipes.mini.plan import FORMER_NAMES, ImagePlan, Member, MiniPlan
from recipes.mini.sources import LABELS, Sources, caltech_photos, material_sources, photo_sources
from recipes.mini.teachers import VocTeacher
from recipes.mini.text import PLAIN, encode_words, train_text
from recipes.mini.text_space import fit_text_space

log = logging.getLogger(__name__)

WHOLE = ("visual.conv1.",)  # the stem: in 8 bits too, its trunks cost a point on COCO


def train_mini(config: Path, sources: Sources, plan: MiniPlan, out: Path, start: Path | None = None) -> Path:
    """Train the embedded dual encoder.

    Args:
        config: `mini.json`, the architecture.
        sources: folders.
        plan: the recipe.
        out: working folder; `mini.safetensors` (fp16), `near_words.tsv` and `known_words.txt` end there.
        start: weights of this recipe with a detector, to go on from instead of all stages but the last one;
            the segmenter of materials may have joined them already.

    Returns:
        Path of the weights.

    Raises:
        FileExistsError: if `out` holds a run of another recipe.
        CheckpointError: if a teacher's file is missing or wrong.
        ValueError: if the recipe has a stage with a detector and no folder of it, or holds names out too.
    """
    _check(plan, sources, start)
    keep_recipe(dataclasses.asdict(plan), out, FORMER_NAMES)
    architecture = json.loads(config.read_text(encoding="utf-8"))
    state = in_full(read_state(start)) if start else _learn_things(architecture, sources, plan, out)
    if plan.materials_steps and sources.ade is not None:
        state = _learn_materials(architecture, state, sources, sources.ade, plan, out)
    learnt = {name for names in imagenet_names(sources.pretrained / LABELS) for name in names}
    learnt.update(name for photo in caltech_photos(sources) for name in photo.names)
    words = (coco_names(sources.coco), learnt, default_background())
    write_near_words(out / "near_words.tsv", sources.wordnet, *words)
    taught = everyday_names(sources.pretrained, sources.vocabularies)
    write_known_words(out / "known_words.txt", sources.wordnet, taught)
    return _save(in_eight_bits(state, WHOLE), out / "mini.safetensors")


def _check(plan: MiniPlan, sources: Sources, start: Path | None) -> None:
    """Return if the recipe can run with these folders.

    Raises:
        ValueError: if not, in one sentence.
    """
    if plan.detect_steps and sources.detector is None and start is None:
        raise ValueError("a recipe with detect_steps needs --data detector=DIR")
    if plan.detect_steps and plan.hold_out:
        raise ValueError("the detector has seen all of COCO's names: with hold_out, detect_steps must be 0")
    if plan.materials_steps and sources.ade is None:
        raise ValueError("a recipe with materials_steps needs --data ade=DIR")
    if plan.materials_steps and plan.hold_out:
        raise ValueError("sets of materials name COCO's things too: with hold_out, materials_steps must be 0")


def _learn_things(
    architecture: Mapping[str, Any], sources: Sources, plan: MiniPlan, out: Path
) -> dict[str, Tensor]:
    """All stages but the last."""
    refined = out / "refined.safetensors"
    if not refined.exists():
        _learn_tokens(without_detector(architecture), sources, plan, refined)
    if plan.detect_steps and sources.detector is not None:
        return _detect(without_materials(architecture), refined, sources, plan, sources.detector)
    return read_state(refined)


def _learn_tokens(architecture: Mapping[str, Any], sources: Sources, plan: MiniPlan, path: Path) -> None:
    """Train both towers without a detector: all stages but the last, in the folder of `path`."""
    out = path.parent
    torch.manual_seed(plan.seed)
    model = build_mini(architecture)
    everyday = everyday_names(sources.pretrained, sources.vocabularies)
    _stage(
        model, out / "1-text.safetensors", lambda: _learn_text(model, everyday, sources, plan, out / "text")
    )
    mean = out / "members.safetensors"
    if not mean.exists():
        _learn_members(model, sources, plan, mean)
    refined = [_refine(model, mean, seed, sources, plan, out) for seed in plan.refine_seeds]
    _save(_mean_in_halves([read_state(file) for file in (mean, *refined)]), path)


def _detect(
    architecture: Mapping[str, Any], start: Path, sources: Sources, plan: MiniPlan, detector: Path
) -> dict[str, Tensor]:
    """Join the detector to the model of `start` and train it on; its state in half precision."""
    out = start.parent
    before = build_mini(without_detector(architecture))
    state = {name: value.float() for name, value in read_state(start).items()}
    load_strict(before, state, source=start.name)
    words = word_table(before)
    model = build_mini(architecture)
    join_detector(model, state, detector, words(coco_names(sources.coco)), start.name)
    joined = {name: value.clone() for name, value in model.state_dict().items()}
    schedule = Schedule(steps=plan.detect_steps, warmup=20, ema=0.99, seed=plan.seed + 20, save_every=50)
    photos = photo_sources(sources, plan.detect, out, plan.hold_out)
    teacher = VocTeacher(sources.pretrained) if plan.detect.belief_weight else None
    path = out / "detected.safetensors"
    recipe = _having(plan.detect, photos)
    _stage(model, path, lambda: train_image(model, words, photos, recipe, schedule, out / "detect", teacher))
    part, trained = plan.detect_part, model.state_dict()
    return _mean_in_halves([{name: value.lerp(trained[name], part) for name, value in joined.items()}])


def _learn_materials(
    architecture: Mapping[str, Any],
    start: Mapping[str, Tensor],
    sources: Sources,
    ade: Path,
    plan: MiniPlan,
    out: Path,
) -> dict[str, Tensor]:
    """Train on with every labelled set; its state in half precision.

    The segmenter of materials joins the model of `start` first, if it is not there yet.
    """
    stem = {**fitting(architecture, start)["stem"], "material_names": MATERIAL_NAMES}
    model = build_mini({**architecture, "stem": stem})
    before = build_mini(fitting(architecture, start))
    state = {name: value.float() for name, value in start.items() if name != "attn_mask"}
    load_strict(before, state, source="the model to go on from", ignore=("attn_mask",))
    words = word_table(before)
    if before.visual.conv1.materials is None:
        rows = words(ade_names(ade)[1:])
        rows = torch.cat([rows.new_zeros(1, rows.shape[1]), rows])
        join_materials(model, before.state_dict(), ade, rows, "the model to go on from")
    else:
        model.load_state_dict(before.state_dict())
    joined = {name: value.clone() for name, value in model.state_dict().items()}
    schedule = Schedule(
        plan.materials_steps, warmup=20, ema=0.99, seed=plan.seed + 30, log_every=10, save_every=20
    )
    photos = material_sources(sources, ade, plan.materials, out)
    teacher = VocTeacher(sources.pretrained) if plan.materials.belief_weight else None
    path, recipe = out / "with-materials.safetensors", _having(plan.materials, photos)
    _stage(
        model, path, lambda: train_image(model, words, photos, recipe, schedule, out / "materials", teacher)
    )
    part, trained = plan.materials_part, model.state_dict()
    return _mean_in_halves([{name: value.lerp(trained[name], part) for name, value in joined.items()}])


def _learn_members(model: CLIP, sources: Sources, plan: MiniPlan, mean: Path) -> None:
    """Train every member and write the mean of their weights."""
    words = word_table(model)
    start = {name: value.clone() for name, value in model.state_dict().items()}
    tuned: list[Path] = []
    for number, member in enumerate(plan.members, start=1):
        model.load_state_dict(start)
        folder = mean.parent / f"member-{number}"
        folder.mkdir(exist_ok=True)
        tuned.append(_learn_images(model, words, member, sources, plan, folder))
    _save(_mean_in_halves([read_state(path) for path in tuned]), mean)


def _refine(model: CLIP, mean: Path, seed: int, sources: Sources, plan: MiniPlan, out: Path) -> Path:
    """Train the mean of the members on; a file of `out`."""

    def learn() -> None:
        load_strict(model, read_state(mean), source=mean.name)
        schedule = Schedule(steps=plan.refine_steps, warmup=20, ema=0.99, seed=seed, save_every=50)
        photos = photo_sources(sources, plan.refine, out, plan.hold_out)
        teacher = VocTeacher(sources.pretrained) if plan.refine.belief_weight else None
        recipe, words = (
            _having(plan.refine, photos),
            word_table(model),
        )  # the mean's own words, rounded like it
        train_image(model, words, photos, recipe, schedule, out / f"refine-{seed}", teacher)

    path = out / f"refined-{seed}.safetensors"
    _stage(model, path, learn)
    return path


def _learn_images(
    model: CLIP, words: WordTable, member: Member, sources: Sources, plan: MiniPlan, folder: Path
) -> Path:
    """Train one member's image tower, in `model` and as a file of `folder`."""

    def first() -> None:
        # Where the text stage leaves the generator: a run that skips that stage must draw the same numbers.
        seed_torch(plan.seed, plan.text_steps - 1)
        start_image_tower(model, sources.pretrained, *_head_words(sources.pretrained, words))
        schedule = Schedule(steps=member.image_steps, ema=0.995, seed=member.seed)
        photos = photo_sources(sources, member.image, folder.parent, plan.hold_out)
        train_image(model, words, photos, _having(member.image, photos), schedule, folder / "image")

    def second() -> None:
        schedule = Schedule(steps=member.tune_steps, warmup=20, ema=0.99, seed=member.seed + 1, save_every=50)
        photos = photo_sources(sources, member.tune, folder.parent, plan.hold_out)
        train_image(model, words, photos, _having(member.tune, photos), schedule, folder / "tune")

    _stage(model, folder / "2-image.safetensors", first)
    _stage(model, folder / "3-tune.safetensors", second)
    return folder / "3-tune.safetensors"


def _mean_in_halves(states: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Mean of the members' weights, in half precision; members differ in their image towers only."""
    names = [name for name in states[0] if name != "attn_mask"]
    return {name: torch.stack([state[name].float() for state in states]).mean(dim=0).half() for name in names}


def _save(state: Mapping[str, Tensor], path: Path) -> Path:
    """Write tensors; a write that is cut leaves no file of that name."""
    partial = path.with_suffix(".part")
    save_file({name: value.detach().clone().contiguous() for name, value in state.items()}, partial)
    return partial.replace(path)


def _stage(model: CLIP, path: Path, learn: Callable[[], None]) -> None:
    """Run `learn` unless its result is already there; afterwards `model` holds it either way."""
    if path.exists():
        log.info("%s is there, stage skipped", path.name)
        load_strict(model, read_state(path), source=path.name)
        return
    learn()
    _save(model.state_dict(), path)


def _learn_text(model: CLIP, everyday: tuple[str, ...], sources: Sources, plan: MiniPlan, out: Path) -> None:
    tables = sources.pretrained / "clip_text_tables" / "vitb32_detic"
    space = fit_text_space(tables, everyday, model.text_projection.shape[1])
    schedule = Schedule(steps=plan.text_steps, warmup=100, weight_decay=0.01, ema=0.998, seed=plan.seed)
    train_text(model, space, everyday, sources.wordnet, schedule, plan.text_batch, out)


def word_table(model: CLIP) -> WordTable:
    """Unit embeddings (S, D) of names by the trained text tower, each computed once."""
    known: dict[str, Tensor] = {}
    tokenize = clip_tokenizer(model.context_length)

    def words(names: tuple[str, ...]) -> Tensor:
        for name in names:
            if name not in known:
                # One at a time: a batch rounds otherwise than its parts, and resumed runs meet other batches.
                known[name] = encode_words(model, [name], PLAIN, tokenize)[0]
        return torch.stack([known[name] for name in names])

    return words


def _head_words(pretrained: Path, words: WordTable) -> tuple[Tensor, Tensor]:
    """Text embeddings of the two heads' outputs; "background", their output 0, gets zeros."""
    imagenet = imagenet_names(pretrained / LABELS)
    rows = torch.stack([F.normalize(words(names).mean(dim=0), dim=0) for names in imagenet])
    voc = words(voc_names(pretrained / "pascal_voc_segmentation_labels.txt")).clone()
    rows[0], voc[0] = 0, 0
    return rows, voc


def _having(plan: ImagePlan, photos: Mapping[str, object]) -> ImagePlan:
    """The plan without sources that were not given."""
    return dataclasses.replace(
        plan, source_weights=tuple(source for source in plan.source_weights if source[0] in photos)
    )
