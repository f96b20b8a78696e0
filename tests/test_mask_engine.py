"""FC-CLIP and MAFT+ through the engine, on tiny files in the official form: answers, caches, refusals."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from mask_toys import conv_clip, official_state, random_head
from official_files import FORMS, entry, toy_encoder, write_catalogue, write_file
from towers import random_photo, tiny_spec

from ovs_core.checkpoints import CheckpointError, WeightStore, read_state
from ovs_core.encoders.clip_conv import PIXEL_MEAN, PIXEL_STD, ConvEncoder
from ovs_core.encoders.official_clip import load_clip
from ovs_core.encoders.towers import ENCODERS
from ovs_core.engine import Engine, Request, Result
from ovs_core.evidence.decide import decide
from ovs_core.evidence.proposals import MaskProposals
from ovs_core.evidence.segments import instances, panoptic
from ovs_core.methods import METHODS
from ovs_core.methods.mask_classification import official
from ovs_core.methods.mask_classification.frame import propose_masks
from ovs_core.methods.mask_classification.spec import seen_names
from ovs_core.options import Preset
from ovs_core.types import Vocabulary

PRESET = Preset(scale=1, threshold=0.0, short_side=64, window=None, stride=0, templates="single1")
WORDS = Vocabulary((("cat", "kitten"), ("grass",)), ("sky", "wall"))
EACH_METHOD = pytest.mark.parametrize("method", FORMS)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    write_catalogue(folder, *(entry(method, f"{method}.pth") for method in FORMS))
    for method in FORMS:
        write_file(folder, method)
    return folder


@pytest.fixture
def make_mask_engine(make_engine, files):
    def make(folder=files, **settings):
        encoders = {spec.name: spec for spec in (tiny_spec("mini"), *map(toy_encoder, FORMS))}
        engine = make_engine(encoders=encoders, **settings)
        engine.store = WeightStore(root=folder)
        return engine

    return make


@pytest.fixture
def engine(make_mask_engine):
    return make_mask_engine()


def mask_options(preset):
    """Settings of a method that looks once."""
    return {name: preset.options[name] for name in ("scale", "threshold", "short_side", "templates")}


def ask(engine, method, photo=None, vocabulary=WORDS, preset=PRESET, **more):
    photo = random_photo(48, 80) if photo is None else photo
    encoder = more.pop("encoder", f"toy_{method}")
    options = {**mask_options(preset), **more.pop("options", {})}
    *_, result = engine.run(
        Request(photo, vocabulary, method=method, encoder=encoder, options=options, **more)
    )
    assert isinstance(result, Result)
    return result


def same(one, other):
    first, second = one.evidence, other.evidence
    return (
        np.array_equal(one.labels, other.labels)
        and torch.equal(first.masks, second.masks)
        and torch.equal(first.scores, second.scores)
        and torch.equal(first.void, second.void)
    )


@EACH_METHOD
@pytest.mark.parametrize("size", [(48, 80), (80, 48), (1, 1), (7, 90)], ids=str)
def test_labels_have_the_photos_size(engine, method, size):
    result = ask(engine, method, random_photo(*size))
    assert result.labels.shape == size
    assert set(np.unique(result.labels)) <= {0, 1, 2}
    assert [summary.names for summary in result.classes] == [("cat", "kitten"), ("grass",), ("other",)]
    assert sum(summary.area_share for summary in result.classes) == pytest.approx(1)
    assert isinstance(result.evidence, MaskProposals)
    assert (result.method, result.encoder) == (method, f"toy_{method}")


@EACH_METHOD
def test_the_answer_is_that_of_the_file(engine, files, method):
    """The engine's path gives what its parts give one after the other."""
    photo = random_photo(48, 80)
    result = ask(engine, method, photo)
    state = read_state(files / f"{method}.pth")
    model = conv_clip(seed=9)
    load_clip(model, state, source="toy")
    form = official.recognise(state, source="toy")
    named = official.build_method(state, form, model, seen_names(), source="toy")
    encoder = engine.encoder_specs[f"toy_{method}"]
    tower, _ = engine.loaded.bound(METHODS[method], encoder, engine.store, None)
    text = tower.text.embed(WORDS, ("a photo of a {}.",))
    expected = propose_masks(named, tower.pyramid.encode(photo.pixels, PRESET), text)
    assert torch.equal(result.evidence.scores, expected.scores)
    assert np.array_equal(result.labels, decide(expected, PRESET.scale, PRESET.threshold)[0])


