"""Byte-level pair encodings (GPT-2, Llama 3, Qwen2, Mistral Nemo) from a tokenizer.json."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from backends.conversion.refusal import TOKENIZER, refused
from backends.conversion.words import Word, Words, with_added

# Llama 3's rule, whose marked place is how many digits stay together; Qwen2's differs in that alone.
_CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_REST = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_LETTERS = r"[^\r\n\p{L}\p{N}]?\p{L}+"
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
# The expression that splits text first -> llama.cpp's name of the rule.
_SPLITS = {
    rf"{_CONTRACTIONS}|{_LETTERS}|\p{{N}}{{1,3}}|{_REST}": "llama-bpe",
    rf"{_CONTRACTIONS}|{_LETTERS}|\p{{N}}|{_REST}": "qwen2",
    rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}*{_LOWER}+|[^\r\n\p{{L}}\p{{N}}]?{_UPPER}+{_LOWER}*|\p{{N}}|"
    r" ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+": "tekken",
}


def is_byte_level(document: Mapping[str, Any]) -> bool:
    """Whether a tokenizer.json describes pairs of bytes."""
    return any(step.get("type") == "ByteLevel" for step in steps(document.get("pre_tokenizer")))


def steps(stated: object) -> Iterator[Mapping[str, Any]]:
    """The steps of a part of a tokenizer.json, one or several in a row."""
    if not isinstance(stated, dict):
        return
    inner = stated.get("pretokenizers", stated.get("normalizers", stated.get("processors")))
    if stated.get("type") == "Sequence" and isinstance(inner, list):
        for step in inner:
            yield from steps(step)
    else:
        yield stated


def read_byte_words(folder: Path, document: Mapping[str, Any]) -> Words:
    """Read the words. Raises ModelUnsupported for a way to split text that llama.cpp is not known to have."""
    model = document["model"]
    if model.get("type") != "BPE":
        raise refused(folder, TOKENIZER, model.get("type"))
    changes = [step.get("type") for step in steps(document.get("normalizer"))]
    if set(changes) - {"NFC"}:
        raise refused(folder, TOKENIZER, ", ".join(map(str, changes)))
    words = {int(number): Word(text) for text, number in model["vocab"].items()}
    return Words(
        "gpt2",
        with_added(words, added_tokens(document)),
        pre=splitting_rule(folder, document.get("pre_tokenizer")),
        merges=tuple(pair if isinstance(pair, str) else " ".join(pair) for pair in model["merges"]),
        composed=bool(changes),
    )


def added_tokens(document: Mapping[str, Any]) -> list[tuple[int, str, bool]]:
    """Id, text and whether special, of the tokens beside the model's own words."""
    return [
        (int(token["id"]), str(token["content"]), token.get("special") is True)
        for token in document.get("added_tokens") or ()
    ]


def splitting_rule(folder: Path, stated: object) -> str:
    """llama.cpp's name of the rule that splits text, by the steps of `pre_tokenizer`."""
    expressions: list[str] = []
    digits = own = False
    for step in steps(stated):
        match step:
            case {"type": "ByteLevel"}:
                own = step.get("use_regex", True) is not False
                if step.get("add_prefix_space"):
                    raise refused(folder, TOKENIZER, "add_prefix_space")
            case {"type": "Digits", "individual_digits": True}:
                digits = True
            case {"type": "Split", "pattern": {"Regex": str(expression)}, "behavior": "Isolated"}:
                expressions.append(expression)
            case _:
                raise refused(folder, TOKENIZER, step.get("type"))
    if not expressions and own:
        return "smollm" if digits else "gpt-2"
    name = _SPLITS.get(expressions[0]) if len(expressions) == 1 and not own and not digits else None
    if name is None:
        raise refused(folder, TOKENIZER, " ".join(expressions) or "no expression")
    return name
