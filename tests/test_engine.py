"""The engine: what is shared, remembered and stopped, and what it says when something is wrong."""

import socket
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from inspect import signature
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from official_files import entry, write_catalogue
from PIL import Image
from tiny_clip import make_model
from towers import random_photo, tiny_spec

import ovs_core
from ovs_core.checkpoints import CheckpointError, WeightStore, load_catalogue
from ovs_core.devices import Cancelled, Compute, choose_compute, is_out_of_memory
from ovs_core.encoders.clip_vit import VisionEncoder
from ovs_core.encoders.loading import CLIP_MEAN, CLIP_STD, LoadedModel, build_open_clip
from ovs_core.encoders.towers import ENCODERS, build_tower
from ovs_core.engine import Engine, NotEnoughMemory, Progress, Request, Result
from ovs_core.engine.memory import SMALLEST_WINDOW
from ovs_core.engine.request import replaces
from ovs_core.engine.stream import stream
from ovs_core.evidence.decide import decide
from ovs_core.evidence.score_map import ScoreMap
from ovs_core.methods import METHODS
from ovs_core.options import MULTI_SCALE, Preset
from ovs_core.refine import REFINERS
from ovs_core.types import Vocabulary
from ovs_core.vocabulary import TEMPLATES, parse_vocabulary

WHOLE = Preset(scale=40, threshold=0.0, short_side=96, window=None, stride=0, templates="single1")
WINDOWS = Preset(scale=40, threshold=0.1, short_side=96, window=48, stride=16, templates="single1")
HEADLESS = [name for name, spec in METHODS.items() if spec.head is None]
WORDS = Vocabulary((("dog",), ("grass", "lawn")), ("sky",))


def request(method="naclip", preset=WHOLE, photo=None, vocabulary=WORDS, options=None, **more):
    photo = random_photo(96, 160) if photo is None else photo
    options = {**preset.options, **(options or {})}
    return Request(photo, vocabulary, method=method, options=options, **more)


def is_free(engine):
    """Whether the device would take a request at once."""
    free = engine.compute.slots.acquire(blocking=False)
    if free:
        engine.compute.slots.release()
    return free


def results(events):
    return [event for event in events if isinstance(event, Result)]


def same(one, other):
    return np.array_equal(one.labels, other.labels) and torch.equal(one.evidence.rows, other.evidence.rows)


