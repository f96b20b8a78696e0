"""What is in weight files: tensors and notes, never code; the only readers of weights."""

from __future__ import annotations

import hashlib
import pickle
import struct
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

_MAX_LISTED_KEYS = 8
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
        if file_head(path)[8:9] != b"{":
            raise CheckpointError(f"{path} carries no notes: it is not a safetensors file.")
        with safe_open(path, framework="pt", device="cpu") as file:
            return dict(file.metadata() or {})


def read_training_state(path: Path) -> dict[str, Any]:
    """What a training loop saved to continue later: nested containers of tensors and numbers, onto the CPU.

    Raises:
        CheckpointError: if the file is absent, damaged, or holds anything that could run code.
    """
    with _one_sentence(path):
        file_head(path)
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
    head = file_head(path)
    if head[8:9] == b"{":  # safetensors: eight bytes of length, then JSON
        return load_file(path, device="cpu")
    if head.startswith(_ZIP_MAGIC) and _is_torchscript(path):
        return _read_torchscript(path)
    if head.startswith((_ZIP_MAGIC, _LEGACY_TORCH_MAGIC)):
        return _unwrap(torch.load(path, map_location="cpu", weights_only=True))
    what = "a web page" if head.lstrip().startswith(b"<") else "not a weight file"
    raise CheckpointError(f"{path} is {what if head else 'empty'}. Delete it and get it again.")


def file_head(path: Path) -> bytes:
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


def _listed(keys: list[str]) -> str:
    rest = len(keys) - _MAX_LISTED_KEYS
    return ", ".join(keys[:_MAX_LISTED_KEYS]) + (f" and {rest} more" if rest > 0 else "")
