"""FC-CLIP and MAFT+ as methods: hand-worked numbers, any size and vocabulary, no hidden state."""

import math

import numpy as np
import pytest
import torch
from mask_toys import (
    CLASSES,
    conv_clip,
    head_config,
    joint_space,
    random_head,
    random_pyramid,
    random_text,
)

from ovs_core.encoders.clip_conv import ConvEncoder
from ovs_core.evidence.decide import decide
from ovs_core.evidence.proposals import MaskProposals
from ovs_core.evidence.segments import instance_mask, instances, panoptic
from ovs_core.methods.mask_classification.fc_clip import FcClip, geometric_ensemble, seen_classes
from ovs_core.methods.mask_classification.frame import classify, propose_masks
from ovs_core.methods.mask_classification.head import best_names, class_logits, log_probabilities
from ovs_core.methods.mask_classification.maft_plus import MaftPlus
from ovs_core.methods.mask_classification.views import report_masks, text_shift
from ovs_core.options import Preset
from ovs_core.types import Vocabulary

SEEN = frozenset({"lawn", "road"})
PRESET = Preset(1.0, 0.0, 64, None, 0, "vild14")
FOUR = Vocabulary((("a",), ("b",)))


@pytest.fixture(scope="module")
def model():
    return conv_clip()


def method_of(model, kind, **sizes):
    transfer = {"fc_clip": None, "maft_plus": "semantic", "maft_plus_panoptic": "panoptic"}[kind]
    head = random_head(transfer, **sizes)
    if transfer is None:
        return FcClip(head, joint_space(model), model.logit_scale, SEEN)
    return MaftPlus(head, joint_space(model), model.logit_scale)


METHODS = ["fc_clip", "maft_plus", "maft_plus_panoptic"]


def test_best_name_of_each_class_and_void_kept():
    logits = torch.tensor([[1.0, 3.0, 2.0, 5.0, 4.0]])
    assert best_names(logits, (2, 1, 1)).tolist() == [[3.0, 2.0, 5.0, 4.0]]


def test_logits_worked_by_hand():
    # (3, 4) has unit (0.6, 0.8); rows keep their length; exp(ln 1000) is cut to 100.
    found = class_logits(
        torch.tensor([[[3.0, 4.0]]]),
        torch.tensor([[1.0, 0.0], [0.0, 2.0]]),
        torch.tensor(math.log(1000)),
        (1,),
    )
    torch.testing.assert_close(found, torch.tensor([[[60.0, 160.0]]]))


def test_shares_worked_by_hand():
    found = log_probabilities(torch.tensor([[0.75, 0.25]]), torch.tensor([0.2])).exp()
    torch.testing.assert_close(found, torch.tensor([[0.6, 0.2, 0.2]]))


def test_geometric_ensemble_worked_by_hand():
    # Seen: 0.5^0.6 * 0.2^0.4; unseen: 0.5^0.2 * 0.8^0.8.
    known, unknown = torch.tensor([[0.5, 0.5]]).log(), torch.tensor([[0.2, 0.8]]).log()
    first, second = 0.5**0.6 * 0.2**0.4, 0.5**0.2 * 0.8**0.8
    found = geometric_ensemble(known, unknown, torch.tensor([True, False]))
    expected = torch.tensor([[first, second]]) / (first + second)
    torch.testing.assert_close(found, expected)


def test_a_class_is_seen_if_one_of_its_names_is():
    vocabulary = Vocabulary((("grass", "lawn"), ("bus",)), ("road", "wall"))
    assert seen_classes(vocabulary, SEEN).tolist() == [True, False, True]
    assert seen_classes(FOUR, SEEN).tolist() == [False, False]


@pytest.mark.parametrize("kind", METHODS)
@pytest.mark.parametrize("image_size", [(1, 1), (50, 70), (33, 200), (131, 17)])
def test_photos_of_any_size(model, kind, image_size):
    photo = np.random.default_rng(0).integers(0, 256, (*image_size, 3), np.uint8)
    encoder = ConvEncoder("toy", "toy", model.visual, torch.device("cpu"), torch.float32)
    pyramid = encoder.encode(photo, PRESET)
    assert all(side % 32 == 0 for side in pyramid.padded)
    proposals = propose_masks(method_of(model, kind), pyramid, random_text(CLASSES))
    assert proposals.resize_masks is (kind == "maft_plus_panoptic")
    labels, share = decide(proposals, 1.0, 0.0)
    assert labels.shape == image_size
    assert set(np.unique(labels)) <= set(range(1, 7))
    assert ((share > 0) & (share <= 1)).all()
    total = proposals.scores.sum(dim=1) + proposals.void
    torch.testing.assert_close(total, torch.ones(12))


