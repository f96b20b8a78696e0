"""Recipe of the embedded text tower: a small causal BPE transformer learns the teachers' text space.

Loss per prompt: 2 (1 - cos) to the teacher's vector of the bare name, whatever template stands around it,
plus 0.3 x an in-batch contrastive term (temperature 0.05) that keeps near names apart. The token table starts
from the teacher's vector of each BPE piece's own string; from a random table a run of this length reaches
much less.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from open_clip.model import CLIP
from open_clip.tokenizer import SimpleTokenizer
from torch import Tensor, nn

from ovs_core.encoders.prompts import SLOT, Tokenizer, clip_tokenizer, fill
from ovs_core.encoders.text_tower import text_tower
from ovs_core.training.loop import Schedule, fit
from ovs_core.vocabulary import TEMPLATES
from recipes.mini.text_space import TextSpace, clean_name
from recipes.mini.words import phrases, read_wordnet, visible_nouns

log = logging.getLogger(__name__)

TABLE_SCALE = 0.5
NEAR_WEIGHT = 0.4  # how far a rare noun is pulled to the mean of its synonyms and of what it is a kind of
HELD_OUT = 1500  # nouns
COSINE_WEIGHT, CONTRASTIVE_WEIGHT, TEMPERATURE = 2, 0.3, 0.05
PLAIN = (SLOT, "a photo of a {}.")
PLAIN_CHANCE = 0.7  # of the prompts; the others use any template
LENGTH_PARTS = 6  # of a batch, by prompt length
EXAM_BATCH = 256
PEAK_RATE = 1e-3


@dataclass(frozen=True, eq=False)
class Lesson:
    """Names (N,) with the teacher's unit vectors (N, D); the first `everyday` are drawn half of the time."""

    names: tuple[str, ...]
    targets: Tensor
    everyday: int


def teacher_targets(space: TextSpace, everyday: tuple[str, ...], wordnet: Path) -> tuple[Lesson, Lesson]:
    """Build the lesson and a held-out one of plain nouns never trained on.

    Rare nouns, on which a sentence model is often lost ("settee"), lean on their WordNet neighbours.
    """
    nouns = visible_nouns(*read_wordnet(wordnet))
    first = list(dict.fromkeys(everyday))
    spoken = [*first, *phrases(first)]
    rare = sorted(set(nouns) - set(spoken))
    near = sorted({name for noun in nouns for name in nouns[noun]})
    every = list(dict.fromkeys([*spoken, *rare, *near]))
    vectors = space.embed(every)
    row = {name: i for i, name in enumerate(every)}
    targets = vectors.clone()
    for name in every:
        if nouns.get(name) and name not in space.known:
            pull = F.normalize(vectors[[row[other] for other in nouns[name]]].mean(dim=0), dim=0)
            targets[row[name]] = F.normalize(vectors[row[name]] + NEAR_WEIGHT * pull, dim=0)
    held = set(np.random.default_rng(0).permutation(rare)[:HELD_OUT].tolist())
    kept = [name for name in every if name not in held]
    exam = sorted(held)
    return (
        Lesson(tuple(kept), targets[[row[name] for name in kept]], len(spoken)),
        Lesson(tuple(exam), targets[[row[name] for name in exam]], 0),
    )


def all_templates() -> tuple[str, ...]:
    """Every template of every set that the app offers, and the bare name."""
    return tuple(
        dict.fromkeys((SLOT, *(template for templates in TEMPLATES.values() for template in templates)))
    )


def encode(model: CLIP, ids: Tensor, parts: int = 1) -> Tensor:
    """Unit text embeddings (N, D) of prompts with token ids (N, context length), with gradients.

    With several `parts` prompts of like length go together, so that short ones are not padded to the longest.
    """
    tower = text_tower(model)
    order = tower.read_at(ids).argsort()
    embeddings = torch.cat(
        [F.normalize(tower.embed(ids[part]), dim=1).float() for part in order.chunk(parts)]
    )
    return embeddings[order.argsort()]


