"""From photos to numbers: what is asked, counted, kept, continued and summed up."""

import mmap
import os
import shutil
import threading

import numpy as np
import pytest
import torch
from labelled_toys import always, halves, make_folder, save_mask, save_photo
from PIL import Image

from ovs_core.devices import Cancelled
from ovs_core.engine import NotEnoughMemory
from ovs_core.evaluation.memory import peak_bytes, start_peak
from ovs_core.evaluation.records import THRESHOLDS, PhotoRecord, count, read_run
from ovs_core.evaluation.run import (
    Settings,
    engine_subject,
    evaluate,
    function_subject,
    header,
    question_for,
)
from ovs_core.evaluation.summary import differences, summarise
from ovs_core.labelled.datasets import open_dataset, read_example
from ovs_core.metrics.error_types import ERROR_TYPES
from ovs_core.metrics.resampling import Interval

IN_IMAGE = Settings(classes_in_image=True)


@pytest.fixture
def dataset(tmp_path):
    """Three photos of cats, dogs and background: halves cat | dog, background | dog, nothing."""
    masks = {"1": halves(1, 2), "2": halves(0, 2), "3": halves(0, 0)}
    return open_dataset("folder", make_folder(tmp_path / "set", masks))


def records_of(subject, dataset, settings=IN_IMAGE, **files):
    return [step.record for step in evaluate([subject], dataset, settings, **files)]


# What is asked and counted.


def test_one_photo_is_counted_by_hand(dataset):
    first, second, third = records_of(always("cat"), dataset)
    half = 32 * 24
    assert first.typed == (1, 2)
    assert set(first.cells) == {(1, 1, half), (2, 1, half)}
    assert set(second.cells) == {(0, 0, half), (2, 0, half)}
    assert (third.typed, third.cells, third.problem) == ((), (), "")
    assert second.confusion(3).tolist() == [[half, 0, 0], [0, 0, 0], [half, 0, 0]]
    assert first.seconds["answer"] >= 0
    # Band of 1 pixel: all four edges of the answer; of the truth's halves the cut between them too.
    rim = 2 * 48 + 2 * 30
    assert first.counts("edges", 3)[2].tolist() == [0, rim, 0]
    assert first.counts("edges", 3)[1].tolist() == [0, 2 * 24 + 2 * 30, 2 * 24 + 2 * 30]
    # The cats reach half a photo too far: the pixels beside the cut touch right ones, none is left out.
    assert dict(zip(ERROR_TYPES, first.counts("errors", 3)[:, 1], strict=True))["extra_extent"] == half
    assert dict(zip(ERROR_TYPES, first.counts("errors", 3)[:, 2], strict=True))["missed_segment"] == half
    # Perfect names give the one region to cats (a tie, the first class counts); perfect masks both halves.
    assert first.perfect_names == first.perfect_masks == ((1, half, half, 2 * half), (2, 0, half, 0))


def test_all_classes_are_typed_with_the_background(dataset):
    asked = []
    records_of(always("cat", asked=asked), dataset, Settings())
    assert [photo for photo, _ in asked] == ["1", "2", "3"]
    assert {vocabulary.names for _, vocabulary in asked} == {("cat", "dog")}
    assert all("sky" in vocabulary.other for _, vocabulary in asked)


def test_without_background_nothing_hidden_is_typed(tmp_path):
    make_folder(tmp_path, {"1": halves(0, 2)}, ("1 cat", "2 dog"))
    asked = []
    (record,) = records_of(always("dog", asked=asked), open_dataset("folder", tmp_path), Settings())
    assert asked[0][1].other == ()
    assert record.cells == ((2, 2, 32 * 24),)
    assert record.unknown == ((2, 32 * 24),)


def test_distractors_are_absent_classes_the_same_for_everyone(tmp_path):
    lines = ("0 background", *(f"{value} thing {value}" for value in range(1, 9)))
    make_folder(tmp_path, {"1": halves(1, 3), "2": halves(0, 5)}, lines)
    dataset = open_dataset("folder", tmp_path)
    settings = Settings(classes_in_image=True, distractors=3)
    typed = [record.typed for record in records_of(always("thing 1"), dataset, settings)]
    assert [len(one) for one in typed] == [5, 4]
    assert {1, 3} <= set(typed[0])
    assert [record.typed for record in records_of(always("x"), dataset, settings)] == typed
    everything = Settings(classes_in_image=True, distractors=30)
    assert records_of(always("x"), dataset, everything)[1].typed == tuple(range(1, 9))
    other = Settings(classes_in_image=True, distractors=3, seed=1)
    assert [record.typed for record in records_of(always("x"), dataset, other)] != typed


