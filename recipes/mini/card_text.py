"""The model card's sentences and tables, from numbers of `recipes.mini.card`; all of them in [0, 1]."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from ovs_core.methods import DEFAULT_METHOD
from ovs_core.training.mask_plans import HELD_OUT

Numbers = Mapping[str, Any]

QUESTIONS = ("coco a", "coco a, foreground", "coco b", "coco c", "camvid")
TITLES = ("a", "a, foreground", "b", "c", "CamVid")
ROOM_TITLES: Mapping[str, str] = MappingProxyType({"nyu": "NYUv2", "msrc": "MSRC"})
KNOWN_FROM, NOTHING_BELOW = 0.65, 0.005  # IoU
FALLS = 5
BEGIN, END = "<!-- begin {name}: from recipes.mini card -->", "<!-- end {name} -->"


def results(numbers: Numbers) -> str:
    """The card's results, Markdown without its marks."""
    rules, size = numbers["rules"], numbers["size"]
    lines = [["last-block rule", *TITLES], ["---"] * (len(TITLES) + 1)]
    lines += [[name, *_row(grades)] for name, grades in rules.items()]
    lines.append([f"{DEFAULT_METHOD}, three frames", *_row(numbers["several_frames"])])
    best = rules[DEFAULT_METHOD]
    weights = f"{size['parameters'] / 1e6:.1f} M parameters, {size['bytes'] / 1e6:.1f} MB"
    if size["words"]:
        weights += f"; tuned words `{size['words'][:12]}`"
    head = (
        f"mIoU %, [95 % interval], {best['coco b']['photos']} COCO val2017 photos and "
        f"{best['camvid']['photos']} CamVid frames; SHA-256 `{size['sha256'][:12]}`, {weights}."
    )
    facts = [
        _closed_set_line(numbers["closed_set"]),
        _wording_line(numbers["wording"]),
        _distractor_line(numbers["distractors"]),
        *_class_lines(*(best[name]["classes"] for name in ("coco a", "coco b", "camvid"))),
        *(_room_line(name, grade) for name, grade in numbers["rooms"].items()),
    ]
    return "\n\n".join([head, _table(lines), "\n".join(f"- {fact}" for fact in facts)])


def held_out_table(numbers: Numbers) -> str:
    """Seen, unseen and harmonic, Markdown."""
    metrics = ("miou_truth", "seen_miou", "unseen_miou", "harmonic_miou")
    heads = ["weights", "all", "seen", f"unseen {len(HELD_OUT)}", "harmonic"]
    rows = [[name, *(percents(grade.get(metric)) for metric in metrics)] for name, grade in numbers.items()]
    return _table([heads, ["---"] * len(heads), *rows])


def readme_line(grades: Numbers, rooms: Numbers) -> str:
    """The README's sentence about quality."""
    own, everything, streets = (grades[name] for name in ("coco a", "coco b", "camvid"))
    parts = [
        f"{percents(own['value'])} with a photo's own COCO classes typed + other",
        f"{percents(everything['value'])} with all 80 typed + other "
        f"({everything['photos']} COCO val2017 photos)",
        f"{percents(streets['value'])} on CamVid ({streets['photos']} frames)",
        *(_room(name, grade) for name, grade in rooms.items()),
    ]
    return f"NACLIP, mIoU % [95 % interval]: {', '.join(parts)}."


def replaced(card: str, name: str, text: str) -> str:
    """The card with `text` between the marks called `name`.

    Raises:
        ValueError: if the marks are not there once each, in order.
    """
    begin, end = BEGIN.format(name=name), END.format(name=name)
    before, opened, rest = card.partition(begin)
    _, closed, after = rest.partition(end)
    if not opened or not closed or begin in rest or end in after:
        raise ValueError(f"The card must hold {begin!r} and then {end!r}, once each.")
    return f"{before}{begin}\n\n{text}\n\n{end}{after}"


def percents(interval: Mapping[str, float] | None, digits: int = 1) -> str:
    """A value with its interval, in per cent."""
    if interval is None:
        return "-"
    value, low, high = (f"{100 * interval[key]:.{digits}f}" for key in ("value", "low", "high"))
    return f"{value} [{low}, {high}]"


def _row(grades: Numbers) -> list[str]:
    return [percents(grades[name]["value"]) if name in grades else "-" for name in QUESTIONS]


def _table(lines: list[list[str]]) -> str:
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _closed_set_line(numbers: Numbers) -> str:
    return (
        f"**Closed set**: on the 20 VOC names + background, same photos, DeepLabV3-MobileNetV2 has "
        f"{percents(numbers['theirs'])}, ours {percents(numbers['ours'])}; ours minus DeepLab, paired by "
        f"photo, {percents(numbers['difference'])}."
    )


def _wording_line(numbers: Numbers) -> str:
    ways = ", ".join(
        f"{way} {percents(wording['kept'], 0)} ({wording['classes']} classes)"
        for way, wording in numbers.items()
    )
    return f"**Other words for the same thing**, per cent of the plain name's IoU that is kept (a): {ways}."


def _distractor_line(numbers: Numbers) -> str:
    alone, beside, paired = numbers["alone"], numbers["beside"], numbers["difference"]
    area, silent = percents(beside["false_area"]), percents(beside.get("absent_silent"), 0)
    before, after, gap = (percents(grade.get("miou_truth")) for grade in (alone, beside, paired))
    return (
        f"**{numbers['count']} absent COCO names** typed beside the photo's own (a): they take {area} % of "
        f"the area; {silent} % of them take no pixel. mIoU {before} becomes {after}, paired difference {gap}."
    )


def _room(name: str, grade: Numbers) -> str:
    title = ROOM_TITLES.get(name, name)
    return f"{percents(grade['value'])} on {title}'s {len(grade['classes'])} names ({grade['photos']} photos)"


def _room_line(name: str, grade: Numbers) -> str:
    ordered = sorted(grade["classes"].items(), key=lambda entry: -entry[1])
    ious = ", ".join(f"{label} {100 * iou:.0f}" for label, iou in ordered)
    return f'**{_room(name, grade)}**, all typed, no "other", every labelled pixel; IoU: {ious}.'


def _class_lines(
    own: Mapping[str, float], everything: Mapping[str, float], streets: Mapping[str, float]
) -> list[str]:
    """Best and worst classes of a, those that lose most when all names are typed, and CamVid's; IoU in %."""
    things = {name: iou for name, iou in own.items() if name not in ("other", "background")}
    known = [name for name in sorted(things, key=lambda name: -things[name]) if things[name] >= KNOWN_FROM]
    nothing = sorted(name for name, iou in things.items() if iou < NOTHING_BELOW)
    lost = {name: iou - everything[name] for name, iou in things.items() if name in everything}
    falls = sorted(lost, key=lambda name: -lost[name])[:FALLS]
    fallen = ", ".join(f"{name} {100 * things[name]:.0f} to {100 * everything[name]:.0f}" for name in falls)
    ordered = sorted(streets.items(), key=lambda entry: -entry[1])
    frames = ", ".join(f"{name} {100 * iou:.0f}" for name, iou in ordered)
    best, none = f"{100 * KNOWN_FROM:.0f}", f"{100 * NOTHING_BELOW}"
    return [
        f"**Knows best** (a, {DEFAULT_METHOD}, IoU of {best} and more): {', '.join(known) or '-'}.",
        f"**Finds nothing of** (a, IoU below {none}): {', '.join(nothing) or '-'}.",
        f"**Lose most to near names** (IoU from a to b): {fallen or '-'}.",
        f"**CamVid**, IoU: {frames}.",
    ]
