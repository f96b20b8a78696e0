"""Options that several methods share: what a preset sets, declared once."""

from __future__ import annotations

from dataclasses import replace

from ovs_core.options import Option
from ovs_core.vocabulary import TEMPLATES

SCALE = Option(
    "scale",
    "number",
    40.0,
    "Higher lets the best word take more of each pixel.",
    low=0.001,
    high=10000,
    stage="decide",
    slider=(1, 200, 1),
)
THRESHOLD = Option(
    "threshold",
    "number",
    0.0,
    "A pixel whose best class is less sure than this becomes other.",
    low=0,
    high=1,
    stage="decide",
    slider=(0, 1, 0.01),
)
SHORT_SIDE = Option(
    "short_side",
    "integer",
    512,
    "Shorter side in pixels of the frame that the photo is resized to.",
    low=16,
    high=4096,
    stage="look",
)
WINDOW = Option(
    "window",
    "integer",
    0,
    "Side in pixels of square sliding windows; 0 looks at the whole frame at once.",
    low=0,
    high=4096,
    stage="look",
)
STRIDE = Option(
    "stride", "integer", 0, "Step in pixels between sliding windows.", low=0, high=4096, stage="look"
)
MULTI_SCALE_OPTION = Option(
    "multi_scale",
    "switch",
    False,
    "Mean over frames of three sizes: fewer mistakes, about 3x slower.",
    title="Multi-scale (3 sizes, slower)",
    stage="look",
)
TEMPLATE_SET = Option(
    "templates", "choice", "single1", "Prompts that each class name is put into.", choices=tuple(TEMPLATES)
)

MASK_OPTIONS = (replace(SCALE, default=1.0), THRESHOLD, SHORT_SIDE, TEMPLATE_SET)
"""Of methods that look once, at a frame of their own."""
TOKEN_OPTIONS = (SCALE, THRESHOLD, SHORT_SIDE, WINDOW, STRIDE, MULTI_SCALE_OPTION, TEMPLATE_SET)
"""Of methods that read tokens, in windows and at several scales."""
