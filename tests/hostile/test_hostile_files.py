"""Damaged files of every kind that is opened here: an answer, or one sentence that shows no path."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from damage import JSON, damaged, is_one_sentence, picture_files, refusal
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import save

from ovs_core.checkpoints import CheckpointError, read_metadata, read_state
from ovs_core.image import ImageError, read_photo
from ovs_core.methods.mask_classification.head_file import load_mask_head
from ovs_core.methods.mvp_seg.contexts import load_contexts
from ovs_core.vocabulary import MAX_NAME_LENGTH, MAX_NAMES, VocabularyError, read_vocabulary

PICTURES = picture_files()
TOWER = "ab" * 32
CLASS_LISTS = (
    b"cat|kitten\ndog\n# grass\nsky, air\n",
    b"0:background\n1:cat,kitten\n2:dog\n255:void\n",
    b"\xef\xbb\xbfname;color\ncat;red\n",
    b'["cat", "dog"]',
    b"names:\n  0: cat\n  1: dog\n",
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("hostile")


@pytest.mark.parametrize("kind", PICTURES)
@given(data=st.data())
def test_a_damaged_picture(folder: Path, kind: str, data: st.DataObject) -> None:
    content = data.draw(damaged(PICTURES[kind]))
    path = folder / "photo.png"
    path.write_bytes(content)
    for source in (content, path):
        said = refusal(ImageError, read_photo, source)
        if said is not None:
            assert is_one_sentence(said)
            assert str(folder) not in said
        else:
            photo = read_photo(source)
            assert photo.pixels.dtype == np.uint8
            assert photo.pixels.shape[2] == 3
            assert 0 < photo.pixels.size <= 300_000_000


@given(content=st.binary(max_size=300))
def test_bytes_that_are_no_picture(content: bytes) -> None:
    said = refusal(ImageError, read_photo, content)
    assert said is None or is_one_sentence(said)


@pytest.fixture(scope="module")
def weight_files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """A file of tensors in each form that is read."""
    path = tmp_path_factory.mktemp("weights") / "toy.pt"
    torch.save({"a": torch.arange(6.0).reshape(2, 3), "b": torch.ones(2, dtype=torch.int64)}, path)
    metadata = {"format": "ovs-lens/mvp-seg-contexts/1", "tower": TOWER, "k": "3"}
    toy = save({"contexts": torch.zeros(3, 4, 8), "global": torch.ones(4, 8)}, metadata)
    return {"safetensors": toy, "pt": path.read_bytes()}


def refused_by_all_readers(path: Path) -> list[str]:
    """What each reader of weight files says of one."""
    readers: list[Callable[[Path], Any]] = [
        read_state,
        read_metadata,
        lambda file: load_contexts(file, TOWER),
        lambda file: load_mask_head(file, None),
    ]
    return [said for read in readers if (said := refusal(CheckpointError, read, path)) is not None]


@pytest.mark.parametrize("form", ["safetensors", "pt"])
@given(data=st.data())
def test_a_damaged_weight_file(
    folder: Path, weight_files: dict[str, bytes], form: str, data: st.DataObject
) -> None:
    path = folder / f"weights.{form}"
    path.write_bytes(data.draw(damaged(weight_files[form])))
    assert all("Traceback" not in said for said in refused_by_all_readers(path))


@given(header=JSON, numbers=st.binary(max_size=64))
def test_a_weight_file_with_any_header(folder: Path, header: object, numbers: bytes) -> None:
    text = json.dumps(header).encode()
    path = folder / "header.safetensors"
    path.write_bytes(len(text).to_bytes(8, "little") + text + numbers)
    assert all("Traceback" not in said for said in refused_by_all_readers(path))


@pytest.mark.parametrize("whole", CLASS_LISTS)
@given(data=st.data())
def test_a_damaged_class_list(folder: Path, whole: bytes, data: st.DataObject) -> None:
    path = folder / "classes.txt"
    path.write_bytes(data.draw(damaged(whole)))
    said = refusal(VocabularyError, read_vocabulary, f"@{path}")
    if said is not None:
        assert is_one_sentence(said)
        return
    names = [name for group in read_vocabulary(f"@{path}").classes for name in group]
    assert 0 < len(names) <= MAX_NAMES
    assert max(map(len, names)) <= MAX_NAME_LENGTH


@pytest.mark.parametrize("path", ["/dev/zero", "/dev", "/nowhere/at/all"])
def test_a_class_list_that_is_no_file(path: str) -> None:
    with pytest.raises(VocabularyError, match=r"^[^\n]+$"):
        read_vocabulary(f"@{path}")


MEMORY_SCRIPT = """
import os, resource, sys
from ovs_core.image import read_photo

for path in sys.argv[1:]:
    if (child := os.fork()) == 0:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        pixels = read_photo(path).pixels
        more = 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
        print(more / (pixels.shape[0] * pixels.shape[1]), flush=True)
        os._exit(0)
    os.waitpid(child, 0)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="measures a process made by fork")
def test_a_small_file_of_a_large_picture_takes_little_memory(folder: Path) -> None:
    """16 million pixels of one colour, which some kilobytes hold. At the limit of 100 it is 1.6 GB."""
    paths = [large_picture(folder, mode) for mode in ("RGB", "RGBA", "LA", "P", "I;16", "F", "CMYK")]
    finished = subprocess.run(
        [sys.executable, "-c", MEMORY_SCRIPT, *map(str, paths)],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        cwd=Path(__file__).parents[2],
        timeout=300,
    )
    bytes_per_pixel = [float(line) for line in finished.stdout.split()]
    assert len(bytes_per_pixel) == len(paths), finished.stderr
    assert max(bytes_per_pixel) < 16, dict(zip(paths, bytes_per_pixel, strict=True))


def large_picture(folder: Path, mode: str) -> Path:
    side = 4000
    path = folder / (f"{mode[0]}{len(mode)}.tif" if mode in ("F", "CMYK") else f"{mode[0]}{len(mode)}.png")
    if mode in ("F", "I;16"):
        dtype = np.float32 if mode == "F" else np.uint16
        picture = Image.fromarray(np.full((side, side), 0.5 if mode == "F" else 40_000, dtype))
    else:
        picture = Image.new(mode, (side, side))
    picture.save(
        path, **({"compression": "tiff_deflate"} if path.suffix == ".tif" else {"compress_level": 1})
    )
    return path
