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
        most: maps, bars or rows of words that are shown.
        ranked: bars come best first; otherwise the largest ones are shown where there are too many.
        peaks: captions of maps name their largest value.
        titled: the view's own title is shown too: it says what differs from answer to answer.
    """

    drawing: Drawing
    heading: str
    sentence: str
    per_class: bool = False
    noun: str = ""
    most: int = 24
    ranked: bool = False
    peaks: bool = True
    titled: bool = False


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
            most=40,
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
            most=40,
        ),
        "query_attention": Look(
            "heat",
            "Where the query of this class looks",
            "Cross-attention of the query whose mask shows this class best, layer by layer, mean of all "
            "heads. Bright: it takes more from there.",
            per_class=True,
        ),
        "frozen_and_tuned": Look(
            "heat",
            "What tuning changed for this class",
            "Cosine of every place's CLIP feature with this class, before and after the image tower was "
            "tuned to follow masks. Bright: more alike; both share one colour scale.",
            per_class=True,
        ),
        "transfer_attention": Look(
            "heat",
            "What the words adapt to",
            "What this class's name takes from each image token when content-dependent transfer adapts it to "
            "the photo. Bright: takes more.",
            per_class=True,
            titled=True,
        ),
        "mask_proposals": Look(
            "heat",
            "The masks it proposes",
            "Each query's mask as a probability, those that hold the point above first, then the surest; "
            'below each its class with its share p_n, and the share of "no object". Bright: inside.',
            most=12,
            peaks=False,
        ),
        "mask_words": Look(
            "words",
            "What each mask is called",
            "In the order of the masks: the class of the answer, the name that won within it, and the best "
            "classes of the trained head (in-vocabulary) and of CLIP's own features (out-vocabulary), with "
            "shares.",
            most=12,
        ),
        "void_shares": Look(
            "bars",
            "Is there an object in the mask?",
            'Share of "no object" (void) in each mask, in the order of the masks: 1 means that the mask is '
            "left out of the answer.",
            most=12,
            ranked=True,
        ),
        "winning_names": Look(
            "bars",
            "Which synonym wins",
            "For each name the part of its class that it won, over all masks weighed by their share of the "
            "class. A class with one name has 1.",
            ranked=True,
        ),
        "text_shift": Look(
            "bars",
            "How far the photo moved each name",
            "Cosine of every name's embedding with what content-dependent transfer (CDT) made of it for this "
            "photo, on a scale from -1 to 1. 1: unchanged.",
            ranked=True,
        ),
        "feature_change": Look(
            "heat",
            "Where tuning changed the features",
            "1 - cosine between the feature of every place before and after the image tower was tuned. "
            "Bright: changed more.",
        ),
    }
)
