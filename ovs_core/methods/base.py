"""What the engine, the evaluation and the tests may assume of a method."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

import torch

from ovs_core.devices import Cancel, Report
from ovs_core.encoders.base import ImageEncoder
from ovs_core.encoders.clip_resnet import is_resnet
from ovs_core.encoders.clip_vit import joint_width
from ovs_core.evidence.protocol import Evidence
from ovs_core.evidence.score_map import ScoreMap
from ovs_core.options import Options
from ovs_core.types import Features, TextBank, View, ViewKind, Vocabulary
from ovs_core.views import Source, ViewSpec

if TYPE_CHECKING:  # types only: who builds the model loads its library, which takes seconds
    from open_clip.modified_resnet import ModifiedResNet
    from open_clip.transformer import VisionTransformer

F_contra = TypeVar("F_contra", contravariant=True)
F = TypeVar("F")

Kinds = AbstractSet[ViewKind]
"""Intermediate quantities that are asked for as well; nothing asked, nothing paid."""
Point = tuple[float, float] | None
"""(row, column), each in [0, 1] of the photo, that views about one place are about."""

SIMILARITY = ViewSpec(
    "similarity",
    "heat",
    "Similarity of every patch to every class, before any threshold",
    "Cosine of every patch with the best name of each class, all classes on one colour scale.",
    special=True,
    source=Source("cos(patch, name), before scale and softmax"),
)
ATTENTION = ViewSpec(
    "attention",
    "heat",
    "What it looks at",
    "How much the patch under the point takes from every other patch in the last block. Bright: more.",
    special=True,
)
AFFINITY = ViewSpec(
    "affinity",
    "heat",
    "What every patch looks at",
    "The same for every patch at once, on a coarse grid: the page shows the one under the pointer.",
    special=True,
)
MOST_PLACES = 768
"""Places of an affinity: a matrix of this side is half a megabyte on its way to a page."""


@dataclass(frozen=True, eq=False)
class Answer:
    """The quick half of a result: evidence for each class, and the views that were asked for."""

    evidence: Evidence
    views: tuple[View, ...] = ()

    @property
    def nbytes(self) -> int:
        """Bytes held, for the cache budget."""
        return self.evidence.nbytes + sum(view.maps.nbytes for view in self.views)

    def to_cpu(self) -> Answer:
        """The same in float32 in main memory: labels come from there, and the device stays free."""
        views = tuple(replace(view, maps=view.maps.float().cpu()) for view in self.views)
        return Answer(self.evidence.to(torch.device("cpu")), views)


class Method(Protocol[F_contra]):
    """The quick half: from what a tower said about a photo and about some words to evidence for each word.

    A method holds weights, never anything about a photo or a request: the same features, text and options
    give bit-equal evidence whatever ran before.
    """

    def ask(
        self,
        features: F_contra,
        text: TextBank,
        options: Options,
        *,
        views: Kinds = frozenset(),
        point: Point = None,
    ) -> Answer:
        """Evidence for every class of `text`, and the views that were asked for.

        Args:
            features: from the image half this method is bound to.
            text: from its text half.
            options: values of the options that the method declares; those left out have their defaults.
            views: which intermediate quantities to return as well; nothing asked, nothing paid.
            point: (row, column), each in [0, 1] of the photo, that views about one place are about.

        Raises:
            ValueError: if features or text are of another width than its tower, or `point` is outside.
        """
        ...


class TextHalf(Protocol):
    """Turns words into what a method compares with: templates, learned contexts, whatever it learnt with."""

    @property
    def identity(self) -> str:
        """Name, weights and prompts (templates excepted) in one string; part of the cache key."""
        ...

    def embed(
        self,
        vocabulary: Vocabulary,
        templates: tuple[str, ...],
        *,
        progress: Report = None,
        cancel: Cancel = None,
    ) -> TextBank:
        """Unit embeddings of every name; `templates` are not read where prompts are learnt.

        Raises:
            Cancelled: if `cancel` was set.
        """
        ...


@dataclass(frozen=True, eq=False)
class BoundMethod(Generic[F]):
    """A method on a tower, ready to answer, with its own halves.

    Attributes:
        method: the quick half.
        image: makes the features it reads; methods whose image halves have equal identities share them.
        text: makes the embeddings it reads.
        weights: file name -> SHA-256 of what it read beside the tower's own file.
        deeper: gives all that `image` gives, bit for bit, and more of the tower; None where nothing needs it.
        needs_deeper: names of the views, and of the switches, that read what only `deeper` gives.
    """

    method: Method[F]
    image: ImageEncoder[F]
    text: TextHalf
    weights: Mapping[str, str] = field(default_factory=dict)
    deeper: ImageEncoder[F] | None = None
    needs_deeper: frozenset[str] = frozenset()

    def image_for(self, views: Kinds, options: Options) -> ImageEncoder[F]:
        """The image half that a question with these views and options reads: nothing asked, nothing paid."""
        wanted = {name for name in self.needs_deeper if name in views or options.get(name)}
        return self.deeper if wanted and self.deeper is not None else self.image


Calibrate = Callable[[Evidence, Options], Evidence]
"""What options of the stage "decide" do to evidence beside scale and threshold."""


def as_it_is(evidence: Evidence, options: Options) -> Evidence:
    """Evidence without calibration."""
    return evidence


def check_point(point: Point) -> None:
    """Return if a point lies in the photo, or there is none.

    Raises:
        ValueError: if it lies outside.
    """
    if point is not None and not all(0 <= side <= 1 for side in point):
        raise ValueError(f"point must be (row, column), each in [0, 1], got {point}")


def check_widths(visual: VisionTransformer | ModifiedResNet, features: Features, text: TextBank) -> None:
    """Return if features and text are as wide as the tower.

    Raises:
        ValueError: if they are not.
    """
    if is_resnet(visual):
        expected, joint = visual.attnpool.v_proj.in_features, visual.attnpool.c_proj.out_features
    else:
        expected = visual.class_embedding.shape[0]
        joint = joint_width(visual)
    width = features.windows[0].tokens.shape[1]
    if width != expected:
        raise ValueError(f"features must be {expected} wide, got {width} from {features.encoder}")
    if text.embeddings.shape[-1] != joint:
        raise ValueError(f"text embeddings must be {joint} wide, got {text.embeddings.shape[-1]}")


def similarity_view(title: str, cosines: ScoreMap) -> View:
    """How alike every patch and every typed class are: of each class the cosine of its best name."""
    names = cosines.vocabulary.names
    return View("similarity", title, cosines.class_scores[: len(names)], names)
