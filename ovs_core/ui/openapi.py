"""What plain HTTP takes and gives: each field declared once, as OpenAPI and as a page for people.

The page is made here: the usual one loads its scripts from elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from ovs_core.encoders.towers import DEFAULT_ENCODER
from ovs_core.engine import Engine
from ovs_core.methods import DEFAULT_METHOD
from ovs_core.options import Option
from ovs_core.refine import NO_REFINER
from ovs_core.ui.guard import SEGMENT
from ovs_core.version import VERSION

HEALTH, SCHEMA, DOCS = "/health", "/openapi.json", "/docs"
_OPENAPI = "3.0.3"  # what most generators of clients read

Schema = dict[str, Any]


@dataclass(frozen=True)
class Field:
    """One text field of the form.

    Attributes:
        name: as it is sent.
        default: what stands for a field that is left out.
        about: one sentence in plain words.
    """

    name: str
    default: str
    about: str


FILES: Mapping[str, str] = MappingProxyType(
    {
        "image": "A picture file of at most {megabytes} MB: JPEG, PNG, WebP and other formats.",
        "photos": "Photos on which boxes lie, each under a file name of its own; likewise.",
    }
)
FIELDS: Mapping[str, Field] = MappingProxyType(
    {
        field.name: field
        for field in (
            Field("classes", "", "Classes by ; or new lines, synonyms by |: dog; grass; sky | clouds."),
            Field("method", DEFAULT_METHOD, "How pixels are compared with words."),
            Field("encoder", DEFAULT_ENCODER, "The image-text model."),
            Field("background", "default", "Hidden words that mean none of these: default, none, or a list."),
            Field("refine", NO_REFINER, "What makes edges finer."),
            Field("options", "{}", "Values by name; what is left out suits method and model."),
            Field(
                "exemplars",
                "[]",
                "Boxes to be found besides the words, as a JSON list of objects: box is left, top, right and "
                "bottom in pixels; name is the class, other for what is not meant; image is the file name of "
                "one of photos. Without name it is a class of its own, without image it lies on the image. "
                'With a box classes may be empty: [{"box": [120, 60, 330, 290], "name": "mug"}].',
            ),
        )
    }
)


def openapi(engine: Engine, megabytes: int, root: str = "") -> Schema:
    """What /v1/segment and /health take and give, as an OpenAPI document.

    Args:
        engine: whose methods, models, refiners and options they are.
        megabytes: of a photo, at most.
        root: where a proxy serves the app.
    """
    refused = {
        "400": _said("Refused: what was wrong and what is expected.", "error"),
        "401": _said("Name and password are needed, by HTTP Basic.", "error"),
        "413": _said("The request is above the limits.", "detail"),
        "503": _said("Too many requests wait.", "error"),
    }
    answer = {"description": "The label map in words, numbers and masks.", "content": _json(_report())}
    return {
        "openapi": _OPENAPI,
        "info": {
            "title": "OVS Lens",
            "version": VERSION,
            "description": "Words in, a label for every pixel of a photo out.",
        },
        "servers": [{"url": root.rstrip("/") or "/"}],
        "paths": {
            SEGMENT: {
                "post": {
                    "operationId": "segment",
                    "summary": "Segment a photo from typed classes.",
                    "security": [{}, {"password": []}],
                    "requestBody": {
                        "required": True,
                        "content": {"multipart/form-data": {"schema": _form(engine, megabytes)}},
                    },
                    "responses": {"200": answer, **refused},
                }
            },
            HEALTH: {
                "get": {
                    "operationId": "health",
                    "summary": "Whether the server answers, and how many requests wait.",
                    "responses": {"200": {"description": "It answers.", "content": _json(_health())}},
                }
            },
        },
        "components": {"securitySchemes": {"password": {"type": "http", "scheme": "basic"}}},
    }


def docs_html(schema: Schema) -> str:
    """A page of an `openapi` document: nothing in it is fetched from anywhere."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined
    )
    environment.filters["values"] = _values
    return environment.get_template("openapi.html").render(schema=schema, document=SCHEMA.lstrip("/"))


def text_fields(engine: Engine) -> Schema:
    """JSON schema of each of `FIELDS` as text."""
    names = {"method": engine.method_specs, "encoder": engine.encoder_specs, "refine": engine.refiner_specs}
    properties: Schema = {}
    for field in FIELDS.values():
        properties[field.name] = {"type": "string", "description": field.about, "default": field.default}
        if field.name in names:
            properties[field.name]["enum"] = list(names[field.name])
    del properties["classes"]["default"]
    return properties


