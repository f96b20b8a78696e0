"""What the page says and does, as plain functions."""

import io
import json
import threading
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fake_engine import WINDOWS, FakeEngine
from PIL import Image

from ovs_core.edit.record import Brush, Rename
from ovs_core.engine import Progress
from ovs_core.engine.labelling import label
from ovs_core.image import fitted
from ovs_core.methods.mask_classification.captions import MAFT_PLUS_VIEWS
from ovs_core.methods.mvp_seg.captions import MVP_SEG_VIEWS
from ovs_core.methods.mvp_seg.contexts import Contexts, save_contexts
from ovs_core.options import MULTI_SCALE
from ovs_core.render.legend import percent
from ovs_core.types import ClassSummary
from ovs_core.ui.answer import Answer, relabelled
from ovs_core.ui.asking import NO_PHOTO, Question, progress_status
from ovs_core.ui.compare_tab import NO_METHOD, compare_steps
from ovs_core.ui.compare_words import (
    agreement_key,
    agreement_table,
    keep_selection,
    likeness_note,
    usual_ticks,
)
from ovs_core.ui.downloads import export_file
from ovs_core.ui.edit_steps import edited, undo
from ovs_core.ui.http import api_inspect
from ovs_core.ui.inputs import load_examples
from ovs_core.ui.inspect_tab import (
    MOST_CLASSES,
    inspect_steps,
    ringed,
)
from ovs_core.ui.models_tab import (
    add_steps,
    card_html,
    fetch_steps,
    own_heads_html,
    size_text,
    use_local_steps,
)
from ovs_core.ui.offered import chosen_method, unavailable_html
from ovs_core.ui.pictures import DISPLAY_SIDE, FILL_ALPHA, base_picture, mask_png, resampled_labels
from ovs_core.ui.segment_tab import segment_steps, shown_result
from ovs_core.ui.segment_views import NO_OBJECT, Look, formats_update, formats_with, looked_at
from ovs_core.ui.view_pictures import sections
from ovs_core.ui.words import (
    NOTHING_WON,
    STOPPED,
    Status,
    class_table,
    compare_table,
    legend_html,
    progress_text,
    seconds_text,
    status_html,
    summary_text,
)

RED, GREY = (200, 0, 0), (128, 128, 128)
USUAL, STRICT = {"scale": 40, "threshold": 0}, {"scale": 40, "threshold": 1.0}
PLAIN = {"scale": 1, "threshold": 0}


def question(photo: Path | None, classes: str = "dog; grass") -> Question:
    return Question(None if photo is None else str(photo), classes, "sky; wall", "mini", "none")


def summary(label: int, name: str, share: float) -> ClassSummary:
    return ClassSummary(label, (name,), RED if label else GREY, share, 0.5)


@pytest.fixture
def answer(engine: FakeEngine, photo_file: Path) -> Answer:
    *_, (_, found) = segment_steps(engine, None, question(photo_file), "naclip", USUAL)
    assert found is not None
    return found


def test_shared_options_reach_the_methods_that_have_them(engine: FakeEngine, photo_file: Path) -> None:
    asked = replace(question(photo_file), options={"multi_scale": True})
    assert asked.request(engine, "naclip").options == {"multi_scale": True}
    assert question(photo_file).request(engine, "naclip").options == {}
    *_, (_, found) = compare_steps(engine, None, asked, ["naclip", "clip"])
    assert [result.preset.frames for result in found.results] == [MULTI_SCALE] * 2
    with pytest.raises(ValueError, match=r"options of NACLIP must be among scale, .*; got 'turbo'"):
        question(photo_file).request(engine, "naclip", {"turbo": True})


# Words


def test_summary_puts_the_largest_class_first_and_names_what_is_missing() -> None:
    classes = (
        summary(1, "dog", 0.25),
        summary(2, "grass", 0.5),
        summary(3, "cat", 0),
        summary(0, "other", 0.25),
    )
    assert summary_text(classes) == ("grass covers 50 % of the photo, dog 25 %, other 25 %. Not found: cat.")


