"""Ground truth on the page: files that people have, numbers beside it, one sentence for what does not fit."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from fake_engine import FakeEngine
from pages import PATIENCE, PHONE, choose, finished, fits, open_tab
from PIL import Image
from playwright.sync_api import Page, expect
from serving import PHOTO_SIZE

from ovs_core.types import LabelClass, LabelMap
from ovs_core.ui.truth import TRUTH_GONE, TruthFiles, truth_html
from ovs_core.vocabulary import parse_vocabulary

OpenPage = Callable[..., Page]
SIZE = (4, 6)
IMAGE = np.full((*SIZE, 3), 200, np.uint8)
WORDS = parse_vocabulary("dog; grass", "none")
CLASSES = tuple(LabelClass(k, (name,), (k, k, k)) for k, name in enumerate(("dog", "grass"), start=1))


def halves() -> np.ndarray:
    """The left half is class 1, the right half class 2."""
    return np.repeat(np.array([[1, 1, 1, 2, 2, 2]], np.uint8), 4, axis=0)


def shown(files: TruthFiles, **answers: np.ndarray) -> str:
    maps = {title: LabelMap(labels, CLASSES) for title, labels in answers.items()}
    return truth_html(files, IMAGE, SIZE, WORDS, "meadow", maps)


def save(path: Path, values: np.ndarray) -> str:
    Image.fromarray(values).save(path)
    return str(path)


def texts(html: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", html))


def test_numbers_of_one_answer(tmp_path: Path) -> None:
    answer = halves()
    answer[0, 2] = answer[1, 2] = answer[2, 2] = 2  # 9 of 12 dog pixels are found, grass has 15
    text = texts(shown(TruthFiles(save(tmp_path / "m.png", halves()), None), NACLIP=answer))
    assert "Mean IoU 78 %" in text  # (9 / 12 + 12 / 15) / 2 = 0.775
    assert re.search(r"dog 75 %", text)
    assert re.search(r"grass 80 %", text)
    assert "88 % of the pixels right" in text  # 21 of 24
    assert "refine the edges" in text


def test_of_several_answers_the_nearest_is_named(tmp_path: Path) -> None:
    path = save(tmp_path / "m.png", halves())
    text = texts(shown(TruthFiles(path, None), Bad=3 - halves(), Good=halves()))
    assert "Nearest to the truth on this photo: Good, mean IoU 100 %" in text
    assert text.count("Errors: ") == 2


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("letter.png", b"Dear reader", "The mask letter.png cannot be read: it is no picture."),
        ("truth.json", b'{"images": []}', "cannot be read as COCO annotations of this photo"),
        ("truth.json", b"[" * 100_000, "cannot be read as COCO annotations of this photo"),
        ("other.png", None, r"must be one 8- or 16-bit channel of \(4, 6\) pixels, got L \(2, 2\)"),
    ],
)
def test_bad_files_end_in_one_sentence_without_a_place(
    tmp_path: Path, name: str, content: bytes | None, said: str
) -> None:
    path = tmp_path / name
    if content is None:
        save(path, np.ones((2, 2), np.uint8))
    else:
        path.write_bytes(content)
    html = shown(TruthFiles(str(path), None), NACLIP=halves())
    assert re.search(said, texts(html))
    assert "error" in html
    assert str(tmp_path) not in html


def test_a_bad_class_list_names_no_place(tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("dog 1 <b>\n", encoding="utf-8")
    files = TruthFiles(save(tmp_path / "m.png", halves()), str(tmp_path / "names.txt"))
    html = shown(files, NACLIP=halves())
    assert texts(html).strip().startswith("names.txt must hold lines")
    assert str(tmp_path) not in html
    assert "<b>" not in html


def test_refused_and_missing_files(tmp_path: Path) -> None:
    for files in (TruthFiles("", None), TruthFiles(str(tmp_path / "gone.png"), None)):
        assert TRUTH_GONE in shown(files, NACLIP=halves())
    listed = tmp_path / "names.txt"
    listed.write_text("1 dog\n", encoding="utf-8")
    assert "needs its mask" in shown(TruthFiles(None, str(listed)), NACLIP=halves())


def give_truth(page: Page, mask: Path, class_list: Path | None = None) -> None:
    page.get_by_role("button", name="Ground truth (optional)").click()
    page.set_input_files("#truth-mask input[type=file]", mask)
    if class_list is not None:
        page.set_input_files("#truth-classes input[type=file]", class_list)


@pytest.fixture
def color_truth(tmp_path: Path) -> tuple[Path, Path]:
    """Dog on the left third, grass on the rest, as a colour mask with its list."""
    pixels = np.zeros((*PHOTO_SIZE, 3), np.uint8)
    pixels[:, : PHOTO_SIZE[1] // 3] = (64, 128, 64)
    pixels[:, PHOTO_SIZE[1] // 3 :] = (0, 0, 192)
    Image.fromarray(pixels).save(tmp_path / "truth.png")
    (tmp_path / "colors.txt").write_text("64 128 64 dog\n0 0 192 grass\n", encoding="utf-8")
    return tmp_path / "truth.png", tmp_path / "colors.txt"


def test_segment_shows_the_truth_and_follows_the_sliders(
    open_page: OpenPage, address: str, engine: FakeEngine, photo_file: Path, color_truth: tuple[Path, Path]
) -> None:
    page = open_page(address)
    choose(page, photo_file, "dog; grass")
    page.click("#segment-start")
    finished(page)
    truth = page.locator("#truth-segment")
    give_truth(page, *color_truth)
    expect(truth).to_contain_text("Mean IoU", timeout=PATIENCE)
    expect(truth.locator("tbody").first.locator("tr")).to_have_count(3)  # dog, grass, other
    expect(truth.locator("figure img")).to_have_count(2)
    expect(truth).to_contain_text("raise the threshold")
    runs, before = engine.runs, truth.locator("p[role=status]").inner_text()
    page.fill("#threshold input[type=number]", "1")
    expect(truth.locator("p[role=status]")).to_contain_text("Mean IoU 0 %", timeout=PATIENCE)
    page.click("#reset")
    expect(truth.locator("p[role=status]")).to_have_text(before, timeout=PATIENCE)
    assert engine.runs == runs
    page.fill("#classes textarea", "boat; water")
    page.click("#segment-start")
    expect(truth).to_contain_text("None of the truth's classes was asked for: dog, grass", timeout=PATIENCE)


def test_compare_has_a_row_and_an_error_map_for_each_method(
    open_page: OpenPage, address: str, photo_file: Path, color_truth: tuple[Path, Path]
) -> None:
    page = open_page(address)
    choose(page, photo_file, "dog; grass")
    give_truth(page, *color_truth)
    open_tab(page, "Compare")
    page.get_by_role("checkbox", name="SCLIP", exact=True).check()
    page.click("#compare-start")
    finished(page, "compare")
    truth = page.locator("#truth-compare")
    count = page.locator("#compare-table tbody tr").count()
    expect(truth.locator("tbody").first.locator("tr")).to_have_count(count, timeout=PATIENCE)
    expect(truth.locator("figure img")).to_have_count(count + 1)
    expect(truth).to_contain_text("Nearest to the truth on this photo")


def test_a_bad_mask_is_named_on_the_page(
    open_page: OpenPage, address: str, photo_file: Path, tmp_path: Path
) -> None:
    (tmp_path / "truth.json").write_text(json.dumps({"images": []}), encoding="utf-8")
    page = open_page(address, PHONE)
    choose(page, photo_file, "dog; grass")
    give_truth(page, tmp_path / "truth.json")
    page.click("#segment-start")
    finished(page)
    expect(page.locator("#truth-segment [role=alert]")).to_contain_text("truth.json", timeout=PATIENCE)
    expect(page.locator("#overlay img.mask")).to_have_count(2)  # the answer is still there
    assert fits(page)
