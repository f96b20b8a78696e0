"""Rules of the house that no linter knows: who may import whom, what modules may hold, what is promised."""

import ast
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
PACKAGE = REPOSITORY / "ovs_core"
SOURCES = sorted(PACKAGE.rglob("*.py"))
RECIPES = sorted((REPOSITORY / "recipes").rglob("*.py"))  # how weights are made: sees all, nothing sees it
LONGEST_FILE = 400
LONGEST_APP = 60

GROUND = frozenset({"types", "views", "options", "devices", "folders", "version"})
VALUES = GROUND | {"image", "vocabulary", "windows", "checkpoints"}
EVIDENCE = GROUND | {"evidence"}
MODELS = VALUES | {"evidence", "encoders", "decoders", "methods", "refine"}
MEASURING = frozenset({"metrics", "labelled"})  # numbers from label maps, and labelled photos on disk
ANSWERS = MODELS | {"render", "edit", "export", "engine"}

# Room -> the other rooms it may import: the arrows of the design, each in one direction.
MAY_SEE = {
    "types": frozenset(),
    "views": frozenset({"types"}),
    "options": frozenset(),
    "folders": frozenset(),
    "version": frozenset(),
    "devices": frozenset({"types"}),
    "windows": frozenset({"types"}),
    "image": GROUND,
    "vocabulary": GROUND | {"image"},  # exemplars: words by the example of a box in a photo
    "checkpoints": GROUND,
    "evidence": GROUND,
    "metrics": GROUND,
    "encoders": VALUES,
    "decoders": VALUES | {"encoders"},
    "methods": VALUES | {"evidence", "encoders", "decoders"},
    "refine": VALUES | {"evidence"},
    "render": EVIDENCE | {"metrics"},  # kinds of errors have one colour everywhere
    "edit": GROUND | {"vocabulary"},
    "export": EVIDENCE | {"vocabulary", "render", "edit", "metrics"},  # connected parts
    "labelled": GROUND | {"image", "vocabulary", "render"},  # of render, the palette
    "engine": MODELS | {"render", "edit", "export"},  # a class has one colour everywhere; Result.save
    "evaluation": ANSWERS | MEASURING,
    "video": ANSWERS | MEASURING,  # VIPSeg
    "batch": ANSWERS,
    "training": MODELS | {"labelled"},
    "ui": ANSWERS | MEASURING | {"video"},
    # cli/app.py serves the page; cli/train.py is how training starts, nothing else sees it
    "cli": ANSWERS | MEASURING | {"evaluation", "training", "batch", "video", "ui"},
    "": ANSWERS,  # ovs_core/__init__.py
}

MUTABLE_DISPLAYS = (ast.Dict, ast.List, ast.Set, ast.DictComp, ast.ListComp, ast.SetComp)
MUTABLE_CALLS = frozenset(
    {"dict", "list", "set", "defaultdict", "OrderedDict", "Counter", "deque", "bytearray"}
)
WEIGHT_READERS = frozenset({"torch.load", "torch.jit.load", "torch.hub"})


def _room(parts: tuple[str, ...]) -> str:
    """Room of a module path below ovs_core: "encoders" for ("encoders", "text"), "" for the package."""
    return parts[0] if parts else ""


def _room_of_file(path: Path) -> str:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return _room(() if parts == ("__init__",) else parts)


