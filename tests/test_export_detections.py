"""Answers as `supervision.Detections`: rows worked out by hand, and its own code accepts them."""

from dataclasses import replace

import numpy as np
import pytest
from towers import random_photo

from ovs_core.types import LabelMap
from ovs_core.vocabulary import parse_vocabulary

sv = pytest.importorskip("supervision")

LABELS = np.array([[1, 1, 0, 0], [0, 0, 0, 3], [0, 1, 0, 3]], np.uint8)  # class 2 won nothing


@pytest.fixture
def result(engine):
    """An answer whose labels are known, sure by its column."""
    found = engine.segment(random_photo(3, 4), parse_vocabulary("dog; cat; red car"))
    confidence = np.tile(np.array([0.25, 0.5, 0.75, 1.0], np.float16), (3, 1))
    return replace(found, label_map=LabelMap(LABELS, found.label_map.classes), confidence=confidence)


def test_one_row_per_class_that_won_pixels(result):
    found = result.detections()
    assert found.class_id.tolist() == [1, 3]
    assert found.data["class_name"].tolist() == ["dog", "red car"]
    assert found.xyxy.tolist() == [[0, 0, 2, 3], [3, 1, 4, 3]]
    np.testing.assert_allclose(found.confidence, [(0.25 + 0.5 + 0.5) / 3, 1.0], atol=1e-6)
    assert np.array_equal(found.mask, np.stack([LABELS == 1, LABELS == 3]))


def test_parts_are_told_apart(result):
    found = result.detections(parts=True)
    assert found.class_id.tolist() == [1, 1, 3]
    assert found.xyxy.tolist() == [[0, 0, 2, 1], [1, 2, 2, 3], [3, 1, 4, 3]]
    assert found.area.tolist() == [2, 1, 2]


def test_nothing_found_is_no_row(result):
    nothing = replace(result, label_map=LabelMap(np.zeros_like(LABELS), result.label_map.classes))
    for parts in (False, True):
        found = nothing.detections(parts=parts)
        assert len(found) == 0
        assert found.data["class_name"].tolist() == []


def test_supervision_draws_it(result):
    found = result.detections()
    picture = sv.MaskAnnotator(opacity=1.0).annotate(result.image.copy(), found)
    changed = (picture != result.image).any(axis=2)
    assert not changed[LABELS == 0].any()
    assert changed[LABELS > 0].any()
    assert len(found[found.confidence > 0.9]) == 1
