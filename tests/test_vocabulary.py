from pathlib import Path

import pytest

from ovs_core.vocabulary import (
    BENCHMARKS,
    MAX_NAMES,
    TEMPLATES,
    VocabularyError,
    background_names,
    default_background,
    default_stuff,
    parse_vocabulary,
    read_vocabulary,
    thing_labels,
)


@pytest.mark.parametrize(
    ("text", "classes"),
    [
        ("dog", (("dog",),)),
        ("dog; grass; sky | clouds", (("dog",), ("grass",), ("sky", "clouds"))),
        ("dog, grass\nsky|clouds", (("dog",), ("grass",), ("sky", "clouds"))),
        ("dog\r\ngrass\rsky\u2028sea", (("dog",), ("grass",), ("sky",), ("sea",))),
        ("  hot \t  dog  ", (("hot dog",),)),
        ("Hund; 猫; कुत्ता; 🐕\u200d🦺", (("Hund",), ("猫",), ("कुत्ता",), ("🐕\u200d🦺",))),
        ("cafe\u0301", (("caf\u00e9",),)),  # composed
        ("do\x00g\x1b; \ufeffcat\u202e", (("dog",), ("cat",))),  # controls and direction overrides go
        ("@voc20; {}; %s", (("@voc20",), ("{}",), ("%s",))),  # text, never a path
        ("16:9 screen; 2 cars; 3 people", (("16:9 screen",), ("2 cars",), ("3 people",))),
        (
            "St. Bernard; U.S. flag; C++; C#; 50%",
            (("St. Bernard",), ("U.S. flag",), ("C++",), ("C#",), ("50%",)),
        ),
        ("T-shirt; x-ray; merry-go-round; F-16", (("T-shirt",), ("x-ray",), ("merry-go-round",), ("F-16",))),
        ("MacBook; PlayStation; dog's bowl", (("MacBook",), ("PlayStation",), ("dog's bowl",))),
    ],
)
def test_typed_text_becomes_classes(text, classes):
    vocabulary = parse_vocabulary(text)
    assert vocabulary.classes == vocabulary.asked == classes
    assert vocabulary.notes == ()
    assert vocabulary.ids == ()


@pytest.mark.parametrize(
    ("text", "classes", "notes"),
    [
        ("dog;;cat", (("dog",), ("cat",)), ("1 blank name was left out.",)),
        ("dog; ; \u200b; sky||sea", (("dog",), ("sky", "sea")), ("3 blank names were left out.",)),
        ("dog; Dog", (("dog",),), ("Named more than once, counted once: Dog.",)),
        ("sky; clouds | SKY", (("sky",), ("clouds",)), ("Named more than once, counted once: SKY.",)),
        ("straße; STRASSE", (("straße",),), ("Named more than once, counted once: STRASSE.",)),
        ("caf\u00e9; cafe\u0301", (("caf\u00e9",),), ("Named more than once, counted once: caf\u00e9.",)),
        ("dog;\n\n  \ncat,\n", (("dog",), ("cat",)), ()),  # habits are not worth a note
    ],
)
def test_blank_and_repeated_names_go_with_a_note(text, classes, notes):
    vocabulary = parse_vocabulary(text)
    assert vocabulary.classes == classes
    assert vocabulary.notes == notes


@pytest.mark.parametrize("text", ["", "  \n ", ";;,|", "\u200b", "\x00"])
def test_no_name_at_all_is_refused(text):
    with pytest.raises(VocabularyError, match=r"^Type at least one class name\.$"):
        parse_vocabulary(text)


def test_long_names_and_long_lists_are_refused_with_numbers():
    assert parse_vocabulary("x" * 200).names == ("x" * 200,)
    with pytest.raises(VocabularyError, match=r"up to 200 characters.*has 201"):
        parse_vocabulary("x" * 201)
    full = ";".join(f"name {i}" for i in range(MAX_NAMES))
    assert len(parse_vocabulary(full).classes) == 2000
    with pytest.raises(VocabularyError, match="up to 2,000 names; this one has 2,001"):
        parse_vocabulary(full + "; one more")


def test_the_default_background_is_short_and_starts_with_the_word():
    names = default_background()
    assert names[0] == "background"
    assert len(names) == len(set(names)) <= 50
    assert {"sky", "wall", "tree", "fence", "ground", "water"} <= set(names)


