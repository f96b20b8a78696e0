"""The page and the HTTP answers do not tell where on the machine the weights lie."""

import json
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest
from fake_engine import FakeEngine
from pages import PATIENCE, open_tab
from playwright.sync_api import Page, expect
from serving import served

from ovs_core.checkpoints import WeightStore
from ovs_core.engine import Engine
from ovs_core.ui.app import build_ui
from ovs_core.ui.asking import PHOTO_GONE, Question, answers
from ovs_core.ui.http import api_methods
from ovs_core.ui.models_tab import file_here, use_local_steps
from ovs_core.ui.places import PROJECT, shown_place, without_places

OpenPage = Callable[..., Page]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    return tmp_path


def test_places_as_people_name_them(home: Path) -> None:
    assert shown_place(PROJECT / "checkpoints" / "mini") == "checkpoints/mini"
    assert shown_place(home / "models" / "clip") == "~/models/clip"
    assert shown_place(Path("/data/shared/weights")) == "weights"


def test_sentences_keep_what_is_below_the_folders(home: Path) -> None:
    store = WeightStore(weights_dir=Path("/data/shared/weights"))
    said = without_places(f"/data/shared/weights/ViT-B-16.pt and {PROJECT}/checkpoints/x.pt differ.", store)
    assert said == "weights/ViT-B-16.pt and checkpoints/x.pt differ."
    assert without_places(f"There is no file {home}/photos/cat.jpg.", store) == (
        "There is no file ~/photos/cat.jpg."
    )
    assert (
        without_places("Get it from https://host/data/x.pt.", store) == "Get it from https://host/data/x.pt."
    )


def test_a_folder_without_a_name_hides_nothing_and_breaks_nothing(home: Path) -> None:
    assert without_places("a/b", WeightStore(weights_dir=Path("/"))) == "a/b"
    assert without_places("Wait. Done.", WeightStore(weights_dir=Path())) == "Wait. Done."


def test_refusals_do_not_tell_places(tmp_path: Path) -> None:
    engine = FakeEngine(tmp_path / "weights")
    path = tmp_path / "weights" / "wrong.pt"
    path.parent.mkdir()
    path.write_bytes(b"no weights")

    def ask() -> None:
        raise ValueError(f"{path} is damaged.")

    [status] = answers(engine, ask)
    assert status.text == "weights/wrong.pt is damaged."
    *_, refused = use_local_steps(engine.store, "openai-vit-b-16", "wrong.pt")
    assert refused.kind == "error"
    assert str(tmp_path) not in refused.text
    *_, refused = use_local_steps(engine.store, "openai-vit-b-16", "absent.pt")
    assert refused.text.startswith("Put the file into weights and type its name alone")


def test_reasons_do_not_tell_places(tmp_path: Path) -> None:
    (tmp_path / "mini").mkdir()
    (tmp_path / "mini" / "fc_clip.safetensors").write_bytes(b"no weights")
    report = api_methods(Engine(device="cpu", weights_dir=tmp_path, offline=True, text_dir=tmp_path))
    about = {entry["name"]: entry for entry in report["methods"]}
    assert f"{tmp_path.name}/mini/fc_clip.safetensors carries no notes" in about["fc_clip"]["reason"]
    said = json.dumps(report)
    assert str(tmp_path) not in said
    assert str(PROJECT) not in said


def test_files_are_named_below_their_folder(tmp_path: Path) -> None:
    (tmp_path / "ViT-B-16.pt").write_bytes(b"")
    store = WeightStore(weights_dir=tmp_path)
    assert file_here(store, "openai-vit-b-16") == Path("ViT-B-16.pt")
    assert file_here(store, "mini") == Path("mini/mini.safetensors")
    assert file_here(store, "openai-vit-b-32") is None


def test_the_page_names_no_place(open_page: OpenPage, tmp_path: Path) -> None:
    (tmp_path / "weights").mkdir()
    engine = FakeEngine(tmp_path / "weights")
    with served(build_ui(engine)) as url:
        page = open_page(url)
        open_tab(page, "Models")
        expect(page.get_by_text("Files live in the folder “weights”.")).to_be_visible()
        expect(page.get_by_text("mini/mini.safetensors", exact=True)).to_be_visible()
        shown = page.inner_text("body")
        with urllib.request.urlopen(f"{url}/config") as answer:
            config = answer.read().decode()
        for place in (str(tmp_path), str(PROJECT), str(Path.home())):
            assert place not in shown
            assert place not in config
        (tmp_path / "weights" / "ViT-B-32.pt").write_bytes(b"")
        page = open_page(url)  # what came meanwhile is on the next page
        open_tab(page, "Models")
        card = page.locator(".ovs-model", has_text="OpenAI CLIP ViT-B/32").first
        expect(card).to_contain_text("ViT-B-32.pt", timeout=PATIENCE)
        expect(card.get_by_text("Use a local file")).to_be_hidden()


def test_a_photo_that_was_cleared_away_is_asked_for_again(tmp_path: Path) -> None:
    asked = Question(str(tmp_path / "gone.png"), "dog", "", "mini", "none")
    with pytest.raises(ValueError, match=PHOTO_GONE):
        asked.read(FakeEngine(tmp_path))
