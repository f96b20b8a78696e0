"""What is said about each view of FC-CLIP and MAFT+, in the order of the page."""

from __future__ import annotations

from ovs_core.methods.base import SIMILARITY
from ovs_core.types import ViewSpec

MAFT_PLUS_VIEWS = (
    SIMILARITY,
    ViewSpec(
        "query_attention",
        "heat",
        "Where the query of this class looks",
        "Cross-attention of the query whose mask shows this class best, layer by layer, mean of all "
        "heads. Bright: it takes more from there.",
        per_class=True,
    ),
    ViewSpec(
        "frozen_and_tuned",
        "heat",
        "What tuning changed for this class",
        "Cosine of every place's CLIP feature with this class, before and after the image tower was "
        "tuned to follow masks. Bright: more alike; both share one colour scale.",
        per_class=True,
    ),
    ViewSpec(
        "transfer_attention",
        "heat",
        "What the words adapt to",
        "What this class's name takes from each image token when content-dependent transfer adapts it to "
        "the photo. Bright: takes more.",
        per_class=True,
        titled=True,
    ),
    ViewSpec(
        "mask_proposals",
        "heat",
        "The masks it proposes",
        "Each query's mask as a probability, those that hold the point above first, then the surest; "
        'below each its class with its probability p_n, and the probability of "no object". Bright: inside.',
        most=12,
        peaks=False,
        about_point="Click a place to see first the masks that hold it.",
    ),
    ViewSpec(
        "mask_words",
        "words",
        "What each mask is called",
        "In the order of the masks: the class of the answer, the name that won within it, and the best "
        "classes of the trained head (in-vocabulary) and of CLIP's own features (out-vocabulary), with "
        "probabilities.",
        most=12,
    ),
    ViewSpec(
        "void_shares",
        "bars",
        "Is there an object in the mask?",
        'Probability of "no object" (void) in each mask, in the order of the masks: 1 means that the mask is '
        "left out of the answer.",
        most=12,
        ranked=True,
    ),
    ViewSpec(
        "winning_names",
        "bars",
        "Which synonym wins",
        "For each name the part of its class that it won, over all masks weighed by their probability of the "
        "class. A class with one name has 1.",
        ranked=True,
    ),
    ViewSpec(
        "text_shift",
        "bars",
        "How far the photo moved each name",
        "Cosine of every name's embedding with what content-dependent transfer (CDT) made of it for this "
        "photo, on a scale from -1 to 1. 1: unchanged.",
        ranked=True,
    ),
    ViewSpec(
        "feature_change",
        "heat",
        "Where tuning changed the features",
        "1 - cosine between the feature of every place before and after the image tower was tuned. "
        "Bright: changed more.",
    ),
)
"""What MAFT+ can show; what tuning changed only where the tower before tuning is at hand."""

_OF_MAFT_PLUS = frozenset({"text_shift", "transfer_attention", "frozen_and_tuned", "feature_change"})
FC_CLIP_VIEWS = tuple(view for view in MAFT_PLUS_VIEWS if view.kind not in _OF_MAFT_PLUS)
"""What FC-CLIP can show: its names and its tower stay as they are."""
