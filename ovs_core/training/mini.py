"""The embedded model from nothing but given folders: text tower, image towers, and one file to ship.

Nothing outside `out` is written. Each stage leaves a file there and is skipped when it is found, so a stopped
run goes on where it was; `loop.fit` resumes within a stage.
"""

from __future__ import annotations

import dataclasses
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from open_clip.model import CLIP
from safetensors.torch import save_file
from torch import Tensor

from ovs_core.checkpoints import load_strict, read_state
from ovs_core.encoders.mini import build_mini, with_small_table, without_detector
from ovs_core.encoders.prompts import clip_tokenizer
from ovs_core.training.data import SYNONYMS, CamVid, Coco, Pets, Sample, coco_names
from ovs_core.training.loop import Schedule, seed_torch
from ovs_core.training.mini_image import (
    ImagePlan,
    Sampler,
    WordTable,
    join_detector,
    start_image_tower,
    train_image,
)
from ovs_core.training.mini_text import PLAIN, encode_words, train_text
from ovs_core.training.names import caltech_name, everyday_names, imagenet_names, voc_names
from ovs_core.training.near_words import write_near_words
from ovs_core.training.teachers import VocTeacher, outdoor_maps, salience_maps
from ovs_core.training.text_space import clean_name, fit_text_space
from ovs_core.training.things import Mosaic, Named, Thing, clear_things, paste_things, says
from ovs_core.training.words import kinds_of, read_wordnet
from ovs_core.vocabulary import default_background

log = logging.getLogger(__name__)

Plan = TypeVar("Plan", "MiniPlan", "Member", ImagePlan)

REFINE_SHARES = (("coco", 0.45), ("things", 0.25), ("mosaic", 0.12), ("camvid", 0.08), ("pets", 0.1))
DETECT_SHARES = (("coco", 0.5), ("mosaic", 0.25), ("camvid", 0.1), ("pets", 0.15))
LABELS = "imagenet_labels_1001.txt"
MAPS_PER_FOLDER = 4  # photos of a Caltech class that are searched for their thing, at a second each
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


@dataclass(frozen=True)
class Member:
    """One way to train the image tower on the text tower.

    Attributes:
        image, image_steps: on frozen trunks.
        tune, tune_steps: with the trunks.
        seed: of everything that is drawn; members with equal settings need different ones.
    """

    image: ImagePlan = field(default_factory=lambda: ImagePlan(rate=6e-4))
    image_steps: int = 1100
    tune: ImagePlan = field(
        default_factory=lambda: ImagePlan(rate=1.5e-4, trunk_rate=5e-5, whole_every=4, rare_share=0.0)
    )
    tune_steps: int = 300
    seed: int = 0


def _short_member() -> Member:
    """Fewer steps on photos with things pasted in: worse alone, and wrong in other places."""
    tune = ImagePlan(rate=1e-4, trunk_rate=5e-5, whole_every=8, rare_share=0.3, paste_share=0.3)
    return Member(ImagePlan(rate=4e-4, whole_every=8, paste_share=0.3), 500, tune, 48)


