"""Networks that learnt ADE20K: how one becomes the stem's trunk, and what two of them agree on."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from recipe_toys import make_ade
from training_toys import CONFIG

from ovs_core.checkpoints import CheckpointError
from ovs_core.encoders.mini import build_mini
from ovs_core.encoders.mosaic import Mosaic
from ovs_core.training.data import read_rgb
from recipes.mini import ade
from recipes.mini.ade import MATERIALS, ade_names, agreed, kept_maps, start_mosaic
from recipes.mini.image import MATERIAL_TRUST, join_materials

WITH_MATERIALS = {**CONFIG, "stem": {**CONFIG["stem"], "material_names": 32}}
SHARED = Path(__file__).resolve().parents[3] / "shared"


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A folder with a saved network of random weights, and that network."""
    folder = tmp_path_factory.mktemp("ade")
    return folder, make_ade(folder)


def test_a_saved_network_starts_the_trunk(saved):
    """Every tensor lands where the graph has it; batch norms behind dilated convolutions are folded in."""
    folder, net = saved
    mosaic = Mosaic(32)
    start_mosaic(mosaic, folder)
    for name, value in net.state_dict().items():
        torch.testing.assert_close(mosaic.state_dict()[name], value, atol=1e-6, rtol=1e-6, msg=name)


def test_another_network_is_refused_in_one_sentence(saved, tmp_path):
    folder, _ = saved
    with pytest.raises(CheckpointError):
        start_mosaic(Mosaic(31), folder)
    with pytest.raises(CheckpointError, match="cannot be read as ONNX"):
        start_mosaic(Mosaic(32), tmp_path)
    (tmp_path / ade.MOSAIC_FILE).write_bytes(b"short")
    with pytest.raises(CheckpointError):
        start_mosaic(Mosaic(32), tmp_path)


def test_names_begin_with_none_of_them(saved):
    names = ade_names(saved[0])
    assert len(names) == 32
    assert names[:3] == ("", "material 1", "material 2")


@torch.no_grad()
def test_joining_keeps_what_was_learnt_and_adds_the_materials_words(saved):
    folder, _ = saved
    torch.manual_seed(1)
    before, after = build_mini(CONFIG).eval(), build_mini(WITH_MATERIALS).eval()
    words = F.normalize(torch.randn(32, CONFIG["embed_dim"]), dim=1)
    words[0] = 0
    join_materials(after, before.state_dict(), folder, words, "toy")
    pixels = torch.rand(1, 3, 64, 96) * 2 - 1
    (old, near), (new, after_near) = (one.visual.conv1.with_upsampling(pixels) for one in (before, after))
    half = F.interpolate(pixels, (32, 48), mode="bilinear", antialias=True)  # of each side is what it sees
    fine = after.visual.conv1.materials(half).logits.softmax(dim=1)
    belief = F.avg_pool2d(F.interpolate(fine, (16, 24), mode="bilinear"), 4)
    added = MATERIAL_TRUST * torch.einsum("kd,bkhw->bdhw", words, belief)
    text = words.shape[1]
    torch.testing.assert_close(new[:, :text] - old[:, :text], added, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(new[:, text:], old[:, text:], atol=1e-4, rtol=1e-4)
    assert not torch.equal(near, after_near)  # only because keys are made of tokens
    with pytest.raises(ValueError, match="must have a segmenter"):
        join_materials(before, before.state_dict(), folder, words, "toy")


def sure_of(label, classes, share, height=4, width=6):
    """Shares (classes, height, width) that give `share` to one class and the rest to "none"."""
    shares = torch.zeros(classes, height, width)
    shares[label], shares[0] = share, 1 - share
    return shares


def test_only_what_both_are_sure_of_counts():
    grass, tree, bed = 10, 5, 8
    assert (agreed(sure_of(grass, 32, 0.9), sure_of(grass, 151, 0.7)) == grass).all()
    assert (agreed(sure_of(grass, 32, 0.8), sure_of(grass, 151, 0.6)) == 0).all()  # their mean is below 0.75
    assert (agreed(sure_of(grass, 32, 1.0), sure_of(tree, 151, 1.0)) == 0).all()
    assert bed not in MATERIALS
    assert (agreed(sure_of(bed, 32, 1.0), sure_of(bed, 151, 1.0)) == 0).all()  # things are drawn by people
    flower = 67  # a name that only one of them knows
    assert (agreed(sure_of(grass, 32, 0.9), sure_of(flower, 151, 0.9)) == 0).all()


def test_a_map_covers_the_whole_photo():
    one, other = sure_of(10, 32, 1.0), sure_of(10, 151, 1.0, 3, 3)
    one[:, :, 3:] = sure_of(3, 32, 1.0)[:, :, 3:]
    other[:, :, 2:] = sure_of(3, 151, 1.0, 3, 3)[:, :, 2:]
    found = agreed(one, other)
    assert found.shape == (128, 128)
    assert found.dtype == np.uint8
    assert (found[:, :40] == 10).all()
    assert (found[:, 100:] == 3).all()


def test_maps_are_made_once(tmp_path, monkeypatch):
    asked = []

    def maps(photos, folder):
        for photo in photos:
            asked.append(photo.stem)
            yield photo, np.full((2, 2), 10, np.uint8)

    monkeypatch.setattr(ade, "material_maps", maps)
    photos = [Path("a.jpg"), Path("b.jpg")]
    for _ in range(2):
        found = kept_maps(photos, tmp_path, tmp_path / "maps.npz")
    assert asked == ["a", "b"]
    assert set(found) == {"a", "b"}
    assert (found["b"] == 10).all()
    assert [path.name for path in tmp_path.iterdir()] == ["maps.npz"]


@pytest.mark.skipif(not (SHARED / "pretrained/ade20k").is_dir(), reason="the authors' file is not here")
@torch.no_grad()
def test_the_authors_file_says_the_same():
    """onnxruntime on the file against the trunk, on a photo from the folder of samples."""
    onnxruntime = pytest.importorskip("onnxruntime")
    folder = SHARED / "pretrained" / "ade20k"
    mosaic = Mosaic(32).eval()
    start_mosaic(mosaic, folder)
    pixels = read_rgb(Path(__file__).resolve().parents[2] / "assets" / "photos" / "temple.jpg")
    frame = ade._frame(pixels, 512)
    session = onnxruntime.InferenceSession(str(folder / ade.MOSAIC_FILE))
    (expected,) = session.run(["decoder_add_cast"], {session.get_inputs()[0].name: frame})
    found = mosaic(torch.from_numpy(frame).permute(0, 3, 1, 2)).logits
    torch.testing.assert_close(found, torch.from_numpy(expected), atol=1e-3, rtol=1e-3)