def test_summary_of_nothing_says_what_to_do() -> None:
    assert summary_text((summary(1, "dog", 0), summary(0, "other", 1))) == NOTHING_WON


def test_a_busy_status_has_a_bar_and_a_bad_one_alarms() -> None:
    assert "width:25%" in status_html(Status("Working", "busy", 0.25))
    assert 'role="alert"' in status_html(Status("No", "error"))
    assert status_html(None) == ""


@pytest.mark.parametrize(
    "html",
    [
        status_html(Status("<img src=x>", "error")),
        class_table([summary(1, "<img src=x>", 1)]),
        legend_html([summary(1, "<img src=x>", 1)]),
    ],
)
def test_names_are_escaped(html: str) -> None:
    assert "<img" not in html
    assert "&lt;img src=x&gt;" in html


def test_seconds_name_stages_and_leave_out_traces() -> None:
    assert seconds_text({"encode": 0.6, "text": 0.2, "decide": 0.001}) == "0.80 s (photo 0.60, words 0.20)"
    assert seconds_text({}) == "0.00 s"


def test_progress_counts_steps() -> None:
    assert progress_text("encode", 2, 12) == "Looking at the photo, 3 of 12 (16 %)"
    assert progress_text("load", 0, 1) == "Loading the model"
    status = progress_status(Progress("encode", 1, 2), index=1, count=4)
    assert status.fraction == pytest.approx(1.5 / 4)
    assert status.text.startswith("2 of 4: ")


# Pictures


def test_mask_is_clear_outside_filled_inside_and_opaque_at_the_outline() -> None:
    mask = np.array([[0, 1, 1]], bool)
    outline = np.array([[1, 1, 0]], bool)
    pixels = np.asarray(Image.open(io.BytesIO(mask_png(mask, outline, "#0a141e"))).convert("RGBA"))
    assert pixels[0, 0, 3] == 0
    assert pixels[0, 1].tolist() == [10, 20, 30, 255]
    assert pixels[0, 2].tolist() == [10, 20, 30, FILL_ALPHA]


def test_labels_shrink_to_the_nearest() -> None:
    labels = np.arange(4, dtype=np.uint8).repeat(2)[None].repeat(2, axis=0)  # (2, 8): 0 0 1 1 2 2 3 3
    assert resampled_labels(labels, (1, 4)).tolist() == [[0, 1, 2, 3]]


def test_fitted_keeps_the_shape_and_never_enlarges() -> None:
    assert fitted((300, 600), 200) == (100, 200)
    assert fitted((3, 6), 200) == (3, 6)
    assert fitted((1, 5000), 640) == (1, 640)


def test_a_tiny_photo_is_enlarged_for_the_page() -> None:
    with Image.open(base_picture(np.zeros((1, 2, 3), np.uint8))) as shown:
        assert shown.size == (384, 192)


# Segment


def test_segment_reports_progress_and_answers(engine: FakeEngine, photo_file: Path) -> None:
    *steps, (last, found) = segment_steps(engine, None, question(photo_file), "naclip", USUAL)
    assert len({status.text for status, _ in steps}) > WINDOWS
    assert all(status.kind == "busy" for status, _ in steps)
    assert last.kind == "done"
    assert found is not None
    assert found.result.vocabulary.names == ("dog", "grass")
    assert found.result.preset.scale == 40


@pytest.mark.parametrize(
    ("classes", "with_photo", "said"),
    [("dog", False, NO_PHOTO), (" ; ", True, "Type at least one class"), ("x" * 201, True, "200")],
)
def test_bad_questions_end_in_one_sentence(
    engine: FakeEngine, photo_file: Path, classes: str, with_photo: bool, said: str
) -> None:
    asked = question(photo_file if with_photo else None, classes)
    [(status, found)] = segment_steps(engine, None, asked, "naclip", USUAL)
    assert status.kind == "error"
    assert said in status.text
    assert found is None


def test_a_set_event_stops_the_work(engine: FakeEngine, photo_file: Path) -> None:
    token = threading.Event()
    steps = segment_steps(engine, token, question(photo_file), "naclip", USUAL)
    next(steps)
    token.set()
    [(status, found)] = list(steps)
    assert (status.text, status.kind) == (STOPPED, "warning")
    assert found is None


