"""A user without a home directory, as services and containers have: everything works, and nothing is kept."""

import os
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
from PIL import Image

from ovs_core.folders import cache_folder, data_folder, home_folder, without_tilde

REPOSITORY = Path(__file__).resolve().parents[1]
# What the system says about a user who is in no list: no HOME, no entry of the password file.
NOBODY = """
import os, pwd, sys
for name in ("HOME", "USERPROFILE", "XDG_CACHE_HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME"):
    os.environ.pop(name, None)
def nobody(*asked):
    raise KeyError(asked)
pwd.getpwuid = pwd.getpwnam = nobody
from ovs_core.cli.__main__ import main
sys.exit(main(sys.argv[1:]))
"""


def start(*arguments, **options):
    return subprocess.Popen(
        [sys.executable, "-c", NOBODY, *map(str, arguments)],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        **options,
    )


def test_the_terminal_works(tmp_path):
    Image.new("RGB", (24, 16), "red").save(tmp_path / "a.png")
    asked = start("segment", tmp_path, "--classes", "cat; \u732b", "--out", tmp_path / "out")
    said = asked.communicate(timeout=120)[0]
    assert asked.returncode == 0, said
    assert (tmp_path / "out" / "a.naclip.overlay.png").exists()
    listed = start("weights", "where")
    said = listed.communicate(timeout=60)[0]
    assert listed.returncode == 0, said


def test_a_home_that_is_not_there_is_no_trouble(tmp_path):
    Image.new("RGB", (24, 16), "red").save(tmp_path / "a.png")
    asked = subprocess.run(
        [
            sys.executable,
            "-m",
            "ovs_core.cli",
            "segment",
            tmp_path / "a.png",
            "--classes",
            "cat",
            "--out",
            tmp_path,
        ],
        cwd=REPOSITORY,
        env={**os.environ, "HOME": "/nonexistent", "XDG_CACHE_HOME": "/proc/nowhere"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert asked.returncode == 0, asked.stderr
    assert "Traceback" not in asked.stderr


@pytest.mark.slow
def test_the_app_works():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with start("app", "--no-browser", "--port", port) as app:
        try:
            lines = []
            while "is at" not in "".join(lines[-1:]) and (line := app.stdout.readline()):
                lines.append(line)
            assert "OVS Lens is at" in lines[-1], lines
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=20) as answer:
                assert answer.status == 200
        finally:
            app.terminate()


def test_folders_of_nobody(monkeypatch):
    def nobody(*_):
        raise RuntimeError("Could not determine home directory.")

    for name in ("XDG_CACHE_HOME", "XDG_DATA_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("pathlib.Path.home", nobody)
    monkeypatch.setattr("pathlib.Path.expanduser", nobody)
    assert home_folder() is None
    assert cache_folder() is None
    assert data_folder().name == "ovs-lens"
    assert without_tilde("~/a.txt") == Path("~/a.txt")
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert cache_folder() == Path("/somewhere/ovs-lens")
