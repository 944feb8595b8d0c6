"""What the engine needs, beside the weights, to talk with a checkpoint in its authors' layout."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from backends.engines.prompt import Prompts


@dataclass(frozen=True, slots=True)
class Voice:
    """`tokenizer` decodes answers (`decode(ids, skip_special_tokens=, clean_up_tokenization_spaces=)`).

    `prompts` writes conversations in the chosen format, `stop_ids` end an answer; `sees` tells whether
    pictures are read.
    """

    tokenizer: Any
    prompts: Prompts
    stop_ids: frozenset[int]
    sees: bool
