"""Panoptic and instance files over HTTP, with a mask method on a toy tower."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from official_files import entry, toy_encoder, write_catalogue, write_file
from PIL import Image
from towers import tiny_spec

from ovs_core.checkpoints import WeightStore
from ovs_core.engine import Engine
from ovs_core.ui.app import build_ui, launch

SIZE = (40, 64)  # H, W


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    folder = tmp_path_factory.mktemp("weights")
    write_catalogue(folder, entry("maft_plus", "maft_plus.pth"))
    write_file(folder, "maft_plus", seed=8)  # its masks are sure enough to be segments
    encoders = {spec.name: spec for spec in (tiny_spec("mini"), toy_encoder("maft_plus"))}
    engine = Engine(device="cpu", offline=True, text_dir=tmp_path_factory.mktemp("text"), encoders=encoders)
    engine.store = WeightStore(root=folder)
    page = build_ui(engine)
    address = launch(page, host="127.0.0.1", port=None, browser=False)
    yield Client(address, verbose=False, download_files=tmp_path_factory.mktemp("answers"))
    page.close(verbose=False)


@pytest.fixture(scope="module")
def photo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("photos") / "street.png"
    pixels = np.random.default_rng(0).integers(0, 256, (*SIZE, 3), np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def ask(client: Client, photo: Path, **more: Any) -> Any:
    return client.predict(image=handle_file(photo), classes="dog; grass", api_name="/segment", **more)


def masks(client: Client, photo: Path, **more: Any) -> Any:
    return ask(client, photo, method="maft_plus", encoder="toy_maft_plus", background="none", **more)


def test_panoptic_and_instance_files(client: Client, photo: Path) -> None:
    labels, report = masks(client, photo, export=["panoptic", "instances"])
    assert Path(labels).name == "street.maft_plus.labels.png"
    files = report["files"]
    assert list(files) == [
        *("overlay.png", "panoptic.png", "panoptic.json", "panoptic.overlay.png"),
        *("instances.json", "instances.overlay.png"),
    ]
    assert Path(files["panoptic.png"]).name == "street.maft_plus.panoptic.png"
    document = json.loads(Path(files["panoptic.json"]).read_text())
    assert document["annotations"][0]["file_name"] == "street.maft_plus.panoptic.png"
    with Image.open(files["panoptic.png"]) as picture:
        assert picture.size == SIZE[::-1]
        ids = np.asarray(picture).astype(int) @ np.array([1, 256, 65536])
    assert ids.any()
    areas = {one["id"]: one["area"] for one in document["annotations"][0]["segments_info"]}
    assert areas == {number: (ids == number).sum() for number in np.unique(ids[ids > 0]).tolist()}
    instances = json.loads(Path(files["instances.json"]).read_text())
    assert all(one["segmentation"]["size"] == list(SIZE) for one in instances["annotations"])
    with Image.open(files["panoptic.overlay.png"]) as picture:
        assert picture.format == "PNG"


def test_stuff_is_what_the_caller_says(client: Client, photo: Path) -> None:
    def things(**more: Any) -> list[int]:
        _, report = masks(client, photo, export=["panoptic"], **more)
        return [
            one["isthing"]
            for one in json.loads(Path(report["files"]["panoptic.json"]).read_text())["categories"]
        ]

    assert things() == [1, 0]
    assert things(stuff="dog") == [0, 1]
    assert things(stuff="none") == [1, 1]


def test_other_methods_have_the_other_files(client: Client, photo: Path) -> None:
    _, report = ask(client, photo, export=["coco"])
    assert list(report["files"]) == ["overlay.png", "coco.json"]
    assert json.loads(Path(report["files"]["coco.json"]).read_text())["images"][0]["width"] == SIZE[1]


def test_nothing_asked_nothing_added(client: Client, photo: Path) -> None:
    _, report = masks(client, photo)
    assert "files" not in report


@pytest.mark.parametrize(
    ("export", "said"),
    [
        (["panoptic"], "Export format 'panoptic' needs a method that proposes masks; naclip does not"),
        (["pdf"], "Unknown export format 'pdf'; known formats: coco, "),
    ],
)
def test_files_that_cannot_be_made_get_one_sentence(
    client: Client, photo: Path, export: list[str], said: str
) -> None:
    with pytest.raises(AppError, match=said):
        ask(client, photo, export=export)
