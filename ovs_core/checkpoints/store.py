"""Where weights lie, whether they are the right ones, and how they are fetched."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import Literal

from ovs_core.checkpoints.catalogue import CHECKPOINTS, Check, WeightFile, load_catalogue
from ovs_core.checkpoints.download import DownloadError, Progress, discard, download
from ovs_core.checkpoints.reading import CheckpointError, file_head, read_state, sha256_of
from ovs_core.devices import stop_if_cancelled
from ovs_core.folders import folder_for_new_weights

MODEL_CARD = "MODEL_CARD.md"
_LOCK_POLL_SECONDS = 0.2


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

    def has(self, name: str) -> bool:
        """Whether `name` is known and all of its files are on this machine."""
        return name in self.catalogue and self.locate(name) is not None

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

    def card(self, name: str) -> Path | None:
        """Path of the model card that came with the program beside the files of `name`, None without one."""
        path = self.folders[-1] / PurePosixPath(self.entry(name).files[0]).with_name(MODEL_CARD)
        return path if path.is_file() else None

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
            what = "a web page" if file_head(arrived).startswith(b"<") else "another file"
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


def _link_or_copy(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # another disk, or a file system without links
        shutil.copyfile(source, target)


def _record(path: Path) -> Path:
    """Where the checksum measured on first fetch is kept, in the format of `sha256sum`."""
    return path.with_name(path.name + ".sha256")
