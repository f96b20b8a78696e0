"""The weights command as a user types it: exit codes, one clear line, files where they belong."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from ovs_core.checkpoints import WeightStore
from ovs_core.cli import weights


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A checkpoints folder with one downloadable file and one shipped file, in place of the real one."""
    torch.save({"weight": torch.arange(3.0)}, tmp_path / "published.pt")
    content = (tmp_path / "published.pt").read_bytes()
    common = {"kind": "clip", "licence": "MIT", "source": "nowhere", "paper": "", "open_clip_model": None}
    toy = {
        "name": "toy",
        "title": "Toy weights",
        "files": ["toy.pt"],
        "url": "http://127.0.0.1:9/toy.pt",
        "sha256": hashlib.sha256(content).hexdigest(),
        "bytes": 2_400_000,
    }
    shipped = {
        "name": "shipped",
        "title": "Shipped weights",
        "files": ["shipped.pt"],
        "url": None,
        "sha256": None,
        "bytes": None,
    }
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    lines = [{**toy, **common}, {**shipped, **common}]
    (folder / "catalogue.json").write_text(json.dumps({"weights": lines}))
    monkeypatch.setattr(weights, "WeightStore", lambda *arguments: WeightStore(*arguments, root=folder))
    return folder


def test_list_shows_size_licence_and_presence(root, capsys):
    torch.save({"weight": torch.zeros(1)}, root / "shipped.pt")
    assert weights.main(["list"]) == 0
    heading, toy, shipped = capsys.readouterr().out.splitlines()
    assert heading.split() == ["NAME", "SIZE", "LICENCE", "HERE", "TITLE"]
    assert toy.split() == ["toy", "2", "MB", "MIT", "no", "Toy", "weights"]
    assert shipped.split() == ["shipped", "?", "MIT", "yes", "Shipped", "weights"]


def test_get_from_a_local_file_then_verify(root, tmp_path, capsys):
    assert weights.main(["get", "toy", "--from", str(tmp_path / "published.pt")]) == 0
    assert capsys.readouterr().out == f"{root / 'toy.pt'} matches the published checksum\n"
    assert weights.main(["get", "toy", "--offline"]) == 0
    capsys.readouterr()
    assert weights.main(["verify"]) == 0
    digest = hashlib.sha256((tmp_path / "published.pt").read_bytes()).hexdigest()
    assert (
        capsys.readouterr().out
        == f"toy: {root / 'toy.pt'} matches the published checksum (SHA-256 {digest})\n"
    )


def test_verify_reports_every_file_before_it_fails(root, capsys):
    (root / "toy.pt").write_bytes(b"broken")
    torch.save({"weight": torch.zeros(1)}, root / "shipped.pt")
    assert weights.main(["verify"]) == 2
    out, err = capsys.readouterr()
    sentence = "has no known checksum: checked for size and readability only"
    assert out.startswith(f"shipped: {root / 'shipped.pt'} {sentence} (SHA-256 ")
    assert err.startswith(f"{root / 'toy.pt'} is damaged or another version")


def test_verify_with_nothing_here_is_no_error(root, capsys):
    assert weights.main(["verify"]) == 0
    assert capsys.readouterr().out == "There are no weights here yet.\n"


@pytest.mark.parametrize(
    "arguments", [["where", "--weights-dir", "mine"], ["--weights-dir", "mine", "where"]]
)
def test_where_names_the_folders(root, arguments, capsys):
    assert weights.main(arguments) == 0
    assert capsys.readouterr().out == f"read from   mine\nread from   {root}\nwritten to  mine\n"


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["get", "tpy"], "There are no weights called 'tpy'; known names: toy, shipped."),
        (["get", "toy", "--offline"], "Toy weights is not here and offline mode does not fetch."),
        (["get", "toy", "--from", "absent.pt"], "There is no file absent.pt."),
        (["get", "shipped"], "Shipped weights is not here. It comes with the repository"),
        (["verify", "toy"], "Toy weights is not here. Download it by hand from http://127.0.0.1:9/toy.pt"),
    ],
)
def test_bad_input_is_one_line_and_exit_2(root, arguments, line, capsys):
    assert weights.main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(line)
    assert err.count("\n") == 1


@pytest.mark.parametrize("arguments", [[], ["get"], ["fetch", "toy"], ["list", "--colour"]])
def test_bad_usage_is_one_line_and_exit_2(root, arguments, capsys):
    with pytest.raises(SystemExit) as caught:
        weights.main(arguments)
    assert caught.value.code == 2
    err = capsys.readouterr().err
    assert err.endswith("See --help.\n")
    assert err.count("\n") == 1


def test_interrupt_says_how_to_continue(root, monkeypatch, capsys):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(WeightStore, "fetch", interrupted)
    assert weights.main(["get", "toy"]) == 130
    assert "Run the same command again to continue" in capsys.readouterr().err


def test_bar_shows_share_and_ends_its_line(capsys):
    bar = weights._Bar("Toy")
    bar(15_000_000, 30_000_000)
    bar(16_000_000, 30_000_000)  # too soon after the last one to be drawn
    bar(30_000_000, 30_000_000)
    first, second = capsys.readouterr().err.split("\r")[1:]
    assert first == "Toy  [" + "#" * 15 + "." * 15 + "] 15.0 of 30.0 MB"
    assert second == "Toy  [" + "#" * 30 + "] 30.0 of 30.0 MB\n"


def test_bar_without_a_total_counts(capsys):
    weights._Bar("Toy")(1_500_000, None)
    assert capsys.readouterr().err == "\rToy  1.5 MB"


def test_command_runs_as_the_documentation_says():
    repository = Path(weights.__file__).parents[2]
    command = [sys.executable, "-m", "ovs_core.cli.weights", "list", "--offline"]
    finished = subprocess.run(command, cwd=repository, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr
    assert "openai-vit-b-16" in finished.stdout
    assert finished.stderr == ""