def test_false_area_is_what_absent_classes_win(tmp_path):
    make_folder(tmp_path, {"1": halves(1, 255)})
    dataset = open_dataset("folder", tmp_path)
    records = records_of(always("dog"), dataset, Settings(classes_in_image=True, distractors=1))
    assert summarise(records, dataset).metrics["false_area"].value == 1.0  # void pixels are not counted
    records = records_of(always("cat"), dataset, Settings(classes_in_image=True, distractors=1))
    assert summarise(records, dataset).metrics["false_area"].value == 0.0


def test_absent_classes_are_silent_where_they_win_no_pixel(tmp_path):
    lines = ("0 background", *(f"{value} thing {value}" for value in range(1, 7)))
    make_folder(tmp_path, {"1": halves(1, 2), "2": halves(0, 3)}, lines)
    dataset = open_dataset("folder", tmp_path)
    records = [
        made("1", [(1, 1, 9), (2, 4, 1)], (1, 2, 4, 5), unknown=((5, 7),)),  # 4 wins a pixel: 1 of 2
        made("2", [(0, 0, 5), (3, 3, 5)], (1, 2, 3, 6)),  # 3 of 3
    ]
    assert summarise(records, dataset).metrics["absent_silent"].value == pytest.approx(4 / 5)
    assert [(one.name, one.false_share) for one in summarise(records, dataset).classes][-1] == (
        "thing 4",
        1 / 20,
    )
    alone = [made("1", [(1, 1, 9), (2, 0, 1)], (1, 2))]
    assert "absent_silent" not in summarise(alone, dataset).metrics  # nobody was there to be silent


def test_settings_that_contradict_each_other():
    with pytest.raises(ValueError, match="go with classes_in_image"):
        Settings(distractors=3)
    with pytest.raises(ValueError, match="0 or more"):
        Settings(classes_in_image=True, distractors=-1)


# Broken files, stops and continuations.


def test_a_broken_pair_is_named_and_the_others_are_done(dataset, tmp_path):
    (tmp_path / "set/images/1.jpg").write_bytes(b"no picture")
    Image.fromarray(np.zeros((5, 5), np.uint8)).save(tmp_path / "set/masks/3.png")
    records = records_of(always("dog"), dataset)
    assert [bool(record.problem) for record in records] == [True, False, True]
    assert "1.jpg" in records[0].problem
    assert "3.png" in records[2].problem
    summary = summarise(records, dataset)
    assert summary.counted == 1
    assert set(summary.left_out) == {"1", "3"}


def test_a_photo_that_does_not_fit_into_memory_is_a_broken_one(dataset):
    def function(photo, vocabulary):
        if photo.name == "1":
            raise NotEnoughMemory("This photo does not fit into memory.")
        return np.ones(photo.size, int)

    records = records_of(function_subject("tight", function, {}), dataset)
    assert records[0].problem == "This photo does not fit into memory."
    assert records[1].cells


def test_a_stopped_run_continues_and_ends_with_the_same_records(dataset, tmp_path):
    whole = [record.cells for record in records_of(always("dog"), dataset)]
    files = {"always": tmp_path / "run.jsonl"}
    steps = evaluate([always("dog")], dataset, IN_IMAGE, files)
    next(steps)
    steps.close()
    with files["always"].open("a", encoding="utf-8") as file:
        file.write('{"photo": "2", "cells": [[0, ')  # a line that a stop cut off
    asked = []
    continued = list(evaluate([always("dog", asked=asked)], dataset, IN_IMAGE, files))
    assert [photo for photo, _ in asked] == ["2"]  # of the third one nothing can be asked
    assert [step.resumed for step in continued] == [True, False, False]
    assert [(step.done, step.total) for step in continued] == [(1, 3), (2, 3), (3, 3)]
    assert [step.record.cells for step in continued] == whole
    asked.clear()
    again = list(evaluate([always("dog", asked=asked)], dataset, IN_IMAGE, files))
    assert asked == []
    assert {step.record.photo: step.record.cells for step in again} == dict(zip("123", whole, strict=True))


def test_a_broken_photo_is_tried_again(dataset, tmp_path):
    files = {"always": tmp_path / "run.jsonl"}
    mask = tmp_path / "set/masks/1.png"
    good = mask.read_bytes()
    mask.write_bytes(b"")
    assert records_of(always("dog"), dataset, files=files)[0].problem
    mask.write_bytes(good)
    records = {record.photo: record for record in records_of(always("dog"), dataset, files=files)}
    assert records["1"].cells
    kept = read_run(files["always"], header(always("dog"), dataset, IN_IMAGE))
    assert not kept["1"].problem


