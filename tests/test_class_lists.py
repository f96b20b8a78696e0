"""Class lists as people have them: pasted into the field for words, and files of other programs."""

import contextlib
import time

import pytest

from ovs_core.vocabulary import VocabularyError, parse_vocabulary, read_vocabulary

SKY_TREES = (("sky",), ("trees",))


def read(tmp_path, text, name="classes.txt", background="none"):
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return read_vocabulary(f"@{path}", background)


@pytest.mark.parametrize(
    "pasted",
    [
        *(
            "sky\uff0ctrees",
            "sky\uff1btrees",
            "sky\u3001trees",
            "sky\u3002trees\u3002",
            "sky\u060c trees",
            "sky\u061btrees",
        ),
        *(
            "sky. trees.",
            "sky. trees",
            "sky . trees .",
            "sky \u2022 trees",
            "sky\ttrees",
        ),
        *(
            '["sky","trees"]',
            "['sky', 'trees']",
            "[sky, trees]",
            "(sky; trees)",
            '("sky", "trees")',
            "{sky, trees}",
        ),
        *(
            '["sky", "trees",]',
            '["sky"\uff0c"trees"]',
            "[\u201csky\u201d, \u201ctrees\u201d]",
            '[\n  "sky",\n  "trees"\n]',
        ),
        *(
            'classes = ["sky", "trees"]',
            "names: [sky, trees]",
            "CLASSES = ('sky', 'trees')",
            '[["sky"], ["trees"]]',
        ),
        *("- sky\n- trees", "* sky\n* trees", "1. sky\n2. trees", "1) sky\n2) trees", "[ ] sky\n[x] trees"),
        *("Classes: sky; trees", "classes:\nsky\ntrees", "names:\n- sky\n- trees", "# mine\nsky\ntrees"),
        *(
            '[{"name": "sky"}, {"name": "trees"}]',
            '{"sky": [], "trees": []}',
            "name,color\nsky,blue\ntrees,green",
        ),
    ],
)
def test_pasted_lists_are_classes_as_meant(pasted):
    assert parse_vocabulary(pasted, "none").classes == SKY_TREES


@pytest.mark.parametrize(
    ("pasted", "numbers"),
    [
        ("0:sky; 5:trees", (0, 5)),
        ("0:sky 5:trees", (0, 5)),
        ("5: trees\n0: sky", (0, 5)),
        ("sky: 3; trees: 4", (3, 4)),
        ("0 sky; 1 trees", (0, 1)),
        ("1 sky\n2 trees", (1, 2)),
        ("{0: 'sky', 7: 'trees'}", (0, 7)),
        ('{"0": "sky", "7": "trees"}', (0, 7)),
        ('{"sky": 0, "trees": 1}', (0, 1)),
        ("names:\n  0: sky\n  7: trees", (0, 7)),
        ("id,name\n8,sky\n9,trees", (8, 9)),
        ('[{"id": 4, "name": "sky"}, {"id": 9, "name": "trees"}]', (4, 9)),
        ("255:void; 1:sky; 2:trees; 0:background", (1, 2)),
    ],
)
def test_pasted_numbers_are_kept_apart_from_names(pasted, numbers):
    vocabulary = parse_vocabulary(pasted, "none")
    assert vocabulary.classes == SKY_TREES
    assert vocabulary.ids == vocabulary.numbers == numbers


def test_without_numbers_classes_count_from_one():
    vocabulary = parse_vocabulary("sky; trees")
    assert vocabulary.ids == ()
    assert vocabulary.numbers == (1, 2)


@pytest.mark.parametrize(
    ("text", "classes", "literal"),
    [
        ('"cup, paper"; dog', (("cup, paper",), ("dog",)), {"cup, paper"}),
        ('"cup; paper | mug", dog', (("cup; paper | mug",), ("dog",)), {"cup; paper | mug"}),
        ('dog | "cup, paper" | mug', (("dog", "cup, paper", "mug"),), {"cup, paper"}),
        ("\u201ccup, paper\u201d, dog", (("cup, paper",), ("dog",)), {"cup, paper"}),
        ("\u00abcup, paper\u00bb; dog", (("cup, paper",), ("dog",)), {"cup, paper"}),
        ("\u300ccup\u3001paper\u300d\u3001dog", (("cup\u3001paper",), ("dog",)), {"cup\u3001paper"}),
        ('"say ""cheese"", please"', (('say "cheese", please',),), {'say "cheese", please'}),
        ('"cat. dog."; "1:a"', (("cat. dog.",), ("1:a",)), {"cat. dog.", "1:a"}),
        ('5" nail; 3" pipe', (('5" nail',), ('3" pipe',)), set()),
        ('"lorry, cat', (('"lorry',), ("cat",)), set()),  # nothing closes it
        ('["cup, paper", "dog"]', (("cup, paper",), ("dog",)), set()),
    ],
)
def test_quotation_marks_hold_a_name_together(text, classes, literal):
    vocabulary = parse_vocabulary(text, "none")
    assert vocabulary.classes == classes
    assert vocabulary.literal == literal


