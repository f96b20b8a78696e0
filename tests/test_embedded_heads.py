"""Heads of the embedded tower through the engine: MVP-SEG, FC-CLIP and MAFT+ beside what needs no head."""

import shutil
from dataclasses import replace
from hashlib import sha256

import numpy as np
import pytest
import torch
from head_toys import (
    HEAD_FILES,
    HEADS,
    PRESET,
    TOKEN_HEADS,
    WORDS,
    declared,
    toy_model,
    toy_spec,
    write_toy_heads,
)
from instance_toys import SHA, toy_tower
from official_files import entry, write_catalogue
from PIL import Image
from towers import random_photo

from ovs_core.checkpoints import WeightStore
from ovs_core.engine import Request, Result
from ovs_core.engine.menus import why_not
from ovs_core.evaluation.run import Settings, engine_subject, evaluate
from ovs_core.evidence.proposals import MaskProposals
from ovs_core.evidence.score_map import ScoreMap
from ovs_core.labelled.datasets import open_dataset
from ovs_core.methods import METHODS
from ovs_core.types import Vocabulary

MASK_METHODS = {"fc_clip", "maft_plus", "gkc", "two_stage"}
HEADLESS = [name for name, spec in METHODS.items() if spec.head is None]


def reason(method, encoder, store):
    return why_not(method, encoder, store, METHODS, {"mini": encoder})


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("heads")
    write_catalogue(folder, *(entry(name, f"mini/{name}.safetensors", page="") for name in HEAD_FILES))
    (folder / "mini").mkdir()
    write_toy_heads(folder / "mini")
    return folder


@pytest.fixture
def make_head_engine(make_engine, files):
    def make(spec=None, folder=files):
        engine = make_engine(encoders={"mini": spec or toy_spec()})
        engine.store = WeightStore(root=folder)
        return engine

    return make


@pytest.fixture
def engine(make_head_engine):
    return make_head_engine()


def ask(engine, method, **more):
    photo = more.pop("photo", None) or random_photo(48, 80)
    options = {**declared(method, more.pop("preset", PRESET)), **more.pop("options", {})}
    *_, result = engine.run(
        Request(photo, more.pop("vocabulary", WORDS), method=method, options=options, **more)
    )
    assert isinstance(result, Result)
    return result


def test_the_toy_tower_is_the_one_heads_are_made_for():
    assert torch.equal(toy_tower().visual.proj, toy_model().visual.proj)


def test_all_methods_are_compared_on_one_photo(engine):
    events = list(engine.compare(random_photo(48, 80), WORDS))
    results = {event.method: event for event in events if isinstance(event, Result)}
    assert list(results) == list(METHODS)
    assert all(result.labels.shape == (48, 80) for result in results.values())
    kinds = {name: type(result.evidence) for name, result in results.items()}
    assert {name for name, kind in kinds.items() if kind is MaskProposals} == MASK_METHODS
    # Tokens once for many methods, others with prompts for ZegCLIP and LDVC, what MVP-SEG+'s network sees; a
    # pyramid of the tower for FC-CLIP and GKC, with the photo for two stages, and one of MAFT+'s tuned tower.
    assert engine.cache.stats("features").misses == 7
    plans = {name: result.preset for name, result in results.items()}
    assert plans["mvp_seg"] == replace(plans["naclip"], scale=0.4)
    assert plans["fc_clip"] == plans["maft_plus"] == engine.preset("fc_clip")


def test_with_a_refiner_only_rows_of_evidence_are_compared(engine):
    events = list(engine.compare(random_photo(48, 80), WORDS, refiner="pamr", options=PRESET.options))
    assert [event.method for event in events if isinstance(event, Result)] == [
        name for name in METHODS if name not in MASK_METHODS
    ]


def test_weights_name_tower_and_head(engine, files):
    for method, head in HEADS.items():
        path = files / "mini" / f"{head}.safetensors"
        expected = {"toy.safetensors": SHA, path.name: sha256(path.read_bytes()).hexdigest()}
        assert ask(engine, method).weights == expected
    assert ask(engine, "naclip").weights == {"toy.safetensors": SHA}


