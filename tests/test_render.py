"""Pictures: colours that hold, pixels worked by hand, legends that never break."""

import itertools

import numpy as np
import pytest
from hand_made import make_mask_result, make_proposals, make_result
from numpy.testing import assert_allclose, assert_array_equal

from ovs_core.evidence.segments import segments_of
from ovs_core.render.disagreement import (
    consensus,
    consensus_picture,
    disagreement,
    disagreement_picture,
    pairwise_agreement,
)
from ovs_core.render.heatmap import blend, common_range, heatmap, scale_bar
from ovs_core.render.legend import figure, legend, percent, with_legend
from ovs_core.render.overlay import borders, label_picture, overlay, paint
from ovs_core.render.palette import PALETTE, colors_for, shades, text_color
from ovs_core.render.segments import segment_colors, segment_figure, segment_names, segment_summaries
from ovs_core.types import OTHER_COLOR, Vocabulary

# Linear RGB under full colour blindness: Machado, Oliveira and Fernandes (2009), severity 1.
SIGHT = {
    "normal": np.eye(3),
    "protanopia": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    ),
    "deuteranopia": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
    ),
}


def oklab(colors, sight):
    channels = np.asarray(colors) / 255
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    seen = np.clip(linear @ SIGHT[sight].T, 0, 1)
    lms = seen @ np.array(
        [[0.4122214708, 0.2119034982, 0.0883024619], [0.5363325363, 0.6806995451, 0.2817188376],
         [0.0514459929, 0.1073969566, 0.6299787005]]
    )  # fmt: skip
    return np.cbrt(lms) @ np.array(
        [[0.2104542553, 1.9779984951, 0.0259040371], [0.7936177850, -2.4285922050, 0.7827717662],
         [-0.0040720468, 0.4505937099, -0.8086757660]]
    )  # fmt: skip


def closest(colors, sight):
    points = oklab(colors, sight)
    return min(np.linalg.norm(a - b) for a, b in itertools.combinations(points, 2))


# palette


def test_colours_are_the_same_in_every_session():
    assert colors_for(["dog", "cat", "person", "sky", "grass"]) == (
        (128, 128, 128),
        (0, 158, 115),
        (252, 168, 180),
        (132, 0, 96),
        (86, 180, 233),
        (120, 204, 120),
    )


def test_a_class_keeps_its_colour_in_any_company_case_and_spacing():
    alone = colors_for(["dog"])[1]
    assert colors_for(["person", "Dog"])[2] == alone
    assert colors_for(["  DOG ", "sky"])[1] == alone


def test_adding_a_class_never_recolours_an_earlier_one():
    names = [f"class {index}" for index in range(40)]
    for count in range(1, 40):
        assert colors_for(names[: count + 1])[: count + 1] == colors_for(names[:count])


@pytest.mark.parametrize("draw", range(20))
def test_few_classes_are_never_mistaken_for_one_another(draw):
    """As bus and road once were, two reds."""
    names = ["bus", "road"] if draw == 0 else [f"thing {draw} {index}" for index in range(8)]
    colors = colors_for(names)[1:]
    assert closest(colors[:4], "normal") >= 0.2
    assert closest(colors, "normal") >= 0.15


def test_two_classes_never_share_a_colour_not_even_of_2000():
    for count in (24, 25, 847, 2000):
        colors = colors_for([f"thing {index}" for index in range(count)])
        assert len(colors) == count + 1
        assert len(set(colors)) == count + 1


def test_a_name_typed_twice_still_gets_two_colours():
    first, second = colors_for(["dog", "dog"])[1:]
    assert first != second


def test_vocabulary_and_list_of_names_give_the_same_colours():
    vocabulary = Vocabulary((("dog", "puppy"), ("grass",)), ("wall",))
    assert colors_for(vocabulary) == colors_for(["dog", "grass"])


@pytest.mark.parametrize(
    ("sight", "first_twelve", "all_of_them"),
    [("normal", 0.13, 0.11), ("protanopia", 0.07, 0.055), ("deuteranopia", 0.07, 0.055)],
)
def test_palette_stays_apart_for_every_sight(sight, first_twelve, all_of_them):
    assert closest(PALETTE[:12], sight) >= first_twelve
    assert closest(PALETTE, sight) >= all_of_them


def test_no_class_colour_looks_like_other():
    grey = oklab([OTHER_COLOR], "normal")
    assert np.linalg.norm(oklab(PALETTE, "normal") - grey, axis=1).min() > 0.08