class TestSharing:
    def test_five_methods_cost_one_encode_and_those_that_read_deeper_one_more(self, engine):
        answers = results(engine.compare(random_photo(96, 160), WORDS, options=WHOLE.options))
        assert [answer.method for answer in answers] == HEADLESS
        deep = len(HEADLESS) - 5
        features, text, scores = (engine.cache.stats(kind) for kind in ("features", "text", "scores"))
        assert (features.misses, features.hits) == (2, 4 + deep - 1)
        assert (text.misses, text.hits) == (1, len(HEADLESS) - 1)
        assert (scores.misses, scores.hits) == (len(HEADLESS), 0)
        looked = [("encode" in answer.seconds) for answer in answers]
        assert looked == [True, False, False, False, False, True] + [False] * (deep - 1)

    def test_compare_gives_all_methods_one_plan_and_each_its_threshold(self, tiny_encoders, make_engine):
        spec = replace(tiny_encoders["mini"], family="openai")
        answers = results(make_engine(encoders={"mini": spec}).compare(random_photo(60, 80), WORDS))
        plans = {(a.preset.short_side, a.preset.window, a.preset.stride, a.preset.templates) for a in answers}
        assert plans == {(336, 224, 112, "short7")}
        by_method = {answer.method: (answer.preset.scale, answer.preset.threshold) for answer in answers}
        assert by_method["clearclip"] == (50, 0.4)
        assert by_method["naclip"] == (40, 0.1)

    def test_a_result_comes_as_soon_as_it_is_ready(self, engine):
        events = list(engine.compare(random_photo(96, 160), WORDS, ["clip", "sclip"], options=WHOLE.options))
        kinds = [event.method if isinstance(event, Result) else event.stage for event in events]
        assert kinds.index("clip") < len(kinds) - 1 - kinds[::-1].index("method") < kinds.index("sclip")

    def test_a_refiner_starts_from_what_is_remembered(self, engine, make_engine):
        list(engine.run(request()))
        *events, refined = engine.run(request(refiner="pamr"))
        assert set(refined.seconds) == {"refine", "decide"}
        assert [event.done for event in events if event.stage == "refine"][-1] == 1
        assert refined.evidence.rows.shape == (4, 96, 160)  # the photo's own size
        assert refined.refiner == "pamr"
        *_, again = engine.run(request(refiner="pamr"))
        assert set(again.seconds) == {"decide"}
        *_, fresh = make_engine().run(request(refiner="pamr"))
        *_, coarse = engine.run(request())
        assert same(again, refined)
        assert same(fresh, refined)
        assert not np.array_equal(coarse.labels, refined.labels)

    def test_asking_again_runs_no_model(self, engine):
        *_, first = engine.run(request())
        *_, again = engine.run(request())
        assert set(first.seconds) == {"load", "text", "encode", "method", "decide"}
        assert set(again.seconds) == {"decide"}
        assert same(first, again)

    def test_scale_and_threshold_are_no_part_of_what_is_remembered(self, engine):
        list(engine.run(request()))
        *_, result = engine.run(request(preset=replace(WHOLE, scale=10, threshold=0.5)))
        assert set(result.seconds) == {"decide"}

    def test_other_words_reuse_the_photo_and_other_photos_the_words(self, engine):
        list(engine.run(request()))
        *_, words = engine.run(request(vocabulary=Vocabulary((("cat",),))))
        assert set(words.seconds) == {"text", "method", "decide"}
        *_, photo = engine.run(request(photo=random_photo(96, 160, seed=5)))
        assert set(photo.seconds) == {"encode", "method", "decide"}

    @pytest.mark.parametrize(
        "changed",
        [
            {"preset": replace(WHOLE, short_side=64)},
            {"preset": WINDOWS},
            {"preset": replace(WHOLE, frames=MULTI_SCALE)},
            {"preset": replace(WHOLE, templates="short7")},
            {"method": "sclip"},
            {"method": "maskclip", "options": {"key_smoothing": True}},
            {"encoder": "second"},
            {"photo": random_photo(96, 160, seed=9)},
        ],
        ids=lambda changed: ",".join(changed),
    )
    def test_what_changes_the_answer_is_not_mistaken_for_it(self, engine, make_engine, changed):
        list(engine.run(request("maskclip")))
        *_, warm = engine.run(request(**{"method": "maskclip", **changed}))
        *_, fresh = make_engine().run(request(**{"method": "maskclip", **changed}))
        assert same(warm, fresh)
        assert "method" in warm.seconds

    def test_multi_scale_is_the_mean_of_each_frame_alone_on_the_finest_grid(self, engine):
        preset, views = replace(WHOLE, frames=MULTI_SCALE), frozenset({"similarity"})
        photo = random_photo(96, 160)
        alone = [results(engine.run(request(preset=one, photo=photo)))[0] for one in preset.single_scale]
        assert [result.preset.short_side for result in alone] == [96, 60, 120]
        rows = [result.evidence.rows for result in alone]
        *_, both = engine.run(request(preset=preset, photo=photo))
        assert set(both.seconds) == {"decide"}  # all looks are remembered
        size = rows[2].shape[1:]
        wide = [F.interpolate(one[None], size=size, mode="bilinear", align_corners=False)[0] for one in rows]
        torch.testing.assert_close(both.evidence.rows, sum(wide) / 3)
        assert both.preset == preset
        *_, seen = engine.run(request(preset=preset, photo=photo, views=views))
        assert seen.views[0].maps.shape[1:] == rows[0].shape[1:]  # of the first frame

    def test_refined_answers_of_one_and_several_frames_are_told_apart(self, engine, make_engine):
        list(engine.run(request(refiner="pamr")))
        several = request(refiner="pamr", preset=replace(WHOLE, frames=MULTI_SCALE))
        assert same(results(engine.run(several))[0], results(make_engine().run(several))[0])

    def test_compare_looks_several_times_on_request(self, engine):
        events = engine.compare(
            random_photo(96, 160), WORDS, ["clip", "naclip"], options={"multi_scale": True}
        )
        assert [answer.preset.frames for answer in results(events)] == [MULTI_SCALE] * 2

    @pytest.mark.parametrize("frames", [(), (1.0, 0.1)])
    def test_frames_that_show_nothing_are_refused(self, frames):
        with pytest.raises(ValueError, match="frames must be of at least 16 pixels"):
            replace(WHOLE, frames=frames)

    def test_synonyms_and_classes_of_the_same_names_are_told_apart(self, engine):
        photo = random_photo(96, 160)
        *_, joined = engine.run(request(photo=photo, vocabulary=Vocabulary((("cat", "dog"),))))
        *_, apart = engine.run(request(photo=photo, vocabulary=Vocabulary((("cat",), ("dog",)))))
        assert set(apart.seconds) == {"decide"}
        assert joined.labels.max() == 1
        assert apart.vocabulary == Vocabulary((("cat",), ("dog",)))
        assert [summary.names for summary in apart.classes] == [("cat",), ("dog",)]

    def test_views_belong_to_the_classes_that_were_asked(self, engine):
        photo, views = random_photo(96, 160), frozenset({"similarity"})
        joined, apart = Vocabulary((("cat", "dog"),)), Vocabulary((("cat",), ("dog",)))
        *_, first = engine.run(request(photo=photo, vocabulary=joined, views=views))
        *_, second = engine.run(request(photo=photo, vocabulary=apart, views=views))
        assert first.views[0].labels == ("cat",)
        assert second.views[0].labels == ("cat", "dog")

    def test_views_about_a_point_belong_to_that_point(self, engine):
        photo, views = random_photo(96, 160), frozenset({"attention"})
        first, second, again = (
            results(engine.run(request(photo=photo, views=views, point=point)))[0]
            for point in ((0.2, 0.9), (0.9, 0.2), (0.2, 0.9))
        )
        assert not torch.equal(first.views[0].maps, second.views[0].maps)
        assert torch.equal(first.views[0].maps, again.views[0].maps)
        assert set(again.seconds) == {"decide"}

    def test_cache_stays_within_its_budget(self, make_engine):
        *_, probe = make_engine().run(request())
        one = probe.evidence.nbytes
        engine = make_engine(cache_bytes=20 * one)
        for seed in range(6):
            for method in HEADLESS:
                list(engine.run(request(method, photo=random_photo(96, 160, seed))))
                assert engine.cache.nbytes <= 20 * one
        assert engine.cache.stats("features").evictions > 0

    def test_towers_beyond_the_limit_are_let_go_and_come_back(self, make_engine):
        engine = make_engine(encoders={name: tiny_spec(name, seed) for seed, name in enumerate("abc")})
        first, *_ = [results(engine.run(request(encoder=name)))[0] for name in "abc"]
        *_, again = engine.run(request(encoder="a", photo=random_photo(96, 160, seed=3)))
        assert "load" in again.seconds
        *_, kept = engine.run(request(encoder="c", photo=random_photo(96, 160, seed=3)))
        assert "load" not in kept.seconds
        assert same(first, results(engine.run(request(encoder="a")))[0])

    def test_a_tower_whose_file_was_exchanged_while_it_was_put_away_answers_anew(self, make_engine, tmp_path):
        """Methods go with their tower: evidence and the weights that are named are of the same file."""
        root = write_catalogue(tmp_path / "root", entry("tower", "tower.pt"))

        def load(store):
            digest = store.sha256_of(store.locate("tower"))
            return LoadedModel(make_model(int(digest, 16) % 1000), CLIP_MEAN, CLIP_STD, {"tower.pt": digest})

        encoders = {name: tiny_spec(name, seed) for seed, name in enumerate("bc")}
        encoders["a"] = replace(tiny_spec("a"), entry="tower", load=load)

        def started():
            made = make_engine(encoders=encoders)
            made.store = WeightStore(root=root)
            return made

        (root / "tower.pt").write_bytes(b"first")
        engine = started()
        old = results(engine.run(request(encoder="a")))[0]
        for name in "bc":  # two others: the first is put away
            list(engine.run(request(encoder=name)))
        (root / "tower.pt").write_bytes(b"second, longer")
        new = results(engine.run(request(encoder="a")))[0]
        fresh = results(started().run(request(encoder="a")))[0]
        assert new.weights == fresh.weights != old.weights
        assert same(new, fresh)
        assert not torch.equal(new.evidence.rows, old.evidence.rows)


