"""Other words for the same things, and the closed-set network's frames."""

import numpy as np
from recipe_toys import make_coco128

from ovs_core.evaluation.records import PhotoRecord
from recipes.mini.closed_set import published_size
from recipes.mini.exam import exams
from recipes.mini.wording import kept, margins_of, with_words, wordings


def test_each_way_of_saying_a_name():
    said = wordings(["cat", "sheep", "bus", "toaster"])
    assert said == {
        "plain name": ["cat", "sheep", "bus", "toaster"],
        "synonym": ["kitten", "lamb", "coach", None],
        "rarer word": ["tomcat", "ewe", "omnibus", None],
        "plural": ["cats", None, "buses", "toasters"],
        "adjective": ["big cat", "old sheep", "small bus", "new toaster"],
    }


def test_share_kept_is_over_the_classes_that_have_such_a_word():
    """Two classes and background; only class 1 has another word: IoU 0.8 by its name, 0.4 by the word."""
    plain = np.array([[[50, 8, 1], [50, 10, 10], [50, 8, 10]]])
    other = np.array([[[50, 4, 9], [50, 10, 10], [50, 4, 10]]])
    found = kept([True, False], plain, other)
    assert (found.plain, found.other, found.classes) == (0.8, 0.4, 1)
    assert (found.kept.value, found.kept.low, found.kept.high) == (0.5, 0.5, 0.5)


def test_published_frames_keep_the_shape():
    assert published_size((480, 640, 3)) == (385, 513)
    assert published_size((640, 480, 3)) == (513, 385)


def test_classes_are_called_by_other_words_where_there_are_such(tmp_path):
    own = exams({"coco128": make_coco128(tmp_path)}, "choose")[0].dataset
    assert with_words(own, ["human", None]).classes == (("human",), ("dog",))
    assert with_words(own, ["human", None]).values is own.values


def test_margins_come_from_the_records_of_answered_photos():
    """Truth 1: three right, one called background; a photo that could not be read has no row."""
    answered = PhotoRecord("a", cells=((1, 1, 3), (1, 0, 1), (0, 0, 5)))
    found = margins_of([answered, PhotoRecord("b", problem="torn")], 3)
    assert found.shape == (1, 3, 3)
    np.testing.assert_array_equal(found[0, 0], [5, 3, 0])  # right
    np.testing.assert_array_equal(found[0, 1], [5, 4, 0])  # in the truth
    np.testing.assert_array_equal(found[0, 2], [6, 3, 0])  # in the answer