@pytest.mark.parametrize(
    ("background", "ink"),
    [((255, 255, 255), 0), ((0, 0, 0), 255), ((240, 228, 66), 0), ((72, 24, 180), 255), ((118, 118, 118), 0),
     ((117, 117, 117), 255)],
)  # fmt: skip
def test_text_colour_has_the_higher_contrast(background, ink):
    assert text_color(background) == (ink,) * 3


# overlay


def test_label_picture_is_a_table_look_up():
    picture = label_picture(np.array([[0, 1, 1], [2, 2, 0]]), [(9, 9, 9), (1, 2, 3), (255, 0, 7)])
    assert picture.dtype == np.uint8
    assert picture.tolist() == [[[9, 9, 9], [1, 2, 3], [1, 2, 3]], [[255, 0, 7], [255, 0, 7], [9, 9, 9]]]


def test_label_picture_refuses_too_few_colours():
    with pytest.raises(ValueError, match="colors must be"):
        label_picture(np.array([[3]]), [(0, 0, 0)] * 3)


def test_tint_mixes_photo_and_class_colour():
    image = np.array([[[100, 200, 0]]], np.uint8)
    picture = paint(image, np.array([[1]]), [(0, 0, 0), (20, 40, 255)], opacity=0.5, outline=False)
    assert picture.tolist() == [[[60, 120, 128]]]  # (100+20)/2, (200+40)/2, 255/2 rounded up


def test_other_stays_as_the_photo_is():
    image = np.array([[[200, 100, 0], [200, 100, 0]]], np.uint8)
    picture = paint(image, np.array([[0, 1]]), [(128, 128, 128), (0, 0, 0)], opacity=0.5, outline=False)
    assert picture.tolist() == [[[200, 100, 0], [100, 50, 0]]]


def test_opacity_zero_without_outline_is_the_photo_and_one_is_the_label_picture():
    image = np.random.default_rng(0).integers(0, 256, (3, 5, 3), np.uint8)
    labels = np.ones((3, 5), np.uint8)
    colors = [(0, 0, 0), (7, 8, 9)]
    assert_array_equal(paint(image, labels, colors, 0, outline=False), image)
    assert_array_equal(paint(image, labels, colors, 1, outline=False), label_picture(labels, colors))


def test_outline_is_white_with_a_dark_rim():
    labels = np.array([[1, 1, 1, 2, 2, 2]])
    picture = paint(np.full((1, 6, 3), 100, np.uint8), labels, [(0, 0, 0), (100,) * 3, (100,) * 3])
    assert picture[0, :, 0].tolist() == [100, 50, 255, 50, 100, 100]


def test_borders_and_their_growth():
    labels = np.zeros((5, 7), int)
    labels[:, 4:] = 3
    assert_array_equal(np.flatnonzero(borders(labels)[2]), [3])
    assert_array_equal(np.flatnonzero(borders(labels, growth=1)[2]), [2, 3, 4])
    assert not borders(np.ones((4, 4), int)).any()


def test_overlay_leaves_photo_and_labels_untouched():
    result = make_result([[0, 1, 2], [1, 1, 2]])
    image, labels = result.image.copy(), result.labels.copy()
    assert overlay(result).shape == (2, 3, 3)
    assert_array_equal(result.image, image)
    assert_array_equal(result.labels, labels)


@pytest.mark.parametrize(
    ("labels", "opacity", "message"),
    [(np.zeros((3, 2)), 0.5, "photo's size"), (np.zeros((2, 3)), 1.5, "opacity")],
)
def test_paint_refuses_wrong_input(labels, opacity, message):
    with pytest.raises(ValueError, match=message):
        paint(np.zeros((2, 3, 3), np.uint8), labels.astype(int), [(0, 0, 0)], opacity)


def test_color_table_is_indexed_by_label():
    result = make_result([[0, 1, 2]])
    assert [tuple(row) for row in result.label_map.color_table] == list(colors_for(["dog", "grass"]))


# legend


def test_legend_is_below_the_photo_and_shows_every_colour():
    result = make_result(np.repeat([[0, 1, 2]], 40, axis=0).repeat(200, axis=1))
    picture = figure(result, opacity=0, outline=False)
    assert picture.shape[0] > 40
    assert picture.shape[1] == 600
    assert_array_equal(picture[:40], result.image)
    colors = {tuple(pixel) for pixel in picture[40:].reshape(-1, 3)}
    assert set(colors_for(["dog", "grass"])) <= colors


