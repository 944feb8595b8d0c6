"""The sentences that say which layers keep something else of a conversation than all of its tokens."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from backends.models.types import LayerCache, ModelInfo
from backends.placement.estimate import Workload
from backends.text import Text


def kept(model: ModelInfo, work: Workload) -> Iterator[Text]:
    """One sentence for each kind of layer that keeps less, as the memory model counts it."""
    kinds = Counter(module.cache for module in model.modules if module.cache is not None)
    windows: Counter[int] = Counter()
    states = pictures = 0
    for cache, count in kinds.items():
        if cache.picture_tokens is not None:
            pictures += count
        elif cache.per_token == 0:
            states += count
        elif cache.window is not None and cache.window < work.context_tokens:
            windows[cache.window] += count
    for window, count in sorted(windows.items()):
        yield last_tokens(count, model.layers, window)
    if states:
        yield without_tokens(states, model.layers)
    if pictures:
        yield of_pictures(pictures, model.layers, _picture_tokens(kinds))


def last_tokens(some: int, layers: int, window: int) -> Text:
    """Layers with a window."""
    return Text.of(
        "reason.last_tokens",
        "Of {layers} layers, {some} keep the last {window:count} tokens only.",
        some=some,
        layers=layers,
        window=window,
    )


def without_tokens(some: int, layers: int) -> Text:
    """Layers with a state, and those that share what others keep."""
    return Text.of(
        "reason.without_tokens",
        "Of {layers} layers, {some} keep no tokens: at most a state whose size does not grow.",
        some=some,
        layers=layers,
    )


def of_pictures(some: int, layers: int, tokens: int) -> Text:
    """Layers that look at pictures by cross-attention."""
    return Text.of(
        "reason.of_pictures",
        "Of {layers} layers, {some} keep the {tokens:count} patches of each picture instead of words.",
        some=some,
        layers=layers,
        tokens=tokens,
    )


def _picture_tokens(kinds: Counter[LayerCache]) -> int:
    return max(cache.picture_tokens or 0 for cache in kinds)
