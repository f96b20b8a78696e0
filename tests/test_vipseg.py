"""VIPSeg: mask values of all kinds, and measuring on a clip whose answers are known."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from ovs_core.video.clips import VideoError
from ovs_core.video.segment import VideoSettings
from ovs_core.video.vipseg import UNSEEN_NAMES, measure_vipseg, open_vipseg, read_truth

NAMES = (("wall", 0), ("fan", 1), ("person", 1))


@pytest.fixture
def root(tmp_path):
    entries = [{"id": i, "name": name, "isthing": thing} for i, (name, thing) in enumerate(NAMES)]
    (tmp_path / "panoVIPSeg_categories.json").write_text(json.dumps(entries[::-1]))
    (tmp_path / "val.txt").write_text("clip\n")
    for number in range(9):
        photo = tmp_path / "imgs" / "clip" / f"{number:08}.jpg"
        photo.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (6, 4), (90, 90, 90)).save(photo)
        values = np.zeros((4, 6), np.uint16)
        values[:, :2], values[:, 2:4], values[:, 4] = 1, 200 + number, 301
        mask = tmp_path / "panomasks" / "clip" / f"{number:08}.png"
        mask.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(values).save(mask)
    return tmp_path


def test_values_are_classes_instances_and_void(root):
    data = open_vipseg(root)
    values = np.array([[0, 1, 2, 3, 200, 301, 399, 100, 9900, 124]], np.uint16)
    Image.fromarray(values).save(root / "mask.png")
    found = read_truth(root / "mask.png", data)
    # 100 to 124 are numbers of classes that this toy does not have; 9900 is one too.
    assert found.labels[0].tolist() == [0, 1, 2, 3, 2, 3, 3, 0, 0, 0]
    assert found.known[0].tolist() == [False, *[True] * 6, False, False, False]
    assert [entry.names for entry in found.classes] == [("wall",), ("fan",), ("person",)]


def test_an_instance_of_a_material_is_a_known_mistake(root):
    path = root / "panoVIPSeg_categories.json"
    entries = json.loads(path.read_text())
    path.write_text(json.dumps([{**entry, "isthing": 0} for entry in entries]))
    Image.fromarray(np.array([[200, 2]], np.uint16)).save(root / "mask.png")
    truth = read_truth(root / "mask.png", open_vipseg(root))
    assert (truth.labels[0].tolist(), truth.known[0].tolist()) == ([0, 2], [False, True])


def test_a_mask_of_another_size_is_named(root):
    Image.fromarray(np.zeros((4, 5), np.uint16)).save(root / "panomasks" / "clip" / "00000000.png")
    with pytest.raises(ValueError, match=r"the mask 00000000\.png must be .* of \(4, 6\) pixels"):
        measure_vipseg(None, open_vipseg(root), VideoSettings())


def test_classes_come_in_the_order_of_their_numbers(root):
    data = open_vipseg(root)
    assert [entry.name for entry in data.classes] == ["wall", "fan", "person"]
    assert data.vocabulary.names == ("wall", "fan", "person")
    assert len(UNSEEN_NAMES) == 12


@pytest.mark.parametrize(
    ("broken", "sentence"),
    [
        ("val.txt", "cannot be read as VIPSeg"),
        ("panoVIPSeg_categories.json", "cannot be read as VIPSeg"),
        ("panomasks/clip/00000003.png", "is not whole"),
    ],
)
def test_a_folder_that_is_not_whole_ends_in_one_sentence(root, broken, sentence):
    (root / broken).unlink()
    with pytest.raises(VideoError, match=sentence):
        open_vipseg(root)


def test_measuring(root):
    """Wall is right but for one column in the last frame, the fan half right, the person never answered."""

    class Known:
        number = 0

        def segment(self, photo, vocabulary, **settings):
            labels = np.zeros((4, 6), np.uint8)
            labels[:, :2], labels[:, 2] = 1, 2
            if self.number == 8:
                labels[:, 1] = 2
            self.number += 1
            return SimpleNamespace(labels=labels)

    scores = measure_vipseg(Known(), open_vipseg(root), VideoSettings())
    wall = (9 * 8 - 4) / (9 * 8)
    fan = 9 * 4 / (9 * 8 + 4)
    assert scores.iou == pytest.approx((wall, fan, 0.0))
    assert (scores.seen, scores.unseen) == pytest.approx(((wall + 0) / 2, fan))
    assert scores.harmonic == pytest.approx(2 * scores.seen * fan / (scores.seen + fan))
    assert scores.mean == pytest.approx((wall + fan) / 3)
    # 20 lasting pixels; right all along: 12 of them in frames 0 to 7, 8 once the last frame is in.
    assert scores.consistency[8] == pytest.approx((12 / 20 + 8 / 20) / 2)
    assert scores.consistency[16] is None
    assert scores.flicker == pytest.approx(4 / (8 * 24))
    assert scores.frames == 9


def test_measuring_asks_the_engine(root, engine):
    scores = measure_vipseg(engine, open_vipseg(root), VideoSettings(options={"short_side": 64}))
    assert scores.frames == 9
    assert 0 <= scores.mean <= 1
