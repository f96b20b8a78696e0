"""POST /v1/segment and GET /health: a form in, JSON out, no gradio in between."""

import base64
import itertools
import json
import socket
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import httpx
import numpy as np
import pytest
from serving import png, served

from ovs_core import Engine as PublicEngine
from ovs_core.engine import Cancelled, Engine, Progress, Request
from ovs_core.image import read_photo
from ovs_core.ui.app import build_ui, launch
from ovs_core.version import VERSION
from ovs_core.vocabulary.exemplars import Exemplar

AUTH = ("ann", "se:cret")
SIZE = (40, 64)  # H, W
Form = Mapping[str, Any]


@pytest.fixture(scope="module")
def web(served_engine: Engine) -> Iterator[httpx.Client]:
    with (
        served(build_ui(served_engine), auth=AUTH, engine=served_engine) as address,
        httpx.Client(base_url=address, timeout=60) as client,
    ):
        yield client


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (*SIZE, 3), np.uint8)


@pytest.fixture(scope="module")
def photo(pixels: np.ndarray) -> bytes:
    return png(pixels)


@pytest.fixture(scope="module")
def other() -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (24, 36, 3), np.uint8)


def ask(
    web: httpx.Client, photo: bytes, auth: tuple[str, str] | None = AUTH, **fields: str
) -> httpx.Response:
    data = {"classes": "dog; grass", **fields}
    return web.post("/v1/segment", files={"image": ("street.png", photo)}, data=data, auth=auth)


def decoded(segmentation: Mapping[str, Any]) -> np.ndarray:
    """COCO's compressed run lengths back to a mask (H, W), written from its description alone."""
    lengths: list[int] = []
    letters = iter(segmentation["counts"].encode())
    for letter in letters:
        value = shift = 0
        code = letter - 48
        while True:
            value |= (code & 31) << shift
            shift += 5
            if not code & 32:
                break
            code = next(letters) - 48
        if code & 16:
            value -= 1 << shift
        lengths.append(value + (lengths[-2] if len(lengths) > 2 else 0))
    flat = np.concatenate([np.full(length, place % 2 == 1) for place, length in enumerate(lengths)])
    height, width = segmentation["size"]
    return flat.reshape(width, height).T


def test_the_masks_are_those_of_python(
    web: httpx.Client, served_engine: Engine, photo: bytes, pixels: np.ndarray
) -> None:
    answer = ask(web, photo, method="clip", background="none").json()
    wanted = served_engine.segment(pixels, "dog; grass", method="clip", background="none")
    assert isinstance(served_engine, PublicEngine)
    assert (answer["image"]["width"], answer["image"]["height"]) == (SIZE[1], SIZE[0])
    assert answer["source"] == "street.png"
    labels = np.zeros(SIZE, int)
    for entry in answer["masks"]:
        mask = decoded(entry["segmentation"])
        labels[mask] = entry["id"]
        rows, columns = np.nonzero(mask)
        left, top, width, height = entry["bbox"]
        assert (left, top) == (columns.min(), rows.min())
        assert (width, height) == (np.ptp(columns) + 1, np.ptp(rows) + 1)
        assert entry["area"] == mask.sum()
    assert np.array_equal(labels, wanted.labels)
    won = [found.names[0] for found in wanted.classes if found.label and found.area_share > 0]
    assert [entry["name"] for entry in answer["masks"]] == won != []


def test_options_are_taken(web: httpx.Client, photo: bytes) -> None:
    answer = ask(web, photo, options='{"threshold": 1.0}').json()
    assert answer["options"]["threshold"] == 1.0
    assert answer["masks"] == []


def test_boxes_are_those_of_python(
    web: httpx.Client, served_engine: Engine, photo: bytes, pixels: np.ndarray, other: np.ndarray
) -> None:
    boxes = [
        {"box": [5, 4, 30, 28], "name": "mug"},
        {"box": [0, 0, 20, 12], "image": "kitchen.png"},
        {"box": [2, 2, 9, 9], "image": "kitchen.png", "name": "other"},
    ]
    answer = web.post(
        "/v1/segment",
        files=[("image", ("street.png", photo)), ("photos", ("kitchen.png", png(other)))],
        data={"classes": "dog", "background": "none", "exemplars": json.dumps(boxes)},
        auth=AUTH,
    ).json()
    wanted = served_engine.segment(
        pixels,
        "dog",
        background="none",
        exemplars=[
            Exemplar(read_photo(pixels), (5, 4, 30, 28), "mug"),
            Exemplar(read_photo(other), (0, 0, 20, 12)),
            Exemplar(read_photo(other), (2, 2, 9, 9), "other"),
        ],
    )
    assert [entry["names"][0] for entry in answer["classes"]] == ["dog", "mug (box)", "box 2 (box)", "other"]
    assert [(box["name"], box["photo_sha256"]) for box in answer["exemplars"]] == [
        ("mug", read_photo(pixels).key),
        ("", read_photo(other).key),
        ("other", read_photo(other).key),
    ]
    assert answer["masks"]
    for entry in answer["masks"]:
        assert np.array_equal(decoded(entry["segmentation"]), wanted.labels == entry["id"])