def test_official_weights_may_read_tokens_in_the_sound_order(engine):
    """The switch changes words and leaves masks; attention over tokens is a picture then."""
    views = frozenset({"transfer_attention"})
    usual, sound = (
        ask(engine, "maft_plus", views=views, options=options) for options in ({}, {"per_pixel": True})
    )
    assert torch.equal(usual.evidence.masks, sound.evidence.masks)
    assert not torch.allclose(usual.evidence.scores, sound.evidence.scores)
    assert "NOT A PICTURE" in usual.views[0].title
    assert "NOT A PICTURE" not in sound.views[0].title


@EACH_METHOD
def test_no_hidden_state(make_mask_engine, method):
    engine = make_mask_engine()
    first = ask(engine, method)
    ask(engine, method, random_photo(64, 33, seed=4), Vocabulary((("bus",), ("road",), ("tree",))))
    again, fresh = ask(engine, method), ask(make_mask_engine(), method)
    uncached = make_mask_engine(cache_bytes=0)
    ask(uncached, method, random_photo(64, 33, seed=4))
    for other in (again, fresh, ask(uncached, method)):
        assert same(first, other)
        assert first.classes == other.classes
    assert set(again.seconds) == {"decide"}


@EACH_METHOD
def test_shares_of_masks_depend_on_how_names_make_classes(engine, method):
    joined, apart = Vocabulary((("cat", "dog"),)), Vocabulary((("cat",), ("dog",)))
    first, second = ask(engine, method, vocabulary=joined), ask(engine, method, vocabulary=apart)
    assert first.evidence.scores.shape == (7, 1)
    assert second.evidence.scores.shape == (7, 2)
    assert set(second.seconds) == {"method", "decide"}  # photo and words are known


@EACH_METHOD
def test_relabel_equals_a_fresh_run(engine, make_mask_engine, method):
    result = ask(engine, method)
    moved = engine.relabel(result, {"scale": 3, "threshold": 0.6}, size=(24, 40))
    fresh = ask(make_mask_engine(), method, preset=replace(PRESET, scale=3, threshold=0.6))
    fresh = engine.relabel(fresh, size=(24, 40))
    assert same(moved, fresh)
    assert moved.classes == fresh.classes
    assert set(moved.seconds) == {"decide"}
    assert (engine.relabel(result, {"threshold": 1.0}).labels == 0).mean() > (result.labels == 0).mean()


@EACH_METHOD
def test_panoptic_and_instance_answers_come_from_the_result(engine, method):
    found = ask(engine, method).evidence
    found = replace(found, void=torch.zeros_like(found.void))  # random queries are sure of nothing else
    whole = panoptic(found, things={1}, object_threshold=0.0, overlap_threshold=0.0)
    assert whole.numbers.shape == (48, 80)
    assert len(whole.segments) == whole.numbers.max() > 0
    assert {segment.label for segment in whole.segments} <= {0, 1, 2}
    assert all(one.label == 1 for one in instances(found, things={1}))


def test_weights_are_named_once(engine, files):
    result = ask(engine, "fc_clip")
    path = files / "fc_clip.pth"
    assert result.weights == {"fc_clip.pth": engine.store.sha256_of(path)}


def test_what_runs_where_is_said_before_anything_is_loaded(engine):
    known = {info.name: info for info in engine.methods("toy_maft_plus")}
    assert [name for name, info in known.items() if info.available] == ["maft_plus"]
    assert known["maft_plus"].masks
    assert "pamr" not in known["maft_plus"].refiners
    assert {"none", "pamr"} <= set(known["naclip"].refiners)
    says = r"NACLIP does not run on Toy tower of maft_plus \(toy_maft_plus\); choose one of: mini"
    with pytest.raises(ValueError, match=says):
        engine.run(Request(random_photo(8, 8), WORDS, encoder="toy_maft_plus"))
    with pytest.raises(ValueError, match="FC-CLIP does not run on Tiny random towers"):
        engine.segment(random_photo(8, 8), WORDS, method="fc_clip")
    assert engine.cache.nbytes == 0


