"""CLIP's ResNet read densely, against tensors made by MaskCLIP's official code (tests/data/README.md)."""

import torch
import torch.nn.functional as F
from resnet_reference import official, visual  # noqa: F401 - fixtures

from ovs_core.encoders.clip_resnet import pyramid, value_path
from ovs_core.methods.training_free.attention_rules import key_smoothing, prompt_denoising


def test_stages_equal_the_official_trunk(official, visual):  # noqa: F811
    """Values grow to 360: single precision alone is 2e-4 off there, on both sides (float64 shows it)."""
    with torch.no_grad():
        for stage, found in enumerate(pyramid(visual, official["in.img"]), start=2):
            expected = official[f"out.c{stage}"]
            torch.testing.assert_close(found, expected, atol=1e-6 * float(expected.abs().max()), rtol=0)


def cosines(official, visual):  # noqa: F811
    with torch.no_grad():
        path = value_path(visual, pyramid(visual, official["in.img"])[-1])
    text = F.normalize(official["w.head.text_embeddings"], dim=1)
    return torch.einsum("sd,bdhw->bshw", text, F.normalize(path.features, dim=1)), path.keys


def test_value_path_equals_the_official_head(official, visual):  # noqa: F811
    torch.testing.assert_close(cosines(official, visual)[0], official["out.logits_plain"], atol=1e-5, rtol=0)


def test_denoising_and_smoothing_equal_the_official_head(official, visual):  # noqa: F811
    scores, keys = cosines(official, visual)
    found = key_smoothing(prompt_denoising(scores[0], 0.5), keys[0].flatten(1).T, 1.0)
    # Smoothed scores reach 78: float32 holds them to about 1e-5 of their size, not to 1e-5.
    torch.testing.assert_close(found, official["out.logits_kspd"][0], atol=1e-5, rtol=1e-6)