def test_boxes_go_without_a_word(web: httpx.Client, photo: bytes) -> None:
    answer = ask(web, photo, classes="", exemplars='[{"box": [5, 4, 30, 28], "name": "mug"}]')
    assert answer.json()["classes"][0]["names"] == ["mug (box)"]


@pytest.mark.parametrize(
    ("exemplars", "sentence"),
    [
        ("{", "exemplars must be a JSON list of boxes"),
        ('{"box": [1, 2, 3, 4]}', "exemplars must be a list of boxes"),
        ('[{"box": [1, 2, 3]}]', "each exemplar must be"),
        ('[{"box": [1, 2, 3, 4], "path": "/etc/passwd"}]', "each exemplar must be"),
        ('[{"box": [1, 2, 1, 4]}]', "has no area"),
        ('[{"box": [1, 2, 300, 4]}]', "reaches out of the photo of 64 x 40 pixels"),
        ('[{"box": [1, 2, 3, 4], "image": {"path": "/etc/passwd"}}]', "sent as photos: kitchen.png"),
        ('[{"box": [1, 2, 3, 4], "image": "/etc/passwd"}]', "sent as photos: kitchen.png"),
        ('[{"box": [1, 2, 3, 4], "image": ""}]', "sent as photos: kitchen.png"),
        ('[{"box": [1, 2, 3, 4], "image": "data:image/png;base64,AAAA"}]', "sent as photos: kitchen.png"),
        ('[{"box": [1, 2, 3, 4], "image": "kitchen.png"}]', "not a picture that can be read"),
    ],
)
def test_a_wrong_box_gets_one_sentence(
    web: httpx.Client, photo: bytes, exemplars: str, sentence: str
) -> None:
    files = [("image", ("a.png", photo)), ("photos", ("rooms/kitchen.png", b"no picture"))]
    data = {"classes": "dog", "exemplars": exemplars}
    answer = web.post("/v1/segment", files=files, data=data, auth=AUTH)
    assert answer.status_code == 400
    assert sentence in answer.json()["error"]
    assert "passwd" not in answer.json()["error"]


def test_photos_of_boxes_have_names_of_their_own_and_a_limit(
    web: httpx.Client, photo: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    def said(files: list[tuple[str, Any]], exemplars: str = "[]") -> str:
        data = {"classes": "dog", "exemplars": exemplars}
        answer = web.post("/v1/segment", files=[("image", photo), *files], data=data, auth=AUTH)
        assert answer.status_code == 400
        return answer.json()["error"]

    twice = [("photos", ("a/b.png", photo)), ("photos", ("c/b.png", photo))]
    assert said(twice) == "Every file of photos needs a name of its own."
    assert said([("photos", ("b.png", bytes(50_000_001)))]) == "photos must be of at most 50 MB."
    monkeypatch.setattr("ovs_core.ui.boxes.MAX_PIXELS", 3000)  # one photo holds 40 x 64
    boxes = json.dumps([{"box": [1, 2, 3, 4]}, {"box": [1, 2, 3, 4], "image": "b.png"}])
    assert "megapixels together" in said([("photos", ("b.png", photo))], boxes)


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"classes": " ; "}, "at least one class"),
        ({"method": "nonsense"}, "method must be one of"),
        ({"encoder": "nonsense"}, "encoder must be one of"),
        ({"refine": "nonsense"}, "must be one of"),
        ({"options": "{"}, "options must be a JSON object of values by name"),
        ({"options": "[" * 100_000}, "options must be a JSON object of values by name"),
        ({"options": '["scale"]'}, "options must be an object of values by name, got ['scale']"),
        ({"options": '{"scale": "much"}'}, "scale must be a number"),
        ({"path": "/etc/passwd"}, "There is no field 'path'; there are image, photos, classes, method"),
    ],
)
def test_a_wrong_field_gets_one_sentence(
    web: httpx.Client, photo: bytes, fields: dict[str, str], sentence: str
) -> None:
    answer = ask(web, photo, **fields)
    assert answer.status_code == 400
    assert list(answer.json()) == ["error"]
    assert sentence in answer.json()["error"]


