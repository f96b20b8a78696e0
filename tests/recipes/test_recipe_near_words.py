"""The dictionary of better-known words for rare ones: what WordNet puts into it."""

import pytest
from training_toys import make_wordnet

from ovs_core.encoders.near_words import read_near_words
from recipes.mini.near_words import nearest_drawn, unlabelled_names, write_near_words
from recipes.mini.words import PHYSICAL_ENTITY, Synset, tagged_senses

SYNSETS = {
    PHYSICAL_ENTITY: Synset(("physical entity",), None),
    "1": Synset(("truck", "motortruck"), PHYSICAL_ENTITY),
    "2": Synset(("lorry",), "1"),
    "3": Synset(("tiny lorry",), "2"),
    "4": Synset(("toy of a lorry",), "3"),
    "5": Synset(("idea", "truck"), None),
    "00007846": Synset(("person",), PHYSICAL_ENTITY),
    "6": Synset(("driver", "truck"), "00007846"),
    "7": Synset(("Unimog", "truck"), "1"),
    "8": Synset(("wagon",), PHYSICAL_ENTITY),
}


class TestMaking:
    @staticmethod
    def made(senses, tagged=(), known=()):
        return nearest_drawn(SYNSETS, senses, dict(tagged), {"truck"}, known)

    def test_the_same_or_up_to_two_levels_up(self):
        senses = {"motortruck": ("1",), "lorry": ("2",), "tiny lorry": ("3",), "toy of a lorry": ("4",)}
        assert self.made(senses) == dict.fromkeys(("motortruck", "lorry", "tiny lorry"), ("truck",))

    def test_ideas_people_and_proper_names_are_left_alone(self):
        assert self.made({"idea": ("5",), "driver": ("6",), "unimog": ("7",), "truck": ("1",)}) == {}

    def test_words_the_tower_learnt_need_no_help(self):
        assert self.made({"lorry": ("2",)}, known={"lorry"}) == {}

    def test_hidden_names_that_no_set_labels_get_help_and_stand_in_for_others_all_the_same(self):
        senses = {"truck": ("1",), "lorry": ("2",), "tiny lorry": ("3",)}
        made = nearest_drawn(SYNSETS, senses, {}, {"truck", "lorry"}, (), {"lorry"})
        assert made == {"lorry": ("truck",), "tiny lorry": ("lorry",)}
        unlabelled = unlabelled_names(("dog",), ("sea", "grass", "sky", "metal"))
        assert unlabelled == {"sea"}  # MSRC labels grass, CamVid the sky; metal stands for too much

    def test_of_a_word_that_was_met_only_the_senses_that_were(self):
        senses = {"lorry": ("8", "2")}
        assert self.made(senses) == {"lorry": ("truck",)}
        assert self.made(senses, {"lorry": 1}) == {}
        assert self.made(senses, {"lorry": 2}) == {"lorry": ("truck",)}
        assert self.made({"lorry": ("5", "2")}, {"lorry": 2}) == {}  # mostly an idea

    def test_file_from_wordnet_files(self, tmp_path):
        folder = make_wordnet(tmp_path)
        assert tagged_senses(folder)["dog"] == 1
        write_near_words(tmp_path / "near.tsv", folder, ("couch",), ("hat",), ("sky",))
        assert dict(read_near_words(tmp_path / "near.tsv")) == {"settee": ("couch",)}

    def test_a_broken_line_is_refused(self, tmp_path):
        (tmp_path / "near.tsv").write_text("settee couch\n", encoding="utf-8")
        with pytest.raises(ValueError, match="not enough values"):
            read_near_words(tmp_path / "near.tsv")
