"""Prove that labels did not change: every ready method on every sample photo, here and at another commit.

    python -m benchmarks.same_labels --against COMMIT

Only the calls that both sides are promised are used: `Engine().segment(photo, classes, method=...)` and
`Engine().methods()`. Labels are compared bit by bit, by their SHA-256.

One class typed alone is guarded by everyday things here (`ovs_core.encoders.lone_word`). Against a commit
without that rule, such questions are asked without it here too, and this is said.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[1]
WORDS = "person | man | woman; sky; building; tree; cat; cup"


def labels_of(root: Path, guarded: bool) -> dict[str, str]:
    """SHA-256 of the label map of each question to the program in `root`, with the words of each sample.

    Args:
        root: where the program is.
        guarded: whether everyday things guard a class that is typed alone, where the program knows that.
    """
    from ovs_core import Engine

    engine = Engine("cpu", offline=True) if guarded else Engine("cpu", offline=True, encoders=unguarded())
    examples = json.loads((root / "assets" / "photos" / "examples.json").read_text(encoding="utf-8"))
    words = {example["file"]: example["classes"] for example in examples}
    ready = [info.name for info in engine.methods() if info.available]
    digests = {}
    for photo in sorted((root / "assets" / "photos").glob("*.jpg")):
        for method in ready:
            for asked in dict.fromkeys((words.get(photo.name, WORDS), WORDS)):
                labels = engine.segment(photo, asked, method=method).labels
                shape = "x".join(map(str, labels.shape))
                digest = hashlib.sha256(labels.tobytes()).hexdigest()
                digests[f"{photo.name} {method} {asked}"] = f"{labels.dtype} {shape} {digest}"
    return digests


def unguarded() -> Mapping[str, Any]:
    """The encoders of this program, none of which guards a lone word."""
    from ovs_core.encoders.towers import ENCODERS

    return {name: replace(spec, guards_lone_word=False) for name, spec in ENCODERS.items()}


def knows_lone_words(root: Path) -> bool:
    """Whether the program in `root` guards a class that is typed alone."""
    return (root / "ovs_core" / "encoders" / "lone_word.py").is_file()


def _ask(root: Path, guarded: bool) -> dict[str, str]:
    """The same from a fresh process that imports the program in `root`."""
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "labels.json"
        code = (
            "import importlib.util, json, pathlib, sys; sys.path.insert(0, sys.argv[1]);"
            "spec = importlib.util.spec_from_file_location('same_labels', sys.argv[2]);"
            "module = importlib.util.module_from_spec(spec); spec.loader.exec_module(module);"
            "digests = module.labels_of(pathlib.Path(sys.argv[1]), sys.argv[4] == 'guarded');"
            "pathlib.Path(sys.argv[3]).write_text(json.dumps(digests))"
        )
        subprocess.run(
            [sys.executable, "-c", code, root, __file__, target, "guarded" if guarded else "plain"],
            check=True,
            cwd=root,
        )
        answer: dict[str, str] = json.loads(target.read_text())
        return answer


def main() -> int:
    """Compare; returns 1 if any label map differs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--against", required=True, metavar="COMMIT")
    commit = parser.parse_args().against
    with tempfile.TemporaryDirectory() as folder:
        there = Path(folder) / "tree"
        run = ["git", "-C", str(REPOSITORY), "worktree"]
        subprocess.run([*run, "add", "--detach", str(there), commit], check=True, capture_output=True)
        try:
            guarded = knows_lone_words(there)
            before = _ask(there, guarded=True)  # as that commit answers
        finally:
            subprocess.run([*run, "remove", "--force", str(there)], check=True)
    now = _ask(REPOSITORY, guarded)
    different = sorted(key for key in before if now.get(key) != before[key])
    print(f"{len(before) - len(different)} of {len(before)} label maps of {commit} are bit-equal here.")
    if not guarded:
        print(f"{commit} has no rule for a class typed alone: such questions were asked without it here too.")
    for key in different:
        print("different:", key)
    return bool(different)


if __name__ == "__main__":
    sys.exit(main())
