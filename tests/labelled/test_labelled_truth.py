"""Ground truth a person brings: masks, colour masks, COCO JSON, our own label maps."""

import json

import numpy as np
import pytest
from labelled_toys import classes_of, halves, save_mask
from PIL import Image

from ovs_core.export.coco import compressed, run_lengths
from ovs_core.export.outlines import outlines
from ovs_core.labelled.coco import drawn
from ovs_core.labelled.truth_files import read_truth

SIZE = (6, 8)
TYPED = (("dog", "hound"), ("sky",))


def names_of(truth):
    return [entry.names for entry in truth.classes]


def test_without_a_class_list_values_are_the_classes_as_typed(tmp_path):
    save_mask(tmp_path / "1.png", halves(2, 0, SIZE))
    truth = read_truth(tmp_path / "1.png", SIZE, TYPED)
    assert classes_of(truth)[0] == [2] * 4 + [0] * 4
    assert names_of(truth) == list(TYPED)
    save_mask(tmp_path / "1.png", halves(2, 17, SIZE))
    with pytest.raises(ValueError, match="holds the value 17, and 2 classes were asked for; give its class"):
        read_truth(tmp_path / "1.png", SIZE, TYPED)


def test_a_class_list_says_what_values_are(tmp_path):
    save_mask(tmp_path / "1.png", halves(9, 255, SIZE))
    (tmp_path / "names.txt").write_text("0 background\n4 sky\n9 cow|ox\n", encoding="utf-8")
    truth = read_truth(tmp_path / "1.png", SIZE, TYPED, tmp_path / "names.txt")
    assert names_of(truth) == [("sky",), ("cow", "ox")]
    assert classes_of(truth)[0] == [2] * 4 + [None] * 4


def test_the_report_of_one_of_our_own_label_maps_is_a_class_list(tmp_path):
    save_mask(tmp_path / "1.png", halves(3, 0, SIZE))
    classes = [{"id": 3, "names": ["cow"]}, {"id": 0, "names": ["other"]}]
    (tmp_path / "1.json").write_text(json.dumps({"classes": classes}), encoding="utf-8")
    truth = read_truth(tmp_path / "1.png", SIZE, TYPED, tmp_path / "1.json")
    assert names_of(truth) == [("cow",)]
    assert classes_of(truth)[0] == [1] * 4 + [0] * 4
    (tmp_path / "1.json").write_text("[1]", encoding="utf-8")
    with pytest.raises(ValueError, match="not the report of a label map"):
        read_truth(tmp_path / "1.png", SIZE, TYPED, tmp_path / "1.json")


@pytest.mark.parametrize(
    "lines",
    [
        "64 128 64 dog\n0 0 0 void\n0 0 255 background\n",
        "#408040 dog\n#000000 void\n#0000ff background\n",
        "name,r,g,b\ndog,64,128,64\nvoid, 0, 0, 0\nbackground,0,0,255\n",
    ],
    ids=["camvid", "hex", "csv"],
)
def test_colour_masks(tmp_path, lines):
    pixels = np.zeros((*SIZE, 3), np.uint8)
    pixels[:, :2], pixels[:, 2:4], pixels[0, 7] = (64, 128, 64), (0, 0, 255), (1, 2, 3)
    Image.fromarray(pixels).save(tmp_path / "1.png")
    (tmp_path / "colours.txt").write_text(lines, encoding="utf-8")
    truth = read_truth(tmp_path / "1.png", SIZE, TYPED, tmp_path / "colours.txt")
    assert names_of(truth) == [("dog",)]
    assert classes_of(truth)[0] == [1, 1, 0, 0, None, None, None, None]


def test_colour_masks_without_a_fitting_list(tmp_path):
    Image.new("RGB", SIZE[::-1], (9, 9, 9)).save(tmp_path / "1.png")
    (tmp_path / "colours.txt").write_text("#408040 dog\n", encoding="utf-8")
    with pytest.raises(ValueError, match="none of the colours"):
        read_truth(tmp_path / "1.png", SIZE, TYPED, tmp_path / "colours.txt")
    with pytest.raises(ValueError, match="one 8- or 16-bit channel"):
        read_truth(tmp_path / "1.png", SIZE, TYPED)
    with pytest.raises(ValueError, match=r"must be \(5, 8\) pixels, got \(6, 8\)"):
        read_truth(tmp_path / "1.png", (5, 8), TYPED, tmp_path / "colours.txt")
    (tmp_path / "colours.txt").write_text("#408040 dog\nnonsense\n", encoding="utf-8")
    with pytest.raises(ValueError, match="lines like"):
        read_truth(tmp_path / "1.png", SIZE, TYPED, tmp_path / "colours.txt")