def test_a_class_that_won_nothing_has_an_empty_chip():
    strip = legend(make_result(np.ones((4, 6))).classes, 600)
    colors = {tuple(pixel) for pixel in strip.reshape(-1, 3)}
    dog, grass = colors_for(["dog", "grass"])[1:]
    assert dog in colors
    assert grass not in colors


def test_legend_wraps_instead_of_running_out():
    names = tuple(f"a class with a name {index}" for index in range(12))
    classes = make_result(np.arange(1, 13)[None], names=names).classes
    narrow, wide = legend(classes, 330), legend(classes, 1000)
    assert narrow.shape[1] == 330
    assert narrow.shape[0] > 1.5 * wide.shape[0]
    assert (narrow[:, -3:] == 255).all()  # nothing touches the right edge


def test_legend_of_very_many_classes_stays_short():
    names = tuple(f"thing {index}" for index in range(847))
    strip = legend(make_result(np.zeros((3, 4)), names=names).classes, 640)
    assert strip.shape[0] < 700


@pytest.mark.parametrize(
    "name",
    [
        "Собака",
        "犬",
        "كلب",
        "🐕",
        "a\nb",
        "\x00",
        "\ud800",
        "x" * 200,
        "<script>alert(1)</script>",
        "e\u0301",
        " ",
    ],
)
def test_no_name_breaks_the_legend(name):
    result = make_result([[0, 1], [1, 1]], names=(name,))
    assert figure(result).shape[1] == 320


def test_figure_shrinks_big_photos_keeping_their_shape():
    result = make_result(np.ones((50, 2000)))
    picture = figure(result, max_side=400)
    assert picture.shape[1] == 400
    assert picture.shape[0] == 10 + legend(result.classes, 400).shape[0]


def test_small_pictures_are_centred():
    page = with_legend(np.zeros((2, 4, 3), np.uint8), make_result([[1]]).classes)
    assert np.flatnonzero((page[0] == 0).all(axis=1)).tolist() == [158, 159, 160, 161]


@pytest.mark.parametrize(
    ("share", "text"),
    [(0, "0 %"), (0.0001, "< 0.1 %"), (0.0123, "1.2 %"), (0.25, "25 %"), (1, "100 %")],
)
def test_percent(share, text):
    assert percent(share) == text


# heat map


def test_heatmap_runs_from_first_to_last_colour():
    picture = heatmap(np.array([[0.0, 1.0]]), (2, 6), 0, 1)
    assert picture.shape == (2, 6, 3)
    assert picture[0, 0].tolist() == [68, 1, 84]  # viridis begins dark purple
    assert picture[0, -1].tolist() == [253, 231, 36]  # and ends yellow


def test_heatmap_scale_is_the_callers():
    low = heatmap(np.array([[2.0]]), (1, 1), 2, 4)
    middle = heatmap(np.array([[3.0]]), (1, 1), 2, 4)
    assert low[0, 0].tolist() == [68, 1, 84]
    assert middle[0, 0].tolist() == [32, 144, 140]
    assert_array_equal(heatmap(np.array([[-9.0]]), (1, 1), 2, 4), low)
    assert_array_equal(heatmap(np.array([[5.0]]), (1, 1), 5, 5), low)


def test_common_range_covers_all_maps():
    assert common_range([np.array([[1.0, 2.0]]), np.array([[-3.0, np.inf]])]) == (-3, 2)
    assert common_range([np.array([[np.nan]])]) == (0, 1)


@pytest.mark.parametrize(
    ("values", "low", "high"), [(np.zeros(3), 0, 1), (np.zeros((2, 2)), 1, 0), (np.array([[np.nan]]), 0, 1)]
)
def test_heatmap_refuses_what_it_cannot_draw(values, low, high):
    with pytest.raises(ValueError, match=r"heat map|scale"):
        heatmap(values, (2, 2), low, high)


def test_blend_greys_the_photo_under_the_colours():
    photo = np.array([[[200, 100, 0]]], np.uint8)  # luma 118.5
    assert blend(np.array([[[10, 20, 30]]], np.uint8), photo, 0.5).tolist() == [[[64, 69, 74]]]


def test_scale_bar_has_the_ends_of_the_map():
    bar = scale_bar(50, 4, "inferno")
    assert bar.shape == (4, 50, 3)
    assert bar[0, 0].tolist() == [0, 0, 3]


# disagreement


