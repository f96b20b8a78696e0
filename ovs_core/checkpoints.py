"""Weight files: what exists, where it lies, whether it is the right one, and what is in it.

The only module that reads weights. Nothing here touches the network except `WeightStore.fetch`.
"""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import re
import shutil
import struct
import threading
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import Any, Literal

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from ovs_core.devices import stop_if_cancelled
from ovs_core.download import DownloadError, Progress, discard, download
from ovs_core.shipped_files import folder_for_new_weights, shipped_folder

CHECKPOINTS = shipped_folder("checkpoints")

_MAX_LISTED_KEYS = 8
_LOCK_POLL_SECONDS = 0.2
_ZIP_MAGIC = b"PK\x03\x04"
_LEGACY_TORCH_MAGIC = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."  # torch.save before 1.6
_WRAPPERS = ("state_dict", "model")  # under these keys training scripts keep the tensors
_OPENAI_EXTRAS = ("input_resolution", "context_length", "vocab_size")  # numbers, not weights
# What safetensors, torch.load and torch.jit.load raise on damaged bytes, found by cutting and flipping files.
_UNREADABLE = (
    OSError,
    EOFError,
    LookupError,
    RuntimeError,
    ValueError,
    SafetensorError,
    pickle.UnpicklingError,
    struct.error,
    zipfile.BadZipFile,
)


class CheckpointError(ValueError):
    """A weight file is missing, wrong or unreadable; the message says so and names the next step."""


@dataclass(frozen=True)
class WeightFile:
    """One line of the catalogue.

    Attributes:
        name: what the user types.
        title: what the user reads.
        kind: the sort of model inside.
        files: paths below a weights folder; the first holds the tensors, the others belong beside it.
        url: where the first file comes from; None if it is shipped, or if only a person can fetch it.
        sha256: published checksum of the first file, or None if its publisher gives none.
        bytes: size of the first file, or None if unknown.
        licence: SPDX name where there is one.
        source: who publishes it.
        paper: arXiv id such as "2103.00020", or "".
        open_clip_model: open_clip architecture these weights were trained as; a "-quickgelu" one differs from
            its plain namesake in the activation alone, and mixing them up silently gives wrong features.
        page: where a person downloads the first file, if no program can; "" otherwise.
    """

    name: str
    title: str
    kind: Literal["clip", "sam", "head", "clip+head"]
    files: tuple[str, ...]
    url: str | None
    sha256: str | None
    bytes: int | None
    licence: str
    source: str
    paper: str
    open_clip_model: str | None
    page: str = ""

    def __post_init__(self) -> None:
        if self.sha256 is not None and not re.fullmatch("[0-9a-f]{64}", self.sha256):
            raise ValueError(f"{self.name}: sha256 must be 64 hex digits, got {self.sha256!r}")
        if not self.files:
            raise ValueError(f"{self.name}: needs at least one file")

    @property
    def original_name(self) -> str:
        """File name at the publisher, which is how a file downloaded by hand is called."""
        return PurePosixPath(self.url or self.files[0]).name


@dataclass(frozen=True)
class Check:
    """What is known about a weight file on disk.

    Attributes:
        path: the file.
        sha256: its measured checksum.
        basis: what it was compared with: the published checksum, the one recorded on first fetch, or none.
    """

    path: Path
    sha256: str
    basis: Literal["published", "recorded", "none"]

    @property
    def sentence(self) -> str:
        """What the user is told."""
        return {
            "published": "matches the published checksum",
            "recorded": "has no published checksum; unchanged since it was first fetched",
            "none": "has no known checksum: checked for size and readability only",
        }[self.basis]


def load_catalogue(root: Path = CHECKPOINTS) -> Mapping[str, WeightFile]:
    """Name -> entry of `catalogue.json` in `root`, in its order.

    Raises:
        CheckpointError: if the catalogue is missing or malformed.
    """
    path = root / "catalogue.json"
    try:
        lines = json.loads(path.read_text(encoding="utf-8"))["weights"]
        entries = [WeightFile(**{**line, "files": tuple(line["files"])}) for line in lines]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"The catalogue of weights {path} cannot be read: {error}.") from error
    return MappingProxyType({entry.name: entry for entry in entries})


