"""What is said about each view of GKC, in the order of the page."""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType

from ovs_core.methods.gkc.teacher_views import SYNONYM_CHANCES, TEACHER_CROPS, WORD_GEOMETRY
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
        TEACHER_CROPS,
        "crops",
        "What the teacher is asked about",
        "The masks that show this class best, those that hold the point above first, each alone on grey, "
        "with the probability of the class. What frozen CLIP, the teacher of distillation, sees there is "
        "compared with the best name of the class and with the student's query, which learnt to say the "
        "same. The embedded model's teacher looks at the whole photo and averages inside the mask, a "
        "ResNet's at the picture as it is here.",
        per_class=True,
        peaks=False,
        about_point="Click a place to see first the masks that hold it.",
        source=Source("section 3.3: c_j of the masked region, cos(c_j, t) and cos(c_j, v_j)"),
    ),
    ViewSpec(
        WORD_GEOMETRY,
        "matrix",
        "Are pictures as far apart as their words?",
        "Cosines between the words; between the best query of each word (down) and what the teacher sees in "
        "those masks (across); between those queries and the words. Text-guided distillation (TGKD) teaches "
        "the second to be like the first. At most 20 classes.",
        source=Source("section 3.3: distances |v_i - c_j| and |t_i - t_j|, as cosines"),
    ),
    ViewSpec(
        SYNONYM_CHANCES,
        "matrix",
        "What training would call it",
        "Text diversification says a class in other words that suit the photo: how often each synonym would "
        "be drawn for the best mask of its class. Paper: as likely as the teacher finds it; code: evenly "
        "among those above 0.1. The words are those of a table of COCO's names, where a typed word is found "
        'as a name, as a synonym ("sofa" of couch) or in the plural; other words have no synonyms. At most '
        "20 classes.",
        source=Source("section 3.2: p_i = softmax over i of s cos(R(mask), t_i), t_i the synonyms"),
    ),
    _KNOWN["void_shares"],
    _KNOWN["winning_names"],
)
"""What GKC can show of an answer."""
