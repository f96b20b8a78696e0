"""How well words are found: counts of several sets added up, and the command on toy photos."""

import pytest
from recipe_toys import make_msrc

from ovs_core.encoders.found_words import FoundWord, read_found_words
from ovs_core.evaluation.records import PhotoRecord
from ovs_core.labelled.datasets import Dataset
from ovs_core.labelled.mask_values import mask_values
from recipes.mini import __main__ as command
from recipes.mini.found_words import found_words


def dataset(*names):
    values = mask_values((value, value) for value in range(len(names) + 1))
    return Dataset("toy", "toy", "", tuple((name,) for name in names), "default", values, ())


def record(key, typed, *cells):
    """A photo: (truth, answer, pixels) of its confusion matrix."""
    return PhotoRecord(key, typed=typed, cells=cells)


def test_pixels_of_all_photos_with_a_word_count_together():
    """Sofa: 30 right of 40 + 10 pixels in one set, 0 of 50 in another; 30 / (50 + 50)."""
    first, second = dataset("sofa", "lamp"), dataset("wall", "sofa")
    photos = [record(str(k), (1,), (1, 1, 15), (1, 0, 5), (0, 1, 5)) for k in range(2)]
    rare = [record("lamp", (2,), (2, 2, 9))]
    counted = [(first, [*photos, *rare]), (second, [record("a", (2,), (2, 1, 50))])]
    assert found_words(counted) == [FoundWord("sofa", 0.3, 3, ())]  # one photo of a lamp tells nothing


def test_names_of_the_lists_stand_beside_a_word_unless_they_are_words_themselves():
    photos = [record(str(number), (1, 2), (1, 1, 9), (2, 2, 9)) for number in range(3)]
    counted = [(dataset("night stand", "cat"), photos)]
    others = {found.word: found.others for found in found_words(counted)}
    assert others["night stand"] == ("nightstand", "bedside table")
    assert others["cat"] == ("kitten",)


def test_the_command_writes_the_table(tmp_path, engine, monkeypatch, capsys):
    monkeypatch.setattr(command, "engine_of", lambda weights: engine)
    monkeypatch.setattr(command, "sha256_of", lambda path: "ab" * 32)
    monkeypatch.setattr("recipes.mini.found_words.FEWEST_PHOTOS", 1)
    root, out = make_msrc(tmp_path / "msrc"), tmp_path / "out"
    for _ in range(2):  # the second time nothing is asked anew
        assert command.main(["found", f"--data=msrc={root}", "--out", str(out)]) == 0
        assert capsys.readouterr().out == f"{out / 'found_words.tsv'}\n"
    table = read_found_words(out / "found_words.tsv", "ab" * 32)
    assert {found.word for found in table.values()} == {"grass", "sky"}
    assert table["lawn"].photos == 1
    assert len((out / "msrc.jsonl").read_text().splitlines()) == 2  # what was asked, and one photo


@pytest.mark.parametrize("data", [(), ("--data=ade=.",)])
def test_bad_data_is_one_line(tmp_path, capsys, data):
    assert command.main(["found", *data, "--out", str(tmp_path)]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
