"""docs/extending.md is true: its toy method, encoder and refiner show everywhere with no other change."""

import re
from hashlib import sha256
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pytest
import torch
from gradio_client import Client, handle_file
from official_files import entry, write_catalogue
from PIL import Image
from safetensors.torch import save_file
from tiny_clip import make_model
from towers import random_photo

from ovs_core.checkpoints import WeightStore
from ovs_core.cli import evaluate, segment
from ovs_core.encoders.loading import CLIP_MEAN, CLIP_STD, LoadedModel
from ovs_core.encoders.towers import EncoderSpec
from ovs_core.engine import Engine, Request, Result
from ovs_core.methods import METHODS
from ovs_core.methods.heads import add_head
from ovs_core.refine import REFINERS
from ovs_core.types import Vocabulary
from ovs_core.ui.app import build_ui, launch

PAGE = Path(__file__).resolve().parents[1] / "docs" / "extending.md"
BYTES = b"the tower's weights"
TOWER = sha256(BYTES).hexdigest()
WORDS = Vocabulary((("dog",), ("grass",)), ("sky",))


@pytest.fixture(scope="module")
def shown():
    """The names that the page's blocks define."""
    names = {}
    for block in re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL):
        assert len(block.splitlines()) <= 60
        exec(compile(block, str(PAGE), "exec"), names)  # the page is ours
    return names


def tower(store):
    return LoadedModel(make_model(), CLIP_MEAN, CLIP_STD, {"tower.pt": TOWER})


@pytest.fixture(scope="module")
def engine(shown, tmp_path_factory):
    """An engine that knows one method, one encoder and one refiner more, and has the method's head."""
    root = write_catalogue(tmp_path_factory.mktemp("root"), entry("tower", "tower.pt"))
    (root / "tower.pt").write_bytes(BYTES)
    made = Engine(
        "cpu",
        offline=True,
        text_dir=root / "text",
        encoders=MappingProxyType(
            {"mini": EncoderSpec("mini", "Tiny tower", "", "tower", "full", "openai", 16, tower)}
        ),
        methods=MappingProxyType({**METHODS, "toy": shown["TOY"]}),
        refiners=MappingProxyType({"none": REFINERS["none"], "square": shown["SQUARE"]}),
    )
    made.store = WeightStore(root=root)
    says = "Toy needs a part that is trained on Tiny tower, and nobody publishes one"
    assert {info.name: info for info in made.methods()}["toy"].reason.startswith(says)
    notes = {"kind": "toy head", "tower": TOWER}
    save_file({"bias": torch.tensor([0.5])}, root / "toy.safetensors", metadata=notes)
    add_head(made.store, root / "toy.safetensors", made.method_specs, made.encoder_specs)
    return made


@pytest.fixture(scope="module")
def client(engine, tmp_path_factory):
    page = build_ui(engine)
    address = launch(page, host="127.0.0.1", port=None, browser=False)
    yield Client(address, verbose=False, download_files=tmp_path_factory.mktemp("answers"))
    page.close(verbose=False)


@pytest.fixture(scope="module")
def photo(tmp_path_factory):
    path = tmp_path_factory.mktemp("photos") / "street.png"
    Image.fromarray(random_photo(48, 80).pixels).save(path)
    return path


def test_the_engine_runs_it_with_its_option_view_and_head(engine):
    ask = {"photo": random_photo(48, 80), "vocabulary": WORDS, "method": "toy"}
    answers = []
    for options in ({}, {"gain": 2.0}, {"gain": 2.0, "scale": 10}):
        *_, result = engine.run(Request(**ask, options=options, views=frozenset({"gains"})))
        assert isinstance(result, Result)
        answers.append(result)
    plain, doubled, soft = answers
    added = doubled.evidence.rows[0] - plain.evidence.rows[0]
    torch.testing.assert_close(added, torch.full_like(added, 0.5))  # part of the cache key
    assert "method" in doubled.seconds
    assert set(soft.seconds) == {"decide"}  # scale is not
    assert doubled.views[0].maps.flatten().tolist() == [1.0, 1.0]
    assert f"toy-{TOWER[:16]}.safetensors" in plain.weights
    with pytest.raises(ValueError, match=r"gain must be a number in \[0, 10\], got 11"):
        engine.run(Request(**ask, options={"gain": 11}))


