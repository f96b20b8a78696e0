"""Python in README and docs runs as it is printed, block after block, with the embedded model."""

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from clips import moving_blocks, write_clip

from ovs_core.cli import batch

ROOT = Path(__file__).resolve().parents[1]
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
PYTHON = re.compile(r"^```python\n(.*?)^```", re.DOTALL | re.MULTILINE)
ELSEWHERE = {
    "http.md",  # test_docs.py: it needs an app that runs
    "extending.md",  # test_extending.py
    "evaluation.md",  # evaluation/test_evaluation_docs.py
    "mask_methods.md",  # it is about the authors' files, which are not here
}
SAID: Mapping[str, str] = {
    "README.md": "temple",
    "start.md": "cat",
    "words.md": "truck",
    "methods.md": "alike",
    "inspect.md": "cos(patch, name)",
    "export.md": "cat.naclip.coco.json",
    "refine.md": "of the photo changed",
}
"""What each page prints, among other things."""


def blocks(page: Path) -> list[str]:
    return PYTHON.findall(page.read_text(encoding="utf-8"))


def clip(folder: Path) -> None:
    write_clip(folder / "clip.mp4", moving_blocks(2))


def rows(folder: Path) -> None:
    asked = ["--classes", "cat; blanket", "--out", str(folder / "rows")]
    assert batch.main([str(folder / "assets/photos/cat.jpg"), *asked]) == 0


RUN_HERE = [page for page in PAGES if blocks(page) and page.name not in ELSEWHERE]
PREPARED: Mapping[str, Callable[[Path], None]] = {"video.md": clip, "batch.md": rows}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a reader stands: in the project's folder, but what is written stays out of it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "assets").symlink_to(ROOT / "assets")
    return tmp_path


@pytest.mark.parametrize("page", RUN_HERE, ids=lambda page: page.name)
def test_the_python_of_a_page_runs(page: Path, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    PREPARED.get(page.name, lambda _: None)(folder)
    names: dict[str, Any] = {}
    for number, block in enumerate(blocks(page), start=1):
        exec(compile(block, f"{page.name}, block {number}", "exec"), names)
    assert SAID.get(page.name, "") in capsys.readouterr().out
    if page.name == "README.md":
        assert (folder / "out/temple.naclip.coco.json").is_file()
    if page.name == "inspect.md":
        with np.load(folder / "cat.affinity.npz", allow_pickle=False) as file:
            assert file["maps"].ndim == 3
    if page.name == "batch.md":
        assert names["made_by"]["settings"]["method"] == "naclip"
        assert names["labels"].ndim == 2
    if page.name == "video.md":
        assert (folder / "out").is_dir()


def test_every_page_for_people_is_short_and_linked_from_the_readme() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for name in ("start", "words", "methods", "inspect", "export"):
        page = ROOT / f"docs/{name}.md"
        assert len(page.read_text(encoding="utf-8").splitlines()) <= 60
        assert f"(docs/{name}.md)" in readme


def test_links_between_pages_lead_somewhere() -> None:
    lost = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for target in re.findall(r"\]\((?!https?:)([^)\s]+)\)", text):
            path, _, anchor = target.partition("#")
            file = (page.parent / path).resolve() if path else page
            if not file.exists() or (anchor and anchor not in anchors(file)):
                lost.append(f"{page.name}: {target}")
    assert lost == []


def anchors(page: Path) -> set[str]:
    """Anchors of the headings of a page, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    plain = (re.sub(r"[^\w\- ]", "", heading.replace("`", "").lower()) for heading in headings)
    return {heading.strip().replace(" ", "-") for heading in plain}
