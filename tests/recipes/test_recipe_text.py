"""The text recipe: what is taught, one forward with the app's own tower, losses by hand, the exam."""

import json
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from open_clip.model import CLIP
from training_toys import CONFIG, JOINT_WIDTH, fake_sentences, make_tables, make_wordnet

from ovs_core.encoders.mini import build_mini
from ovs_core.encoders.prompts import clip_tokenizer
from ovs_core.encoders.text import TextEncoder
from ovs_core.training.loop import Schedule
from ovs_core.types import Vocabulary
from recipes.mini import text as mini_text
from recipes.mini.text import (
    NEAR_WEIGHT,
    TABLE_SCALE,
    Lesson,
    all_templates,
    encode,
    encode_words,
    examine,
    lesson_losses,
    start_token_table,
    teacher_targets,
    train_text,
)
from recipes.mini.text_space import fit_text_space

NAMES = ("dog", "a very long name of a thing", "zebra")


@pytest.fixture
def model():
    torch.manual_seed(2)
    return build_mini(CONFIG)


@pytest.fixture(scope="module")
def space(tmp_path_factory):
    extra = ("lawn", "sea", "hat", "cup", "beast")
    return fit_text_space(make_tables(tmp_path_factory.mktemp("tables")), extra, JOINT_WIDTH, fake_sentences)


def test_prompts_of_like_length_go_together_without_changing_the_answer(model):
    ids = clip_tokenizer(77)([f"a photo of a {name}." for name in NAMES])
    reference = CLIP(CONFIG["embed_dim"], CONFIG["vision_cfg"], CONFIG["text_cfg"])
    text = {name: value for name, value in model.state_dict().items() if not name.startswith("visual.")}
    reference.load_state_dict(text, strict=False)
    with torch.no_grad():
        whole, parts = encode(model, ids), encode(model, ids, parts=3)
        expected = F.normalize(reference.encode_text(ids), dim=1)
    torch.testing.assert_close(whole, expected)
    torch.testing.assert_close(parts, expected)
    assert encode(model, ids).requires_grad


def test_words_are_embedded_as_the_app_does(model):
    templates = ("{}", "a photo of a {}.")
    ours = encode_words(model, NAMES, templates)
    assert not ours.requires_grad
    vocabulary = Vocabulary(tuple((name,) for name in NAMES))
    app = TextEncoder(model, "toy", torch.device("cpu")).embed(vocabulary, templates)
    torch.testing.assert_close(ours, app.embeddings)


def test_losses_by_hand():
    """Two names, found at 0 and 90 degrees, targets at 0 and 0: cosines 1 and 0."""
    found, targets = torch.eye(2), torch.tensor([[1.0, 0], [1, 0]])
    losses = lesson_losses(found, targets)
    assert losses["cosine"].item() == pytest.approx(2 * (1 - 0.5))
    assert losses["contrastive"].item() == pytest.approx(0.3 * math.log(2))  # both rows tie
    right = lesson_losses(torch.eye(2), torch.eye(2))
    assert right["cosine"].item() == 0
    assert right["contrastive"].item() == pytest.approx(0.3 * math.log(1 + math.exp(-1 / 0.05)), abs=1e-7)


def test_rare_nouns_lean_on_their_neighbours(space, tmp_path, monkeypatch):
    monkeypatch.setattr(mini_text, "HELD_OUT", 1)
    lesson, exam = teacher_targets(space, ("dog", "animal", "dog"), make_wordnet(tmp_path))
    assert lesson.names[:3] == ("dog", "animal", "dogs")
    assert lesson.everyday == 2 + 2 * 5  # two names, a plural and four adjectives each
    assert len(exam.names) == 1
    assert set(exam.names) <= {"couch", "settee"}
    assert not set(exam.names) & set(lesson.names)
    targets = dict(zip(lesson.names, lesson.targets, strict=True))
    own, beast, whole = space.embed(["animal", "beast", "whole"])
    pulled = F.normalize(own + NEAR_WEIGHT * F.normalize((beast + whole) / 2, dim=0), dim=0)
    torch.testing.assert_close(targets["animal"], pulled)
    torch.testing.assert_close(targets["dog"], space.embed(["dog"])[0])  # CLIP's tables know it


def test_every_template_of_the_app_is_learnt_once():
    templates = all_templates()
    assert templates[0] == "{}"
    assert "there is a {} in the scene." in templates
    assert len(templates) == len(set(templates)) > 80


def test_token_table_starts_at_what_each_piece_means(model, space):
    start_token_table(model, space)
    table = model.token_embedding.weight
    dog = clip_tokenizer(77)(["dog"])[0, 1]
    torch.testing.assert_close(table[dog], TABLE_SCALE * space.embed(["dog"])[0])
    torch.testing.assert_close(table.norm(dim=1), torch.full((49408,), TABLE_SCALE))


def test_exam_counts_names_that_are_nearest_to_their_own_target(model):
    found = encode_words(model, NAMES, ("a photo of a {}.",))
    assert examine(model, Lesson(NAMES, found, 0)) == pytest.approx((1.0, 1.0), abs=1e-5)
    cosine, rank = examine(model, Lesson(NAMES, found[[0, 2, 1]], 0))
    assert rank == pytest.approx(1 / 3)
    assert cosine < 1


def test_training_moves_the_text_side_alone_and_learns(model, space, tmp_path, monkeypatch):
    monkeypatch.setattr(mini_text, "HELD_OUT", 1)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    schedule = Schedule(steps=12, warmup=2, log_every=1)
    train_text(model, space, ("dog", "hat", "cup"), make_wordnet(tmp_path), schedule, 16, tmp_path / "run")
    moved = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert {"token_embedding.weight", "positional_embedding", "text_projection"} <= moved
    assert not [name for name in moved if name.startswith(("visual.", "logit_scale"))]
    lines = (tmp_path / "run" / "log.jsonl").read_text().splitlines()
    cosine = [json.loads(line)["cosine"] for line in lines]
    assert np.mean(cosine[-3:]) < np.mean(cosine[:3])
