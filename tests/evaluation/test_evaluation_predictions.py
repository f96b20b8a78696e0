"""Label maps of other programs beside methods: which file is a photo's, what its values mean."""

import json

import numpy as np
import pytest
from labelled_toys import always, halves, make_folder, save_mask

from ovs_core.evaluation.predictions import prediction_subject
from ovs_core.evaluation.run import Settings, evaluate
from ovs_core.labelled.datasets import open_dataset

LINES = ("0 background", "1 cat|kitten", "2 dog")
HALF = 32 * 24


@pytest.fixture
def dataset(tmp_path):
    """Photo a: cat | dog, photo b: background | dog."""
    return open_dataset(
        "folder", make_folder(tmp_path / "set", {"a": halves(1, 2), "b": halves(0, 2)}, LINES)
    )


@pytest.fixture
def folder(tmp_path):
    """Both as they are labelled, in the dataset's own values."""
    for key, mask in {"a": halves(1, 2), "b": halves(0, 2)}.items():
        save_mask(tmp_path / "theirs" / f"{key}.png", mask)
    return tmp_path / "theirs"


ALL = Settings()


def measured(folder, dataset, name="theirs", settings=ALL):
    subject = prediction_subject(name, folder, dataset)
    return [step.record for step in evaluate([subject], dataset, settings)]


def test_values_are_those_of_the_masks(folder, dataset):
    first, second = measured(folder, dataset)
    assert set(first.cells) == {(1, 1, HALF), (2, 2, HALF)}
    assert set(second.cells) == {(0, 0, HALF), (2, 2, HALF)}
    assert list(first.seconds) == ["read"]


def test_values_may_have_names_of_their_own(folder, dataset):
    # Dogs are 7, cats go by their synonym, cows are no class of the set and become other.
    (folder / "classes.txt").write_text("0 background\n5 Kitten\n7 dog\n9 cow\n", encoding="utf-8")
    save_mask(folder / "a.png", halves(5, 7))
    save_mask(folder / "b.png", halves(9, 7))
    first, second = measured(folder, dataset)
    assert set(first.cells) == {(1, 1, HALF), (2, 2, HALF)}
    assert set(second.cells) == {(0, 0, HALF), (2, 2, HALF)}


def save_ours(folder, key, mask, names, method="naclip"):
    """What `segment` writes of a photo, as far as it is read here."""
    save_mask(folder / f"{key}.{method}.labels.png", mask)
    classes = [{"id": label, "names": [name]} for label, name in enumerate(names, start=1)]
    classes.append({"id": 0, "names": ["other"]})
    (folder / f"{key}.{method}.json").write_text(json.dumps({"classes": classes}), encoding="utf-8")


def test_our_own_label_maps_go_by_the_names_that_were_typed(tmp_path, dataset):
    save_ours(tmp_path / "ours", "a", halves(2, 1), ["dog", "cat"])
    save_ours(tmp_path / "ours", "b", halves(1, 2), ["cow", "dog"])
    first, second = measured(tmp_path / "ours", dataset)
    assert set(first.cells) == {(1, 1, HALF), (2, 2, HALF)}
    assert set(second.cells) == {(0, 0, HALF), (2, 2, HALF)}


def test_of_several_methods_the_name_says_which(tmp_path, dataset):
    for method, mask in (("clip", halves(1, 1)), ("naclip", halves(1, 2))):
        save_ours(tmp_path / "ours", "a", mask, ["cat", "dog"], method)
    by_name = measured(tmp_path / "ours", dataset, "naclip")
    assert set(by_name[0].cells) == {(1, 1, HALF), (2, 2, HALF)}
    with pytest.raises(ValueError, match=r"holds no label map of any photo, like a\.png"):
        prediction_subject("theirs", tmp_path / "ours", dataset)  # two of each: which?


def test_classes_that_were_not_typed_are_other(folder, dataset):
    save_mask(folder / "b.png", halves(1, 2))
    _, second = measured(folder, dataset, settings=Settings(classes_in_image=True))
    assert second.typed == (2,)
    assert set(second.cells) == {(0, 0, HALF), (2, 2, HALF)}


@pytest.mark.parametrize(
    ("spoil", "problem"),
    [
        (lambda path: path.unlink(), "theirs holds no label map of b"),
        (lambda path: path.write_bytes(b""), "b.png cannot be read"),
        (lambda path: save_mask(path, np.zeros((5, 5), np.uint8)), "must be one 8- or 16-bit channel"),
    ],
    ids=["missing", "damaged", "size"],
)
def test_a_map_that_cannot_be_used_is_named_and_the_others_counted(folder, dataset, spoil, problem):
    spoil(folder / "b.png")
    first, second = measured(folder, dataset)
    assert first.cells
    assert problem in second.problem


def test_a_report_that_is_none_is_named(tmp_path, dataset):
    save_ours(tmp_path / "ours", "a", halves(2, 1), ["dog", "cat"])
    (tmp_path / "ours/a.naclip.json").write_text("[]", encoding="utf-8")
    assert measured(tmp_path / "ours", dataset)[0].problem == (
        "a.naclip.json is not the report of a.naclip.labels.png."
    )


def test_a_folder_that_is_not_there(tmp_path, dataset):
    with pytest.raises(ValueError, match="there is no folder"):
        prediction_subject("theirs", tmp_path / "none", dataset)


def test_a_corrected_map_is_measured_again_and_the_others_are_not(folder, dataset, tmp_path):
    files = {"theirs": tmp_path / "run.jsonl"}
    save_mask(folder / "b.png", halves(2, 2))
    subject = prediction_subject("theirs", folder, dataset)
    assert [step.resumed for step in evaluate([subject], dataset, Settings(), files)] == [False, False]
    save_mask(folder / "b.png", halves(0, 2))
    steps = {step.record.photo: step for step in evaluate([subject], dataset, Settings(), files)}
    assert steps["a"].resumed
    assert not steps["b"].resumed
    assert set(steps["b"].record.cells) == {(0, 0, HALF), (2, 2, HALF)}
    assert all(step.resumed for step in evaluate([subject], dataset, Settings(), files))
    (folder / "classes.txt").write_text("1 dog\n2 cat\n", encoding="utf-8")
    with pytest.raises(ValueError, match="another values"):
        list(evaluate([prediction_subject("theirs", folder, dataset)], dataset, Settings(), files))


def test_predictions_and_methods_are_paired(folder, dataset):
    subjects = [prediction_subject("theirs", folder, dataset), always("dog", "dogs")]
    steps = list(evaluate(subjects, dataset, Settings()))
    assert [step.subject for step in steps] == ["theirs", "dogs"] * 2