@torch.no_grad()
def encode_words(
    model: CLIP, names: Sequence[str], templates: Sequence[str], tokenize: Tokenizer | None = None
) -> Tensor:
    """Unit embeddings (N, D) of names, each the normalised mean over `templates`, at least one.

    Making a tokenizer takes a third of a second: who asks often brings one.
    """
    tokenize = tokenize or clip_tokenizer(model.context_length)
    prompts = (tokenize([fill(template, name) for name in names]) for template in templates)
    return F.normalize(torch.stack([encode(model, ids) for ids in prompts]).sum(dim=0), dim=1)


def start_token_table(model: CLIP, space: TextSpace) -> None:
    """Set each BPE piece's row to the teacher's vector of its own string."""
    decoder = SimpleTokenizer()
    pieces = [decoder.decode([i]).strip() or "." for i in range(model.vocab_size)]
    with torch.no_grad():
        model.token_embedding.weight.copy_(TABLE_SCALE * space.embed(pieces))


def train_text(
    model: CLIP,
    space: TextSpace,
    everyday: tuple[str, ...],
    wordnet: Path,
    plan: Schedule,
    batch: int,
    out: Path,
) -> None:
    """Train the text side of `model` in place and log how well held-out nouns are placed."""
    lesson, exam = teacher_targets(space, tuple(clean_name(name) for name in everyday), wordnet)
    log.info(
        "%d names, %d of them everyday, %d held out", len(lesson.names), lesson.everyday, len(exam.names)
    )
    start_token_table(model, space)
    templates, tokenize = all_templates(), clip_tokenizer(model.context_length)

    def step_loss(_step: int, rng: np.random.Generator) -> dict[str, Tensor]:
        half = batch // 2
        everyday_rows = rng.integers(lesson.everyday, size=half)
        rows = np.unique(np.concatenate([everyday_rows, rng.integers(len(lesson.names), size=half)]))
        prompts = [
            _prompt(PLAIN if rng.random() < PLAIN_CHANCE else templates, lesson.names[row], rng)
            for row in rows
        ]
        with torch.autocast("cpu", dtype=torch.bfloat16):
            embeddings = encode(model, tokenize(prompts), LENGTH_PARTS)
        return lesson_losses(embeddings, lesson.targets[rows])

    text = _text_parts(model)
    fit(text, [(text, PEAK_RATE)], step_loss, plan, out)
    log.info("held-out nouns: cosine %.3f, rank-1 %.3f", *examine(model, exam))


def lesson_losses(embeddings: Tensor, targets: Tensor) -> dict[str, Tensor]:
    """Losses of unit embeddings (N, D) of N different names against the teacher's unit vectors (N, D)."""
    right = torch.arange(len(embeddings))
    return {
        "cosine": COSINE_WEIGHT * (1 - (embeddings * targets).sum(dim=1).mean()),
        "contrastive": CONTRASTIVE_WEIGHT * F.cross_entropy(embeddings @ targets.T / TEMPERATURE, right),
    }


def _prompt(templates: tuple[str, ...], name: str, rng: np.random.Generator) -> str:
    return fill(templates[rng.integers(len(templates))], name)


def _text_parts(model: CLIP) -> nn.Module:
    """The text side as one module, sharing tensors with `model`."""
    part = nn.Module()
    for name in ("token_embedding", "transformer", "ln_final", "positional_embedding", "text_projection"):
        setattr(part, name, getattr(model, name))
    return part


@torch.inference_mode()
def examine(model: CLIP, exam: Lesson) -> tuple[float, float]:
    """Mean cosine to the teacher, and how often the right name of `exam` is the nearest one."""
    ids = clip_tokenizer(model.context_length)([fill(PLAIN[1], name) for name in exam.names])
    embeddings = torch.cat([encode(model, batch) for batch in torch.split(ids, EXAM_BATCH)])
    nearest = (embeddings @ exam.targets.T).argmax(dim=1)
    cosine = (embeddings * exam.targets).sum(dim=1).mean()
    return float(cosine), float((nearest == torch.arange(len(nearest))).float().mean())
