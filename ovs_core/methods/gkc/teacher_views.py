"""What the teacher says of the student's own masks: what it sees, which synonym suits, how alike they are.

Training asks the teacher about true masks; of an answer there are only those that the student proposes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType

import torch
import torch.nn.functional as F
from torch import Tensor

from ovs_core.methods.gkc.synonyms import draw_chances, read_synonyms, synonym_probabilities, typed_synonyms
from ovs_core.methods.gkc.teacher import Looked, Teacher
from ovs_core.methods.gkc.views import GkcTrace
from ovs_core.types import View, ViewKind

SYNONYM_CHANCES, TEACHER_CROPS, WORD_GEOMETRY = "synonym_chances", "teacher_crops", "word_geometry"
MASKS = 3  # of each class that the teacher is asked about
SHOWN = 20  # classes of a matrix


@dataclass(frozen=True, eq=False)
class Lesson:
    """An answer, and who can say more about it.

    Attributes:
        trace: the answer from inside.
        teacher: frozen CLIP.
        looked: what the student read of the photo.
    """

    trace: GkcTrace
    teacher: Teacher
    looked: Looked

    @property
    def classes(self) -> tuple[tuple[str, ...], ...]:
        """Names of typed classes."""
        return self.trace.proposals.vocabulary.classes

    @cached_property
    def chosen(self) -> Tensor:
        """The queries whose masks show each typed class best and hold a place of the photo, (K, m).

        With a point, those that hold it come first. m is `MASKS`, less where there are fewer such masks.
        """
        filled = (self.trace.cut(self.trace.proposals.masks) > 0).flatten(1).any(dim=1)  # (N,)
        worth = self.trace.proposals.scores[:, : len(self.classes)] * self.trace.at_point[:, None]
        worth = worth.masked_fill(~filled[:, None], -1)
        return worth.topk(min(MASKS, int(filled.sum())), dim=0).indices.T

    @cached_property
    def regions(self) -> Tensor:
        """What the teacher sees in those masks, unit, (K, m, D)."""
        asked = sorted(set(self.chosen.flatten().tolist()))  # a mask may show several classes best
        seen = self.teacher.see(self.looked, self.trace.proposals.masks[asked])
        unit = F.normalize(seen.to(self.trace.embeddings), dim=1)
        return torch.stack([unit[[asked.index(query) for query in row]] for row in self.chosen.tolist()])

    @cached_property
    def queries(self) -> Tensor:
        """The student's embeddings of those masks, unit, (K, m, D)."""
        return F.normalize(self.trace.embeddings[self.chosen], dim=2)

    @cached_property
    def words(self) -> tuple[Tensor, ...]:
        """Unit embeddings of each typed class's names, (s, D) each."""
        rows = F.normalize(self.trace.rows, dim=1)
        counts = [len(names) for names in self.classes]
        return torch.split(rows[: sum(counts)], counts)


def teacher_views(lesson: Lesson, kinds: AbstractSet[ViewKind]) -> tuple[View, ...]:
    """The views that were asked for; none where no mask holds a place of the photo."""
    wanted = [make for kind, make in _MAKERS.items() if kind in kinds]
    return tuple(make(lesson) for make in wanted) if wanted and lesson.chosen.numel() else ()


def _synonym_chances(lesson: Lesson) -> View:
    """For each synonym of a typed class how often each rule would draw it for the class's best mask."""
    table = read_synonyms()
    lists = [
        tuple(dict.fromkeys(word for name in names for word in typed_synonyms(name, table)))
        for names in lesson.trace.proposals.vocabulary.asked[:SHOWN]
    ]
    rows = torch.split(
        lesson.teacher.say([word for words in lists for word in words]), [len(words) for words in lists]
    )
    maps, labels = [], []
    for names, words, said, regions in zip(lesson.classes, lists, rows, lesson.regions, strict=False):
        suits = synonym_probabilities(
            regions[0], said.to(regions), lesson.teacher.log_scale.to(regions)
        ).cpu()
        drawn = [torch.from_numpy(draw_chances(suits.numpy(), rule)) for rule in ("weighted", "thresholded")]
        maps.append(torch.stack(drawn, dim=1).float())  # (s, 2)
        labels += [f"{names[0]}: {word}" for word in words]
    title = "How often training would call the best mask of each class by each synonym"
    return View(
        SYNONYM_CHANCES, title, torch.cat(maps)[:, None], tuple(labels), (0.0, 1.0), columns=("paper", "code")
    )


def _teacher_crops(lesson: Lesson) -> View:
    """Class by class the masks that show it best, told with the teacher's cosines."""
    masks = lesson.trace.chances[lesson.chosen.flatten()]  # (K * m, h, w)
    alike = (lesson.regions * lesson.queries).sum(dim=2)  # (K, m)
    labels = []
    for label, words in enumerate(lesson.words):
        said = (lesson.regions[label] @ words.T).amax(dim=1)  # (m,)
        for place, query in enumerate(lesson.chosen[label].tolist()):
            score = float(lesson.trace.proposals.scores[query, label])
            labels.append(
                f"{score:.0%}; cosine with the word {float(said[place]):.2f}, "
                f"with the query {float(alike[label, place]):.2f}"
            )
    title = "The regions that the teacher is asked about"
    return View(TEACHER_CROPS, title, masks, tuple(labels), (0.0, 1.0))


def _word_geometry(lesson: Lesson) -> View:
    """Words with words, queries with what the teacher sees in their masks, and queries with words."""
    names = lesson.trace.proposals.vocabulary.names[:SHOWN]
    text = torch.stack([words[0] for words in lesson.words[:SHOWN]])
    student, teacher = (rows[:SHOWN, 0] for rows in (lesson.queries, lesson.regions))
    matrices, _ = cosine_matrices(student, teacher, text, names)
    maps = torch.cat([matrices, (student @ text.T)[None]])
    labels = ("words with words", "masks with teacher", "masks with words")
    title = "Cosines between words, between queries (down) and the teacher, and between queries and words"
    return View(WORD_GEOMETRY, title, maps, labels, (-1.0, 1.0), columns=names)


def cosine_matrices(
    student: Tensor, teacher: Tensor, text: Tensor, words: Sequence[str]
) -> tuple[Tensor, tuple[str, ...]]:
    """Text against text, and student against teacher, of the first regions: (2, n, n) and their words.

    The first is what text-guided distillation wants the second to be.

    Args:
        student: queries in the joint space, (n, D).
        teacher: CLIP on the same regions alone, (n, D).
        text: the regions' words, (n, D).
        words: what each region is called.
    """
    v, c, t = (F.normalize(rows[:SHOWN].float(), dim=1) for rows in (student, teacher, text))
    return torch.stack([t @ t.T, v @ c.T]), tuple(words[:SHOWN])


_MAKERS: Mapping[ViewKind, Callable[[Lesson], View]] = MappingProxyType(
    {
        TEACHER_CROPS: _teacher_crops,
        WORD_GEOMETRY: _word_geometry,
        SYNONYM_CHANCES: _synonym_chances,
    }
)
TEACHER_VIEWS = frozenset(_MAKERS)
"""Views that only a teacher can give."""
