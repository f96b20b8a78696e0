"""`ovs-lens selfcheck`: a line for every method, marked where a device answers otherwise than the CPU."""

from dataclasses import replace

import pytest

from ovs_core.cli import selfcheck
from ovs_core.cli.selfcheck import Check, line
from ovs_core.engine import Engine


def run(capsys, make, *arguments):
    code = selfcheck.main(["--repeats", "1", *arguments], make)
    return code, capsys.readouterr()


def test_a_device_that_answers_alike(capsys, make_engine):
    code, told = run(capsys, make_engine, "--method", "naclip", "--method", "clip", "--device", "cpu")
    lines = told.out.splitlines()
    assert code == 0
    assert lines[0].startswith("OVS Lens ")
    assert lines[3].startswith("| method | pixels as on the CPU |")
    assert [row.split("|")[1].strip() for row in lines[5:]] == ["clip", "naclip"]
    assert all("| 100.00% | 0.0000 |" in row for row in lines[5:])


def test_a_method_that_cannot_be_asked_says_why_and_is_no_failure(capsys, make_engine):
    code, told = run(capsys, make_engine, "--method", "maft_plus", "--device", "cpu")
    assert code == 0
    assert told.out.splitlines()[-1].startswith("| maft_plus | ")
    assert told.out.splitlines()[-1].endswith(" | | | |")


def test_a_device_that_answers_otherwise_is_marked(capsys, make_engine, monkeypatch):
    answered = []

    def segment(engine, *arguments, **options):
        result = honest(engine, *arguments, **options)
        answered.append(result)
        if len(answered) == 1:  # the CPU's
            return result
        labels = (result.labels == 0).astype(result.labels.dtype)
        return replace(result, label_map=replace(result.label_map, labels=labels))

    honest = Engine.segment
    monkeypatch.setattr(Engine, "segment", segment)
    code, told = run(capsys, make_engine, "--method", "naclip", "--device", "cpu")
    assert code == 1
    assert "% (!) |" in told.out.splitlines()[-1]


def test_a_kernel_that_is_missing_is_a_line(capsys, make_engine, monkeypatch):
    def segment(engine, *arguments, **options):
        raise NotImplementedError("no kernel\nfor this device")

    monkeypatch.setattr(Engine, "segment", segment)
    code, told = run(capsys, make_engine, "--method", "naclip", "--device", "cpu")
    assert code == 1
    assert "| naclip | NotImplementedError: no kernel for this device |" in told.out


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--photo", "a.jpg"], "Say what to look for in that photo with --classes."),
        (["--photo", "a.jpg", "--classes", "cat"], 'There is no file "a.jpg".'),
        (["--repeats", "0"], "--repeats must be at least 1, got 0."),
    ],
)
def test_bad_input_is_one_line_and_exit_2(capsys, make_engine, tmp_path, monkeypatch, arguments, sentence):
    monkeypatch.chdir(tmp_path)
    code, told = run(capsys, make_engine, *arguments)
    assert (code, told.err) == (2, sentence + "\n")
    assert told.out == ""


def test_numbers_stand_in_their_columns():
    check = Check("naclip", agreement=0.991, confidence=0.0123, seconds=0.25, megabytes=1234.5)
    assert line(check) == "| naclip | 99.10% | 0.0123 | 0.250 | 1234 |"
    assert line(replace(check, agreement=0.5)) == "| naclip | 50.00% (!) | 0.0123 | 0.250 | 1234 |"
