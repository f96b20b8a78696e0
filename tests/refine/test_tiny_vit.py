"""MobileSAM's encoder: official numbers, official names, and timm's TinyViT as a second witness."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from sam_toys import official_keys
from timm.models.tiny_vit import TinyVit

from ovs_core.refine.sam.tiny_vit import UNUSED, TinyViT, TinyViTConfig, distance_index

REFERENCE = Path(__file__).resolve().parents[3] / "shared/reference/parity/mobilesam/tiny_vit.safetensors"


def randomised(module, seed=0):
    """Every parameter and running statistic drawn anew, so that nothing is left at 0 or 1."""
    generator = torch.Generator().manual_seed(seed)
    for name, value in module.state_dict().items():
        if name.endswith("running_var"):
            value.copy_(0.5 + torch.rand(value.shape, generator=generator))
        elif value.is_floating_point():
            value.copy_(0.3 * torch.randn(value.shape, generator=generator))
    return module.eval()


def names_in_timm(state, depths):
    """Our names and values from timm's: a stage there begins with the step that ends one here."""
    answer = {}
    for name, value in state.items():
        if name.startswith("head."):
            continue
        name = name.replace(".conv.", ".c.")
        name = name.replace("patch_embed.conv1", "patch_embed.seq.0").replace(
            "patch_embed.conv2", "patch_embed.seq.2"
        )
        if name.startswith("stages."):
            _, stage, rest = name.split(".", 2)
            name = f"layers.{int(stage) - rest.startswith('downsample')}.{rest}"
        answer[name] = value
    return answer


@pytest.mark.parametrize("size", [(96, 160), (64, 448)], ids=["padded windows", "whole windows along a side"])
def test_the_trunk_answers_as_timms_does(size):
    widths, depths, heads, windows = (16, 24, 32, 40), (1, 2, 1, 2), (2, 3, 4, 5), (7, 7, 6, 4)
    theirs = randomised(
        TinyVit(embed_dims=widths, depths=depths, num_heads=heads, window_sizes=windows, drop_path_rate=0.0)
    )
    ours = TinyViT(TinyViTConfig(widths, depths, heads, windows, strides=(2, 2, 2))).eval()
    given = names_in_timm(theirs.state_dict(), depths)
    missing, unexpected = ours.load_state_dict(given, strict=False)
    assert unexpected == []
    assert {name.split(".")[0] for name in missing} == {"neck"}
    frame = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected, answer = theirs.forward_features(frame), ours.trunk(frame)
    assert answer.shape == (2, 40, size[0] // 32, size[1] // 32)
    assert expected.abs().max() > 1
    torch.testing.assert_close(answer, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.skipif(not REFERENCE.is_file(), reason="the official tensors lie beside the repository only")
def test_the_embedding_equals_the_official_one():
    # The official module copied its attention biases before the file was loaded, so the reference is without
    # them (ovs_core/refine/sam/tiny_vit.py); the tests above and below prove those.
    reference = load_file(REFERENCE)
    state = {
        name.removeprefix("w."): value.float() if value.is_floating_point() else value
        for name, value in reference.items()
        if name.startswith("w.") and not name.removeprefix("w.").startswith(UNUSED)
    }
    for name in state:
        if name.endswith("attention_biases"):
            state[name] = torch.zeros_like(state[name])
    model = TinyViT(TinyViTConfig(widths=(16, 32, 40, 320), depths=(2, 2, 2, 1))).eval()
    model.load_state_dict(state)
    frame = reference["in.image_small"].float().repeat_interleave(16, 2).repeat_interleave(16, 3)
    with torch.no_grad():
        answer = model(frame)[:, ::8]
    torch.testing.assert_close(answer, reference["out.embedding_every_8th_channel"], atol=1e-4, rtol=0)


def test_names_and_shapes_are_the_official_ones():
    prefix = "image_encoder."
    official = {
        name.removeprefix(prefix): shape for name, shape in official_keys().items() if name.startswith(prefix)
    }
    with torch.device("meta"):
        ours = {name: tuple(value.shape) for name, value in TinyViT().state_dict().items()}
    used = {name: shape for name, shape in official.items() if not name.startswith(UNUSED)}
    assert ours == used
    assert len(official) - len(used) == 4  # norm_head and head


def test_cells_share_a_bias_by_their_distance():
    index = distance_index(3)  # cells are numbered row by row
    assert index.shape == (9, 9)
    assert index[0].tolist() == list(range(9))
    assert index[4].tolist() == [4, 3, 4, 1, 0, 1, 4, 3, 4]
    assert torch.equal(index, index.T)


def test_the_last_two_stages_have_the_same_stride():
    model = randomised(TinyViT(TinyViTConfig((8, 8, 8, 8), (1, 1, 1, 1), (1, 2, 2, 2), (7, 7, 7, 7))))
    with torch.no_grad():
        assert model(torch.zeros(1, 3, 64, 96)).shape == (1, 256, 4, 6)


def test_heads_must_divide_the_width():
    with pytest.raises(ValueError, match=r"widths\[2\]=30 must be a multiple of heads\[2\]=4"):
        TinyViTConfig(widths=(16, 24, 30, 40), heads=(2, 3, 4, 5))
