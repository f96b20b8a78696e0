"""SIGKILL at random moments: does the same command go on, and is any file under its own name corrupt?

    python -m benchmarks.kills                             # 50 kills, spread over all scenes
    python -m benchmarks.kills --kills 4 --scene download  # a look

A scene is a command that is killed and started anew until it was killed as often as was asked; whenever it
ends by itself its folder is emptied. Moments are spread evenly over the time that an undisturbed run takes,
start included, so that loading, the text cache, answers and files are all hit. After every kill each file
under its own name must be whole; after every run that ends, files must be those of the undisturbed run,
seconds and peaks of memory apart.

segment   the sample photos with every kind of export, --resume, its own text cache
evaluate  three labelled photos
train     220 steps of MVP-SEG's contexts on them, in the loop of all heads, which keeps its state each 100
download  a weight file from a server on this machine that knows ranges and takes its time
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import safetensors.numpy
import torch
from PIL import Image

ROOT = Path(__file__).parents[1]
CLASSES = "cat; cup | mug; temple; sky; person; flower"
EXPORTS = ("coco", "yolo", "npz", "masks", "ids")
VOC = (
    *("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable"),
    *("dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor"),
)
RECIPE = {
    "steps": 220,
    "warmup": 2,
    "batch": 2,
    "classes_per_step": 8,
    "crops": {"side": 64, "short_side": [64, 80]},
}
DOWNLOAD_BYTES, DOWNLOAD_SECONDS = 8_000_000, 4
FETCH = (
    "import sys; from pathlib import Path; from ovs_core.checkpoints import WeightStore; "
    "print(WeightStore(Path(sys.argv[2]), root=Path(sys.argv[1])).fetch('toy'))"
)
_UNFINISHED = (".part", ".tag", ".lock")  # names of what is still being written
_COSTS = ("seconds", "peak_bytes")
_LOGS = ("log.jsonl", "journal.jsonl")  # what was done and when, not what came of it

Command = Callable[[Path, Path], list[str]]
"""From the folder of all that a scene needs, and the one it writes into: arguments for Python."""


@dataclass(frozen=True)
class Told:
    """What came of a scene."""

    kills: int
    ended: int
    broken: tuple[str, ...]
    different: int

    @property
    def well(self) -> bool:
        """Whether nothing was corrupt and everything went on."""
        return not self.broken and not self.different and self.ended > 0


def main() -> None:
    """Print how many kills there were and what came of them."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--scene", action="append", choices=SCENES, help="may be repeated; default: all")
    options = parser.parse_args()
    scenes, chance = options.scene or [*SCENES], random.Random(options.seed)
    all_told = []
    for number, name in enumerate(scenes):
        kills = options.kills // len(scenes) + (number < options.kills % len(scenes))
        if kills:
            all_told.append(killed(name, kills, chance))
    print(f"{sum(told.kills for told in all_told)} SIGKILLs in all")
    sys.exit(0 if all(told.well for told in all_told) else 1)


def killed(name: str, wanted: int, chance: random.Random) -> Told:
    """Kill a scene so many times, let it go on, and print what came of it."""
    with TemporaryDirectory(prefix="ovs-kills-") as folder, SCENES[name](Path(folder)) as command:
        place = Path(folder)
        started = time.monotonic()
        if _start(command, place, place / "whole").wait():
            raise SystemExit(f"{name}: the undisturbed run failed.")
        seconds, wholesome = time.monotonic() - started, contents(place / "whole")
        print(f"  {name}: undisturbed {seconds:.0f} s and {len(wholesome)} files", flush=True)
        told = _kill(command, place, wholesome, seconds, wanted, chance)
    print(
        f"{name}: {told.kills} SIGKILLs, {told.ended} runs went on to their end: {len(told.broken)} broken "
        f"files, {told.different} runs whose files differ from an undisturbed one's",
        flush=True,
    )
    for broken in told.broken[:5]:
        print(f"  broken: {broken}")
    return told


