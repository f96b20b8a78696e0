"""Which words the embedded model is taught: WordNet's nouns, plurals and phrases of everyday names."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

PHYSICAL_ENTITY = "00001930"  # WordNet 3.0 offset of `physical entity`: what a photo can show
ADJECTIVES = (
    "red", "blue", "green", "yellow", "black", "white", "brown", "grey", "orange", "pink", "big",
    "small", "old", "new", "wooden", "metal", "plastic", "glass", "stone", "striped", "wet", "dirty",
    "shiny", "young", "sleeping", "running", "parked", "empty", "broken", "colourful", "round", "large",
    "little", "fluffy", "tall", "open",
)  # fmt: skip
ADJECTIVES_PER_NAME = 4
IRREGULAR: Mapping[str, str] = MappingProxyType(
    {
        "man": "men", "woman": "women", "child": "children", "person": "people", "mouse": "mice",
        "foot": "feet", "tooth": "teeth", "goose": "geese", "knife": "knives", "leaf": "leaves",
        "wolf": "wolves", "shelf": "shelves", "sheep": "sheep", "fish": "fish", "deer": "deer",
    }
)  # fmt: skip
# Kinds too wide to be typed by anyone who looks at a photo.
TOO_WIDE = frozenset({
    "abstraction", "agent", "animate thing", "aquatic bird", "area", "arthropod", "artifact",
    "attribute", "bedroom furniture", "beverage container", "body part", "causal", "causal agent",
    "chordate", "commodity", "consumer goods", "container", "conveyance", "covering", "creation",
    "device", "domestic animal", "durables", "edible fruit", "electronic equipment", "entity",
    "equipment", "eutherian", "even-toed ungulate", "foodstuff", "game bird", "geological formation",
    "home appliance", "hunting dog", "implement", "instrumentality", "invertebrate", "living thing",
    "matter", "mechanical device", "mechanism", "natural object", "nutriment", "object", "organism",
    "oscine", "part", "passerine", "physical entity", "placental", "placental mammal", "plant organ",
    "plant part", "produce", "protective covering", "region", "reproductive structure",
    "self-propelled vehicle", "solid", "structure", "substance", "system", "thing", "ungulate", "unit",
    "vertebrate", "wading bird", "wheeled vehicle", "whole", "working dog",
})  # fmt: skip

Synsets = Mapping[str, "Synset"]
Senses = Mapping[str, tuple[str, ...]]


@dataclass(frozen=True)
class Synset:
    """One WordNet noun sense: its names, and the offset of the sense above it (None at the top)."""

    names: tuple[str, ...]
    above: str | None


def read_wordnet(folder: Path) -> tuple[dict[str, Synset], dict[str, tuple[str, ...]]]:
    """Read `data.noun` and `index.noun`.

    Returns:
        Synsets by offset, and for each name its senses' offsets, most frequent first.
    """
    synsets: dict[str, Synset] = {}
    for line in _records(folder / "data.noun"):
        fields = line.split(" | ")[0].split()
        count = int(fields[3], 16)
        names = tuple(fields[4 + 2 * i].replace("_", " ") for i in range(count))
        pointers = fields[5 + 2 * count :]
        kinds = (pointers[i + 1] for i in range(0, len(pointers) - 1, 4) if pointers[i] in ("@", "@i"))
        above = next(kinds, None)  # `@` points to a kind, `@i` to the class of an instance
        synsets[fields[0]] = Synset(names, above)
    senses: dict[str, tuple[str, ...]] = {}
    for line in _records(folder / "index.noun"):
        fields = line.split()
        senses[fields[0].replace("_", " ")] = tuple(fields[-int(fields[2]) :])
    return synsets, senses


def tagged_senses(folder: Path) -> dict[str, int]:
    """How many of a name's senses, counted from the first, were met in WordNet's tagged texts."""
    counts: dict[str, int] = {}
    for line in _records(folder / "index.noun"):
        fields = line.split()  # lemma, n, senses, p, p kinds of pointer, senses, tagged senses, offsets
        counts[fields[0].replace("_", " ")] = int(fields[5 + int(fields[3])])
    return counts


def _records(path: Path) -> Iterator[str]:
    with path.open(encoding="utf-8") as file:
        yield from (line for line in file if not line.startswith("  "))  # the licence is indented


def visible_nouns(synsets: Synsets, senses: Senses) -> dict[str, tuple[str, ...]]:
    """Lower-case nouns whose first sense is a physical thing.

    Returns:
        For each noun its near names: up to three synonyms, then what it is a kind of.
    """
    physical = descendants(synsets, PHYSICAL_ENTITY)
    nouns: dict[str, tuple[str, ...]] = {}
    for name, offsets in senses.items():
        first = synsets.get(offsets[0])
        if first is None or offsets[0] not in physical or any(n[0].isupper() for n in first.names):
            continue
        above = synsets[first.above].names[:1] if first.above else ()
        nouns[name] = tuple(n for n in first.names[:3] if n.lower() != name) + above
    return nouns


def descendants(synsets: Synsets, root: str) -> frozenset[str]:
    """Offsets of `root` and of every sense below it."""
    below: set[str] = {root}
    unknown: set[str] = set()
    for offset in synsets:
        chain = []
        at: str | None = offset
        while at is not None and at not in below and at not in unknown:
            chain.append(at)
            at = synsets[at].above
        (below if at in below else unknown).update(chain)
    return frozenset(below)


def plural(name: str) -> str:
    """English plural of the last word."""
    *head, last = name.split()
    if last in IRREGULAR:
        last = IRREGULAR[last]
    elif last.endswith(("s", "x", "z", "ch", "sh")):
        last += "es"
    elif last.endswith("y") and last[-2:-1] not in "aeiou":
        last = last[:-1] + "ies"
    else:
        last += "s"
    return " ".join([*head, last])


def phrases(names: Iterable[str]) -> list[str]:
    """The plural of each name, and the name behind four adjectives, which are dealt out in turn."""
    out: list[str] = []
    for i, name in enumerate(names):
        out.append(plural(name))
        out += [f"{ADJECTIVES[(7 * i + 9 * j) % len(ADJECTIVES)]} {name}" for j in range(ADJECTIVES_PER_NAME)]
    return out


def kinds_of(synsets: Synsets, offset: str, most: int = 4) -> tuple[str, ...]:
    """Up to `most` names of what a sense is a kind of, nearest first, in words a person would type."""
    kinds: list[str] = []
    at = synsets[offset].above
    while at is not None and len(kinds) < most:
        name = synsets[at].names[0].lower()
        if name not in TOO_WIDE:
            kinds.append(name)
        at = synsets[at].above
    return tuple(kinds)
