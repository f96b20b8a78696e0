"""What open_clip knows of words, its tokenizer and its prompts, without the rest of it.

`import open_clip.tokenizer` first loads the whole of open_clip and with it torchvision, timm and torch's
compiler: a third of the time from a typed command to an answer. Both modules stand alone, so they are read
from their files; where a later release should tie them to the package, that is loaded as usual.
"""

from __future__ import annotations

import sys
from functools import lru_cache
from importlib import import_module
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Literal

_PACKAGE = "open_clip"


@lru_cache(maxsize=2)
def clip_words(part: Literal["tokenizer", "zero_shot_metadata"]) -> ModuleType:
    """A module of open_clip that is about words.

    Raises:
        ModuleNotFoundError: if open_clip is not installed.
    """
    package = None if _PACKAGE in sys.modules else find_spec(_PACKAGE)
    for folder in (package and package.submodule_search_locations) or ():
        spec = spec_from_file_location(f"{_PACKAGE}_{part}", Path(folder) / f"{part}.py")
        if spec is None or spec.loader is None:
            continue
        module = module_from_spec(spec)
        try:
            spec.loader.exec_module(module)
        except ImportError:
            break
        return module
    return import_module(f"{_PACKAGE}.{part}")