def test_compare_takes_what_runs_there(engine):
    results = [
        event
        for event in engine.compare(
            random_photo(48, 80), WORDS, encoder="toy_fc_clip", options=mask_options(PRESET)
        )
        if isinstance(event, Result)
    ]
    assert [result.method for result in results] == ["fc_clip"]
    with pytest.raises(ValueError, match="No method on toy_fc_clip goes with refiner 'pamr'"):
        engine.compare(random_photo(8, 8), WORDS, encoder="toy_fc_clip", refiner="pamr")


def test_masks_cannot_be_refined_by_pamr(engine):
    with pytest.raises(ValueError, match="PAMR cannot refine the mask proposals of MAFT\\+"):
        engine.run(Request(random_photo(8, 8), WORDS, "maft_plus", "toy_maft_plus", "pamr"))


def test_masks_are_proposed_in_one_look(engine):
    asked = Request(random_photo(8, 8), WORDS, "fc_clip", "toy_fc_clip", options={"multi_scale": True})
    with pytest.raises(ValueError, match=r"options of FC-CLIP must be among scale, .*; got 'multi_scale'"):
        engine.run(asked)


def test_an_absent_file_says_where_to_get_it(make_mask_engine, tmp_path):
    folder = write_catalogue(tmp_path / "root", *(entry(method, f"{method}.pth") for method in FORMS))
    engine = make_mask_engine(folder)
    says = r"Download fc_clip.pth by hand from https://example.org/toy \(licence MIT\) and put it into"
    with pytest.raises(ValueError, match=says):
        engine.segment(random_photo(8, 8), WORDS, method="fc_clip", encoder="toy_fc_clip")
    info = {info.name: info for info in engine.methods("toy_fc_clip")}["fc_clip"]
    assert not info.available
    assert "Download fc_clip.pth by hand" in info.reason


def test_a_file_of_the_other_method_is_refused(make_mask_engine, tmp_path, files):
    folder = write_catalogue(tmp_path / "root", *(entry(method, f"{method}.pth") for method in FORMS))
    (folder / "fc_clip.pth").write_bytes((files / "maft_plus.pth").read_bytes())
    with pytest.raises(ValueError, match="holds a head of maft_plus, expected one of fc_clip"):
        ask(make_mask_engine(folder), "fc_clip")


def test_an_exchanged_file_is_noticed(make_mask_engine, tmp_path):
    """A head that is trained again while the program runs does not answer with the old one."""
    folder = write_catalogue(tmp_path / "root", entry("maft_plus", "maft_plus.pth"), entry("fc_clip", "x"))
    write_file(folder, "maft_plus", seed=1)
    engine = make_mask_engine(folder)
    first = ask(engine, "maft_plus")
    write_file(folder, "maft_plus", seed=2)
    second, fresh = ask(engine, "maft_plus"), ask(make_mask_engine(folder), "maft_plus")
    assert same(second, fresh)
    assert not torch.equal(first.evidence.scores, second.evidence.scores)
    assert first.weights != second.weights


def test_a_published_checksum_is_believed_only_if_it_fits(make_mask_engine, tmp_path):
    lines = [entry("maft_plus", "maft_plus.pth"), entry("fc_clip", "fc_clip.pth", sha256="0" * 64)]
    folder = write_catalogue(tmp_path / "root", *lines)
    write_file(folder, "fc_clip")
    with pytest.raises(ValueError, match="damaged or another version"):
        ask(make_mask_engine(folder), "fc_clip")