def test_nothing_won_is_an_answer_with_advice(engine: FakeEngine, photo_file: Path) -> None:
    *_, (status, found) = segment_steps(engine, None, question(photo_file), "naclip", STRICT)
    assert status.kind == "warning"
    assert NOTHING_WON in status.text
    assert found is not None


def test_relabelling_changes_labels_and_runs_nothing(engine: FakeEngine, answer: Answer) -> None:
    runs = engine.runs
    changed = relabelled(engine, answer, STRICT, side=30)
    assert changed.result.labels.shape == (20, 30)
    assert changed.result.labels.max() == 0
    assert answer.result.labels.max() > 0
    assert engine.runs == runs


def test_what_was_out_of_the_ordinary_is_said_at_the_end(tmp_path: Path, photo_file: Path) -> None:
    engine = FakeEngine(tmp_path)
    engine.notes = ("Memory ran out.",)
    *_, (status, _) = segment_steps(engine, None, question(photo_file), "naclip", USUAL)
    assert status.text.endswith(". Memory ran out.")
    *_, (status, _) = compare_steps(engine, None, question(photo_file), ["clip", "naclip"])
    assert status.text.endswith("bright in the last panel. Memory ran out.")


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("labels", "meadow.naclip.labels.png"),
        ("overlay", "meadow.naclip.overlay.png"),
        ("json", "meadow.naclip.json"),
    ],
)
def test_export_makes_the_file_that_was_asked_for(
    engine: FakeEngine, answer: Answer, kind: str, name: str
) -> None:
    path = Path(export_file(engine, answer, USUAL, kind))
    assert path.name == name
    assert path.stat().st_size > 0


def test_export_packs_the_chosen_formats(engine: FakeEngine, answer: Answer) -> None:
    with zipfile.ZipFile(export_file(engine, answer, USUAL, "zip", ["coco"])) as archive:
        assert "meadow.naclip.coco.json" in archive.namelist()


@pytest.fixture
def large(tmp_path: Path) -> Path:
    path = tmp_path / "large.png"
    Image.fromarray(np.full((700, 1500, 3), 90, np.uint8)).save(path)
    return path


def test_a_large_photo_is_labelled_as_large_as_it_is_shown(engine: FakeEngine, large: Path) -> None:
    *_, (_, found) = segment_steps(engine, None, question(large), "naclip", USUAL)
    assert found.result.labels.shape == found.result.image.shape[:2] == (478, 1024)
    assert found.result.photo_size == (700, 1500)
    details = shown_result(engine, found, DISPLAY_SIDE)[-1]
    assert "1024 x 478 pixels for this page" in details
    assert "own size, 1500 x 700" in details
    whole = relabelled(engine, found, USUAL, None)
    assert "pixels for this page" not in shown_result(engine, whole, DISPLAY_SIDE)[-1]
    asked = engine.run(question(large).request(engine, "naclip", USUAL))
    *_, expected = asked
    assert np.array_equal(whole.result.labels, expected.labels)
    assert np.array_equal(whole.result.confidence, expected.confidence)
    assert np.array_equal(whole.result.image, expected.image)
    assert whole.result.classes == expected.classes
    shrunk = relabelled(engine, whole, USUAL, DISPLAY_SIDE).result
    assert np.array_equal(shrunk.labels, found.result.labels)


