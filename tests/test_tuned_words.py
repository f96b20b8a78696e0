"""Word offsets beside a tower: read as written, moved as the formula says, only where there is no head."""

from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest
import torch
from tiny_clip import make_model
from towers import random_photo, tiny_spec

from ovs_core import Engine
from ovs_core.checkpoints import CheckpointError, sha256_of
from ovs_core.encoders.text import TextEncoder
from ovs_core.encoders.tuned_words import TUNED_WORDS, TunedText, read_tuned_words, write_tuned_words
from ovs_core.types import Vocabulary

SHIPPED = Path(__file__).resolve().parents[1] / "checkpoints" / "mini"
TOWER = sha256(b"tiny 0").hexdigest()  # as `tiny_spec` names its weights
WIDTH = 24
TEMPLATES = ("a photo of a {}.",)


@pytest.fixture
def words(tmp_path):
    """ "desk" becomes the first axis of the space, whatever the tower says of it; "wall" moves a little."""
    offsets = torch.zeros(2, WIDTH)
    offsets[0, 0], offsets[1, 3] = 1e4, 0.5
    write_tuned_words(tmp_path / TUNED_WORDS, TOWER, ["desk", "wall"], offsets)
    return read_tuned_words(tmp_path / TUNED_WORDS, TOWER)


@pytest.fixture
def plain():
    return TextEncoder(make_model(0), "tiny", torch.device("cpu"))


def rows(text, *names):
    return text.embed(Vocabulary(tuple((name,) for name in names)), TEMPLATES).embeddings


def test_a_word_is_moved_by_its_offset_and_made_unit_again(words, plain):
    before, after = rows(plain, "desk", "wall"), rows(TunedText(plain, words), "desk", "wall")
    axis = torch.zeros(WIDTH)
    axis[0] = 1
    torch.testing.assert_close(after[0], axis, atol=2e-4, rtol=0)
    moved = before[1].clone()
    moved[3] += 0.5
    torch.testing.assert_close(after[1], moved / moved.norm())


def test_a_plural_and_capitals_are_the_same_word(words, plain):
    first = rows(TunedText(plain, words), "desk")[0]
    for name in ("Desk", "desks", "DESKS"):
        torch.testing.assert_close(rows(TunedText(plain, words), name)[0], first, atol=3e-4, rtol=0)


def test_other_words_stay_bit_equal_in_any_company(words, plain):
    tuned = TunedText(plain, words)
    names = ("red desk", "cat", "floor")
    assert torch.equal(rows(tuned, *names), rows(plain, *names))
    assert torch.equal(rows(tuned, "cat", "desk", "floor")[[0, 2]], rows(plain, "cat", "floor"))


def test_what_was_embedded_is_not_changed_in_its_place(words, plain):
    before = rows(plain, "desk").clone()
    rows(TunedText(plain, words), "desk")
    assert torch.equal(rows(plain, "desk"), before)


def test_offsets_are_part_of_the_identity(words, plain, tmp_path):
    write_tuned_words(tmp_path / "other.safetensors", TOWER, ["desk"], torch.ones(1, WIDTH))
    other = read_tuned_words(tmp_path / "other.safetensors", TOWER)
    assert len({plain.identity, TunedText(plain, words).identity, TunedText(plain, other).identity}) == 3


def test_another_tower_has_no_offsets(words, tmp_path):
    assert read_tuned_words(tmp_path / TUNED_WORDS, "cd" * 32) is None


@pytest.mark.parametrize(
    ("names", "shape"), [(["desk"], (2, WIDTH)), (["desk", "wall", "cat"], (2, WIDTH)), (["desk"], (WIDTH,))]
)
def test_a_file_with_other_counts_is_refused(tmp_path, names, shape):
    path = tmp_path / TUNED_WORDS
    write_tuned_words(path, TOWER, names, torch.zeros(shape))
    with pytest.raises(CheckpointError, match="one for each word"):
        read_tuned_words(path, TOWER)


def test_a_damaged_file_and_one_of_another_kind_are_refused(tmp_path):
    path = tmp_path / TUNED_WORDS
    path.write_bytes(b"PK not weights")
    with pytest.raises(CheckpointError, match=r"tuned_words"):
        read_tuned_words(path, TOWER)
    with pytest.raises(CheckpointError, match="holds no word offsets"):
        read_tuned_words(SHIPPED / "mvp_seg.safetensors", TOWER)


def test_methods_without_a_head_ask_by_them_and_say_so(make_engine, words):
    spec = tiny_spec("plain")
    tuned = replace(spec, name="tuned", load=lambda store: replace(spec.load(store), tuned_words=words))
    engine = make_engine(encoders={"plain": spec, "tuned": tuned})
    photo, asked = random_photo(48, 64), Vocabulary((("desk",), ("cat",)), ("floor",))
    plain, moved = (
        engine.segment(photo, asked, method="naclip", encoder=name, options={"templates": "single1"})
        for name in ("plain", "tuned")
    )
    assert not torch.equal(plain.evidence.rows[0], moved.evidence.rows[0])
    assert torch.equal(plain.evidence.rows[1:], moved.evidence.rows[1:])
    assert moved.weights == {**plain.weights, TUNED_WORDS: words.sha256}


def test_shipped_offsets_are_of_the_shipped_tower():
    found = read_tuned_words(SHIPPED / TUNED_WORDS, sha256_of(SHIPPED / "mini.safetensors"))
    assert found is not None
    for word in ("desk", "night stand", "floor", "grass", "pavement", "lamps"):
        assert found.row(word) is not None, word
    assert found.row("temple") is None


def test_shipped_heads_keep_the_words_they_learnt_with():
    engine = Engine("cpu", offline=True)
    photo, words = random_photo(64, 64), "desk; floor"
    assert TUNED_WORDS in engine.segment(photo, words).weights
    assert TUNED_WORDS not in engine.segment(photo, words, method="mvp_seg").weights