def test_when_memory_runs_out_the_frame_becomes_smaller(engine, make_mask_engine, monkeypatch):
    expected = ask(make_mask_engine(), "fc_clip", preset=replace(PRESET, short_side=200))
    whole = ConvEncoder.encode

    def encode(self, pixels, preset, **more):
        if preset.short_side > 200:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return whole(self, pixels, preset, **more)

    monkeypatch.setattr(ConvEncoder, "encode", encode)
    asked = Request(
        random_photo(48, 80),
        WORDS,
        method="fc_clip",
        encoder="toy_fc_clip",
        options=mask_options(replace(PRESET, short_side=800)),
    )
    *events, result = engine.run(asked)
    notes = [event.note for event in events if event.note]
    assert notes == ["Memory ran out; trying again with a smaller frame."] * 2  # 800, 400, 200
    assert result.preset.short_side == 200
    assert same(result, expected)


class TestRegistry:
    """The registry's own encoders, on files that are not quite what they should be."""

    BASE = (128, 256, 512, 1024)

    def file(self, folder, **changes):
        model = conv_clip(seed=1)
        head = random_head("semantic", queries=3, layers=1, inputs=changes.get("inputs", self.BASE))
        state = official_state(model, head)
        if changes.get("text") is False:
            state = {name: value for name, value in state.items() if "token_embedding" not in name}
        torch.save({"model": state}, folder / "maftp_b.pth")
        return model, WeightStore(folder)

    def test_the_clip_of_a_file_is_loaded(self, tmp_path, monkeypatch):
        model, store = self.file(tmp_path)
        monkeypatch.setattr("ovs_core.encoders.loading.build_open_clip", lambda name: conv_clip(seed=2))
        loaded = ENCODERS["convnext_b_maftp"].load(store)
        assert loaded.weights == {"maftp_b.pth": store.sha256_of(tmp_path / "maftp_b.pth")}
        assert (loaded.mean, loaded.std) == (PIXEL_MEAN, PIXEL_STD)
        wanted = model.state_dict()
        assert all(torch.equal(value, wanted[name]) for name, value in loaded.model.state_dict().items())

    @pytest.mark.parametrize(
        ("changes", "says"),
        [
            ({"inputs": (192, 384, 768, 1536)}, "holds convnext_large_d_320, expected convnext_base_w_320"),
            ({"inputs": (16, 32, 64, 128)}, "holds another tower, expected convnext_base_w_320"),
            ({"text": False}, "has no text tower: words cannot be compared with it"),
        ],
    )
    def test_other_files_are_refused_in_one_sentence(self, tmp_path, changes, says):
        _, store = self.file(tmp_path, **changes)
        with pytest.raises(CheckpointError, match=says):
            ENCODERS["convnext_b_maftp"].load(store)

    def test_without_the_file_one_is_told_where_it_is(self, tmp_path):
        engine = Engine("cpu", weights_dir=tmp_path, offline=True, text_dir=tmp_path)
        info = {info.name: info for info in engine.encoders()}["convnext_l_fcclip"]
        assert not info.available
        assert "Download fcclip_cocopan.pth by hand from https://drive.google.com/file/d/" in info.reason
        assert "--weights-dir" in info.reason
        assert engine.preset("fc_clip", "convnext_l_fcclip") == Preset(1, 0.0, 640, None, 0, "vild14")
        assert METHODS["maft_plus"].presets["convnext"].short_side == 800
        with pytest.raises(ValueError, match="SCLIP does not run on FC-CLIP ConvNeXt-L"):
            engine.preset("sclip", "convnext_l_fcclip")
        with pytest.raises(CheckpointError, match=r"Download it by hand from .* and put it in .* as maftp_l"):
            engine.store.fetch("maftp-l")


def seen_by(engine, method, **more):
    kinds = METHODS[method].view_kinds
    result = ask(engine, method, views=kinds, **more)
    return result, {view.kind: view for view in result.views}


