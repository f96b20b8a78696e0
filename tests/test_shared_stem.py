"""What heads on one tower have in common is computed once, and answers stay what they are, bit for bit."""

from pathlib import Path

import pytest
import torch

from ovs_core.engine import Engine
from ovs_core.image import Photo, read_photo

PHOTO = Path(__file__).resolve().parents[1] / "assets" / "photos" / "cat.jpg"
TOKENS = (
    "naclip",
    "resclip",
    "mvp_seg",
    "mvp_seg_plus",
    "zegclip",
    "ldvc",
)  # taps, contexts, student, prompts
PYRAMIDS = ("fc_clip", "maft_plus")  # the second one's transformer is tuned
WORDS = "cat; blanket; wall"


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("text")


@pytest.fixture(scope="module")
def forgetful(text: Path) -> Engine:
    return Engine("cpu", offline=True, cache_bytes=0, text_dir=text)


@pytest.fixture
def engine(text: Path) -> Engine:
    return Engine("cpu", offline=True, text_dir=text)


@pytest.fixture(scope="module")
def photo() -> Photo:
    return Photo(read_photo(PHOTO).pixels[::2, ::2].copy())


def same(one, other) -> None:
    assert torch.equal(torch.from_numpy(one.labels), torch.from_numpy(other.labels)), one.method
    assert one.confidence.tobytes() == other.confidence.tobytes(), one.method


@pytest.mark.parametrize(
    ("methods", "side"), [(TOKENS, 160), (TOKENS[::-1], 160), (PYRAMIDS, 128), (PYRAMIDS[::-1], 128)]
)
def test_methods_in_any_order_ask_one_stem_and_answer_as_alone(
    engine: Engine, forgetful: Engine, photo: Photo, methods: tuple[str, ...], side: int
) -> None:
    options = {"short_side": side}
    for method in methods:
        found = engine.segment(photo, WORDS, method=method, options=options)
        same(found, forgetful.segment(photo, WORDS, method=method, options=options))
    stems, features = engine.cache.stats("stems"), engine.cache.stats("features")
    alike = {"mvp_seg"} & set(methods)  # reads the features of NACLIP
    assert (stems.misses, stems.hits) == (1, len(methods) - 1 - len(alike))
    assert features.misses == len(methods) - len(alike)


def test_another_frame_or_photo_is_another_stem(engine: Engine, forgetful: Engine, photo: Photo) -> None:
    mirrored = Photo(photo.pixels[:, ::-1].copy())
    for asked, side in ((photo, 160), (photo, 192), (mirrored, 160)):
        options = {"short_side": side}
        for method in ("naclip", "ldvc"):
            found = engine.segment(asked, WORDS, method=method, options=options)
            same(found, forgetful.segment(asked, WORDS, method=method, options=options))
    assert engine.cache.stats("stems").misses == 3


def test_windows_are_remembered_one_by_one(engine: Engine, forgetful: Engine, photo: Photo) -> None:
    options = {"short_side": 256, "window": 160, "stride": 96}
    for method in ("naclip", "resclip"):
        found = engine.segment(photo, WORDS, method=method, options=options)
        same(found, forgetful.segment(photo, WORDS, method=method, options=options))
    stems = engine.cache.stats("stems")
    assert stems.hits == stems.misses > 0


def test_a_deeper_look_is_enough_for_the_plain_one(engine: Engine, forgetful: Engine, photo: Photo) -> None:
    options = {"short_side": 160}
    for method in ("resclip", "naclip", "clip"):
        found = engine.segment(photo, WORDS, method=method, options=options)
        same(found, forgetful.segment(photo, WORDS, method=method, options=options))
    features = engine.cache.stats("features")
    assert (features.misses, features.hits) == (1, 2)


def test_a_small_budget_is_for_features_first(text: Path, photo: Photo) -> None:
    small = Engine("cpu", offline=True, cache_bytes=8 << 20, text_dir=text)
    for method in PYRAMIDS:
        small.segment(photo, WORDS, method=method, options={"short_side": 128})
    assert small.cache.stats("stems").nbytes == 0
    for method in ("naclip", "ldvc"):
        small.segment(photo, WORDS, method=method, options={"short_side": 160})
    stems = small.cache.stats("stems")
    assert (stems.hits, stems.misses) == (1, 3)
    assert 0 < stems.nbytes <= small.cache.budget / 8
