"""What the engine, the evaluation and the tests may assume of a method."""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from typing import Protocol

from open_clip.modified_resnet import ModifiedResNet
from open_clip.transformer import VisionTransformer

from ovs_core.scores import class_scores
from ovs_core.types import (
    Evidence,
    Features,
    Pyramid,
    ScoreMap,
    Segmentation,
    TextBank,
    View,
    ViewKind,
)

Kinds = AbstractSet[ViewKind]
"""Intermediate quantities that are asked for as well; nothing asked, nothing paid."""
Point = tuple[float, float] | None
"""(row, column), each in [0, 1] of the photo, that views about one place are about."""


class Method(Protocol):
    """The quick half: from what a tower said about a photo and about some words to evidence for each word.

    A method holds weights and settings, never anything about a photo or a request: the same features and
    text give bit-equal evidence whatever ran before. It reads either the tokens of a ViT or a pyramid
    (`MethodSpec.reads`) and answers with rows of evidence or with masks.
    """

    @property
    def name(self) -> str:
        """Registry name, e.g. "naclip"."""
        ...

    def segment(
        self, features: Features | Pyramid, text: TextBank, *, views: Kinds = frozenset(), point: Point = None
    ) -> Segmentation:
        """Evidence for every row of `text`, and the views that were asked for.

        Args:
            features: from the tower this method was built for.
            text: from the same model's text tower.
            views: which intermediate quantities to return as well; nothing asked, nothing paid.
            point: (row, column), each in [0, 1] of the photo, that views about one place are about.

        Raises:
            ValueError: if features are not what this method reads, features or text are of another width than
                its tower, or `point` is outside.
        """
        ...


def expect_tokens(features: Features | Pyramid, name: str) -> Features:
    """Features of a ViT as they are.

    Raises:
        ValueError: if they are a pyramid; `name` is the method that cannot read one.
    """
    if isinstance(features, Pyramid):
        expected = "the tokens of a ViT"
        raise ValueError(f"{name} reads {expected}, got a pyramid from {features.encoder}")  # noqa: TRY004
    return features


def expect_pyramid(features: Features | Pyramid, name: str) -> Pyramid:
    """A pyramid as it is.

    Raises:
        ValueError: if they are tokens of a ViT; `name` is the method that cannot read them.
    """
    if isinstance(features, Features):
        expected = "a pyramid of maps"
        raise ValueError(f"{name} reads {expected}, got tokens from {features.encoder}")  # noqa: TRY004
    return features


def expect_rows(evidence: Evidence) -> ScoreMap:
    """Evidence with a row per name as it is.

    Raises:
        ValueError: if it is mask proposals.
    """
    if not isinstance(evidence, ScoreMap):
        raise ValueError("evidence must have a row per name, got mask proposals")  # noqa: TRY004
    return evidence


def check_widths(visual: VisionTransformer | ModifiedResNet, features: Features, text: TextBank) -> None:
    """Return if features and text are as wide as the tower.

    Raises:
        ValueError: if they are not.
    """
    if isinstance(visual, ModifiedResNet):
        expected, joint = visual.attnpool.v_proj.in_features, visual.attnpool.c_proj.out_features
    else:
        expected = visual.class_embedding.shape[0]
        joint = expected if visual.proj is None else visual.proj.shape[1]
    width = features.windows[0].tokens.shape[1]
    if width != expected:
        raise ValueError(f"features must be {expected} wide, got {width} from {features.encoder}")
    if text.embeddings.shape[1] != joint:
        raise ValueError(f"text embeddings must be {joint} wide, got {text.embeddings.shape[1]}")


def similarity_view(title: str, cosines: ScoreMap) -> View:
    """How alike every patch and every typed class are: of each class the cosine of its best name."""
    names = cosines.vocabulary.names
    return View("similarity", title, class_scores(cosines)[: len(names)], names)
