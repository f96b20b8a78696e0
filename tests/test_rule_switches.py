"""ResCLIP's first half, attention over all windows, and names that are not there: by hand and by property."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from rule_toys import WIDTH, random_window, some_text, two_windows
from tiny_clip import make_visual

from ovs_core.methods.training_free import attention_rules
from ovs_core.methods.training_free.absent import (
    LEAST_OVERLAP,
    absent_names,
    boxes,
    min_max,
    overlap,
    transitions,
)
from ovs_core.methods.training_free.attention_rules import RULES, attention_weights, leave_last_block
from ovs_core.methods.training_free.blocks import block_outputs, stitched
from ovs_core.methods.training_free.cross_correlation import RESCLIP, CrossCorrelation, earlier_blocks
from ovs_core.methods.training_free.model import TrainingFree
from ovs_core.types import Features, Window


class TestResClip:
    def test_without_earlier_blocks_and_gain_it_is_its_host(self):
        visual, window = make_visual(), random_window()
        host = leave_last_block(
            RULES["naclip"], visual.transformer.resblocks[-1], window.tokens[None], window.grid
        )
        plain = CrossCorrelation(RULES["naclip"], gain=1.0).leave(visual, window, {"earlier_weight": 0.0})
        torch.testing.assert_close(plain, host[0])

    def test_attention_alone_is_the_mean_of_blocks_six_to_nine(self):
        visual = make_visual(layers=12)
        window = random_window(layers=12)
        found = torch.stack(
            list(RESCLIP.heads(visual, window, torch.arange(16), {"earlier_weight": 1.0}))
        ).mean(dim=0)
        entering = block_outputs(visual, window)  # what leaves block n is at n - 1 and enters block n + 1
        every = [
            attention_weights(RULES["clip"], visual.transformer.resblocks[n - 1], entering[n - 2], (3, 5))
            for n in (6, 7, 8, 9)
        ]
        torch.testing.assert_close(found, 2 * torch.stack(every).mean(dim=0))

    @pytest.mark.parametrize(("layers", "expected"), [(3, 1), (4, 2), (12, 4), (24, 7)])
    def test_as_many_blocks_as_lie_there(self, layers, expected):
        visual = make_visual(layers=layers)
        assert len(earlier_blocks(visual, random_window(layers=layers))) == expected

    def test_weights_and_output_tell_the_same_story(self):
        visual = make_visual(5, heads=1, ls_init_value=0.5)
        block, window = visual.transformer.resblocks[-1], random_window()
        (weights,) = RESCLIP.heads(visual, window, torch.arange(16), {})
        torch.testing.assert_close(weights.sum(dim=1), torch.full((16,), 2.0))
        values = attention_rules.project_qkv(block, window.tokens[None])[2]
        expected = block.ls_1(attention_rules.merge_heads(block, weights @ values))[0]
        torch.testing.assert_close(RESCLIP.leave(visual, window, {}), expected, atol=1e-5, rtol=0)

    def test_the_weight_changes_the_answer(self):
        visual, window = make_visual(), random_window()
        little, much = (RESCLIP.leave(visual, window, {"earlier_weight": w}) for w in (0.2, 0.6))
        assert not torch.allclose(little, much, atol=1e-3)
        usual = RESCLIP.leave(visual, window, {"earlier_weight": 0.4})
        assert torch.equal(RESCLIP.leave(visual, window, {}), usual)


class TestStitch:
    def test_tokens_are_means_where_windows_overlap(self):
        features = two_windows()
        (window,) = stitched(features).windows
        left, right = (one.tokens for one in features.windows)
        assert window.grid == (2, 5)
        torch.testing.assert_close(window.tokens[0], (left[0] + right[0]) / 2)
        rows = window.tokens[1:].view(2, 5, WIDTH)
        a, b = (one[1:].view(2, 3, WIDTH) for one in (left, right))
        assert torch.equal(rows[:, :2], a[:, :2])
        torch.testing.assert_close(rows[:, 2], (a[:, 2] + b[:, 0]) / 2)
        assert torch.equal(rows[:, 3:], b[:, 1:])
        assert window.taps[0].shape == window.tokens.shape

    def test_one_window_is_left_as_it_is(self):
        features = Features("tiny", (48, 80), (3, 5), (random_window(),))
        assert stitched(features) is features

    @pytest.mark.parametrize("name", ["clip", "sclip", "clearclip", "naclip"])
    def test_a_patch_sees_what_its_window_does_not_hold(self, name):
        method, text, features = TrainingFree(make_visual(), RULES[name]), some_text(), two_windows()
        changed = features.windows[1].tokens.clone()
        changed[3] += 1  # the right window's last place of row 0: the left one does not hold it
        other = replace(features, windows=(features.windows[0], replace(features.windows[1], tokens=changed)))
        for options, moved in (({}, False), ({"stitch": True}, True)):
            before, after = (method.ask(one, text, options).evidence.rows for one in (features, other))
            assert torch.equal(before[..., 0], after[..., 0]) != moved

    def test_rows_of_many_tokens_are_mixed_in_parts(self, monkeypatch):
        visual, window = make_visual(), random_window((4, 6))
        block = visual.transformer.resblocks[-1]
        for name in RULES:
            whole = leave_last_block(RULES[name], block, window.tokens[None], (4, 6))
            with monkeypatch.context() as patch:
                patch.setattr(attention_rules, "ROWS_AT_ONCE", 7)
                parts = leave_last_block(RULES[name], block, window.tokens[None], (4, 6))
            torch.testing.assert_close(parts, whole, atol=1e-5, rtol=0)

    def test_views_are_those_of_the_stitched_frame(self):
        method, features = TrainingFree(make_visual(), RULES["naclip"]), two_windows()
        asked = {"views": {"attention"}, "point": (0.0, 0.0)}
        (apart,) = method.ask(features, some_text(), {}, **asked).views
        (whole,) = method.ask(features, some_text(), {"stitch": True}, **asked).views
        assert (apart.maps[0, :, 3:] == 0).all()
        assert (whole.maps[0, :, 3:] > 0).all()


class TestAbsent:
    def test_overlap_by_hand(self):
        before = torch.tensor([[[1.0, 1.0, 0.0, 0.0]], [[0.1, 0.1, 0.1, 0.1]]])
        after = torch.tensor([[[1.0, 1.0, 0.0, 0.0]], [[1.0, 0.0, 0.5, 0.5]]])
        # (1 + 1) / (2 + 2) of a sure map that stays; 0.2 / (0.4 + 2) of a weak one that spreads.
        torch.testing.assert_close(overlap(before, after), torch.tensor([0.5, 0.2 / 2.4]))

    def test_boxes_go_round_each_part(self):
        one = np.zeros((1, 4, 6), np.float32)
        one[0, 0, 0], one[0, 1, 1], one[0, 3, 5], one[0, 0, 4] = 1.0, 0.5, 0.41, 0.39
        expected = torch.zeros(1, 4, 6)
        expected[0, :2, :2] = 1  # two patches that meet at a corner: their box
        expected[0, 3, 5] = 1
        assert torch.equal(boxes(one), expected)

    def test_transitions_by_hand(self):
        # Columns, then rows of [[3, 1], [1, 1]] sum to 1: it tends to [[a, 1 - a], [1 - a, a]] with
        # a / (1 - a) = sqrt(3 * 1 / (1 * 1)), a = 0.634; squared, a^2 + (1 - a)^2 = 0.536.
        found = transitions(torch.tensor([[3.0, 1.0], [1.0, 1.0]]))
        torch.testing.assert_close(found, torch.tensor([[0.536, 0.464], [0.464, 0.536]]), atol=2e-3, rtol=0)
        random = transitions(torch.rand(20, 20, generator=torch.Generator().manual_seed(0)) + 0.1)
        torch.testing.assert_close(random.sum(dim=0), torch.ones(20), atol=1e-3, rtol=0)
        torch.testing.assert_close(random, random.T)

    def test_maps_from_zero_to_one(self):
        maps = min_max(torch.tensor([[[2.0, 4.0, 3.0]], [[5.0, 5.0, 5.0]]]))
        torch.testing.assert_close(maps, torch.tensor([[[0.0, 1.0, 0.5]], [[0.0, 0.0, 0.0]]]))

    def found(self, cosines, typed, least=LEAST_OVERLAP, attending=20.0):
        """What is absent in a tower whose patches attend to their own half of the frame of 2 x 4."""
        visual = make_visual(heads=1)
        block = visual.transformer.resblocks[1]
        with torch.no_grad():
            block.ln_1 = torch.nn.Identity()
            block.attn.in_proj_weight.zero_()
            block.attn.in_proj_bias.zero_()
            for part in (0, WIDTH):  # queries and keys are the first two channels
                block.attn.in_proj_weight[part, 0] = block.attn.in_proj_weight[part + 1, 1] = 1
        tokens = torch.zeros(9, WIDTH)
        tokens[[1, 2, 5, 6], 0] = attending  # the left half
        tokens[[3, 4, 7, 8], 1] = attending
        window = Window(0, 0, (2, 4), torch.zeros(9, WIDTH), (tokens,))
        features = Features("tiny", (32, 64), (2, 4), (window,))
        return absent_names(visual, features, torch.tensor(cosines).view(-1, 2, 4), typed, least).tolist()

    def test_a_weak_name_that_wins_nothing_is_absent(self):
        left = [0.3, 0.3, 0.2, 0.2] * 2
        right = [0.2, 0.2, 0.3, 0.3] * 2
        nothing = [0.21, 0.2, 0.22, 0.2, 0.2, 0.22, 0.2, 0.21]
        assert self.found([left, right, nothing], 3) == [False, False, True]
        assert self.found([left, right, nothing], 2) == [False, False, False]  # hidden names stay
        assert self.found([left, right, nothing], 2, least=0.5) == [True, True, False]

    def test_where_nothing_would_stay_everything_does(self):
        even = [0.2, 0.2001, 0.2, 0.2001] * 2
        names = [even] * 8  # an eighth each: (P R) / (P + R) is below 0.15
        assert self.found(names, 8) == [False] * 8
        assert self.found(names, 7) == [True] * 7 + [False]

    def test_the_switch_takes_an_absent_name_out_everywhere(self):
        features, text = two_windows(), some_text(20, other=2)
        method = TrainingFree(make_visual(), RULES["naclip"])
        asked = (method.ask(features, text, {"drop_absent": on}) for on in (False, True))
        plain, dropped = (answer.evidence.rows for answer in asked)
        absent = absent_names(method.visual, features, plain, 20)
        assert 0 < int(absent.sum()) < 20
        assert (dropped[absent] == -100).all()
        assert torch.equal(dropped[~absent], plain[~absent])
