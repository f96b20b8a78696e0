"""What the engine, the evaluation and the tests may assume of a method."""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from typing import Protocol

from ovs_core.types import Evidence, Features, Pyramid, ScoreMap, Segmentation, TextBank, ViewKind


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
        self,
        features: Features | Pyramid,
        text: TextBank,
        *,
        views: AbstractSet[ViewKind] = frozenset(),
        point: tuple[float, float] | None = None,
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
