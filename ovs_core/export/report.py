"""The JSON report that stands beside every label map, and the part of it that asks for the same again."""

from __future__ import annotations

import hashlib
from dataclasses import asdict
from typing import Any

import numpy as np

from ovs_core.edit.record import edits_to_json
from ovs_core.export.answered import Answered

SCHEMA = "ovs-lens/result/1"
"""Changes whenever a field is renamed, removed or changes its meaning; new fields may come without notice."""


SETTINGS_SCHEMA = "ovs-lens/settings/1"
"""The same of a report's question alone."""


def settings(result: Answered) -> dict[str, Any]:
    """What `segment --settings` does again: question, refinement and edits, as they stand in the report."""
    return {"schema": SETTINGS_SCHEMA, **_question(result)}


def report(result: Answered, source: str = "") -> dict[str, Any]:
    """A result in words and numbers, ready for JSON; every field is explained in docs/formats.md.

    Args:
        result: what to report.
        source: file name of the photo; "" takes the result's own.
    """
    height, width = result.labels.shape
    return {
        "schema": SCHEMA,
        "source": source or result.source,
        "image": {"width": width, "height": height, "sha256": pixels_sha256(result)},
        **_question(result),
        "weights": {name: {"sha256": digest} for name, digest in result.weights.items()},
        "preset": asdict(result.preset),
        "switches": list(result.switches),
        "classes": [
            {
                "id": summary.label,
                "names": list(summary.names),
                "color": list(summary.color),
                "area_share": summary.area_share,
                "mean_score": summary.mean_score,
            }
            for summary in result.classes
        ],
        "seconds": dict(result.seconds),
        "notes": [*result.vocabulary.notes, *result.notes],
    }


def _question(result: Answered) -> dict[str, Any]:
    """What was asked, and what was done to the answer by hand."""
    return {
        "method": result.method,
        "encoder": result.encoder,
        "refine": result.refiner,
        "options": dict(result.options),
        "vocabulary": {
            "classes": [list(names) for names in result.vocabulary.classes],
            "asked": [list(names) for names in result.vocabulary.asked],
            "numbers": list(result.vocabulary.numbers),
            "ids": list(result.vocabulary.ids),
            "other": list(result.vocabulary.other),
            "literal": sorted(result.vocabulary.literal),
            "guards": sorted(result.vocabulary.guards),
        },
        "exemplars": [{"name": name, "photo_sha256": digest} for name, digest in result.exemplars],
        "excluded": sorted(result.evidence.excluded),
        "edits": edits_to_json(result.edits),
    }


def pixels_sha256(result: Answered) -> str:
    """SHA-256 (hex) of the upright photo's RGB bytes, by which a report knows its photo."""
    return hashlib.sha256(np.ascontiguousarray(result.image).data).hexdigest()