class WeightStore:
    """Finds, fetches and checks the files of the catalogue in two folders.

    Attributes:
        catalogue: name -> entry.
        folders, folder: where files are looked for, in this order, and where new ones go.
        offline: the network is never touched.
    """

    def __init__(
        self, weights_dir: Path | None = None, offline: bool = False, root: Path = CHECKPOINTS
    ) -> None:
        self.catalogue = load_catalogue(root)
        self.folder = weights_dir or folder_for_new_weights(root)
        self.offline = offline
        self.folders = tuple(dict.fromkeys((self.folder, folder_for_new_weights(root), root)))
        self._hashes: dict[tuple[Path, int, int], str] = {}
        self._fetching = threading.Lock()

    def entry(self, name: str) -> WeightFile:
        """Return the catalogue's line for `name`.

        Raises:
            CheckpointError: if there is none; the message lists the known names.
        """
        if name not in self.catalogue:
            known = ", ".join(self.catalogue)
            raise CheckpointError(f"There are no weights called {name!r}; known names: {known}.")
        return self.catalogue[name]

    def locate(self, name: str) -> Path | None:
        """Path of the file that holds the tensors, or None if it (or a file that belongs to it) is absent.

        A file may also carry its publisher's name: in the folder itself where no other entry shares that
        name, or in a subfolder called like the entry.
        """
        entry = self.entry(name)
        shared = [other.original_name for other in self.catalogue.values()].count(entry.original_name) > 1
        for folder in self.folders:
            if all((folder / file).is_file() for file in entry.files):
                return folder / entry.files[0]
            if len(entry.files) > 1:
                continue
            by_hand = [folder / entry.name / entry.original_name]
            by_hand += [] if shared else [folder / entry.original_name]
            for path in by_hand:
                if path.is_file():
                    return path
        return None

    def verify(self, name: str) -> Check:
        """Compare the file on disk with the checksum that is known for it.

        Raises:
            CheckpointError: if the file is absent, differs, or (no checksum known) cannot be read.
        """
        entry = self.entry(name)
        path = self.locate(name)
        if path is None:
            raise CheckpointError(f"{entry.title} is not here. {self._how_to_get(entry)}")
        expected, basis = self._known_checksum(entry, path)
        measured = self.sha256_of(path)
        if expected is None:
            read_state(path)
        elif measured != expected:
            raise CheckpointError(
                f"{path} is damaged or another version (SHA-256 {measured}, expected {expected}). "
                f"Delete it, then: {self._how_to_get(entry)}"
            )
        return Check(path, measured, basis)

    def fetch(
        self, name: str, progress: Progress | None = None, cancel: threading.Event | None = None
    ) -> Path:
        """Return the verified file, downloading it into `folder` if it is nowhere yet.

        A download that was stopped or cut continues where it ended; a file gets its name only once verified.

        Args:
            name: catalogue name.
            progress: called with (bytes so far, bytes in all or None).
            cancel: set it to stop; what arrived is kept for the next call.

        Raises:
            CheckpointError: if it cannot be had; the message says how to get it by hand.
            Cancelled: if `cancel` was set.
        """
        entry = self.entry(name)
        with self._one_fetch_at_a_time(cancel):
            if self.locate(name) is not None:
                return self.verify(name).path
            if entry.url is None or self.offline:
                why = " and offline mode does not fetch" if entry.url else ""
                raise CheckpointError(f"{entry.title} is not here{why}. {self._how_to_get(entry)}")
            target = self.folder / entry.files[0]
            part = target.with_name(target.name + ".part")
            try:
                target.parent.mkdir(parents=True, exist_ok=True)
                known = entry.sha256 is not None
                download(entry.url, part, progress=progress, cancel=cancel, will_verify=known)
                self._settle(entry, part, target)
            except CheckpointError:
                discard(part)
                raise
            except (DownloadError, OSError) as error:
                raise CheckpointError(
                    f"Could not download {entry.title}: {error}. {self._how_to_get(entry)}"
                ) from error
            return target

    def use_local(self, name: str, path: Path) -> Path:
        """Check a file the user already has and give it its place in `folder`, by hard link where possible.

        Raises:
            CheckpointError: if it is not the file `name` stands for, or the folder cannot be written.
        """
        entry = self.entry(name)
        if not path.is_file():
            raise CheckpointError(f"There is no file {path}.")
        if len(entry.files) > 1:
            raise CheckpointError(f"{entry.title} is several files: copy {', '.join(entry.files)} by hand.")
        target = self.folder / entry.files[0]
        if target.exists() and target.samefile(path):
            return self.verify(name).path
        staged = target.with_name(target.name + ".new")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            staged.unlink(missing_ok=True)
            _link_or_copy(path.resolve(), staged)
            self._settle(entry, staged, target)
        except OSError as error:
            raise CheckpointError(f"Cannot put {path} into {target.parent} ({error.strerror}).") from error
        finally:
            with suppress(OSError):
                staged.unlink()
        return target

    def sha256_of(self, path: Path) -> str:
        """SHA-256 of a file, remembered until its size or time of change differs."""
        stat = path.stat()
        key = (path.resolve(), stat.st_size, stat.st_mtime_ns)
        if key not in self._hashes:
            self._hashes[key] = sha256_of(path)
        return self._hashes[key]

    def _settle(self, entry: WeightFile, arrived: Path, target: Path) -> None:
        """Give `arrived` its name if it is what `entry` promises."""
        size, measured = arrived.stat().st_size, self.sha256_of(arrived)
        if entry.sha256 is None:
            if entry.bytes is not None and size != entry.bytes:
                sizes = f"{size} bytes, expected {entry.bytes}"
                raise CheckpointError(f"This is not {entry.title}: {sizes}. {self._how_to_get(entry)}")
            try:
                read_state(arrived)
            except CheckpointError as error:
                sentence = f"This is not {entry.title}: it cannot be read as weights."
                raise CheckpointError(f"{sentence} {self._how_to_get(entry)}") from error
        elif measured != entry.sha256:
            what = "a web page" if _head(arrived).startswith(b"<") else "another file"
            raise CheckpointError(
                f"This is not {entry.title} but {what} (SHA-256 {measured}, expected {entry.sha256}). "
                f"{self._how_to_get(entry)}"
            )
        arrived.replace(target)
        if entry.sha256 is None:
            _record(target).write_text(f"{measured}  {target.name}\n", encoding="utf-8")

    def _known_checksum(
        self, entry: WeightFile, path: Path
    ) -> tuple[str | None, Literal["published", "recorded", "none"]]:
        if entry.sha256 is not None:
            return entry.sha256, "published"
        if _record(path).is_file():
            return _record(path).read_text(encoding="utf-8").split(maxsplit=1)[0], "recorded"
        return None, "none"

    def _how_to_get(self, entry: WeightFile) -> str:
        """The next step, as a sentence."""
        if not (by_hand := entry.url or entry.page):
            files = " and ".join(entry.files)
            return f"It comes with the repository: restore {files} in {self.folders[-1]} from there."
        target = self.folder / entry.files[0]
        return f"Download it by hand from {by_hand} and put it in {target.parent} as {target.name}."

    @contextmanager
    def _one_fetch_at_a_time(self, cancel: threading.Event | None) -> Iterator[None]:
        """Two browser tabs that want the same file write one `.part`, one after the other."""
        while not self._fetching.acquire(timeout=_LOCK_POLL_SECONDS):
            stop_if_cancelled(cancel)
        try:
            yield
        finally:
            self._fetching.release()


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's bytes, 64 hex digits."""
    with path.open("rb") as file:
        digest = hashlib.sha256()
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def read_state(path: Path) -> dict[str, Tensor]:
    """Read every named tensor of a weight file onto the CPU, in the precision it was saved in.

    Understands safetensors, `torch.save` files (plain tensors only, also under "state_dict" or "model") and
    the TorchScript archives of OpenAI's CLIP. The kind is told from the content, not from the file's name.

    Raises:
        CheckpointError: if the file is absent, not a weight file, damaged, or holds anything but tensors.
    """
    with _one_sentence(path):
        state = _parse(path)
    if not state or not all(isinstance(value, Tensor) for value in state.values()):
        raise CheckpointError(f"{path} is not a weight file: it holds something else than named tensors.")
    if all(key.startswith("module.") for key in state):  # saved from torch's DataParallel
        state = {key.removeprefix("module."): value for key, value in state.items()}
    return state


