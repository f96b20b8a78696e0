"""The report: what its page shows, and the document for programs."""

import base64
import io
import json
from html.parser import HTMLParser

import numpy as np
import pytest
from labelled_toys import always, halves, make_folder
from PIL import Image

from ovs_core.evaluation.page import confusion_table, page
from ovs_core.evaluation.report import document, gallery, make_report, write_json
from ovs_core.evaluation.run import Settings, evaluate
from ovs_core.labelled.datasets import open_dataset
from ovs_core.metrics.error_types import REMEDIES

IN_IMAGE = Settings(classes_in_image=True)


@pytest.fixture
def dataset(tmp_path):
    """Three photos of cats, dogs and background: halves cat | dog, background | dog, nothing."""
    masks = {"1": halves(1, 2), "2": halves(0, 2), "3": halves(0, 0)}
    return open_dataset("folder", make_folder(tmp_path / "set", masks))


class Page(HTMLParser):
    """Tags, attributes and texts of a page; every tag must be closed, every id must be its only one."""

    VOID = frozenset({"meta", "img", "br"})

    def __init__(self):
        super().__init__()
        self.open, self.tags, self.images, self.text = [], [], [], []
        self.ids, self.links, self.titles = [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        attributes = dict(attrs)
        if tag == "img":
            self.images.append(attributes["src"])
        if "id" in attributes:
            self.ids.append(attributes["id"])
        if "title" in attributes:
            self.titles.append(attributes["title"])
        if tag == "a":
            self.links.append(attributes["href"].removeprefix("#"))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data.strip())


def make_page(dataset, subjects, settings=IN_IMAGE, unseen=()):
    records = {subject.name: [] for subject in subjects}
    for step in evaluate(subjects, dataset, settings):
        records[step.subject].append(step.record)
    report = make_report(subjects, records, dataset, settings, unseen)
    galleries = {
        subject.name: gallery(subject, report.summaries[subject.name], dataset, settings)
        for subject in subjects
    }
    parsed = Page()
    parsed.feed(page(report, galleries))
    parsed.close()
    assert parsed.open == []
    assert len(parsed.ids) == len(set(parsed.ids))
    assert set(parsed.links) <= set(parsed.ids)
    return report, parsed


def test_the_page_holds_everything_and_needs_no_other_file(dataset, tmp_path):
    (tmp_path / "set/masks/2.png").write_bytes(b"")
    report, parsed = make_page(dataset, [always("cat", "one"), always("dog", "two")], unseen=(2,))
    text = " ".join(parsed.text)
    for words in ("mIoU, classes in truth", "harmonic mIoU", "Paired differences", "Best photos", "2.png"):
        assert words in text
    assert all(remedy in text for remedy in REMEDIES.values())
    assert len(parsed.images) == 2 * 4  # one photo each, the best one: photo, truth, answer, errors
    for source in parsed.images:
        kind, data = source.split(",", 1)
        assert kind == "data:image/jpeg;base64"
        assert Image.open(io.BytesIO(base64.b64decode(data))).size == (48, 32)
    assert set(report.differences) == {"two"}


def test_a_confusion_leads_to_its_photos(dataset):
    _, parsed = make_page(dataset, [always("cat", "first")])
    assert {"s0-c2-1", "s0-c2-0"} <= set(parsed.ids)  # dogs called cats, dogs called background
    assert "dog called cat: 50.0 %" in parsed.titles
    assert parsed.links.count("s0-c2-1") == 1
    place = parsed.text.index("dog called cat")
    assert parsed.text[place + 1 : place + 4] == [", most pixels first:", "1", "(768)"]
    assert parsed.links.count("s0-p0") == 2  # that photo is drawn: from the confusion, from the list


def test_photos_stand_worst_first_with_their_errors(tmp_path):
    make_folder(tmp_path, {"good": halves(1, 1), "bad": halves(2, 2), "half": halves(1, 2)})
    report, parsed = make_page(open_dataset("folder", tmp_path), [always("cat", "first")], Settings())
    rows = [link for link in parsed.ids if link.startswith("s0-r")]
    order = list(report.summaries["first"].photos)
    assert [order[int(row.removeprefix("s0-r"))] for row in rows] == ["bad", "half", "good"]
    assert report.summaries["first"].photos["bad"].errors["missed_segment"] == 1.0