class TestRelabel:
    @pytest.mark.parametrize("size", [None, (48, 80), (33, 17)])
    def test_equals_a_fresh_run_with_the_same_settings(self, engine, make_engine, size):
        *_, result = engine.run(request())
        moved = engine.relabel(result, {"scale": 12, "threshold": 0.4}, size=size)
        preset = replace(WHOLE, scale=12, threshold=0.4)
        *_, fresh = make_engine().run(request(preset=preset))
        if size is not None:
            fresh = engine.relabel(fresh, size=size)
        assert same(moved, fresh)
        assert moved.classes == fresh.classes
        assert moved.preset == preset
        assert moved.labels.shape == moved.image.shape[:2] == (size or (96, 160))
        assert np.array_equal(moved.image, fresh.image)

    @pytest.mark.parametrize("method", ["naclip", "clearclip"])
    def test_a_step_of_the_threshold_decides_nothing_anew(self, engine, make_engine, monkeypatch, method):
        *_, result = engine.run(request(method=method))
        decided = []
        monkeypatch.setattr(
            "ovs_core.engine.labelling.decide",
            lambda *question: decided.append(question) or decide(*question),
        )
        small = engine.relabel(result, size=(24, 40))
        assert len(decided) == 1
        for threshold in (0.0, 0.2, 0.35, 1.0, 0.2):
            stepped = engine.relabel(small, {"threshold": threshold}, without=())
            anew = engine.relabel(replace(small, winners=None), {"threshold": threshold})
            assert same(stepped, anew)
            assert stepped.classes == anew.classes
        assert len(decided) == 6  # those of `anew` alone
        engine.relabel(small, {"scale": 7})
        engine.relabel(small, without=["dog"])
        engine.relabel(small, size=(12, 20))
        assert len(decided) == 9

    def test_what_won_is_that_of_its_own_evidence(self, engine):
        *_, first = engine.run(request())
        *_, other = engine.run(request(vocabulary=Vocabulary((("sky",), ("car",)), ("wall",))))
        mixed = replace(other, winners=first.winners)
        assert same(engine.relabel(mixed, {"threshold": 0.3}), engine.relabel(other, {"threshold": 0.3}))

    def test_a_large_answer_keeps_no_second_map(self, engine, monkeypatch):
        monkeypatch.setattr("ovs_core.engine.labelling.MOST_KEPT", 96 * 160 - 1)
        *_, result = engine.run(request())
        assert result.winners is None
        assert engine.relabel(result, size=(24, 40)).winners is not None

    def test_a_higher_threshold_takes_pixels_away(self, engine):
        *_, result = engine.run(request())
        strict = engine.relabel(result, {"threshold": 1.0})
        assert (strict.labels == 0).all()
        assert (result.labels > 0).any()

    @pytest.mark.parametrize(("threshold", "label"), [(1.0, 1), (0.0, 1)])
    def test_a_lone_class_without_other_is_never_below_a_threshold(self, engine, threshold, label):
        *_, result = engine.run(request(vocabulary=Vocabulary((("dog",),)), options={"threshold": threshold}))
        assert (result.labels == label).all()
        assert (engine.relabel(result, {"threshold": threshold}).labels == label).all()

    def test_leaves_the_result_it_started_from_alone(self, engine):
        *_, result = engine.run(request())
        before = result.labels.copy()
        engine.relabel(result, {"scale": 1, "threshold": 0.9}, size=(10, 10))
        assert np.array_equal(result.labels, before)

    def test_runs_no_model_and_keeps_its_size(self, engine, make_engine):
        *_, result = engine.run(request())
        small = engine.relabel(result, size=(24, 40))
        again = make_engine().relabel(small, {"threshold": 0.2})  # another engine, with nothing loaded
        assert again.image is small.image
        assert set(again.seconds) == {"decide"}

    @pytest.mark.parametrize(
        ("settings", "says"),
        [
            ({"options": {"threshold": 1.5}}, r"threshold must be a number in \[0, 1\], got 1.5"),
            ({"options": {"scale": 0}}, r"scale must be a number in \[0.001, 10000\], got 0"),
            (
                {"options": {"short_side": 64}},
                "options of NACLIP that need no model must be one of scale",
            ),
            ({"size": (0, 10)}, r"size must be \(H, W\) in pixels, each at least 1; got \(0, 10\)"),
        ],
    )
    def test_says_what_is_wrong(self, engine, settings, says):
        *_, result = engine.run(request())
        with pytest.raises(ValueError, match=says):
            engine.relabel(result, **settings)


