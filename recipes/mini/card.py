"""Every number of the embedded model's card and of the README's quality lines, from one command.

    python -m recipes.mini card --data coco=DIR --data camvid=DIR --data pretrained=DIR --data nyu=DIR \
        --data msrc=DIR --out DIR

Asks the exam's questions with the five last-block rules and with three frame sizes, the 20 VOC names of
DeepLab too, other words for the same things, 20 absent names, rooms and materials on kept photos of two
sets that teach (`ROOMS`, where their folders are given); with weights trained without the 15 names also
seen and unseen names. Records are kept below `--out`, in a folder that stands for weights and photos: a run
that was stopped goes on, and numbers of other weights are never mixed in.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from ovs_core.checkpoints import CHECKPOINTS, WeightStore, sha256_of
from ovs_core.encoders.towers import DEFAULT_ENCODER, ENCODERS
from ovs_core.engine import Engine
from ovs_core.evaluation.records import PhotoRecord
from ovs_core.evaluation.report import write_text
from ovs_core.evaluation.run import Settings, Subject, engine_subject
from ovs_core.evaluation.summary import differences, summarise
from ovs_core.labelled.datasets import FOLDER, Dataset, open_dataset
from ovs_core.methods import DEFAULT_METHOD
from ovs_core.metrics.resampling import Interval
from ovs_core.training.mask_plans import HELD_OUT
from recipes.mini import closed_set
from recipes.mini.card_text import held_out_table, readme_line, replaced, results
from recipes.mini.exam import KEPT_ONLY, Exam, engine_of, exams, grade, questions, run
from recipes.mini.wording import PLAIN, kept, margins_of, with_words, wordings

log = logging.getLogger(__name__)

RULES = ("clip", "maskclip", "sclip", "clearclip", "naclip")
ROOMS = ("nyu", "msrc")  # every labelled pixel counts, all their names are typed
SEVERAL: Mapping[str, bool] = MappingProxyType({"multi_scale": True})  # options
DISTRACTORS = 20
DIGITS = 12  # of a SHA-256, in names of folders

Numbers = dict[str, Any]


@dataclass(frozen=True, eq=False)
class Asked:
    """What is measured and where records are kept.

    Attributes:
        engine: with the weights.
        coco, camvid: labelled photos.
        work: folder of the records.
    """

    engine: Engine
    coco: Dataset
    camvid: Dataset
    work: Path

    def records(self, exam: Exam, subject: Subject, name: str) -> list[PhotoRecord]:
        """What was counted of each photo; a run that was stopped goes on."""
        log.info("%s, %s", name, exam.name)
        path = self.work / f"{name}.{exam.name.replace(', ', '_').replace(' ', '_')}.jsonl"
        return run(exam, subject, path)

    def ask(self, exam: Exam, name: str, method: str = DEFAULT_METHOD) -> list[PhotoRecord]:
        """The same of one of the engine's methods."""
        subject = engine_subject(self.engine, method, exam.dataset, exam.settings)
        return self.records(exam, subject, name)


def write_card(
    folders: Mapping[str, Path], out: Path, *, held_out: Path | None, limit: int | None, card: Path | None
) -> str:
    """Measure what is missing and write `card.json`, `results.md` and `readme.md`; returns their texts.

    Args:
        folders: "coco", "camvid" and "pretrained", and any of `ROOMS`.
        out: folder to write to.
        held_out: weights trained without the 15 names, or None.
        limit: at most so many photos of each set, evenly spaced.
        card: the model card to put the results into, or None.

    Raises:
        ValueError: if a folder is laid out otherwise, or the held-out weights are those that ship.
    """
    size = _size()
    work = out / "-".join((size["sha256"][:DIGITS], size["words"][:DIGITS] or "plain", str(limit or "all")))
    work.mkdir(parents=True, exist_ok=True)
    opened = {name: _open(folders[name], name, limit) for name in KEPT_ONLY}
    asked = Asked(engine_of(None), **opened, work=work)
    numbers = {
        "size": size,
        "rules": {name: _grades(asked, name, {}) for name in RULES},
        "several_frames": _grades(asked, DEFAULT_METHOD, SEVERAL),
        "closed_set": _closed_set(asked, folders["pretrained"]),
        "wording": _wording(asked),
        "distractors": _distractors(asked),
        "rooms": _rooms(asked, {name: folders[name] for name in ROOMS if name in folders}, limit),
    }
    texts = {"results": results(numbers)}
    if held_out is not None:
        if sha256_of(held_out) == size["sha256"]:
            raise ValueError("the held-out weights must be others than the shipped ones.")
        numbers["held_out"] = _held_out(asked, held_out)
        texts["held out"] = held_out_table(numbers["held_out"])
    readme = readme_line(numbers["rules"][DEFAULT_METHOD], numbers["rooms"])
    write_text(out / "card.json", json.dumps(numbers, indent=1) + "\n")
    write_text(out / "results.md", "\n\n".join(texts.values()) + "\n")
    write_text(out / "readme.md", readme + "\n")
    if card is not None:
        content = card.read_text(encoding="utf-8")
        for name, text in texts.items():
            content = replaced(content, name, text)
        write_text(card, content)
    return "\n\n".join([*texts.values(), readme])