@pytest.mark.parametrize("kind", METHODS)
@pytest.mark.parametrize(
    "vocabulary",
    [
        Vocabulary((("cat",),)),
        Vocabulary((("cat", "kitten"), ("sky",)), ("wall", "floor", "road")),
        Vocabulary(tuple((f"class {i}",) for i in range(300))),
    ],
    ids=["one", "other", "many"],
)
@pytest.mark.parametrize("queries", [1, 7])
def test_any_vocabulary_and_number_of_queries(model, kind, vocabulary, queries):
    method = method_of(model, kind, queries=queries, layers=3)
    proposals = propose_masks(method, random_pyramid(), random_text(vocabulary))
    columns = len(vocabulary.classes) + bool(vocabulary.other)
    assert proposals.scores.shape == (queries, columns)
    labels, _ = decide(proposals, 1.0, 0.0)
    assert labels.shape == (50, 70)
    assert labels.max() <= len(vocabulary.classes)


@pytest.mark.parametrize("kind", METHODS)
def test_answers_do_not_depend_on_what_ran_before(model, kind):
    method, text = method_of(model, kind), random_text(CLASSES)
    first = propose_masks(method, random_pyramid(), text)
    propose_masks(method, random_pyramid((64, 96), seed=5), random_text(FOUR))
    again = propose_masks(method, random_pyramid(), text)
    assert torch.equal(first.masks, again.masks)
    assert torch.equal(first.scores, again.scores)


def test_attention_is_returned_only_when_asked(model):
    method, text = method_of(model, "maft_plus"), random_text(CLASSES)
    plain = classify(method, random_pyramid(), text)
    asked = classify(method, random_pyramid(), text, attention=True)
    assert plain.proposed.decoded.cross_attention == ()
    maps = asked.proposed.decoded.cross_attention
    assert [tuple(one.shape) for one in maps[:3]] == [(1, 12, 2, 3), (1, 12, 4, 6), (1, 12, 8, 12)]
    torch.testing.assert_close(maps[0].sum(dim=(2, 3)), torch.ones(1, 12))
    assert torch.equal(asked.log_probabilities, plain.log_probabilities)


def test_the_trained_class_head_only_says_void_for_maft_plus(model):
    # Another class head changes what FC-CLIP answers; MAFT+ keeps the order of classes.
    text, pyramid = random_text(CLASSES), random_pyramid()
    for kind in ("fc_clip", "maft_plus"):
        method = method_of(model, kind)
        before = classify(method, pyramid, text).log_probabilities[:, :-1].softmax(dim=1)
        method.head.mask_decoder.class_embed.layers[2].weight.mul_(-1)
        after = classify(method, pyramid, text).log_probabilities[:, :-1].softmax(dim=1)
        assert torch.allclose(before, after, atol=1e-5) is (kind == "maft_plus")


def test_text_of_another_width_is_refused(model):
    text = random_text(CLASSES)
    wrong = type(text)(CLASSES, text.embeddings[:, :16])
    with pytest.raises(ValueError, match=r"must be \(S, 32\), got \(12, 16\)"):
        propose_masks(method_of(model, "maft_plus"), random_pyramid(), wrong)
    with pytest.raises(ValueError, match="head must have content-dependent transfer"):
        MaftPlus(random_head(None), joint_space(model), model.logit_scale)
    with pytest.raises(ValueError, match="no content-dependent transfer"):
        random_head(None).adapt(text.embeddings, torch.zeros(1, 32, 2, 2))


def test_tower_encodes_in_stages_and_can_be_stopped(model):
    import threading

    from ovs_core.devices import Cancelled

    encoder = ConvEncoder("toy", "toy", model.visual, torch.device("cpu"), torch.float32)
    photo = np.zeros((40, 60, 3), np.uint8)
    steps = []
    found = encoder.encode(photo, PRESET, progress=lambda done, total: steps.append((done, total)))
    assert steps == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert (found.frame, found.padded, found.image_size) == ((64, 96), (64, 96), (40, 60))
    assert found.encoder == "toy|64"
    assert not any(one.requires_grad for one in found.maps)
    cancel = threading.Event()
    cancel.set()
    with pytest.raises(Cancelled):
        encoder.encode(photo, PRESET, cancel=cancel)


# Four masks on a 4 x 4 photo, one frame pixel per mask cell would be 1: the frame is 16 x 16.
LEFT, RIGHT, LOW, NONE = range(4)


def four_masks(scores, void=None):
    masks = torch.full((4, 4, 4), -8.0)
    masks[LEFT, :, :2] = 8
    masks[RIGHT, :, 2:] = 8
    masks[LOW, 2:, :] = 8
    shares = torch.tensor(scores)
    void = 1 - shares.sum(dim=1) if void is None else torch.tensor(void)
    return MaskProposals(masks, shares, void, FOUR, (4, 4), (16, 16), (16, 16))


