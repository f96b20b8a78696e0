"""What a process loads before it answers: seconds that everybody waits for."""

import json
import os
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
PHOTO = REPOSITORY / "assets" / "photos" / "astronaut.jpg"
NOT_FOR_SEGMENT = (
    "gradio",
    "matplotlib",
    "open_clip",
    "pandas",
    "scipy.ndimage",
    "segment_anything",
    "supervision",
    "timm",
    "torch._dynamo",
    "torchvision",
)


def test_an_answer_of_the_embedded_model_loads_no_library_that_it_does_not_use(tmp_path):
    script = (
        "import json, sys\nfrom ovs_core.cli.__main__ import main\n"
        f"code = main(['segment', {str(PHOTO)!r}, '--classes', 'person; flag', '--out', {str(tmp_path)!r}])\n"
        "print(json.dumps([code, sorted(sys.modules)]))"
    )
    unset = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_"))}
    finished = subprocess.run(
        [sys.executable, "-c", script],
        cwd=REPOSITORY,
        env={**unset, "OMP_DISPLAY_ENV": "verbose"},
        capture_output=True,
        text=True,
        check=True,
    )
    code, loaded = json.loads(finished.stdout.splitlines()[-1])
    assert code == 0, finished.stderr
    if "GOMP_SPINCOUNT" in finished.stderr:  # torch brings GNU OpenMP: threads that wait let others work
        assert "GOMP_SPINCOUNT = '10000'" in finished.stderr
    assert (tmp_path / "astronaut.naclip.labels.png").is_file()
    assert sorted(set(NOT_FOR_SEGMENT) & set(loaded)) == []
