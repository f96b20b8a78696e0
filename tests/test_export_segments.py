"""Files of panoptic and instance answers: ids in pixels, COCO's documents, compressed run lengths."""

import io
import json

import numpy as np
import pytest
from hand_made import make_mask_result, make_proposals, make_result
from PIL import Image

from ovs_core.export.coco import box, compressed, run_lengths
from ovs_core.export.files import result_files, save_result
from ovs_core.export.segments import segment_ids

# A 4 x 6 photo: two dogs side by side above, grass below, and a third dog's mask that is the first one's too.
LEFT, RIGHT, BELOW = (np.zeros((4, 6), bool) for _ in range(3))
LEFT[:2, :3] = RIGHT[:2, 3:] = BELOW[2:] = True
TWO_DOGS = make_proposals([LEFT, RIGHT, BELOW], [[0.9, 0.0], [0.5, 0.25], [0.0, 0.7]])


@pytest.fixture(scope="module")
def files():
    result = make_mask_result(TWO_DOGS)
    return dict(result_files(result, "pair", ("panoptic", "instances"), "pair.jpg"))


def opened(content):
    return np.asarray(Image.open(io.BytesIO(content)))


def lengths_of(text):
    """Compressed run lengths read back, by the rule in COCO's documentation."""
    lengths, letters = [], iter(text)
    for letter in letters:
        value, shift = 0, 0
        while True:
            bits = ord(letter) - 48
            value |= (bits & 31) << shift
            shift += 5
            if not bits & 32:
                break
            letter = next(letters)
        value -= (bits & 16) << (shift - 4)
        lengths.append(value + (lengths[-2] if len(lengths) > 2 else 0))
    return lengths


def mask_of(segmentation):
    height, width = segmentation["size"]
    lengths = lengths_of(segmentation["counts"])
    return np.repeat(np.arange(len(lengths)) % 2, lengths).reshape(width, height).T.astype(bool)


@pytest.mark.parametrize(
    ("lengths", "text"),
    [
        ([2, 3, 1], "231"),
        ([1, 2, 3, 1], "123O"),  # the fourth is -1 from the second: 31 with its sign, 48 + 31
        ([2010, 50, 50, 50], "jn1b1b10"),  # 2010 = 26 + 32 * (30 + 32 * 1), 50 = 18 + 32 * 1
        ([16], "`0"),  # 16 alone would be read as negative: a second letter says it is not
        ([0], "0"),
    ],
)
def test_compressed_run_lengths_by_hand(lengths, text):
    assert compressed(lengths) == text
    assert lengths_of(text) == lengths


def test_compressed_run_lengths_read_back():
    random = np.random.default_rng(3)
    for _ in range(100):
        mask = np.kron(
            random.random(tuple(random.integers(1, 9, 2))) < 0.5, np.ones(random.integers(1, 30, 2))
        )
        assert lengths_of(compressed(run_lengths(mask > 0))) == run_lengths(mask > 0)


def test_box_by_hand():
    mask = np.zeros((5, 8), bool)
    mask[1:4, 2:7] = np.eye(3, 5)
    assert box(mask) == [2, 1, 3, 3]


def test_ids_are_spread_over_red_green_and_blue():
    numbers = np.array([[0, 1, 255, 256, 65536 + 2 * 256 + 3]], np.int32)
    pixels = segment_ids(numbers)
    assert pixels.tolist() == [[[0, 0, 0], [1, 0, 0], [255, 0, 0], [0, 1, 0], [3, 2, 1]]]
    assert (pixels @ np.array([1, 256, 65536]) == numbers).all()


def test_files_have_their_promised_names(files):
    assert list(files)[3:] == [
        "pair.maft_plus.panoptic.png",
        "pair.maft_plus.panoptic.json",
        "pair.maft_plus.panoptic.overlay.png",
        "pair.maft_plus.instances.json",
        "pair.maft_plus.instances.overlay.png",
    ]