class TestProgressAndCancel:
    def test_stages_come_in_order_and_end_with_the_result(self, engine):
        *events, last = engine.run(request(preset=WINDOWS))
        assert isinstance(last, Result)
        stages = list(dict.fromkeys(event.stage for event in events))
        assert stages == ["load", "text", "encode", "method", "decide"]
        for event in events:
            assert 0 <= event.done <= event.total
        words = [event.done for event in events if event.stage == "text" and event.total == len(WORDS.rows)]
        assert set(words) <= {4}  # one prompt each, of as many tokens: one batch

    def test_a_slow_caller_hears_the_last_step_of_each_stage_and_every_note(self):
        told, note = threading.Event(), "Memory ran out; trying again."

        def work(report, stop):
            for done in range(101):
                report(Progress("text", done, 100))
            report(Progress("encode", 0, 2, note))
            report(Progress("encode", 1, 2))
            report(Progress("encode", 2, 2))
            told.set()

        events = stream(work, None, replaces)
        first = next(events)
        assert told.wait(10)
        steps = [(event.stage, event.done, event.note) for event in (first, *events)]
        assert steps[-3:] == [("text", 100, ""), ("encode", 0, note), ("encode", 2, "")]
        assert len(steps) <= 4

    def test_cancel_before_the_start(self, engine):
        cancel = threading.Event()
        cancel.set()
        with pytest.raises(Cancelled):
            next(engine.run(request(), cancel))
        assert engine.cache.nbytes == 0

    def test_one_method_takes_what_several_take_cancel_too(self, engine):
        one, several = (signature(ask).parameters for ask in (Engine.segment, Engine.compare))
        assert set(one) - {"method"} == set(several) - {"methods"}
        cancel = threading.Event()
        cancel.set()
        with pytest.raises(Cancelled):
            engine.segment(random_photo(48, 64), WORDS, cancel=cancel)

    @pytest.mark.parametrize("stage", ["load", "text", "encode", "method"])
    def test_cancel_in_the_middle_then_run_again(self, engine, make_engine, stage):
        cancel = threading.Event()
        events = engine.run(request(preset=WINDOWS), cancel)
        for event in events:
            if isinstance(event, Progress) and event.stage == stage:
                cancel.set()
                break
        with pytest.raises(Cancelled):
            next(events)
        *_, again = engine.run(request(preset=WINDOWS))
        *_, fresh = make_engine().run(request(preset=WINDOWS))
        assert same(again, fresh)

    def test_cancel_while_labels_are_made_stops_at_the_next_tile(self, make_engine):
        """The rule that labels go through sets the wish itself, and counts how often it is asked after."""
        cancel, tiles = threading.Event(), []

        @dataclass(frozen=True, eq=False)
        class Stopping(ScoreMap):
            def decide(self, scale, size, cancel=None):
                for tile in super().decide(scale, size, cancel):
                    tiles.append(tile)
                    assert cancel is not None, "labels are made without a way to stop them"
                    cancel.set()
                    yield tile

        def stopping(evidence, options):
            return Stopping(evidence.rows, evidence.vocabulary, evidence.image_size)

        methods = {**METHODS, "naclip": replace(METHODS["naclip"], calibrate=stopping)}
        photo = random_photo(600, 900)
        with pytest.raises(Cancelled):
            list(make_engine(methods=methods).run(request(photo=photo), cancel))
        assert len(tiles) == 1
        plain = make_engine().segment(photo, WORDS, options=WHOLE.options)
        assert sum(1 for _ in plain.evidence.decide(1.0, (600, 900))) > 1

    def test_a_smaller_map_is_that_of_relabel(self, engine):
        photo = random_photo(96, 160)
        *_, small = engine.run(request(photo=photo, side=80))
        *_, whole = engine.run(request(photo=photo))
        assert small.labels.shape == small.image.shape[:2] == (48, 80)
        assert small.photo_size == (96, 160)
        assert same(small, engine.relabel(whole, size=(48, 80)))
        again = engine.relabel(small, size=small.photo_size)
        assert same(again, whole)
        assert np.array_equal(again.image, whole.image)
        assert again.photo is None
        *_, unchanged = engine.run(request(photo=photo, side=500))
        assert unchanged.photo is None
        assert same(unchanged, whole)

    def test_cancel_between_methods(self, engine):
        cancel = threading.Event()
        events = engine.compare(random_photo(96, 160), WORDS, options=WHOLE.options, cancel=cancel)
        for event in events:
            if isinstance(event, Result):
                cancel.set()
                break
        with pytest.raises(Cancelled):
            next(events)

    def test_a_closed_generator_stops_the_work_and_frees_the_device(self, engine):
        many = Vocabulary(tuple((f"thing {number}",) for number in range(2000)))
        events = engine.run(request(vocabulary=many))
        for event in events:
            if event.stage == "text":
                break
        events.close()
        assert is_free(engine)
        assert engine.cache.stats("text").nbytes == 0, "the 2000 names were not finished"
        assert not [thread for thread in threading.enumerate() if thread.name.startswith("ovs-work")]

    def test_an_idle_reader_does_not_hold_the_device(self, engine):
        idle = engine.compare(random_photo(96, 160), WORDS, options=WHOLE.options)
        next(idle)
        *_, other = engine.run(request(photo=random_photo(60, 60)))
        assert other.labels.shape == (60, 60)
        assert len(results(idle)) == len(HEADLESS)

    def test_waiting_for_the_device_can_be_cancelled(self, engine):
        list(engine.run(request()))
        cancel = threading.Event()
        with engine.compute.hold():
            events = engine.run(request("clip"), cancel)
            assert next(events).note == "Waiting for another request."
            cancel.set()
            with pytest.raises(Cancelled):
                list(events)

    def test_two_people_at_once_get_what_each_would_get_alone(self, make_engine):
        asked = [
            request(method, photo=random_photo(96, 160, seed), preset=preset)
            for seed, preset in ((1, WHOLE), (2, WINDOWS))
            for method in ("clip", "naclip")
        ]
        alone = [results(make_engine().run(one))[0] for one in asked]
        together = make_engine()
        with ThreadPoolExecutor(4) as pool:
            answers = list(pool.map(lambda one: list(together.run(one))[-1], asked))
        for expected, got in zip(alone, answers, strict=True):
            assert same(expected, got)
            assert expected.classes == got.classes

    def test_an_error_reaches_the_reader(self, make_engine):
        spec = tiny_spec("mini")

        def load(store):
            raise CheckpointError("The weights are cut short.")

        with pytest.raises(CheckpointError, match="cut short"):
            list(make_engine(encoders={"mini": replace(spec, load=load)}).run(request()))


