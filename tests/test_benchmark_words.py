"""Pure parts of the scripts that measure wording and the closed-set network."""

import numpy as np

from benchmarks.closed_set import published_size
from benchmarks.wording import kept, wordings


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
