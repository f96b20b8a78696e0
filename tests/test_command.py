"""`ovs-lens`: one word for all commands."""

import gc
import subprocess
import sys
from pathlib import Path

import pytest

from ovs_core.cli.__main__ import COMMANDS, main
from ovs_core.cli.loading import no_garbage_collected
from ovs_core.version import VERSION

REPOSITORY = Path(__file__).resolve().parents[1]


def test_help_names_every_command(capsys):
    assert main(["--help"]) == 0
    told = capsys.readouterr().out
    assert all(f"  {name} " in told and what in told for name, what in COMMANDS.items())
    assert main([]) == 0
    assert capsys.readouterr().out == told


def test_version_is_that_of_the_changelog(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"ovs-lens {VERSION}\n"
    for file, line in (("CHANGELOG.md", f"## {VERSION}"), ("CITATION.cff", f"version: {VERSION}")):
        assert line in (REPOSITORY / file).read_text(encoding="utf-8")


def test_every_command_is_there_and_explains_itself(capsys):
    for name in COMMANDS:
        with pytest.raises(SystemExit) as stopped:
            main([name, "--help"])
        assert stopped.value.code == 0
        assert capsys.readouterr().out.startswith(f"usage: ovs-lens {name} ")


def test_an_unknown_command_is_one_line(capsys):
    assert main(["segmnet", "photo.jpg"]) == 2
    assert capsys.readouterr().err == f"There is no command 'segmnet'; choose {', '.join(COMMANDS)}.\n"


def test_bad_arguments_are_one_line_and_exit_2(capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["app", "--prot", "7860"])
    assert stopped.value.code == 2
    assert capsys.readouterr().err == "unrecognized arguments: --prot. See --help.\n"


def test_help_of_the_command_loads_no_library():
    script = "import sys; from ovs_core.cli.__main__ import main; main([]); print('torch' in sys.modules)"
    finished = subprocess.run(
        [sys.executable, "-c", script], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    assert finished.stdout.endswith("False\n")


def test_app_explains_itself_without_loading_the_page():
    script = (
        "import sys\nfrom ovs_core.cli.app import main\n"
        "try:\n    main(['--help'])\nfinally:\n    print('gradio' in sys.modules)"
    )
    finished = subprocess.run(
        [sys.executable, "-c", script], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    assert finished.stdout.endswith("False\n")
    assert "--no-browser" in finished.stdout


def test_garbage_is_collected_again_after_loading():
    def load_what_is_missing():
        with no_garbage_collected():
            during.append(gc.isenabled())
            raise ImportError("a library is missing")

    during = []
    assert gc.isenabled()
    with pytest.raises(ImportError, match="missing"):
        load_what_is_missing()
    assert during == [False]
    assert gc.isenabled()
    gc.unfreeze()
