"""Words of the embedded model tuned on photos: an offset for each, both towers held still.

    python -m recipes.mini heads --only tuned_words --data NAME=DIR ... --out DIR    (the tower lies in DIR)

Photos are drawn as for the image tower, looked at once, and a few hundred labelled tokens of each are kept.
Every step types a vocabulary about some of them, as a user might, and moves the words so that their soft-max
says what is labelled. COCO's, the pets' and VOC's photos were learnt by the tower nearly by heart: what they
would teach now holds for them alone. They are asked too, and their words must go on saying what they said.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from ovs_core.encoders.clip_vit import VisionEncoder, to_joint_space
from ovs_core.encoders.text import TextEncoder
from ovs_core.encoders.tuned_words import TUNED_WORDS, write_tuned_words
from ovs_core.methods.training_free.attention_rules import RULES
from ovs_core.methods.training_free.spec import MINI
from ovs_core.training.data import Sample, Sampler
from ovs_core.training.loop import Schedule, fit
from ovs_core.training.plans import keep_recipe
from ovs_core.types import IGNORE, UNLISTED, Vocabulary
from ovs_core.vocabulary import TEMPLATES, parse_vocabulary

log = logging.getLogger(__name__)

VOTES = 4  # pixels of a token's side that are asked what it shows
SURE = 0.55  # part of a token that must show one label
LARGEST_SCALE = 100.0


@dataclass(frozen=True)
class TunedWordsPlan:
    """The recipe in numbers.

    Attributes:
        photos: set -> how many photos are drawn of it; a set whose folder is not there is left out.
        keep: sets of which words must go on saying what they said.
        tokens: of a photo, at most.
        steps, batch: of the optimiser, and photos a step.
        rate: of Adam.
        keep_weight: of "as before" against "as labelled".
        part: of the offsets that ships, in [0, 1] (as in WiSE-FT, arXiv 2109.01903).
        plain_chance: how often photos without unlisted pixels are asked without everything else.
        seed: of draws and steps.
    """

    photos: tuple[tuple[str, int], ...] = (
        *(("nyu", 1300), ("msrc", 250), ("camvid", 150), ("labelme_facade", 80), ("facade", 60)),
        *(("furniture", 80), ("clothing", 120), ("coco", 260), ("coco128", 110), ("voc", 120), ("pets", 60)),
    )
    keep: tuple[str, ...] = ("coco", "coco128", "voc", "pets")
    tokens: int = 320
    steps: int = 2400
    batch: int = 12
    rate: float = 2e-3
    keep_weight: float = 2.0
    part: float = 0.5
    plain_chance: float = 0.6
    seed: int = 0


@dataclass(frozen=True, eq=False)
class Lesson:
    """Some tokens of a photo, and what is known of them.

    Attributes:
        tokens: unit embeddings, (N, D) float16.
        labels: (N,) int16: i = one of the names of `groups[i]`, or UNLISTED.
        groups: names that would each be right for label i.
        absent: names known not to be there.
        maybe: names that unlisted tokens may show, and others do not.
        keep: whether words must only go on saying what they said.
    """

    tokens: NDArray[np.float16]
    labels: NDArray[np.int16]
    groups: tuple[tuple[str, ...], ...]
    absent: tuple[str, ...]
    maybe: tuple[str, ...]
    keep: bool


class Offsets(nn.Module):
    """An offset per word beside what the text tower says of it."""

    def __init__(self, words: Sequence[str], rows: Tensor) -> None:
        super().__init__()
        self.place = {word: place for place, word in enumerate(words)}
        self.plain = rows  # (W, D), unit
        self.offsets = nn.Parameter(torch.zeros_like(rows))

    def both(self, names: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Unit vectors of names as the text tower has them and with their offsets, (S, D) each."""
        index = torch.tensor([self.place[name.casefold()] for name in names])
        return self.plain[index], F.normalize(self.plain[index] + self.offsets[index], dim=-1)


