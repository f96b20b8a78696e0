"""Four clients, mixed requests, one server: errors, memory, and whether answers are those of a lone client.

    python -m benchmarks.soak                     # 2,000 requests, some minutes
    python -m benchmarks.soak --requests 100      # a look

The server runs in a process of its own, as `ovs-lens app` does. Clients ask /v1/segment, Gradio's /segment
now and then, and what must be refused. Before and after, a lone client asks every kind of request once:
answers in between must have the same labels, bit for bit. Memory is the server's resident size after each
block of requests; its slope is a least-squares line over the later half, with a 95 % interval from the
residuals.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import json
import math
import os
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import httpx
import numpy as np
from gradio_client import Client, handle_file
from PIL import Image

ROOT = Path(__file__).parents[1]
PHOTOS = ("cat.jpg", "coffee.jpg", "temple.jpg")
WORDS = ("cat; blanket", "cup | mug; table; spoon", "temple; sky; trees")
METHODS = ("naclip", "clip", "sclip")
REFINERS = ("none", "guided")
BAD = ({"classes": " ; "}, {"classes": "cat", "method": "nonsense"}, {"classes": "cat", "options": "{"})
GRADIO_EACH = 25  # requests of Gradio's own endpoints: one in so many
GRADIO_KINDS = 9  # every ninth kind is asked there
PATIENCE = 600  # seconds


@dataclass(frozen=True)
class Ask:
    """One kind of request."""

    photo: str
    words: str
    method: str
    refine: str


def main() -> None:
    """Print errors, differing answers and the slope of memory."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument("--blocks", type=int, default=20, help="looks at the server's memory")
    options = parser.parse_args()
    server = subprocess.Popen(
        [sys.executable, "app.py", "--no-browser", "--offline"], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    try:
        ok = soak(_address(server), server.pid, options.requests, options.clients, options.blocks)
    finally:
        server.terminate()
        server.wait()
    sys.exit(0 if ok else 1)


def all_kinds() -> tuple[Ask, ...]:
    """Every photo with every list of words, method and refiner."""
    return tuple(itertools.starmap(Ask, itertools.product(PHOTOS, WORDS, METHODS, REFINERS)))


def soak(
    address: str, pid: int, requests: int, clients: int, blocks: int, kinds: Sequence[Ask] | None = None
) -> bool:
    """Ask, and print what came of it.

    Args:
        address: of the page.
        pid: of its process.
        requests: how many.
        clients: at once.
        blocks: looks at memory.
        kinds: of requests; None takes all.

    Returns:
        Whether there was no error and no differing answer.
    """
    kinds = kinds or all_kinds()
    lone = Client(address, verbose=False)
    alone = {kind: _by_form(address, kind) for kind in kinds}
    alone_gradio = {kind: _by_gradio(lone, kind) for kind in kinds[::GRADIO_KINDS]}
    errors: list[str] = []
    different: list[Ask] = []
    local = threading.local()

    def one(number: int) -> None:
        kind = kinds[(number * 7) % len(kinds)]
        try:
            if number % 10 == 9:
                _refused(address, BAD[number % len(BAD)])
            elif number % GRADIO_EACH == 0:
                if not hasattr(local, "client"):
                    local.client = Client(address, verbose=False)
                kind = [*alone_gradio][number % len(alone_gradio)]
                if _by_gradio(local.client, kind) != alone_gradio[kind]:
                    different.append(kind)
            elif _by_form(address, kind) != alone[kind]:
                different.append(kind)
        except Exception as error:  # noqa: BLE001 (whatever it is, it is what is counted)
            errors.append(f"{type(error).__name__}: {error}")

    memory = [resident(pid)]
    started = time.perf_counter()
    block = math.ceil(requests / blocks)
    with ThreadPoolExecutor(clients) as pool:
        for first in range(0, requests, block):
            list(pool.map(one, range(first, min(requests, first + block))))
            memory.append(resident(pid))
            print(f"  {min(requests, first + block):6} requests, {memory[-1]:.0f} MB", flush=True)
    seconds = time.perf_counter() - started
    different += [kind for kind in kinds if _by_form(address, kind) != alone[kind]]
    slope, interval = slope_of(memory[len(memory) // 2 :], block)
    for line in [*dict.fromkeys(errors)][:5]:
        print(f"  {line}")
    print(
        f"{requests} requests by {clients} clients in {seconds:.0f} s: {len(errors)} errors, "
        f"{len(different)} answers that differ, memory {memory[0]:.0f} to {memory[-1]:.0f} MB, later half "
        f"{slope:+.1f} MB [{slope - interval:+.1f}, {slope + interval:+.1f}] for 1,000 requests"
    )
    return not errors and not different


def slope_of(memory: Sequence[float], block: int) -> tuple[float, float]:
    """Least-squares slope in MB for 1,000 requests, and half of its 95 % interval.

    Args:
        memory: MB after each block.
        block: requests of a block.
    """
    if len(memory) < 3:
        return math.nan, math.nan
    x = np.arange(len(memory)) * block / 1000
    x = x - x.mean()
    y = np.asarray(memory) - np.mean(memory)
    slope = float((x * y).sum() / (x * x).sum())
    residual = y - slope * x
    error = math.sqrt(float((residual**2).sum()) / (len(memory) - 2) / float((x * x).sum()))
    return slope, 2 * error


def resident(pid: int) -> float:
    """Resident size of a process in MB."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def _address(server: subprocess.Popen[str]) -> str:
    """Wait for the line that says where the page is."""
    for line in server.stdout or ():
        if "OVS Lens is at " in line:
            return line.split("OVS Lens is at ")[1].split()[0].rstrip("/")
    raise SystemExit("The server did not start.")


def _by_form(address: str, kind: Ask) -> str:
    """Digest of the masks that /v1/segment gives."""
    with (ROOT / "assets" / "photos" / kind.photo).open("rb") as photo:
        answer = httpx.post(
            f"{address}/v1/segment",
            files={"image": photo},
            data={"classes": kind.words, "method": kind.method, "refine": kind.refine},
            timeout=PATIENCE,
        )
    answer.raise_for_status()
    return hashlib.sha256(json.dumps(answer.json()["masks"], sort_keys=True).encode()).hexdigest()


def _by_gradio(client: Client, kind: Ask) -> str:
    """Digest of the labels that Gradio's /segment gives."""
    labels, _ = client.predict(
        image=handle_file(ROOT / "assets" / "photos" / kind.photo),
        classes=kind.words,
        method=kind.method,
        refine=kind.refine,
        api_name="/segment",
    )
    with Image.open(labels) as opened:
        return hashlib.sha256(np.asarray(opened).tobytes()).hexdigest()


def _refused(address: str, fields: Mapping[str, str]) -> None:
    """Ask what is refused with one sentence.

    Raises:
        ValueError: if it is not.
    """
    with (ROOT / "assets" / "photos" / PHOTOS[0]).open("rb") as photo:
        answer = httpx.post(
            f"{address}/v1/segment", files={"image": photo}, data=dict(fields), timeout=PATIENCE
        )
    if answer.status_code != 400 or list(answer.json()) != ["error"]:
        raise ValueError(f"{fields} got {answer.status_code}: {answer.text[:200]}")


if __name__ == "__main__":
    main()
