"""Views as sections: a real MVP-SEG on tiny towers, hand-made maps, and how each way of drawing behaves."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hand_made import make_result
from tiny_clip import make_model

from ovs_core.encoders.clip_vit import VisionEncoder
from ovs_core.encoders.text import TextEncoder
from ovs_core.engine import Result
from ovs_core.methods import METHODS
from ovs_core.methods.mvp_seg.captions import MVP_SEG_VIEWS
from ovs_core.methods.mvp_seg.contexts import Contexts
from ovs_core.methods.mvp_seg.model import ContextText, build_mvp_seg
from ovs_core.methods.papers import TITLES
from ovs_core.options import Preset
from ovs_core.render import lettering
from ovs_core.render.palette import PALETTE, colors_for
from ovs_core.types import View
from ovs_core.ui.maps_panel import map_file
from ovs_core.ui.view_html import section_html, sections_html, source_html
from ovs_core.ui.view_pictures import Seen, figure, of_class, sections, seen
from ovs_core.views import Source

CPU = torch.device("cpu")
LOOKS = tuple({view.kind: view for spec in METHODS.values() for view in spec.views}.values())
KINDS = frozenset(view.kind for view in MVP_SEG_VIEWS)
OWN = [view.kind for view in MVP_SEG_VIEWS if not view.special]
WHOLE = Preset(scale=100, threshold=0.0, short_side=64, window=None, stride=0, templates="single1")


def result_with(
    *views: View, names: tuple[str, ...] = ("dog", "grass"), size: tuple[int, int] = (40, 60)
) -> Result:
    labels = np.full(size, 2, np.uint8)
    photo = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    result = make_result(labels, photo, names=names)
    return replace(result, views=views)


@pytest.fixture(scope="module")
def mvp_seen() -> Seen:
    """A real answer of MVP-SEG with random contexts, which only a test may look at."""
    model = make_model()
    text = TextEncoder(model, "tiny:0:float32", CPU)
    vision = VisionEncoder(
        "mini", "tiny:0:float32", model.visual, (0.5,) * 3, (0.25,) * 3, 16, CPU, torch.float32
    )
    vectors = torch.randn(4, 4, 32, generator=torch.Generator().manual_seed(0))
    contexts = Contexts(vectors[1:], vectors[0], "ab" * 32, 5.0, 0.5, 100.0)
    method = build_mvp_seg(model.visual, text, contexts)
    plain = result_with()
    bank = ContextText(text, contexts).embed(plain.vocabulary)
    answer = method.ask(vision.encode(plain.image, WHOLE), bank, {}, views=KINDS)
    return seen(replace(plain, views=answer.views), MVP_SEG_VIEWS)


def test_every_view_of_every_method_says_what_it_shows() -> None:
    assert len({view.kind for view in LOOKS}) == len(LOOKS)
    for view in LOOKS:
        assert view.sentence.endswith(".")
        assert len(view.heading) < (80 if view.special else 50)


@pytest.mark.parametrize("method", METHODS)
def test_every_view_names_its_equation_and_its_paper(method: str) -> None:
    spec = METHODS[method]
    for declared, view in zip(spec.views, spec.cited_views, strict=True):
        assert view.source.shows == (declared.source.shows or spec.rule) != ""
        assert view.source.arxiv == (declared.source.arxiv or spec.paper)
        assert view.source.title == TITLES.get(view.source.arxiv, spec.title)
        assert view.source.arxiv in ("", *TITLES)


def test_a_source_is_a_link_in_a_section_and_words_on_its_picture(mvp_seen: Seen) -> None:
    cited = {view.kind: view for view in METHODS["mvp_seg"].cited_views}
    found = replace(mvp_seen, views=tuple((cited[look.kind], view) for look, view in mvp_seen.views))
    (section,) = (section for section in sections(found, 1) if section.kind == "view_maps")
    html = section_html(section)
    assert "<i>m</i><sub>i</sub> = cos(F, <i>t</i><sub>i</sub>)" in html
    assert 'href="https://arxiv.org/abs/2304.06957" target="_blank" rel="noopener noreferrer">MVP' in html
    assert "arXiv 2304.06957)" in html
    (plain,) = (section for section in sections(mvp_seen, 1) if section.kind == "view_maps")
    assert section.figure is not None
    assert plain.figure is not None
    assert section.figure.shape[0] > plain.figure.shape[0]  # the source stands below
    said = source_html(Source("x < y", "", "A <b>paper</b>"))
    assert said == '<p class="ovs-source">x &lt; y (A &lt;b&gt;paper&lt;/b&gt;)</p>'
    assert source_html(Source()) == ""


def test_a_view_as_npz_holds_every_map_with_names_scale_and_size() -> None:
    maps = torch.tensor([[[0.0, 0.25]], [[0.5, -1.0]]])  # (2, 1, 2): two classes, a grid of 1 x 2
    view = View("global_map", "Global", maps, ("dog", "草 | grass"))
    result = replace(result_with(view), source="a/park:1.jpg")
    found = seen(result, METHODS["mvp_seg"].cited_views)
    path = Path(map_file(found, "global_map", "npz", 1, False, (0.5, 0.5)))
    assert path.name == f"park-1.{result.method}.global_map.npz"
    with np.load(path, allow_pickle=False) as file:
        held = {name: file[name] for name in file.files}
    assert np.array_equal(held["maps"], maps.numpy())
    assert held["labels"].tolist() == ["dog", "草 | grass"]
    assert held["classes"].tolist() == ["dog", "grass"]
    assert held["scale"].tolist() == [-1.0, 0.5]
    assert held["photo_size"].tolist() == [40, 60]
    assert (str(held["kind"]), str(held["arxiv"])) == ("global_map", "2304.06957")
    assert str(held["equation"]) == "m_0 = cos(F, t_0)"
    assert not {"words", "columns"} & set(held)


def test_a_view_of_words_as_npz_holds_them_and_has_no_picture() -> None:
    numbers = torch.tensor([[[0.5, 0.25]]])
    view = View("mask_words", "Words", numbers, ("1",), (0, 1), (("dog", "cat"),), ("a", "b"))
    found = seen(result_with(view), METHODS["fc_clip"].cited_views)
    with np.load(map_file(found, "mask_words", "npz", 1, False, (0, 0)), allow_pickle=False) as file:
        assert file["words"].tolist() == [[["dog", "cat"]]]
        assert file["columns"].tolist() == ["a", "b"]
        assert file["scale"].tolist() == [0, 1]
    with pytest.raises(ValueError, match="take its NPZ"):
        map_file(found, "mask_words", "png", 1, False, (0, 0))
    for lost, kind in ((None, "mask_words"), (found, "nonsense"), (found, None)):
        with pytest.raises(ValueError, match="press Inspect first"):
            map_file(lost, kind, "npz", 1, False, (0, 0))


def test_an_affinity_as_a_picture_is_the_map_of_the_place() -> None:
    maps = torch.eye(6).reshape(6, 2, 3)  # every place of a grid of 2 x 3 looks at itself
    labels = tuple(f"place {number}" for number in range(6))
    found = seen(result_with(View("affinity", "Affinity", maps, labels)), METHODS["naclip"].cited_views)
    pictures = set()
    for row in range(2):
        for column in range(3):
            picture = figure(found, "affinity", 1, point=((row + 0.5) / 2, (column + 0.5) / 3))
            assert picture is not None
            pictures.add(picture.tobytes())
    assert len(pictures) == 6
    corner, last = (figure(found, "affinity", 1, point=place) for place in ((1.0, 1.0), (0.9, 0.9)))
    assert np.array_equal(corner, last)
    assert sections(found, 1) == ()  # it has a place of its own on the page


def test_a_real_answer_is_shown_in_the_order_of_the_looks(mvp_seen: Seen) -> None:
    found = sections(mvp_seen, 2)
    assert [section.kind for section in found] == OWN
    assert mvp_seen.first == 2  # all of the photo is grass
    by_kind = {section.kind: section for section in found}
    maps = by_kind["view_maps"]
    assert [caption.split(":")[0] for _, caption in maps.panels] == [f"grass, view {i}" for i in (1, 2, 3)]
    assert all(picture.shape == mvp_seen.photo.shape for picture, _ in maps.panels)
    assert [name for name, _ in by_kind["class_gates"].table.rows] == ["dog", "grass"]
    assert by_kind["context_cosines"].table.head == ("", "global", "view 1", "view 2", "view 3")
    assert by_kind["prompt_cosines"].table.rows[0][1] == "1.00"
    assert len(by_kind["context_words"].table.rows) == 4
    assert by_kind["context_words"].figure is None
    assert all(section.figure is not None for section in found if section.kind != "context_words")


def test_parts_can_be_drawn_alone(mvp_seen: Seen) -> None:
    own, shared = (sections(mvp_seen, 1, per_class=choice) for choice in (True, False))
    assert all(section.look.per_class for section in own)
    assert not any(section.look.per_class for section in shared)
    assert [section.kind for section in (*own, *shared)] == OWN


def test_a_class_that_was_not_typed_is_refused(mvp_seen: Seen) -> None:
    for label in (0, 3):
        with pytest.raises(ValueError, match=f"class must be a number from 1 to 2, got {label}"):
            sections(mvp_seen, label)


def test_maps_of_a_class_share_one_scale_and_on_request_all_do() -> None:
    maps = torch.zeros(4, 2, 3)
    maps[0, 0, 0], maps[1, 0, 0], maps[2, 0, 0], maps[3, 0, 0] = 1, 2, 8, 10
    view = View(
        "view_maps", "", maps, ("dog, view 1", "dog, view 2", "grass, view 1", "grass, view 2"), (0, 10)
    )
    found = seen(result_with(view), LOOKS)
    (own,), (shared,) = sections(found, 1), sections(found, 1, one_scale=True)
    assert (own.scale.low, own.scale.high) == (0, 2)
    assert (shared.scale.low, shared.scale.high) == (0, 10)
    assert [caption for _, caption in own.panels] == ["dog, view 1: up to 1", "dog, view 2: up to 2"]
    bright, dark = (float(one.panels[1][0][0, 0].sum()) for one in (own, shared))
    assert bright > dark


def test_numbered_areas_have_one_colour_each_and_their_shares() -> None:
    maps = torch.tensor([[[1.0, 2.0, 2.0, 3.0]], [[3.0, 3.0, 3.0, 3.0]]])
    view = View("view_wins", "", maps, ("dog: ...", "grass: ..."), (1, 3))
    (section,) = sections(seen(result_with(view), LOOKS), 1)
    assert [(entry.names[0], entry.area_share) for entry in section.key] == [
        ("view 1", 0.25),
        ("view 2", 0.5),
        ("view 3", 0.25),
    ]
    assert [entry.color for entry in section.key] == list(PALETTE[:3])
    assert "view 2 · 50 %" in section_html(section)


def test_labels_have_the_colours_of_their_classes() -> None:
    maps = torch.tensor([[[1.0, 1.0]], [[2.0, 0.0]]])
    view = View("refining", "", maps, ("before", "after"), (0, 2))
    (section,) = sections(seen(result_with(view), LOOKS), 1)
    colors = colors_for(("dog", "grass"))
    assert [(entry.names[0], entry.color, entry.area_share) for entry in section.key] == [
        ("other", colors[0], 0.5),
        ("dog", colors[1], 0.0),
        ("grass", colors[2], 0.5),
    ]
    assert "“after”" in section.note


def test_bars_of_very_many_classes_are_the_largest() -> None:
    names = tuple(f"thing {number}" for number in range(45))
    values = torch.linspace(0, 1, len(names))[:, None, None]
    view = View("class_gates", "", values, names, (0, 1))
    (section,) = sections(seen(result_with(view, names=names), LOOKS), 1)
    assert section.table.rows[0] == (names[-1], "1.000")
    assert len(section.table.rows) == 40
    assert section.note == "Of 45, the largest 40 are shown."


def test_bars_that_come_best_first_stay_so() -> None:
    values = torch.linspace(0, 1, 30)[:, None, None]
    view = View("void_shares", "", values, tuple(str(number) for number in range(1, 31)), (0, 1))
    (section,) = sections(seen(result_with(view), LOOKS), 1)
    assert [row[0] for row in section.table.rows] == [str(number) for number in range(1, 13)]
    assert section.note == "Of 30, the first 12 are shown."


def test_very_many_masks_are_not_all_drawn() -> None:
    labels = tuple(f"{place}: dog 90%, no object 3%" for place in range(1, 16))
    maps = View("mask_proposals", "", torch.rand(15, 2, 3), labels, (0, 1))
    words = View(
        "mask_words",
        "",
        torch.rand(15, 1, 3),
        tuple(str(place) for place in range(1, 16)),
        (0, 1),
        (("dog", "puppy", "cat"),) * 15,
        ("class", "winning name", "CLIP 1"),
    )
    masks, table = sections(seen(result_with(maps, words), LOOKS), 1)
    assert [caption for _, caption in masks.panels] == list(labels[:12])
    assert (masks.scale.low, masks.scale.high) == (0, 1)
    assert [row[0] for row in table.table.rows] == [str(place) for place in range(1, 13)]
    assert table.table.head == ("", "class", "winning name", "CLIP 1")
    assert "Of 15" in masks.note
    assert "Of 15" in table.note


def test_cells_that_are_no_places_are_not_laid_over_the_photo() -> None:
    maps = torch.zeros(2, 1, 2)
    places = View("transfer_attention", "In the photo", maps, ("dog", "grass"))
    tokens = View("transfer_attention", "NOT A PICTURE", maps, ("dog", "grass"), columns=("1", "2"))
    (over,), (alone,) = (sections(seen(result_with(view), LOOKS), 1) for view in (places, tokens))
    assert (
        len(np.unique(alone.panels[0][0].reshape(-1, 3), axis=0)) == 1
    )  # one colour: nothing shines through
    assert len(np.unique(over.panels[0][0].reshape(-1, 3), axis=0)) > 1
    assert alone.note == "NOT A PICTURE."


def test_maps_that_do_not_fit_the_classes_are_refused() -> None:
    view = View("view_maps", "", torch.zeros(3, 1, 1), ("a", "b", "c"))
    with pytest.raises(ValueError, match="view_maps must have maps for each of 2 classes, got 3"):
        of_class(view, 1, 2)


def test_a_flat_map_can_be_drawn() -> None:
    view = View("global_map", "", torch.full((2, 1, 1), 0.25), ("dog", "grass"), (0.25, 0.25))
    (section,) = sections(seen(result_with(view, size=(1, 1)), LOOKS), 1)
    assert section.panels[0][0].shape == (384, 384, 3)  # a tiny photo is enlarged


def test_names_no_font_can_write_have_stand_ins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lettering, "font_folders", tuple)
    view = View("global_map", "", torch.rand(2, 2, 2), ("狗", "dog"))
    found = seen(result_with(view, names=("狗", "dog")), LOOKS)
    assert found.stand_ins == {"狗": "class 1"}
    (section,) = sections(found, 1)
    assert "狗" in section_html(section)  # the browser has its own fonts


def test_html_is_escaped_and_empty_for_nothing() -> None:
    view = View("class_gates", "", torch.rand(2, 1, 1), ("<b>x</b>", "dog"), (0, 1))
    html = sections_html(sections(seen(result_with(view, names=("<b>x</b>", "dog")), LOOKS), 1))
    assert "&lt;b&gt;x" in html
    assert "<b>x" not in html
    assert "<i>g</i><sub>c</sub>" in html
    assert sections_html(()) == ""
