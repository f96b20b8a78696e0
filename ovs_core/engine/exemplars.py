"""What a method sees in a photo, in the space of text: where boxes get their vectors from."""

from __future__ import annotations

from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from ovs_core.methods.base import BoundMethod
from ovs_core.methods.spec import MethodSpec
from ovs_core.types import TextBank, Vocabulary


def takes_exemplars(method: MethodSpec) -> bool:
    """Whether a method compares tokens with rows of text and does nothing else: any unit vector is a row."""
    return method.head is None and not method.masks


def joint_tokens(bound: BoundMethod[Any], features: Any, width: int) -> Tensor:
    """Tokens of a photo as the method compares them with text, (D, h, w).

    A cosine is linear in the row of text, so the evidence for every axis of the space is the tokens.
    """
    axes = Vocabulary(tuple((f"axis {number}",) for number in range(width)))
    answer = bound.method.ask(features, TextBank(axes, torch.eye(width)), MappingProxyType({}))
    return answer.evidence.rows
