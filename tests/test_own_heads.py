"""Heads that the user trained: taken in, offered on their tower, preferred, refused in one sentence."""

from dataclasses import replace
from hashlib import sha256
from types import MappingProxyType

import pytest
import torch
from head_toys import (
    HEAD_FILES,
    PRESET,
    WORDS,
    declared,
    toy_spec,
    write_toy_heads,
)
from instance_toys import SHA
from official_files import entry, write_catalogue
from safetensors.torch import save_file
from tiny_clip import make_model
from towers import random_photo

from ovs_core.checkpoints import CheckpointError, WeightStore
from ovs_core.cli import weights
from ovs_core.encoders.loading import CLIP_MEAN, CLIP_STD, LoadedModel
from ovs_core.encoders.towers import ENCODERS, EncoderSpec
from ovs_core.engine import Request, Result
from ovs_core.engine.menus import why_not
from ovs_core.methods import METHODS
from ovs_core.methods.heads import add_head, describe_head, own_heads
from ovs_core.methods.mvp_seg.contexts import Contexts, load_contexts, save_contexts
from ovs_core.methods.mvp_seg.model import ContextText, build_mvp_seg

BYTES = b"the tower's weights"
TOWER = sha256(BYTES).hexdigest()
NAME = f"mvp_seg-{TOWER[:16]}.safetensors"


def full_spec():
    """A full-size tower as the registry has them, but tiny: no head is published for it."""

    def load(store):
        return LoadedModel(make_model(), CLIP_MEAN, CLIP_STD, {"tower.pt": TOWER})

    return EncoderSpec("full", "Tiny full tower", "", "tower", "full", "openai", 16, load)


def contexts(tower=TOWER, seed=3, width=32):
    generator = torch.Generator().manual_seed(seed)
    views, whole = torch.randn(2, 3, width, generator=generator), torch.randn(3, width, generator=generator)
    return Contexts(views, whole, tower, tau1=30.0, tau2=0.07, gamma=100.0)


@pytest.fixture
def root(tmp_path):
    root = write_catalogue(tmp_path / "root", entry("tower", "tower.pt"))
    (root / "tower.pt").write_bytes(BYTES)
    return root


@pytest.fixture
def store(root):
    return WeightStore(root=root)


@pytest.fixture
def encoders():
    return MappingProxyType({"full": full_spec()})


@pytest.fixture
def engine(make_engine, encoders, store):
    made = make_engine(encoders=encoders)
    made.store = store
    return made


@pytest.fixture
def file(tmp_path):
    return save_contexts(contexts(), tmp_path / "mvp_seg.safetensors")


def ask(engine, method="mvp_seg", encoder="full"):
    request = Request(random_photo(48, 80), WORDS, method, encoder, options=declared(method, PRESET))
    *_, result = engine.run(request)
    assert isinstance(result, Result)
    return result


def test_without_a_head_the_next_step_is_said(engine):
    says = "MVP-SEG needs a part that is trained on Tiny full tower, and nobody publishes one. Train it, then"
    about = {info.name: info for info in engine.methods("full")}
    assert about["naclip"].available
    assert about["mvp_seg"].reason.startswith(says)
    assert about["fc_clip"].reason.startswith("FC-CLIP does not run on Tiny full tower")
    with pytest.raises(ValueError, match=says):
        ask(engine)


def test_an_added_head_is_offered_at_once_and_answers(engine, store, encoders, file):
    path = add_head(store, file, METHODS, encoders)
    assert path == store.folder / "heads" / NAME
    assert {info.name: info for info in engine.methods("full")}["mvp_seg"].available
    result = ask(engine)
    assert result.weights == {"tower.pt": TOWER, NAME: sha256(file.read_bytes()).hexdigest()}
    tower, bound = engine.loaded.bound(METHODS["mvp_seg"], encoders["full"], store, None)
    made = load_contexts(file, TOWER)
    method = build_mvp_seg(tower.vision.visual, tower.text, made)
    features = bound.image.encode(random_photo(48, 80).pixels, PRESET)
    expected = method.ask(features, ContextText(tower.text, made).embed(WORDS), {})
    assert torch.equal(result.evidence.rows, expected.evidence.rows)
    assert engine.preset("mvp_seg", "full").scale == 1  # probabilities are the paper's
    events = engine.compare(random_photo(48, 80), WORDS, encoder="full", options=PRESET.options)
    assert [event.method for event in events if isinstance(event, Result)][-1] == "mvp_seg"