def read_metadata(path: Path) -> dict[str, str]:
    """Notes that a safetensors file carries beside its tensors; empty where it has none.

    Raises:
        CheckpointError: if the file is absent, damaged or of another kind.
    """
    with _one_sentence(path):
        if _head(path)[8:9] != b"{":
            raise CheckpointError(f"{path} carries no notes: it is not a safetensors file.")
        with safe_open(path, framework="pt", device="cpu") as file:
            return dict(file.metadata() or {})


def read_training_state(path: Path) -> dict[str, Any]:
    """What a training loop saved to continue later: nested containers of tensors and numbers, onto the CPU.

    Raises:
        CheckpointError: if the file is absent, damaged, or holds anything that could run code.
    """
    with _one_sentence(path):
        _head(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} is not a saved training run: it holds a {type(content).__name__}.")
    return content


def load_strict(
    module: nn.Module, state: Mapping[str, Tensor], *, source: str, ignore: tuple[str, ...] = ()
) -> None:
    """Copy `state` into `module`, every key and every shape matching.

    Args:
        module: what to fill; unchanged if anything does not fit.
        state: names and tensors.
        source: path or title of the weights, for the message.
        ignore: keys that start with one of these are neither loaded nor asked for.

    Raises:
        CheckpointError: listing missing and unexpected keys and wrong shapes.
    """
    given = {key: value for key, value in state.items() if not key.startswith(ignore)}
    wanted = {key: value for key, value in module.state_dict().items() if not key.startswith(ignore)}
    missing = [key for key in wanted if key not in given]
    unexpected = [key for key in given if key not in wanted]
    shapes = [
        f"{key} is {tuple(given[key].shape)}, must be {tuple(value.shape)}"
        for key, value in wanted.items()
        if key in given and given[key].shape != value.shape
    ]
    problems = [
        f"{len(keys)} {what}: {_listed(keys)}"
        for what, keys in (("missing", missing), ("unexpected", unexpected), ("of another shape", shapes))
        if keys
    ]
    if problems:
        name = type(module).__name__
        raise CheckpointError(f"{source} is for another model than {name}. {'. '.join(problems)}.")
    module.load_state_dict(given, strict=False)


