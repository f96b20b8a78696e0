"""What the engine, the evaluation and the tests may assume of a method."""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from typing import Protocol

from ovs_core.types import Features, Segmentation, TextBank, ViewKind


class Method(Protocol):
    """The quick half: from what a tower said about a photo and about some words to evidence for each word.

    A method holds weights and settings, never anything about a photo or a request: the same features and
        text give
    bit-equal evidence whatever ran before.
    """

    @property
    def name(self) -> str:
        """Registry name, e.g. "naclip"."""
        ...

    def segment(
        self,
        features: Features,
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
            ValueError: if features or text are of another width than this method's tower, or `point` is
                outside.
        """
        ...
