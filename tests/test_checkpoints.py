"""Weights: fetched from a server that misbehaves in every way we know, and read from good and bad files."""

import contextlib
import dataclasses
import errno
import hashlib
import http.server
import io
import json
import pickle
import re
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from ovs_core.checkpoints import (
    CheckpointError,
    WeightFile,
    WeightStore,
    load_catalogue,
    load_strict,
    read_state,
    read_training_state,
    sha256_of,
)
from ovs_core.checkpoints.download import DownloadError, download
from ovs_core.devices import Cancelled

CONTENT = np.random.default_rng(0).integers(0, 256, 700_000, dtype=np.uint8).tobytes()
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@dataclasses.dataclass
class Server:
    """What the next answers look like, and what was asked."""

    url: str = ""
    content: bytes = CONTENT
    etag: str | None = '"v1"'
    ranges: bool = True
    cut_after: list[int] = dataclasses.field(default_factory=list)  # one entry per answer to cut, in bytes
    status: list[int] = dataclasses.field(default_factory=list)  # one entry per answer to refuse
    slow: bool = False
    asked: list[str | None] = dataclasses.field(default_factory=list)  # Range of each request


def _handler(server: Server) -> type[http.server.BaseHTTPRequestHandler]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def log_message(self, *_args):
            """Stay quiet."""

        def do_GET(self):
            asked = self.headers.get("Range")
            server.asked.append(asked)
            if server.status:
                self.send_error(server.status.pop(0))
                return
            start = 0
            if asked and server.ranges and self.headers.get("If-Range") in (None, server.etag):
                start = int(re.fullmatch(r"bytes=(\d+)-", asked)[1])
            size = len(server.content)
            if start >= size:
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{size}")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            self.send_response(206 if start else 200)
            if start:
                self.send_header("Content-Range", f"bytes {start}-{size - 1}/{size}")
            self.send_header("Content-Length", str(size - start))
            if server.etag:
                self.send_header("ETag", server.etag)
            self.end_headers()
            end = start + server.cut_after.pop(0) if server.cut_after else size
            with contextlib.suppress(ConnectionError):  # the client may have had enough
                for at in range(start, min(end, size), 50_000):
                    self.wfile.write(server.content[at : min(at + 50_000, end)])
                    if server.slow:
                        threading.Event().wait(0.02)

    return Handler


@pytest.fixture
def server():
    state = Server()
    httpd = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _handler(state))
    state.url = f"http://127.0.0.1:{httpd.server_port}/publisher/weights.bin"
    thread = threading.Thread(target=httpd.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield state
    httpd.shutdown()
    httpd.server_close()
    thread.join()


def _entry(**changes) -> dict:
    entry = {
        "name": "toy",
        "title": "Toy weights",
        "kind": "clip",
        "files": ["toy.pt"],
        "url": "http://127.0.0.1:9/publisher/weights.bin",
        "sha256": SHA256,
        "bytes": None,
        "licence": "MIT",
        "source": "nowhere",
        "paper": "",
        "open_clip_model": "ViT-B-16-quickgelu",
    }
    return {**entry, **changes}


def _store(root: Path, *entries: dict, **options) -> WeightStore:
    root.mkdir(parents=True, exist_ok=True)
    (root / "catalogue.json").write_text(json.dumps({"weights": list(entries)}))
    return WeightStore(root=root, **options)


@pytest.fixture
def store(server, tmp_path):
    return _store(tmp_path / "root", _entry(url=server.url))


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch):
    monkeypatch.setattr(download, "__kwdefaults__", {**download.__kwdefaults__, "wait_seconds": 0.0})


def test_full_fetch_is_verified_named_and_reported(store, server):
    seen = []
    path = store.fetch("toy", lambda done, total: seen.append((done, total)))
    assert path.read_bytes() == CONTENT
    assert seen[-1] == (len(CONTENT), len(CONTENT))
    assert [done for done, _ in seen] == sorted({done for done, _ in seen})
    assert sorted(file.name for file in path.parent.iterdir()) == ["catalogue.json", "toy.pt"]
    assert store.verify("toy").basis == "published"
    assert store.fetch("toy") == path
    assert server.asked == [None]