@pytest.mark.parametrize("method", HEADS)
def test_no_hidden_state(make_head_engine, method):
    engine = make_head_engine()
    first = ask(engine, method)
    for other in HEADS:
        ask(engine, other, photo=random_photo(70, 33, seed=2), vocabulary=Vocabulary((("cat", "dog"),)))
    again, fresh = ask(engine, method), ask(make_head_engine(), method)
    for other in (again, fresh):
        assert np.array_equal(first.labels, other.labels)
        one, two = first.evidence, other.evidence
        if isinstance(one, ScoreMap):
            assert torch.equal(one.rows, two.rows)
        else:
            assert torch.equal(one.scores, two.scores)
            assert torch.equal(one.masks, two.masks)


def test_switch_of_mvp_seg(engine):
    plain, switched = ask(engine, "mvp_seg"), ask(engine, "mvp_seg", options={"no_refining": True})
    assert not torch.equal(plain.evidence.rows, switched.evidence.rows)
    assert switched.switches == ("no_refining",)


def test_views_of_mvp_seg(engine):
    kinds = METHODS["mvp_seg"].view_kinds
    result = ask(engine, "mvp_seg", views=kinds)
    assert {view.kind for view in result.views} == kinds


def test_views_of_mvp_seg_plus(engine):
    """The teacher beside the student is MVP-SEG itself, without and with a look at the photo for the view."""
    kinds = METHODS["mvp_seg_plus"].view_kinds
    plain, seen = ask(engine, "mvp_seg_plus"), ask(engine, "mvp_seg_plus", views=kinds)
    assert torch.equal(plain.evidence.rows, seen.evidence.rows)
    views = {view.kind: view for view in seen.views}
    assert set(views) == kinds
    student, teacher = views["student_teacher"].maps
    label = torch.tensor((1, 1, 2, 0))  # of each name
    taught = ask(engine, "mvp_seg").evidence.rows
    assert torch.equal(student, label[seen.evidence.rows.argmax(dim=0)].float())
    assert torch.equal(teacher, label[taught.argmax(dim=0)].float())


def test_views_of_tuning(engine):
    """Features before tuning are those of the tower that FC-CLIP looks at."""
    kinds = METHODS["maft_plus"].view_kinds
    tuned = ask(engine, "maft_plus", views=kinds).views
    views = {view.kind: view for view in tuned}
    assert set(views) == kinds
    assert views["frozen_and_tuned"].labels == ("dog, before", "dog, after", "cat, before", "cat, after")
    torch.testing.assert_close(views["frozen_and_tuned"].maps[1::2], views["similarity"].maps)
    ask(engine, "fc_clip")
    encoder = engine.encoder_specs["mini"]
    tower, frozen = engine.loaded.bound(METHODS["fc_clip"], encoder, engine.store, None)
    _, ready = engine.loaded.bound(METHODS["maft_plus"], encoder, engine.store, None)
    photo = random_photo(48, 80).pixels
    before, after = (one.image.encode(photo, PRESET) for one in (frozen, ready))
    assert torch.equal(before.maps[2], after.maps[2])
    torch.testing.assert_close(ready.method.frozen(after), before.dense)
    expected = 1 - torch.nn.functional.cosine_similarity(before.dense, after.dense, dim=0)
    torch.testing.assert_close(views["feature_change"].maps[0], expected)
    assert expected.max() > 1e-3
    assert "NOT A PICTURE" not in views["transfer_attention"].title
    assert tower.sha256 == SHA


@pytest.mark.parametrize("method", HEADS)
def test_a_head_trained_again_answers_at_once(make_head_engine, files, tmp_path, method):
    """Photo and words are remembered, what the old head made of them is not taken for the new one's."""
    root = tmp_path / "root"
    shutil.copytree(files, root)
    engine = make_head_engine(folder=root)
    first = ask(engine, method)
    write_toy_heads(root / "mini", again=1)
    second, fresh = ask(engine, method), ask(make_head_engine(folder=root), method)
    assert "method" in second.seconds
    assert second.weights == fresh.weights != first.weights
    one, two, old = (result.evidence for result in (second, fresh, first))
    field = "rows" if method in TOKEN_HEADS else "masks"
    assert torch.equal(getattr(one, field), getattr(two, field))
    assert not torch.equal(getattr(one, field), getattr(old, field))


