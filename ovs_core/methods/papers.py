"""Titles of the papers that methods and their views come from, by arXiv id."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

MASK2FORMER = "2112.01527"
BIFORMER = "2303.08810"
COOP = "2109.01134"
MASKCLIP = "2112.01071"
ZEGCLIP = "2212.03588"
LDVC = "2403.08426"

TITLES: Mapping[str, str] = MappingProxyType(
    {
        "2103.00020": "Learning Transferable Visual Models From Natural Language Supervision",
        COOP: "Learning to Prompt for Vision-Language Models",
        MASKCLIP: "Extract Free Dense Labels from CLIP",
        MASK2FORMER: "Masked-attention Mask Transformer for Universal Image Segmentation",
        "2112.14757": "A Simple Baseline for Open-Vocabulary Semantic Segmentation with Pre-trained "
        "Vision-language Model",
        ZEGCLIP: "ZegCLIP: Towards Adapting CLIP for Zero-shot Semantic Segmentation",
        BIFORMER: "BiFormer: Vision Transformer with Bi-Level Routing Attention",
        "2303.09181": "Global Knowledge Calibration for Fast Open-Vocabulary Segmentation",
        "2304.06957": "MVP-SEG: Multi-View Prompt Learning for Open-Vocabulary Semantic Segmentation",
        "2308.02487": "Convolutions Die Hard: Open-Vocabulary Segmentation with Single Frozen Convolutional "
        "CLIP",
        "2312.01597": "SCLIP: Rethinking Self-Attention for Dense Vision-Language Inference",
        LDVC: "Language-Driven Visual Consensus for Zero-Shot Semantic Segmentation",
        "2404.08181": "Pay Attention to Your Neighbours: Training-Free Open-Vocabulary Semantic Segmentation",
        "2407.12442": "ClearCLIP: Decomposing CLIP Representations for Dense Vision-Language Inference",
        "2408.00744": "Collaborative Vision-Text Representation Optimizing for Open-Vocabulary Segmentation",
        "2411.15851": "ResCLIP: Residual Attention for Training-free Dense Vision-language Inference",
        "2411.15869": "Self-Calibrated CLIP for Training-Free Open-Vocabulary Segmentation",
    }
)