class OutOfMemoryBelow(VisionEncoder):
    """Has memory for windows of at most `limit` pixels; above, it runs out as a device would."""

    limit = 0

    def encode(self, pixels, preset, **more):
        if preset.window is None or preset.window > self.limit:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return super().encode(pixels, preset, **more)


@pytest.fixture
def with_memory_for(monkeypatch):
    """Towers that have memory for windows of so many pixels."""

    def use(limit):
        class Encoder(OutOfMemoryBelow):
            pass

        Encoder.limit = limit
        monkeypatch.setattr("ovs_core.encoders.towers.VisionEncoder", Encoder)

    return use


class TestMemory:
    PRESET = replace(WHOLE, short_side=256)

    def test_smaller_windows_are_tried_and_the_user_is_told(self, engine, make_engine, with_memory_for):
        smaller = replace(self.PRESET, window=128, stride=64)
        *_, expected = make_engine().run(request(preset=smaller))
        with_memory_for(128)
        *events, result = engine.run(request(preset=self.PRESET))
        notes = [event.note for event in events if event.note]
        assert notes == ["Memory ran out; trying again with smaller windows."] * 2  # 256, then 128
        assert result.preset == smaller
        assert same(result, expected)
        assert expected.notes == ()
        where = "windows of 128 pixels in a frame of 256 pixels on its shorter side"
        assert result.notes == (f"Memory ran out: this was answered in {where}, smaller than asked.",)

    def test_what_was_remembered_of_photos_makes_room(self, engine, with_memory_for):
        list(engine.run(request(photo=random_photo(60, 60, seed=4))))
        assert engine.cache.stats("features").nbytes > 0
        with_memory_for(SMALLEST_WINDOW - 1)
        with pytest.raises(NotEnoughMemory):
            list(engine.run(request(encoder="second", preset=self.PRESET)))
        assert engine.cache.stats("features").nbytes == 0

    def test_a_photo_that_never_fits_ends_in_a_sentence(self, engine, with_memory_for):
        with_memory_for(SMALLEST_WINDOW - 1)
        with pytest.raises(NotEnoughMemory, match="does not fit into memory") as caught:
            list(engine.run(request(preset=self.PRESET)))
        assert isinstance(caught.value, ValueError)
        assert is_free(engine)

    @pytest.mark.parametrize(
        ("error", "expected"),
        [
            (torch.OutOfMemoryError("CUDA out of memory."), True),
            (MemoryError(), True),
            (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"), True),
            (RuntimeError("MPS backend out of memory (MPS allocated: 9 GB)"), True),
            (RuntimeError("The size of tensor a (3) must match"), False),
            (ValueError("out of memory"), False),
            (Cancelled("Stopped at your request."), False),
        ],
        ids=str,
    )
    def test_knows_what_running_out_of_memory_looks_like(self, error, expected):
        assert is_out_of_memory(error) is expected


class TestSentences:
    @pytest.mark.parametrize(
        ("field", "value", "says"),
        [
            ("method", "magic", "method must be one of clip, maskclip, .*, two_stage; got 'magic'"),
            ("refiner", "magic", "refiner must be one of none, guided, pamr.*; got 'magic'"),
            ("views", frozenset({"dreams"}), "views of NACLIP must be among .*similarity.*; got 'dreams'"),
            ("options", {"turbo": True}, r"options of NACLIP must be among scale, .*; got 'turbo'"),
            ("options", {"multi_scale": 1}, "multi_scale must be true or false, got 1"),
            ("options", {"short_side": 64.5}, r"short_side must be a whole number in \[16, 4096\], got 64.5"),
            ("point", (0.5, 1.5), r"point must be \(row, column\), each in \[0, 1\], got \(0.5, 1.5\)"),
            ("options", {"templates": "haiku"}, "templates must be one of imagenet80, .*'haiku'"),
        ],
    )
    def test_request_is_checked_before_anything_is_loaded(self, engine, field, value, says):
        with pytest.raises(ValueError, match=says):
            engine.run(request(**{field: value}))
        assert engine.cache.nbytes == 0

    def test_unknown_encoder(self, engine):
        with pytest.raises(ValueError, match="encoder must be one of mini, second; got 'huge'"):
            engine.run(request(encoder="huge"))
        with pytest.raises(ValueError, match="encoder must be one of"):
            engine.preset("naclip", "huge")

    def test_no_methods(self, engine):
        with pytest.raises(ValueError, match="methods must hold at least one name"):
            engine.compare(random_photo(8, 8), WORDS, [])

    @pytest.mark.parametrize(
        ("device", "precision", "says"),
        [
            ("tpu", "auto", "device must be one of auto, cpu, cuda, mps; got 'tpu'"),
            ("cpu", "int4", "precision must be one of auto, fp32, bf16, fp16; got 'int4'"),
            ("cpu", "fp16", "precision must be one of auto, fp32 on this CPU; got 'fp16'"),
            ("cpu", "bf16", "precision must be one of auto, fp32 on this CPU; got 'bf16'"),
        ],
    )
    def test_device_and_precision(self, monkeypatch, device, precision, says):
        monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False, raising=False)
        with pytest.raises(ValueError, match=says):
            choose_compute(device, precision)

    def test_bfloat16_on_a_cpu_that_has_it_is_for_who_asks(self, monkeypatch, make_engine):
        monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True, raising=False)
        assert choose_compute("cpu").dtype == torch.float32
        photo, evidence = random_photo(48, 72), []
        for precision in ("fp32", "bf16"):
            result = make_engine(device="cpu", precision=precision).segment(photo, WORDS)
            evidence.append(result.evidence.rows.float())
        torch.testing.assert_close(*evidence, atol=0.05, rtol=0)
        assert not torch.equal(*evidence)

    def test_absent_device(self, monkeypatch):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
        with pytest.raises(ValueError, match="device 'cuda' is not available on this machine; found: cpu"):
            choose_compute("cuda")

    def test_missing_weights_say_how_to_get_them(self, tmp_path):
        engine = Engine("cpu", weights_dir=tmp_path, offline=True, text_dir=tmp_path)
        says = (
            r"OpenAI CLIP ViT-B/16 is not on this machine. Get it with "
            r"`python -m ovs_core.cli.weights get openai-vit-b-16` \(351 MB, licence MIT\)\."
        )
        with pytest.raises(CheckpointError, match=says):
            engine.segment(random_photo(8, 8), "dog", encoder="vit_b16_openai")
        info = {info.name: info for info in engine.encoders()}["vit_b16_openai"]
        assert not info.available
        assert info.reason == info.weights == engine.describe_weights("vit_b16_openai")

    def test_wrong_weights_are_refused(self, tmp_path):
        (tmp_path / "ViT-B-16.pt").write_bytes(b"not these")
        engine = Engine("cpu", weights_dir=tmp_path, offline=True, text_dir=tmp_path)
        with pytest.raises(CheckpointError, match="damaged or another version"):
            engine.segment(random_photo(8, 8), "dog", encoder="vit_b16_openai")

    def test_nothing_touches_the_network(self, engine, monkeypatch):
        def refuse(*_):
            raise AssertionError("the network was touched")

        monkeypatch.setattr(socket.socket, "connect", refuse)
        monkeypatch.setattr(socket, "getaddrinfo", refuse)
        assert engine.segment(random_photo(40, 60), "dog; grass", options=WHOLE.options).labels.shape == (
            40,
            60,
        )