def _open(root: Path, name: str, limit: int | None) -> Dataset:
    return open_dataset(FOLDER, root, split=KEPT_ONLY[name], limit=limit)


def _size() -> Numbers:
    """Which weights ship, and how large they are."""
    loaded = ENCODERS[DEFAULT_ENCODER].load(WeightStore(offline=True))
    return {
        "parameters": sum(parameter.numel() for parameter in loaded.model.parameters()),
        "bytes": (CHECKPOINTS / DEFAULT_ENCODER / "mini.safetensors").stat().st_size,
        "sha256": next(iter(loaded.weights.values())),
        "words": "" if loaded.tuned_words is None else loaded.tuned_words.sha256,
    }


def _grades(asked: Asked, method: str, options: Mapping[str, bool]) -> Numbers:
    """All questions about both sets, by name."""
    grades: Numbers = {}
    for name, dataset in (("coco", asked.coco), ("camvid", asked.camvid)):
        for exam in questions(name, dataset):
            settings = replace(exam.settings, options=dict(options))
            asking = Exam(exam.name, exam.dataset, settings)
            records = asked.ask(asking, f"{method}{'-several' if options else ''}", method)
            grades[exam.name] = asdict(grade(asking, records))
    return grades


def _rooms(asked: Asked, folders: Mapping[str, Path], limit: int | None) -> Numbers:
    """The sets' own names on their kept photos, by set."""
    asking = exams(folders, "kept", limit)
    return {exam.name: asdict(grade(exam, asked.ask(exam, DEFAULT_METHOD))) for exam in asking}


def _closed_set(asked: Asked, pretrained: Path) -> Numbers:
    """DeepLab's mIoU on VOC's names, and ours minus it, paired."""
    exam = next(exam for exam in questions("coco", asked.coco) if exam.name == "coco c")
    theirs = asked.records(exam, closed_set.closed_set_subject(pretrained), "deeplab")
    ours = asked.ask(exam, DEFAULT_METHOD)
    paired = grade(exam, ours, theirs)
    return {
        "theirs": asdict(grade(exam, theirs).value),
        "ours": asdict(paired.value),
        "difference": None if paired.difference is None else asdict(paired.difference),
    }


def _wording(asked: Asked) -> Numbers:
    """What each way of saying names keeps of question a."""
    kept_parts: dict[str, Any] = {}
    names = asked.coco.names
    stacks = {}
    for way, words in wordings(names).items():
        exam = Exam("coco a", with_words(asked.coco, words), Settings(classes_in_image=True))
        stacks[way] = margins_of(asked.ask(exam, way.replace(" ", "-")), len(names) + 1)
        if way != PLAIN:
            kept_parts[way] = asdict(kept([word is not None for word in words], stacks[PLAIN], stacks[way]))
    return kept_parts


def _distractors(asked: Asked) -> Numbers:
    """Question a without and with absent names."""
    runs = []
    for count in (0, DISTRACTORS):
        exam = Exam("coco a", asked.coco, Settings(classes_in_image=True, distractors=count))
        runs.append(asked.ask(exam, f"distractors-{count}"))
    alone, beside = (_metrics(summarise(records, asked.coco).metrics) for records in runs)
    difference = _metrics(differences(runs[1], runs[0], asked.coco))
    return {"alone": alone, "beside": beside, "difference": difference, "count": DISTRACTORS}


def _held_out(asked: Asked, weights: Path) -> Numbers:
    """Question a on weights that never saw the names of `HELD_OUT`, and on the shipped ones."""
    unseen = [asked.coco.names.index(name) + 1 for name in HELD_OUT if name in asked.coco.names]
    exam = Exam("coco a", asked.coco, Settings(classes_in_image=True))
    without = Asked(engine_of(weights), asked.coco, asked.camvid, asked.work)
    runs = {
        f"{len(HELD_OUT)} names held out": without.ask(exam, f"held-out-{sha256_of(weights)[:DIGITS]}"),
        "nothing held out": asked.ask(exam, DEFAULT_METHOD),
    }
    return {name: _metrics(summarise(run, asked.coco, unseen).metrics) for name, run in runs.items()}


def _metrics(metrics: Mapping[str, Interval]) -> dict[str, dict[str, float]]:
    return {name: asdict(interval) for name, interval in metrics.items()}