def test_cut_connection_is_resumed_where_it_ended(store, server):
    server.cut_after = [300_000, 100_000]
    assert store.fetch("toy").read_bytes() == CONTENT
    assert server.asked == [None, "bytes=300000-", "bytes=400000-"]


def test_server_without_range_starts_again(store, server):
    server.ranges = False
    server.cut_after = [300_000]
    assert store.fetch("toy").read_bytes() == CONTENT
    assert server.asked == [None, "bytes=300000-"]


def test_part_of_a_changed_file_is_not_continued(server, tmp_path):
    part = tmp_path / "file.part"
    server.cut_after, server.status = [300_000], []
    server.cut_after += [0] * 4
    with pytest.raises(DownloadError, match="ended after 300000 of 700000 bytes"):
        download(server.url, part)
    server.content, server.etag = CONTENT[::-1], '"v2"'
    download(server.url, part)
    assert part.read_bytes() == CONTENT[::-1]


@pytest.mark.parametrize(
    ("etag", "expected"), [(None, None), ('W/"weak"', None), ('"strong"', "bytes=300000-")]
)
def test_unverified_part_is_continued_only_where_the_server_names_its_version(
    server, tmp_path, etag, expected
):
    server.etag = etag
    server.cut_after = [300_000]
    download(server.url, tmp_path / "file.part")
    assert (tmp_path / "file.part").read_bytes() == CONTENT
    assert server.asked == [None, expected]


def test_a_part_that_was_complete_needs_only_its_name(store, server, tmp_path):
    (tmp_path / "root" / "toy.pt.part").write_bytes(CONTENT)
    assert store.fetch("toy").read_bytes() == CONTENT
    assert server.asked == ["bytes=700000-"]


def test_a_part_longer_than_the_file_is_thrown_away(store, tmp_path):
    (tmp_path / "root" / "toy.pt.part").write_bytes(CONTENT + b"more")
    assert store.fetch("toy").read_bytes() == CONTENT


def test_wrong_checksum_names_both_and_leaves_nothing_behind(store, server, tmp_path):
    server.content = CONTENT[:-1] + bytes([CONTENT[-1] ^ 1])
    measured = hashlib.sha256(server.content).hexdigest()
    with pytest.raises(
        CheckpointError, match=f"another file .SHA-256 {measured}, expected {SHA256}.*by hand"
    ):
        store.fetch("toy")
    assert [file.name for file in (tmp_path / "root").iterdir()] == ["catalogue.json"]
    assert store.locate("toy") is None


def test_a_login_page_instead_of_the_file_is_called_one(store, server):
    server.content = b"<!doctype html><title>Please log in</title>"
    with pytest.raises(CheckpointError, match="a web page"):
        store.fetch("toy")


def test_404_is_final_and_says_what_to_do(store, server, tmp_path):
    server.status = [404]
    with pytest.raises(CheckpointError) as caught:
        store.fetch("toy")
    expected = (
        "Could not download Toy weights: the server answered 404 Not Found. "
        f"Download it by hand from {server.url} and put it in {tmp_path / 'root'} as toy.pt."
    )
    assert str(caught.value) == expected
    assert len(server.asked) == 1


def test_a_busy_server_is_asked_again(store, server):
    server.status = [503, 429]
    assert store.fetch("toy").read_bytes() == CONTENT
    assert len(server.asked) == 3


def test_nobody_answers(tmp_path):
    with pytest.raises(CheckpointError, match=r"the connection failed .* Download it by hand from"):
        _store(tmp_path, _entry()).fetch("toy")


class _FullDisk(io.FileIO):
    def write(self, data) -> int:
        if self.tell() >= 200_000:
            raise OSError(errno.ENOSPC, "No space left on device")
        return super().write(data)


