"""The JSON report that stands beside every label map."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from ovs_core.export.answered import Answered

SCHEMA = "ovs-lens/result/1"
"""Changes whenever a field is renamed, removed or changes its meaning; new fields may come without notice."""


def report(result: Answered, source: str = "") -> dict[str, Any]:
    """A result in words and numbers, ready for JSON; every field is explained in docs/formats.md.

    Args:
        result: what to report.
        source: file name of the photo, "" if unknown.
    """
    height, width = result.labels.shape
    return {
        "schema": SCHEMA,
        "source": source,
        "image": {"width": width, "height": height},
        "method": result.method,
        "encoder": result.encoder,
        "weights": {name: {"sha256": digest} for name, digest in result.weights.items()},
        "preset": asdict(result.preset),
        "refine": result.refiner,
        "switches": list(result.switches),
        "options": dict(result.options),
        "vocabulary": {
            "classes": [list(names) for names in result.vocabulary.classes],
            "other": list(result.vocabulary.other),
        },
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