@pytest.mark.parametrize("method", HEADS)
def test_a_head_of_another_tower_is_refused(make_head_engine, method):
    engine = make_head_engine(toy_spec("b" * 64))
    with pytest.raises(
        ValueError, match=r"was trained on another tower than Toy of the embedded model; restore the two"
    ):
        ask(engine, method)
    assert ask(engine, "naclip").labels.shape == (48, 80)


def test_menus_know_a_head_of_another_tower_without_loading_it(make_head_engine, files, tmp_path):
    lines = [entry(name, f"mini/{name}.safetensors", page="") for name in HEAD_FILES]
    root = write_catalogue(tmp_path / "root", *lines, entry("tower", "tower.safetensors"))
    (root / "mini").mkdir()
    for name in HEAD_FILES:
        file = f"mini/{name}.safetensors"
        (root / file).write_bytes((files / file).read_bytes())
    (root / "tower.safetensors").write_bytes(b"another tower")
    spec = toy_spec(entry="tower")
    engine = make_head_engine(spec, root)
    known = {info.name: info for info in engine.methods()}
    assert [name for name, info in known.items() if info.available] == HEADLESS
    for name in HEADS:
        assert "was trained on another tower than" in known[name].reason
        with pytest.raises(ValueError, match="restore the two that belong together"):
            engine.run(Request(random_photo(8, 8), WORDS, method=name))


@pytest.mark.parametrize("method", HEADS)
def test_an_absent_or_damaged_head_is_one_sentence(make_head_engine, tmp_path, method):
    lines = [entry(name, f"mini/{name}.safetensors", page="") for name in HEAD_FILES]
    root = write_catalogue(tmp_path / "root", *lines, entry("tower", "tower.safetensors"))
    store, spec, file = WeightStore(root=root), toy_spec(entry="tower"), HEADS[method]
    says = reason(METHODS[method], spec, store)
    assert says.startswith(f"Toy {file} is not here. It comes with the repository: restore mini/{file}")
    (root / "mini").mkdir()
    (root / "tower.safetensors").write_bytes(b"tower")
    (root / "mini" / f"{file}.safetensors").write_bytes(b"no weights at all")
    assert "carries no notes: it is not a safetensors file" in reason(METHODS[method], spec, store)
    with pytest.raises(ValueError, match=r"is not a weight file|carries no notes"):
        ask(make_head_engine(folder=root), method)


def test_evaluation_measures_them_side_by_side(engine, tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "masks").mkdir()
    (tmp_path / "classes.txt").write_text("0 background\n1 cat\n2 dog\n", encoding="utf-8")
    Image.fromarray(random_photo(48, 80).pixels).save(tmp_path / "images" / "1.png")
    truth = np.ones((48, 80), np.uint8)
    truth[:, 40:] = 2
    Image.fromarray(truth).save(tmp_path / "masks" / "1.png")
    dataset, settings = open_dataset("folder", tmp_path), Settings(options={"short_side": 64})
    subjects = [engine_subject(engine, method, dataset, settings) for method in ("naclip", *HEADS)]
    records = {step.subject: step.record for step in evaluate(subjects, dataset, settings)}
    assert list(records) == ["naclip", *HEADS]
    assert not any(record.problem for record in records.values())
    assert all(sum(count for _, _, count in record.cells) == 48 * 80 for record in records.values())
    assert records["mvp_seg"].seconds["encode"] == records["naclip"].seconds["encode"]
    assert len({records[name].seconds["encode"] for name in ("naclip", "fc_clip", "maft_plus")}) == 3
    tuned = subjects[list(records).index("maft_plus")]
    assert set(tuned.about["weights"]) == {"toy.safetensors", "maft_plus.safetensors"}


def test_half_precision_on_a_pyramid(make_head_engine):
    """The head works in float32 on whatever the tower gives."""
    engine = make_head_engine()
    engine.compute = replace(engine.compute, dtype=torch.bfloat16)
    engine.loaded._compute = engine.compute
    for method in ("fc_clip", "maft_plus"):
        found = ask(engine, method).evidence
        assert found.masks.dtype == found.scores.dtype == torch.float32
        assert torch.isfinite(found.masks).all()


def test_heads_that_are_here_are_offered(files):
    store = WeightStore(root=files)
    assert all(reason(METHODS[name], toy_spec(), store) == "" for name in HEADS)
