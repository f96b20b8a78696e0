"""Better-known words beside rare ones: when they are added."""

from pathlib import Path

import pytest
from PIL import Image
from towers import random_photo

from ovs_core.cli import segment
from ovs_core.encoders.near_words import read_near_words, with_near_words
from ovs_core.engine import Engine
from ovs_core.vocabulary import default_background, parse_vocabulary
from recipes.mini.near_words import TOO_WIDE, drawn_names, unlabelled_names

SHIPPED = Path(__file__).resolve().parents[1] / "checkpoints" / "mini" / "near_words.tsv"
TABLE = {"lorry": ("truck",), "temple": ("building",), "lake": ("water",)}


@pytest.fixture(scope="module")
def engine_mini(tmp_path_factory):
    return Engine("cpu", offline=True, text_dir=tmp_path_factory.mktemp("text"))


def asked(text, background="none"):
    return with_near_words(parse_vocabulary(text, background), TABLE)


class TestAsking:
    def test_a_rare_word_is_asked_by_its_near_words_too(self):
        found = asked("cat; lorry")
        assert found.classes == (("cat",), ("lorry", "truck"))
        assert found.names == ("cat", "lorry")
        assert found.notes == (
            'Asked by better-known words too: lorry as truck ("quotation marks" ask for a word alone).',
        )

    @pytest.mark.parametrize("text", ["Lorries", "LORRY", "lorrys"])
    def test_case_and_plural_do_not_matter(self, text):
        assert asked(text).classes == ((text, "truck"),)

    def test_nothing_rare_nothing_changed(self):
        plain = parse_vocabulary("cat; dog")
        assert with_near_words(plain, TABLE) is plain

    @pytest.mark.parametrize("text", ['"lorry"', "\u201clorry\u201d", "lorry | van", 'cat; "lorry"'])
    def test_quotation_marks_and_words_of_ones_own_keep_it_to_the_letter(self, text):
        assert "truck" not in asked(text).rows
        assert "lorry" in asked(text).rows

    @pytest.mark.parametrize("text", ["lorry; truck", "lorry; trucks", "lorry; van | Truck"])
    def test_what_the_user_typed_is_left_to_its_own_class(self, text):
        assert asked(text).classes[0] == ("lorry",)

    def test_what_two_classes_would_share_goes_to_none(self):
        table = {"lorry": ("truck",), "tipper": ("truck",)}
        assert with_near_words(parse_vocabulary("lorry; tipper"), table).classes == (("lorry",), ("tipper",))

    def test_hidden_names_lose_what_was_added(self):
        assert asked("temple", "sky; building; buildings; water").other == ("sky", "water")

    def test_notes_before_are_kept_and_long_lists_end(self):
        words = [f"word{letter}" for letter in "abcdefg"]
        table = {word: (f"near {word}",) for word in words}
        found = with_near_words(parse_vocabulary(";".join(["cat", "cat", *words])), table)
        assert found.notes[0].startswith("Named more than once")
        assert found.notes[1].split(" (")[0].endswith("worde as near worde and 2 more")


class TestShipped:
    def test_the_embedded_model_comes_with_a_dictionary(self):
        table = read_near_words(SHIPPED)
        assert 2000 < len(table) < 4000
        assert table["settee"] == ("bench", "sofa", "couch")
        assert table["skyscraper"] == ("building",)
        helped = unlabelled_names((), default_background())  # "sea" is asked as water, "grass" as itself
        assert drawn_names((), default_background()) & set(table) == {"sea", "river", "rail"}
        assert {"sea", "river", "rail"} <= helped
        assert not any(TOO_WIDE.intersection(near) for near in table.values())

    def test_a_request_uses_it_and_says_so(self, engine_mini):
        photo = random_photo(96, 128)
        result = engine_mini.segment(photo, "lorry; cat")
        assert result.vocabulary.classes == (("lorry", "truck"), ("cat",))
        assert "lorry as truck" in " ".join(result.vocabulary.notes)
        assert engine_mini.segment(photo, '"lorry"; cat').vocabulary.classes == (("lorry",), ("cat",))

    def test_the_command_line_says_it_once(self, engine_mini, tmp_path, capsys):
        for name in ("one.png", "two.png"):
            Image.fromarray(random_photo(64, 64).pixels).save(tmp_path / name)
        arguments = [str(tmp_path), "--classes", "lorry", "--out", str(tmp_path / "out")]
        assert segment.main(arguments, engine_mini) == 0
        assert capsys.readouterr().err.count("lorry as truck") == 1
