"""What is said about each view of MVP-SEG, in the order of the page."""

from __future__ import annotations

from dataclasses import replace

from ovs_core.methods.base import AFFINITY, ATTENTION, SIMILARITY
from ovs_core.methods.mvp_seg.plus import STUDENT_TEACHER
from ovs_core.methods.papers import COOP, MASKCLIP
from ovs_core.views import Source, ViewSpec

_VALUES = Source("section 3.2: every patch keeps its own value, no softmax(q k^T)", MASKCLIP)
MVP_SEG_VIEWS = (
    replace(SIMILARITY, source=Source("mean over i = 1..k of m_i")),
    replace(ATTENTION, source=_VALUES),
    replace(AFFINITY, source=_VALUES),
    ViewSpec(
        "view_maps",
        "heat",
        "What each view sees",
        "Cosine m_i of every patch with this class as view i words it. Bright: more alike. All views of "
        "the class share one colour scale.",
        per_class=True,
        source=Source("m_i = cos(F, t_i), i = 1..k"),
    ),
    ViewSpec(
        "view_wins",
        "numbered",
        "Which view is surest where",
        "At every patch the view i with the largest cosine m_i, one colour per view. The shares are "
        "parts of the photo.",
        per_class=True,
        noun="view",
        source=Source("argmax over i of m_i"),
    ),
    ViewSpec(
        "global_map",
        "heat",
        "What the global prompt sees",
        "Cosine m_0 of every patch with this class in the global prompt, which judges whether the class "
        "is in the photo at all. Bright: more alike.",
        per_class=True,
        source=Source("m_0 = cos(F, t_0)"),
    ),
    ViewSpec(
        "pooling_weights",
        "heat",
        "Where the global prompt looks",
        "How much every patch counts when m_0 is pooled: the soft-max of gamma m_0 over the photo. "
        "Bright: counts more; the weights of a class sum to 1.",
        per_class=True,
        source=Source("softmax over the photo of gamma m_0"),
    ),
    ViewSpec(
        "prompt_cosines",
        "matrix",
        "How alike the prompts of this class are",
        "|cos| between the text embeddings t_i of this class in each context. 1: the same direction, so "
        "that these views see the same.",
        per_class=True,
        source=Source("|cos(t_i, t_j)| of a class"),
    ),
    ViewSpec(
        "refining",
        "labels",
        "Before and after refining",
        "The best class of every patch without and with the gates g_c (Global Prompt Refining), before "
        "any threshold and on the model's own grid.",
        source=Source("argmax over c of m_f, and of m_f g_c (Global Prompt Refining)"),
    ),
    ViewSpec(
        "class_gates",
        "bars",
        "Is the class in the photo?",
        "The gate g_c of each class, from 0 (surely absent) to 1 (surely there). Refining multiplies the "
        "class's score by it.",
        most=40,
        source=Source("g_c = sigmoid(pooled m_0 / tau_2) (Global Prompt Refining)"),
    ),
    ViewSpec(
        "context_cosines",
        "matrix",
        "How different the contexts are",
        "|cos| between the mean vectors of the learned contexts p_i, whatever the photo. The "
        "orthogonality loss (OCLoss) pushes the views towards 0.",
        source=Source("|cos(p_i, p_j)| of mean context vectors (OCLoss)"),
    ),
    ViewSpec(
        "context_words",
        "words",
        "Words nearest to the contexts",
        "For each learned vector the word whose embedding lies nearest, with its distance. A hint only: "
        "learned vectors need not lie near any word.",
        most=40,
        source=Source("section 4.4: nearest words of learned context vectors", COOP),
    ),
)

PLUS_VIEWS = (
    replace(SIMILARITY, source=Source("cos(f, T_c), T_c = sum over i of t_i^c; f: the student's features")),
    ViewSpec(
        STUDENT_TEACHER,
        "labels",
        "Student and teacher",
        "The best class of every place by the student, and by MVP-SEG with the same contexts, which taught "
        "it, before any threshold.",
        source=Source("argmax over c of <f, T_c>, and of m_c"),
    ),
)
