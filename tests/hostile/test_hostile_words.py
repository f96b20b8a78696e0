"""Names, arguments and requests of any form: an answer or one sentence, and nothing written elsewhere."""

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import PurePath
from typing import Any

import anyio
import pytest
from damage import JSON, LETTERS, is_one_sentence, refusal
from hypothesis import given
from hypothesis import strategies as st

from ovs_core.cli.__main__ import main
from ovs_core.export.names import photo_stem, safe_name
from ovs_core.ui import arguments
from ovs_core.ui.guard import NO_FILE, Guard, Uploads
from ovs_core.vocabulary import MAX_NAME_LENGTH, MAX_NAMES, VocabularyError, parse_vocabulary

MINE = "/cache/mine.png"
READERS = (
    lambda value: arguments.text("name", value),
    lambda value: arguments.names("name", value),
    lambda value: arguments.number("name", value),
    lambda value: arguments.whole_number("name", value, 0),
    lambda value: arguments.switch("name", value),
    lambda value: arguments.by_name("name", value),
)
# Words of the command line and of attacks on it.
WORDS = st.sampled_from(
    [
        *("segment", "app", "evaluate", "train", "weights", "list", "add", "--classes", "--out", "--method"),
        *(
            "clip",
            "--background",
            "none",
            "--export",
            "coco",
            "--port",
            "-1",
            "--host",
            "--refine",
            "--scale",
        ),
        *(
            "nan",
            "inf",
            "--threshold",
            "2",
            "@",
            "--config",
            "--data",
            "a=b",
            "../..",
            "/dev/zero",
            "~",
            "--",
        ),
    ]
)


@given(text=st.text(alphabet=st.characters(), max_size=300), background=st.text(max_size=60) | st.none())
def test_any_words_are_a_vocabulary_or_a_sentence(text: str, background: str | None) -> None:
    said = refusal(VocabularyError, parse_vocabulary, text, background)
    if said is not None:
        assert is_one_sentence(said)
        return
    vocabulary = parse_vocabulary(text, background)
    names = [name for group in vocabulary.classes for name in group]
    assert 0 < len(names) <= MAX_NAMES
    assert all(0 < len(name.strip()) <= MAX_NAME_LENGTH for name in names)
    assert len({name.casefold() for name in names}) == len(names)


@pytest.mark.parametrize("named", [safe_name, photo_stem])
@given(text=st.text(alphabet=st.characters(), max_size=300), most=st.integers(8, 200))
def test_any_name_is_safe_for_a_file(named: Callable[[str, int], str], text: str, most: int) -> None:
    name = named(text, most)
    assert 0 < len(name.encode()) <= most
    assert PurePath(name).name == name
    assert not set(name) & set('/\\:*?"<>|\0\n\r\t')
    assert not name.startswith((".", "-"))
    assert name == name.rstrip(" .")


@given(value=JSON)
def test_any_argument_is_of_its_kind_or_a_sentence(value: Any) -> None:
    for read in READERS:
        said = refusal(ValueError, read, value)
        assert said is None or (said.startswith("name must be ") and is_one_sentence(said))


def paths_in(body: Any) -> list[Any]:
    if isinstance(body, list):
        return [path for part in body for path in paths_in(part)]
    if isinstance(body, dict):
        own = [body["path"]] if body.get("path") is not None else []
        return own + [path for part in body.values() for path in paths_in(part)]
    return []


FILES = st.fixed_dictionaries(
    {"path": st.sampled_from((MINE, "/cache/theirs.png", "/etc/passwd", "")) | JSON},
    optional={"meta": st.just({"_type": "gradio.FileData"}) | JSON, "url": LETTERS, "is_stream": JSON},
)
BODIES = st.recursive(
    JSON | FILES,
    lambda parts: st.lists(parts, max_size=3) | st.dictionaries(LETTERS | st.just("data"), parts, max_size=3),
    max_leaves=8,
)


async def passed_on(content: bytes, headers: list[tuple[bytes, bytes]], path: str) -> tuple[Any, int]:
    """What the app behind the guard gets, and the status of the answer."""
    got: list[bytes] = []
    status: list[int] = []
    uploads = Uploads(["/cache/sample.jpg"])
    uploads.add({MINE: 1}, ["session me"])
    uploads.add({"/cache/theirs.png": 1}, ["session them"])

    async def app(scope: Any, receive: Any, send: Any) -> None:
        got.append((await receive())["body"])
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": content, "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        status.extend([message["status"]] if "status" in message else [])

    scope = {"type": "http", "method": "POST", "path": path, "headers": headers, "query_string": b""}
    await Guard(app, uploads)(scope, receive, send)
    return (json.loads(got[0]) if got and got[0] else None), status[0]


def asked(*arguments: Any) -> tuple[Any, int]:
    """`passed_on` in a thread of its own: the browser of other tests keeps a loop running in this one."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(anyio.run, passed_on, *arguments).result()


@given(body=BODIES)
def test_any_body_names_the_visitors_files_alone(body: Any) -> None:
    request = {"data": body, "session_hash": "me"}
    found, status = asked(json.dumps(request).encode(), [], "/gradio_api/run/segment")
    assert status == 200
    assert set(map(str, paths_in(found))) <= {MINE, NO_FILE}
    assert found["session_hash"] == "me"


@given(
    content=st.binary(max_size=200),
    kind=st.sampled_from((b"application/json", b"multipart/form-data; boundary=x", b"text/plain", b"\xff")),
    path=st.sampled_from(
        ("run/segment", "queue/join", "component_server", "stream/x", "call/v2/segment", "\0")
    ),
    cookie=st.binary(max_size=60),
)
def test_any_bytes_are_answered(content: bytes, kind: bytes, path: str, cookie: bytes) -> None:
    headers = [(b"content-type", kind), (b"cookie", cookie), (b"content-length", b"9" * 30)]
    _, status = asked(content, headers, f"/gradio_api/{path}")
    assert status in (200, 400, 404)


@given(
    argv=st.lists(WORDS | st.text(alphabet=st.characters(exclude_characters="\0"), max_size=20), max_size=7)
)
def test_any_command_line_ends_in_a_line(argv: list[str], tmp_path_factory: pytest.TempPathFactory) -> None:
    """No command may get as far as loading a model: each needs a folder or a file that is not there."""
    folder = tmp_path_factory.mktemp("here")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        if argv[:1] in (["app"], ["weights"]):
            argv = [argv[0], "--nonsense", *argv[1:]]
        try:
            code = main(argv)
        except SystemExit as stopped:
            code = stopped.code
    assert code in (0, 1, 2)
    assert list(folder.iterdir()) == []