def test_full_disk_keeps_what_arrived(store, tmp_path, monkeypatch):
    real_open = Path.open

    def full(self, mode="r", *arguments, **options):
        if self.suffix == ".part" and mode in ("ab", "wb"):
            return _FullDisk(self, mode[0])
        return real_open(self, mode, *arguments, **options)

    monkeypatch.setattr(Path, "open", full)
    with pytest.raises(CheckpointError, match=f"no space left in {tmp_path / 'root'}; free some"):
        store.fetch("toy")
    monkeypatch.undo()
    part = tmp_path / "root" / "toy.pt.part"
    assert 200_000 <= part.stat().st_size < len(CONTENT)
    assert store.fetch("toy").read_bytes() == CONTENT


def test_a_file_that_cannot_fit_is_refused_before_it_starts(store, tmp_path, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 1000})())
    with pytest.raises(CheckpointError, match=r"no space left in .*: 1 MB needed, 0 MB free"):
        store.fetch("toy")
    assert not (tmp_path / "root" / "toy.pt.part").exists()


def test_a_folder_that_is_a_file_is_explained(server, tmp_path):
    (tmp_path / "taken").write_text("a file")
    store = _store(tmp_path / "root", _entry(url=server.url), weights_dir=tmp_path / "taken")
    with pytest.raises(CheckpointError, match=r"Could not download Toy weights: .*taken"):
        store.fetch("toy")


def test_cancel_stops_soon_and_the_next_fetch_continues(store, server, tmp_path):
    server.slow = True
    cancel = threading.Event()
    with pytest.raises(Cancelled):
        store.fetch("toy", lambda done, _: cancel.set() if done > 150_000 else None, cancel)
    kept = (tmp_path / "root" / "toy.pt.part").stat().st_size
    assert 150_000 < kept < len(CONTENT)
    server.slow = False
    assert store.fetch("toy").read_bytes() == CONTENT
    assert server.asked == [None, f"bytes={kept}-"]


def test_two_tabs_fetch_one_file_once(store, server):
    server.slow = True
    paths = []
    tabs = [threading.Thread(target=lambda: paths.append(store.fetch("toy"))) for _ in range(2)]
    for tab in tabs:
        tab.start()
    for tab in tabs:
        tab.join()
    assert len(paths) == 2
    assert server.asked == [None]


def test_offline_never_asks(server, tmp_path):
    store = _store(tmp_path, _entry(url=server.url), offline=True)
    with pytest.raises(
        CheckpointError, match=f"offline mode does not fetch. Download it by hand from {server.url}"
    ):
        store.fetch("toy")
    assert server.asked == []


def test_shipped_files_are_restored_not_fetched(tmp_path):
    store = _store(tmp_path, _entry(files=["mini/mini.safetensors", "mini/mini.json"], url=None))
    with pytest.raises(
        CheckpointError, match=r"comes with the repository: restore mini/mini.safetensors and"
    ):
        store.fetch("toy")


def test_unknown_name_lists_the_known_ones(store):
    with pytest.raises(CheckpointError, match=r"no weights called 'tpy'; known names: toy\."):
        store.fetch("tpy")


@pytest.fixture
def unpublished(server, tmp_path):
    save_file({"weight": torch.arange(6.0).reshape(2, 3)}, tmp_path / "content")
    server.content = (tmp_path / "content").read_bytes()
    return _store(tmp_path / "root", _entry(url=server.url, sha256=None))


def test_first_fetch_records_what_later_checks_compare(unpublished):
    path = unpublished.fetch("toy")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert path.with_name("toy.pt.sha256").read_text() == f"{digest}  toy.pt\n"
    assert (
        unpublished.verify("toy").sentence
        == "has no published checksum; unchanged since it was first fetched"
    )
    path.write_bytes(path.read_bytes() + b"x")
    with pytest.raises(CheckpointError, match=f"damaged or another version .*expected {digest}.*Delete it"):
        unpublished.verify("toy")


def test_without_any_checksum_the_user_is_told(unpublished, tmp_path):
    (tmp_path / "root" / "toy.pt").write_bytes((tmp_path / "content").read_bytes())
    assert (
        unpublished.verify("toy").sentence == "has no known checksum: checked for size and readability only"
    )
    (tmp_path / "root" / "toy.pt").write_bytes(CONTENT)
    with pytest.raises(CheckpointError, match="not a weight file"):
        unpublished.verify("toy")


