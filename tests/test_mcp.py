"""POST /mcp: one tool for programs with a language model, off by default; nothing is opened by name."""

import base64
import io
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image
from serving import png, served

from ovs_core.engine import Engine
from ovs_core.ui.app import build_ui
from ovs_core.ui.openapi import FIELDS

AUTH = ("ann", "se:cret")
SIZE = (40, 64)  # H, W
SECRET = (201, 17, 93)
INITIALIZE = {
    "protocolVersion": "2025-06-18",
    "capabilities": {},
    "clientInfo": {"name": "t", "version": "1"},
}


@pytest.fixture(scope="module")
def web(served_engine: Engine) -> Iterator[httpx.Client]:
    with (
        served(build_ui(served_engine), auth=AUTH, engine=served_engine, mcp=True) as address,
        httpx.Client(base_url=address, timeout=60, auth=AUTH) as client,
    ):
        yield client


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (*SIZE, 3), np.uint8)


def said(web: httpx.Client, method: str, params: object = None) -> dict[str, Any]:
    body = json.dumps({"jsonrpc": "2.0", "id": 7, "method": method, "params": params})
    answer = web.post("/mcp", content=body)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    assert (answer.json()["jsonrpc"], answer.json()["id"]) == ("2.0", 7)
    return answer.json()


def call(web: httpx.Client, **arguments: object) -> dict[str, Any]:
    return said(web, "tools/call", {"name": "segment", "arguments": arguments})["result"]


def refusal(web: httpx.Client, **arguments: object) -> str:
    result = call(web, **arguments)
    assert result["isError"] is True
    ((kind, text),) = [(part["type"], part["text"]) for part in result["content"]]
    assert kind == "text"
    assert "\n" not in text
    return text


def test_a_client_is_greeted_in_its_version(web: httpx.Client) -> None:
    assert said(web, "initialize", INITIALIZE)["result"]["protocolVersion"] == "2025-06-18"
    newer = said(web, "initialize", {**INITIALIZE, "protocolVersion": "2999-01-01"})["result"]
    assert newer["protocolVersion"] == "2025-11-25"
    assert newer["capabilities"] == {"tools": {}}
    told = web.post("/mcp", json={"jsonrpc": "2.0", "method": "notifications/initialized"})
    assert (told.status_code, told.content) == (202, b"")
    assert said(web, "ping")["result"] == {}
    assert web.get("/mcp").status_code == 405  # no stream


def test_the_tool_says_what_it_takes(web: httpx.Client, served_engine: Engine) -> None:
    (tool,) = said(web, "tools/list")["result"]["tools"]
    properties = tool["inputSchema"]["properties"]
    assert list(properties) == ["image", *FIELDS]
    assert properties["method"]["enum"] == list(served_engine.method_specs)
    assert all(field["type"] == "string" and field["description"] for field in properties.values())
    assert tool["inputSchema"]["required"] == ["image", "classes"]


@pytest.mark.parametrize("lead", ["", "data:image/png;base64,"])
def test_the_answer_is_that_of_python(
    web: httpx.Client, served_engine: Engine, pixels: np.ndarray, lead: str
) -> None:
    image = lead + base64.b64encode(png(pixels)).decode()
    result = call(web, image=image, classes="dog; grass", background="none", method="clip")
    assert result["isError"] is False
    text, picture = result["content"]
    report = json.loads(text["text"])
    wanted = served_engine.segment(pixels, "dog; grass", method="clip", background="none")
    shares = {entry["names"][0]: entry["area_share"] for entry in report["classes"] if entry["id"]}
    assert shares == {
        found.names[0]: pytest.approx(found.area_share) for found in wanted.classes if found.label
    }
    with Image.open(io.BytesIO(base64.b64decode(picture["data"]))) as opened:
        assert (opened.format, opened.size) == ("PNG", SIZE[::-1])
    assert picture["mimeType"] == "image/png"