def test_disagreement_counts_who_leaves_the_majority():
    maps = [np.array([row]) for row in ([1, 1, 1, 1], [1, 1, 2, 2], [1, 1, 2, 3], [1, 5, 1, 4])]
    assert_allclose(disagreement(maps), [[0, 0.25, 0.5, 0.75]])


def test_disagreement_of_two():
    assert_allclose(disagreement([np.array([[0, 1]]), np.array([[0, 2]])]), [[0, 0.5]])


def test_disagreement_picture_is_dark_where_all_agree():
    photo = np.zeros((1, 2, 3), np.uint8)
    picture, share = disagreement_picture([make_result([[1, 1]], photo), make_result([[1, 2]], photo)])
    assert share.tolist() == [[0, 0.5]]
    assert picture[0, 0].max() <= 3
    assert picture[0, 1].min() >= 100


def test_consensus_is_the_majority_and_a_tie_goes_to_the_earlier_method():
    maps = [np.array([row]) for row in ([1, 1, 3, 0], [2, 1, 3, 1], [2, 0, 3, 2], [2, 0, 3, 3])]
    labels, votes = consensus(maps)
    assert labels.tolist() == [[2, 1, 3, 0]]
    assert votes.tolist() == [[3, 2, 4, 1]]
    assert_allclose(1 - votes / 4, disagreement(maps))


def test_pairwise_agreement_counts_pixels_with_the_same_label():
    maps = [np.array([row]) for row in ([1, 1, 0, 2], [1, 2, 0, 1])]
    assert pairwise_agreement(maps).tolist() == [[1, 0.5], [0.5, 1]]


def test_consensus_picture_is_stronger_where_more_agree():
    photo = np.full((1, 3, 3), 100, np.uint8)
    results = [make_result([row], photo) for row in ([1, 1, 1], [1, 1, 1], [1, 1, 2])]
    picture, votes = consensus_picture(results)
    assert votes.tolist() == [[3, 3, 2]]
    color = results[0].label_map.color_table[1].astype(int)
    distance = np.abs(picture[0].astype(int) - color).sum(axis=1)
    assert distance[0] < distance[2]
    with pytest.raises(ValueError, match="same classes"):
        consensus_picture([make_result([[1, 0]]), make_result([[1, 0]], names=("grass", "dog"))])


def test_disagreement_refuses_different_questions():
    one = make_result([[1, 0]])
    with pytest.raises(ValueError, match="at least two"):
        disagreement_picture([one])
    with pytest.raises(ValueError, match="one size"):
        disagreement_picture([one, make_result([[1], [0]])])
    with pytest.raises(ValueError, match="same classes"):
        disagreement_picture([one, make_result([[1, 0]], names=("grass", "dog"))])


# segments


def test_shades_begin_with_the_colour_and_never_repeat():
    assert shades((0, 114, 178), 1) == ((0, 114, 178),)
    assert shades((100, 100, 100), 3) == ((100, 100, 100), (201, 201, 201), (40, 40, 40))
    for color in PALETTE:
        assert len(set(shades(color, 12))) == 12


def two_dogs_and_grass():
    masks = [[[1, 1, 0, 0]] * 2, [[0, 0, 1, 0]] * 2, [[0, 0, 0, 1]] * 2]
    result = make_mask_result(make_proposals(masks, [[0.9, 0.0], [0.6, 0.0], [0.0, 0.1]]))
    return result, segments_of(result.evidence, "panoptic", {1, 2})


def test_segments_take_their_class_colour_and_are_counted():
    result, found = two_dogs_and_grass()
    dog = (0, 158, 115)
    assert segment_colors(found, result).tolist() == [list(OTHER_COLOR), *map(list, shades(dog, 2))]
    assert segment_names(found, result) == {1: "dog 1", 2: "dog 2"}
    dogs, grass, other = segment_summaries(found, result)
    assert (dogs.names, dogs.color, dogs.area_share) == (("dog (2)",), dog, 0.75)
    assert dogs.mean_score == pytest.approx((4 * 0.9 + 2 * 0.6) / 6)
    assert (grass.names, grass.area_share, grass.mean_score) == (("grass",), 0, 0)
    assert (other.label, other.area_share) == (0, 0.25)


def test_segments_are_drawn_like_labels():
    result, found = two_dogs_and_grass()
    painted = paint(result.image, found.numbers, segment_colors(found, result))
    left = (320 - 4) // 2
    assert_array_equal(segment_figure(found, result)[:2, left : left + 4], painted)