def test_unreadable_download_is_refused(unpublished, server, tmp_path):
    server.content = CONTENT
    with pytest.raises(CheckpointError, match="This is not Toy weights: it cannot be read as weights"):
        unpublished.fetch("toy")
    assert [file.name for file in (tmp_path / "root").iterdir()] == ["catalogue.json"]


def test_weights_dir_comes_first_and_knows_the_publishers_name(tmp_path):
    folder = tmp_path / "mine"
    folder.mkdir()
    store = _store(tmp_path / "root", _entry(), weights_dir=folder)
    assert store.locate("toy") is None
    (tmp_path / "root" / "toy.pt").touch()
    assert store.locate("toy") == tmp_path / "root" / "toy.pt"
    (folder / "weights.bin").touch()
    assert store.locate("toy") == folder / "weights.bin"
    (folder / "toy.pt").touch()
    assert store.locate("toy") == folder / "toy.pt"


def test_a_publishers_name_shared_by_two_entries_needs_a_folder(tmp_path):
    store = _store(tmp_path, _entry(), _entry(name="other", files=["other.pt"]))
    (tmp_path / "weights.bin").touch()
    assert store.locate("toy") is None
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "weights.bin").touch()
    assert store.locate("other") == tmp_path / "other" / "weights.bin"
    assert store.locate("toy") is None


def test_an_entry_of_two_files_needs_both(tmp_path):
    store = _store(tmp_path, _entry(files=["mini/mini.safetensors", "mini/mini.json"], url=None))
    (tmp_path / "mini").mkdir()
    (tmp_path / "mini" / "mini.safetensors").touch()
    assert store.locate("toy") is None
    (tmp_path / "mini" / "mini.json").touch()
    assert store.locate("toy") == tmp_path / "mini" / "mini.safetensors"


def test_a_local_file_is_checked_and_taken_in(store, tmp_path):
    good, bad = tmp_path / "good.bin", tmp_path / "bad.bin"
    good.write_bytes(CONTENT)
    bad.write_bytes(CONTENT[:-1])
    with pytest.raises(CheckpointError, match="This is not Toy weights but another file"):
        store.use_local("toy", bad)
    assert store.locate("toy") is None
    assert store.use_local("toy", good).read_bytes() == CONTENT
    assert good.exists()
    with pytest.raises(CheckpointError, match="There is no file"):
        store.use_local("toy", tmp_path / "absent")
    assert store.use_local("toy", tmp_path / "root" / "toy.pt") == store.locate("toy")


