"""Recipes of mask heads in toy size."""

from instance_toys import SMALL_HEAD

CROPS = {"count": 4, "side": 64, "short_side": [64, 72], "pastes": 1}
FC_CLIP = {**SMALL_HEAD, "crops": CROPS, "steps": 2, "batch": 2}
TUNING = {"count": 3, "steps": 2, "batch": 2}