@dataclass(frozen=True)
class MiniPlan:
    """The recipe in numbers; `checkpoints/mini/recipe.json` holds the shipped one.

    Attributes:
        text_steps, text_batch: steps of the text tower, and its prompts a step (fewer where names repeat).
        members: image towers trained from the same start, each in its own way.
        refine, refine_steps, refine_seeds: the mean of the members' weights (model soup, arXiv 2203.05482) is
            trained on, once for each seed; what goes on is the mean of that start and of what each seed made
            of it (as in WiSE-FT, arXiv 2109.01903).
        detect, detect_steps: then the detector joins the stem and all is trained on; 0 steps leave it out.
        detect_share: part of the trained weights in what ships, in [0, 1]; the rest is what it started from.
        hold_out: names that no photo may teach: their pixels do not count, photos of them alone are left out.
        seed: of the text tower, and of what all members start from.
    """

    text_steps: int = 1600
    text_batch: int = 640
    members: tuple[Member, ...] = field(default_factory=lambda: (_short_member(), Member()))
    refine: ImagePlan = field(
        default_factory=lambda: ImagePlan(
            shares=REFINE_SHARES,
            rate=1e-4,
            trunk_rate=5e-5,
            whole_every=8,
            thing_share=0.5,
            belief_weight=0.3,
            half_trunks=True,
        )
    )
    refine_steps: int = 600
    refine_seeds: tuple[int, ...] = (10,)
    detect: ImagePlan = field(
        default_factory=lambda: ImagePlan(
            shares=DETECT_SHARES,
            rate=1.5e-4,
            trunk_rate=3e-5,
            whole_every=32,
            paste_share=0.3,
            belief_weight=0.3,
            half_trunks=True,
        )
    )
    detect_steps: int = 640
    detect_share: float = 0.7
    hold_out: tuple[str, ...] = ()
    seed: int = 0


def plan_from_json(values: Mapping[str, Any]) -> MiniPlan:
    """Read a recipe as `train_mini` writes it; what is left out keeps its default, in its parts too.

    Raises:
        ValueError: for a name that no recipe has, or for no member.
    """
    values = dict(values)
    for several in ("hold_out", "refine_seeds"):
        if several in values:
            values[several] = tuple(values[several])
    for stage in ("refine", "detect"):
        if stage in values:
            values[stage] = _image_plan(getattr(MiniPlan(), stage), values[stage])
    if "members" in values:
        values["members"] = tuple(_member(one) for one in values["members"])
        if not values["members"]:
            raise ValueError("members must hold at least one way to train the image tower, got none")
    return _replaced(MiniPlan(), values)


def _member(values: Mapping[str, Any]) -> Member:
    """A member whose parts keep the defaults of those parts."""
    default, values = Member(), dict(values)
    for part in ("image", "tune"):
        if part in values:
            values[part] = _image_plan(getattr(default, part), values[part])
    return _replaced(default, values)


def _image_plan(default: ImagePlan, values: Mapping[str, Any]) -> ImagePlan:
    """`default` with `values` in it; JSON's lists become tuples."""
    values = dict(values)
    if "shares" in values:
        values["shares"] = tuple((source, float(share)) for source, share in values["shares"])
    if "short_side" in values:
        values["short_side"] = tuple(values["short_side"])
    return _replaced(default, values)


def _replaced(plan: Plan, values: Mapping[str, Any]) -> Plan:
    known = [setting.name for setting in dataclasses.fields(plan)]
    unknown = sorted(set(values) - set(known))
    if unknown:
        names = ", ".join(unknown)
        raise ValueError(f"The recipe has unknown settings: {names}; known are {', '.join(known)}.")
    return dataclasses.replace(plan, **values)


def train_mini(config: Path, sources: Sources, plan: MiniPlan, out: Path) -> Path:
    """Train the embedded dual encoder.

    Args:
        config: `mini.json`, the architecture.
        sources: folders.
        plan: the recipe.
        out: working folder; `mini.safetensors` (fp16) and its dictionary `near_words.tsv` end there.

    Returns:
        Path of the weights.

    Raises:
        FileExistsError: if `out` holds a run of another recipe.
        CheckpointError: if a teacher's file is missing or wrong.
        ValueError: if the recipe has a stage with a detector and no folder of it, or holds names out too.
    """
    if plan.detect_steps and sources.detector is None:
        raise ValueError("a recipe with detect_steps needs --data detector=DIR")
    if plan.detect_steps and plan.hold_out:
        raise ValueError("the detector has seen all of COCO's names: with hold_out, detect_steps must be 0")
    out.mkdir(parents=True, exist_ok=True)
    _keep_recipe(plan, out / "recipe.json")
    architecture = json.loads(config.read_text(encoding="utf-8"))
    refined = out / "refined.safetensors"
    if not refined.exists():
        _learn_tokens(without_detector(architecture), sources, plan, refined)
    if plan.detect_steps and sources.detector is not None:
        state = _detect(architecture, refined, sources, plan, sources.detector)
    else:
        state = read_state(refined)
    learnt = {name for names in imagenet_names(sources.pretrained / LABELS) for name in names}
    learnt.update(name for photo in _caltech_photos(sources) for name in photo.names)
    words = (coco_names(sources.coco), learnt, default_background())
    write_near_words(out / "near_words.tsv", sources.wordnet, *words)
    return _save(with_small_table(state), out / "mini.safetensors")


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
    _save(_mean_in_halves([read_state(one) for one in (mean, *refined)]), path)


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
    share, trained = plan.detect_share, model.state_dict()
    return _mean_in_halves([{name: value.lerp(trained[name], share) for name, value in joined.items()}])


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