@EACH_METHOD
@pytest.mark.parametrize("size", [(48, 80), (90, 40)], ids=str)
def test_views_are_outputs_and_change_nothing(engine, method, size):
    photo = random_photo(*size)
    plain = ask(engine, method, photo)
    seen, views = seen_by(engine, method, photo=photo)
    assert same(plain, seen)
    # The official form has no tower before tuning at hand.
    assert set(views) == METHODS[method].view_kinds - {"frozen_and_tuned", "feature_change"}
    assert all(torch.isfinite(view.maps).all() for view in views.values())
    # The frame is 64 x 107 (or 107 x 47: the longer side is at most 1333 / 800 of 64), without its padding.
    coarse, fine = ((2, 4), (16, 27)) if size == (48, 80) else ((4, 2), (27, 12))
    assert views["similarity"].maps.shape == (2, *coarse)
    assert views["mask_proposals"].maps.shape == (7, *fine)
    assert views["query_attention"].maps.shape[0] == 2 * 3
    assert views["void_shares"].maps.shape == (7, 1, 1)
    assert views["mask_words"].maps.shape == (7, 1, 2 + 2 * 3)


def test_views_of_masks_say_what_the_masks_say(engine):
    result, views = seen_by(engine, "maft_plus")
    found = result.evidence
    share, best = found.scores.max(dim=1)
    order = share.argsort(descending=True)
    first = int(order[0])
    name = ("cat", "grass", "other")[int(best[first])]
    proposals = views["mask_proposals"]
    assert proposals.labels[0] == f"1: {name} {share[first]:.0%}, no object {found.void[first]:.0%}"
    rows, columns = proposals.maps.shape[1:]
    torch.testing.assert_close(proposals.maps[0], found.masks[first, :rows, :columns].sigmoid())
    torch.testing.assert_close(views["void_shares"].maps[:, 0, 0], found.void[order])
    words = views["mask_words"]
    assert words.words[0][0] == name
    assert words.maps[0, 0, 0] == pytest.approx(share[first].item())
    assert words.columns[:3] == ("class", "winning name", "trained head 1")
    won = views["winning_names"]
    assert won.labels == ("cat: cat", "cat: kitten", "grass: grass")
    assert won.maps[:2].sum().item() == pytest.approx(1)
    assert won.maps[2].item() == pytest.approx(1)
    assert views["text_shift"].labels == ("cat", "kitten", "grass")
    assert "NOT A PICTURE" in views["transfer_attention"].title
    assert views["transfer_attention"].maps.flatten(1).sum(dim=1).tolist() == pytest.approx([1, 1])


def test_with_a_point_its_masks_come_first(engine):
    result, views = seen_by(engine, "fc_clip", point=(0.1, 0.9))
    found = result.evidence
    rows, columns = views["mask_proposals"].maps.shape[1:]
    there = found.masks[:, int(0.1 * rows), int(0.9 * columns)].sigmoid() * found.scores.amax(dim=1)
    torch.testing.assert_close(views["void_shares"].maps[:, 0, 0], found.void[there.argsort(descending=True)])
    with pytest.raises(ValueError, match="point must be"):
        seen_by(engine, "fc_clip", point=(0.1, 1.9))


@EACH_METHOD
def test_attention_of_every_layer_is_told_in_units_of_an_even_look(engine, method):
    """A frame of whole strides has no padding: nothing of the attention is cut off, and its mean is 1."""
    _, views = seen_by(engine, method, photo=random_photo(64, 96))
    maps = views["query_attention"].maps.reshape(2, 3, 4, 6)  # levels of stride 32, 16, 8 on that of 16
    assert maps.mean(dim=(2, 3)).flatten().tolist() == pytest.approx([1] * 6, rel=1e-4)
    assert maps.amax(dim=(2, 3)).min() > 1  # no query looks everywhere alike
    assert views["query_attention"].labels[:4] == (*(f"cat, layer {i}" for i in (1, 2, 3)), "grass, layer 1")


@EACH_METHOD
def test_an_answer_becomes_panoptic_and_instance_files(engine, method, tmp_path):
    result = ask(engine, method)
    written = [path.name for path in result.save(tmp_path, formats=("panoptic", "instances"))]
    start = f"photo.{method}"
    assert {f"{start}.panoptic.png", f"{start}.panoptic.json", f"{start}.instances.json"} < set(written)
    document = json.loads((tmp_path / f"{start}.panoptic.json").read_text(encoding="utf-8"))
    assert [(c["name"], c["isthing"]) for c in document["categories"]] == [("cat", 1), ("grass", 0)]
    assert document["images"][0]["height"] == 48
