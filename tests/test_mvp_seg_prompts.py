"""Learned contexts through the text tower: CoOp's official tensors, caching, nearest words, files."""

import dataclasses
import threading
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from open_clip.transformer import QuickGELU, Transformer
from safetensors.torch import load_file, save_file
from tiny_clip import make_model
from torch import nn

from ovs_core.checkpoints import CheckpointError, read_metadata
from ovs_core.devices import Cancelled
from ovs_core.encoders.prompts import clip_tokenizer, context_prompts, insert_context, whole_words
from ovs_core.encoders.text import TextEncoder
from ovs_core.encoders.text_tower import TextTower
from ovs_core.methods.mvp_seg.contexts import Contexts, load_contexts, save_contexts

DATA = Path(__file__).parent / "data"
NAMES = ("aeroplane", "traffic_light", "hair drier", "dining table", "tv monitor")
VOCABULARY, WIDTH = 49408, 16
CPU = torch.device("cpu")
TOWER = "ab" * 32


@pytest.fixture(scope="module")
def coop():
    return load_file(DATA / "mvp_seg_coop.safetensors")


@pytest.fixture(scope="module")
def coop_tower(coop):
    table = nn.Embedding(VOCABULARY, WIDTH)
    transformer = Transformer(WIDTH, layers=2, heads=2, act_layer=QuickGELU)
    prefix = "w.transformer."
    transformer.load_state_dict({k.removeprefix(prefix): v for k, v in coop.items() if k.startswith(prefix)})
    norm = nn.LayerNorm(WIDTH)
    norm.load_state_dict({part: coop[f"w.ln_final.{part}"] for part in ("weight", "bias")})
    with torch.no_grad():
        table.weight.zero_()
        table.weight[coop["w.token_embedding.row_ids"].long()] = coop["w.token_embedding.rows"]
    mask = torch.full((77, 77), float("-inf")).triu(1)
    positions, projection = coop["w.positional_embedding"], coop["w.text_projection"]
    return TextTower(table, positions, transformer, mask, norm, projection, eos_id=None)


@pytest.mark.parametrize(
    ("case", "position"),
    [("end16", "end"), ("mid4", "middle"), ("front4", "front"), ("csc3", "end")],
)
def test_embeddings_equal_coop(coop, coop_tower, case, position):
    context = coop[f"in.{case}.ctx"]
    ids = context_prompts(clip_tokenizer(77), NAMES, context.shape[-2])
    assert torch.equal(ids, coop[f"in.{case}.tokens"])
    with torch.no_grad():
        found = coop_tower.embed_context(ids, context, position)
    torch.testing.assert_close(found, coop[f"out.{case}.emb"], atol=1e-5, rtol=0)
    rows = coop[f"out.{case}.prompt_tokens"]
    tokens = insert_context(coop_tower.token_embedding(ids), context, coop_tower.read_at(ids), position)
    torch.testing.assert_close(tokens[: len(rows), : rows.shape[1]], rows, atol=1e-6, rtol=0)


def test_context_of_words_equals_coop_and_the_typed_prompt(coop, coop_tower):
    """ "a photo of a" as a context is the prompt "a photo of a NAME." itself."""
    ids = context_prompts(clip_tokenizer(77), NAMES, 4)
    with torch.no_grad():
        found = coop_tower.embed_context(ids, coop["in.init.ctx"])
        typed = coop_tower.embed(coop["in.init.tokens"])
    torch.testing.assert_close(found, coop["out.init.emb"], atol=1e-5, rtol=0)
    torch.testing.assert_close(found, typed, atol=1e-6, rtol=0)


def test_context_that_leaves_no_room_is_refused():
    tokenize = clip_tokenizer(77)
    assert context_prompts(tokenize, ["dog"], 73).shape == (1, 77)
    for length in (0, 74):
        with pytest.raises(ValueError, match=f"1 to 73 vectors, got {length}"):
            context_prompts(tokenize, ["dog"], length)