def tune_words(
    vision: VisionEncoder,
    text: TextEncoder,
    log_scale: Tensor,
    tower: str,
    samplers: Mapping[str, Sampler],
    plan: TunedWordsPlan,
    out: Path,
) -> Path:
    """Learn the offsets of every word that the sets name; returns their file.

    Args:
        vision: the image tower, held still.
        text: the text tower, held still.
        log_scale: logarithm of the scale of their cosines.
        tower: SHA-256 of their file.
        samplers: set -> draws a photo of it.
        plan: the recipe.
        out: working folder; a stopped run goes on where it was.

    Raises:
        FileExistsError: if `out` holds a run of another recipe.
        ValueError: if no set of the plan is there.
    """
    path = out / TUNED_WORDS
    keep_recipe(asdict(plan), out)
    if path.exists():
        return path
    lessons = draw_lessons(vision, samplers, plan, out / "lessons")
    words = sorted({name.casefold() for lesson in lessons for name in _names(lesson)})
    vocabulary = Vocabulary(tuple((word,) for word in words))
    model = Offsets(words, text.embed(vocabulary, TEMPLATES[MINI.templates]).embeddings)
    _learn(model, lessons, float(log_scale.exp().clamp(max=LARGEST_SCALE)), plan, out)
    write_tuned_words(path, tower, words, plan.part * model.offsets)
    return path


def _learn(model: Offsets, lessons: Sequence[Lesson], scale: float, plan: TunedWordsPlan, out: Path) -> None:
    def step_loss(step: int, rng: np.random.Generator) -> dict[str, Tensor]:
        drawn = [lessons[index] for index in rng.integers(len(lessons), size=plan.batch)]
        losses: dict[str, list[Tensor]] = {"labelled": [], "kept": []}
        for lesson in drawn:
            losses["kept" if lesson.keep else "labelled"].append(
                lesson_loss(model, lesson, scale, plan.plain_chance, rng)
            )
        weights = {"labelled": 1.0, "kept": plan.keep_weight}
        return {
            name: weights[name] * torch.stack(parts).sum() / plan.batch
            for name, parts in losses.items()
            if parts
        }

    schedule = Schedule(
        plan.steps, warmup=20, weight_decay=0.0, clip=10.0, ema=0.99, seed=plan.seed, log_every=200
    )
    fit(model, [(model, plan.rate)], step_loss, schedule, out)


def draw_lessons(
    vision: VisionEncoder, samplers: Mapping[str, Sampler], plan: TunedWordsPlan, folder: Path
) -> list[Lesson]:
    """Look at photos of every set; each lesson is a file of `folder`, made once.

    Raises:
        ValueError: if no set of the plan is there.
    """
    wanted = [(name, count) for name, count in plan.photos if name in samplers]
    if not wanted:
        raise ValueError(
            f"words are tuned on photos of {', '.join(name for name, _ in plan.photos)}: none is there"
        )
    folder.mkdir(parents=True, exist_ok=True)
    lessons = []
    for number, (name, count) in enumerate(wanted):
        log.info("%s, %d photos", name, count)
        for index in range(count):
            path = folder / f"{name}-{index:04d}.npz"
            if not path.exists():
                rng = np.random.default_rng((plan.seed, number, index))
                _write(path, look(vision, samplers[name](rng), plan.tokens, name in plan.keep, rng))
            lessons.append(_read(path, name in plan.keep))
    return [lesson for lesson in lessons if len(lesson.labels)]


@torch.no_grad()
def look(vision: VisionEncoder, sample: Sample, most: int, keep: bool, rng: np.random.Generator) -> Lesson:
    """Tokens of a photo, under one of the last-block rules, that surely show one label."""
    rule = RULES[list(RULES)[rng.integers(len(RULES))]]
    features = vision.encode(sample.pixels, MINI)
    window = features.windows[0]
    tokens = to_joint_space(vision.visual, rule.leave(vision.visual, window, {}))[1:].float()
    labels = token_labels(sample.labels, window.grid).ravel()
    known = np.flatnonzero(labels != IGNORE)
    chosen = np.sort(rng.permutation(known)[:most])
    kept = F.normalize(tokens, dim=-1)[torch.from_numpy(chosen)].half().numpy()
    return Lesson(kept, labels[chosen], sample.groups, sample.absent, sample.maybe, keep)