@pytest.mark.parametrize("changed", ["images/2.jpg", "masks/2.png"])
def test_files_corrected_under_their_names_are_measured_again(dataset, tmp_path, changed):
    files = {"always": tmp_path / "run.jsonl"}
    records_of(always("dog"), dataset, files=files)
    if changed.startswith("masks"):
        save_mask(tmp_path / "set" / changed, halves(1, 1))
    else:
        save_photo(tmp_path / "set" / changed, (32, 48), seed=99)
    asked = []
    steps = list(evaluate([always("dog", asked=asked)], dataset, IN_IMAGE, files))
    assert [photo for photo, _ in asked] == ["2"]
    assert {step.record.photo: step.resumed for step in steps} == {"1": True, "2": False, "3": True}
    if changed.startswith("masks"):
        assert steps[-1].record.cells == ((1, 0, 32 * 48),)  # all cat now, and dog is not typed any more
    assert all(step.resumed for step in evaluate([always("dog")], dataset, IN_IMAGE, files))


def test_a_mask_that_is_gone_is_not_resumed(dataset, tmp_path):
    files = {"always": tmp_path / "run.jsonl"}
    records_of(always("dog"), dataset, files=files)
    (tmp_path / "set/masks/2.png").unlink()
    records = {record.photo: record for record in records_of(always("dog"), dataset, files=files)}
    assert "2.png cannot be read" in records["2"].problem


def test_other_values_in_the_class_list_are_another_run(dataset, tmp_path):
    files = {"always": tmp_path / "run.jsonl"}
    records_of(always("dog"), dataset, files=files)
    (tmp_path / "set/classes.txt").write_text("0 background\n1 cat\n3 dog\n", encoding="utf-8")
    with pytest.raises(ValueError, match="another mask_values"):
        records_of(always("dog"), open_dataset("folder", tmp_path / "set"), files=files)


def test_a_file_name_in_another_encoding_does_not_end_the_run(tmp_path):
    make_folder(tmp_path / "set", {"1": halves(1, 2)})
    odd = os.fsdecode(b"caf\xe9")
    try:
        for folder, end in (("images", ".jpg"), ("masks", ".png")):
            shutil.copy(tmp_path / f"set/{folder}/1{end}", tmp_path / f"set/{folder}/{odd}{end}")
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    dataset = open_dataset("folder", tmp_path / "set")
    files = {"always": tmp_path / "run.jsonl"}
    records = {record.photo: record for record in records_of(always("dog"), dataset, files=files)}
    assert records[odd].cells == records["1"].cells
    assert all(step.resumed for step in evaluate([always("dog")], dataset, IN_IMAGE, files))
    distracted = Settings(classes_in_image=True, distractors=1)
    assert len(records_of(always("dog"), dataset, distracted)) == 2


def test_a_file_of_an_earlier_version_is_refused_in_one_sentence(dataset, tmp_path):
    path = tmp_path / "run.jsonl"
    path.write_text('{"schema": "ovs-lens/evaluation-run/1"}\n', encoding="utf-8")
    with pytest.raises(ValueError, match="another version of OVS Lens wrote it"):
        records_of(always("dog"), dataset, files={"always": path})


@pytest.mark.parametrize(
    ("subject", "settings", "message"),
    [
        (always("cat"), IN_IMAGE, "another label"),
        (always("dog"), Settings(), "another classes_in_image"),
        (always("dog"), Settings(classes_in_image=True, distractors=1), "another distractors"),
    ],
)
def test_a_run_of_other_settings_is_refused_and_its_file_kept(dataset, tmp_path, subject, settings, message):
    files = {"always": tmp_path / "run.jsonl"}
    records_of(always("dog"), dataset, files=files)
    before = files["always"].read_bytes()
    with pytest.raises(ValueError, match=message) as error:
        records_of(subject, dataset, settings, files=files)
    assert "\n" not in str(error.value)
    assert files["always"].read_bytes() == before


@pytest.mark.parametrize("content", ["photo, iou\n", "{}\n", '["a"]\n', "[[[\n"])
def test_another_file_is_not_overwritten(dataset, tmp_path, content):
    path = tmp_path / "notes.txt"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(ValueError, match="not a file of an earlier run"):
        records_of(always("dog"), dataset, files={"always": path})
    assert path.read_text(encoding="utf-8") == content


