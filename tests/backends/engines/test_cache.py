"""Where prompts are cut, and which chunks a later prompt takes over."""

from __future__ import annotations

import pytest
import torch

from backends.engines.cache import Prefix, PrefixStore, borders, is_croppable
from backends.engines.kv import empty_cache
from backends.engines.pictures import ReadPicture
from backends.engines.prompt import Prompt, Span
from tests.support.tiny_models import text_config

CONFIG = text_config(layers=2)


def prompt(*parts: int | str) -> Prompt:
    """A prompt of text runs (their lengths) and pictures (named by a letter, 20 tokens each)."""
    ids: list[int] = []
    keys: list[int | tuple[int, str]] = []
    spans = []
    for part in parts:
        if isinstance(part, int):
            ids += range(100, 100 + part)
            keys += range(100, 100 + part)
        else:
            spans.append(Span(len(ids), len(ids) + 20, ReadPicture(part, "", (4,) * 20, {})))
            ids += [4] * 20
            keys += [(4, part)] * 20
    return Prompt(tuple(ids), tuple(keys), tuple(spans))


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        ((5,), ()),
        ((50,), ()),
        ((51,), (50,)),
        ((130,), (50, 100)),
        (("A", 10), (20,)),
        ((10, "A", 10), (30,)),
        ((10, "A", "B", 3), (30, 50)),
        ((120, "A", 60), (50, 100, 140, 190)),
        (("A",), ()),
    ],
    ids=[
        "a short text has no border",
        "a border never stands at the end",
        "a long text is cut",
        "a longer text is cut regularly",
        "a picture ends a chunk",
        "text before a picture shares its chunk",
        "every picture ends a chunk",
        "text is counted from the last picture on",
        "nothing after the picture",
    ],
)
def test_borders(parts: tuple[int | str, ...], expected: tuple[int, ...]) -> None:
    assert borders(prompt(*parts), text_chunk=50) == expected


def test_prompts_that_begin_alike_have_the_same_borders() -> None:
    long = prompt(120, "A", 30, "B", 200)
    for end in range(1, len(long)):
        begun = Prompt(long.ids[:end], long.keys[:end], tuple(span for span in long.spans if span.end <= end))
        inside = [span for span in long.spans if span.start < end < span.end]
        if not inside:
            assert set(borders(begun, 50)) == {b for b in borders(long, 50) if b < end}


def filled(store_prompt: Prompt, text_chunk: int = 50) -> Prefix:
    """A prefix of all whole chunks of a prompt, as a prefill leaves it."""
    ends = borders(store_prompt, text_chunk)
    kv = empty_cache(CONFIG)
    if ends:
        for layer in range(2):
            kv.update(torch.ones(1, 2, ends[-1], 16), torch.ones(1, 2, ends[-1], 16), layer)
    return Prefix(kv, store_prompt.keys[: ends[-1] if ends else 0], list(ends))


@pytest.mark.parametrize(
    ("before", "after", "reused"),
    [
        (prompt("A", 120), prompt("A", 120), 120),
        (prompt("A", 120), prompt("A", 300), 120),
        (prompt("A", 120), prompt("B", 120), 0),
        (prompt("A", "B", 60), prompt("A", "C", 60), 20),
        (prompt("A", 60), prompt("A", "A", 60), 20),
        (prompt(60, "A", 9), prompt(60, "B", 9), 50),
        (prompt(60), prompt(60, "A"), 50),
        (prompt("A", 10), prompt("A", 10), 20),
    ],
    ids=[
        "the same prompt again",
        "a longer one",
        "another picture with the same placeholders",
        "the second picture differs",
        "the same picture twice",
        "text before another picture",
        "a picture after text",
        "the last chunk is computed anew",
    ],
)
def test_what_a_later_prompt_takes_over(before: Prompt, after: Prompt, reused: int) -> None:
    store = PrefixStore(CONFIG, 1000)
    store.put("tab", filled(before))
    taken = store.take("tab", after, borders(after, 50), 10)
    assert len(taken) == reused
    assert taken.kv.get_seq_length() == reused
    assert taken.keys == after.keys[:reused]


def test_another_conversation_copies_and_leaves_the_original() -> None:
    store = PrefixStore(CONFIG, 1000)
    store.put("one", filled(prompt("A", 120)))
    asked = prompt("A", 60)
    taken = store.take("two", asked, borders(asked, 50), 10)
    assert len(taken) == 70
    with torch.inference_mode():
        taken.kv.layers[0].keys.zero_()
    again = store.take("one", prompt("A", 120), borders(prompt("A", 120), 50), 10)
    assert len(again) == 120
    assert bool(again.kv.layers[0].keys.all())


@pytest.mark.parametrize(
    ("context", "kept"), [(1000, 120), (300, 120), (250, 0)], ids=["ample", "just enough", "not for both"]
)
def test_sharing_a_beginning_never_takes_more_than_the_context(context: int, kept: int) -> None:
    store = PrefixStore(CONFIG, context)
    store.put("one", filled(prompt("A", 120)))
    asked = prompt("A", 60)
    taken = store.take("two", asked, borders(asked, 50), 180)
    assert len(taken) == 70
    assert store.tokens == kept
    assert store.tokens + 180 <= context


def test_the_oldest_conversations_make_room() -> None:
    store = PrefixStore(CONFIG, 400)
    for name in ("one", "two", "three"):
        store.put(name, filled(prompt(name, 101)))
    assert store.tokens == 360
    asked = prompt("four", 30)
    store.take("four", asked, borders(asked, 50), 150)
    assert store.tokens == 240
    assert len(store.take("three", prompt("three", 101), borders(prompt("three", 101), 50), 0)) == 120


def test_another_context_keeps_the_latest_that_fit() -> None:
    store = PrefixStore(CONFIG, 400)
    for name in ("one", "two", "three"):
        store.put(name, filled(prompt(name, 101)))
    store.resize(250)
    assert store.tokens == 240
    asked = prompt("three", 101)
    assert len(store.take("three", asked, borders(asked, 50), 0)) == 120
    store.resize(100)
    assert store.tokens == 0


def test_cutting_back_repairs_uneven_layers() -> None:
    prefix = filled(prompt("A", 120))
    prefix.kv.update(torch.ones(1, 2, 7, 16), torch.ones(1, 2, 7, 16), 0)
    prefix.cut_to(1)
    assert [layer.get_seq_length() for layer in prefix.kv.layers] == [20, 20]
    assert (len(prefix), len(prefix.keys)) == (20, 20)


@pytest.mark.parametrize(("window", "expected"), [(None, True), (32, False)])
def test_sliding_windows_are_not_croppable(window: int | None, expected: bool) -> None:
    from transformers import MistralConfig

    assert is_croppable(MistralConfig(num_hidden_layers=2, sliding_window=window)) == expected
