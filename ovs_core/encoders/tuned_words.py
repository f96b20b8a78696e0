"""Words whose text vectors labelled photos corrected: an offset per word, added to what the text tower says.

A text tower that learnt from other text places "desk" near "table" and far from what a desk looks like in its
own image tower. The recipe holds both towers still and learns, on the photos that taught the image tower, one
offset per word of their labels (prompt tuning with a vector per class, as in CoOp, arXiv 2109.01134, taken
after the text tower). t_w = normalise(text tower(w) + d_w); a word without an offset keeps its vector.

Offsets are those of one tower's file and say so: beside another one they are not read.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor

from ovs_core.checkpoints import CheckpointError, read_metadata, read_state, sha256_of
from ovs_core.devices import Cancel, Report
from ovs_core.encoders.text import TextEncoder
from ovs_core.types import TextBank, Vocabulary
from ovs_core.vocabulary import singulars

TUNED_WORDS = "tuned_words.safetensors"  # beside the weights
KIND = "ovs-lens word offsets"
_OFFSETS = "offsets"
_DIGITS = 12


@dataclass(frozen=True, eq=False)
class TunedWords:
    """Offsets of words.

    Attributes:
        rows: word in lower case -> its row of `offsets`.
        offsets: (W, D) float32.
        sha256: of the file.
    """

    rows: Mapping[str, int]
    offsets: Tensor
    sha256: str

    def row(self, name: str) -> int | None:
        """Row of a name, in any case, or of what it is the plural of; None if it has no offset."""
        key = name.casefold()
        forms = (key, *sorted(singulars(key), key=lambda form: (-len(form), form)))
        return next((self.rows[form] for form in forms if form in self.rows), None)


def read_tuned_words(path: Path, tower: str) -> TunedWords | None:
    """Read a file of `write_tuned_words`; None if its offsets are those of another tower.

    Args:
        path: the file.
        tower: SHA-256 of the tower's weights.

    Raises:
        CheckpointError: if it is damaged or of another kind.
    """
    notes = read_metadata(path)
    if notes.get("kind") != KIND:
        raise CheckpointError(f"{path} holds no word offsets.")
    if notes.get("tower") != tower:
        return None
    state = read_state(path)
    try:
        words = json.loads(notes["words"])
        offsets = state[_OFFSETS].float()
    except (KeyError, ValueError) as error:
        raise CheckpointError(f"{path} lacks its words or their offsets.") from error
    if not isinstance(words, list) or offsets.ndim != 2 or len(words) != len(offsets):
        raise CheckpointError(f"{path} has {tuple(offsets.shape)} offsets, which is not one for each word.")
    return TunedWords({word: row for row, word in enumerate(words)}, offsets, sha256_of(path))


def write_tuned_words(path: Path, tower: str, words: Sequence[str], offsets: Tensor) -> None:
    """Write offsets (W, D) of words, in half precision.

    Args:
        path: the file; a write that is cut leaves none of that name.
        tower: SHA-256 of the tower's weights.
        words: in lower case.
        offsets: one for each.
    """
    partial = path.with_suffix(".part")
    notes = {"kind": KIND, "format": "1", "tower": tower, "words": json.dumps(list(words))}
    save_file({_OFFSETS: offsets.detach().half().contiguous()}, partial, metadata=notes)
    partial.replace(path)


@dataclass(frozen=True, eq=False)
class TunedText:
    """A text encoder whose rows of tuned words are moved; see `ovs_core.methods.base.TextHalf`."""

    text: TextEncoder
    words: TunedWords

    @property
    def identity(self) -> str:
        """Of the text encoder and of the offsets."""
        return f"{self.text.identity}+words {self.words.sha256[:_DIGITS]}"

    def embed(
        self,
        vocabulary: Vocabulary,
        templates: tuple[str, ...],
        *,
        progress: Report = None,
        cancel: Cancel = None,
    ) -> TextBank:
        """Unit embeddings of every name, (S, D) float32; see `TextEncoder.embed`."""
        bank = self.text.embed(vocabulary, templates, progress=progress, cancel=cancel)
        places = [(place, self.words.row(name)) for place, name in enumerate(vocabulary.rows)]
        found = [(place, row) for place, row in places if row is not None]
        if not found:
            return bank
        moved, rows = zip(*found, strict=True)
        where = torch.tensor(moved, device=bank.embeddings.device)
        offsets = self.words.offsets[list(rows)].to(bank.embeddings.device)
        embeddings = bank.embeddings.clone()
        embeddings[where] = F.normalize(embeddings[where] + offsets, dim=-1)
        return TextBank(vocabulary, embeddings)