class TestPython:
    def test_six_lines(self, engine, tmp_path: Path):
        path = tmp_path / "dog.png"
        Image.fromarray(random_photo(70, 110).pixels).save(path)
        result = engine.segment(path, "dog; grass | lawn")
        assert result.labels.shape == (70, 110)
        assert [summary.names for summary in result.classes] == [("dog",), ("grass", "lawn"), ("other",)]
        assert (result.method, result.encoder, result.refiner) == ("naclip", "mini", "none")

    @pytest.mark.parametrize(
        "source",
        [lambda photo: photo, lambda photo: photo.pixels, lambda photo: Image.fromarray(photo.pixels)],
        ids=["photo", "array", "pil"],
    )
    def test_any_picture(self, engine, source):
        photo = random_photo(96, 160)
        assert same(
            engine.segment(source(photo), "dog", options=WHOLE.options),
            engine.segment(photo, "dog", options=WHOLE.options),
        )

    def test_background_reaches_the_vocabulary(self, engine):
        photo = random_photo(40, 60)
        none = engine.segment(photo, "dog", background="none", options=WHOLE.options)
        assert none.vocabulary.other == ()
        assert (none.labels == 1).all()
        two = engine.segment(photo, "dog", background="sky; wall", options=WHOLE.options)
        assert two.vocabulary == parse_vocabulary("dog", "sky; wall")

    def test_benchmark_lists(self, engine):
        result = engine.segment(random_photo(40, 60), "@voc20", options=WHOLE.options)
        assert len(result.vocabulary.classes) == 20

    def test_answers_do_not_change_when_the_photo_is_written_to(self, engine):
        array = random_photo(96, 160).pixels.copy()
        first = engine.segment(array, "dog; cat", options=WHOLE.options)
        array[:] = 0
        dark = engine.segment(array, "dog; cat", options=WHOLE.options)
        assert "encode" in dark.seconds
        assert not same(first, dark)

    def test_names_at_the_front_door(self):
        for name in ovs_core.__all__:
            assert getattr(ovs_core, name).__name__ == name
        with pytest.raises(AttributeError, match="no attribute 'nothing'"):
            _ = ovs_core.nothing


