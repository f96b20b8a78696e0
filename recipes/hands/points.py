"""A photo looked at once, for very many questions about a coarse grid of its points.

Cosines are linear in the row of text, and bilinear interpolation is linear in cosines. So the photo's tokens
in the space of text, interpolated to a point, answer every question that the default method can be asked
there; the answer is what `Engine.run` gives for a request with that `side`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from ovs_core.encoders.lone_word import lowered, with_guards
from ovs_core.encoders.towers import DEFAULT_ENCODER, EncoderSpec, Tower, build_tower
from ovs_core.engine import Engine
from ovs_core.engine.exemplars import joint_tokens
from ovs_core.evidence.decide import decide
from ovs_core.evidence.score_map import ScoreMap
from ovs_core.image import Photo, fitted
from ovs_core.methods import DEFAULT_METHOD
from ovs_core.methods.base import BoundMethod
from ovs_core.options import Preset
from ovs_core.types import LabelMap, TextBank, Vocabulary
from ovs_core.vocabulary import TEMPLATES
from ovs_core.vocabulary.exemplars import Exemplar, box_vector

SIDE = 80  # points along the longer side of a photo: every eighth pixel of COCO's


@dataclass(frozen=True, eq=False)
class Viewer:
    """The default method on the default encoder, step by step, as the Engine takes the steps.

    Attributes:
        encoder, tower, bound, preset: which.
    """

    encoder: EncoderSpec
    tower: Tower
    bound: BoundMethod[Any]
    preset: Preset

    def asked(self, vocabulary: Vocabulary) -> Vocabulary:
        """What the Engine asks: near words of rare ones, and everyday things beside a lone one."""
        vocabulary = self.tower.asked(vocabulary)
        return with_guards(vocabulary) if self.encoder.guards_lone_word else vocabulary

    @torch.no_grad()
    def bank(self, vocabulary: Vocabulary) -> TextBank:
        """Every row of a vocabulary as a word."""
        return self.bound.text.embed(vocabulary, TEMPLATES[self.preset.templates])

    @torch.no_grad()
    def tokens(self, photo: Photo) -> Tensor:
        """What the method compares with text, (D, h, w), on the grid of its evidence."""
        width = self.bank(Vocabulary((("thing",),))).embeddings.shape[-1]
        return joint_tokens(self.bound, self.bound.image.encode(photo.pixels, self.preset), width)

    def points(self, photo: Photo, side: int = SIDE) -> Tensor:
        """The same at the points that a request with this `side` labels, (D, h, w)."""
        size = fitted(photo.size, side)
        return F.interpolate(self.tokens(photo)[None], size=size, mode="bilinear", align_corners=False)[0]

    def box(self, exemplar: Exemplar) -> Tensor:
        """What a box holds, (D,)."""
        return box_vector(self.tokens(exemplar.photo), exemplar.box, exemplar.photo.size)

    def evidence(self, points: Tensor, bank: TextBank) -> ScoreMap:
        """What a bank's rows score at points (D, h, w)."""
        rows = torch.einsum("sd,dhw->shw", bank.embeddings, points)
        size = (points.shape[1], points.shape[2])
        return ScoreMap(lowered(rows, bank.vocabulary), bank.vocabulary, size)

    def labels(self, points: Tensor, bank: TextBank) -> NDArray[np.integer]:
        """The answer at points (D, h, w) to what a bank asks, (h, w)."""
        return decide(self.evidence(points, bank), self.preset.scale, self.preset.threshold)[0]


def viewer_of(engine: Engine) -> Viewer:
    """The default method of an engine; its tower is loaded anew."""
    method, encoder = engine.method_specs[DEFAULT_METHOD], engine.encoder_specs[DEFAULT_ENCODER]
    tower = build_tower(encoder, encoder.load(engine.store), engine.compute, None)
    return Viewer(encoder, tower, method.bind(tower, None), engine.preset())


def truth_at(truth: LabelMap, size: tuple[int, int]) -> LabelMap:
    """Ground truth at the points of `size` (h, w): of each, the pixel that holds it."""
    places = [
        ((np.arange(count) + 0.5) * (length / count)).astype(np.int64)
        for length, count in zip(truth.shape, size, strict=True)
    ]
    grid = np.ix_(*places)
    known = None if truth.known is None else truth.known[grid]
    return LabelMap(truth.labels[grid], truth.classes, known)