@pytest.mark.parametrize(
    ("name", "text", "classes", "numbers"),
    [
        ("a.txt", "1 sky\n2 trees", SKY_TREES, (1, 2)),
        ("a.txt", "7 sky\n9 trees", SKY_TREES, (7, 9)),
        ("a.txt", "1\tsky\n2\ttrees", SKY_TREES, (1, 2)),
        ("a.txt", "sky 0\ntrees 1", SKY_TREES, (0, 1)),
        ("a.txt", "# comment\nsky\n// more\ntrees  # green", SKY_TREES, ()),
        ("a.txt", "#comment\nsky\n\ntrees\n", SKY_TREES, ()),
        ("a.txt", "0:background\n255:void\n1:sky\n2:trees", SKY_TREES, (1, 2)),
        ("a.txt", "-1:unlabeled\n1:sky\n2:trees", SKY_TREES, (1, 2)),
        ("a.txt", '"cup, paper" | mug\ndog', (("cup, paper", "mug"), ("dog",)), ()),
        ("labels.txt", "__ignore__\n_background_\nsky\ntrees", SKY_TREES, ()),
        ("voc.txt", "__background__\nsky\nN/A\ntrees\nvoid", SKY_TREES, ()),
        ("obj.names", "sky\r\ntrees\r\n", SKY_TREES, ()),
        ("a.csv", "id,name\n3,sky\n4,trees", SKY_TREES, (3, 4)),
        ("a.csv", "name;id\nsky;3\ntrees;4", SKY_TREES, (3, 4)),
        ("a.csv", "Class ID,Class Name,Whatever\n3,sky,x\n4,trees,y", SKY_TREES, (3, 4)),
        ("a.csv", 'label,name\n3,"cup, paper"\n4,dog', (("cup, paper",), ("dog",)), (3, 4)),
        ("a.csv", "3,sky\n4,trees", SKY_TREES, (3, 4)),
        ("a.csv", "sky,3\ntrees,4", SKY_TREES, (3, 4)),
        ("a.csv", "name\nsky\ntrees", SKY_TREES, ()),
        ("a.txt", "class_name\nsky\ntrees", SKY_TREES, ()),
        ("class_dict.csv", "name,r,g,b\nsky,1,2,3\ntrees,4,5,6", SKY_TREES, ()),
        ("ade.csv", "Idx,Ratio,Train,Stuff,Name\n1,0.1,9,1,sky\n2,.1,8,1,trees", SKY_TREES, (1, 2)),
        ("ade.csv", "Idx,Name\n1,sky;heaven\n2,trees", (("sky", "heaven"), ("trees",)), (1, 2)),
        ("a.tsv", "id\tname\n3\tsky\n4\ttrees", SKY_TREES, (3, 4)),
        ("label_colors.txt", "64 128 64\tsky\n192 0 128\ttrees", SKY_TREES, ()),
        ("labelmap.txt", "# label:color_rgb:parts:actions\nsky:0,0,0::\ntrees:128,0,0::", SKY_TREES, ()),
        ("a.txt", "0: 128, 64, 128 sky\n1: 1, 2, 3 trees", SKY_TREES, (0, 1)),
        ("a.txt", "sky, #87ceeb\ntrees, #228b22", SKY_TREES, ()),
        ("data.yaml", "path: x\nnc: 2\nnames:\n  0: sky\n  1: trees\n", SKY_TREES, (0, 1)),
        ("data.yaml", "names: ['sky', 'trees']\nnc: 2", SKY_TREES, ()),
        ("data.yml", "train: a\nnames:\n- sky # blue\n- trees\n", SKY_TREES, ()),
        ("data.yaml", "names:\n- 'no'\n- on\n- 3", (("no",), ("on",), ("3",)), ()),
        ("coco.json", '{"categories": [{"id": 2, "name": "sky"}]}', (("sky",),), (2,)),
        ("lvis.json", '[{"id": 2, "name": "sky", "synonyms": ["air"]}]', (("sky", "air"),), (2,)),
        ("config.json", '{"model": "x", "id2label": {"0": "sky", "1": "trees"}}', SKY_TREES, (0, 1)),
        ("meta.json", '{"classes": [{"title": "sky", "shape": "x"}, {"title": "trees"}]}', SKY_TREES, ()),
        ("info.json", '{"default": {"features": {"label": {"names": ["sky", "trees"]}}}}', SKY_TREES, ()),
        ("map.pbtxt", "item {\n id: 3\n name: 'sky'\n}\nitem { id: 4 name: \"trees\" }", SKY_TREES, (3, 4)),
        ("map.pbtxt", 'item { id: 4 name: "/m/1" display_name: "trees" }', (("trees",),), (4,)),
    ],
)  # fmt: skip
def test_files_of_other_programs_are_read(tmp_path, name, text, classes, numbers):
    vocabulary = read(tmp_path, text, name)
    assert vocabulary.classes == classes
    assert vocabulary.ids == numbers