def test_a_head_added_again_replaces_the_first(engine, store, encoders, file, tmp_path):
    add_head(store, file, METHODS, encoders)
    first = ask(engine)
    add_head(store, save_contexts(contexts(seed=9), tmp_path / "again.safetensors"), METHODS, encoders)
    second = ask(engine)
    assert list(own_heads(store)) == [store.folder / "heads" / NAME]
    assert second.weights != first.weights
    assert not torch.equal(first.evidence.rows, second.evidence.rows)
    assert add_head(store, store.folder / "heads" / NAME, METHODS, encoders) == store.folder / "heads" / NAME


@pytest.mark.parametrize("method", HEAD_FILES)
def test_ones_own_head_goes_before_the_one_that_is_shipped(make_engine, tmp_path, method):
    root = write_catalogue(
        tmp_path / "root", *(entry(name, f"mini/{name}.safetensors", page="") for name in HEAD_FILES)
    )
    (root / "mini").mkdir()
    (tmp_path / "again").mkdir()
    write_toy_heads(root / "mini")
    write_toy_heads(tmp_path / "again", again=1)
    engine = make_engine(encoders={"mini": toy_spec()})
    engine.store = WeightStore(weights_dir=tmp_path / "mine", root=root)
    shipped = ask(engine, method, "mini")
    own = engine.store.folder / "heads" / f"{method}-{SHA[:16]}.safetensors"
    own.parent.mkdir(parents=True)
    own.write_bytes((tmp_path / "again" / f"{method}.safetensors").read_bytes())
    mine = ask(engine, method, "mini")
    assert set(shipped.weights) == {"toy.safetensors", f"{method}.safetensors"}
    assert set(mine.weights) == {"toy.safetensors", own.name}
    own.unlink()
    assert ask(engine, method, "mini").weights == shipped.weights


def test_official_files_of_mask_methods_take_no_head_of_ones_own():
    for name in ("convnext_l_fcclip", "convnext_b_maftp"):
        assert not ENCODERS[name].own_heads
    assert not METHODS["fc_clip"].runs_on(ENCODERS["convnext_b_maftp"])
    assert METHODS["mvp_seg"].runs_on(ENCODERS["vit_l14_openai"])
    assert not METHODS["fc_clip"].runs_on(ENCODERS["vit_l14_openai"])


def damaged(path):
    content = path.read_bytes()
    path.write_bytes(content[: len(content) - 20])


def renamed(path):
    """The tensors of contexts without what they are."""
    save_file({"views": torch.zeros(2, 3, 32)}, path, metadata={"kind": "something else"})


def anonymous(path):
    save_file({"views": torch.zeros(2, 3, 32)}, path, metadata={"kind": "mvp-seg contexts", "tower": "x"})


def of_nobody(path):
    notes = {"kind": "mask head", "method": "gkc", "tower": TOWER}
    save_file({"views": torch.zeros(2, 3, 32)}, path, metadata=notes)


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda path: path.unlink(), "There is no file"),
        (lambda path: path.write_bytes(b"letter"), "carries no notes: it is not a safetensors file"),
        (damaged, "cannot be read: it is cut short, damaged"),
        (
            renamed,
            "GKC or Two stages (SimBaseline) that this project trained",
        ),
        (
            of_nobody,
            "GKC or Two stages (SimBaseline) that this project trained",
        ),
        (anonymous, "does not say which tower it was trained on"),
        (lambda path: save_contexts(contexts("c" * 64), path), "was trained on weights that are not here"),
    ],
)
def test_bad_files_are_one_sentence_and_leave_nothing(store, encoders, file, spoil, says):
    spoil(file)
    with pytest.raises(CheckpointError) as caught:
        add_head(store, file, METHODS, encoders)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (store.folder / "heads").exists()


