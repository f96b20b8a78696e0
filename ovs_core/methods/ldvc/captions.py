"""What is said about each view of LDVC and ZegCLIP, in the order of the page."""

from __future__ import annotations

from dataclasses import replace

from ovs_core.methods.ldvc import views
from ovs_core.methods.papers import BIFORMER, LDVC, ZEGCLIP
from ovs_core.views import Source, ViewSpec

ZEGCLIP_VIEWS = (
    ViewSpec(
        views.CLASS_ATTENTION,
        "heat",
        "Cross-attention with this class, block by block",
        "Logits A between every patch and this class before any soft-max, mean of the heads. Bright: they "
        "agree more. All blocks and classes share one colour scale; the last block gives the scores.",
        per_class=True,
        source=Source("figure 1: A = mean over the heads of q k^T / sqrt(d), block by block", LDVC),
    ),
    ViewSpec(
        views.CLASS_PROBABILITY,
        "heat",
        "How probable each class is on its own",
        "Sigmoid of the scores S. Each class is judged alone: probabilities of a patch need not sum to 1.",
        source=Source("sigmoid(S), S = A of the last block"),
    ),
    ViewSpec(
        views.CLASS_SOFTMAX,
        "heat",
        "Which class each patch takes from",
        "Soft-max of the last block's A over all names, the hidden ones included. Bright: this class alone.",
        source=Source("softmax over the names of the last A"),
    ),
    ViewSpec(
        views.CALIBRATION,
        "heat",
        "What calibration does to this class",
        "Probability of this class before and after gamma is taken off classes that training saw.",
        per_class=True,
        source=Source("sigmoid(S) - gamma for seen classes", ZEGCLIP),
    ),
    ViewSpec(
        views.CLASS_DRIFT,
        "bars",
        "How far each word moved",
        "1 - cos(T, T_new) of each class: 0 where its embedding stayed, 1 where it turned at a right angle.",
        most=40,
        ranked=True,
        source=Source("figure 2: how far words move; 1 - cos(T, T_new)", LDVC),
    ),
    ViewSpec(
        views.CONTRACTION,
        "bars",
        "How near patches and words come",
        "Cosine of each patch with its nearest class embedding, mean over the photo, before the decoder and "
        "after each of its blocks.",
        source=Source("figure 2: patches contract towards words; max over classes of cos(X, T_new)", LDVC),
    ),
)
LDVC_VIEWS = (
    replace(
        ZEGCLIP_VIEWS[0],
        sentence=f"{ZEGCLIP_VIEWS[0].sentence} ZegCLIP's blocks stand beside where its head is here.",
        beside="zegclip",
    ),
    *ZEGCLIP_VIEWS[1:],
    ViewSpec(
        views.ROUTING_OFF,
        "heat",
        "What route attention does for this class",
        "The last block's A with route attention as trained, over all windows, and off. The weights are the "
        "same: the paper's ablation trains without it, this only switches it off.",
        per_class=True,
        source=Source("figure 5: the last A with route attention and without"),
    ),
    ViewSpec(
        views.ROUTING_WINDOWS,
        "heat",
        "Which windows the point's window reads",
        "Affinity R of the point's window to every window, and the windows with the largest R, whose patches "
        "it reads, in each block. Bright: more related.",
        titled=True,
        about_point="Click a place to see which windows its window reads.",
        source=Source("R = q k^T / sqrt(d) of mean tokens of windows, and its largest", BIFORMER),
    ),
)
