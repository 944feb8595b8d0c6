"""What the library is asked, as JSON: the prompt, and every choice of sampling spelled out."""

from __future__ import annotations

import secrets
from typing import Any

from backends.engines.llamacpp.pictures import PictureStore
from backends.engines.llamacpp.prompt import Written
from backends.messages import SamplingParams

# Below this the outcome is the greedy one, as in the other engine.
_GREEDY_BELOW = 1e-5
# The library's seeds have 32 bits, and the last one means "draw anew".
_SEEDS = 2**31 - 1
LAST_WORD = "."
# transformers' order; the library's own applies the temperature last.
_SAMPLERS = ("penalties", "temperature", "top_k", "top_p", "min_p")
# Of the likeliest word alone the library draws without a softmax over the whole vocabulary, and tells its id
# without a second one: 0.7 ms a token become 0.3 with 32,000 words.
_LIKELIEST = ("penalties", "top_k")
# A file's metadata may set any of these, and the library's own defaults are not neutral (top_k 40, min_p
# 0.05): all are said every time.
_NEUTRAL: dict[str, Any] = {
    "min_p": 0.0,
    "typical_p": 1.0,
    "top_n_sigma": -1.0,
    "xtc_probability": 0.0,
    "dynatemp_range": 0.0,
    "mirostat": 0,
    "dry_multiplier": 0.0,
    "frequency_penalty": 0.0,
    "presence_penalty": 0.0,
}


def parts_of(written: Written, store: PictureStore | None) -> list[dict[str, Any]]:
    """The prompt as the parts of one message. Raises ImageUnreadable."""
    parts: list[dict[str, Any]] = []
    for part in written.parts:
        if isinstance(part, str):
            parts.append({"type": "text", "text": part})
        elif store is not None:
            parts.append({"type": "image_url", "image_url": {"url": store.url(part)}})
    if parts and parts[-1]["type"] != "text":
        # The library's process aborts at a prompt that ends with a picture.
        parts.append({"type": "text", "text": LAST_WORD})
    return parts


def request(
    parts: list[dict[str, Any]],
    sampling: SamplingParams,
    *,
    repetition_penalty: float = 1.0,
    context_tokens: int = 0,
) -> dict[str, Any]:
    """A request for an answer of up to `sampling.max_tokens`; with 0 the prompt is only read.

    Probabilities beside a token's id are those of the draw (1.0 for a greedy one), see `with_probabilities`.
    """
    greedy = sampling.temperature < _GREEDY_BELOW
    seed = secrets.randbelow(_SEEDS) if sampling.seed is None else sampling.seed % _SEEDS
    return {
        "messages": [{"role": "user", "content": parts}],
        "n_predict": sampling.max_tokens,
        "cache_prompt": True,
        "reasoning_format": "none",
        "stream": True,
        "stream_options": {"include_usage": True},
        "return_progress": True,
        # Each piece of the answer with the id of its token, and how many there were.
        "logprobs": True,
        "top_logprobs": 1,
        "post_sampling_probs": greedy,
        "timings_per_token": True,
        "samplers": [*(_LIKELIEST if greedy else _SAMPLERS)],
        **_NEUTRAL,
        "top_k": 1 if greedy else 0,
        "temperature": 0.0 if greedy else float(sampling.temperature),
        "top_p": 1.0 if greedy else float(sampling.top_p),
        "seed": seed,
        "repeat_penalty": repetition_penalty,
        "repeat_last_n": context_tokens if repetition_penalty != 1.0 else 0,
    }


def with_probabilities(body: dict[str, Any], words: int) -> dict[str, Any]:
    """The request with the log-probabilities of the `words` likeliest words, as the model gives them."""
    return body | {"top_logprobs": words, "post_sampling_probs": False}