class TestRegistry:
    def test_settings_name_prompts_and_lie_in_the_ranges_of_options(self):
        for method in METHODS.values():
            for preset in method.presets.values():
                assert preset.templates in TEMPLATES
                for option in method.options:
                    if option.name in preset.options:
                        assert option.checked(preset.options[option.name]) == preset.options[option.name]

    def test_published_settings(self):
        presets = {name: METHODS[name].presets for name in ("naclip", "clearclip", "sclip")}
        assert presets["naclip"]["openai"] == Preset(40, 0.1, 336, 224, 112, "imagenet80")
        assert presets["clearclip"]["openai"] == Preset(50, 0.4, 336, 448, 224, "imagenet80")
        assert presets["sclip"]["laion"].threshold == 0

    def test_full_prompts_are_for_gpus(self, tmp_path):
        engine = Engine("cpu", weights_dir=tmp_path, text_dir=tmp_path)
        assert engine.preset("sclip", "vit_b16_openai").templates == "short7"

    def test_keys_are_names_and_words_are_there(self):
        for registry in (METHODS, ENCODERS, REFINERS):
            assert isinstance(registry, Mapping)
            assert all(name == spec.name and spec.title for name, spec in registry.items())
        for spec in METHODS.values():
            assert spec.description.endswith(".")
            assert len(spec.paper) in (0, 10)  # SFP is not on arXiv

    @pytest.mark.parametrize("spec", [s for s in ENCODERS.values() if s.tier == "full"], ids=lambda s: s.name)
    def test_architecture_is_the_one_the_weights_were_trained_as(self, spec):
        assert load_catalogue()[spec.entry].open_clip_model == spec.architecture
        assert not spec.tokens or spec.architecture.startswith("RN") or f"-{spec.patch}" in spec.architecture

    @pytest.mark.parametrize("name", ["ViT-B-16-SigLIP", "coca_ViT-B-32", "no-such-model"])
    def test_only_plain_clip_is_built(self, name):
        with pytest.raises(ValueError, match="architecture must be a plain CLIP"):
            build_open_clip(name)

    def test_menu_entries(self, engine):
        assert [info.name for info in engine.methods()] == list(METHODS)
        assert [info.name for info in engine.methods() if info.available] == HEADLESS
        mini, second = engine.encoders()
        assert (mini.name, mini.available, mini.reason) == ("mini", True, "")
        assert second.weights == "Tiny random towers 1: made by the program that started this engine."

    def test_half_precision_gives_nearly_the_same_evidence(self, tiny_encoders):
        spec = tiny_encoders["mini"]
        evidence = {}
        for dtype in (torch.float32, torch.bfloat16):
            tower = build_tower(spec, spec.load(None), Compute(torch.device("cpu"), dtype), None)
            bank = tower.text.embed(WORDS, TEMPLATES["single1"])
            assert bank.embeddings.dtype == torch.float32
            for name in HEADLESS:
                bound = METHODS[name].bind(tower, None)
                features = bound.image.encode(random_photo(96, 160).pixels, WHOLE)
                assert features.windows[0].tokens.dtype == dtype
                found = bound.method.ask(features, bank, {}).evidence.rows
                assert found.dtype == torch.float32
                evidence[name, dtype] = found
        for name in HEADLESS:
            # bfloat16 has 8 bits: three blocks of random weights keep cosines to a few hundredths.
            assert (evidence[name, torch.float32] - evidence[name, torch.bfloat16]).abs().max() < 0.1

    def test_towers_of_one_model_share_its_space(self, tiny_encoders):
        spec = tiny_encoders["mini"]
        tower = build_tower(spec, spec.load(None), choose_compute("cpu"), None)
        bank = tower.text.embed(WORDS, TEMPLATES["single1"])
        features = tower.vision.encode(random_photo(40, 60).pixels, WHOLE)
        evidence = METHODS["clip"].bind(tower, None).method.ask(features, bank, {}).evidence.rows
        assert bank.embeddings.shape == (4, 24)
        assert evidence.shape == (4, *features.grid)
        assert tower.vision.identity.startswith("mini:")


