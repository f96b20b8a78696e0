"""The HTTP endpoints through gradio_client, on the real engine with tiny random towers."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from PIL import Image
from serving import served

from ovs_core.engine import Engine
from ovs_core.methods import METHODS
from ovs_core.ui.app import build_ui

SIZE = (40, 64)  # H, W


@pytest.fixture(scope="module")
def address(served_engine: Engine) -> Iterator[str]:
    with served(build_ui(served_engine)) as url:
        yield url


@pytest.fixture(scope="module")
def client(address: str, tmp_path_factory: pytest.TempPathFactory) -> Client:
    return Client(address, verbose=False, download_files=tmp_path_factory.mktemp("answers"))


@pytest.fixture(scope="module")
def photo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("photos") / "street.png"
    pixels = np.random.default_rng(0).integers(0, 256, (*SIZE, 3), np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def ask(client: Client, photo: Path, classes: str = "dog; grass", **more: Any) -> Any:
    return client.predict(image=handle_file(photo), classes=classes, api_name="/segment", **more)


def test_only_the_documented_endpoints_are_open(client: Client) -> None:
    endpoints = client.view_api(return_format="dict")["named_endpoints"]
    assert set(endpoints) == {"/segment", "/compare", "/inspect", "/methods"}


def test_segment_gives_the_label_map_and_its_report(client: Client, photo: Path) -> None:
    path, report = ask(client, photo, "dog; grass | lawn")
    with Image.open(path) as labels:
        assert labels.mode == "P"
        assert labels.size == SIZE[::-1]
        seen = set(np.unique(np.asarray(labels)))
    assert seen <= {0, 1, 2}
    assert Path(path).name == "street.naclip.labels.png"
    assert [entry["names"] for entry in report["classes"]][:2] == [["dog"], ["grass", "lawn"]]
    assert sum(entry["area_share"] for entry in report["classes"]) == pytest.approx(1)


def test_settings_are_used(client: Client, photo: Path) -> None:
    path, report = ask(
        client, photo, method="sclip", encoder="second", background="none", scale=7, threshold=1.0
    )
    assert report["method"] == "sclip"
    assert report["encoder"] == "second"
    assert report["vocabulary"]["other"] == []
    assert report["preset"]["scale"] == 7
    with Image.open(path) as labels:
        assert np.asarray(labels).max() == 0  # nothing is surer than a threshold of 1


def test_compare_gives_a_map_per_method_and_the_disagreement(client: Client, photo: Path) -> None:
    maps, picture, report = client.predict(
        image=handle_file(photo), classes="dog; grass", methods=["naclip", "clip"], api_name="/compare"
    )
    assert [Path(path).name for path in maps] == ["street.naclip.labels.png", "street.clip.labels.png"]
    assert list(report["methods"]) == ["naclip", "clip"]
    first, second = (np.asarray(Image.open(path)) for path in maps)
    differ = (first != second).mean()
    assert report["disagreement_share"] == pytest.approx(differ)
    assert report["agreement"]["clip"] == pytest.approx({"clip": 1, "naclip": 1 - differ})
    assert report["agreement"]["naclip"]["clip"] == report["agreement"]["clip"]["naclip"]
    assert report["agreeing"] == pytest.approx({"2": 1 - differ, "1": differ})
    with Image.open(report["files"]["consensus.png"]) as consensus:
        colored = np.ptp(np.asarray(consensus.convert("RGB"), int), axis=2) > 0
    assert colored.shape == SIZE
    assert not (colored & (first == 0)).any()  # of two that differ the first one's label stands
    assert Image.open(picture).size == SIZE[::-1]


def test_several_frames_are_looked_at_on_request(client: Client, photo: Path) -> None:
    _, report = ask(client, photo, several_frames=True)
    assert report["preset"]["frames"] == [1.0, 0.625, 1.25]
    assert ask(client, photo)[1]["preset"]["frames"] == [1.0]
    *_, compared = client.predict(
        image=handle_file(photo), classes="dog", methods=["clip"], several_frames=True, api_name="/compare"
    )
    assert compared["methods"]["clip"]["preset"]["frames"] == [1.0, 0.625, 1.25]


def test_compare_takes_all_methods_unless_told(client: Client, photo: Path) -> None:
    maps, _, report = client.predict(image=handle_file(photo), classes="dog", api_name="/compare")
    known = [name for name, spec in METHODS.items() if spec.head is None]
    assert list(report["methods"]) == known
    assert len(maps) == len(known)


def test_inspect_gives_a_heat_map_per_class(client: Client, photo: Path) -> None:
    maps, affinity, report = client.predict(
        image=handle_file(photo), classes="dog; grass", across=0.1, down=0.9, api_name="/inspect"
    )
    assert len(maps) == 2
    assert Image.open(maps[0]).size == SIZE[::-1]
    assert Image.open(affinity).size == SIZE[::-1]
    assert report["classes"] == ["dog", "grass"]
    assert -1 <= report["low"] <= report["high"] <= 1


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (
            {"views": ["view_maps"]},
            "views of NACLIP must be among affinity, attention, heads, layers, norms, .*; got 'view_maps'",
        ),
        ({"label": 3}, "class must be a number from 1 to 2, got 3"),
    ],
)
def test_views_a_method_does_not_have_get_one_sentence(
    client: Client, photo: Path, settings: dict[str, Any], said: str
) -> None:
    with pytest.raises(AppError, match=said):
        client.predict(image=handle_file(photo), classes="dog; grass", api_name="/inspect", **settings)


def test_methods_lists_methods_and_models(client: Client) -> None:
    found = client.predict(api_name="/methods")
    assert [entry["name"] for entry in found["methods"]] == list(METHODS)
    about = {entry["name"]: entry for entry in found["methods"]}
    assert about["naclip"]["available"]
    assert not about["fc_clip"]["available"]
    assert "FC-CLIP does not run on Tiny random towers 0" in about["fc_clip"]["reason"]
    own = ["affinity", "attention", "heads", "layers", "norms", "similarity", "word_cosines"]
    assert about["naclip"]["views"] == own
    assert [entry["name"] for entry in found["encoders"]] == ["mini", "second"]
    assert found["default"] == "naclip"


def test_methods_are_those_of_the_model_that_is_named(client: Client) -> None:
    found = client.predict(encoder="second", api_name="/methods")
    about = {entry["name"]: entry for entry in found["methods"]}
    assert "FC-CLIP does not run on Tiny random towers 1" in about["fc_clip"]["reason"]
    with pytest.raises(AppError, match="encoder must be one of mini, second; got 'third'"):
        client.predict(encoder="third", api_name="/methods")


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"classes": " ; "}, "at least one class"),
        ({"method": "nonsense"}, "method must be one of"),
        ({"encoder": "nonsense"}, "encoder must be one of"),
        ({"refine": "nonsense"}, "refiner must be one of"),
        ({"threshold": 2}, r"threshold must be a number in \[0, 1\], got 2"),
        ({"scale": 0}, "scale must be a number in .*, got 0"),
    ],
)
def test_bad_settings_get_one_sentence(
    client: Client, photo: Path, settings: dict[str, Any], said: str
) -> None:
    with pytest.raises(AppError, match=said):
        ask(client, photo, **settings)


def test_a_missing_photo_gets_one_sentence(client: Client) -> None:
    with pytest.raises(AppError, match="Choose a photo first"):
        client.predict(image=None, classes="dog", api_name="/segment")


def test_a_point_outside_gets_one_sentence(client: Client, photo: Path) -> None:
    with pytest.raises(AppError, match="point must be"):
        client.predict(image=handle_file(photo), classes="dog", across=1.5, api_name="/inspect")


def test_a_file_that_is_no_picture_gets_one_sentence(client: Client, tmp_path: Path) -> None:
    path = tmp_path / "letter.png"
    path.write_text("not a picture", encoding="utf-8")
    with pytest.raises(AppError, match=r"letter\.png"):
        ask(client, path)


def test_files_of_the_server_stay_there(client: Client) -> None:
    payload = {"path": str(Path(__file__)), "meta": {"_type": "gradio.FileData"}}
    with pytest.raises(AppError):
        client.predict(image=payload, classes="dog", api_name="/segment")


def test_two_clients_at_once_get_their_own_answers(address: str, photo: Path, tmp_path: Path) -> None:
    def one(words: str) -> list[list[str]]:
        client = Client(address, verbose=False, download_files=tmp_path / words[:3])
        _, report = ask(client, photo, words)
        return report["vocabulary"]["classes"]

    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(one, ["dog; grass", "boat; water; sky"])
    assert first == [["dog"], ["grass"]]
    assert second == [["boat"], ["water"], ["sky"]]


def test_inspect_looks_from_the_place_that_was_named(client: Client, photo: Path) -> None:
    """Across and down are not mistaken for each other: the attention of MaskCLIP is the patch alone."""
    width, height = 16, 10
    found = {}
    for across, down in ((0.9, 0.1), (0.1, 0.9)):
        _, affinity, _ = client.predict(
            image=handle_file(photo),
            classes="dog",
            method="maskclip",
            across=across,
            down=down,
            api_name="/inspect",
        )
        with Image.open(affinity) as picture:
            cells = picture.convert("L").resize((width, height), Image.Resampling.BOX)
        row, column = divmod(int(np.asarray(cells, np.float64).argmax()), width)
        found[across, down] = ((column + 0.5) / width, (row + 0.5) / height)
    assert all(abs(a - b) < 0.2 for place, seen in found.items() for a, b in zip(place, seen, strict=True))
