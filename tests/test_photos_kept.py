"""A photo that is asked about again is not read or shrunk again, and one that was changed is read anew."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ovs_core.engine import Engine
from ovs_core.image import ImageError
from ovs_core.ui.asking import Question
from ovs_core.ui.compare_tab import compare_steps

SIZE = (1200, 1600)  # H, W


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    return Engine("cpu", offline=True, text_dir=tmp_path_factory.mktemp("text"))


def written(path: Path, color: int) -> Path:
    Image.fromarray(np.full((*SIZE, 3), color, np.uint8)).save(path)
    return path


def question(path: Path) -> Question:
    return Question(str(path), "sky; grass", "default", "mini", "none")


def test_a_file_is_read_once_until_it_changes(engine: Engine, tmp_path: Path) -> None:
    path = written(tmp_path / "photo.png", 90)
    first = question(path).read_photo(engine)
    assert question(path).read_photo(engine).pixels is first.pixels
    written(tmp_path / "new.png", 200).replace(path)
    second = question(path).read_photo(engine)
    assert (int(first.pixels.max()), int(second.pixels.min())) == (90, 200)
    assert second.key != first.key


def test_methods_that_are_compared_share_the_smaller_copy(engine: Engine, tmp_path: Path) -> None:
    path = written(tmp_path / "photo.png", 120)
    *_, (status, comparison) = compare_steps(engine, None, question(path), ["naclip", "sclip", "clearclip"])
    assert (status.kind, len(comparison.results)) == ("done", 3)
    copies = engine.cache.stats("copies")
    assert (copies.misses, copies.hits) == (1, 2)
    asked = Engine("cpu", offline=True, cache_bytes=0).segment(path, "sky; grass", side=1024)
    (kept,) = [engine.segment(path, "sky; grass", side=1024)]
    np.testing.assert_array_equal(kept.image, asked.image)
    assert kept.image.shape == (768, 1024, 3)
    np.testing.assert_array_equal(kept.labels, asked.labels)


def test_what_is_gone_or_no_photo_is_one_sentence(engine: Engine, tmp_path: Path) -> None:
    path = tmp_path / "letter.png"
    path.write_bytes(b"Dear Sir")
    for _ in range(2):  # nothing bad is remembered
        with pytest.raises(ImageError):
            question(path).read_photo(engine)
    path.unlink()
    with pytest.raises(ValueError, match="choose it again"):
        question(path).read_photo(engine)
