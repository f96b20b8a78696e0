"""The image tower taken apart: equal to open_clip's own pass on any grid; windows, progress, cancelling."""

import threading

import numpy as np
import pytest
import torch
from open_clip.transformer import QuickGELU, VisionTransformer
from tiny_clip import Stem, make_visual, naclip_tower, randomise

from ovs_core.devices import Cancelled
from ovs_core.encoders.clip_vit import (
    BATCH_TOKENS,
    MAX_WINDOW_SIDE,
    VisionEncoder,
    check_visual,
    to_joint_space,
    tokens_before_last_block,
    tower_identity,
)
from ovs_core.encoders.positions import resize_positions
from ovs_core.image import to_frame
from ovs_core.methods.training_free.attention_rules import RULES, leave_last_block
from ovs_core.options import Preset


def make_encoder(visual=None, **changes):
    settings = {
        "name": "tiny",
        "identity": "tiny:0:float32",
        "visual": visual or make_visual(),
        "mean": (0.5, 0.4, 0.3),
        "std": (0.2, 0.3, 0.4),
        "patch": 16,
        "device": torch.device("cpu"),
        "dtype": torch.float32,
    }
    return VisionEncoder(**{**settings, **changes})


def make_preset(short_side=64, window=None, stride=16):
    return Preset(40.0, 0.1, short_side, window, stride, "single1")


def photo(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def rebuilt_class_feature(visual, pixels):
    x = tokens_before_last_block(visual, pixels)
    grid = (pixels.shape[2] // 16, pixels.shape[3] // 16)
    x = leave_last_block(RULES["clip"], visual.transformer.resblocks[-1], x, grid)
    return to_joint_space(visual, x)[:, 0]


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"act_layer": QuickGELU},
        {"ls_init_value": 0.5},  # layer scale
        {"no_ln_pre": True},
        {"layers": 1},
        {"patch_dropout": 0.5},  # must not drop anything outside training
    ],
    ids=["gelu", "quickgelu", "layer_scale", "no_ln_pre", "one_block", "patch_dropout"],
)
@pytest.mark.parametrize("seed", [0, 7])
def test_the_rebuilt_tower_equals_open_clips(settings, seed):
    visual = make_visual(seed, **settings)
    pixels = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(seed))
    expected = visual(pixels)
    assert expected.std() > 0.1
    torch.testing.assert_close(rebuilt_class_feature(visual, pixels), expected, atol=1e-5, rtol=0)


def test_the_rebuilt_tower_equals_open_clips_in_the_layout_of_b16():
    torch.manual_seed(3)
    visual = VisionTransformer(224, 16, 768, 12, 12, 4.0, output_dim=512, act_layer=QuickGELU).eval()
    pixels = torch.randn(1, 3, 224, 224)
    with torch.no_grad():
        torch.testing.assert_close(rebuilt_class_feature(visual, pixels), visual(pixels), atol=1e-5, rtol=0)


