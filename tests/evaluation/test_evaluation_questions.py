"""What is typed about a photo, and what an answer means."""

import numpy as np
import pytest
from labelled_toys import classes_of, halves, make_folder, truth_of

from ovs_core.evaluation.questions import make_question, present
from ovs_core.labelled.datasets import open_dataset
from ovs_core.vocabulary import default_background


def test_some_classes_are_typed(tmp_path):
    make_folder(tmp_path, {"1": halves(1, 1)}, ("0 background", "1 cat|kitten", "2 dog", "3 sky"))
    dataset = open_dataset("folder", tmp_path)
    truth = truth_of([[0, 1, 2, 3, None]])
    question = make_question(dataset, truth, [1, 3], other=True)
    assert question.vocabulary.classes == (("cat", "kitten"), ("sky",))
    assert question.typed == (1, 3)
    assert "sky" not in question.vocabulary.other
    assert set(question.vocabulary.other) <= set(default_background())
    assert classes_of(question.truth) == [[0, 1, 0, 3, None]]
    assert question.answer(np.array([[0, 1, 2, 2, 1]])).tolist() == [[0, 1, 3, 3, 1]]
    plain = make_question(dataset, truth, [1, 3], other=False)
    assert plain.vocabulary.other == ()
    assert classes_of(plain.truth) == [[None, 1, None, 3, None]]
    assert present(truth) == [1, 2, 3]


@pytest.mark.parametrize("labels", [np.zeros((1, 4), int), np.full((1, 5), 3)], ids=["size", "class"])
def test_answers_that_do_not_fit(tmp_path, labels):
    make_folder(tmp_path, {"1": halves(1, 1)})
    question = make_question(open_dataset("folder", tmp_path), truth_of([[0] * 5]), [1, 2], other=True)
    with pytest.raises(ValueError, match="labels must be"):
        question.answer(labels)


def test_names_with_separators_cannot_be_typed(tmp_path):
    make_folder(tmp_path, {"1": halves(1, 1)}, ("1 a;b",))
    with pytest.raises(ValueError, match="without the signs"):
        make_question(open_dataset("folder", tmp_path), truth_of([[0]]), [1], other=True)
