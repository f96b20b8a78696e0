"""GKC's teacher beside an answer: what it sees in the student's masks, worked out by hand."""

import math
from dataclasses import dataclass, replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hand_made import make_result
from mask_toys import random_pyramid

from ovs_core.engine import Engine, Request, Result
from ovs_core.evidence.proposals import MaskProposals
from ovs_core.image import read_photo
from ovs_core.methods.gkc.captions import GKC_VIEWS
from ovs_core.methods.gkc.teacher import Teacher, pooled_regions, see_photo
from ovs_core.methods.gkc.teacher_views import TEACHER_VIEWS, Lesson, cosine_matrices, teacher_views
from ovs_core.methods.gkc.views import GkcTrace
from ovs_core.methods.photo_pyramid import PhotoPyramid, masks_on_photo
from ovs_core.types import View, Vocabulary
from ovs_core.ui.view_pictures import sections, seen

SIZE = (4, 8)
DENSE = torch.zeros(2, *SIZE)
DENSE[0, :, :4], DENSE[1, :, 4:] = 1.0, 1.0  # (1, 0) in the left half, (0, 1) in the right one


@dataclass(frozen=True)
class Looked:
    """A pyramid of which nothing but the dense map is read."""

    dense: torch.Tensor


def masks(*columns):
    logits = torch.full((len(columns), *SIZE), -9.0)
    for mask, (left, right) in zip(logits, columns, strict=True):
        mask[:, left:right] = 9.0
    return logits


def lesson(point=None, said=None):
    """Two classes and four masks: left half, right half, the left with a quarter of the right, nothing."""
    vocabulary = Vocabulary((("sofa", "couch"), ("zebu",)), ("sky",))
    scores = torch.tensor([[0.8, 0.1, 0.0], [0.1, 0.6, 0.2], [0.3, 0.2, 0.1], [0.9, 0.9, 0.0]])
    proposals = MaskProposals(
        masks((0, 4), (4, 8), (0, 5), (0, 0)), scores, 1 - scores.amax(dim=1), vocabulary, *[SIZE] * 3
    )
    queries = torch.tensor([[2.0, 0.0], [3.0, 4.0], [0.0, 1.0], [1.0, 0.0]])
    rows = torch.tensor([[0.0, 1.0], [0.6, 0.8], [1.0, 0.0], [0.0, 1.0]])  # sofa, couch, zebu, sky
    trace = GkcTrace(proposals, torch.zeros(4, 5), queries, rows, SimpleNamespace(), point)

    def see(looked, chosen):
        return pooled_regions(looked.dense, (chosen > 0).float())

    def say(words):
        return torch.tensor([said[word] for word in words])

    return Lesson(trace, Teacher(see, say, torch.tensor(2.0).log()), Looked(DENSE))


def view_of(kind, **changes):
    [view] = teacher_views(lesson(**changes), {kind})
    return view


def test_best_masks_of_each_class_and_what_the_teacher_sees_in_them():
    view = view_of("teacher_crops")
    # Mask 4 holds no pixel and is left out, however sure it is. Its place goes to the next ones.
    assert lesson().chosen.tolist() == [[0, 2, 1], [1, 2, 0]]
    assert view.maps.shape == (6, *SIZE)
    torch.testing.assert_close(view.maps[0], masks((0, 4))[0].sigmoid())
    # Left half: teacher (1, 0); of sofa's names "couch" is nearer (0.6); the query (2, 0) points there too.
    assert view.labels[0] == "80%; cosine with the word 0.60, with the query 1.00"
    # Right half: teacher (0, 1); "zebu" is (1, 0); the query (3, 4) is 0.8 of it.
    assert view.labels[3] == "60%; cosine with the word 0.00, with the query 0.80"
    # Four columns of (1, 0) and one of (0, 1): (4, 1) / sqrt(17); query (0, 1).
    word, query = (4 * 0.6 + 0.8) / math.sqrt(17), 1 / math.sqrt(17)
    assert view.labels[1] == f"30%; cosine with the word {word:.2f}, with the query {query:.2f}"


def test_masks_that_hold_the_point_come_first():
    assert lesson(point=(0.5, 0.6)).chosen[0].tolist() == [2, 1, 0]  # 0.3 and 0.1 there, mask 1 is elsewhere


def test_word_geometry_is_words_then_teacher_then_words():
    view = view_of("word_geometry")
    torch.testing.assert_close(view.maps[0], torch.eye(2))  # sofa (0, 1), zebu (1, 0): shown names
    torch.testing.assert_close(view.maps[1], torch.tensor([[1.0, 0.0], [0.6, 0.8]]))  # queries 1, 2; halves
    torch.testing.assert_close(view.maps[2], torch.tensor([[0.0, 1.0], [0.8, 0.6]]))
    assert view.columns == ("sofa", "zebu")
    assert view.labels == ("words with words", "masks with teacher", "masks with words")


def test_synonyms_by_both_rules():
    """The teacher sees (1, 0) for sofa; scale 2: soft-max of twice the first coordinates."""
    first = {"sofa": 1.0, "couch": 0.8, "lounge": -0.7, "settee": 0.3, "zebu": 0.5}
    said = {word: [value, math.sqrt(1 - value * value)] for word, value in first.items()}
    view = view_of("synonym_chances", said=said)
    words = [label.removeprefix("sofa: ") for label in view.labels[:-1]]
    assert view.labels[-1] == "zebu: zebu"
    assert words[:2] == ["sofa", "couch"]
    weights = [math.exp(2 * first[word]) for word in words]
    paper = [weight / sum(weights) for weight in weights]
    assert view.maps[:-1, 0, 0].tolist() == pytest.approx(paper)
    likely = [chance > 0.1 for chance in paper]
    assert sum(likely) < len(words)
    assert view.maps[:-1, 0, 1].tolist() == pytest.approx([own / sum(likely) for own in likely])
    assert view.maps[-1, 0].tolist() == [1, 1]  # a word that the table does not know is called nothing else
    assert view.columns == ("paper", "code")