def test_panoptic_worked_by_hand():
    # LOW (0.5) loses all its pixels to LEFT and RIGHT (0.9, 0.8); NONE is under 0.2, so nobody sees it.
    proposals = four_masks([[0.9, 0.0], [0.0, 0.8], [0.5, 0.0], [0.1, 0.1]])
    found = panoptic(proposals, {1})
    assert found.numbers.tolist() == [[1, 1, 2, 2]] * 4
    assert [(s.number, s.label, s.thing, s.area) for s in found.segments] == [
        (1, 1, True, 8),
        (2, 2, False, 8),
    ]
    assert [s.score for s in found.segments] == pytest.approx([0.9, 0.8])


def test_stuff_of_one_class_is_one_segment_and_things_are_not():
    proposals = four_masks([[0.7, 0.0], [0.9, 0.0], [0.0, 0.0], [0.0, 0.0]])
    merged = panoptic(proposals, {2})
    assert (merged.numbers == 1).all()
    assert [(s.area, s.score) for s in merged.segments] == [(16, pytest.approx(0.9))]
    assert panoptic(proposals, {1}).numbers.tolist() == [[1, 1, 2, 2]] * 4


def test_a_mask_that_wins_too_little_of_itself_is_dropped():
    # LOW (0.9) takes the lower half of LEFT (0.6), which keeps 4 of its 8 pixels.
    proposals = four_masks([[0.6, 0.0], [0.0, 0.0], [0.9, 0.0], [0.0, 0.0]])
    assert panoptic(proposals, {1}).numbers.tolist() == [[0] * 4] * 2 + [[1] * 4] * 2
    kept = panoptic(proposals, {1}, overlap_threshold=0.5)
    assert kept.numbers.tolist() == [[1, 1, 0, 0]] * 2 + [[2] * 4] * 2


def test_no_confident_mask_gives_no_segment():
    nothing = panoptic(four_masks([[0.1, 0.1]] * 4), {1})
    assert not nothing.numbers.any()
    assert nothing.segments == ()
    void = panoptic(four_masks([[0.3, 0.0]] * 4, void=[0.7] * 4), {1})
    assert void.segments == ()


def test_instances_worked_by_hand():
    proposals = four_masks([[0.9, 0.3], [0.0, 0.8], [0.5, 0.1], [0.6, 0.0]])
    found = instances(proposals, {1}, limit=5)
    # Best five pairs: LEFT a, RIGHT b, NONE a, LOW a, LEFT b; b is no thing, NONE is empty.
    assert [(one.mask, one.label, one.area) for one in found] == [(LEFT, 1, 8), (LOW, 1, 8), (NONE, 1, 0)]
    inside = torch.tensor(8.0).sigmoid().item()
    assert [one.score for one in found] == pytest.approx([0.9 * inside, 0.5 * inside, 0], rel=1e-3)
    assert instance_mask(proposals, LEFT).tolist() == [[True, True, False, False]] * 4
    assert instances(proposals, set()) == ()


@pytest.mark.parametrize("kind", METHODS)
def test_reports_say_what_the_numbers_say(model, kind):
    vocabulary = Vocabulary((("cat", "kitten"), ("sky",)), ("wall", "road"))
    found = classify(method_of(model, kind), random_pyramid(), random_text(vocabulary))
    shares = found.log_probabilities.softmax(dim=1)
    columns = {1: [0, 1], 2: [2], 0: [3, 4]}  # rows of each label's names
    for query, report in enumerate(report_masks(found, vocabulary, top=2)):
        column = shares[query, :-1].argmax().item()
        assert report.label == (1, 2, 0)[column]
        assert report.probability == pytest.approx(shares[query, column].item())
        assert report.void == pytest.approx(shares[query, -1].item())
        own = {vocabulary.rows[row]: found.name_logits[query, row].item() for row in columns[report.label]}
        assert report.name == max(own, key=own.get)
        for ranking, logits in (
            (report.in_vocabulary, found.proposed.in_vocabulary),
            (report.out_vocabulary, found.out_vocabulary),
        ):
            values, places = logits[query, :-1].softmax(dim=0).topk(2)
            assert [one.label for one in ranking] == [(1, 2, 0)[place] for place in places.tolist()]
            assert [one.probability for one in ranking] == pytest.approx(values.tolist())


def test_text_shift_is_the_cosine_of_before_and_after(model):
    text = random_text(CLASSES)
    assert text_shift(
        classify(method_of(model, "fc_clip"), random_pyramid(), text)
    ).tolist() == pytest.approx([1.0] * 12)
    found = classify(method_of(model, "maft_plus"), random_pyramid(), text)
    expected = (found.rows[0] @ text.embeddings[0] / found.rows[0].norm()).item()
    assert text_shift(found)[0].item() == pytest.approx(expected, abs=1e-6)
    assert text_shift(found).shape == (12,)


def test_head_sizes_are_those_asked_for():
    assert random_head(None, queries=3).mask_decoder.query_feat.weight.shape == (3, 64)
    assert head_config(layers=2).masks.layers == 2