@contextmanager
def _one_sentence(path: Path) -> Iterator[None]:
    """Turn whatever the readers raise on damaged bytes into a sentence that names the file."""
    try:
        yield
    except CheckpointError:
        raise
    except _UNREADABLE as error:
        raise CheckpointError(
            f"{path} cannot be read: it is cut short, damaged, or holds Python objects instead of plain "
            "tensors. Delete it and get it again."
        ) from error


def _parse(path: Path) -> dict[str, Tensor]:
    """Tensors of a file whose content says what it is."""
    head = _head(path)
    if head[8:9] == b"{":  # safetensors: eight bytes of length, then JSON
        return load_file(path, device="cpu")
    if head.startswith(_ZIP_MAGIC) and _is_torchscript(path):
        return _read_torchscript(path)
    if head.startswith((_ZIP_MAGIC, _LEGACY_TORCH_MAGIC)):
        return _unwrap(torch.load(path, map_location="cpu", weights_only=True))
    what = "a web page" if head.lstrip().startswith(b"<") else "not a weight file"
    raise CheckpointError(f"{path} is {what if head else 'empty'}. Delete it and get it again.")


def _head(path: Path) -> bytes:
    """The first bytes of a file; raises CheckpointError if it is absent."""
    if not path.is_file():
        raise CheckpointError(f"There is no file {path}.")
    with path.open("rb") as file:
        return file.read(64)


def _is_torchscript(path: Path) -> bool:
    """Whether a zip archive holds code next to its tensors, as torch.jit.save writes it."""
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith("/constants.pkl") or "/code/" in name for name in archive.namelist())


def _read_torchscript(path: Path) -> dict[str, Tensor]:
    """Parameters and buffers of a scripted module, without the three numbers OpenAI keeps among them."""
    with warnings.catch_warnings():
        # Deprecated since torch 2.10; no successor reads old files.
        warnings.simplefilter("ignore", FutureWarning)
        state = torch.jit.load(str(path), map_location="cpu").state_dict()  # type: ignore[no-untyped-call]
    return {key: value for key, value in state.items() if key not in _OPENAI_EXTRAS}


def _unwrap(content: Any) -> dict[str, Any]:
    """The mapping of names to tensors, from under the key a training script kept it."""
    for key in _WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    return dict(content) if isinstance(content, Mapping) else {}


def _link_or_copy(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # another disk, or a file system without links
        shutil.copyfile(source, target)


def _record(path: Path) -> Path:
    """Where the checksum measured on first fetch is kept, in the format of `sha256sum`."""
    return path.with_name(path.name + ".sha256")


def _listed(keys: list[str]) -> str:
    rest = len(keys) - _MAX_LISTED_KEYS
    return ", ".join(keys[:_MAX_LISTED_KEYS]) + (f" and {rest} more" if rest > 0 else "")