def test_the_refiner_is_one_of_them(engine):
    *_, plain = engine.run(Request(random_photo(48, 80), WORDS, "toy"))
    *_, squared = engine.run(Request(random_photo(48, 80), WORDS, "toy", refiner="square"))
    torch.testing.assert_close(squared.evidence.rows.abs(), plain.evidence.rows**2)
    *_, cubed = engine.run(
        Request(random_photo(48, 80), WORDS, "toy", refiner="square", options={"power": 3})
    )
    torch.testing.assert_close(cubed.evidence.rows, plain.evidence.rows**3)


def test_the_terminal_has_its_flags(engine, photo, tmp_path, capsys):
    arguments = [str(photo), "--classes", "dog; grass", "--out", str(tmp_path), "--method", "toy"]
    assert segment.main([*arguments, "--gain", "3", "--refine", "square", "--power", "3"], engine) == 0
    assert (tmp_path / "street.toy.labels.png").is_file()
    assert '"gain": 3.0' in (tmp_path / "street.toy.json").read_text(encoding="utf-8")
    assert segment.main([*arguments[:-1], "naclip", "--gain", "3"], engine) == 2
    assert "--gain belongs to toy; choose it with --method." in capsys.readouterr().err


def test_http_takes_it_and_lists_it(client, photo):
    _, report = client.predict(
        image=handle_file(photo), classes="dog", method="toy", options={"gain": 4}, api_name="/segment"
    )
    assert (report["method"], report["options"]["gain"]) == ("toy", 4.0)
    methods = {info["name"]: info for info in client.predict(api_name="/methods")["methods"]}
    assert methods["toy"]["views"] == ["gains"]
    assert "gain" in [option["name"] for option in methods["toy"]["options"]]
    _, _, compared = client.predict(
        image=handle_file(photo), classes="dog; grass", methods=["toy", "naclip"], api_name="/compare"
    )
    assert list(compared["methods"]) == ["toy", "naclip"]
    _, _, inside = client.predict(
        image=handle_file(photo), classes="dog; grass", method="toy", views=["all"], api_name="/inspect"
    )
    assert [view["kind"] for view in inside["views"]] == ["gains"]
    assert inside["figures"] == ["gains"]


def test_the_page_offers_it_in_every_tab(engine):
    components = build_ui(engine).get_config_file()["components"]
    props = [component["props"] for component in components]
    choices = {p.get("elem_id"): p.get("choices") or [] for p in props}
    for field in ("method", "compare-methods-more", "inspect-method"):
        assert ["Toy", "toy"] in [list(choice) for choice in choices[field]]
    assert ["Square", "square"] in [list(choice) for choice in choices["refine"]]
    fields = {p.get("elem_id"): p for p in props}
    assert fields["option-gain"]["info"] == "Multiplies what the head learnt."
    assert fields["option-power"]["label"] == "Power (Square)"
    models = next(p["value"] for p in props if "heads/toy-" in str(p.get("value")))
    assert "Toy on Tiny tower (mini)" in models


def test_it_is_measured_like_any_other(engine, photo, tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "masks").mkdir()
    (tmp_path / "images" / "1.png").write_bytes(photo.read_bytes())
    truth = np.ones((48, 80), np.uint8)
    truth[:, 40:] = 2
    Image.fromarray(truth).save(tmp_path / "masks" / "1.png")
    (tmp_path / "classes.txt").write_text("0 background\n1 dog\n2 grass\n", encoding="utf-8")
    out = tmp_path / "report.json"
    arguments = ["--dataset", "folder", "--root", str(tmp_path), "--out", str(out), "--method", "toy"]
    assert evaluate.main([*arguments, "--gain", "0.5"], engine) == 0
    assert '"gain": 0.5' in out.read_text(encoding="utf-8")


def test_the_encoder_answers(shown, tmp_path):
    engine = Engine("cpu", text_dir=tmp_path, encoders={"random_b32": shown["RANDOM"]})
    result = engine.segment(random_photo(48, 80), WORDS, encoder="random_b32")
    assert result.labels.shape == (48, 80)
    assert list(result.weights) == ["random.pt"]
