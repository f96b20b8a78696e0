"""The short part of `benchmarks.kills`: a killed download goes on, and what is broken is seen."""

import io
import json
import random
from pathlib import Path

import numpy as np
import pytest

from benchmarks import kills
from benchmarks.kills import contents, killed, unreadable


def test_a_killed_download_goes_on(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kills, "DOWNLOAD_SECONDS", 1)
    told = killed("download", 1, random.Random(1))
    assert told.well
    assert told.kills == 1
    assert "1 SIGKILLs, 1 runs went on to their end: 0 broken files" in capsys.readouterr().out


def test_what_is_cut_is_seen(tmp_path: Path) -> None:
    arrays, head = io.BytesIO(), json.dumps({"a": {"dtype": "U8", "shape": [4], "data_offsets": [0, 4]}})
    np.savez(arrays, one=np.arange(100))
    whole = {
        "a.json": b'{"x": 1, "seconds": 3}',
        "a.jsonl": b'{"x": 1}\n{"x":',  # a line that was begun is done again
        "a.npz": arrays.getvalue(),
        "a.safetensors": len(head).to_bytes(8, "little") + head.encode() + b"abcd",
        "b.png.part": b"cut",
        ".c.json": b"{",
    }
    for name, content in whole.items():
        (tmp_path / name).write_bytes(content)
    assert unreadable(tmp_path) == []
    for name in ("a.json", "a.npz", "a.safetensors"):
        (tmp_path / name).write_bytes(whole[name][:-1])
    (tmp_path / "toy.bin").write_bytes(b"short")
    broken = [found.split(":")[0] for found in unreadable(tmp_path)]
    assert broken == ["a.json", "a.npz", "a.safetensors", "toy.bin"]


def test_what_a_run_costs_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"x": [{"seconds": 3, "y": 1}], "peak_bytes": 5}')
    assert contents(tmp_path) == {"a.json": {"x": [{"y": 1}]}}