def test_gradient_reaches_the_context_only(coop, coop_tower):
    context = coop["in.mid4.ctx"].clone().requires_grad_(True)
    for part in (coop_tower.token_embedding, coop_tower.transformer, coop_tower.ln_final):
        part.requires_grad_(False)
    ids = context_prompts(clip_tokenizer(77), NAMES, 4)
    coop_tower.embed_context(ids, context, "middle").sum().backward()
    assert context.grad.abs().min() > 0
    assert all(p.grad is None for p in coop_tower.transformer.parameters())


def make_encoder(**more):
    return TextEncoder(make_model(), "tiny:0:float32", CPU, **more)


def make_vectors(count=4, length=3, seed=0):
    return torch.randn(count, length, 32, generator=torch.Generator().manual_seed(seed))


def test_encoder_embeds_names_in_every_context():
    encoder, vectors = make_encoder(), make_vectors()
    found = encoder.embed_contexts(("dog", "traffic light"), vectors)
    assert found.shape == (4, 2, 24)
    torch.testing.assert_close(found.norm(dim=-1), torch.ones(4, 2))
    ids = context_prompts(clip_tokenizer(77), ["traffic light"], 3)
    alone = F.normalize(encoder._tower.embed_context(ids, vectors[2]), dim=-1)
    torch.testing.assert_close(found[2, 1], alone[0], atol=1e-6, rtol=0)


def test_encoder_remembers_by_contexts_position_and_name(tmp_path):
    encoder, vectors = make_encoder(cache_dir=tmp_path), make_vectors(2, 2)
    first = encoder.embed_contexts(("dog", "cat"), vectors)
    assert len(list(tmp_path.glob("*.row"))) == 2
    again = make_encoder(cache_dir=tmp_path)  # reads the same files
    assert torch.equal(first, again.embed_contexts(("dog", "cat"), vectors))
    others = (
        encoder.embed_contexts(("dog", "cat"), make_vectors(2, 2, seed=1)),
        encoder.embed_contexts(("dog", "cat"), vectors, "front"),
        encoder.embed_contexts(("dog", "cat"), vectors.reshape(1, 4, 32)).expand(2, -1, -1),
    )
    assert all(not torch.allclose(first, other) for other in others)
    assert len(list(tmp_path.glob("*.row"))) == 8
    assert torch.equal(first[:, 1:], encoder.embed_contexts(("cat",), vectors))


def test_encoder_tells_progress_and_stops():
    encoder, vectors, seen, stop = make_encoder(), make_vectors(), [], threading.Event()

    def progress(done, total):
        seen.append((done, total))
        stop.set()

    with pytest.raises(Cancelled):
        encoder.embed_contexts(("dog", "cat"), vectors, progress=progress, cancel=stop)
    assert seen == [(1, 2)]


@pytest.mark.parametrize("shape", [(4, 3, 16), (3, 32)])
def test_contexts_of_another_width_are_refused(shape):
    with pytest.raises(ValueError, match=r"contexts must be \(V, M, 32\)"):
        make_encoder().embed_contexts(("dog",), torch.zeros(shape))


def test_nearest_words_finds_a_word_put_there():
    encoder = make_encoder()
    ids, words = whole_words()
    place = words.index("zebra")
    table = encoder._tower.token_embedding.weight
    vectors = torch.stack([table[ids[place]], table[ids[words.index("stripes")]]])[None]
    found, distances = encoder.nearest_words(vectors + 1e-4)
    assert found == (("zebra", "stripes"),)
    assert distances.shape == (1, 2)
    assert distances.max() < 1e-2


def make_contexts(whole=True, **more):
    vectors = make_vectors()
    return Contexts(vectors[1:], vectors[0] if whole else None, TOWER, 33.3, 0.07, 100.0, **more)


