"""Steps of long work: who is told, and when a wish to stop counts."""

import threading
from dataclasses import replace

import pytest
import torch

from ovs_core.devices import Cancelled, advance, quick_bfloat16
from ovs_core.options import Preset

PRESET = Preset(scale=20, threshold=0.2, short_side=512, window=None, stride=0, templates="single1")


@pytest.fixture
def cancel():
    event = threading.Event()
    event.set()
    return event


def test_every_step_but_the_beginning_is_told():
    told = []
    for done in range(3):
        advance(done, 2, lambda *step: told.append(step), None)
    assert told == [(1, 2), (2, 2)]
    advance(1, 2, None, threading.Event())


@pytest.mark.parametrize("done", [0, 1])
def test_a_wish_to_stop_counts_while_steps_are_left(cancel, done):
    told = []
    with pytest.raises(Cancelled):
        advance(done, 2, lambda *step: told.append(step), cancel)
    assert told == [(1, 2)][:done]


def test_what_is_done_is_kept(cancel):
    told = []
    advance(2, 2, lambda *step: told.append(step), cancel)
    assert told == [(2, 2)]


def test_settings_that_are_given_change_and_no_others():
    assert PRESET.with_overrides({}) == PRESET
    assert PRESET.with_overrides({"threshold": 0.0}) == replace(
        PRESET, threshold=0.0
    )  # 0 is a setting, not "none"
    assert PRESET.with_overrides({"scale": 7, "short_side": 64}) == replace(PRESET, scale=7, short_side=64)
    with pytest.raises(ValueError, match="scale must be above 0, got 0"):
        PRESET.with_overrides({"scale": 0})


@pytest.mark.parametrize(("has_it", "dtype"), [(True, torch.bfloat16), (False, torch.float32)])
def test_a_processor_without_bfloat16_is_not_made_to_imitate_it(
    has_it: bool, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: has_it)
    rows = torch.ones(2, 2)
    with quick_bfloat16(torch.device("cpu")):
        assert (rows @ rows).dtype == dtype
    assert (rows @ rows).dtype == torch.float32