@pytest.mark.parametrize(("right_half", "named"), [(2, False), (255, True)])
def test_the_legend_tells_pixels_that_are_not_known(tmp_path, right_half, named):
    make_folder(tmp_path, {"1": halves(1, right_half)})
    _, parsed = make_page(open_dataset("folder", tmp_path), [always("cat", "one")])
    assert ("not known" in parsed.text) == named


def test_the_page_names_classes_that_win_where_they_are_not(tmp_path):
    make_folder(tmp_path, {"1": halves(1, 0), "2": halves(2, 0)})
    _, parsed = make_page(open_dataset("folder", tmp_path), [always("cat", "one")], Settings())
    assert any(text.endswith("of all photos: cat 50.00.") for text in parsed.text)  # all of photo 2
    _, parsed = make_page(open_dataset("folder", tmp_path, limit=1), [always("cat", "one")], Settings())
    assert not any("Win most" in text for text in parsed.text)


def test_names_are_text_in_the_page(tmp_path):
    make_folder(tmp_path, {"1": halves(1, 2)}, ("1 <script>alert(1)</script>", "2 a&b\"'"))
    dataset = open_dataset("folder", tmp_path)
    _, parsed = make_page(dataset, [always("a&b\"'", "<b>bold")])
    assert parsed.tags.count("script") == 1  # our own, which sorts
    assert "<script>alert(1)</script>" in parsed.text
    assert "<b>bold" in parsed.text
    assert "<script>alert(1)</script> called a&b\"': 100.0 %" in parsed.titles


def test_the_document_is_plain_json(dataset, tmp_path):
    report, _ = make_page(dataset, [always("cat", "one"), always("dog", "two")])
    write_json(report, tmp_path / "report.json")
    content = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert content == json.loads(json.dumps(document(report)))
    one = content["subjects"]["one"]
    assert one["photos"] == {"counted": 2, "nothing_to_ask": ["3"], "left_out": {}}
    assert one["metrics"]["miou_truth"].keys() == {"value", "low", "high"}
    assert {"truth": "dog", "answer": "cat", "pixels": 32 * 24, "photos": ["1"]} in one["confusion"]
    assert one["photo_errors"]["1"]["extra_extent"] == 0.5
    dog = next(numbers for numbers in one["classes"] if numbers["name"] == "dog")
    assert dog["errors"]["missed_segment"] == 2 * 32 * 24
    assert dog["error_costs"]["missed_segment"] == 1.0
    assert one["metrics"]["cost_missed_segment"]["value"] == pytest.approx(1 / 3)  # of three classes, dogs
    assert content["differences"][0]["second"] == "two"
    assert content["settings"]["classes_in_image"] is True


def test_confusion_of_many_classes_is_summed_up():
    names = [f"class {index}" for index in range(40)]
    anchors = {(39, 38): "here", (2, 3): "summed"}
    matrix = np.diag(np.arange(1, 41)) + np.eye(40, k=-1, dtype=int)
    table = confusion_table(matrix, names, anchors)
    assert len(table.rows) == len(table.columns) == 25
    assert table.columns[-1] == "16 more classes"
    titles = [cell.title for _, cells in table.rows for cell in cells]
    assert "class 39 called class 39: 97.6 %" in titles
    assert not any("class 3 " in title for title in titles)
    assert [cell.anchor for _, cells in table.rows for cell in cells if cell.anchor] == ["here"]


def test_classes_that_are_only_in_answers_have_no_row():
    table = confusion_table(np.array([[5, 5, 0], [0, 0, 0], [0, 0, 0]]), ["cat", "dog", "cow"])
    assert table.columns == ("cat", "dog")
    assert [(name, [cell.percent for cell in cells]) for name, cells in table.rows] == [("cat", ["50", "50"])]


def test_cells_are_coloured_by_viridis_with_letters_that_can_be_read():
    ((_, (dark, light)), _) = confusion_table(np.array([[0, 9], [1, 0]]), ["a", "b"]).rows
    assert (dark.color, dark.percent) == ("#440154", "")
    assert (light.color, light.ink, light.percent) == ("#fde724", "#000000", "100")
