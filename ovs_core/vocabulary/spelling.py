"""How a typed name is asked: the words in it, without what keyboards, lists and datasets put around them.

"sky.", "The sky", "sky_", "sky-other-merged" and "nature--sky" all mean sky. A text tower reads each of
them as something else, and the hidden name "sky" would win against every one. So names are compared and
encoded in their asked form; what was typed is kept for show.

The rules for "_", "/" and a full stop at the end are those of ViLD's prompts (arXiv 2104.13921, the authors'
notebook: `processed_name`); the others undo the spelling of one known source each, named beside them.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

_DASHES = str.maketrans(
    {
        **dict.fromkeys("\u2010\u2011\u2012\u2013\u2014\u2015\u2212\ufe58\ufe63\uff0d", "-"),
        **dict.fromkeys("\u2018\u2019\u201a\u201b\u02bc", "'"),
    }
)
_SKIN_TONES = range(0x1F3FB, 0x1F400)
_TAGS = range(0xE0020, 0xE0080)
_EMOJI_PARTS = frozenset("\ufe0e\ufe0f\u20e3")  # which of two looks, and the frame of a key
_JOINER = "\u200d"
_BRACKETS = {"(": ")", "[": "]", "{": "}", "<": ">"}.items()

_SYNSET_NUMBER = re.compile(r"n\d{8}[\s_:,-]+(?=\S)")  # ImageNet: n02084071 dog
_SYNSET = re.compile(r"(\S+)\.[nvars]\.\d\d")  # Visual Genome: sky.n.01
_TREE = re.compile(r"\S--(?=\S)|(?<=\w)::(?=\w)")  # Mapillary Vistas: nature--sky
_LIST_MARK = re.compile(r"(?:[-*+\u2022\u00b7\u25aa\u25e6\u2023]|\(?\d{1,3}[.)]|\[[ xX]?\])\s+(?=\S)")
_PROMPT = re.compile(r"(?:(?:a|an|the)\s+)?(?:photo|photograph|image)\s+of\s+(?=\S)", re.IGNORECASE)  # CLIP
_ARTICLE = re.compile(r"(?:a|an|the|some)\s+(?=\S)", re.IGNORECASE)
_INSTANCE = re.compile(r"(?<=[^\W\d])(?:_(?:\d{1,2}|0\d+)|\.\d{3})$")  # tree_01, and Blender's tree.001
_FILING = re.compile(r"(?<=\w)(?:[-_](?:merged|others?|stuff))+$", re.IGNORECASE)  # COCO panoptic, COCO-Stuff
_MADE_OF = re.compile(  # COCO-Stuff files materials behind what is made of them: wall-brick
    r"(wall|floor|ceiling)[-_](brick|concrete|marble|panel|stone|tile|wood)(?:[-_](?:merged|other))*",
    re.IGNORECASE,
)
_OPTIONAL_PLURAL = re.compile(r"(?<=\w\w)\((?:e?s)\)", re.IGNORECASE)
_OR = re.compile(r"(?<=[^\W\d_]{2})\s*/\s*(?=[^\W\d_]{2})")  # Objects365: Cabinet/shelf
_ONE_WORD = re.compile(r"[^\W\d_]{3,}(?:[-.][^\W\d_]{3,})+")  # traffic-light, nuScenes's vehicle.car
_HUMPS = re.compile(r"[A-Z]?[a-z]+(?:[A-Z][a-z]+)+")
_HUMP = re.compile(r"[A-Z]?[a-z]+")
_JOINED_BY = re.compile(r"%20|(?<=[^\W\d_]{2})\+(?=[^\W\d_]{2})")  # addresses on the web
_RELATION = re.compile(r"\s+(?:with|without|in|on|at|near|behind|under|over|by)\s+")


@dataclass(frozen=True)
class Lexicon:
    """Words of class lists, by which names that were written as one word are told from brands.

    Attributes:
        words: single words, casefolded.
        phrases: names of several words by the same without blanks: "trafficlight" -> "traffic light".
    """

    words: frozenset[str] = frozenset()
    phrases: Mapping[str, str] = field(default_factory=dict)


def lexicon_of(names: Iterable[str]) -> Lexicon:
    """The words and phrases of a list of names."""
    several = [name.casefold().split() for name in names]
    words = frozenset(word for parts in several for word in parts)
    joined = {"".join(parts): " ".join(parts) for parts in several if len(parts) > 1}
    # PASCAL VOC writes these as one word, and so they stand among the words.
    voc = {"diningtable", "pottedplant", "tvmonitor"}
    return Lexicon(words, {key: name for key, name in joined.items() if key in voc or key not in words})


def asked_form(name: str, lexicon: Lexicon) -> str:
    """The words that a name means, as a text tower should read them; the name itself if nothing is left.

    Asking for the asked form of an asked form changes nothing.

    Args:
        name: as typed, white space collapsed.
        lexicon: known words.
    """
    text = name
    # A mark behind a suffix, an article behind a bracket: until nothing is left to take off.
    for _ in range(8):
        before, text = text, _without_wrapping(text, lexicon)
        if text == before:
            break
    return text or name


def comparison_keys(name: str, lexicon: Lexicon) -> frozenset[str]:
    """What a name is compared by, casefolded: as it is asked, and the thing that it names.

    "dining table" and "table of wood" name a table, "bird on a fence" a bird, "cabinet/shelf" either.
    """
    asked = asked_form(name, lexicon)
    apart = " ".join(_HUMP.sub(r" \g<0> ", asked).split()) if _HUMPS.fullmatch(asked) else asked
    text = re.sub(r"\([^()]*\)", " ", apart.casefold())
    keys = {asked.casefold()}
    for choice in re.split(r"\s+or\s+", text):
        thing = _RELATION.split(" ".join(choice.replace("-", " ").split()))[0]
        for part in (thing, *thing.split(" of ")):
            keys |= {part, *part.split()[-1:]}
    return frozenset(filter(None, keys))


def singulars(name: str) -> set[str]:
    """What an English name may be the plural of; a few wrong guesses do no harm."""
    forms = set()
    if name.endswith("s"):
        forms.add(name[:-1])
    if name.endswith("es"):
        forms.add(name[:-2])
    if name.endswith("ies"):
        forms.add(name[:-3] + "y")
    if name.endswith("ves"):
        forms |= {name[:-3] + "f", name[:-3] + "fe"}
    return forms


def with_singulars(keys: Iterable[str]) -> frozenset[str]:
    """The keys, and what they may be plurals of."""
    return frozenset(form for key in keys for form in (key, *singulars(key)))


def _without_wrapping(name: str, lexicon: Lexicon) -> str:
    """One round of taking off what stands around the words."""
    text = unicodedata.normalize("NFKC", name).translate(_DASHES)
    text = _without_emoji(text)
    text = _SYNSET_NUMBER.sub("", text) if _SYNSET_NUMBER.match(text) else text
    if synset := _SYNSET.fullmatch(text):
        text = synset[1]
    text = _TREE.split(text)[-1] if _TREE.search(text) else text
    for mark in (_LIST_MARK, _PROMPT, _ARTICLE):
        if start := mark.match(text):
            text = text[start.end() :]
    text = _INSTANCE.sub("", _trimmed(text))
    if material := _MADE_OF.fullmatch(text):
        text = f"{material[2]} {material[1]}"
    text = _FILING.sub("", text)
    text = _OR.sub(" or ", _OPTIONAL_PLURAL.sub("", text))
    text = _JOINED_BY.sub(" ", text.replace("_", " "))
    text = re.sub("[-.]", " ", text) if _ONE_WORD.fullmatch(text) else text
    return _spelled_apart(_trimmed(text), lexicon)


def _without_emoji(text: str) -> str:
    """The text without pictures, unless there is nothing but pictures."""
    dropped = [
        unicodedata.category(c) == "So" or c in _EMOJI_PARTS or ord(c) in _SKIN_TONES or ord(c) in _TAGS
        for c in text
    ]
    kept = "".join(
        c
        for place, c in enumerate(text)
        if not dropped[place] and not (c == _JOINER and any(dropped[max(0, place - 1) : place + 2]))
    )
    return kept if any(c.isalnum() for c in kept) else text


def _trimmed(text: str) -> str:
    """The text without marks at its ends; pairs of brackets inside stay."""
    while text:
        before = text
        text = text.strip(
            " \t.,;:!?'\"`~^|\\/&=*_-\u2026\u3002\u3001\u00b7\u2022\u00bf\u00a1\u00ab\u00bb\u2039\u203a"
        )
        text = text.strip(
            "\u201c\u201d\u201e\u201f\u300c\u300d\u300e\u300f\u300a\u300b\u3008\u3009\u3010\u3011\u200e\u200f\u2060\u200c"
        )
        text = text.lstrip("#+")
        if len(text) > 2 or text[-1:] not in ("+", "#"):  # C++ and C# are names
            text = text.rstrip("#")
        for opening, closing in _BRACKETS:
            if text.startswith(opening) and text.find(closing) in (-1, len(text) - 1):
                text = text[1:].removesuffix(closing)
            if text.endswith(closing) and opening not in text:
                text = text[:-1]
            if text.endswith(opening):
                text = text[:-1]
        if text == before:
            return text
    return text


def _spelled_apart(name: str, lexicon: Lexicon) -> str:
    """A known name of several words that was written as one: PottedPlant, trafficlight."""
    if phrase := lexicon.phrases.get(name.casefold()):
        return phrase if " " not in name else name
    humps = _HUMP.findall(name) if _HUMPS.fullmatch(name) else []
    if humps and all(hump.casefold() in lexicon.words for hump in humps):
        return " ".join(humps)
    return name
