"""/openapi.json and /docs: what they say of plain HTTP is so, and all of it."""

import json
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from typing import Any

import httpx
import numpy as np
import pytest
from fake_engine import FakeEngine
from serving import png, served

from ovs_core.methods import METHODS
from ovs_core.refine import REFINERS
from ovs_core.ui.app import build_ui
from ovs_core.ui.openapi import openapi
from ovs_core.version import VERSION

KINDS = {
    "string": str,
    "boolean": bool,
    "integer": int,
    "number": (int, float),
    "array": list,
    "object": dict,
}
AUTH = ("ann", "se:cret")


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> FakeEngine:
    headed = [name for name, spec in METHODS.items() if spec.head is not None]
    return FakeEngine(tmp_path_factory.mktemp("weights"), heads=headed)


@pytest.fixture(scope="module")
def web(engine: FakeEngine) -> Iterator[httpx.Client]:
    with (
        served(build_ui(engine), auth=AUTH, engine=engine) as address,
        httpx.Client(base_url=address, timeout=60) as client,
    ):
        yield client


@pytest.fixture(scope="module")
def schema(web: httpx.Client) -> dict[str, Any]:
    return web.get("/openapi.json").raise_for_status().json()


@pytest.fixture(scope="module")
def form(schema: dict[str, Any]) -> dict[str, Any]:
    content = schema["paths"]["/v1/segment"]["post"]["requestBody"]["content"]
    return content["multipart/form-data"]["schema"]


@pytest.fixture(scope="module")
def photo() -> bytes:
    return png(np.full((20, 30, 3), 90, np.uint8))


def ask(web: httpx.Client, photo: bytes, **fields: Any) -> httpx.Response:
    data = {"classes": "dog; grass", **fields}
    return web.post("/v1/segment", files={"image": ("a.png", photo)}, data=data, auth=AUTH)


def fits(value: Any, schema: dict[str, Any], where: str = "answer") -> None:
    """Assert that a value is what a schema says, and that the schema says all of it."""
    kind = KINDS[schema["type"]]
    assert isinstance(value, kind), (where, value)
    assert isinstance(value, bool) <= (kind is bool), (where, value)
    if isinstance(value, list):
        for number, one in enumerate(value):
            fits(one, schema["items"], f"{where}[{number}]")
    if "properties" in schema:
        assert set(value) == set(schema["properties"]), where
        for name, one in value.items():
            fits(one, schema["properties"][name], f"{where}.{name}")


def responses(schema: dict[str, Any], path: str, method: str) -> dict[str, Any]:
    return {
        status: answer["content"]["application/json"]["schema"]
        for status, answer in schema["paths"][path][method]["responses"].items()
    }


def test_every_documented_field_is_taken(web: httpx.Client, photo: bytes, form: dict[str, Any]) -> None:
    defaults = {name: field["default"] for name, field in form["properties"].items() if "default" in field}
    assert set(form["properties"]) == {"image", "photos", "classes", "options", *defaults}
    assert form["required"] == ["image", "classes"]
    full = ask(web, photo, options="{}", **defaults)
    assert full.status_code == 200, full.text
    for answers in (full.json(), ask(web, photo).json()):  # what is left out stands for its default
        answers.pop("seconds")
        assert answers == {name: value for name, value in full.json().items() if name != "seconds"}
    said = ask(web, photo, other="x").json()["error"]
    assert set(re.findall(r"\w+", said.split("there are ")[1])) == set(form["properties"])
    for lacking in ({"files": {"image": photo}}, {"files": {"other": b""}, "data": {"classes": "dog"}}):
        assert web.post("/v1/segment", auth=AUTH, **lacking).status_code == 400


def test_every_name_of_a_list_is_known(
    web: httpx.Client, photo: bytes, form: dict[str, Any], engine: FakeEngine
) -> None:
    fields = form["properties"]
    assert fields["method"]["enum"] == list(METHODS)
    assert fields["refine"]["enum"] == list(REFINERS)
    for name in ("method", "encoder", "refine"):
        for value in fields[name]["enum"]:
            answer = ask(web, photo, **{name: value})
            assert "must be one of" not in answer.text
            assert answer.status_code == 200 or name != "method" or value == "two_stage", answer.text


