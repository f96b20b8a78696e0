"""What is said about each view of GKC, in the order of the page."""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType

from ovs_core.methods.mask_classification.captions import FC_CLIP_VIEWS
from ovs_core.views import Source, ViewSpec

_KNOWN = MappingProxyType({view.kind: view for view in FC_CLIP_VIEWS})

GKC_VIEWS = (
    _KNOWN["query_attention"],
    _KNOWN["mask_proposals"],
    replace(
        _KNOWN["mask_words"],
        heading="What each query might show",
        sentence="In the order of the masks: the likeliest classes of each query with their probabilities, "
        '"no object" among them. No CLIP looks at the mask: the query itself is compared with the words.',
        source=Source("section 3: softmax over the classes and no object of s cos(query, words)"),
    ),
    ViewSpec(
        "word_geometry",
        "matrix",
        "Are pictures as far apart as their words?",
        "Cosines between the words, and between the best query of each word and the words. Text-guided "
        "distillation (TGKD) teaches the second to be like the first.",
        titled=True,
        source=Source("section 3.3: distances |v_i - v_j| and |t_i - t_j|, as cosines"),
    ),
    _KNOWN["void_shares"],
    _KNOWN["winning_names"],
)
"""What GKC can show of an answer."""
