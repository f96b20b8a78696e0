"""Every view that any method declares says what it shows: sentence, equation, paper and scale."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hand_made import make_result

from ovs_core.export.views import view_npz
from ovs_core.methods import METHODS
from ovs_core.types import View
from ovs_core.ui.view_html import section_html
from ovs_core.ui.view_pictures import OWN_SCALES, Seen, figure, sections, seen
from ovs_core.ui.view_sections import Section
from ovs_core.views import ViewSpec

NAMES = ("dog", "grass")
EVERY = [
    pytest.param(name, view, id=f"{name}-{view.kind}")
    for name in METHODS
    for view in METHODS[name].cited_views
]
HEADED = {"fc_clip": 5, "maft_plus": 9, "gkc": 8, "ldvc": 8, "zegclip": 6, "mvp_seg": 9}  # beside cosines


def made(spec: ViewSpec, maps: int) -> View:
    """A view of this kind without a scale of its own: the least that a method may give."""
    labels = tuple(f"block {number}" for number in range(1, maps + 1))
    values = torch.rand(maps, 3, 4, generator=torch.Generator().manual_seed(0))
    if spec.drawing in ("numbered", "labels"):
        values = (2 * values).round()
    if spec.drawing == "bars":
        values = values[:, :1, :1]
    if spec.drawing == "matrix":
        return View(spec.kind, "Made up", values[:, :, :3], labels, columns=("a", "b", "c"))
    if spec.drawing == "words":
        values = values[:, :1, :2]
        words = (("near", "far"),) * maps
        return View(spec.kind, "Made up", values, labels, words=words, columns=("1", "2"))
    return View(spec.kind, "Made up", values, labels)


def shown(method: str, spec: ViewSpec, maps: int = 12) -> tuple[Seen, View]:
    view = made(spec, maps)
    plain = make_result(np.full((30, 40), 2, np.uint8), np.full((30, 40, 3), 90, np.uint8), names=NAMES)
    result = type(plain)(**{**vars(plain), "views": (view,)})
    return seen(result, METHODS[method].cited_views), view


def has_scale(section: Section) -> bool:
    """Numbers, a colour scale, a key of areas, or the ends of its own scale below every map."""
    if section.look.drawing == "heat":
        own = all(" to " in caption for _, caption in section.panels) and OWN_SCALES in section.note
        return section.scale is not None or own
    if section.look.drawing == "crops":
        return bool(section.panels)  # parts of the photo itself
    if section.look.drawing in ("numbered", "labels"):
        return bool(section.key)
    return section.table is not None and (section.look.drawing != "matrix" or section.scale is not None)


@pytest.mark.parametrize(("method", "spec"), EVERY)
def test_a_view_has_a_sentence_an_equation_a_paper_and_a_scale(method: str, spec: ViewSpec) -> None:
    kept, view = shown(method, spec)
    assert spec.heading
    assert spec.sentence.endswith(".")
    assert spec.source.shows
    assert spec.source.title
    if spec.special:  # cosines and affinity have their own places, tested in a browser
        assert figure(kept, spec.kind, 1, point=(0.5, 0.5)) is not None
    else:
        (section,) = sections(kept, 1)
        assert has_scale(section)
        html = section_html(section)
        assert 'class="ovs-source">' in html
        link = f'<a href="https://arxiv.org/abs/{spec.source.arxiv}"'
        assert link in html or not spec.source.arxiv  # two papers are on no arXiv
        assert html.count("Larger</a>") == len(section.panels)
        assert (section.figure is None) == (spec.drawing == "words")
    numbers = view_npz(view, spec, method=method, classes=NAMES, photo_size=(30, 40))
    assert len(numbers) > 0


@pytest.mark.parametrize("method", [name for name in METHODS if METHODS[name].views])
def test_one_map_has_one_scale(method: str) -> None:
    for spec in METHODS[method].cited_views:
        if spec.drawing == "heat" and not (spec.special or spec.per_class):
            kept, _ = shown(method, spec, maps=1)
            (section,) = sections(kept, 1)
            assert section.scale is not None


@pytest.mark.parametrize(("method", "least"), HEADED.items())
def test_each_family_keeps_its_own_views(method: str, least: int) -> None:
    own = [view.kind for view in METHODS[method].views if not view.special]
    assert len(own) == len(set(own)) == least
    page = (Path(__file__).parents[1] / "docs" / "inspect.md").read_text(encoding="utf-8")
    assert METHODS[method].title in page
