"""From class names to the token ids a CLIP text tower reads."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from open_clip.tokenizer import SimpleTokenizer
from torch import Tensor

Tokenizer = Callable[[Sequence[str]], Tensor]

SLOT = "{}"


def fill(template: str, name: str) -> str:
    """Put `name` where the template says `{}`; the name is text only, whatever it contains.

    Raises:
        ValueError: if the template has no `{}`.
    """
    if SLOT not in template:
        raise ValueError(f"a prompt template needs a {SLOT} where the class name goes, got {template!r}")
    return template.replace(SLOT, name)


def clip_tokenizer(context_length: int) -> Tokenizer:
    """CLIP's byte-pair tokenizer (its vocabulary comes inside open_clip): prompts to ids (N, context_length).

    Ids are: start of text, the prompt, end of text, zeros. A prompt that is too long is cut, its end-of-text
        kept.
    """
    tokenizer = SimpleTokenizer(context_length=context_length)
    return lambda prompts: tokenizer(list(prompts))
