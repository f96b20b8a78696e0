"""What is said about each view of FC-CLIP and MAFT+, in the order of the page."""

from __future__ import annotations

from ovs_core.methods.base import SIMILARITY
from ovs_core.methods.papers import MASK2FORMER
from ovs_core.views import Source, ViewSpec

MAFT_PLUS_VIEWS = (
    SIMILARITY,
    ViewSpec(
        "query_attention",
        "heat",
        "Where the query of this class looks",
        "Cross-attention of the query whose mask shows this class best, layer by layer, mean of all "
        "heads; 1 is what an even look would take from each place. Bright: it takes more from there.",
        per_class=True,
        source=Source("section 3.2: masked cross-attention, softmax(M + q k^T)", MASK2FORMER),
    ),
    ViewSpec(
        "frozen_and_tuned",
        "heat",
        "What tuning changed for this class",
        "Cosine of every place's CLIP feature with this class, before and after the image tower was "
        "tuned to follow masks. Bright: more alike; both share one colour scale.",
        per_class=True,
        source=Source("cos(F, T) of the frozen and of the tuned image tower"),
    ),
    ViewSpec(
        "transfer_attention",
        "heat",
        "What the words adapt to",
        "What this class's name takes from each image token when content-dependent transfer adapts it to "
        "the photo. Bright: takes more.",
        per_class=True,
        titled=True,
        source=Source("content-dependent transfer: softmax(q k^T), q = names, k = image tokens"),
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
        source=Source("section 3.2: sigmoid(m_n) of every query", MASK2FORMER),
    ),
    ViewSpec(
        "mask_words",
        "words",
        "What each mask is called",
        "In the order of the masks: the class of the answer, the name that won within it, and the best "
        "classes of the trained head (in-vocabulary) and of CLIP's own features (out-vocabulary), with "
        "probabilities.",
        most=12,
        source=Source("p_n: in- and out-vocabulary probabilities of every mask"),
    ),
    ViewSpec(
        "void_shares",
        "bars",
        "Is there an object in the mask?",
        'Probability of "no object" (void) in each mask, in the order of the masks: 1 means that the mask is '
        "left out of the answer.",
        most=12,
        ranked=True,
        source=Source("p_n of no object"),
    ),
    ViewSpec(
        "winning_names",
        "bars",
        "Which synonym wins",
        "For each name the part of its class that it won, over all masks weighed by their probability of the "
        'class. A class with one name has 1: type others behind it ("sofa | couch").',
        ranked=True,
        source=Source("argmax over the names of a class, weighed by p_n"),
    ),
    ViewSpec(
        "text_shift",
        "bars",
        "How far the photo moved each name",
        "Cosine of every name's embedding with what content-dependent transfer (CDT) made of it for this "
        "photo, on a scale from -1 to 1. 1: unchanged.",
        ranked=True,
        source=Source("content-dependent transfer: cos(T, T after it)"),
    ),
    ViewSpec(
        "feature_change",
        "heat",
        "Where tuning changed the features",
        "1 - cosine between the feature of every place before and after the image tower was tuned. "
        "Bright: changed more.",
        source=Source("1 - cos(F frozen, F tuned)"),
    ),
)
"""What MAFT+ can show; what tuning changed only where the tower before tuning is at hand."""

_OF_MAFT_PLUS = frozenset({"text_shift", "transfer_attention", "frozen_and_tuned", "feature_change"})
FC_CLIP_VIEWS = tuple(view for view in MAFT_PLUS_VIEWS if view.kind not in _OF_MAFT_PLUS)
"""What FC-CLIP can show: its names and its tower stay as they are."""
