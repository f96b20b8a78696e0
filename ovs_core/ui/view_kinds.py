"""How each kind of view is shown: one line in `LOOKS` makes a new kind visible, on the page and over HTTP."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from ovs_core.types import ViewKind

Drawing = Literal["heat", "numbered", "labels", "bars", "matrix", "words"]
"""Maps over the photo on a colour scale, as numbered areas or as labels of classes; numbers; words."""


@dataclass(frozen=True)
class Look:
    """What is said about a kind of view, and how it is drawn.

    Attributes:
        drawing: see `Drawing`.
        heading: what it is, in plain words.
        sentence: what one sees, what bright means, which symbol of the paper it is.
        per_class: its maps come class by class, the same number for each; one class is shown at a time.
        noun: what the numbers of a "numbered" drawing count.
    """

    drawing: Drawing
    heading: str
    sentence: str
    per_class: bool = False
    noun: str = ""


LOOKS: Mapping[ViewKind, Look] = MappingProxyType(
    {
        "view_maps": Look(
            "heat",
            "What each view sees",
            "Cosine m_i of every patch with this class as view i words it. Bright: more alike. All views of "
            "the class share one colour scale.",
            per_class=True,
        ),
        "view_wins": Look(
            "numbered",
            "Which view is surest where",
            "At every patch the view i with the largest cosine m_i, one colour per view. The shares are "
            "parts of the photo.",
            per_class=True,
            noun="view",
        ),
        "global_map": Look(
            "heat",
            "What the global prompt sees",
            "Cosine m_0 of every patch with this class in the global prompt, which judges whether the class "
            "is in the photo at all. Bright: more alike.",
            per_class=True,
        ),
        "pooling_weights": Look(
            "heat",
            "Where the global prompt looks",
            "How much every patch counts when m_0 is pooled: the soft-max of gamma m_0 over the photo. "
            "Bright: counts more; the weights of a class sum to 1.",
            per_class=True,
        ),
        "prompt_cosines": Look(
            "matrix",
            "How alike the prompts of this class are",
            "|cos| between the text embeddings t_i of this class in each context. 1: the same direction, so "
            "that these views see the same.",
            per_class=True,
        ),
        "refining": Look(
            "labels",
            "Before and after refining",
            "The best class of every patch without and with the gates g_c (Global Prompt Refining), before "
            "any threshold and on the model's own grid.",
        ),
        "class_gates": Look(
            "bars",
            "Is the class in the photo?",
            "The gate g_c of each class, from 0 (surely absent) to 1 (surely there). Refining multiplies the "
            "class's score by it.",
        ),
        "context_cosines": Look(
            "matrix",
            "How different the contexts are",
            "|cos| between the mean vectors of the learned contexts p_i, whatever the photo. The "
            "orthogonality loss (OCLoss) pushes the views towards 0.",
        ),
        "context_words": Look(
            "words",
            "Words nearest to the contexts",
            "For each learned vector the word whose embedding lies nearest, with its distance. A hint only: "
            "learned vectors need not lie near any word.",
        ),
    }
)
