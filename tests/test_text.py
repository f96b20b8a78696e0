"""The text tower: equal to open_clip's own, cut or not; remembered rows change nothing but the time taken."""

import logging
import threading

import pytest
import torch
import torch.nn.functional as F
from tiny_clip import make_model

from ovs_core.checkpoints import WeightStore
from ovs_core.devices import Cancelled
from ovs_core.encoders.prompts import clip_tokenizer, fill
from ovs_core.encoders.text import TextEncoder
from ovs_core.encoders.text_rows import row_key
from ovs_core.encoders.text_tower import text_tower
from ovs_core.encoders.towers import ENCODERS
from ovs_core.engine.cache import ByteCache
from ovs_core.types import Vocabulary

CPU = torch.device("cpu")
TEMPLATES = ("a photo of a {}.", "{}", "a bad low resolution photo of the small {} in the scene.")
PROMPTS = [
    "dog",
    "a photo of a dog.",
    "a photo of a very large and very old stone house by the sea",
    "",
    "日本",
]


def vocabulary(*names, other=()):
    return Vocabulary(tuple((name,) for name in names), other)


TOKENIZE = clip_tokenizer(77)


class CountingTokenizer:
    """Counts how often the tower is about to run: each name that is encoded is tokenised once."""

    calls = 0

    def __call__(self, prompts):
        self.calls += 1
        return TOKENIZE(prompts)


def make_encoder(model=None, identity="tiny", tokenizer=TOKENIZE, **settings):
    return TextEncoder(model or make_model(), identity, CPU, tokenizer=tokenizer, **settings)


