"""Commands in README and docs: each is read by its own parser, each example over HTTP runs."""

import argparse  # noqa: TID251 (what commands are read by)
import importlib
import importlib.util
import re
import shlex
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest
from fake_engine import FakeEngine

from ovs_core.cli.__main__ import COMMANDS
from ovs_core.ui.app import build_ui, launch

ROOT = Path(__file__).resolve().parents[1]
PAGES = (
    *(ROOT / name for name in ("README.md", "benchmarks/README.md", "checkpoints/mini/MODEL_CARD.md")),
    *sorted((ROOT / "docs").glob("*.md")),
)
INLINE = re.compile(r"`((?:ovs-lens|python -m|python app\.py)(?= |`)[^`|]*)`")
PROGRAMS = ("ovs-lens", "python", "pip", "uv", "pytest", "curl", "docker", "accelerate")
PYTHON = re.compile(r"^```python\n(.*?)^```", re.DOTALL | re.MULTILINE)
Parser = argparse.ArgumentParser


class ParsedError(Exception):
    """Arguments were read; nothing is run."""


def commands(page: Path) -> Iterator[str]:
    """Indented lines that begin with a program, continued lines joined, each part of `a && b` alone."""
    text = page.read_text(encoding="utf-8").replace("\\\n", " ")
    for line in re.findall(r"^    (\S.*)$", text, re.MULTILINE):
        if line.split()[0] in PROGRAMS and " = " not in line:
            yield from (part.strip() for part in line.split(" && "))


def written(pages: Sequence[Path], found: Callable[[Path], Any]) -> list[Any]:
    return [
        pytest.param(one, id=f"{page.name}: {one[:60]}")
        for page in pages
        for one in dict.fromkeys(found(page))
    ]


def module_of(words: list[str]) -> tuple[str, list[str]]:
    """The module that a command runs, and its arguments."""
    if words[0] == "ovs-lens":
        return f"ovs_core.cli.{words[1]}", words[2:]
    if words[:2] == ["python", "app.py"]:
        return "ovs_core.cli.app", words[2:]
    at = words.index("-m")
    return words[at + 1], words[at + 2 :]


def parsers_of(parser: Parser) -> Iterator[Parser]:
    """A parser and those of its subcommands."""
    yield parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for inner in action.choices.values():
                yield from parsers_of(inner)


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, list[str]], Parser | None]:
    """Let a module's `main` read arguments and do no more; gives the parser, None where there is none."""
    parse = Parser.parse_args
    given: list[list[str]] = [[]]

    def parsed(self: Parser, args: Any = None, namespace: Any = None) -> Any:
        parse(self, given[0], namespace)
        raise ParsedError(self)

    monkeypatch.setattr(Parser, "parse_args", parsed)

    def call(name: str, arguments: list[str]) -> Parser | None:
        given[0] = arguments
        spec = importlib.util.find_spec(name)
        assert spec is not None, f"there is no module {name}"
        if spec.submodule_search_locations is not None:
            name = f"{name}.__main__"
        module = importlib.import_module(name)
        if "parse_args" not in Path(str(module.__file__)).read_text(encoding="utf-8"):
            assert arguments == []
            return None
        with pytest.raises(ParsedError) as stop:
            module.main() if name.startswith("benchmarks.") else module.main(arguments)
        return stop.value.args[0]

    return call


def check_ours(words: list[str], read: Callable[[str, list[str]], Parser | None]) -> None:
    name, arguments = module_of(words)
    if name.startswith("ovs_core.cli."):
        assert name.rsplit(".", 1)[1] in COMMANDS
    read(name, [word for word in arguments if word != "..."])


def check_pip(words: list[str]) -> None:
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    extras = project.split("[project.optional-dependencies]")[1].split("\n[")[0]
    known = set(re.findall(r"^(\w+) = ", extras, re.MULTILINE))
    assert known
    for word in words[2:]:
        if word.endswith(".txt"):
            assert (ROOT / word).is_file()
        for names in re.findall(r"\[(.+)\]", word):
            assert set(names.split(",")) <= known


def check_pytest(words: list[str]) -> None:
    for word in words[1:]:
        if word.startswith("--hypothesis-profile="):
            profile = word.partition("=")[2]
            conftest = (ROOT / "tests/hostile/conftest.py").read_text(encoding="utf-8")
            assert f'"{profile}"' in conftest
        elif not word.startswith("-"):
            assert (ROOT / word).exists()


