"""No endpoint opens a file that its visitor did not send, and none tells whether there is such a file."""

import asyncio
import base64
import hashlib
import io
import os
import re
from collections.abc import Callable, Coroutine, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import httpx
import numpy as np
import pytest
from fake_engine import FakeEngine
from gradio_client import Client
from gradio_client.exceptions import AppError
from PIL import Image
from serving import served

from ovs_core.ui.app import build_ui
from ovs_core.ui.asking import PHOTO_GONE
from ovs_core.ui.guard import Guard, Uploads
from ovs_core.ui.inputs import load_examples
from ovs_core.ui.pictures import store_png

GONE = "was not uploaded here by you, or is no longer kept: choose it again."
SECRET = (201, 17, 93)
META = {"_type": "gradio.FileData"}
API = "/gradio_api"


@pytest.fixture(scope="module")
def page(engine: FakeEngine) -> Any:
    return build_ui(engine)


@pytest.fixture(scope="module")
def web(page: Any) -> Iterator[httpx.Client]:
    with served(page) as url, httpx.Client(base_url=url, timeout=30) as client:
        yield client


def png(color: tuple[int, int, int], size: tuple[int, int] = (40, 64)) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.full((*size, 3), color, np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def upload(web: httpx.Client, content: bytes, name: str = "mine.png", **more: Any) -> str:
    (path,) = web.post(f"{API}/upload", files={"files": (name, content)}, **more).raise_for_status().json()
    return path


@pytest.fixture(scope="module")
def forbidden(web: httpx.Client, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Paths that must not be opened, by what is wrong with them."""
    folder = tmp_path_factory.mktemp("elsewhere")
    secret = folder / "secret.png"
    secret.write_bytes(png(SECRET))
    cache = Path(os.environ["GRADIO_TEMP_DIR"])
    link = cache / "linked" / "link.png"
    link.parent.mkdir(exist_ok=True)
    link.symlink_to(secret)
    fifo = folder / "fifo.png"
    os.mkfifo(fifo)
    others = upload(web, png(SECRET), "theirs.png")
    other_visitor = {"data": [{"path": others, "meta": META}], "session_hash": "somebody-else"}
    web.post(f"{API}/run/photo_to_click", json=other_visitor).raise_for_status()
    yield {
        "a picture": str(secret),
        "nothing there": str(folder / "nothing.png"),
        "a folder": str(folder),
        "no folder": str(folder / "none" / "nothing.png"),
        "up and out": f"{cache}/../{os.path.relpath(secret, cache.parent)}",
        "up and out of an upload": f"{Path(others).parent}/../{os.path.relpath(secret, cache)}",
        "a link": str(link),
        "a device": "/dev/zero",
        "a pipe": str(fifo),
        "another visitor's": others,
        "the app's own": store_png(np.full((40, 64, 3), SECRET, np.uint8), "photo.png"),
        "file URL": secret.as_uri(),
        "web": "http://127.0.0.1:9/secret.png",
        "web of ours": f"{web.base_url}{API}/file={others}",
        "zero byte": f"{secret}\0.png",
        "long": "/" + "x" * 5000,
    }
    link.unlink()


def spellings(path: str) -> list[Any]:
    """Ways to write one file in a request."""
    return [
        {"path": path},
        {"path": path, "meta": META},
        {"path": path, "meta": {"_type": "something else"}},
        {"path": path, "url": f"{API}/file={path}", "orig_name": "a.png", "is_stream": True, "meta": META},
        {"path": [path]},
        {"path": {"path": path, "meta": META}},
        {"url": path},
        {"url": path, "meta": META},
        {"image": {"path": path, "meta": META}},
        {"value": {"path": path, "meta": META}, "path": ""},
        path,
        [{"path": path}],
    ]


def is_photo(field: Any) -> bool:
    return type(field).__name__ in ("Image", "File", "Video", "Gallery", "UploadButton", "ImageEditor")


def arguments(function: Any, photo: Any) -> list[Any]:
    """What the page would send, with `photo` for every picture and a word in every empty line."""

    def sent(field: Any) -> Any:
        if is_photo(field):
            return photo
        if type(field).__name__ == "Textbox":
            own = (field.elem_id or "").startswith("option-")  # a number or nothing
            return field.value or ("" if own else "dog")
        return None if field.stateful else field.value

    return [sent(field) for field in function.inputs]


def replies(web: httpx.Client, function: Any, data: list[Any], session: str, *, call: bool) -> list[str]:
    """Everything that the ways to ask one endpoint answer; `call` is the slowest of them."""
    name = function.api_name or "predict"
    body = {"data": data, "fn_index": function._id, "session_hash": session}
    texts = [web.post(f"{API}/{route}/{name}", json=body).text for route in ("run", "api")]
    texts.append(joined(web, body, session))
    if call:
        started = web.post(f"{API}/call/{name}", json={"data": data, "session_hash": session})
        event = started.json().get("event_id")
        texts.append(started.text if event is None else web.get(f"{API}/call/{name}/{event}").text)
    return [without_chance(text) for text in texts]


def joined(web: httpx.Client, body: dict[str, Any], session: str) -> str:
    """Wait in line as the page does, and give everything that comes."""
    started = web.post(f"{API}/queue/join", json=body)
    if started.status_code != 200:
        return started.text
    return web.get(f"{API}/queue/data", params={"session_hash": session}).text


def without_chance(text: str) -> str:
    """Leave out what differs from one request to the next, or with what else is in line."""
    text = re.sub(r'"(event_id|\w*duration|\w*eta|\w*time)": ?("[^"]*"|[^,}]*)', "", text)
    return re.sub(r'data: {"msg": ?"(estimation|heartbeat)".*\n\n', "", text)


def pictures(web: httpx.Client, text: str) -> Iterator[np.ndarray]:
    """Every picture that an answer points to."""
    for path in set(re.findall(r'"path": ?"([^"]+)"|gradio_api/file=([^"\\]+)', text)):
        path = unquote("".join(path))
        got = web.get(f"{API}/file={path}")
        if got.status_code == 200:
            try:
                yield np.asarray(Image.open(io.BytesIO(got.content)).convert("RGB"))
            except OSError:
                continue


def shows_secret(web: httpx.Client, text: str) -> bool:
    """Whether a secret picture came back, or one was asked for and found to be there."""
    wanted = np.array(SECRET)
    return any((np.abs(pixels.astype(int) - wanted).max(axis=2) < 3).any() for pixels in pictures(web, text))


def shown_path(reply: httpx.Response) -> str:
    """Path of the picture in a piece of the page."""
    return unquote(re.findall(r'file=([^"]+)"', reply.json()["data"][0])[0])


def at_once(ask: Callable[[Any], None], functions: Sequence[Any]) -> None:
    """Ask several endpoints in the same moment: most of the time goes by in the line of the page."""
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(ask, functions))


def with_photo(page: Any) -> list[Any]:
    """Endpoints that take a photo; what runs in the browser alone has no code here to open one."""
    return [f for f in page.fns.values() if f.fn is not None and any(map(is_photo, f.inputs))]


def test_the_walk_meets_every_endpoint_that_takes_a_photo(page: Any) -> None:
    names = {function.api_name for function in with_photo(page)}
    assert names >= {"segment", "compare", "inspect", "photo_to_click"}
    assert len(with_photo(page)) > len(names) - 1
    models = {
        getattr(getattr(field, "data_model", None), "__name__", None)
        for function in page.fns.values()
        for field in function.inputs
    }
    assert models <= {None, "SentPhoto", "JsonData"}, "a field takes files and does not go through sent_file"


def test_a_photo_of_ones_own_is_answered_everywhere(page: Any, web: httpx.Client) -> None:
    """Otherwise the refusals below would prove nothing."""
    path = upload(web, png((10, 200, 30)))
    for function in with_photo(page):
        for photo in ({"path": path}, {"path": path, "meta": META}):
            body = {"data": arguments(function, photo), "fn_index": function._id, "session_hash": "owner"}
            text = joined(web, body, "owner")
            assert GONE not in text, function.api_name
            assert '"success":true' in text, (function.api_name, text)


def test_no_endpoint_opens_what_was_not_uploaded(
    page: Any, web: httpx.Client, forbidden: dict[str, str]
) -> None:
    def ask(function: Any) -> None:
        answers: dict[int, set[tuple[str, ...]]] = {}
        for why, path in forbidden.items():
            on_all_ways = why in ("a picture", "nothing there")
            for kind, photo in enumerate(spellings(path) if on_all_ways else spellings(path)[:2]):
                call, session = on_all_ways and kind < 2, f"prying {function._id}"
                texts = replies(web, function, arguments(function, photo), session, call=call)
                where = (function.api_name, why, photo)
                assert not any(shows_secret(web, text) or path in text for text in texts), where
                assert GONE in texts[2], where
                answers.setdefault(kind, set()).add(tuple(texts[:3]))
        assert all(len(same) == 1 for same in answers.values()), function.api_name

    at_once(ask, with_photo(page))


def test_files_in_fields_that_hold_none_are_not_opened(
    page: Any, web: httpx.Client, forbidden: dict[str, str]
) -> None:
    def ask(function: Any) -> None:
        session = f"prying {function._id}"
        for why in ("a picture", "nothing there", "another visitor's"):
            photo = {"path": forbidden[why], "meta": META}
            data = [None if field.stateful else photo for field in function.inputs]
            body = {"data": data, "fn_index": function._id, "session_hash": session, "event_data": photo}
            text = joined(web, body, session)
            assert not shows_secret(web, text), (function.api_name, why)
            assert forbidden[why] not in text, (function.api_name, why)

    at_once(ask, [*page.fns.values()])


def test_gradio_client_says_the_sentence(web: httpx.Client, forbidden: dict[str, str]) -> None:
    client = Client(str(web.base_url), verbose=False)
    for path in (forbidden["a picture"], forbidden["nothing there"]):
        for name in ("/segment", "/compare", "/inspect"):
            with pytest.raises(AppError, match=re.escape(PHOTO_GONE)):
                client.predict(image={"path": path}, classes="dog", api_name=name)


def test_bytes_are_taken_as_a_photo(web: httpx.Client) -> None:
    url = f"data:image/png;base64,{base64.b64encode(png((10, 200, 30))).decode()}"
    client = Client(str(web.base_url), verbose=False)
    for photo in (url, {"url": url}):
        report = client.predict(image=photo, classes="dog", api_name="/segment")[1]
        assert report["image"]["width"] == 64
    for broken in ("data:image/png;base64,***", "data:image/png,abc", "data:,"):
        with pytest.raises(AppError, match=re.escape(PHOTO_GONE)):
            client.predict(image=broken, classes="dog", api_name="/segment")


def test_samples_are_everybodys(page: Any, web: httpx.Client) -> None:
    clicks = [f for f in page.fns.values() if any(map(is_photo, f.outputs)) and not f.inputs]
    assert len(clicks) == len(load_examples()) > 0
    for click in clicks:
        body = {"data": [], "fn_index": click._id, "session_hash": "first"}
        sample = web.post(f"{API}/run/x", json=body).json()["data"][0]
        for session in ("first", "second"):
            copied = web.post(f"{API}/run/photo_to_click", json={"data": [sample], "session_hash": session})
            assert shown_path(copied)


def test_a_sample_that_somebody_uploads_stays_everybodys(page: Any, web: httpx.Client) -> None:
    first, second = (httpx.Client(base_url=web.base_url, timeout=30) for _ in range(2))
    first.get("/")
    second.get("/")
    icons = [icon["path"] for block in page.blocks.values() if (icon := getattr(block, "icon", None))]
    assert len(icons) == len(load_examples()) > 0
    for example, icon in zip(load_examples(), icons, strict=True):
        path = upload(first, example.file.read_bytes(), example.file.name)
        assert path == icon  # equal bytes lie at one place
        for visitor in (first, second, web):
            assert visitor.get(f"{API}/file={path}").status_code == 200
            body = {"data": [{"path": path, "meta": META}], "session_hash": "anybody"}
            assert visitor.post(f"{API}/run/photo_to_click", json=body).status_code == 200


def test_a_sample_is_not_deleted_to_make_room() -> None:
    uploads = Uploads({"sample"}, most=1)
    assert uploads.add({"sample": 10}, {"cookie a"}) == ()
    assert uploads.add({"mine": 1}, {"cookie a"}) == ()
    assert uploads.add({"yours": 1}, {"cookie b"}) == ("mine",)
    assert not uploads.hidden("sample", {"cookie b"})


def test_an_upload_belongs_to_its_browser(web: httpx.Client) -> None:
    visitors = [httpx.Client(base_url=web.base_url, timeout=30) for _ in range(2)]
    for visitor in visitors:
        visitor.get("/")
    first, second = visitors
    assert len({str(visitor.cookies) for visitor in visitors}) == 2
    path = upload(first, png(SECRET), "private.png")
    body = {"data": [{"path": path, "meta": META}], "session_hash": "one"}
    assert first.post(f"{API}/run/photo_to_click", json=body).status_code == 200
    refused = second.post(f"{API}/run/photo_to_click", json=body)
    assert refused.status_code == 500
    assert PHOTO_GONE in refused.text
    assert first.get(f"{API}/file={path}").status_code == 200
    hidden = [
        second.get(f"{API}/file={spelled}") for spelled in (path, f"/.{path}", f"{path}/../private.png")
    ]
    assert {answer.status_code for answer in hidden} <= {403, 404}
    first.headers["cookie"] = "other=1"
    assert first.get(f"{API}/file={path}").status_code == 404


def test_an_upload_without_a_browser_belongs_to_its_first_session(web: httpx.Client) -> None:
    path = upload(web, png(SECRET), "client.png")

    def asked(session: str) -> int:
        body = {"data": [{"path": path}], "session_hash": session}
        return web.post(f"{API}/run/photo_to_click", json=body).status_code

    assert [asked("mine"), asked("yours"), asked("mine")] == [200, 500, 200]


def test_where_a_photo_lies_cannot_be_guessed_from_what_it_shows(web: httpx.Client) -> None:
    path = upload(web, png(SECRET), "known.png")
    copied = web.post(f"{API}/run/photo_to_click", json={"data": [{"path": path}], "session_hash": "known"})
    copy = shown_path(copied)
    for place in (path, copy):
        digest = hashlib.sha256(Path(place).read_bytes()).hexdigest()
        assert digest[:12] not in place


def test_files_are_served_from_the_cache_alone(web: httpx.Client, forbidden: dict[str, str]) -> None:
    for route in ("file=", "file/"):
        there = web.get(f"{API}/{route}{forbidden['a picture']}")
        missing = web.get(f"{API}/{route}{forbidden['nothing there']}")
        assert there.status_code == missing.status_code == 403
        assert there.text.replace("secret", "nothing") == missing.text
    for place in ("a link", "a device", "a pipe", "a folder", "web", "file URL", "web of ours"):
        assert web.get(f"{API}/file={forbidden[place]}").status_code in (403, 404), place


@pytest.mark.parametrize(
    "path",
    ["/proxy=http://127.0.0.1:9/", "/deep_link", "/dev/reload", "/runs", "/stream/x/y/1/playlist.m3u8"],
)
def test_what_the_page_does_not_use_is_closed(web: httpx.Client, path: str) -> None:
    assert web.get(f"{API}{path}").status_code == 404


@pytest.mark.parametrize("path", ["/component_server", "/process_recording", "/stream/x", "/vibe-edit/"])
def test_tools_of_developers_are_closed(web: httpx.Client, path: str) -> None:
    assert web.post(f"{API}{path}", json={"data": []}).status_code == 404


@pytest.mark.parametrize("body", [b"{", b"[" * 100_000, b"\xff\xfe\x00", b"path=/etc/passwd"])
def test_a_body_that_is_not_json_is_refused(web: httpx.Client, body: bytes) -> None:
    answer = web.post(f"{API}/run/segment", content=body)
    assert answer.status_code == 400
    assert answer.json() == {"detail": "The request is not JSON that can be read."}


def test_old_uploads_are_forgotten() -> None:
    uploads = Uploads(most=2)
    assert uploads.add({"a": 1, "b": 1}, ["cookie 1"]) == ()
    assert uploads.add({"a": 1}, ["cookie 2"]) == ()
    assert uploads.add({"c": 1}, []) == ("b",)
    assert uploads.may_name("a", ["cookie 1"])
    assert uploads.may_name("a", ["cookie 2"])
    assert not uploads.may_name("b", ["cookie 1"])
    assert uploads.may_name("c", [])
    assert uploads.may_name("c", ["session 1"])
    assert not uploads.may_name("c", [])


def test_what_is_cleared_away_leaves_the_pictures_of_the_examples(page: Any, web: httpx.Client) -> None:
    with served(build_ui(FakeEngine(Path(os.environ["GRADIO_TEMP_DIR"])))) as url:
        (sample, *_) = (f for f in page.fns.values() if any(map(is_photo, f.outputs)) and not f.inputs)
        body = {"data": [], "fn_index": sample._id, "session_hash": "closing"}
        path = httpx.post(f"{url}{API}/run/x", json=body).json()["data"][0]["path"]
    assert web.get(f"{API}/file={path}").status_code == 200


def test_uploads_do_not_fill_the_disk() -> None:
    uploads = Uploads(most_bytes=10)
    assert uploads.add({"a": 4, "b": 4}, ["cookie 1"]) == ()
    assert uploads.add({"a": 4}, ["cookie 1"]) == ()
    assert uploads.add({"c": 6}, ["cookie 1"]) == ("b",)
    assert uploads.add({"d": 11}, ["cookie 1"]) == ("a", "c", "d")
    assert not uploads.may_name("d", ["cookie 1"])


def test_an_upload_that_is_too_large_is_refused(web: httpx.Client) -> None:
    answer = web.post(f"{API}/upload", files={"files": ("large.png", bytes(50_000_001))})
    assert answer.status_code == 413


def run(visit: Coroutine[Any, Any, None]) -> None:
    """Run a visit in a thread of its own: once a browser is open, this thread has a loop already."""
    with ThreadPoolExecutor(1) as pool:
        pool.submit(asyncio.run, visit).result()


@pytest.mark.parametrize("path", [f"{API}/run/segment", f"{API}/upload", "/v1/segment", "/mcp"])
def test_who_falls_silent_while_sending_has_gone_away(path: str) -> None:
    """A body of which nothing more comes; once it is there, its answer may take as long as it needs."""
    seen: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        while not seen or seen[-1] == "http.request":
            seen.append((await receive())["type"])

    async def visit(parts: list[dict[str, Any]]) -> None:
        async def receive() -> dict[str, Any]:
            if not parts:
                await asyncio.sleep(0.5)
                return {"type": "the visitor is still there"}
            return {"type": "http.request", **parts.pop(0)}

        async def send(message: Any) -> None:
            seen.append("refused")

        scope = {"type": "http", "method": "POST", "path": path, "headers": []}
        await Guard(app, Uploads(), most_silent=0.05)(scope, receive, send)

    run(visit([{"body": b"{", "more_body": True}]))
    assert seen[-1] in ("http.disconnect", "refused")
    seen.clear()
    run(visit([{"body": b"{", "more_body": True}, {"body": b"}", "more_body": False}]))
    assert seen[-1] == "the visitor is still there"