def _imports(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """Every imported module or name with dots, and its line; those inside functions, too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            dots = "." * node.level
            yield from ((f"{dots}{node.module or ''}.{alias.name}", node.lineno) for alias in node.names)


def wrong_way_imports(room: str, tree: ast.AST) -> list[str]:
    """Imports of `room` that its line in MAY_SEE does not allow."""
    wrong = []
    for name, line in _imports(tree):
        top, *rest = name.split(".")
        if top == "":
            wrong.append(f"line {line}: relative import")
            continue
        if top != "ovs_core":
            continue
        seen = _room(tuple(rest))
        if seen != room and seen not in MAY_SEE[room]:
            wrong.append(f"line {line}: {room} may not see {seen}")
    return wrong


def imports_of(library: str, tree: ast.AST) -> list[str]:
    """Lines that import `library` or a part of it."""
    return [f"line {line}: {library}" for name, line in _imports(tree) if name.split(".")[0] == library]


def module_state(tree: ast.Module) -> list[str]:
    """Names bound at module level to something that can be changed later, and `global` statements."""
    found = [f"line {node.lineno}: global" for node in ast.walk(tree) if isinstance(node, ast.Global)]
    for node in _module_level(tree):
        if not isinstance(node, ast.Assign | ast.AnnAssign) or node.value is None:
            continue
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        called = node.value.func if isinstance(node.value, ast.Call) else None
        name = called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")
        if ast.unparse(targets[0]) != "__all__" and (
            isinstance(node.value, MUTABLE_DISPLAYS) or name in MUTABLE_CALLS
        ):
            found.append(f"line {node.lineno}: {ast.unparse(targets[0])}")
    return found


def _module_level(node: ast.AST) -> Iterator[ast.stmt]:
    """Statements that run on import, those inside `if`, `try` and `with` included."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            continue
        if isinstance(child, ast.stmt):
            yield child
            yield from _module_level(child)


def weight_reads(tree: ast.AST) -> list[str]:
    """Places that read weights or fetch code: torch.load, torch.jit.load, torch.hub, safetensors readers."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and ast.unparse(node) in WEIGHT_READERS:
            found.append(f"line {node.lineno}: {ast.unparse(node)}")
    for name, line in _imports(tree):
        if name in WEIGHT_READERS or (
            name.startswith("safetensors") and not name.split(".")[-1].startswith("save")
        ):
            found.append(f"line {line}: {name}")
    return found


def hooks(tree: ast.AST) -> list[str]:
    """Calls that register a hook on a module or a tensor."""
    return [
        f"line {node.lineno}: {node.attr}"
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and node.attr.startswith("register_")
        and node.attr.endswith("_hook")
    ]


def option_declarations(tree: ast.AST) -> list[str]:
    """Calls of `Option`: settings that are declared here."""
    return [
        f"line {node.lineno}: Option"
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "Option"
    ]


def _parse(source: str) -> ast.Module:
    return ast.parse(textwrap.dedent(source))


@cache
def _tree(path: Path) -> ast.Module:
    """A file of this repository, parsed once for all rules, which only read it."""
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def _offenders(check, files=SOURCES) -> dict[str, list[str]]:
    """Relative path -> findings, for files with any."""
    findings = {str(path.relative_to(REPOSITORY)): check(_tree(path)) for path in files}
    return {path: found for path, found in findings.items() if found}


def _outside(*rooms: str) -> list[Path]:
    return [path for path in SOURCES if _room_of_file(path) not in rooms]


def test_every_room_is_on_the_map():
    assert {_room_of_file(path) for path in SOURCES} <= set(MAY_SEE)


def test_map_has_no_circle():
    remaining = {room: set(seen) for room, seen in MAY_SEE.items()}
    while remaining:
        free = {room for room, seen in remaining.items() if not seen & set(remaining)}
        assert free, f"these rooms see each other: {sorted(remaining)}"
        remaining = {room: seen for room, seen in remaining.items() if room not in free}


@pytest.mark.parametrize("room", sorted(MAY_SEE))
def test_imports_go_one_way(room):
    files = [path for path in SOURCES if _room_of_file(path) == room]
    assert _offenders(lambda tree: wrong_way_imports(room, tree), files) == {}


def test_nothing_that_is_installed_sees_the_recipes():
    assert _offenders(lambda tree: imports_of("recipes", tree)) == {}


def test_recipes_keep_the_rules_too():
    assert _offenders(hooks, RECIPES) == {}
    assert _offenders(module_state, RECIPES) == {}
    assert _offenders(weight_reads, RECIPES) == {}
    inner = [path for path in RECIPES if path.name != "__main__.py"]
    assert _offenders(lambda tree: imports_of("argparse", tree), inner) == {}
    assert _offenders(lambda tree: imports_of("gradio", tree), RECIPES) == {}


def test_only_the_ui_knows_gradio():
    assert _offenders(lambda tree: imports_of("gradio", tree), _outside("ui")) == {}


def test_only_entry_points_parse_arguments():
    assert _offenders(lambda tree: imports_of("argparse", tree), _outside("cli")) == {}


def test_only_checkpoints_reads_weights():
    assert _offenders(weight_reads, _outside("checkpoints")) == {}


def test_no_hooks():
    assert _offenders(hooks) == {}


def test_a_method_declares_an_option_in_the_file_that_reads_it():
    """One file and its test is what a new switch takes: the spec only collects them."""
    specs = [path for path in SOURCES if path.name == "spec.py" and "methods" in path.parts]
    assert _offenders(option_declarations, specs) == {}


def test_modules_hold_no_state():
    assert _offenders(module_state) == {}


def test_files_stay_readable():
    lengths = {
        str(path.relative_to(REPOSITORY)): len(path.read_text(encoding="utf-8").splitlines())
        for path in [*SOURCES, *RECIPES]
    }
    assert {path: lines for path, lines in lengths.items() if lines > LONGEST_FILE} == {}


def test_app_only_wires():
    assert len((REPOSITORY / "app.py").read_text(encoding="utf-8").splitlines()) <= LONGEST_APP


def test_readme_has_the_two_commands():
    readme = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    assert "pip install -r requirements.txt" in readme
    assert "python app.py" in readme
    assert "pip install -r requirements-dev.txt" in readme
    assert "pytest" in readme


def test_import_touches_no_network_and_no_gradio():
    modules = [
        ".".join(path.relative_to(REPOSITORY).with_suffix("").parts).removesuffix(".__init__")
        for path in _outside("ui", "cli", "training")
    ]
    script = f"""
        import importlib, socket, sys

        def refuse(*arguments):
            raise SystemExit(f"network used on import: {{arguments}}")

        socket.socket.connect = socket.getaddrinfo = refuse
        for name in {modules!r}:
            importlib.import_module(name)
        assert "gradio" not in sys.modules, "gradio was imported"
    """
    finished = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr


# The checks themselves, on lines they must and must not catch.


@pytest.mark.parametrize(
    ("room", "source", "wrong"),
    [
        ("types", "from ovs_core.export.files import save_result", 1),
        ("types", "def save():\n    from ovs_core.export.files import save_result", 1),
        ("engine", "from ovs_core.export.files import save_result", 0),
        ("types", "def save():\n    from ovs_core.render.palette import colors", 1),
        ("encoders", "import ovs_core.methods.base", 1),
        ("encoders", "from ovs_core import image\nfrom ovs_core.encoders.text import embed", 0),
        ("methods", "from ovs_core import Engine", 1),
        ("engine", "from ovs_core.training.loop import fit", 1),
        ("ui", "from ovs_core.cli.segment import main", 1),
        ("ui", "from . import theme", 1),
        ("ui", "if True:\n    import gradio, ovs_core.engine", 0),
    ],
)
def test_wrong_way_imports_are_found(room, source, wrong):
    assert len(wrong_way_imports(room, _parse(source))) == wrong


@pytest.mark.parametrize(
    ("check", "source", "found"),
    [
        (module_state, "CACHE = {}", 1),
        (module_state, "try:\n    NAMES: list[str] = []\nexcept ValueError:\n    pass", 1),
        (module_state, "import collections\nSEEN = collections.defaultdict(list)", 1),
        (module_state, "def f():\n    global LAST\n    LAST = 1", 1),
        (module_state, "A = (1, 2)\nB = frozenset({1})\nC = MappingProxyType({'a': 1})\n__all__ = ['A']", 0),
        (module_state, "def f():\n    a = []\n    return a", 0),
        (hooks, "block.register_forward_hook(keep)", 1),
        (hooks, "self.register_buffer('mean', mean)", 0),
        (option_declarations, "A = Option('a', 'switch', False, 'A.')\nB = (*OPTIONS, A)", 1),
        (weight_reads, "import torch\ntorch.load('a.pt')", 1),
        (weight_reads, "from torch import load", 1),
        (weight_reads, "from safetensors.torch import load_file", 1),
        (weight_reads, "from safetensors.torch import save_file", 0),
        (weight_reads, "import json\njson.load(file)", 0),
        (lambda tree: imports_of("gradio", tree), "import gradio as gr\nfrom gradio.themes import Soft", 2),
        (lambda tree: imports_of("gradio", tree), "import gradio_client", 0),
    ],
)
def test_the_checks_catch_what_they_should(check, source, found):
    assert len(check(_parse(source))) == found