def test_a_local_file_is_copied_where_links_are_refused(store, tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    monkeypatch.setattr("os.link", refuse)
    (tmp_path / "good.bin").write_bytes(CONTENT)
    assert store.use_local("toy", tmp_path / "good.bin").read_bytes() == CONTENT


def test_checksum_is_remembered_until_the_file_changes(store, tmp_path, monkeypatch):
    path = tmp_path / "file"
    path.write_bytes(b"abc")
    # FIPS 180-2, example B.1
    assert store.sha256_of(path) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    calls = []
    monkeypatch.setattr("ovs_core.checkpoints.store.sha256_of", lambda path: calls.append(path) or "new")
    store.sha256_of(path)
    assert calls == []
    path.write_bytes(b"abcd")
    assert store.sha256_of(path) == "new"


class Scripted(nn.Module):
    """A toy of OpenAI's archives: weights and three numbers among them."""

    def __init__(self):
        super().__init__()
        self.proj = nn.Linear(3, 2)
        for name in ("input_resolution", "context_length", "vocab_size"):
            self.register_buffer(name, torch.tensor(7))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.proj(x)


def _save(kind: str, path: Path) -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    module = Scripted()
    state = {key: value for key, value in module.state_dict().items() if key.startswith("proj")}
    if kind == "torchscript":
        torch.jit.save(torch.jit.script(module), str(path))
    elif kind == "safetensors":
        save_file(state, path)
    elif kind == "legacy":
        torch.save(state, path, _use_new_zipfile_serialization=False)
    elif kind == "module":
        torch.save({"state_dict": {f"module.{key}": value for key, value in state.items()}}, path)
    else:
        torch.save({"model": state, "iteration": 3} if kind == "model" else state, path)
    return state


KINDS = ("torchscript", "safetensors", "torch", "legacy", "model", "module")


@pytest.mark.filterwarnings("ignore::FutureWarning:torch.*")
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_file_is_told_by_its_content(kind, tmp_path):
    expected = _save(kind, tmp_path / "file.bin")
    state = read_state(tmp_path / "file.bin")
    assert set(state) == {"proj.weight", "proj.bias"}
    assert all(torch.equal(state[key], expected[key]) for key in expected)


@pytest.mark.filterwarnings("ignore::FutureWarning:torch.*")
@pytest.mark.parametrize("kind", KINDS)
def test_cut_files_are_refused_at_any_length(kind, tmp_path):
    _save(kind, tmp_path / "whole")
    whole = (tmp_path / "whole").read_bytes()
    path = tmp_path / "cut"
    for length in range(0, len(whole), len(whole) // 40):
        path.write_bytes(whole[:length])
        with pytest.raises(CheckpointError, match=re.escape(str(path))):
            read_state(path)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "is empty"),
        (b"\n<html><body>Not found</body></html>", "is a web page"),
        (b"version https://git-lfs.github.com/spec/v1\n", "is not a weight file"),
        (CONTENT, "is not a weight file"),
        (b"PK\x03\x04" + CONTENT, "cannot be read"),
        (b"\xff" * 8 + b"{" + CONTENT, "cannot be read"),
    ],
)
def test_other_files_are_called_what_they_are(content, why, tmp_path):
    (tmp_path / "file.pt").write_bytes(content)
    with pytest.raises(CheckpointError, match=f"{re.escape(str(tmp_path / 'file.pt'))} {why}"):
        read_state(tmp_path / "file.pt")


def test_an_absent_file_is_named(tmp_path):
    with pytest.raises(CheckpointError, match=r"There is no file .*absent\.pt"):
        read_state(tmp_path / "absent.pt")