def token_labels(labels: NDArray[np.int16], grid: tuple[int, int]) -> NDArray[np.int16]:
    """What each token shows, (h, w): the label of most of its pixels (H, W), or IGNORE."""
    (height, width), (tall, wide) = grid, labels.shape
    down = ((np.arange(height * VOTES) + 0.5) * tall / (height * VOTES)).astype(int)
    across = ((np.arange(width * VOTES) + 0.5) * wide / (width * VOTES)).astype(int)
    votes = labels[np.ix_(down, across)].reshape(height, VOTES, width, VOTES).transpose(0, 2, 1, 3)
    votes = np.sort(votes.reshape(height, width, VOTES**2), axis=-1)
    need = int(np.ceil(SURE * VOTES**2))
    middle = votes[..., VOTES**2 // 2]  # what more than half show stands in the middle
    return np.where((votes == middle[..., None]).sum(-1) >= need, middle, IGNORE).astype(np.int16)


def lesson_loss(
    model: Offsets, lesson: Lesson, scale: float, plain_chance: float, rng: np.random.Generator
) -> Tensor:
    """Loss of one photo, a scalar: half of it counts tokens, half counts classes.

    A vocabulary is typed: the photo's own names, some that are absent, and everything else, without which
    photos that have no unlisted token are asked with `plain_chance`.
    """
    labels = torch.from_numpy(lesson.labels.astype(np.int64))
    count = int(rng.integers(len(lesson.absent) + 1))
    absent = [(name,) for name in rng.permutation(lesson.absent)[:count].tolist()] if count else []
    plain = bool((labels != UNLISTED).all()) and bool(lesson.groups) and rng.random() < plain_chance
    labelled = {name for names in lesson.groups for name in names}
    maybe = [] if plain else [(name,) for name in lesson.maybe if name not in labelled]
    vocabulary = parse_vocabulary(
        [*lesson.groups, *maybe, *absent] or ["nothing"], "none" if plain else "default"
    )
    row_label = torch.tensor(vocabulary.row_label)
    before, after = model.both(vocabulary.rows)
    tokens = scale * torch.from_numpy(lesson.tokens).float()
    logp = (tokens @ after.T).log_softmax(dim=-1)  # (N, S)
    if lesson.keep:
        was = (tokens @ before.T).log_softmax(dim=-1)
        return F.kl_div(logp, was, reduction="none", log_target=True).sum(dim=-1).mean()
    free = (row_label == 0) | (
        (row_label > len(lesson.groups)) & (row_label <= len(lesson.groups) + len(maybe))
    )
    parts, shares = [], []
    for label in np.unique(lesson.labels).tolist():
        rows = free if label == UNLISTED else row_label == label + 1
        where = labels == label
        parts.append(-logp[where][:, rows].logsumexp(dim=-1).mean())
        shares.append(float(where.float().mean()))
    return (torch.stack(parts) * (0.5 * torch.tensor(shares) + 0.5 / len(parts))).sum()


def _names(lesson: Lesson) -> Iterable[str]:
    """Every name that a vocabulary of this lesson can hold."""
    classes = [*lesson.groups, *((name,) for name in (*lesson.maybe, *lesson.absent))]
    yield from parse_vocabulary(classes or ["nothing"], "default").rows
    yield from (name for names in classes for name in names)


def _write(path: Path, lesson: Lesson) -> None:
    words = json.dumps([lesson.groups, lesson.absent, lesson.maybe])
    partial = path.with_suffix(".part")
    with partial.open("wb") as file:
        np.savez(file, tokens=lesson.tokens, labels=lesson.labels, words=np.array(words))
    partial.replace(path)


def _read(path: Path, keep: bool) -> Lesson:
    with np.load(path) as stored:
        groups, absent, maybe = json.loads(str(stored["words"]))
        tokens, labels = stored["tokens"], stored["labels"]
    return Lesson(tokens, labels, tuple(map(tuple, groups)), tuple(absent), tuple(maybe), keep)
