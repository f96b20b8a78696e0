"""Names in pictures: every script that a font here can write, and honest numbers for the others."""

import shutil
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
from hand_made import make_result
from PIL import ImageFont, features

from ovs_core.render import lettering
from ovs_core.render.legend import legend
from ovs_core.render.lettering import font_file, font_for, picture_name, shorten, wrap

FONTS = Path(mpl.get_data_path()) / "fonts" / "ttf"
ONLY_STIX = "\u1d81"  # d with palatal hook: in STIX, which comes with matplotlib, and not in DejaVu Sans


@pytest.fixture
def bare_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without fonts of its own."""
    monkeypatch.setattr(lettering, "font_folders", tuple)


def test_every_script_has_its_font(tmp_path: Path) -> None:
    assert font_file(frozenset("Собака"), ()).name == "DejaVuSans.ttf"
    assert font_file(frozenset("狗"), ()) is None
    assert font_file(frozenset(ONLY_STIX), (tmp_path,)) is None


def test_a_font_of_the_system_is_found(tmp_path: Path) -> None:
    (tmp_path / "broken.ttf").write_bytes(b"no font")
    shutil.copy(FONTS / "STIXGeneral.ttf", tmp_path / "Any Name.ttf")
    shutil.copy(FONTS / "STIXGeneral.ttf", tmp_path / "LastResort.ttf")
    assert font_file(frozenset(ONLY_STIX + "a"), (tmp_path, tmp_path / "missing")).name == "Any Name.ttf"


def test_joined_scripts_need_a_layout_engine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(features, "check", lambda _: False)
    assert font_file(frozenset("كلب"), (tmp_path / "a",)) is None
    monkeypatch.setattr(features, "check", lambda _: True)
    assert font_file(frozenset("كلب"), (tmp_path / "b",)).name == "DejaVuSans.ttf"


@pytest.mark.usefixtures("bare_machine")
@pytest.mark.parametrize(
    ("name", "drawn"),
    [
        ("dog", "dog"),
        ("a\nb\x00c", "a b c"),
        ("Собака", "Собака"),
        ("狗", "class 7"),
        ("🐕", "class 7"),
        ("🐕 dog", "class 7: dog"),
        ("狗 - ", "class 7"),
        ("\ud800", "?"),
    ],
)
def test_a_name_or_the_number_of_its_class(name: str, drawn: str) -> None:
    assert picture_name(name, 7) == drawn
    assert font_for(drawn, 12) is not None


@pytest.mark.usefixtures("bare_machine")
def test_the_legend_says_once_that_numbers_stand_for_names() -> None:
    labels = np.arange(1, 4)[None]
    plain, one, three = (
        legend(make_result(labels, names=names).classes, 900)
        for names in (("dog", "cat", "cow"), ("狗", "cat", "cow"), ("狗", "猫", "牛"))
    )
    assert one.shape[0] > plain.shape[0]
    assert three.shape == one.shape
    assert (three[plain.shape[0] :] < 200).any()  # letters of the note


def test_lines_are_cut_and_wrapped_to_the_room() -> None:
    font = ImageFont.load_default(16)
    assert shorten("dog", font, 100) == "dog"
    cut = shorten("a very long name", font, 60)
    assert cut.endswith("…")
    assert font.getlength(cut) <= 60
    lines = wrap("one two three four", font, 70)
    assert " ".join(lines) == "one two three four"
    assert len(lines) > 1
    assert all(font.getlength(line) <= 70 for line in lines)
    assert wrap("x" * 99, font, 50)[0].endswith("…")