def _kill(
    command: Command,
    place: Path,
    wholesome: Mapping[str, Any],
    seconds: float,
    wanted: int,
    chance: random.Random,
) -> Told:
    out, kills, ended, different = place / "killed", 0, 0, 0
    broken: list[str] = []
    while kills < wanted or not ended:
        process = _start(command, place, out)
        moment = time.monotonic() + chance.uniform(0, seconds)
        while process.poll() is None and (kills >= wanted or time.monotonic() < moment):
            time.sleep(0.02)
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            process.wait()
            kills += 1
            broken += unreadable(out)
            continue
        ended += 1
        written = contents(out)
        if process.returncode or written != wholesome:
            different += 1
            names = {key for key in written.keys() | wholesome if written.get(key) != wholesome.get(key)}
            print(f"  exit code {process.returncode}; differing: {', '.join(sorted(names)[:5])}", flush=True)
        shutil.rmtree(out)
        shutil.rmtree(_cache(place, out), ignore_errors=True)
    return Told(kills, ended, tuple(broken), different)


def _start(command: Command, place: Path, out: Path) -> subprocess.Popen[bytes]:
    out.mkdir(exist_ok=True)
    return subprocess.Popen(
        [sys.executable, *command(place, out)],
        cwd=ROOT,
        env={**os.environ, "XDG_CACHE_HOME": str(_cache(place, out))},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def _cache(place: Path, out: Path) -> Path:
    """Where a run keeps text embeddings."""
    return place / f"cache-{out.name}"


@contextmanager
def _segment(place: Path) -> Iterator[Command]:
    def command(place: Path, out: Path) -> list[str]:
        given = ["-m", "ovs_core.cli.segment", str(ROOT / "assets" / "photos"), "--offline", "--resume"]
        return [*given, "--classes", CLASSES, "--export", *EXPORTS, "--out", str(out)]

    yield command


@contextmanager
def _evaluate(place: Path) -> Iterator[Command]:
    labelled = _labelled(place)

    def command(place: Path, out: Path) -> list[str]:
        given = ["-m", "ovs_core.cli.evaluate", "--dataset", "folder", "--root", str(labelled), "--offline"]
        return [*given, "--method", "clip", "--method", "naclip", "--out", str(out / "report.json")]

    yield command


@contextmanager
def _train(place: Path) -> Iterator[Command]:
    labelled, config = _labelled(place), place / "recipe.json"
    config.write_text(json.dumps(RECIPE), encoding="utf-8")

    def command(place: Path, out: Path) -> list[str]:
        given = ["-m", "ovs_core.cli.train", "mvp-seg", f"--data=voc={labelled}"]
        return [*given, "--config", str(config), "--out", str(out)]

    yield command


@contextmanager
def _download(place: Path) -> Iterator[Command]:
    content = random.Random(0).randbytes(DOWNLOAD_BYTES)
    with _file_server(content) as url:
        root = place / "catalogue"
        root.mkdir()
        entry = {
            "name": "toy",
            "title": "Toy",
            "kind": "clip",
            "files": ["toy.bin"],
            "url": url,
            "sha256": hashlib.sha256(content).hexdigest(),
            "bytes": len(content),
            "licence": "MIT",
            "source": "random",
            "paper": "",
            "open_clip_model": None,
            "page": url,
        }
        (root / "catalogue.json").write_text(json.dumps({"weights": [entry]}), encoding="utf-8")
        yield lambda place, out: ["-c", FETCH, str(root), str(out)]


SCENES: Mapping[str, Callable[[Path], Any]] = {
    "segment": _segment,
    "evaluate": _evaluate,
    "train": _train,
    "download": _download,
}


def _labelled(place: Path) -> Path:
    """Three sample photos, small, whose left half is said to be a cat and whose right half a person."""
    root = place / "labelled"
    for kind in ("images", "masks"):
        (root / kind).mkdir(parents=True, exist_ok=True)
    names = ("background", *VOC)
    lines = "".join(f"{value} {name}\n" for value, name in enumerate(names))
    (root / "classes.txt").write_text(lines, encoding="utf-8")
    for path in sorted((ROOT / "assets" / "photos").glob("*.jpg"))[:3]:
        with Image.open(path) as opened:
            photo = opened.convert("RGB").resize((160, 120))
        photo.save(root / "images" / path.name)
        mask = np.full((120, 160), names.index("cat"), np.uint8)
        mask[:, 80:] = names.index("person")
        Image.fromarray(mask).save(root / "masks" / f"{path.stem}.png")
    return root


@contextmanager
def _file_server(content: bytes) -> Iterator[str]:
    """Serve one file, slowly and in ranges; gives its address."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Slow, content))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/toy.bin"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Slow(BaseHTTPRequestHandler):
    """Answers GET with a file's bytes from the one that was asked for."""

    protocol_version = "HTTP/1.1"

    def __init__(self, content: bytes, *arguments: Any) -> None:
        self._content = content
        super().__init__(*arguments)

    def do_GET(self) -> None:
        """Send the file, or the rest of it."""
        whole = len(self._content)
        first = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").rstrip("-"))
        if first >= whole:
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{whole}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(206 if first else 200)
        if first:
            self.send_header("Content-Range", f"bytes {first}-{whole - 1}/{whole}")
        self.send_header("Content-Length", str(whole - first))
        self.send_header("ETag", '"toy"')
        self.end_headers()
        step = whole // 40
        try:
            for start in range(first, whole, step):
                self.wfile.write(self._content[start : start + step])
                time.sleep(DOWNLOAD_SECONDS / 40)
        except OSError:  # who asked was killed
            self.close_connection = True

    def log_message(self, *arguments: Any) -> None:
        """Say nothing."""


def _files(out: Path) -> Mapping[str, bytes]:
    """Files under their own names; what is being written has a dot in front or an end that says so."""
    return {
        path.relative_to(out).as_posix(): path.read_bytes()
        for path in sorted(out.rglob("*"))
        if path.is_file() and not path.name.startswith(".") and path.suffix not in _UNFINISHED
    }


def contents(out: Path) -> dict[str, Any]:
    """What the files of a run hold, without what differs from run to run."""
    written: dict[str, Any] = {}
    for name, content in _files(out).items():
        if name.endswith(_LOGS):
            continue
        if name.endswith(".json"):
            written[name] = _timeless(json.loads(content))
        elif name.endswith(".jsonl"):
            written[name] = [_timeless(json.loads(line)) for line in content.splitlines()]
        elif name.endswith(".npz"):
            with np.load(io.BytesIO(content)) as arrays:
                written[name] = {key: arrays[key].tobytes() for key in arrays.files}
        elif name.endswith(".safetensors"):  # the library writes its metadata in any order
            written[name] = _tensors(content)
        else:
            written[name] = content
    return written


def _tensors(content: bytes) -> Any:
    """Metadata and tensors of a safetensors file: its header is JSON behind eight bytes of its length."""
    length = int.from_bytes(content[:8], "little")
    return json.loads(content[8 : 8 + length]), content[8 + length :]


def _timeless(value: Any) -> Any:
    """The same without what a run costs."""
    if isinstance(value, dict):
        return {key: _timeless(part) for key, part in value.items() if key not in _COSTS}
    return [_timeless(part) for part in value] if isinstance(value, list) else value


def unreadable(out: Path) -> list[str]:
    """Names of files that are not whole; the last line of a list of lines may be half a line."""
    broken = []
    for name, content in _files(out).items() if out.is_dir() else ():
        try:
            _read(name, content)
        except Exception as error:  # noqa: BLE001 (each reader has its own errors)
            broken.append(f"{name}: {type(error).__name__}: {error}")
    return broken


def _read(name: str, content: bytes) -> None:
    """Read a file to its end.

    Raises:
        Exception: of any kind, if it is not whole.
    """
    if name.endswith(".png"):
        Image.open(io.BytesIO(content)).load()
    elif name.endswith(".npz"):
        with np.load(io.BytesIO(content)) as arrays:
            _ = [arrays[key] for key in arrays.files]
    elif name.endswith(".json"):
        json.loads(content)
    elif name.endswith(".jsonl"):
        for line in content.split(b"\n")[:-1]:
            json.loads(line)
    elif name.endswith(".safetensors"):
        safetensors.numpy.load(content)
    elif name.endswith(".pt"):
        torch.load(io.BytesIO(content), weights_only=True)
    elif name == "toy.bin" and len(content) != DOWNLOAD_BYTES:
        raise ValueError(f"{len(content)} bytes")


if __name__ == "__main__":
    main()
