"""SAM through the engine: a file of the official layout, found, loaded, asked, told apart in the cache."""

import numpy as np
import pytest
import torch
from sam_toys import PaintedMasks, random_state, rectangle, small_sam

from ovs_core.checkpoints import CheckpointError, WeightStore
from ovs_core.engine.request import Progress, Request
from ovs_core.evidence.decide import decide
from ovs_core.evidence.score_map import ScoreMap
from ovs_core.image import Photo
from ovs_core.refine import REFINERS
from ovs_core.refine.sam.refiners import PROMPTS, VOTE
from ovs_core.types import Vocabulary
from ovs_core.vocabulary import parse_vocabulary


def random_photo(height, width):
    return Photo(np.random.default_rng(0).integers(0, 256, (height, width, 3)).astype(np.uint8))


@pytest.fixture(scope="module")
def weights_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights")
    torch.save(random_state(), folder / "mobile_sam.pt")
    return folder


def test_without_weights_the_sentence_says_what_to_do(make_engine):
    engine = make_engine(offline=True)
    with pytest.raises(
        CheckpointError, match=r"MobileSAM .*41 MB.*weights get mobile-sam.*another refinement"
    ):
        engine.segment(random_photo(40, 60), "dog; grass", refiner="sam-vote")


def test_what_needs_no_weights_is_offered_first():
    names = list(REFINERS)
    assert names.index("guided") < names.index("sam-vote")
    assert [name for name, spec in REFINERS.items() if spec.weights] == ["sam-vote", "sam-prompts"]


@pytest.mark.parametrize("refiner", ["sam-vote", "sam-prompts"])
def test_an_engine_with_a_file_answers(make_engine, weights_dir, refiner):
    engine = make_engine(weights_dir=weights_dir)
    photo = random_photo(48, 72)
    options = {"sam_points": 2} if refiner == "sam-vote" else {}
    steps = []
    for event in engine.run(Request(photo, parse_vocabulary("dog; grass"), refiner=refiner, options=options)):
        if isinstance(event, Progress) and event.stage == "refine":
            steps.append((event.done, event.total))
        result = event
    assert result.label_map.labels.shape == (48, 72)
    assert result.refiner == refiner
    assert steps
    assert len(result.weights["mobile_sam.pt"]) == 64
    again = engine.segment(photo, "dog; grass", refiner=refiner, options=options)
    assert np.array_equal(again.label_map.labels, result.label_map.labels)
    assert "refine" not in again.seconds  # remembered


def test_a_wrong_file_is_refused(make_engine, tmp_path):
    torch.save({"visual.proj": torch.zeros(4, 4)}, tmp_path / "mobile_sam.pt")
    with pytest.raises(CheckpointError, match="is not a Segment Anything file"):
        make_engine(weights_dir=tmp_path).segment(random_photo(40, 60), "dog", refiner="sam-prompts")


def test_the_catalogue_knows_every_model():
    store = WeightStore()
    for name in VOTE.weights:
        entry = store.entry(name)
        assert entry.kind == "sam"
        assert entry.url
        assert entry.sha256


def dog_and_cat(size=(64, 128)):
    rows = torch.full((3, 16, 32), -1.0)
    rows[2] = 0.0
    rows[1, 3:13, 3:15] = 1.0  # dog, a little too large
    return ScoreMap(rows, Vocabulary((("cat",), ("dog",)), ("background",)), size)


def test_prompted_labels_follow_the_masks_and_the_threshold_still_counts():
    sam = small_sam()
    sam.mask_decoder = PaintedMasks([rectangle(28, 28, 100, 116)], [0.95])
    spec = PROMPTS.with_model(sam, "painted")
    assert spec.model == "painted"
    photo = random_photo(64, 128).pixels
    looked = spec.look(photo, (0, 0), {}, torch.device("cpu"), None, None)
    plain = dog_and_cat()
    refined = spec.refine(looked, plain, {}, None, None)
    before, _ = decide(plain, 10.0, 0.0)
    after, sure = decide(refined, 10.0, 0.0)
    assert before[13, 13] == after[20, 20] == 2
    assert after[13, 13] == 0
    assert (after == 2).sum() == pytest.approx(36 * 44, rel=0.03)
    assert sure.shape == (64, 128)
    assert not decide(refined, 10.0, 1.0)[0].any()
    kept = spec.refine(looked, plain, {"sam_prompt_iou": 0.99}, None, None)
    assert np.array_equal(decide(kept, 10.0, 0.0)[0], before)


def test_votes_inside_masks_of_everything():
    sam = small_sam()
    sam.mask_decoder = PaintedMasks([rectangle(0, 0, 128, 128), rectangle(0, 128, 128, 256)], [0.9, 0.9])
    spec = VOTE.with_model(sam, "painted")
    options = {"sam_points": 2, "region_majority": 0.4}
    looked = spec.look(random_photo(64, 128).pixels, (0, 0), options, torch.device("cpu"), None, None)
    after, _ = decide(spec.refine(looked, dog_and_cat(), options, None, None), 10.0, 0.0)
    assert (after[:, 66:] == 0).all()
    assert len(np.unique(after[:, :62])) == 1
