"""What every registered method must do, on tiny random towers: shapes, ends of the range, no hidden state."""

import numpy as np
import pytest
import torch
from towers import random_photo

from ovs_core.engine import Request, Result
from ovs_core.methods import METHODS
from ovs_core.options import Preset
from ovs_core.types import Vocabulary

WHOLE = Preset(scale=40, threshold=0.0, short_side=96, window=None, stride=0, templates="single1")
WINDOWS = Preset(scale=40, threshold=0.1, short_side=96, window=64, stride=32, templates="single1")
DOG_OR_GRASS = Vocabulary((("dog",), ("grass", "lawn")), ("sky", "wall"))

# Methods with trained heads have their own test files; these run on any ViT.
HEADLESS = [name for name, spec in METHODS.items() if spec.head is None]
EACH_METHOD = pytest.mark.parametrize("method", HEADLESS)
# Every switch of every method on its own: (method, switch).
SWITCHES = [
    (name, option.name)
    for name in HEADLESS
    for option in METHODS[name].options
    if option.kind == "switch" and option.stage == "ask"
]


def answer(engine, photo, vocabulary=DOG_OR_GRASS, method="naclip", preset=WHOLE, **more):
    options = {**preset.options, **more.pop("options", {})}
    *_, result = engine.run(Request(photo, vocabulary, method=method, options=options, **more))
    assert isinstance(result, Result)
    return result


def check(result, photo, vocabulary):
    """The contract of one Result."""
    height, width = photo.pixels.shape[:2]
    known = len(vocabulary.classes)
    assert result.labels.shape == (height, width)
    assert result.labels.dtype == (np.uint8 if known <= 255 else np.uint16)
    assert result.labels.max() <= known
    assert result.vocabulary == vocabulary
    assert [summary.label for summary in result.classes][:known] == [*range(1, known + 1)]
    for summary in result.classes:
        assert summary.area_share == pytest.approx((result.labels == summary.label).mean())
    assert sum(summary.area_share for summary in result.classes) == pytest.approx(1)
    evidence = result.evidence.rows
    assert evidence.shape[0] == len(vocabulary.rows)
    assert evidence.dtype == torch.float32
    assert torch.isfinite(evidence).all()


@EACH_METHOD
@pytest.mark.parametrize("preset", [WHOLE, WINDOWS], ids=["whole", "windows"])
@pytest.mark.parametrize(
    "size",
    [
        (120, 200),  # wide
        (200, 120),  # high
        (97, 131),  # no multiple of anything
        (1, 1),  # one pixel
        (16, 64),  # one row of tokens once resized
        (10, 120),  # panorama 1:12
        (120, 10),
    ],
    ids=str,
)
def test_labels_have_the_photos_size(engine, method, preset, size):
    photo = random_photo(*size)
    result = answer(engine, photo, method=method, preset=preset)
    check(result, photo, DOG_OR_GRASS)
    assert result.method == method
    assert result.preset == preset
    assert list(result.weights) == ["tiny-0.safetensors"]


@EACH_METHOD
@pytest.mark.parametrize("tokens", [(1, 1), (1, 3), (4, 1)])
def test_grids_one_token_wide(engine, method, tokens):
    rows, columns = tokens
    photo = random_photo(16 * rows, 16 * columns)
    preset = Preset(40, 0.0, 16, None, 0, "single1")
    result = answer(engine, photo, method=method, preset=preset)
    check(result, photo, DOG_OR_GRASS)
    assert tuple(result.evidence.rows.shape[1:]) == tokens


@EACH_METHOD
def test_one_class_with_other_can_lose(engine, method):
    vocabulary = Vocabulary((("dog",),), ("sky", "wall", "tree", "floor"))
    photo = random_photo(120, 200)
    result = answer(engine, photo, vocabulary, method)
    check(result, photo, vocabulary)
    assert [summary.label for summary in result.classes] == [1, 0]
    rows = result.evidence.rows.flatten(1).argmax(dim=0)
    assert (rows > 0).any(), "a random tower prefers each of five names somewhere"