def _keep_recipe(plan: MiniPlan, path: Path) -> None:
    """Write the recipe beside what it makes, once."""
    text = json.dumps(dataclasses.asdict(plan), indent=2) + "\n"
    if path.exists() and path.read_text(encoding="utf-8") != text:
        raise FileExistsError(f"{path.parent} holds a run of another recipe; choose another or empty it.")
    path.write_text(text, encoding="utf-8")


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
        plan, shares=tuple((name, share) for name, share in plan.shares if name in photos)
    )


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
    named = _unhidden((*_imagenet_photos(sources), *_caltech_photos(sources)), hidden)
    things = _things(sources, hidden, out) if plan.needs_things else []
    coco = partial(
        Coco(sources.coco, outdoor, hidden).sample, rare_share=plan.rare_share, paste_share=plan.paste_share
    )
    found: dict[str, Sampler] = {"coco": _with_things(coco, things, plan.thing_share)}
    if sources.camvid:
        found["camvid"] = _with_things(CamVid(sources.camvid).sample, things, plan.thing_share)
    if sources.pets:
        found["pets"] = _with_things(Pets(sources.pets).sample, things, plan.thing_share)
    if named:
        found["mosaic"] = Mosaic(named, plan.side).sample
    if things:
        found["things"] = Mosaic((), plan.side, things).sample
    return found


def _with_things(sampler: Sampler, things: Sequence[Thing], share: float) -> Sampler:
    """`sampler`, with things pasted into that share of its pictures."""
    if not things or not share:
        return sampler

    def sample(rng: np.random.Generator) -> Sample:
        drawn = sampler(rng)
        return paste_things(drawn, things, rng) if rng.random() < share else drawn

    return sample


def _things(sources: Sources, hidden: AbstractSet[str], out: Path) -> list[Thing]:
    """The photos of one thing that is set apart; the network's maps are kept in `out`."""
    if sources.salience is None:
        return []
    named = (*_imagenet_photos(sources), *_caltech_photos(sources, MAPS_PER_FOLDER))
    maps = out / "salience.npz"
    if not maps.exists():
        photos = dict.fromkeys(photo.path for photo in named)
        found: dict[str, Any] = dict(salience_maps(photos, sources.salience / "u2net.onnx"))
        np.savez_compressed(maps, **found)
    with np.load(maps) as stored:
        return clear_things(_unhidden(named, hidden), dict(stored))


def _unhidden(photos: Sequence[Named], hidden: AbstractSet[str]) -> list[Named]:
    return [photo for photo in photos if not says(photo, hidden)]


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


def _caltech_photos(sources: Sources, most: int | None = None) -> list[Named]:
    """Photos in folders that say what they show, the first `most` of each or all."""
    if sources.caltech is None:
        return []
    folders = sorted(path for path in sources.caltech.iterdir() if path.is_dir())
    return [
        Named(path, (caltech_name(folder.name),), ())
        for folder in folders
        for path in sorted(folder.glob("*.jpg"))[:most]
    ]