def test_what_was_left_out_is_said(tmp_path):
    notes = read(tmp_path, "# a\n# b\n__ignore__\ncat\ncat-merged\n").notes
    assert notes == (
        "2 comments were left out of the class list.",
        "Left out, for they name nothing to look for: __ignore__.",
        "Named more than once, counted once: cat-merged.",
    )


def test_words_that_a_person_types_are_meant():
    assert parse_vocabulary("void; ignore; background; other").names == (
        "void",
        "ignore",
        "background",
        "other",
    )


def test_the_background_of_a_numbered_list_is_hidden(tmp_path):
    assert read(tmp_path, "0 background\n1 dog", background="default").other == ("background",)
    assert read(tmp_path, "names:\n  0: background\n  1: dog", "a.yaml", "default").other == ("background",)


def test_other_encodings_of_spreadsheets(tmp_path):
    for encoding in ("utf-8-sig", "utf-16", "utf-8"):
        path = tmp_path / "a.csv"
        path.write_bytes("id;name\r\n3;h\u00fctte\r\n4;trees\r\n".encode(encoding))
        assert read_vocabulary(f"@{path}", "none").names == ("h\u00fctte", "trees")


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.json", "{", "no class names in this JSON file"),
        ("a.json", '{"version": "x"}', "no class names in this JSON file"),
        ("a.json", "[1, 2]", "no class names"),
        ("a.yaml", "names: 3", "no class names in this YAML file"),
        ("a.yaml", "a: [", "no class names"),
        ("a.pbtxt", "hello", "no class names in this PBTXT file"),
        ("a.xml", "<annotation/>", "a page or an XML file"),
        ("a.html", "<!DOCTYPE html>", "a page or an XML file"),
        ("a.txt", "# nothing\n", "at least one class name"),
        ("a.txt", "255:void\n", "at least one class name"),
    ],
)
def test_files_without_classes_get_a_sentence(tmp_path, name, text, message):
    with pytest.raises(VocabularyError, match=message) as caught:
        read(tmp_path, text, name)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("classes", "got"),
    [(None, "NoneType"), (3, "int"), (b"dog", "bytes"), (["dog", 3], "int"), ({"dog"}, "set")],
)
def test_other_types_get_one_sentence(classes, got):
    for read_any in (parse_vocabulary, read_vocabulary):
        with pytest.raises(VocabularyError, match=rf"must be text like .* or a list of names; .*{got}\.$"):
            read_any(classes)


def test_a_list_of_names_is_taken_as_it_is():
    vocabulary = parse_vocabulary(["dog", "cup, paper", ["sky", "clouds"], "palm_tree"], "none")
    assert vocabulary.classes == (("dog",), ("cup, paper",), ("sky", "clouds"), ("palm_tree",))
    assert vocabulary.rows[-1] == "palm tree"
    assert read_vocabulary(("@voc20", "dog"), "none").names == ("@voc20", "dog")  # a name, not a list


PIECES = (
    *('"', "[", "{", "(", "1:", "a ", " ", "\t", ". ", "#"),
    *("- ", "|", "item{", "0,0,0 ", "names:\n"),
)


@pytest.mark.parametrize("first", PIECES)
def test_no_text_takes_long(tmp_path, first):
    """A text of two pieces in turn meets every pattern at its worst."""
    started = time.process_time()
    for second in PIECES:
        text = (first + second) * 1000
        with contextlib.suppress(VocabularyError):
            assert parse_vocabulary(text, "none").classes
        with contextlib.suppress(VocabularyError):
            assert read(tmp_path, text).classes
    assert time.process_time() - started < 15


def test_a_small_file_of_many_names_is_refused(tmp_path):
    bomb = "a: &a [" + "x," * 3000 + "]\nnames:\n" + "- *a\n" * 3000
    with pytest.raises(VocabularyError, match="more than 50,000 names"):
        read(tmp_path, bomb, "a.yaml")
    with pytest.raises(VocabularyError, match="4,000,001 characters"):
        parse_vocabulary("x" * 4_000_001)