def test_forms_that_are_none_get_one_sentence(web: httpx.Client, photo: bytes) -> None:
    def said(**body: Any) -> str:
        answer = web.post("/v1/segment", auth=AUTH, **body)
        assert answer.status_code == 400
        return answer.json()["error"]

    assert "must be a form" in said(json={"path": "/etc/passwd"})
    assert "must be a form" in said()
    assert said(files={"other": b"x"}) == (
        "There is no field 'other'; there are image, photos, classes, method, encoder, background, refine, "
        "options, exemplars."
    )
    assert said(files={"classes": b"x"}) == "image must be one file of the form."
    assert said(files={"image": photo, "classes": ("a", b"x")}) == "classes must be text, not a file."
    assert said(files=[("image", photo), ("image", photo)]) == "image must be one file of the form."
    assert "Too many files" in said(files=[("image", photo)] * 102)
    broken = {"content-type": "multipart/form-data; boundary=x"}
    assert "The form cannot be read" in said(content=b"--x\r\n: nonsense", headers=broken)
    assert "not a picture" in said(files={"image": b"not a picture"}, data={"classes": "dog"})


def test_who_has_no_password_is_refused(web: httpx.Client, photo: bytes) -> None:
    for auth in (None, ("ann", "wrong"), ("", "")):
        answer = ask(web, photo, auth)
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"].startswith("Basic")
    odd = web.post("/v1/segment", headers={"authorization": "Basic ***"})
    assert odd.status_code == 401


def test_health_is_open(web: httpx.Client) -> None:
    answer = web.get("/health")
    assert answer.status_code == 200
    assert answer.json() == {"status": "ok", "version": VERSION, "waiting": 0}


def test_many_at_once_get_their_own_answers(web: httpx.Client, photo: bytes) -> None:
    def one(words: str) -> list[list[str]]:
        return ask(web, photo, classes=words).json()["vocabulary"]["classes"]

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(one, ["dog", "boat; water", "tree", "sky; grass; hill"]))
    assert found == [[["dog"]], [["boat"], ["water"]], [["tree"]], [["sky"], ["grass"], ["hill"]]]
    assert threading.active_count() < 100


def test_a_request_that_is_too_large_is_refused(web: httpx.Client) -> None:
    assert ask(web, bytes(50_000_001)).status_code == 400
    assert ask(web, bytes(80_000_001)).status_code == 413


def test_those_who_send_slowly_hold_up_nobody(web: httpx.Client, photo: bytes) -> None:
    """Twenty forms that never end, more than the line has places."""
    head = (
        "POST /v1/segment HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n"
        f"Authorization: Basic {base64.b64encode(':'.join(AUTH).encode()).decode()}\r\n"
        "Content-Type: multipart/form-data; boundary=x\r\n\r\n--x\r\n"
    )
    address = (web.base_url.host, web.base_url.port)
    with ExitStack() as slow:
        for _ in range(20):
            slow.enter_context(socket.create_connection(address)).sendall(head.encode())
        assert ask(web, photo).status_code == 200
        assert web.get("/health").json()["waiting"] == 0
    assert ask(web, photo).status_code == 200


def test_a_form_that_breaks_off_gets_one_sentence(web: httpx.Client) -> None:
    """Here because it grows past the limit without having said so."""
    parts = itertools.chain(
        [b'--x\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\n'], [bytes(1 << 20)] * 81
    )
    kind = {"Content-Type": "multipart/form-data; boundary=x"}
    answer = web.post("/v1/segment", content=parts, headers=kind, auth=AUTH)
    assert (answer.status_code, answer.json()) == (400, {"error": "The request ended before its form did."})


class Endless:
    """An engine whose answers never come."""

    def __init__(self, engine: Engine) -> None:
        self.store, self.check = engine.store, engine.check
        self.stopped = threading.Event()

    def run(self, request: Request, cancel: threading.Event) -> Iterator[Progress]:
        yield Progress("encode", 0, 2)
        cancel.wait()
        self.stopped.set()
        raise Cancelled


def test_who_goes_away_is_not_worked_for(served_engine: Engine, photo: bytes) -> None:
    endless, page = Endless(served_engine), build_ui(served_engine)
    address = launch(page, host="127.0.0.1", port=None, browser=False, engine=endless)
    with httpx.Client(base_url=address, timeout=1) as visitor, pytest.raises(httpx.ReadTimeout):
        ask(visitor, photo)
    assert endless.stopped.wait(20)
    page.close(verbose=False)