class Bomb:
    """Unpickled, it would create a file."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return open, (self.path, "w")


@pytest.mark.parametrize("legacy", [False, True])
def test_pickled_code_is_refused_and_never_runs(legacy, tmp_path):
    trace = tmp_path / "trace"
    torch.save({"weight": Bomb(trace)}, tmp_path / "bomb.pt", _use_new_zipfile_serialization=not legacy)
    with pytest.raises(CheckpointError, match="Python objects instead of plain tensors"):
        read_state(tmp_path / "bomb.pt")
    (tmp_path / "bare.pt").write_bytes(pickle.dumps(Bomb(trace)))
    with pytest.raises(CheckpointError, match="not a weight file"):
        read_state(tmp_path / "bare.pt")
    assert not trace.exists()


@pytest.mark.parametrize("content", [{}, {"epoch": 3}, [torch.zeros(1)], {"model": {"weight": "none"}}])
def test_files_without_named_tensors_are_refused(content, tmp_path):
    torch.save(content, tmp_path / "file.pt")
    with pytest.raises(CheckpointError, match="something else than named tensors"):
        read_state(tmp_path / "file.pt")


def test_a_training_run_is_read_back_whole(tmp_path):
    saved = {"step": 7, "average": [torch.ones(2)], "optimizer": {"state": {0: {"step": torch.tensor(3.0)}}}}
    torch.save(saved, tmp_path / "run.pt")
    state = read_training_state(tmp_path / "run.pt")
    assert state["step"] == 7
    assert torch.equal(state["average"][0], torch.ones(2))
    assert state["optimizer"]["state"][0]["step"] == 3


@pytest.mark.parametrize("content", [[1], Bomb("trace")])
def test_anything_else_is_no_training_run(content, tmp_path):
    torch.save(content, tmp_path / "run.pt")
    with pytest.raises(CheckpointError, match=r"run\.pt"):
        read_training_state(tmp_path / "run.pt")
    with pytest.raises(CheckpointError, match="There is no file"):
        read_training_state(tmp_path / "absent.pt")


def test_strict_load_fills_the_module():
    module = nn.Linear(3, 2)
    state = {"weight": torch.arange(6.0).reshape(2, 3).half(), "bias": torch.tensor([1.0, 2.0])}
    load_strict(module, state, source="toy.pt")
    assert torch.equal(module.weight, torch.arange(6.0).reshape(2, 3))
    assert module.weight.dtype == torch.float32


def test_strict_load_reports_everything_and_changes_nothing():
    module = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 1))
    before = {key: value.clone() for key, value in module.state_dict().items()}
    state = {
        "0.weight": torch.zeros(3, 2),
        "0.bias": torch.zeros(2),
        "1.weight": torch.zeros(1, 2),
        "head": before["0.bias"],
    }
    with pytest.raises(CheckpointError) as caught:
        load_strict(module, state, source="toy.pt")
    assert str(caught.value) == (
        "toy.pt is for another model than Sequential. 1 missing: 1.bias. 1 unexpected: head. "
        "1 of another shape: 0.weight is (3, 2), must be (2, 3)."
    )
    assert all(torch.equal(value, before[key]) for key, value in module.state_dict().items())


def test_strict_load_lists_eight_and_counts_the_rest():
    with pytest.raises(CheckpointError, match=r"20 unexpected: k0, k1, k2, k3, k4, k5, k6, k7 and 12 more\."):
        load_strict(nn.Identity(), {f"k{i}": torch.zeros(1) for i in range(20)}, source="toy.pt")


def test_ignored_keys_are_neither_loaded_nor_asked_for():
    module = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 1))
    kept = module[1].weight.detach().clone()
    state = {"0.weight": torch.ones(2, 3), "0.bias": torch.ones(2), "1.weight": torch.ones(1, 2)}
    load_strict(module, state, source="toy.pt", ignore=("1.",))
    assert torch.equal(module[1].weight, kept)
    assert torch.equal(module[0].bias, torch.ones(2))


def test_shipped_catalogue_is_complete_and_consistent():
    catalogue = load_catalogue()
    assert {
        "mini",
        "openai-vit-b-16",
        "openai-vit-b-32",
        "openai-vit-l-14",
        "mobile-sam",
        "sam-vit-b",
    } <= set(catalogue)
    assert len({file for entry in catalogue.values() for file in entry.files}) == sum(
        len(entry.files) for entry in catalogue.values()
    )
    for entry in catalogue.values():
        assert entry.licence
        assert entry.title
        assert entry.url is None or entry.url.startswith("https://")


def test_openai_and_metaclip_weights_always_get_their_own_activation():
    open_clip = pytest.importorskip("open_clip")
    for entry in load_catalogue().values():
        if entry.open_clip_model is None:
            continue
        quick = bool(open_clip.get_model_config(entry.open_clip_model).get("quick_gelu"))
        assert quick == entry.name.startswith(("openai-", "metaclip-"))
        if entry.url is not None and "openaipublic" in entry.url:
            assert entry.url.split("/")[-2] == entry.sha256


@pytest.mark.parametrize("change", [{"sha256": "abc"}, {"files": []}, {"colour": "red"}])
def test_a_bad_catalogue_line_is_refused(change, tmp_path):
    with pytest.raises(CheckpointError, match="catalogue of weights"):
        _store(tmp_path, _entry(**change))
    with pytest.raises(CheckpointError, match="catalogue of weights"):
        load_catalogue(tmp_path / "absent")


def test_a_weight_file_needs_a_real_checksum():
    with pytest.raises(ValueError, match="64 hex digits"):
        WeightFile(**{**_entry(), "files": ("a",), "sha256": SHA256.upper()})
    assert sha256_of(Path(__file__)) == hashlib.sha256(Path(__file__).read_bytes()).hexdigest()
