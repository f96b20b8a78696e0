"""The short part of `benchmarks.soak`: clients at once get the answers of a lone client."""

import os
from pathlib import Path

import numpy as np
import pytest
from fake_engine import FakeEngine

from benchmarks.soak import Ask, slope_of, soak
from ovs_core.ui.app import build_ui, launch

KINDS = (Ask("cat.jpg", "cat; blanket", "naclip", "none"), Ask("coffee.jpg", "cup; table", "sclip", "none"))


def test_clients_at_once_get_the_answers_of_a_lone_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    engine = FakeEngine(tmp_path)
    page = build_ui(engine)
    address = launch(page, host="127.0.0.1", port=None, browser=False, engine=engine).rstrip("/")
    try:
        assert soak(address, os.getpid(), 27, 4, 3, KINDS)
        said = capsys.readouterr().out.splitlines()[-1]
        assert said.startswith("27 requests by 4 clients")
        assert "0 errors, 0 answers that differ" in said
    finally:
        page.close(verbose=False)


def test_a_slope_has_an_interval_that_holds_the_truth() -> None:
    held = []
    for seed in range(300):
        noise = np.random.default_rng(seed).normal(0, 1, 50)
        slope, interval = slope_of([100 + 0.5 * block + noise[block] for block in range(50)], 100)
        held.append(abs(slope - 5) < interval)
        assert interval < 0.4
    assert 0.9 < np.mean(held) < 0.99


def test_a_slope_of_two_looks_is_none() -> None:
    assert np.isnan(slope_of([1.0, 2.0], 10)).all()