def test_a_limit_may_be_raised_later(dataset, tmp_path):
    files = {"always": tmp_path / "run.jsonl"}
    few = open_dataset("folder", tmp_path / "set", limit=1)
    records_of(always("dog"), few, files=files)
    steps = list(evaluate([always("dog")], dataset, IN_IMAGE, files))
    assert [step.resumed for step in steps] == [True, False, False]


def test_cancel_stops_after_the_photo_in_work(dataset, tmp_path):
    cancel = threading.Event()
    files = {"always": tmp_path / "run.jsonl"}
    steps = evaluate([always("dog")], dataset, IN_IMAGE, files, cancel)
    next(steps)
    cancel.set()
    with pytest.raises(Cancelled):
        next(steps)
    assert len(files["always"].read_text(encoding="utf-8").splitlines()) == 2


# With an engine.


def test_an_engine_answers_and_is_described(dataset, engine):
    subject = engine_subject(engine, "naclip", dataset, Settings(options={"short_side": 64, "scale": 15.0}))
    assert subject.about["preset"]["scale"] == 15.0
    assert list(subject.about["weights"]) == ["tiny-0.safetensors"]
    records = records_of(subject, dataset, Settings(options={"short_side": 64, "scale": 15.0}))
    photo, truth = read_example(dataset, dataset.examples[0])
    question = question_for(dataset, dataset.examples[0], truth, Settings())
    options = {"short_side": 64, "scale": 15.0}
    result = engine.segment(photo, question.vocabulary, method="naclip", options=options)
    assert records[0].cells == count("1", question, question.answer(result.labels), 3).cells
    assert {"encode", "method", "decide"} <= set(records[0].seconds)
    assert "load" not in records[0].seconds
    assert records[0].peak_bytes is None or records[0].peak_bytes > 1e6


def test_methods_share_a_photos_encoding_and_both_pay_for_it(dataset, engine):
    settings = Settings(options={"short_side": 64})
    subjects = [engine_subject(engine, method, dataset, settings) for method in ("clip", "naclip")]
    steps = list(evaluate(subjects, dataset, settings))
    assert [step.subject for step in steps[:2]] == ["clip", "naclip"]
    assert steps[0].record.seconds["encode"] == steps[1].record.seconds["encode"] > 0


def test_without_background_there_is_no_threshold(tmp_path, engine):
    make_folder(tmp_path, {"1": halves(1, 2)}, ("1 cat", "2 dog"))
    dataset = open_dataset("folder", tmp_path)
    assert engine_subject(engine, "clip", dataset, Settings()).about["preset"]["threshold"] == 0.0
    own = Settings(options={"threshold": 0.2})
    assert engine_subject(engine, "clip", dataset, own).about["preset"]["threshold"] == 0.2
    (record,) = records_of(engine_subject(engine, "clip", dataset, Settings()), dataset, Settings())
    assert all(answer > 0 for _, answer, _ in record.cells)


def test_a_sweep_is_what_each_threshold_alone_gives(tmp_path, engine):
    lines = ("1 cat", "2 dog")  # no hidden names, so that cats and dogs win pixels
    make_folder(tmp_path, {"1": halves(1, 2), "2": halves(2, 1)}, lines)
    dataset = open_dataset("folder", tmp_path)
    settings = Settings(options={"short_side": 64, "scale": 40.0}, sweep=True)
    records = records_of(engine_subject(engine, "naclip", dataset, settings), dataset, settings)
    summary = summarise(records, dataset)
    assert [threshold for threshold, _ in summary.sweep] == list(THRESHOLDS)
    for threshold, interval in summary.sweep[::4]:
        alone = Settings(options={"short_side": 64, "scale": 40.0, "threshold": threshold})
        subject = engine_subject(engine, "naclip", dataset, alone)
        found = summarise(records_of(subject, dataset, alone), dataset).metrics["miou_truth"]
        assert interval.value == pytest.approx(found.value, abs=2e-3)  # confidence is kept in half precision
        assert interval.low == pytest.approx(found.low, abs=2e-3)
    assert len({interval.value for _, interval in summary.sweep}) > 2


def test_what_has_no_threshold_has_no_sweep(dataset):
    settings = Settings(sweep=True)
    assert summarise(records_of(always("dog"), dataset, settings), dataset).sweep == ()


def test_memory_is_measured():
    start_peak(torch.device("cpu"))
    before = peak_bytes(torch.device("cpu"))
    block = np.frombuffer(mmap.mmap(-1, 40_000_000), np.uint8)  # new pages: malloc may have freed ones left
    block[:] = 1
    after = peak_bytes(torch.device("cpu"))
    assert before is None or after - before > 0.5 * block.nbytes


