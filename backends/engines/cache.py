"""KV caches of running conversations, and the rule that makes their reuse exact.

A prompt is prefilled in chunks whose borders depend only on what stands before them. A later prompt takes
over the chunks that it would compute in exactly the same way: same keys, same borders. Sums are then added
in the same order with and without reuse, so that the answer is the same to the last bit, in any precision.
Tokens decoded one by one are not reused as they are: the next prompt prefills the answer as a chunk.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from backends.engines.kv import RoomyLayer, empty_cache, make_room
from backends.engines.prompt import Key, Prompt

TEXT_CHUNK = 128  # a border at least this often, so that little is left to compute before an answer
PICTURE_CHUNK = 1024  # bounds the activations of pictures with thousands of tokens


def borders(prompt: Prompt, text_chunk: int = TEXT_CHUNK) -> tuple[int, ...]:
    """Where chunks of `prompt` end, its own end left out: after every picture, and every `text_chunk` tokens.

    Each border follows from the tokens before it alone, so prompts that begin alike have the same ones.
    """
    found: list[int] = []
    start = 0
    for span in prompt.spans:
        while span.start - start >= text_chunk:
            start += text_chunk
            found.append(start)
        while span.end - start > PICTURE_CHUNK:
            start += PICTURE_CHUNK
            found.append(start)
        start = span.end
        found.append(start)
    while len(prompt) - start > text_chunk:
        start += text_chunk
        found.append(start)
    return tuple(border for border in found if border < len(prompt))


@dataclass(slots=True)
class Prefix:
    """The first tokens of a conversation in a KV cache; `ends` are the borders of its chunks."""

    kv: Any
    keys: tuple[Key, ...] = ()
    ends: list[int] = field(default_factory=list)

    def __len__(self) -> int:
        return self.ends[-1] if self.ends else 0

    def shared(self, keys: Sequence[Key], ends: Sequence[int]) -> int:
        """How many chunks a prompt with `keys` and `ends` has in common with this one."""
        count = 0
        for mine, other in zip(self.ends, ends, strict=False):
            start = self.ends[count - 1] if count else 0
            if mine != other or self.keys[start:mine] != tuple(keys[start:mine]):
                break
            count += 1
        return count

    def cut_to(self, chunks: int) -> None:
        """Keep the first `chunks` chunks; also repairs layers that an interrupted pass left uneven."""
        del self.ends[chunks:]
        crop(self.kv, len(self))
        self.keys = self.keys[: len(self)]


def crop(kv: Any, length: int) -> None:
    """Cut every layer of `kv` back to its first `length` tokens."""
    for layer in kv.layers:
        surplus = layer.get_seq_length() - length
        if surplus > 0:
            layer.crop(-surplus)


def is_croppable(config: Any) -> bool:
    """Whether every layer's cache keeps all tokens; sliding-window and recurrent layers don't."""
    layers = empty_cache(config).layers
    return bool(layers) and all(isinstance(layer, RoomyLayer) for layer in layers)


class PrefixStore:
    """The prefixes of several conversations, together not longer than the context that was planned for."""

    def __init__(self, config: Any, context_tokens: int) -> None:
        self._config = config
        self._context_tokens = context_tokens
        self._kept: OrderedDict[str, Prefix] = OrderedDict()

    def take(self, conversation: str, prompt: Prompt, ends: Sequence[int], reserve: int) -> Prefix:
        """The longest usable prefix for `prompt`, made ready to be continued; put it back afterwards.

        It comes from the same conversation if that serves best, else as a copy of another's. Others are
        dropped, the oldest first, until `reserve` tokens fit beside what is left; room for so many is made
        when the first is added.
        """
        own = self._kept.pop(conversation, None)
        source, chunks = conversation, own.shared(prompt.keys, ends) if own else 0
        for name, other in self._kept.items():
            if (count := other.shared(prompt.keys, ends)) > chunks:
                source, chunks = name, count
        if source != conversation or not chunks:
            own = None  # given back before another one is made
        if not chunks:
            self._make_room(reserve)
            return Prefix(empty_cache(self._config, reserve))
        if own is None:
            own = self._share(source, chunks, reserve)
        own.cut_to(chunks)
        make_room(own.kv, reserve)
        self._make_room(reserve)
        return own

    def _share(self, source: str, chunks: int, reserve: int) -> Prefix:
        """A copy of another conversation's chunks; where the two have no room together, its own ones."""
        self._kept.move_to_end(source)
        while len(self._kept) > 1 and self.tokens + reserve > self._context_tokens:
            self._kept.popitem(last=False)
        if self.tokens + reserve > self._context_tokens:
            return self._kept.pop(source)
        return _copy(self._kept[source], chunks, empty_cache(self._config, reserve))

    def put(self, conversation: str, prefix: Prefix) -> None:
        """Keep `prefix` for the conversation's next prompt."""
        if len(prefix):
            for layer in prefix.kv.layers:
                layer.trim()
            self._kept[conversation] = prefix
            self._kept.move_to_end(conversation)

    def clear(self) -> None:
        """Forget all conversations."""
        self._kept.clear()

    def resize(self, context_tokens: int) -> None:
        """Another context is planned for: what does not fit in it is dropped, the oldest first."""
        self._context_tokens = context_tokens
        self._make_room(0)

    @property
    def tokens(self) -> int:
        """Number of tokens kept, over all conversations."""
        return sum(len(prefix) for prefix in self._kept.values())

    def _make_room(self, reserve: int) -> None:
        while self._kept and self.tokens + reserve > self._context_tokens:
            self._kept.popitem(last=False)


def _copy(prefix: Prefix, chunks: int, kv: Any) -> Prefix:
    length = prefix.ends[chunks - 1]
    for index, layer in enumerate(prefix.kv.layers):
        kv.update(layer.keys[..., :length, :], layer.values[..., :length, :], index)
    return Prefix(kv, prefix.keys[:length], prefix.ends[:chunks])