@pytest.mark.parametrize(
    "settings",
    [{}, {"quick_gelu": True}, {"custom": True}, {"custom": True, "pool_type": "eos", "eos_id": 49407}],
    ids=["clip", "quickgelu", "custom_text", "custom_text_eos"],
)
def test_cut_prompts_equal_full_ones(settings):
    model = make_model(**settings)
    ids = TOKENIZE(PROMPTS)
    with torch.no_grad():
        expected = model.encode_text(ids)
        ours = text_tower(model).embed(ids)
        alone = torch.cat([text_tower(model).embed(one[None]) for one in ids])
    assert expected.std() > 0.1
    torch.testing.assert_close(ours, expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(alone, expected, atol=1e-5, rtol=0)


def test_a_linear_projection_and_none_are_read_too():
    ids = TOKENIZE(PROMPTS)
    for settings in ({"proj_bias": True}, {"proj_type": "none"}):
        model = make_model(custom=True, **settings)
        torch.testing.assert_close(text_tower(model).embed(ids), model.encode_text(ids), atol=1e-5, rtol=0)


def test_the_tower_runs_no_further_than_the_last_end_of_text():
    model = make_model()
    tower = text_tower(model)
    lengths = []

    class Spy(torch.nn.Module):
        def forward(self, x, attn_mask):
            lengths.append(x.shape[1])
            return model.transformer(x, attn_mask=attn_mask)

    spied = type(tower)(**{**vars(tower), "transformer": Spy()})
    spied.embed(TOKENIZE(["dog", "a photo of a dog"]))
    assert lengths == [7]  # start, five words, end


def test_rows_are_the_normalised_mean_of_normalised_prompts():
    model = make_model()
    bank = make_encoder(model).embed(vocabulary("dog", "fire truck", other=("sky",)), TEMPLATES)
    assert bank.embeddings.shape == (3, 24)
    for row, name in zip(bank.embeddings, ("dog", "fire truck", "sky"), strict=True):
        with torch.no_grad():
            prompts = model.encode_text(TOKENIZE([fill(one, name) for one in TEMPLATES]))
        expected = F.normalize(F.normalize(prompts, dim=-1).mean(dim=0), dim=0)
        torch.testing.assert_close(row, expected, atol=1e-5, rtol=0)


def test_rows_follow_the_vocabulary_synonyms_first_then_other():
    encoder = make_encoder()
    words = Vocabulary((("dog", "puppy"), ("sky",)), ("wall",))
    bank = encoder.embed(words, TEMPLATES)
    for index, name in enumerate(("dog", "puppy", "sky", "wall")):
        assert torch.equal(bank.embeddings[index], encoder.embed(vocabulary(name), TEMPLATES).embeddings[0])


def test_many_templates_in_several_batches():
    model = make_model()
    templates = tuple(f"{'very ' * (n % 7)}good photo {n} of a {{}}" for n in range(45))
    row = make_encoder(model).embed(vocabulary("cat"), templates).embeddings[0]
    with torch.no_grad():
        prompts = model.encode_text(TOKENIZE([fill(one, "cat") for one in templates]), normalize=True)
    torch.testing.assert_close(row, F.normalize(prompts.mean(dim=0), dim=0), atol=1e-5, rtol=0)


def test_a_prompt_that_is_too_long_is_cut_and_keeps_its_end():
    model = make_model(context_length=16)
    encoder = make_encoder(model, tokenizer=None)
    long = " ".join(["house"] * 200)
    (row,) = encoder.embed(vocabulary(long), ("{}",)).embeddings
    ids = clip_tokenizer(16)([long])
    assert ids.shape == (1, 16)
    assert ids[0, -1] == 49407
    torch.testing.assert_close(row, F.normalize(model.encode_text(ids)[0], dim=0), atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", ["<end_of_text>", "{} {0} {name}", "a;b|c", "\U0001f415", "x" * 200])
def test_any_text_is_a_name(name):
    (row,) = make_encoder().embed(vocabulary(name), TEMPLATES).embeddings
    assert row.norm().item() == pytest.approx(1, abs=1e-5)


def test_the_second_time_the_tower_rests():
    tokenizer = CountingTokenizer()
    encoder = make_encoder(tokenizer=tokenizer)
    first = encoder.embed(vocabulary("dog", "cat"), TEMPLATES)
    assert tokenizer.calls == 2
    again = encoder.embed(vocabulary("cat", "dog"), TEMPLATES)
    assert tokenizer.calls == 2
    assert torch.equal(first.embeddings.flip(0), again.embeddings)
    encoder.embed(vocabulary("dog"), TEMPLATES[:1])  # other templates, other row
    assert tokenizer.calls == 3


def test_what_was_asked_before_changes_no_bit():
    fresh = make_encoder().embed(vocabulary("dog", "cat"), TEMPLATES)
    used = make_encoder()
    used.embed(vocabulary("cat", "an extraordinarily long name of a thing", "sky"), TEMPLATES)
    assert torch.equal(used.embed(vocabulary("dog", "cat"), TEMPLATES).embeddings, fresh.embeddings)


def test_no_memory_means_no_memory():
    tokenizer = CountingTokenizer()
    encoder = make_encoder(tokenizer=tokenizer, memory=ByteCache(0))
    encoder.embed(vocabulary("dog"), TEMPLATES)
    encoder.embed(vocabulary("dog"), TEMPLATES)
    assert tokenizer.calls == 2


def test_another_object_finds_the_rows_on_disk(tmp_path):
    folder = tmp_path / "not" / "there" / "yet"
    first = make_encoder(cache_dir=folder).embed(vocabulary("dog", "cat"), TEMPLATES)
    tokenizer = CountingTokenizer()
    other = make_encoder(
        make_model(1), cache_dir=folder, tokenizer=tokenizer
    )  # other weights under the same name
    assert torch.equal(other.embed(vocabulary("dog", "cat"), TEMPLATES).embeddings, first.embeddings)
    assert tokenizer.calls == 0
    assert sorted(path.suffix for path in folder.iterdir()) == [".row", ".row"]


def test_rows_of_another_tower_are_not_found(tmp_path):
    make_encoder(cache_dir=tmp_path).embed(vocabulary("dog"), TEMPLATES)
    tokenizer = CountingTokenizer()
    make_encoder(identity="other", cache_dir=tmp_path, tokenizer=tokenizer).embed(
        vocabulary("dog"), TEMPLATES
    )
    assert tokenizer.calls == 1


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: b"",
        lambda content: content[:50],
        lambda content: b"\x7f" + content[1:],
        lambda content: b"x" * 99,
    ],
    ids=["empty", "truncated", "flipped", "nonsense"],
)
def test_a_damaged_file_is_made_anew(tmp_path, caplog, damage):
    good = make_encoder(cache_dir=tmp_path).embed(vocabulary("dog"), TEMPLATES)
    (path,) = tmp_path.iterdir()
    content = path.read_bytes()
    path.write_bytes(damage(content))
    with caplog.at_level(logging.WARNING):
        bank = make_encoder(cache_dir=tmp_path).embed(vocabulary("dog"), TEMPLATES)
    assert torch.equal(bank.embeddings, good.embeddings)
    assert "damaged" in caplog.text
    assert path.read_bytes() == content


def test_a_folder_that_cannot_be_written_costs_one_warning(tmp_path, caplog):
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    with caplog.at_level(logging.WARNING):
        bank = make_encoder(cache_dir=blocked).embed(vocabulary("dog", "cat"), TEMPLATES)
    assert torch.isfinite(bank.embeddings).all()
    assert sum("not kept on disk" in record.message for record in caplog.records) == 1
    assert blocked.read_text() == "in the way"


def test_a_folder_where_a_row_should_be_is_no_error(tmp_path, caplog):
    (tmp_path / f"{row_key('tiny', TEMPLATES, 'dog')}.row").mkdir()
    with caplog.at_level(logging.WARNING):
        make_encoder(cache_dir=tmp_path).embed(vocabulary("dog"), TEMPLATES)
    assert "cannot be read" in caplog.text
    assert [path.suffix for path in tmp_path.iterdir()] == [".row"]  # nothing half-written is left behind