# Numbers and reports.


def made(photo, cells, typed=(1, 2), **counts):
    seconds = {"encode": 0.5, "method": 0.25}
    return PhotoRecord(photo, "", typed, tuple(cells), seconds=seconds, peak_bytes=10, **counts)


def test_summary_by_hand(dataset):
    records = [
        made("1", [(1, 1, 6), (1, 0, 2), (2, 2, 2)]),
        made("2", [(0, 0, 4), (0, 1, 4), (2, 1, 2)], (2, 1)),
        PhotoRecord("3"),
        PhotoRecord("4", problem="broken"),
    ]
    summary = summarise(records, dataset, unseen=(2,))
    # background 4 of 4 + 4 + 2, cat 6 of 8 + 12 - 6 = 14, dog 2 of 4
    iou = [0.4, 6 / 14, 0.5]
    assert summary.metrics["miou_truth"].value == pytest.approx(np.mean(iou))
    assert summary.metrics["miou_either"].value == pytest.approx(np.mean(iou))
    assert summary.metrics["pixel_accuracy"].value == pytest.approx(12 / 20)
    assert summary.metrics["seen_miou"].value == pytest.approx(np.mean(iou[:2]))
    assert summary.metrics["unseen_miou"].value == pytest.approx(0.5)
    # Photo 2 has no cat, and 6 of all 20 pixels are called one.
    assert summary.metrics["false_area"].value == pytest.approx(6 / 20)
    assert summary.metrics["absent_silent"].value == 0.0
    # Photo 1: cat 6/8 and dog 2/2 match, background is extra. Photo 2: background 4/8 does not, nor does dog.
    # Background: nothing matched; cat: 0.75 / (1 + 1/2); dog: 1 / (1 + 1/2).
    assert summary.metrics["pq"].value == pytest.approx((0 + 0.5 + 1 / 1.5) / 3)
    assert summary.metrics["sq"].value == pytest.approx((0 + 0.75 + 1) / 3)
    assert summary.metrics["rq"].value == pytest.approx((0 + 1 / 1.5 + 1 / 1.5) / 3)
    assert [(one.name, one.photos, one.truth_share, one.answer_share) for one in summary.classes] == [
        ("background", 1, 0.4, 0.3),
        ("cat", 1, 0.4, 0.6),
        ("dog", 2, 0.2, 0.1),
    ]
    assert [one.false_share for one in summary.classes] == [0, 6 / 20, 0]
    assert summary.photo_iou == {"1": pytest.approx((0.75 + 1) / 2), "2": pytest.approx(0.25)}
    assert (summary.counted, summary.nothing_to_ask, summary.left_out) == (2, ("3",), {"4": "broken"})
    assert summary.seconds == {"encode": 0.5, "method": 0.25, "total": 0.75, "total_p90": 0.75}
    assert (summary.peak_bytes, summary.typed) == (10, 2.0)


def test_without_background_unlabelled_pixels_are_wrong_and_no_class(tmp_path):
    make_folder(tmp_path, {"1": halves(1, 2)}, ("1 cat", "2 dog"))
    dataset = open_dataset("folder", tmp_path)
    summary = summarise([made("1", [(1, 1, 6), (1, 0, 2), (2, 2, 8)])], dataset)
    assert summary.metrics["miou_truth"].value == summary.metrics["miou_either"].value == (0.75 + 1) / 2
    assert summary.metrics["pixel_accuracy"].value == 14 / 16
    assert summary.metrics["pq"].value == (0.75 + 1) / 2
    assert [one.name for one in summary.classes] == ["cat", "dog"]


def test_nothing_counted_is_no_summary(dataset):
    with pytest.raises(ValueError, match="No photo could be measured"):
        summarise([PhotoRecord("1", problem="broken")], dataset)


def test_paired_differences_use_photos_that_both_answered(dataset):
    one = [made("1", [(1, 1, 8), (1, 0, 2)]), made("2", [(1, 1, 10)]), made("3", [(1, 0, 10)])]
    other = [made("2", [(1, 1, 9), (1, 0, 1)]), made("1", [(1, 1, 7), (1, 0, 3)])]
    found = differences(one, other, dataset)
    assert found["pixel_accuracy"] == Interval(*(pytest.approx(0.1) for _ in range(3)))
    assert differences(one, [PhotoRecord("1", problem="broken")], dataset) == {}