def test_nothing_is_opened_by_name(web: httpx.Client, pixels: np.ndarray, tmp_path: Path) -> None:
    """Paths and addresses as the photo, as a box's photo and as a class list, there or not."""
    secret = tmp_path / "secret.png"
    secret.write_bytes(png(np.full((*SIZE, 3), SECRET, np.uint8)))
    (tmp_path / "classes.txt").write_text("secretword\n")
    link, fifo = tmp_path / "link.png", tmp_path / "fifo.png"
    link.symlink_to(secret)
    os.mkfifo(fifo)
    places = [secret, tmp_path / "nothing.png", link, fifo, tmp_path, "/dev/zero", f"{tmp_path}/../x", "~"]
    names = [
        *(str(place) for place in places),
        *(secret.as_uri(), "http://127.0.0.1:9/a.png", "https://example.org/a.png", f"data:,{secret}"),
        *(f"data:image/png;base64,{secret}", "", str(secret).replace(".", "")),
    ]
    assert len({refusal(web, image=name, classes="dog") for name in names}) <= 2  # no base64, or no picture
    image = base64.b64encode(png(pixels)).decode()
    for name in names:
        boxes = json.dumps([{"box": [1, 1, 20, 20], "name": "mug", "image": name}])
        if name:  # an empty one means the photo itself
            told = refusal(web, image=image, classes="dog", exemplars=boxes)
            assert told == "The image of an exemplar must be the name of a file sent as photos: none."
    for place in (tmp_path / "classes.txt", tmp_path / "nothing.txt"):  # names like any others here
        result = call(web, image=image, classes=f"@{place}", background=f"@{place}")
        assert result["isError"] is False
        assert "secretword" not in json.dumps(result)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"classes": "dog"}, "The picture is empty (0 bytes)."),
        ({"image": "***", "classes": "dog"}, "image must be the bytes of a picture file as base64"),
        ({"image": {"path": "/etc/passwd"}, "classes": "dog"}, "image must be text."),
        ({"image": "aGFsbG8=", "classes": "dog", "url": "http://x"}, "There is no argument 'url'"),
        ({"image": "PHOTO"}, "Type at least one class name."),
        ({"image": "PHOTO", "classes": "dog", "method": "nonsense"}, "nonsense"),
        ({"image": "PHOTO", "classes": "dog", "options": "{"}, "options must be a JSON object"),
    ],
)
def test_a_wrong_argument_gets_one_sentence(
    web: httpx.Client, pixels: np.ndarray, arguments: dict[str, Any], sentence: str
) -> None:
    if arguments.get("image") == "PHOTO":
        arguments = {**arguments, "image": base64.b64encode(png(pixels)).decode()}
    assert sentence in refusal(web, **arguments)


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"{", 400, -32700),
        (b"[" * 100_000, 400, -32700),
        (b"\xff\xfe", 400, -32700),
        (b"[]", 400, -32600),
        (b'{"id": 1, "method": 3}', 400, -32600),
        (b'{"id": NaN, "method": "ping"}', 400, -32600),
        (b'{"id": {"path": "/etc/passwd"}, "method": "ping"}', 400, -32600),
        (b'{"id": "\\ud800", "method": "\\ud800"}', 200, -32601),
        (b'{"id": 1, "method": "resources/read", "params": {"uri": "file:///etc/passwd"}}', 200, -32601),
        (b'{"id": 1, "method": "tools/call", "params": ["segment"]}', 200, -32602),
        (b'{"id": 1, "method": "tools/call", "params": {"name": "other"}}', 200, -32602),
    ],
)
def test_what_is_no_request_is_refused(web: httpx.Client, body: bytes, status: int, code: int) -> None:
    answer = web.post("/mcp", content=body)
    assert answer.status_code == status
    assert answer.json()["error"]["code"] == code
    assert answer.json()["error"]["message"]


def test_browsers_and_strangers_are_refused(web: httpx.Client) -> None:
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
    assert web.post("/mcp", json=body, headers={"Origin": str(web.base_url)}).status_code == 403
    stranger = httpx.post(f"{web.base_url}/mcp", json=body)
    assert stranger.status_code == 401
    assert "tools" not in stranger.text
    assert web.post("/mcp", content=iter([bytes(1 << 20)] * 81)).status_code == 413


def test_it_is_off_unless_asked_for(served_engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRADIO_MCP_SERVER", "True")  # gradio's own way to ask for its own
    with served(build_ui(served_engine), engine=served_engine) as address:
        body = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
        for path in ("/mcp", "/gradio_api/mcp", "/gradio_api/mcp/", "/gradio_api/mcp/http"):
            assert httpx.post(f"{address}{path}", json=body).status_code in (404, 405), path
            assert "tools" not in httpx.get(f"{address}{path}/schema").text