def test_words_are_spelled_as_people_write_them():
    ids, words = whole_words()
    assert len(ids) == len(words) == len(set(ids))
    assert {"photo", "a", "café"} <= set(words)
    assert all(word.isalpha() for word in words)
    assert not any("âĢ" in word for word in words)  # the first bytes of a dash, each written as a letter


def test_stacked_has_the_global_prompt_first():
    contexts = make_contexts()
    assert contexts.titles == ("global", "view 1", "view 2", "view 3")
    assert torch.equal(contexts.stacked[0], contexts.whole)
    assert make_contexts(whole=False).titles == ("view 1", "view 2", "view 3")
    assert contexts.k == len(make_contexts(whole=False).stacked) == 3


@pytest.mark.parametrize("whole", [True, False])
def test_file_gives_back_what_was_saved(tmp_path, whole):
    contexts = make_contexts(whole, position="middle", training={"steps": 7})
    path = save_contexts(contexts, tmp_path / "mvp_seg.safetensors")
    assert [file.name for file in tmp_path.iterdir()] == ["mvp_seg.safetensors"]
    found = load_contexts(path, TOWER, k=3, width=32)
    assert torch.equal(found.stacked, contexts.stacked)
    names = [entry.name for entry in dataclasses.fields(Contexts) if entry.name not in ("views", "whole")]
    assert [getattr(found, name) for name in names] == [getattr(contexts, name) for name in names]


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"tower": "cd" * 32}, "trained on another tower"),
        ({"k": 1}, "holds 3 views, expected 1"),
        ({"width": 512}, "32 wide, the text tower takes 512"),
    ],
)
def test_file_of_something_else_is_refused_in_one_sentence(tmp_path, asked, said):
    path = save_contexts(make_contexts(), tmp_path / "mvp_seg.safetensors")
    with pytest.raises(CheckpointError, match=said) as refusal:
        load_contexts(path, **{"tower": TOWER, **asked})
    assert str(refusal.value).count("\n") == 0
    assert str(path) in str(refusal.value)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"k": "2"}, "notes say 2 views"),
        ({"position": "top"}, "position is 'top'"),
        ({"tau1": "-1"}, "tau1 must be above 0"),
        ({"training": "{"}, "cannot be read"),
        ({"kind": "sam"}, "not a file of MVP-SEG contexts"),
        ({"tau2": None}, "'tau2'"),
    ],
)
def test_damaged_notes_are_refused(tmp_path, changed, said):
    path = save_contexts(make_contexts(), tmp_path / "mvp_seg.safetensors")
    notes = {**read_metadata(path), **changed}
    tensors = load_file(path)
    save_file(tensors, path, metadata={name: value for name, value in notes.items() if value is not None})
    with pytest.raises(CheckpointError, match=said):
        load_contexts(path, TOWER)


def test_other_files_are_refused(tmp_path):
    path = tmp_path / "other.safetensors"
    save_file({"views": torch.zeros(3, 2, 4)}, path)
    assert read_metadata(path) == {}
    with pytest.raises(CheckpointError, match="not a file of MVP-SEG contexts"):
        load_contexts(path, TOWER)
    path.write_bytes(b"PK\x03\x04")
    with pytest.raises(CheckpointError, match="not a safetensors file"):
        load_contexts(path, TOWER)
    with pytest.raises(CheckpointError, match="There is no file"):
        load_contexts(tmp_path / "none.safetensors", TOWER)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"views": torch.zeros(3, 4)}, r"views must be \(k, M, C\)"),
        ({"views": torch.zeros(0, 3, 32)}, r"views must be \(k, M, C\)"),
        ({"whole": torch.zeros(2, 32)}, r"whole must be \(3, 32\)"),
        ({"gamma": 0.0}, "gamma must be above 0"),
        ({"tau2": float("nan")}, "tau2 must be above 0"),
    ],
)
def test_contexts_are_checked(changed, said):
    with pytest.raises(ValueError, match=said):
        dataclasses.replace(make_contexts(), **changed)