def test_a_typed_synonym_shows_the_words_of_its_row():
    """Typed "Sofas." is asked as "Sofas", and the table knows sofa as another word for couch."""
    plain = lesson().trace
    vocabulary = replace(
        plain.proposals.vocabulary, classes=(("Sofas.",), ("zebu",)), queries=(("Sofas",), ("zebu",))
    )
    trace = replace(plain, proposals=replace(plain.proposals, vocabulary=vocabulary))
    asked = []

    def say(words):
        asked.extend(words)
        return F.normalize(torch.ones(len(words), 2), dim=1)

    taught = Lesson(trace, Teacher(lesson().teacher.see, say, torch.tensor(0.0)), Looked(DENSE))
    [view] = teacher_views(taught, {"synonym_chances"})
    assert asked == ["Sofas", "couch", "sofa", "lounge", "settee", "zebu"]
    assert view.labels == (*(f"Sofas.: {word}" for word in asked[:-1]), "zebu: zebu")
    assert view.maps[:, 0, 0].tolist() == pytest.approx([0.2] * 5 + [1])


def test_where_no_mask_holds_a_pixel_the_teacher_is_not_asked():
    full = lesson()
    nothing = MaskProposals(
        torch.full((4, *SIZE), -9.0),
        full.trace.proposals.scores,
        full.trace.proposals.void,
        full.trace.proposals.vocabulary,
        *[SIZE] * 3,
    )
    trace = GkcTrace(nothing, full.trace.names, full.trace.embeddings, full.trace.rows, full.trace.decoded)
    assert teacher_views(Lesson(trace, full.teacher, full.looked), TEACHER_VIEWS) == ()


def test_cosine_matrices_of_training():
    student, teacher, text = torch.eye(3), torch.eye(3)[[1, 0, 2]], 2 * torch.eye(3)
    found, words = cosine_matrices(student, teacher, text, ("a", "b", "c"))
    torch.testing.assert_close(found[0], torch.eye(3))
    torch.testing.assert_close(found[1], torch.eye(3)[[1, 0, 2]])
    assert words == ("a", "b", "c")


def test_masks_on_the_photo_are_those_of_the_frame_without_padding():
    pyramid = random_pyramid(image_size=(50, 70), padded=(64, 96))  # frame 50 x 70, padded below and right
    logits = torch.full((1, 16, 24), -9.0)
    logits[:, :, :9] = 9.0
    [inside] = masks_on_photo(logits, PhotoPyramid(pyramid, np.zeros((50, 70, 3), np.uint8)))
    assert inside.shape == (50, 70)
    assert inside[:, :35].all()  # 9 cells of 4 pixels: the border lies at 36
    assert not inside[:, 37:].any()


def test_a_teacher_that_must_look_is_given_the_photo():
    with pytest.raises(ValueError, match="photo"):
        see_photo(None, "crops", random_pyramid(), torch.zeros(1, 4, 4))


def test_crops_are_drawn_alone_on_grey():
    labels = np.ones((40, 60), np.uint8)
    photo = np.zeros((40, 60, 3), np.uint8)
    photo[..., 0] = 200
    result = make_result(labels, photo, names=("sofa", "zebu"))
    maps = torch.zeros(2, 10, 15)
    maps[0, 2:5, 3:9] = 1.0
    look = next(spec for spec in GKC_VIEWS if spec.kind == "teacher_crops")
    view = View("teacher_crops", "Regions", maps, ("a", "b"), (0.0, 1.0))
    kept = seen(replace(result, views=(view,)), [look])
    [first] = sections(kept, 1)
    [(picture, caption)] = first.panels
    assert (picture.shape, caption) == ((224, 224, 3), "a")
    assert picture[112, 112].tolist() == [200, 0, 0]
    [second] = sections(kept, 2)
    assert np.unique(second.panels[0][0]).tolist() == [128]  # no place above one half


def test_several_square_maps_are_all_in_the_table():
    result = make_result(np.ones((40, 60), np.uint8), np.zeros((40, 60, 3), np.uint8), names=("sofa", "zebu"))
    look = next(spec for spec in GKC_VIEWS if spec.kind == "word_geometry")
    view = view_of("word_geometry")
    [section] = sections(seen(replace(result, views=(view,)), [look]), 1)
    assert [row[0] for row in section.table.rows] == [
        f"{what}: {name}"
        for what in ("words with words", "masks with teacher", "masks with words")
        for name in ("sofa", "zebu")
    ]
    assert section.table.rows[3] == ("masks with teacher: zebu", "0.60", "0.80")


def test_the_shipped_teacher_agrees_with_its_student():
    """The head learnt to say what the tower sees in its masks."""
    engine = Engine("cpu", offline=True)
    photo = read_photo("assets/photos/temple.jpg")
    words = Vocabulary((("temple", "building"), ("sky",)))
    request = Request(photo, words, "gkc", views=TEACHER_VIEWS)
    [result] = [event for event in engine.run(request) if isinstance(event, Result)]
    views = {view.kind: view for view in result.views}
    assert set(views) == TEACHER_VIEWS
    assert float(views["word_geometry"].maps[1].diagonal().min()) > 0.7
    chances = views["synonym_chances"].maps[:, 0, 0]
    of_temple = torch.tensor([label.startswith("temple: ") for label in views["synonym_chances"].labels])
    assert float(chances[of_temple].sum()) == pytest.approx(1, abs=1e-5)
