"""From masks to regions on top of nothing: what is taken out, what is laid over what."""

import numpy as np
import pytest
from hand_made import make_mask_result, make_proposals, make_result

from ovs_core.evidence.segments import (
    flattened,
    instances,
    panoptic,
    require_proposals,
    segments_of,
    without_other,
)

DOG, GRASS = 1, 2
# Three columns of a 2 x 6 photo, and a mask over the first two of them.
COLUMNS = np.stack([np.arange(6)[None].repeat(2, 0) // 2 == place for place in range(3)])
TWO = COLUMNS[:1] | COLUMNS[1:2]


def test_regions_of_hidden_names_are_taken_out_and_the_others_counted_anew():
    proposals = make_proposals(COLUMNS, [[0.1, 0, 0.9], [0.8, 0, 0.1], [0, 0.7, 0.1]], other=("sky",))
    found = panoptic(proposals, {DOG})
    assert [segment.label for segment in found.segments] == [0, DOG, GRASS]
    kept = without_other(found)
    assert kept.numbers.tolist() == [[0, 0, 1, 1, 2, 2]] * 2
    assert [(s.number, s.label, s.thing, s.area) for s in kept.segments] == [
        (1, DOG, True, 4),
        (2, GRASS, False, 4),
    ]
    assert found.numbers.max() == 3  # the argument stays as it was


def test_the_best_instance_lies_on_top_and_doubles_are_left_out():
    # 0.9 for the first column, 0.6 for the first two (half of it is seen), 0.5 for the third, 0.1 for the
    # second.
    masks = np.concatenate([COLUMNS[:1], TWO, COLUMNS[2:], COLUMNS[1:2]])
    proposals = make_proposals(masks, [[0.9, 0.0], [0.6, 0.0], [0.5, 0.0], [0.1, 0.0]])
    found = flattened(proposals, instances(proposals, {DOG}))
    assert found.numbers.tolist() == [[1, 1, 0, 0, 2, 2]] * 2
    assert [(s.label, s.area) for s in found.segments] == [(DOG, 4), (DOG, 4)]
    assert [s.score for s in found.segments] == pytest.approx([0.9, 0.5], rel=1e-3)
    half = flattened(proposals, instances(proposals, {DOG}), least_part=0.5)
    assert half.numbers.tolist() == [[1, 1, 2, 2, 3, 3]] * 2
    assert [s.area for s in half.segments] == [4, 4, 4]


def test_a_result_gives_its_segments_at_any_size():
    result = make_mask_result(make_proposals(COLUMNS, [[0.9, 0.0], [0.8, 0.0], [0.0, 0.7]]))
    assert segments_of(result.evidence, "panoptic", {DOG}).numbers.tolist() == [[1, 1, 2, 2, 3, 3]] * 2
    assert segments_of(result.evidence, "panoptic", ()).numbers.tolist() == [[1, 1, 1, 1, 2, 2]] * 2
    assert segments_of(result.evidence, "instances", {DOG}).numbers.tolist() == [[1, 1, 2, 2, 0, 0]] * 2
    small = segments_of(result.evidence, "panoptic", {DOG}, size=(1, 3))
    assert small.numbers.tolist() == [[1, 2, 3]]
    assert [segment.area for segment in small.segments] == [1, 1, 1]


def test_what_has_no_masks_says_so():
    with pytest.raises(ValueError, match=r"labels pixels and proposes no masks"):
        require_proposals(make_result([[0, 1]]).evidence)
    result = make_mask_result(make_proposals(COLUMNS, [[0.9, 0.0]] * 3))
    with pytest.raises(ValueError, match="kind must be one of panoptic, instances, got 'semantic'"):
        segments_of(result.evidence, "semantic", {DOG})