# COCO JSON.


def coco(path, annotations, images=None, size=SIZE):
    content = {
        "images": images or [{"id": 7, "file_name": "a.jpg", "height": size[0], "width": size[1]}],
        "categories": [{"id": 44, "name": "dog"}, {"id": 3, "name": "sky"}],
        "annotations": annotations,
    }
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def entry(category, segmentation, **more):
    return {"image_id": 7, "category_id": category, "segmentation": segmentation, **more}


def test_objects_are_drawn_large_ones_first_and_crowds_are_not_known(tmp_path):
    small = [[0, 0, 2, 0, 2, 2, 0, 2]]
    large = [[0, 0, 6, 0, 6, 6, 0, 6]]
    crowd = {"size": list(SIZE), "counts": [42, 6]}  # the last column
    path = coco(tmp_path / "truth.json", [entry(44, small), entry(3, large), entry(44, crowd, iscrowd=1)])
    truth = read_truth(path, SIZE, TYPED)
    assert names_of(truth) == [("sky",), ("dog",)]
    assert classes_of(truth)[0] == [2, 2, 1, 1, 1, 1, 0, None]
    assert classes_of(truth)[5] == [1] * 6 + [0, None]
    assert truth.instances[0].tolist() == [1, 1, 2, 2, 2, 2, 0, 0]


def random_mask(seed, size=(23, 31)):
    blocks = np.random.default_rng(seed).random((8, 8)) < 0.5
    return blocks.repeat(4, axis=0).repeat(4, axis=1)[: size[0], : size[1]]


@pytest.mark.parametrize("seed", range(4))
def test_what_we_export_is_read_back_pixel_by_pixel(seed):
    mask = random_mask(seed)
    lengths = run_lengths(mask)
    for segmentation in (
        {"counts": lengths, "size": list(mask.shape)},
        {"counts": compressed(lengths), "size": list(mask.shape)},
        [ring.ravel().tolist() for ring in outlines(mask)],
    ):
        np.testing.assert_array_equal(drawn(segmentation, mask.shape), mask)


def test_a_polygon_holds_the_pixels_whose_centres_it_holds():
    triangle = drawn([[0, 0, 4, 0, 0, 4]], (5, 5))
    expected = [[x + 0.5 + y + 0.5 < 4 for x in range(5)] for y in range(5)]
    assert triangle.tolist() == expected
    assert not drawn([[-5, -5, -1, -5, -1, -1]], (5, 5)).any()
    assert drawn([[-5, -5, 9, -5, 9, 9, -5, 9]], (5, 5)).all()


def test_of_several_photos_the_name_says_which(tmp_path):
    images = [
        {"id": number, "file_name": f"x/{name}.jpg", "height": SIZE[0], "width": SIZE[1]}
        for number, name in ((7, "a"), (8, "b"))
    ]
    path = coco(tmp_path / "truth.json", [entry(44, [[0, 0, 8, 0, 8, 6, 0, 6]])], images)
    assert (read_truth(path, SIZE, TYPED, photo_name="a").labels == 2).all()
    assert (read_truth(path, SIZE, TYPED, photo_name="b").labels == 0).all()
    with pytest.raises(ValueError, match="about 2 photos, 0 of them called 'c'"):
        read_truth(path, SIZE, TYPED, photo_name="c")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "cannot be read as COCO"),
        ("[]", "cannot be read as COCO"),
        ("{}", "'images' is missing"),
        (json.dumps({"images": [], "categories": [], "annotations": []}), "about 0 photos"),
    ],
)
def test_other_json_is_refused_in_one_sentence(tmp_path, content, message):
    (tmp_path / "truth.json").write_text(content, encoding="utf-8")
    with pytest.raises(ValueError, match=message) as error:
        read_truth(tmp_path / "truth.json", SIZE, TYPED)
    assert "\n" not in str(error.value)


def test_coco_of_another_size_and_broken_runs(tmp_path):
    path = coco(tmp_path / "truth.json", [])
    with pytest.raises(ValueError, match=r"about a photo of 6 x 8 pixels, not \(9, 9\)"):
        read_truth(path, (9, 9), TYPED)
    coco(path, [entry(44, {"size": list(SIZE), "counts": [3, 4]})])
    with pytest.raises(ValueError, match="run lengths of 7 pixels do not fill"):
        read_truth(path, SIZE, TYPED)