@pytest.fixture(scope="module")
def shipped(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    """The engine a user gets: the embedded model with its trained weights."""
    return Engine("cpu", offline=True, text_dir=tmp_path_factory.mktemp("text"))


class TestEmbedded:
    PHOTOS = Path(__file__).resolve().parents[1] / "assets" / "photos"

    def test_the_weights_are_here_and_named(self, shipped):
        info = {info.name: info for info in shipped.encoders()}["mini"]
        assert info.available
        assert info.weights == shipped.describe_weights()
        assert "mini.safetensors" in info.weights

    def test_finds_the_cat(self, shipped):
        result = shipped.segment(self.PHOTOS / "cat.jpg", "cat; blanket")
        height, width = result.labels.shape
        middle = result.labels[height // 3 : 2 * height // 3, width // 3 : 2 * width // 3]
        assert (middle == 1).mean() > 0.8
        assert result.classes[0].names == ("cat",)
        path = shipped.store.locate("mini")
        assert list(result.weights) == ["mini.safetensors", "near_words.tsv", "tuned_words.safetensors"]
        assert result.weights["mini.safetensors"] == shipped.store.sha256_of(path)

    def test_another_word_does_not_find_it(self, shipped):
        result = shipped.segment(self.PHOTOS / "cat.jpg", "bicycle; cat")
        assert result.classes[0].area_share < 0.05

    def test_every_method_runs_on_it(self, shipped):
        answers = results(shipped.compare(self.PHOTOS / "rocket.jpg", "rocket; sky | clouds"))
        ready = [info.name for info in shipped.methods() if info.available]
        assert [answer.method for answer in answers] == ready
        assert {*HEADLESS, "mvp_seg"} <= set(ready)
        for answer in answers:
            if answer.method == "two_stage":  # a crop of plain sky looks like nothing to this small tower
                continue
            assert answer.classes[1].area_share > 0.3, (
                f"most of the photo is sky, says everyone but {answer.method}"
            )