def test_a_folder_that_cannot_be_written_is_said(store, encoders, file):
    (store.folder / "heads").write_bytes(b"a file in the way")
    with pytest.raises(CheckpointError, match="Cannot put"):
        add_head(store, file, METHODS, encoders)


def test_a_head_exchanged_by_hand_is_refused_in_menus(store, encoders, file):
    path = add_head(store, file, METHODS, encoders)
    save_contexts(contexts("c" * 64), path)
    says = why_not(METHODS["mvp_seg"], full_spec(), store, METHODS, {})
    assert "belongs to another method or tower than its name says" in says
    path.write_bytes(b"letter")
    assert "carries no notes" in why_not(METHODS["mvp_seg"], full_spec(), store, METHODS, {})


def test_contexts_of_another_width_are_one_sentence(engine, store, encoders, tmp_path):
    add_head(store, save_contexts(contexts(width=16), tmp_path / "narrow.safetensors"), METHODS, encoders)
    with pytest.raises(ValueError, match=r"contexts must be \(V, M, 32\), got \(3, 3, 16\)"):
        ask(engine)


def test_no_checksum_is_measured_where_there_is_no_head(store, monkeypatch):
    monkeypatch.setattr(WeightStore, "sha256_of", lambda *_: pytest.fail("measured"))
    assert "nobody publishes one" in why_not(METHODS["mvp_seg"], full_spec(), store, METHODS, {})


@pytest.fixture
def command(store, monkeypatch):
    """The command on a catalogue with OpenAI's ViT-B/16, whose checksum is published."""
    line = entry("openai-vit-b-16", "ViT-B-16.pt")
    root = write_catalogue(store.folder.parent / "official", {**line, "sha256": TOWER})
    monkeypatch.setattr(weights, "WeightStore", lambda *more: WeightStore(*more, root=root))
    return root


def test_the_command_adds_lists_and_verifies(command, file, capsys):
    path = command / "heads" / NAME
    assert weights.main(["add", str(file)]) == 0
    assert capsys.readouterr().out == f"{path} MVP-SEG on CLIP ViT-B/16, OpenAI (vit_b16_openai)\n"
    assert weights.main(["list"]) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.split()[:6] == [path.stem, "<1", "MB", "your", "own", "yes"]
    assert last.endswith("MVP-SEG on CLIP ViT-B/16, OpenAI (vit_b16_openai)")
    assert weights.main(["verify"]) == 0
    digest = sha256(file.read_bytes()).hexdigest()
    assert capsys.readouterr().out == f"{path.stem}: {path} can be read (SHA-256 {digest})\n"
    damaged(path)
    assert weights.main(["verify"]) == 2
    assert "cut short" in capsys.readouterr().err


def test_a_bad_file_is_one_line(command, tmp_path, capsys):
    assert weights.main(["add", str(tmp_path / "absent.safetensors")]) == 2
    out, err = capsys.readouterr()
    assert (out, err) == ("", f"There is no file {tmp_path / 'absent.safetensors'}.\n")


def test_what_a_head_is_for_is_said(store, tmp_path):
    other = save_contexts(contexts("d" * 64), tmp_path / "other.safetensors")
    store = WeightStore(weights_dir=tmp_path)
    assert describe_head(store, other, METHODS, ENCODERS) == "MVP-SEG on weights that are not here"
    shipped = replace(contexts(), tower=store.entry("openai-vit-b-16").sha256)
    assert describe_head(store, save_contexts(shipped, other), METHODS, ENCODERS) == (
        "MVP-SEG on CLIP ViT-B/16, OpenAI (vit_b16_openai)"
    )