def test_keys_tell_apart_what_rows_depend_on():
    keys = {
        row_key("a", ("x {}",), "dog"),
        row_key("b", ("x {}",), "dog"),
        row_key("a", ("y {}",), "dog"),
        row_key("a", ("x {}", "y {}"), "dog"),
        row_key("a", ("x {}",), "cat"),
        row_key("a", ("x {}", "dog"), ""),
    }
    assert len(keys) == 6


def test_progress_counts_names():
    seen = []
    words = vocabulary("dog", "cat", other=("sky",))
    make_encoder().embed(words, TEMPLATES, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(1, 3), (2, 3), (3, 3)]


def test_cancelling_stops_between_names_and_keeps_what_is_done():
    tokenizer, cancel = CountingTokenizer(), threading.Event()
    encoder = make_encoder(tokenizer=tokenizer)
    with pytest.raises(Cancelled):
        encoder.embed(
            vocabulary("dog", "cat"), TEMPLATES, progress=lambda done, total: cancel.set(), cancel=cancel
        )
    assert tokenizer.calls == 1
    encoder.embed(vocabulary("dog"), TEMPLATES)
    assert tokenizer.calls == 1


class TestOnePrompt:
    """Names of one prompt each, of as many tokens, share batches of a fixed size."""

    WORDS = ("red cat", "red car", "blue hat", "blue bed", "old cat", "old bed", "old car", "old dog")
    ONE = ("a photo of a {}.",)

    def test_each_row_is_that_of_its_prompt(self):
        words = (*self.WORDS, "an extraordinarily long name of a thing", "sky")
        model = make_model()
        bank = make_encoder(model).embed(vocabulary(*words), self.ONE)
        ids = TOKENIZE([self.ONE[0].format(word) for word in words])
        with torch.no_grad():
            expected = F.normalize(model.encode_text(ids), dim=-1)
        torch.testing.assert_close(bank.embeddings, expected, atol=1e-5, rtol=0)

    def test_what_is_typed_beside_a_name_changes_no_bit_of_it(self):
        spec = ENCODERS["mini"]
        loaded = spec.load(WeightStore(offline=True))

        def rows(*words):
            text = TextEncoder(loaded.model, "mini", torch.device("cpu"))
            return dict(zip(words, text.embed(vocabulary(*words), self.ONE).embeddings, strict=True))

        others = (f"{word} house" for word in self.WORDS)
        together = rows(*self.WORDS, *others, *(f"green {number}" for number in range(20)))
        backwards = rows(*reversed(self.WORDS))
        for word in self.WORDS:
            assert torch.equal(together[word], backwards[word])
        assert torch.equal(rows("old bed")["old bed"], together["old bed"])

    def test_batches_are_cancelled_between_and_what_is_done_is_kept(self):
        cancel, told = threading.Event(), []
        encoder = make_encoder()
        words = vocabulary("cat", "dog", "a long name of a thing")

        def progress(done, total):
            told.append((done, total))
            cancel.set()

        with pytest.raises(Cancelled):
            encoder.embed(words, self.ONE, progress=progress, cancel=cancel)
        assert told == [(2, 3)]
        encoder.embed(words, self.ONE, progress=lambda *step: told.append(step))
        assert told == [(2, 3), (2, 3), (3, 3)]

    def test_its_rows_on_disk_are_not_those_of_a_name_alone(self, tmp_path):
        make_encoder(cache_dir=tmp_path).embed(vocabulary("dog"), self.ONE)
        (path,) = tmp_path.iterdir()
        assert path.stem != row_key("tiny", self.ONE, "dog")  # as version 0.1 wrote it


def test_half_precision_rows_are_unit_float32():
    full = make_encoder().embed(vocabulary("dog"), TEMPLATES).embeddings
    half = make_encoder(make_model().to(torch.bfloat16)).embed(vocabulary("dog"), TEMPLATES).embeddings
    assert half.dtype == torch.float32
    assert half.norm().item() == pytest.approx(1, abs=1e-5)
    assert (full @ half.T).item() > 0.99


@pytest.mark.parametrize("templates", [(), ("a photo",)])
def test_templates_without_a_place_for_the_name_are_refused(templates):
    with pytest.raises(ValueError, match="template"):
        make_encoder().embed(vocabulary("dog"), templates)


@pytest.mark.parametrize(
    "settings",
    [{"no_causal_mask": True}, {"pool_type": "last"}, {"embed_cls": True}],
    ids=["not_causal", "read_at_the_end", "class_token"],
)
def test_towers_that_may_not_be_cut_are_refused(settings):
    with pytest.raises(ValueError, match="causal"):
        text_tower(make_model(custom=True, **settings))


def test_fill_takes_the_name_as_text():
    assert fill("a photo of a {}.", "dog") == "a photo of a dog."
    assert fill("{} or {}", "{0}") == "{0} or {0}"
    with pytest.raises(ValueError, match="where the class name goes"):
        fill("a photo of a dog", "dog")