@EACH_METHOD
def test_one_class_without_other_takes_everything(engine, method):
    vocabulary = Vocabulary((("dog",),))
    result = answer(engine, random_photo(120, 200), vocabulary, method)
    assert (result.labels == 1).all()
    assert result.classes[0].mean_score == pytest.approx(1)


@EACH_METHOD
@pytest.mark.parametrize(("count", "dtype"), [(200, np.uint8), (300, np.uint16)])
def test_many_classes(engine, method, count, dtype):
    vocabulary = Vocabulary(tuple((f"thing {number}",) for number in range(count)))
    photo = random_photo(64, 96)
    result = answer(engine, photo, vocabulary, method)
    check(result, photo, vocabulary)
    assert result.labels.dtype == dtype
    assert (result.labels > 0).all()


@EACH_METHOD
@pytest.mark.parametrize("cache_bytes", [1 << 26, 0], ids=["caches", "no-caches"])
def test_no_hidden_state(make_engine, method, cache_bytes):
    engine = make_engine(cache_bytes=cache_bytes)
    a, b = random_photo(120, 200, seed=1), random_photo(90, 70, seed=2)
    first = answer(engine, a, method=method)
    other = answer(engine, b, Vocabulary((("cat",),), ("dog", "lawn")), method, WINDOWS)
    again = answer(engine, a, method=method)
    fresh = answer(make_engine(), a, method=method)
    for result in (again, fresh):
        assert torch.equal(first.evidence.rows, result.evidence.rows)
        assert np.array_equal(first.labels, result.labels)
        assert first.classes == result.classes
    assert other.labels.shape == (90, 70)


@EACH_METHOD
def test_a_class_typed_with_others_keeps_its_evidence(engine, method):
    photo = random_photo(120, 200)
    alone = answer(engine, photo, Vocabulary((("dog",),)), method)
    among = answer(engine, photo, Vocabulary((("cat",), ("dog",)), ("sky",)), method)
    torch.testing.assert_close(alone.evidence.rows[0], among.evidence.rows[1], atol=1e-6, rtol=0)


@EACH_METHOD
@pytest.mark.parametrize("preset", [WHOLE, WINDOWS], ids=["whole", "windows"])
def test_views_are_outputs_and_change_nothing(engine, method, preset):
    photo = random_photo(120, 200)
    plain = answer(engine, photo, method=method, preset=preset)
    assert plain.views == ()
    both = frozenset({"similarity", "attention"})
    seen = answer(engine, photo, method=method, preset=preset, views=both, point=(0.25, 0.9))
    grid = seen.evidence.rows.shape[1:]
    assert torch.equal(plain.evidence.rows, seen.evidence.rows)
    views = {view.kind: view for view in seen.views}
    assert set(views) == both
    assert views["similarity"].labels == ("dog", "grass")
    assert views["similarity"].maps.shape == (2, *grid)
    assert views["attention"].maps.shape == (1, *grid)
    assert torch.isfinite(views["attention"].maps).all()


@pytest.mark.parametrize(("method", "switch"), SWITCHES)
def test_switches_are_optional_parts(engine, method, switch):
    photo = random_photo(120, 200)
    words = Vocabulary(tuple((f"thing {number}",) for number in range(20)), ("sky",))
    plain = answer(engine, photo, words, method, WINDOWS)
    switched = answer(engine, photo, words, method, WINDOWS, options={switch: True})
    check(switched, photo, words)
    evidence = [result.evidence.rows for result in (plain, switched)]
    assert not torch.equal(*evidence)


def test_methods_differ(engine):
    photo = random_photo(120, 200)
    maps = [answer(engine, photo, method=name).evidence.rows for name in HEADLESS]
    for index, one in enumerate(maps):
        for other in maps[:index]:
            assert (one - other).abs().max() > 1e-3