def _form(engine: Engine, megabytes: int) -> Schema:
    file = {"type": "string", "format": "binary"}
    properties: Schema = {
        "image": {**file, "description": FILES["image"].format(megabytes=megabytes)},
        "photos": {"type": "array", "items": file, "description": FILES["photos"]},
        **text_fields(engine),
    }
    properties["options"] = {
        "type": "object",
        "description": FIELDS["options"].about,
        "properties": _options(engine),
        "additionalProperties": False,
    }
    return {
        "type": "object",
        "required": ["image", "classes"],
        "properties": properties,
        "additionalProperties": False,
    }


def _options(engine: Engine) -> Schema:
    """Every option that something declares, in the widest range that one of them takes, and who takes it."""
    declared: dict[str, list[tuple[str, Option]]] = {}
    for owners in (engine.method_specs, engine.encoder_specs, engine.refiner_specs):
        for owner, spec in owners.items():
            for option in spec.options:
                declared.setdefault(option.name, []).append((owner, option))
    return {
        name: {
            **_kind([option for _, option in entries]),
            "description": f"{entries[0][1].help} Taken by {', '.join(owner for owner, _ in entries)}.",
        }
        for name, entries in declared.items()
    }


def _kind(options: list[Option]) -> Schema:
    """JSON schema of the values that options of one name take between them."""
    first = options[0]
    if first.kind == "switch":
        return {"type": "boolean"}
    if first.kind == "words":
        return {"type": "array", "items": {"type": "string"}}
    if first.kind == "choice":
        every = (choice for option in options for choice in option.choices)
        return {"type": "string", "enum": list(dict.fromkeys(every))}
    lows, highs = [option.low for option in options], [option.high for option in options]
    schema: Schema = {"type": first.kind}
    if None not in lows:
        schema["minimum"] = min(low for low in lows if low is not None)
    if None not in highs:
        schema["maximum"] = max(high for high in highs if high is not None)
    return schema


def _report() -> Schema:
    """The report (docs/formats.md explains every field), and the masks."""
    text, number, whole = {"type": "string"}, {"type": "number"}, {"type": "integer"}
    texts = {"type": "array", "items": text}
    by_name = {"type": "object"}
    named = {"id": whole, "names": texts, "color": {"type": "array", "items": whole}}
    mask = {
        "id": {**whole, "description": "k of the k-th class, from 1."},
        "name": text,
        "area": {**whole, "description": "Pixels."},
        "bbox": {"type": "array", "items": number, "description": "Left, top, width, height in pixels."},
        "segmentation": {
            **_object({"size": {"type": "array", "items": whole}, "counts": text}),
            "description": "COCO's compressed run lengths; size is (height, width).",
        },
    }
    return _object(
        {
            "schema": text,
            "source": {**text, "description": "File name of the photo."},
            "image": _object({"width": whole, "height": whole, "sha256": text}),
            "method": text,
            "encoder": text,
            "weights": by_name,
            "preset": by_name,
            "refine": text,
            "switches": texts,
            "options": by_name,
            "vocabulary": by_name,
            "exemplars": _list(by_name),
            "edits": _list(by_name),
            "excluded": {**_list(whole), "description": "Classes that were switched off."},
            "classes": _list(_object({**named, "area_share": number, "mean_score": number})),
            "seconds": by_name,
            "notes": texts,
            "masks": {**_list(_object(mask)), "description": "Classes that won pixels."},
        }
    )


def _health() -> Schema:
    text = {"type": "string"}
    return _object({"status": text, "version": text, "waiting": {"type": "integer"}})


def _said(description: str, name: str) -> Schema:
    """A refusal: one sentence under a name."""
    return {"description": description, "content": _json(_object({name: {"type": "string"}}))}


def _json(schema: Schema) -> Schema:
    return {"application/json": {"schema": schema}}


def _object(properties: Schema) -> Schema:
    return {"type": "object", "required": [*properties], "properties": properties}


def _list(items: Schema) -> Schema:
    return {"type": "array", "items": items}


def _values(schema: Schema) -> str:
    """What values a field takes, in words."""
    kind = "file" if schema.get("format") == "binary" else str(schema.get("type", ""))
    if kind == "array" and schema["items"].get("format") == "binary":
        return "files"
    if "enum" in schema:
        return f"{kind}: {_joined(schema['enum'])}"
    low, high = schema.get("minimum"), schema.get("maximum")
    if low is not None and high is not None:
        return f"{kind} in [{low:g}, {high:g}]"
    return kind if low is None else f"{kind} of {low:g} or more"


def _joined(names: Iterable[str]) -> str:
    return ", ".join(names)
