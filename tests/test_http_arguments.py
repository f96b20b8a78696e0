"""Whatever stands in an argument's place over HTTP: an answer, or one sentence that says what to send."""

from collections.abc import Iterator, Mapping
from typing import Any

import httpx
import numpy as np
import pytest
from serving import png, served

from ovs_core.engine import Engine
from ovs_core.ui.app import build_ui

API = "/gradio_api"
WORDS = {"classes": "dog; grass"}
DEFAULTS: Mapping[str, Mapping[str, Any]] = {
    "segment": {
        "image": None,
        "classes": "dog",
        "method": "clip",
        "encoder": "mini",
        "background": "none",
        "refine": "none",
        "scale": None,
        "threshold": None,
        "switches": [],
        "export": [],
        "stuff": "default",
        "several_frames": False,
        "options": {},
        "exemplars": [],
    },
    "compare": {
        "image": None,
        "classes": "dog",
        "methods": ["clip"],
        "encoder": "mini",
        "background": "none",
        "refine": "none",
        "several_frames": False,
        "options": {},
        "exemplars": [],
    },
    "inspect": {
        "image": None,
        "classes": "dog",
        "method": "clip",
        "encoder": "mini",
        "background": "none",
        "across": 0.5,
        "down": 0.5,
        "views": [],
        "label": 0,
        "options": {},
        "exemplars": [],
    },
    "methods": {"encoder": "mini"},
}


@pytest.fixture(scope="module")
def web(served_engine: Engine) -> Iterator[httpx.Client]:
    with served(build_ui(served_engine)) as address, httpx.Client(base_url=address, timeout=60) as client:
        yield client


@pytest.fixture(scope="module")
def photo(web: httpx.Client) -> dict[str, str]:
    pixels = np.random.default_rng(0).integers(0, 256, (40, 64, 3), np.uint8)
    (path,) = web.post(f"{API}/upload", files={"files": ("a.png", png(pixels))}).json()
    return {"path": path}


def asked(web: httpx.Client, endpoint: str, arguments: Mapping[str, Any]) -> str:
    """What the endpoint says, as the event stream has it."""
    data = list({**DEFAULTS[endpoint], **arguments}.values())
    assert len(data) == len(DEFAULTS[endpoint])
    started = web.post(f"{API}/call/{endpoint}", json={"data": data}).raise_for_status()
    return web.get(f"{API}/call/{endpoint}/{started.json()['event_id']}").text


def test_the_defaults_are_answered(web: httpx.Client, photo: dict[str, str]) -> None:
    for endpoint in DEFAULTS:
        arguments = {} if endpoint == "methods" else {"image": photo}
        assert "event: complete" in asked(web, endpoint, arguments), endpoint


@pytest.mark.parametrize(
    ("endpoint", "arguments", "sentence"),
    [
        ("segment", {"method": "nonsense", "several_frames": True}, "method must be one of"),
        ("segment", {"classes": ["dog", "grass"]}, "classes must be text, got ['dog', 'grass']"),
        ("segment", {"classes": 7}, "classes must be text, got 7"),
        ("segment", {"classes": None}, "at least one class"),
        ("segment", {"method": ["clip"]}, "method must be text"),
        ("segment", {"encoder": {}}, "encoder must be text, got {}"),
        ("segment", {"refine": True}, "refine must be text, got True"),
        ("segment", {"scale": "40"}, "scale must be a number, got '40'"),
        ("segment", {"scale": ""}, "scale must be a number, got ''"),
        ("segment", {"scale": True}, "scale must be a number, got True"),
        ("segment", {"scale": [1]}, "scale must be a number, got [1]"),
        ("segment", {"scale": -1}, "scale must be"),
        ("segment", {"scale": 10**400}, "scale must be a number, got 1000"),
        ("segment", {"threshold": 2}, "threshold must be"),
        ("segment", {"threshold": "much"}, "threshold must be a number, got 'much'"),
        ("segment", {"switches": "prompt_denoising"}, "switches must be a list of names"),
        ("segment", {"switches": ["nonsense"]}, "nonsense"),
        ("segment", {"export": {"coco": True}}, "export must be a list of names"),
        ("segment", {"export": [1]}, "export must be a list of names, got [1]"),
        ("segment", {"export": ["nonsense"]}, "nonsense"),
        ("segment", {"stuff": 3, "export": ["coco"]}, "stuff must be text, got 3"),
        ("segment", {"several_frames": "yes"}, "several_frames must be true or false, got 'yes'"),
        ("segment", {"options": ["scale"]}, "options must be an object of values by name, got ['scale']"),
        ("segment", {"options": {"scale": "much"}}, "scale must be a number"),
        ("segment", {"options": {"nonsense": 1}}, "nonsense"),
        ("segment", {"classes": "x" * 300}, "200"),
        ("compare", {"methods": "clip"}, "methods must be a list of names, got 'clip'"),
        ("compare", {"methods": [None]}, "methods must be a list of names, got [None]"),
        ("compare", {"methods": ["nonsense"]}, "method must be one of"),
        ("compare", {"methods": ["nonsense"], "several_frames": True}, "method must be one of"),
        ("compare", {"background": 1}, "background must be text, got 1"),
        ("inspect", {"across": "left"}, "across must be a number, got 'left'"),
        ("inspect", {"down": 2}, "point must be"),
        ("inspect", {"label": 1.5}, "label must be a whole number, got 1.5"),
        ("inspect", {"label": "first"}, "label must be a number, got 'first'"),
        ("inspect", {"label": 99}, "class must be a number from 1 to 1, got 99"),
        ("inspect", {"views": "all"}, "views must be a list of names, got 'all'"),
        ("inspect", {"views": ["nonsense"]}, "must be among affinity, attention, "),
        ("methods", {"encoder": 5}, "encoder must be text, got 5"),
        ("methods", {"encoder": "nonsense"}, "encoder must be one of"),
    ],
)
def test_a_wrong_argument_gets_one_sentence(
    web: httpx.Client, photo: dict[str, str], endpoint: str, arguments: dict[str, Any], sentence: str
) -> None:
    image = {} if endpoint == "methods" else {"image": photo}
    said = asked(web, endpoint, {**image, **arguments}).replace("\\u2019", "'").replace('\\"', '"')
    assert "event: error" in said
    assert sentence in said
    assert "Traceback" not in said


@pytest.mark.parametrize(
    "image", ["letter.png", 5, [], True, {"path": 5}, {"data": "x"}, [{"path": "a"}], {"url": 7}]
)
@pytest.mark.parametrize("endpoint", ["segment", "compare", "inspect"])
def test_a_thing_that_is_no_photo_gets_one_sentence(web: httpx.Client, endpoint: str, image: Any) -> None:
    said = asked(web, endpoint, {"image": image})
    assert "This photo was not uploaded here by you" in said


@pytest.mark.parametrize("endpoint", ["segment", "compare", "inspect"])
def test_no_photo_gets_one_sentence(web: httpx.Client, endpoint: str) -> None:
    assert "Choose a photo first" in asked(web, endpoint, {"image": None})


def test_left_out_arguments_have_their_defaults(web: httpx.Client, photo: dict[str, str]) -> None:
    nothing = dict.fromkeys(DEFAULTS["segment"])
    said = asked(web, "segment", {**nothing, "image": photo, "classes": "dog"})
    assert '"method": "naclip"' in said