@pytest.mark.parametrize("line", written(PAGES, commands))
def test_a_command_is_read_by_its_own_parser(
    line: str, read: Callable[[str, list[str]], Parser | None]
) -> None:
    words = shlex.split(line, comments=True)
    if words[0] in ("ovs-lens", "python", "accelerate"):
        if "..." in words and words[0] == "accelerate":
            words = [*words[: words.index("...")], "--data=coco=DIR", "--out=DIR"]  # as the lines before it
        check_ours(words, read)
    elif words[0] in ("pip", "uv"):
        check_pip(words)
    elif words[0] == "pytest":
        check_pytest(words)
    elif words[0] == "docker":
        assert (ROOT / "Dockerfile").is_file()
    else:
        assert words[0] == "curl"  # run below


@pytest.mark.parametrize("line", written(PAGES, lambda page: INLINE.findall(page.read_text("utf-8"))))
def test_flags_of_a_command_in_a_sentence_are_known(
    line: str, read: Callable[[str, list[str]], Parser | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such a command is often a part of one: its module must be there, and take the flags it names."""
    words = shlex.split(line)
    if words == ["ovs-lens"]:
        return
    name, arguments = module_of(words)
    monkeypatch.setattr(Parser, "parse_known_args", lambda self, args=None, namespace=None: (None, []))
    flags = {word.partition("=")[0] for word in arguments if word.startswith("--")}
    parser = read(name, arguments if not flags else [])
    inner = [] if parser is None else parsers_of(parser)
    assert flags <= {flag for one in inner for flag in one._option_string_actions}


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("ovs_core.cli.segment", ["a.jpg", "--classes", "dog", "--out", "out", "--nonsense"]),
        ("ovs_core.cli.weights", ["nonsense"]),
        ("benchmarks.sam_click", ["--nonsense"]),
    ],
)
def test_a_command_that_is_wrong_is_found(
    name: str, arguments: list[str], read: Callable[[str, list[str]], Parser | None]
) -> None:
    with pytest.raises(SystemExit):
        read(name, arguments)


def test_what_troubleshooting_quotes_is_said() -> None:
    text = (ROOT / "docs/troubleshooting.md").read_text(encoding="utf-8")
    quoted = re.findall(r'^\| "(.+?)" \|', text, re.MULTILINE)
    code = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "ovs_core").rglob("*.py"))
    code = re.sub(r'"\s*\n\s*f?"', "", code)  # sentences over several lines
    assert len(quoted) > 5
    assert [sentence for sentence in quoted if sentence not in code] == []


def test_commands_are_found() -> None:
    found = [line for page in PAGES for line in commands(page)]
    assert {line.split()[0] for line in found} == set(PROGRAMS)
    assert len(found) > 40


@pytest.fixture
def address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.chdir(ROOT)
    engine = FakeEngine(tmp_path, mask_method="fc_clip", heads=["mvp_seg"])
    page = build_ui(engine)
    yield launch(page, host="127.0.0.1", port=None, browser=False, engine=engine).rstrip("/")
    page.close(verbose=False)


def test_the_examples_over_http_run(address: str, capsys: pytest.CaptureFixture[str]) -> None:
    text = (ROOT / "docs/http.md").read_text(encoding="utf-8")
    blocks = [block.replace("http://127.0.0.1:7860", address) for block in PYTHON.findall(text)]
    names: dict[str, Any] = {}
    printed = []
    for block in blocks:
        exec(compile(block, "docs/http.md", "exec"), names)
        printed.append(capsys.readouterr().out)
    assert len(blocks) > 6
    assert all(said.strip() for block, said in zip(blocks, printed, strict=True) if "print(" in block)
    assert "1 cat" in "".join(printed)
    assert "['blanket', 'my cat (box)', 'other']" in "".join(printed)


def test_the_lines_of_curl_run(address: str) -> None:
    plain, with_box = [one for one in commands(ROOT / "docs/http.md") if one.startswith("curl")]
    for line in (plain, with_box):
        answer = sent(line, address)
        assert answer.status_code == 200
        assert {entry["name"] for entry in answer.json()["masks"]} == {"cat", "blanket"}
    assert [box["name"] for box in answer.json()["exemplars"]] == ["other"]


def sent(line: str, address: str) -> httpx.Response:
    """Send what a line of curl sends."""
    program, *words = shlex.split(line)
    assert program == "curl"
    data: dict[str, str] = {}
    files: dict[str, tuple[str, bytes]] = {}
    while words[0] == "-F":
        name, _, value = words[1].partition("=")
        if value.startswith("@"):
            files[name] = (Path(value[1:]).name, (ROOT / value[1:]).read_bytes())
        else:
            data[name] = value
        words = words[2:]
    (url,) = words
    return httpx.post(url.replace("http://127.0.0.1:7860", address), data=data, files=files, timeout=60)