@pytest.mark.parametrize(
    ("typed", "gone"),
    [
        ("dog", set()),
        ("Sky", {"sky", "cloud"}),
        ("dog; sky | clouds", {"sky", "cloud"}),  # plural typed
        ("plant; flower", {"plants", "flowers"}),  # singular typed
        ("bushes", {"bush"}),
        ("background", {"background"}),
    ],
)
def test_what_is_typed_leaves_the_default_background(typed, gone):
    other = parse_vocabulary(typed).other
    assert set(default_background()) - set(other) == gone


KIN = Path(__file__).parents[1] / "assets" / "vocabularies" / "everything_else_kin.txt"


def test_hidden_names_for_the_same_places_go_with_what_is_typed():
    """Who asks for the sea does not lose it to a hidden "water"; a list of one's own stays as written."""
    other = parse_vocabulary("cow; sea; wooden desk").other
    assert {"sea", "water", "river", "desk", "table"}.isdisjoint(other)
    assert {"sky", "grass", "sand"} <= set(other)
    assert "sidewalk" not in parse_vocabulary("paths").other
    assert parse_vocabulary("cow; sea", "water; sky").other == ("water", "sky")


def test_every_kin_is_a_hidden_name():
    lines = [line for line in KIN.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    hidden = {name.strip() for line in lines for name in line.split(":")[1].split(",")}
    assert hidden <= set(default_background())


@pytest.mark.parametrize(
    ("background", "other"),
    [
        ("none", ()),
        ("None ", ()),
        ("", ()),
        (None, ()),
        ("wall; floor | rug, sea\nwall", ("wall", "floor", "rug", "sea")),
        ("dog; wall", ("wall",)),
    ],
)
def test_the_background_can_be_chosen(background, other):
    assert parse_vocabulary("dog", background).other == other


def test_hidden_names_of_classes_that_were_never_typed():
    assert background_names([("a; b", "wall-other"), ("sky|x",)], "wall; sky; floor") == ("sky", "floor")
    assert background_names([("dog",)]) == default_background()
    assert background_names([("dog",)], None) == ()


def things(text, stuff="default"):
    vocabulary = parse_vocabulary(text)
    return [vocabulary.names[label - 1] for label in sorted(thing_labels(vocabulary, stuff))]


@pytest.mark.parametrize(
    ("typed", "told_apart"),
    [
        ("dog; grass; person", ["dog", "person"]),
        ("Blue Sky; trees; bushes; wall clock", ["wall clock"]),  # last word, plural
        ("house | building; roadster", ["roadster"]),  # a synonym, and a word that only begins like one
        ("犬; {}", ["犬", "{}"]),
    ],
)
def test_materials_are_not_counted(typed, told_apart):
    assert things(typed) == told_apart


@pytest.mark.parametrize(
    ("stuff", "told_apart"),
    [
        ("none", ["dog", "sky", "clouds"]),
        ("  ", ["dog", "sky", "clouds"]),
        ("Dogs; cloud", ["sky"]),
        ("sea\nsky,", ["dog", "clouds"]),
    ],
)
def test_materials_can_be_chosen(stuff, told_apart):
    assert things("dog; sky; clouds", stuff) == told_apart


def test_default_materials_agree_with_the_benchmarks():
    assert len(set(default_stuff())) == len(default_stuff())
    assert len(thing_labels(read_vocabulary("@cocoobject80"))) == 80
    city = read_vocabulary("@cityscapes19")
    stuff = {name for label, name in enumerate(city.names, start=1) if label not in thing_labels(city)}
    assert stuff == {"road", "sidewalk", "building", "wall", "fence", "vegetation", "terrain", "sky"}


@pytest.mark.parametrize(
    ("name", "classes", "names", "background"),
    [
        ("voc20", 20, 79, False),
        ("voc21", 20, 79, True),
        ("context59", 59, 160, False),
        ("context60", 59, 160, True),
        ("context459", 459, 559, False),
        ("ade150", 150, 402, False),  # 403 in the source, "kitchen range" twice
        ("ade847", 847, 1341, False),  # the same name twice
        ("cocostuff171", 171, 328, False),
        ("cocopanoptic133", 133, 254, False),
        ("cocoobject80", 80, 175, False),
        ("cocoobject81", 80, 175, True),
        ("cityscapes19", 19, 60, False),
    ],
)
def test_benchmark_lists_have_their_published_counts(name, classes, names, background):
    vocabulary = read_vocabulary(f"@{name.upper()}")
    assert len(vocabulary.classes) == classes
    assert sum(map(len, vocabulary.classes)) == names
    assert bool(vocabulary.other) == background
    assert not set(vocabulary.other) & set(vocabulary.rows[: len(vocabulary.rows) - len(vocabulary.other)])
    assert "invalid_class_id" not in vocabulary.rows


def test_every_benchmark_is_tested_and_there():
    assert len(BENCHMARKS) == 12
    assert all(path.is_file() for path in BENCHMARKS.values())


def test_benchmark_classes_keep_their_order():
    assert read_vocabulary("@cityscapes19").names[:2] == ("road", "sidewalk")  # id 0 is a class here
    assert read_vocabulary("@voc21").names[0] == "aeroplane"
    assert read_vocabulary("@voc21").other[:3] == ("background", "sky", "wall")
    assert read_vocabulary("@ade150").names[149] == "flag"
    assert read_vocabulary("@voc20", "wall").other == ("wall",)
    assert read_vocabulary("@voc21", "none").other == ()


def test_a_file_holds_one_class_per_line(tmp_path):
    path = tmp_path / "words.txt"
    path.write_text("\ufeffdog | puppy\r\n\r\ntree, trees\nhot dog\n", encoding="utf-8")
    vocabulary = read_vocabulary(f" @{path}")
    assert vocabulary.classes == (("dog", "puppy"), ("tree", "trees"), ("hot dog",))
    assert "tree" not in vocabulary.other
    assert "sky" in vocabulary.other


def test_numbered_files_are_read_in_order_of_their_ids(tmp_path):
    path = tmp_path / "list.txt"
    path.write_text(
        "0:invalid_class_id\n7:cat, cats\n2:dog,dog,\n3:invalid_class_id\n10:cats, lion\n", encoding="utf-8"
    )
    vocabulary = read_vocabulary(f"@{path}", "none")
    assert vocabulary.classes == (("dog",), ("cat", "cats"), ("cats", "lion"))
    path.write_text("0:background,wall\n1:dog\n", encoding="utf-8")
    assert read_vocabulary(f"@{path}").other == ("background", "wall")
    path.write_text("1:dog\n", encoding="utf-8")
    assert "wall" in read_vocabulary(f"@{path}").other  # one class alone works
    path.write_text("1:dog\n1:cat\n", encoding="utf-8")
    with pytest.raises(VocabularyError, match="id 1 more than once"):
        read_vocabulary(f"@{path}")


def test_files_that_are_no_class_list_are_refused(tmp_path):
    with pytest.raises(VocabularyError, match=r"built-in lists: voc20, voc21"):
        read_vocabulary("@nowhere.txt")
    with pytest.raises(VocabularyError, match="is not a file"):
        read_vocabulary(f"@{tmp_path}")
    (tmp_path / "photo.txt").write_bytes(b"\xff\xd8\xff\xe0")
    with pytest.raises(VocabularyError, match="not UTF-8 text"):
        read_vocabulary(f"@{tmp_path / 'photo.txt'}")
    (tmp_path / "empty.txt").write_text("\n \n", encoding="utf-8")
    with pytest.raises(VocabularyError, match="at least one class name"):
        read_vocabulary(f"@{tmp_path / 'empty.txt'}")
    with (tmp_path / "big.txt").open("wb") as file:
        file.truncate(5_000_000)
    with pytest.raises(VocabularyError, match="larger than 4 MB"):
        read_vocabulary(f"@{tmp_path / 'big.txt'}")
    with pytest.raises(VocabularyError, match="is not a file"):
        read_vocabulary("@")


def test_text_without_the_sign_is_typed_text():
    assert read_vocabulary("voc20; dog").names == ("voc20", "dog")


@pytest.mark.parametrize(
    ("name", "count", "first", "last"),
    [
        ("imagenet80", 80, "a bad photo of a {}.", "a tattoo of the {}."),
        ("maskclip85", 85, "a bad photo of a {}.", "this is one {} in the scene."),
        ("vild14", 14, "a photo of a {}.", "There is a large {} in the scene."),
        ("short7", 7, "itap of a {}.", "a photo of the small {}."),
        ("single1", 1, "a photo of a {}.", "a photo of a {}."),
    ],
)
def test_templates_are_texts_with_one_place_for_the_name(name, count, first, last):
    templates = TEMPLATES[name]
    assert len(templates) == len(set(templates)) == count
    assert (templates[0], templates[-1]) == (first, last)
    assert all(
        template.count("{}") == 1 and template.format("{x}").count("{x}") == 1 for template in templates
    )
