"""What the llama.cpp engine thinks of the next word, as log-probabilities by token id."""

from __future__ import annotations

from typing import Any

from PIL import Image

from backends.engines.llamacpp.pictures import data_url
from backends.engines.llamacpp.requests import request, with_probabilities
from backends.engines.llamacpp_engine import LlamaCppEngine
from backends.messages import SamplingParams

UNLIKELY = -30.0


def heard(engine: LlamaCppEngine, parts: list[str | Image.Image], words: int) -> list[float]:
    """Of the word behind `parts`: texts, and pictures of the tower's size."""
    assert engine._model is not None
    listed: list[dict[str, Any]] = [
        {"type": "text", "text": part}
        if isinstance(part, str)
        else {"type": "image_url", "image_url": {"url": data_url(part)}}
        for part in parts
    ]
    body = with_probabilities(request(listed, SamplingParams(temperature=0.0, max_tokens=1)), words)
    found = [UNLIKELY] * words

    def hear(chunk: dict[str, Any]) -> bool:
        for choice in chunk.get("choices") or ():
            for token in (choice.get("logprobs") or {}).get("content") or ():
                for one in token["top_logprobs"]:
                    found[one["id"]] = max(UNLIKELY, one["logprob"])
        return False

    engine._model.server.ask(body, hear)
    assert max(found) > UNLIKELY
    return found