def test_a_large_photo_is_compared_and_inspected_as_large_as_it_is_shown(
    engine: FakeEngine, large: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = []

    def noted(evidence: Any, preset: Any, size: tuple[int, int], *more: Any) -> Any:
        sizes.append(size)
        return label(evidence, preset, size, *more)

    monkeypatch.setattr("ovs_core.engine.engine.label", noted)
    list(compare_steps(engine, None, question(large), ["naclip", "clip"]))
    list(inspect_steps(engine, None, question(large), "naclip", (0.5, 0.5)))
    assert sizes == [(478, 1024)] * 3


def test_edits_of_a_large_photo_are_in_its_own_pixels(engine: FakeEngine, large: Path) -> None:
    *_, (_, found) = segment_steps(engine, None, question(large), "naclip", USUAL)
    with pytest.raises(ValueError, match=r"relabel it at its own size, \(700, 1500\)"):
        found.result.edited([Rename(1, "wolf")])
    painted = edited(engine, found, USUAL, Brush(((1400.0, 650.0),), 20.0, 1))
    assert painted.result.labels.shape == (700, 1500)
    with Image.open(export_file(engine, painted, USUAL, "labels")) as labels:
        assert labels.size == (1500, 700)
        assert labels.getpixel((1400, 650)) == 1
    assert undo(engine, painted, USUAL).result.labels[650, 1400] == 0


def test_files_have_the_size_of_the_photo_not_of_the_page(engine: FakeEngine, large: Path) -> None:
    *_, (_, found) = segment_steps(engine, None, question(large), "naclip", USUAL)
    for kind in ("labels", "json"):
        path = Path(export_file(engine, found, USUAL, kind))
        if kind == "json":
            image = json.loads(path.read_text())["image"]
            assert (image["width"], image["height"]) == (1500, 700)
        else:
            with Image.open(path) as labels:
                assert labels.size == (1500, 700)


def test_export_without_an_answer_says_what_to_do(engine: FakeEngine) -> None:
    with pytest.raises(ValueError, match="press Segment first"):
        export_file(engine, None, USUAL, "labels")


# Objects


@pytest.fixture
def objects(tmp_path: Path, photo_file: Path) -> tuple[FakeEngine, Answer]:
    """An answer with two dogs on the left and grass on the right."""
    engine = FakeEngine(tmp_path, mask_method="naclip")
    *_, (_, found) = segment_steps(engine, None, question(photo_file), "naclip", PLAIN)
    assert found is not None
    return engine, found


@pytest.mark.parametrize(
    ("look", "names", "said"),
    [
        (Look("semantic"), ["dog · 50 %", "grass · 50 %"], "dog covers 50 % of the photo, grass 50 %."),
        (
            Look("panoptic"),
            ["dog 1 · 25 %", "dog 2 · 25 %", "grass · 50 %"],
            "dog (2) covers 50 % of the photo, grass 50 %.",
        ),
        (
            Look("panoptic", "dog"),
            ["dog · 50 %", "grass · 50 %"],
            "dog covers 50 % of the photo, grass 50 %.",
        ),
        (
            Look("instances"),
            ["dog 1 · 25 %", "dog 2 · 25 %"],
            "dog (2) covers 50 % of the photo, other 50 %. Not found: grass.",
        ),
        (Look("instances", "dog; grass"), [], NO_OBJECT),
    ],
)
def test_an_answer_with_masks_is_seen_three_ways(objects, look, names, said) -> None:
    _, found = objects
    picture, classes, sentence = looked_at(found.base, found.result, look, 60)
    assert list(picture.names.values()) == names
    assert sentence == said
    assert picture.labels.shape == (40, 60)
    assert len(set(picture.color_map.values())) == len(names)
    assert [summary.label for summary in classes] == [1, 2, 0]


def test_an_answer_without_masks_has_one_picture(answer: Answer) -> None:
    look = Look("panoptic")
    assert look.kind(answer.result) is None
    assert formats_with(look, answer.result, ["coco", "panoptic"]) == ("coco",)
    assert "panoptic" not in formats_update(answer.result, [])["choices"]
    picture, _, _ = looked_at(answer.base, answer.result, look, 60)
    assert all(" · " in name for name in picture.names.values())


def test_downloads_follow_the_picture(objects) -> None:
    engine, found = objects
    look = Look("panoptic", "none")
    overlay = Path(export_file(engine, found, PLAIN, "overlay", look=look))
    assert overlay.name == "meadow.naclip.panoptic.overlay.png"
    assert Path(export_file(engine, found, PLAIN, "overlay")).name == "meadow.naclip.overlay.png"
    with zipfile.ZipFile(export_file(engine, found, PLAIN, "zip", ["coco"], look)) as archive:
        names = archive.namelist()
        document = json.loads(archive.read("meadow.naclip.panoptic.json"))
    assert "meadow.naclip.coco.json" in names
    assert "meadow.naclip.instances.json" not in names
    assert [c["isthing"] for c in document["categories"]] == [1, 1]
    update = formats_update(found.result, ["coco", "instances"])
    assert update["value"] == ["coco", "instances"]


# Compare


def test_compare_grows_by_one_panel_at_a_time(engine: FakeEngine, photo_file: Path) -> None:
    found = [f for _, f in compare_steps(engine, None, question(photo_file), ["clip", "naclip"]) if f]
    assert [len(f.results) for f in found] == [
        1,
        2,
    ]  # the last panel and what both have in common come at once
    first, second = (result.labels for result in found[-1].results)
    assert found[-1].share == pytest.approx((first != second).mean())
    assert found[-1].disagreement is not None


def test_compare_wants_a_method(engine: FakeEngine, photo_file: Path) -> None:
    [(status, found)] = compare_steps(engine, None, question(photo_file), [])
    assert (status.text, status.kind, found) == (NO_METHOD, "error", None)


def test_compare_table_has_a_row_per_method(engine: FakeEngine, photo_file: Path) -> None:
    *_, (_, found) = compare_steps(engine, None, question(photo_file), ["clip", "naclip"])
    assert found is not None
    html = compare_table(found.results, {"clip": "CLIP as it is", "naclip": "NACLIP"})
    assert html.count("<tr>") == 3
    assert "CLIP as it is" in html


def test_compare_says_who_agrees_with_whom(engine: FakeEngine, photo_file: Path) -> None:
    *_, (_, found) = compare_steps(engine, None, question(photo_file), ["clip", "naclip"])
    same = float((found.results[0].labels == found.results[1].labels).mean())
    assert 0 < same < 1
    html = agreement_table(found.results, {"clip": "<i>", "naclip": "NACLIP"})
    assert html.count(f">{percent(same)}<") == 2
    assert html.count(f">{percent(1.0)}<") == 2
    assert "<i>" not in html
    assert agreement_table(found.results[:1], {}) == ""
    key = agreement_key(found.votes, 2)
    assert f"2 of 2 agree · {percent(same)}" in key
    assert f"1 of 2 differ · {percent(1 - same)}" in key


# Inspect


def test_inspect_draws_every_class_on_one_scale(engine: FakeEngine, photo_file: Path) -> None:
    *_, (status, answered) = inspect_steps(engine, None, question(photo_file), "naclip", (0.5, 0.5))
    assert answered is not None
    _, found = answered
    assert status.kind == "done"
    assert len(found.similarity) == 2
    assert found.low < found.high


def test_inspect_asks_a_method_for_its_own_views(tmp_path: Path, photo_file: Path) -> None:
    engine = FakeEngine(tmp_path, heads=("mvp_seg", "maft_plus"))
    for name, views in (("mvp_seg", MVP_SEG_VIEWS), ("maft_plus", MAFT_PLUS_VIEWS)):
        *_, (status, answered) = inspect_steps(engine, None, question(photo_file), name, (0.5, 0.5))
        assert "any place" in status.text
        assert answered is not None
        _, found = answered
        own = {view.kind for view in views if not view.special}
        assert {view.kind for _, view in found.seen.views} == own
        assert {section.kind for section in sections(found.seen, 1)} == own
    *_, (_, answered) = inspect_steps(engine, None, question(photo_file), "naclip", (0.5, 0.5))
    assert answered is not None
    _, plain = answered
    assert plain.seen.views == ()


def test_inspect_of_very_many_classes_draws_those_that_won_most(engine: FakeEngine, photo_file: Path) -> None:
    words = "; ".join(f"thing {number}" for number in range(MOST_CLASSES + 6))
    *_, (_, answered) = inspect_steps(engine, None, question(photo_file, words), "naclip", (0.5, 0.5))
    assert answered is not None
    _, found = answered
    assert len(found.similarity) == MOST_CLASSES


def test_the_endpoint_gives_a_figure_per_view(tmp_path: Path, photo_file: Path) -> None:
    engine = FakeEngine(tmp_path, heads=("mvp_seg",))
    asked = question(photo_file)
    wanted = ["class_gates", "view_maps", "context_words"]
    pictures, affinity, report = api_inspect(engine, asked, "mvp_seg", 0.5, 0.5, wanted, 2)
    assert report["figures"] == ["view_maps", "class_gates"]  # words are in the report
    assert [Path(path).name for path in pictures] == [
        "similarity-1.png",
        "similarity-2.png",
        "view_maps.png",
        "class_gates.png",
    ]
    assert affinity is not None
    about = {view["kind"]: view for view in report["views"]}
    assert set(about) == {"similarity", "attention", *wanted}
    assert about["class_gates"]["values"][0][0][0] == pytest.approx(0.5, abs=0.5)
    assert about["context_words"]["words"][0][0] == "photo"
    assert "values" not in about["view_maps"]
    _, _, everything = api_inspect(engine, asked, "mvp_seg", 0.5, 0.5, ["all"])
    assert {view["kind"] for view in everything["views"]} == {view.kind for view in MVP_SEG_VIEWS}


def test_a_method_that_cannot_be_asked_gives_way_to_one_that_can(tmp_path: Path) -> None:
    engine = FakeEngine(tmp_path, heads=("mvp_seg", "mvp_seg_plus"))
    here, elsewhere = engine.methods("mini"), engine.methods("vit_b16_openai")
    assert chosen_method(here, "mvp_seg") == "mvp_seg"
    assert chosen_method(elsewhere, "mvp_seg") == "naclip"
    assert chosen_method((), "naclip") is None
    assert "MVP-SEG" not in unavailable_html(here)
    assert "which &lt;is not&gt; here" in unavailable_html(elsewhere)
    assert unavailable_html(tuple(info for info in here if info.available)) == ""


def test_what_was_not_ticked_stays_so_and_what_is_new_is_ticked(tmp_path: Path) -> None:
    engine = FakeEngine(tmp_path, heads=("mvp_seg",))
    here, elsewhere = engine.methods("mini"), engine.methods("vit_b16_openai")
    assert keep_selection(elsewhere, ["clip", "mvp_seg"], here) == ["clip"]
    assert keep_selection(here, ["clip"], elsewhere) == ["clip", "mvp_seg"]


def test_methods_that_differ_are_ticked_until_somebody_chooses(tmp_path: Path) -> None:
    engine = FakeEngine(tmp_path, heads=("mvp_seg", "two_stage"))
    here, elsewhere = engine.methods("mini"), engine.methods("vit_b16_openai")
    every_rule = ["clip", "maskclip", "sclip", "clearclip", "naclip"]
    assert usual_ticks(here) == ["naclip", "mvp_seg"]
    assert usual_ticks(elsewhere) == every_rule
    assert keep_selection(elsewhere, usual_ticks(here), here) == every_rule
    assert keep_selection(here, every_rule, elsewhere) == ["naclip", "mvp_seg"]
    note = likeness_note(here, "Embedded")
    assert "CLIP as it is, MaskCLIP, SCLIP, ClearCLIP give nearly the labels of NACLIP" in note
    assert "they differ widely" in likeness_note(elsewhere, "Full")
    assert "nearly" not in likeness_note(elsewhere, "Full")


def test_the_ring_stands_where_the_point_is() -> None:
    marked = ringed(np.full((60, 90, 3), 100, np.uint8), (0.5, 0.25))
    rows, columns = np.nonzero((marked == 255).all(axis=2))
    assert rows.mean() == pytest.approx(29.5, abs=0.6)
    assert columns.mean() == pytest.approx(22, abs=0.6)


# Models and examples


def test_a_card_tells_size_and_licence(engine: FakeEngine) -> None:
    card = card_html(engine.store.entry("openai-vit-b-16"), None)
    assert "not here" in card
    assert "351 MB" in card
    assert "MIT" in card
    assert size_text(None) == "size unknown"
    assert size_text(34_528) == "less than 1 MB"
    assert "By hand" not in card


def test_a_file_that_no_program_can_fetch_says_where_a_person_can(engine: FakeEngine) -> None:
    card = card_html(engine.store.entry("maftp-b"), None)
    assert "https://drive.google.com/file/d/" in card
    assert "By hand" not in card_html(engine.store.entry("maftp-b"), Path("maftp_b.pth"))


def test_offline_fetching_ends_in_a_sentence(engine: FakeEngine) -> None:
    *_, last = fetch_steps(engine.store, "openai-vit-b-16", threading.Event())
    assert last.kind == "error"
    assert "offline" in last.text


def test_only_files_beside_the_weights_can_be_named(tmp_path: Path) -> None:
    engine = FakeEngine(tmp_path / "weights")
    store = engine.store
    (tmp_path / "weights").mkdir()
    (tmp_path / "secret.pt").write_bytes(b"private")
    (tmp_path / "weights" / "wrong.pt").write_bytes(b"no weights")
    outside = [
        "  ",
        "..",
        "../secret.pt",
        str(tmp_path / "secret.pt"),
        "/nowhere/x.pt",
        "~/x.pt",
        "absent.pt",
    ]
    said = {[*use_local_steps(store, "openai-vit-b-16", typed)][-1] for typed in outside}
    [refusal] = said  # whether a path exists cannot be learnt
    assert refusal.kind == "error"
    assert "type its name alone" in refusal.text
    *_, wrong = use_local_steps(store, "openai-vit-b-16", " wrong.pt ")
    assert wrong.kind == "error"
    assert "type its name alone" not in wrong.text


def test_examples_are_read_and_may_be_absent(tmp_path: Path) -> None:
    assert load_examples(tmp_path) == ()
    (tmp_path / "cat.jpg").write_bytes(b"")
    (tmp_path / "examples.json").write_text(
        '[{"file": "cat.jpg", "classes": "cat", "title": "Cat"},'
        ' {"file": "gone.jpg", "classes": "x", "title": "Gone"}]',
        encoding="utf-8",
    )
    [example] = load_examples(tmp_path)
    assert (example.file.name, example.classes, example.title) == ("cat.jpg", "cat", "Cat")


def test_the_shipped_examples_are_complete() -> None:
    assert len(load_examples()) == 6


def test_switches_reach_the_engine_and_belong_to_their_method(engine, photo_file):
    steps = segment_steps(engine, None, question(photo_file), "maskclip", {"key_smoothing": True})
    *_, (_, found) = steps
    assert found.result.switches == ("key_smoothing",)
    [(status, nothing)] = segment_steps(engine, None, question(photo_file), "naclip", {"key_smoothing": True})
    assert (status.kind, nothing) == ("error", None)
    assert "options of NACLIP" in status.text


# Heads of one's own


def test_a_head_is_added_by_its_name_alone(tmp_path: Path) -> None:
    engine = FakeEngine(tmp_path / "weights")
    store = engine.store
    (tmp_path / "weights").mkdir()
    tower = store.entry("openai-vit-b-16").sha256
    contexts = Contexts(torch.ones(1, 2, 4), None, str(tower), 1.0, 1.0, 1.0)
    save_contexts(contexts, tmp_path / "weights" / "mine.safetensors")
    assert own_heads_html(engine) == ""
    *_, outside = add_steps(engine, str(tmp_path / "weights" / "mine.safetensors"))
    assert outside.kind == "error"
    assert "type its name alone" in outside.text
    *_, done = add_steps(engine, "mine.safetensors")
    assert done == Status("MVP-SEG on CLIP ViT-B/16, OpenAI (vit_b16_openai) is ready to use.")
    html = own_heads_html(engine)
    assert f"heads/mvp_seg-{str(tower)[:16]}.safetensors" in html
    assert str(tmp_path) not in html
    (tmp_path / "weights" / "other.safetensors").write_bytes(b"letter")
    *_, refused = add_steps(engine, "other.safetensors")
    assert refused == Status(
        "weights/other.safetensors carries no notes: it is not a safetensors file.", "error"
    )