def test_every_documented_option_is_taken_at_both_ends_of_its_range(
    engine: FakeEngine, form: dict[str, Any]
) -> None:
    documented = form["properties"]["options"]["properties"]
    owners = {**engine.method_specs, **engine.encoder_specs, **engine.refiner_specs}
    declared = {name: spec.options for name, spec in owners.items()}
    assert set(documented) == {option.name for options in declared.values() for option in options} != set()
    for owner, options in declared.items():
        for option in options:
            field = documented[option.name]
            assert re.search(rf"Taken by .*\b{owner}\b", field["description"])
            if field["type"] == "boolean":
                values: list[Any] = [True, False]
            elif "enum" in field:
                values = list(option.choices)
                assert set(values) <= set(field["enum"])
            else:
                values = [end for end in (option.low, option.high) if end is not None]
                assert all(field["minimum"] <= end <= field["maximum"] for end in values)
            assert values
            for value in values:
                option.checked(json.loads(json.dumps(value)))


def test_options_are_taken_over_http(web: httpx.Client, photo: bytes, engine: FakeEngine) -> None:
    """One request for each method and refiner that needs no file, with a value for all that it declares."""
    asked = [("method", spec) for spec in engine.method_specs.values()]
    asked += [("refine", spec) for spec in engine.refiner_specs.values() if spec.options and not spec.weights]
    assert len(asked) > len(METHODS)
    for field, spec in asked:
        values = {option.name: option.default for option in spec.options}
        answer = ask(web, photo, **{field: spec.name}, options=json.dumps(values))
        assert answer.status_code == 200, (spec.name, answer.text)
        assert values.items() <= answer.json()["options"].items()
    part = {"options": (None, '{"threshold": 0.25}', "application/json")}  # as generated clients send it
    files = {"image": ("a.png", photo), "classes": (None, "dog"), **part}
    assert web.post("/v1/segment", files=files, auth=AUTH).json()["options"]["threshold"] == 0.25


def test_answers_are_as_described(web: httpx.Client, photo: bytes, schema: dict[str, Any]) -> None:
    described = responses(schema, "/v1/segment", "post")
    answer = ask(web, photo, background="none")
    assert answer.json()["masks"]
    for status, got in {
        "200": answer,
        "400": ask(web, photo, method="nonsense"),
        "401": web.post("/v1/segment"),
        "413": ask(web, bytes(80_000_001)),
    }.items():
        assert got.status_code == int(status)
        fits(got.json(), described.pop(status))
    assert set(described) == {"503"}
    fits(web.get("/health").json(), responses(schema, "/health", "get")["200"])


def test_the_document_says_what_it_is_of(engine: FakeEngine, schema: dict[str, Any]) -> None:
    assert schema["openapi"].startswith("3.0.")
    assert schema["info"]["version"] == VERSION
    assert schema["servers"] == [{"url": "/"}]
    assert openapi(engine, 50, "/lens/")["servers"] == [{"url": "/lens"}]
    assert set(schema["paths"]) == {"/v1/segment", "/health"}


class Seen(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


def test_the_page_says_all_of_it_and_fetches_nothing(
    web: httpx.Client, schema: dict[str, Any], form: dict[str, Any]
) -> None:
    answer = web.get("/docs")
    assert answer.status_code == 200
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    seen = Seen()
    seen.feed(answer.text)
    assert not {"script", "link", "img", "iframe", "form"} & {tag for tag, _ in seen.tags}
    assert [about["href"] for tag, about in seen.tags if tag == "a"] == ["openapi.json"]
    assert not re.search(r"url\(|@import|\son\w+=", answer.text)
    content = schema["paths"]["/v1/segment"]["post"]["requestBody"]["content"]["multipart/form-data"][
        "schema"
    ]
    for name in (*content["properties"], *content["properties"]["options"]["properties"], "masks", "waiting"):
        assert f"<code>{name}</code>" in answer.text
    for path in schema["paths"]:
        assert path in answer.text
