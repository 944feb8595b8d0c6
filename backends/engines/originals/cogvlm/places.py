"""Where the tokens of a CogVLM prompt stand, and which of them take the experts for pictures.

A picture is one run of tokens: a marker, its patches, a marker. All patches share one position, and the
closing marker is a word to the experts.
"""

from __future__ import annotations

from typing import Any

import torch

from backends.engines.prompt import Prompt

WORD, IMAGE = 0, 1
_MARKERS = 2


def takes_vision(token_types: torch.Tensor) -> torch.Tensor:
    """Token types [batch, tokens] -> whether each is an image token whose successor is one as well."""
    image = token_types == IMAGE
    chosen = torch.zeros_like(image)
    chosen[:, :-1] = image[:, :-1] & image[:, 1:]
    return chosen


def positions(token_types: torch.Tensor, attention_mask: torch.Tensor | None = None) -> torch.Tensor:
    """Token types [batch, tokens] -> positions [batch, tokens].

    Every token is one further than the one before it, but for a picture's patches, which all stand where
    the first of them does: 0 for the start token, 1 for the opening marker, 2 for the patches, 3 for the
    closing marker, and so on. Where `attention_mask` is 0 nothing counts.
    """
    image, vision = token_types == IMAGE, takes_vision(token_types)
    step = torch.ones_like(image)
    # A patch whose neighbour before it is no marker: that one is followed by the patch and follows a marker.
    step[:, 2:] = ~(vision[:, 2:] & vision[:, 1:-1] & image[:, :-2])
    if attention_mask is not None:
        step &= attention_mask.bool()
    return (step.long().cumsum(-1) - 1).clamp_min(0)


def token_types(prompt: Prompt) -> torch.Tensor:
    """[1, tokens] of `prompt`."""
    found = torch.full((1, len(prompt)), WORD)
    for span in prompt.spans:
        found[:, span.start : span.end] = IMAGE
    return found


def inputs_of(prompt: Prompt, start: int, end: int, device: torch.device) -> dict[str, Any]:
    """What a pass over tokens [start, end) of a conversation needs beside the tokens themselves.

    Tokens behind the prompt are those of the answer. Whether the last token of a pass takes the experts for
    pictures depends on the one that follows it, so all is found from the whole prompt.
    """
    last = prompt.spans[-1].end if prompt.spans else 0
    if start >= last:  # words: each is one further than the one before it
        shared = sum(span.end - span.start - _MARKERS - 1 for span in prompt.spans)
        return {"position_ids": torch.arange(start - shared, end - shared, device=device)[None]}
    types = token_types(prompt)
    return {
        "position_ids": positions(types)[:, start:end].to(device),
        "vision_tokens": takes_vision(types)[:, start:end].to(device),
    }
