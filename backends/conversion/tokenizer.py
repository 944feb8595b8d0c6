"""A checkpoint's tokenizer as GGUF metadata: words, special tokens, chat template."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from backends.conversion.byte_words import added_tokens, is_byte_level, read_byte_words, steps
from backends.conversion.refusal import TOKENIZER, lacking, refused
from backends.conversion.sentence_words import read_merged_words, read_piece_words
from backends.conversion.types import Value
from backends.conversion.words import Words, word_values
from backends.errors import ModelDamaged
from backends.models.checkpoint import read_json_if_there
from backends.text import Text

_JSON, _PIECES = "tokenizer.json", "tokenizer.model"
# Classes of transformers that decide by their own settings how a text begins, whatever tokenizer.json says.
_LLAMA = ("LlamaTokenizer", "LlamaTokenizerFast")
# Roles whose tokens end an answer in llama.cpp; the further ones are named for other uses, and do that, too.
_ENDS = ("eos", "eot", "eom", "fim_pad", "fim_rep", "fim_sep")


def tokenizer_values(folder: Path, config: Mapping[str, Any], rows: int) -> dict[str, Value]:
    """Metadata of the tokenizer in `folder`, for an embedding table of `rows` rows.

    `config` is the language model's. Raises ModelUnsupported for a tokenizer that llama.cpp does not have,
    ModelDamaged for a broken one or none.
    """
    document = read_json_if_there(folder / _JSON)
    settings = read_json_if_there(folder / "tokenizer_config.json")
    try:
        words = _words(folder, document, settings)
        special = _special(folder, config, document, settings, words, rows=rows)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        detail = Text.of("convert.tokenizer_damaged", "{file} is not in the form of a tokenizer.", file=_JSON)
        raise ModelDamaged(path=str(folder), detail=detail, file=_JSON) from error
    template = chat_template(folder, settings)
    values = word_values(words, rows) | {f"tokenizer.ggml.{k}": v for k, v in special.items()}
    if template:
        values["tokenizer.chat_template"] = template
    start = words.by_id.get(_number(special.get("bos_token_id")))
    # Once is right: by the template, or before the text.
    written = (
        start is not None and template is not None and ("bos_token" in template or start.text in template)
    )
    adds = start is not None and not written and _adds_start(document, settings)
    values["tokenizer.ggml.add_bos_token"] = adds
    return values


def _words(folder: Path, document: Mapping[str, Any], settings: Mapping[str, Any]) -> Words:
    if document and is_byte_level(document):
        return read_byte_words(folder, document)
    added = added_tokens(document) or list(_added_in_settings(settings))
    if (folder / _PIECES).is_file():
        words = read_piece_words(folder / _PIECES, added)
    elif document:
        words = read_merged_words(folder, document)
    else:
        raise lacking(folder, _JSON, folder.name)
    if settings.get("tokenizer_class") in _LLAMA:
        every = settings.get("legacy", False) is True
        prefixed = settings.get("add_prefix_space") is not False
        return replace(words, space=("every" if every else "first") if prefixed else "")
    return words


def _added_in_settings(settings: Mapping[str, Any]) -> Iterator[tuple[int, str, bool]]:
    stated = settings.get("added_tokens_decoder")
    for number, token in stated.items() if isinstance(stated, dict) else ():
        yield int(number), str(token["content"]), token.get("special") is True


def _special(
    folder: Path,
    config: Mapping[str, Any],
    document: Mapping[str, Any],
    settings: Mapping[str, Any],
    words: Words,
    *,
    rows: int,
) -> dict[str, Value]:
    """Ids of the special tokens. All that end an answer do; `eos` is the one that templates write."""
    generation = read_json_if_there(folder / "generation_config.json")
    older = read_json_if_there(folder / "special_tokens_map.json")
    ids = dict(words.ids) | {text: number for number, text, _ in added_tokens(document)}

    def named(role: str) -> int | None:
        token = settings.get(f"{role}_token", older.get(f"{role}_token"))
        text = token.get("content") if isinstance(token, dict) else token
        return ids.get(text) if isinstance(text, str) else None

    def stated(role: str) -> list[int]:
        found = generation.get(f"{role}_token_id", config.get(f"{role}_token_id"))
        items = found if isinstance(found, list) else [found]
        return [item for item in items if type(item) is int and 0 <= item < rows]

    own = named("eos")
    ends = list(dict.fromkeys([*([] if own is None else [own]), *stated("eos")]))
    if not ends:
        raise refused(folder, TOKENIZER, "no end of turn")
    if len(ends) > len(_ENDS):
        raise refused(folder, TOKENIZER, f"{len(ends)} ends of a turn")
    found: dict[str, Value] = {f"{role}_token_id": end for role, end in zip(_ENDS, ends, strict=False)}
    for role, key in (("bos", "bos"), ("pad", "padding"), ("unk", "unknown")):
        number = named(role)
        number = number if number is not None else next(iter(stated(role)), None)
        if number is not None:
            found[f"{key}_token_id"] = number
    return found


def _number(value: Value | None) -> int:
    return value if isinstance(value, int) else -1


def _adds_start(document: Mapping[str, Any], settings: Mapping[str, Any]) -> bool:
    """Whether the tokenizer puts a special token before a text: by tokenizer.json, where there is one."""
    if not document:
        return settings.get("add_bos_token") is not False
    for step in steps(document.get("post_processor")):
        form = step.get("single")
        if step.get("type") == "TemplateProcessing" and isinstance(form, list) and form:
            return "SpecialToken" in form[0]
    return False


def chat_template(folder: Path, settings: Mapping[str, Any]) -> str | None:
    """The template in the place of its version: a file of its own first, the tokenizer's settings last."""
    own = folder / "chat_template.jinja"
    if own.is_file():
        return own.read_text(encoding="utf-8")
    for holder in (read_json_if_there(folder / "chat_template.json"), settings):
        stated = holder.get("chat_template")
        if isinstance(stated, list):
            named = {item.get("name"): item.get("template") for item in stated if isinstance(item, dict)}
            stated = named.get("default")
        if isinstance(stated, str) and stated:
            return stated
    return None