def test_panoptic_files_by_hand(files):
    document = json.loads(files["pair.maft_plus.panoptic.json"])
    assert document["images"] == [{"id": 1, "file_name": "pair.jpg", "width": 6, "height": 4}]
    assert [(c["id"], c["name"], c["isthing"]) for c in document["categories"]] == [
        (1, "dog", 1),
        (2, "grass", 0),
    ]
    assert document["categories"][0]["color"] == [0, 158, 115]
    (annotation,) = document["annotations"]
    assert (annotation["image_id"], annotation["file_name"]) == (1, "pair.maft_plus.panoptic.png")
    keys = ("id", "category_id", "isthing", "iscrowd", "area", "bbox")
    assert [tuple(segment[key] for key in keys) for segment in annotation["segments_info"]] == [
        (1, 1, 1, 0, 6, [0, 0, 3, 2]),
        (2, 1, 1, 0, 6, [3, 0, 3, 2]),
        (3, 2, 0, 0, 12, [0, 2, 6, 2]),
    ]
    assert [s["score"] for s in annotation["segments_info"]] == pytest.approx([0.9, 0.5, 0.7])
    ids = opened(files["pair.maft_plus.panoptic.png"]) @ np.array([1, 256, 65536])
    assert ids.tolist() == [[1, 1, 1, 2, 2, 2]] * 2 + [[3] * 6] * 2


def test_instance_file_by_hand(files):
    document = json.loads(files["pair.maft_plus.instances.json"])
    first, second = document["annotations"]  # the third mask is a dog with score 0, too little for the file
    assert [(one["id"], one["category_id"]) for one in (first, second)] == [(1, 1), (2, 1)]
    assert [first["score"], second["score"]] == pytest.approx([0.9, 0.5], rel=1e-3)
    assert (first["area"], first["bbox"], first["iscrowd"]) == (6, [0, 0, 3, 2], 0)
    # Column by column: 2 in, 2 out, three times, then 12 out; 2 - 2 = 0 from the fourth on, 14 - 2 = 12 last.
    assert first["segmentation"] == {"counts": "022000<", "size": [4, 6]}
    for one, mask in ((first, LEFT), (second, RIGHT)):
        assert (mask_of(one["segmentation"]) == mask).all()


def test_pictures_tell_objects_of_a_class_apart(files):
    picture = opened(files["pair.maft_plus.panoptic.overlay.png"]).astype(int)
    left = (320 - 6) // 2  # a small photo stands in the middle of the paper
    first, second = picture[0, left], picture[0, left + 5]
    assert (second > first).all()  # the second dog is lighter
    instances = opened(files["pair.maft_plus.instances.overlay.png"])
    assert (instances[0, left] == picture[0, left]).all()


def test_the_caller_says_what_is_counted(tmp_path):
    written = save_result(
        make_mask_result(TWO_DOGS), tmp_path, "pair", ["panoptic", "instances"], stuff="dog"
    )
    document = json.loads((tmp_path / "pair.maft_plus.panoptic.json").read_text())
    assert [c["isthing"] for c in document["categories"]] == [0, 1]
    assert [s["area"] for s in document["annotations"][0]["segments_info"]] == [12, 12]
    instances = json.loads((tmp_path / "pair.maft_plus.instances.json").read_text())["annotations"]
    assert {one["category_id"] for one in instances} == {2}
    assert len(written) == 8


def test_a_result_without_masks_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(ValueError, match="labels pixels and proposes no masks"):
        save_result(make_result([[0, 1]]), tmp_path / "out", formats=["panoptic"])
    assert not (tmp_path / "out").exists()


def test_a_photo_without_segments_has_files_all_the_same():
    nothing = make_mask_result(make_proposals([LEFT, RIGHT], [[0.0, 0.0], [0.0, 0.0]]))
    files = dict(result_files(nothing, "empty", ["panoptic", "instances"]))
    document = json.loads(files["empty.maft_plus.panoptic.json"])
    assert document["annotations"][0]["segments_info"] == []
    assert not opened(files["empty.maft_plus.panoptic.png"]).any()