@pytest.mark.parametrize("size", [(48, 80), (96, 32), (16, 160), (16, 16)])
def test_another_size_equals_a_tower_built_for_that_size(size):
    visual = make_visual(1)
    other = make_visual(1, image_size=size)
    state = visual.state_dict()
    grid = (size[0] // 16, size[1] // 16)
    other.load_state_dict(
        {**state, "positional_embedding": resize_positions(visual.positional_embedding, grid)}
    )
    pixels = torch.randn(2, 3, *size)
    torch.testing.assert_close(rebuilt_class_feature(visual, pixels), other(pixels), atol=1e-5, rtol=0)


def test_any_module_may_stand_for_the_patch_embedding():
    visual = make_visual()
    visual.conv1 = randomise(Stem())
    x = tokens_before_last_block(visual, torch.randn(1, 3, 48, 80))
    assert x.shape == (1, 1 + 3 * 5, 32)
    features = make_encoder(visual).encode(photo(30, 50), make_preset(short_side=48))
    assert features.grid == (3, 5)


@pytest.mark.parametrize("image", [0, 1])
def test_positions_with_naclips_scale_factors_reproduce_its_tokens(image):
    visual, tensors = naclip_tower()
    pixels = tensors[f"in.image{image}"]  # 112 x 112, and 96 x 160
    grid = (pixels.shape[2] // 16, pixels.shape[3] // 16)
    x = tokens_before_last_block(visual, pixels, naclip_scale_factor=True)
    tokens = to_joint_space(
        visual, leave_last_block(RULES["clip"], visual.transformer.resblocks[-1], x, grid)
    )
    torch.testing.assert_close(tokens, tensors[f"out.clip.tokens{image}"], atol=1e-5, rtol=0)


def ramp(side=2):
    """Positions whose patch part is the column number, class row 9: (1 + side*side, 1)."""
    columns = torch.arange(side, dtype=torch.float32).repeat(side)
    return torch.cat([torch.tensor([9.0]), columns])[:, None]


def test_positions_by_hand():
    # Half-pixel centres: column c of 4 samples column (c + 0.5) / 2 - 0.5 of 2, clamped: 0, 0.25, 0.75, 1.
    resized = resize_positions(ramp(), (1, 4), mode="bilinear")
    torch.testing.assert_close(resized[:, 0], torch.tensor([9.0, 0.0, 0.25, 0.75, 1.0]))
    # NACLIP: (c + 0.5) / (4.1 / 2) - 0.5 = -0.256 (clamped), 0.2317, 0.7195, 1.207 (clamped).
    quirk = resize_positions(ramp(), (1, 4), mode="bilinear", naclip_scale_factor=True)
    torch.testing.assert_close(
        quirk[:, 0], torch.tensor([9.0, 0.0, 0.231707, 0.719512, 1.0]), atol=1e-5, rtol=0
    )


def test_positions_keep_rows_and_columns_apart():
    wide = resize_positions(ramp(4), (3, 6), mode="bicubic")[1:, 0].reshape(3, 6)
    torch.testing.assert_close(wide, wide[:1].expand(3, 6))  # the same in every row
    assert (wide[0].diff() > 0).all()


def test_positions_on_the_training_grid_come_back_untouched():
    positions = torch.randn(1 + 16, 5)
    assert resize_positions(positions, (4, 4)) is positions


@pytest.mark.parametrize("rows", [1, 4, 16])
def test_positions_of_no_square_grid_are_refused(rows):
    with pytest.raises(ValueError, match=r"1 \+ g\*g rows"):
        resize_positions(torch.zeros(rows, 8), (2, 3))


def test_a_whole_photo_is_one_window_of_the_frame():
    encoder = make_encoder()
    pixels = photo(60, 100)
    features = encoder.encode(pixels, make_preset(short_side=48))
    assert features.image_size == (60, 100)
    assert features.grid == (3, 5)
    (window,) = features.windows
    assert (window.top, window.left, window.grid) == (0, 0, (3, 5))
    mean, std = torch.tensor(encoder.mean).view(3, 1, 1), torch.tensor(encoder.std).view(3, 1, 1)
    frame = (to_frame(pixels, (48, 80)) - mean) / std
    expected = tokens_before_last_block(encoder.visual, frame[None])[0]
    torch.testing.assert_close(window.tokens, expected)


def test_each_window_sees_its_own_part_of_the_frame():
    encoder = make_encoder()
    features = encoder.encode(photo(64, 112), make_preset(short_side=64, window=32, stride=32))
    whole = to_frame(photo(64, 112), (64, 112))
    mean, std = torch.tensor(encoder.mean).view(3, 1, 1), torch.tensor(encoder.std).view(3, 1, 1)
    whole = (whole - mean) / std
    assert [(one.top, one.left) for one in features.windows] == [
        (top, left) for top in (0, 2) for left in (0, 2, 4, 5)
    ]
    for window in features.windows:
        assert window.grid == (2, 2)
        top, left = 16 * window.top, 16 * window.left
        crop = whole[None, :, top : top + 32, left : left + 32]
        torch.testing.assert_close(
            window.tokens, tokens_before_last_block(encoder.visual, crop)[0], atol=1e-5, rtol=0
        )


def test_a_window_never_has_more_tokens_than_the_cap():
    encoder = make_encoder()
    limit = MAX_WINDOW_SIDE
    assert encoder.boxes((10, 100), make_preset()) == ((0, 0, 10, 100),)
    long = encoder.boxes((30, 400), make_preset())
    assert {box[2:] for box in long} == {(30, limit)}
    assert long[0][:2] == (0, 0)
    assert long[-1][:2] == (0, 400 - limit)
    huge = encoder.boxes((200, 200), make_preset(short_side=3200, window=3200, stride=1600))
    assert {box[2:] for box in huge} == {(limit, limit)}


@pytest.mark.parametrize("size", [(1, 1), (1, 5000), (5000, 3), (17, 16)])
@pytest.mark.parametrize("window", [None, 32])
def test_photos_of_any_shape(size, window):
    features = make_encoder().encode(photo(*size), make_preset(short_side=48, window=window))
    covered = torch.zeros(features.grid)
    for one in features.windows:
        covered[one.top : one.top + one.grid[0], one.left : one.left + one.grid[1]] += 1
        assert torch.isfinite(one.tokens).all()
    assert covered.min() >= 1


def test_progress_counts_windows_and_ends_at_all():
    seen = []
    preset = make_preset(short_side=640, window=320, stride=160)  # 20 x 20 = 400 tokens a window
    make_encoder().encode(photo(64, 64), preset, progress=lambda done, total: seen.append((done, total)))
    assert BATCH_TOKENS // 401 == 5
    assert seen == [(5, 9), (9, 9)]


def test_cancelling_stops_between_batches():
    cancel = threading.Event()
    preset = make_preset(short_side=640, window=320, stride=160)
    seen = []

    def stop_after_first(done, total):
        seen.append(done)
        cancel.set()

    with pytest.raises(Cancelled):
        make_encoder().encode(photo(64, 64), preset, progress=stop_after_first, cancel=cancel)
    assert seen == [5]


def test_what_ran_before_changes_nothing():
    encoder = make_encoder()
    preset = make_preset(short_side=48, window=32, stride=16)
    first = encoder.encode(photo(60, 100, 1), preset)
    encoder.encode(photo(90, 30, 2), preset)
    again = encoder.encode(photo(60, 100, 1), preset)
    for a, b in zip(first.windows, again.windows, strict=True):
        assert torch.equal(a.tokens, b.tokens)


def test_features_hold_no_more_memory_than_they_say():
    features = make_encoder().encode(photo(64, 64), make_preset(short_side=64, window=32, stride=16))
    assert features.nbytes == 9 * 5 * 32 * 4
    assert all(one.tokens.untyped_storage().nbytes() == one.tokens.nbytes for one in features.windows)


def test_half_precision_tokens_stay_half():
    visual = make_visual().to(torch.bfloat16)
    features = make_encoder(visual, dtype=torch.bfloat16).encode(photo(40, 60), make_preset(short_side=48))
    assert features.windows[0].tokens.dtype == torch.bfloat16
    full = make_encoder(make_visual()).encode(photo(40, 60), make_preset(short_side=48))
    gap = (features.windows[0].tokens.float() - full.windows[0].tokens).abs().mean()
    assert gap < 0.05 * full.windows[0].tokens.abs().mean()


def test_the_tower_is_taken_over_for_answering():
    visual = make_visual().train().requires_grad_(True)
    make_encoder(visual)
    assert not visual.training
    assert not any(parameter.requires_grad for parameter in visual.parameters())


def test_identity_tells_apart_all_that_changes_features():
    one = make_encoder()
    plans = [
        make_preset(),
        make_preset(short_side=80),
        make_preset(window=32),
        make_preset(window=32, stride=32),
    ]
    linear = make_encoder(position_mode="bilinear")
    identities = {one.features_identity(plan) for plan in plans}
    identities |= {linear.features_identity(plans[0])}
    assert len(identities) == 5
    assert one.encode(photo(20, 30), plans[0]).encoder == one.features_identity(plans[0])
    assert tower_identity("mini", "0f3a9c5d21b7ffff", torch.bfloat16) == "mini:0f3a9c5d21b7:bfloat16"


@pytest.mark.parametrize(
    "visual",
    [torch.nn.Linear(2, 2), make_visual(attentional_pool=True), make_visual(qk_norm=True)],
    ids=["no_vit", "attention_pool", "query_norm"],
)
def test_other_architectures_are_refused(visual):
    with pytest.raises(ValueError, match="visual must"):
        check_visual(visual)
