"""Tokenizers: words with their kinds, special tokens, the rule that splits text, and the chat template."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from backends.conversion.byte_words import splitting_rule
from backends.conversion.sentence_words import read_piece_words
from backends.conversion.tokenizer import tokenizer_values
from backends.conversion.words import Kind, Word, Words, with_added, word_values
from backends.errors import ModelDamaged, ModelUnsupported
from tests.backends.conversion.conftest import Folder
from tests.support.tiny_models import SPECIALS, TEXT_CHATML, make_tokenizer
from tests.support.tiny_texts import LLAMA3, QWEN2, pieces, vicuna_tokenizer

BYTES = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": False}
OWN = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True}


def sequence(*steps: dict[str, Any]) -> dict[str, Any]:
    return {"type": "Sequence", "pretokenizers": list(steps)}


def split(expression: str) -> dict[str, Any]:
    return {"type": "Split", "pattern": {"Regex": expression}, "behavior": "Isolated", "invert": False}


def ggml(values: dict[str, Any]) -> dict[str, Any]:
    return {
        key.removeprefix("tokenizer.ggml."): value
        for key, value in values.items()
        if key.startswith("tokenizer.ggml.")
    }


@pytest.mark.parametrize(
    ("stated", "rule"),
    [
        (OWN, "gpt-2"),
        (sequence(split(QWEN2), BYTES), "qwen2"),
        (sequence(split(LLAMA3), BYTES), "llama-bpe"),
        (sequence({"type": "Digits", "individual_digits": True}, OWN), "smollm"),
    ],
    ids=["GPT-2", "Qwen2", "Llama 3", "digits"],
)
def test_the_rule_that_splits_text(stated: dict[str, Any], rule: str) -> None:
    assert splitting_rule(Path("model"), stated) == rule


@pytest.mark.parametrize(
    "stated",
    [
        BYTES,
        OWN | {"add_prefix_space": True},
        sequence(split(r"\p{L}+|\p{N}+"), BYTES),
        sequence(split(QWEN2), split(LLAMA3), BYTES),
        sequence(split(QWEN2), OWN),
        sequence({"type": "Whitespace"}, OWN),
        None,
    ],
    ids=["none", "a space before", "unknown", "two", "twice", "another step", "nothing"],
)
def test_another_rule_is_refused(stated: dict[str, Any] | None) -> None:
    with pytest.raises(ModelUnsupported, match="tokenizer"):
        splitting_rule(Path("model"), stated)


def test_bytes_of_the_starter(checkpoint: Folder) -> None:
    values = tokenizer_values(checkpoint("starter"), {}, 1024)
    found = ggml(values)
    assert (found["model"], found["pre"]) == ("gpt2", "gpt-2")
    assert len(found["tokens"]) == len(found["token_type"]) == 1024
    assert found["tokens"][:4] == ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<image>")
    assert found["token_type"][:5] == (Kind.CONTROL,) * 4 + (Kind.NORMAL,)
    assert (found["eos_token_id"], found["padding_token_id"]) == (2, 0)
    assert "bos_token_id" not in found
    assert found["add_bos_token"] is False
    assert all(pair.count(" ") == 1 for pair in found["merges"])
    template = checkpoint("starter") / "chat_template.jinja"
    assert values["tokenizer.chat_template"] == template.read_text(encoding="utf-8")


def test_rows_without_a_word_get_one_of_their_own(tmp_path: Path) -> None:
    words = Words("gpt2", {0: Word("a"), 2: Word("[PAD1]"), 3: Word("a"), 9: Word("beyond")})
    found = ggml(word_values(words, 5))
    assert found["tokens"] == ("a", "[[PAD1]]", "[PAD1]", "[PAD3]", "[PAD4]")
    assert found["token_type"] == (Kind.NORMAL, Kind.UNUSED, Kind.NORMAL, Kind.UNUSED, Kind.UNUSED)


def test_added_tokens_are_special_or_the_users() -> None:
    words = {0: Word("<unk>", Kind.UNKNOWN), 1: Word("<s>"), 2: Word("x")}
    merged = with_added(words, [(0, "<unk>", True), (1, "<s>", True), (3, "<tool>", False)])
    assert [merged[number].kind for number in range(4)] == [
        Kind.UNKNOWN,
        Kind.CONTROL,
        Kind.NORMAL,
        Kind.USER_DEFINED,
    ]


def test_both_files_of_a_vicuna_tell_the_same(tmp_path: Path) -> None:
    model = pieces()
    tokenizer = vicuna_tokenizer(tmp_path / "json", model)
    vicuna_tokenizer(tmp_path / "model", model)
    (tmp_path / "model" / "tokenizer.model").write_bytes(model)
    config = {"bos_token_id": 1, "eos_token_id": 2}
    rows = len(tokenizer) + 3
    by_merges = ggml(tokenizer_values(tmp_path / "json", config, rows))
    by_pieces = ggml(tokenizer_values(tmp_path / "model", config, rows))
    scores = by_merges.pop("scores"), by_pieces.pop("scores")
    assert by_merges == by_pieces
    assert by_pieces["model"] == "llama"
    assert by_pieces["token_type"][:3] == (Kind.UNKNOWN, Kind.CONTROL, Kind.CONTROL)
    assert by_pieces["token_type"][3:259] == (Kind.BYTE,) * 256
    assert (by_pieces["bos_token_id"], by_pieces["eos_token_id"], by_pieces["unknown_token_id"]) == (1, 2, 0)
    assert by_pieces["add_bos_token"] is True
    # The order in which words are put together is the same.
    merged = [n for n in range(259, len(tokenizer) - 1) if len(by_pieces["tokens"][n]) > 1]
    orders = [sorted(merged, key=lambda number, of=of: -of[number]) for of in scores]
    assert orders[0] == orders[1]


@pytest.mark.parametrize(
    ("settings", "space", "library"),
    [({}, "first", False), ({"legacy": False}, "first", False), ({"legacy": True}, "every", True)],
    ids=["not said", "new", "legacy"],
)
def test_a_space_before_the_text(tmp_path: Path, settings: dict[str, Any], space: str, library: bool) -> None:
    vicuna_tokenizer(tmp_path, pieces(), legacy=settings.get("legacy"))
    values = tokenizer_values(tmp_path, {"eos_token_id": 2}, 500)
    assert values["snug.space_prefix"] == space
    assert values["tokenizer.ggml.add_space_prefix"] is library


@pytest.mark.parametrize(
    ("generation", "named", "ends"),
    [
        ({"eos_token_id": 3}, "<|im_end|>", (3,)),
        ({"eos_token_id": [5, 3]}, "<|im_end|>", (3, 5)),
        ({"eos_token_id": [3, 5]}, "<|im_end|>", (3, 5)),
        ({"eos_token_id": 5}, "<|im_end|>", (3, 5)),
        ({}, "<|im_end|>", (3, 7)),
        ({"eos_token_id": [3, 5, 83]}, "<|im_end|>", (3, 5, 83)),
        ({"eos_token_id": [9, 8, 7, 6, 5]}, "<|im_end|>", (3, 9, 8, 7, 6, 5)),
        ({"eos_token_id": [5, 320, -1]}, "<|im_end|>", (3, 5)),
    ],
    ids=["one", "the tokenizer's first", "two", "both's", "the config's", "three", "six", "no words"],
)
def test_the_tokens_that_end_a_turn(
    tmp_path: Path, generation: dict[str, Any], named: str, ends: tuple[int, ...]
) -> None:
    make_tokenizer().save_pretrained(tmp_path)
    (tmp_path / "generation_config.json").write_text(json.dumps(generation), encoding="utf-8")
    found = ggml(tokenizer_values(tmp_path, {"eos_token_id": 7}, 320))
    assert SPECIALS.index(named) == 3
    roles = ("eos", "eot", "eom", "fim_pad", "fim_rep", "fim_sep")
    assert tuple(found[f"{role}_token_id"] for role in roles if f"{role}_token_id" in found) == ends


def test_more_ends_than_the_library_takes_are_refused(tmp_path: Path) -> None:
    make_tokenizer().save_pretrained(tmp_path)
    generation = {"eos_token_id": [4, 5, 6, 7, 8, 9]}
    (tmp_path / "generation_config.json").write_text(json.dumps(generation), encoding="utf-8")
    with pytest.raises(ModelUnsupported, match="7 ends of a turn"):
        tokenizer_values(tmp_path, {}, 320)


@pytest.mark.parametrize(
    ("template", "adds"),
    [
        (None, True),
        (TEXT_CHATML, True),
        ("{{ bos_token }}" + TEXT_CHATML, False),
        ("<s>" + TEXT_CHATML, False),
    ],
    ids=["no template", "a template without", "by name", "in words"],
)
def test_a_text_begins_with_one_special_token(tmp_path: Path, template: str | None, adds: bool) -> None:
    vicuna_tokenizer(tmp_path, pieces())
    if template is not None:
        (tmp_path / "chat_template.jinja").write_text(template, encoding="utf-8")
    values = tokenizer_values(tmp_path, {"eos_token_id": 2}, 500)
    assert values["tokenizer.ggml.add_bos_token"] is adds
    assert values.get("tokenizer.chat_template") == template


@pytest.mark.parametrize(("settled", "adds"), [(None, False), ("<s>", True), ("", False)], ids=repr)
def test_what_tokenizer_json_puts_before_a_text(tmp_path: Path, settled: str | None, adds: bool) -> None:
    vicuna_tokenizer(tmp_path, pieces())
    path = tmp_path / "tokenizer.json"
    document = json.loads(path.read_text(encoding="utf-8"))
    if not settled:
        single = [{"Sequence": {"id": "A", "type_id": 0}}]
        document["post_processor"] = (
            None if settled is None else document["post_processor"] | {"single": single}
        )
    path.write_text(json.dumps(document), encoding="utf-8")
    # The settings of LlamaTokenizer say so, too, and are not asked.
    assert tokenizer_values(tmp_path, {"eos_token_id": 2}, 500)["tokenizer.ggml.add_bos_token"] is adds


@pytest.mark.parametrize(("flag", "adds"), [({}, True), ({"add_bos_token": False}, False)], ids=str)
def test_without_tokenizer_json_the_settings_decide(
    tmp_path: Path, flag: dict[str, bool], adds: bool
) -> None:
    (tmp_path / "tokenizer.model").write_bytes(pieces())
    settings = {"tokenizer_class": "LlamaTokenizer", "bos_token": "<s>", "eos_token": "</s>"} | flag
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
    assert tokenizer_values(tmp_path, {"eos_token_id": 2}, 500)["tokenizer.ggml.add_bos_token"] is adds


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("chat_template.json", {"chat_template": "{{ a }}"}),
        ("tokenizer_config.json", {"chat_template": "{{ a }}"}),
        ("tokenizer_config.json", {"chat_template": [{"name": "default", "template": "{{ a }}"}]}),
    ],
    ids=["a file", "settings", "several"],
)
def test_the_template_in_the_place_of_its_version(
    checkpoint: Folder, tmp_path: Path, file: str, content: dict[str, Any]
) -> None:
    source = checkpoint("starter") / "tokenizer.json"
    (tmp_path / "tokenizer.json").write_bytes(source.read_bytes())
    (tmp_path / file).write_text(json.dumps(content), encoding="utf-8")
    values = tokenizer_values(tmp_path, {"eos_token_id": 2}, 1024)
    assert values["tokenizer.chat_template"] == "{{ a }}"


def normalizing(source: Path, folder: Path, *kinds: str) -> Path:
    document = json.loads((source / "tokenizer.json").read_text(encoding="utf-8"))
    document["normalizer"] = {"type": "Sequence", "normalizers": [{"type": kind} for kind in kinds]}
    (folder / "tokenizer.json").write_text(json.dumps(document), encoding="utf-8")
    return folder


@pytest.mark.parametrize(("kinds", "composed"), [((), False), (("NFC",), True)], ids=str)
def test_text_in_another_form(
    checkpoint: Folder, tmp_path: Path, kinds: tuple[str, ...], composed: bool
) -> None:
    folder = normalizing(checkpoint("starter"), tmp_path, *kinds)
    assert tokenizer_values(folder, {"eos_token_id": 2}, 1024)["snug.composed_text"] is composed


@pytest.mark.parametrize("name", ["starter", "vicuna"])
def test_text_that_is_changed_otherwise_is_refused(checkpoint: Folder, tmp_path: Path, name: str) -> None:
    with pytest.raises(ModelUnsupported, match="Lowercase"):
        tokenizer_values(normalizing(checkpoint(name), tmp_path, "Lowercase"), {"eos_token_id": 2}, 1024)


def test_unigrams_are_refused(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.model").write_bytes(pieces(unigram=True))
    with pytest.raises(ModelUnsupported, match="unigram"):
        tokenizer_values(tmp_path, {"eos_token_id": 2}, 500)


@pytest.mark.parametrize("cut", [1, 100, 3000])
def test_a_cut_file_of_pieces_is_damage(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "tokenizer.model"
    path.write_bytes(pieces()[:-cut])
    with pytest.raises((ModelDamaged, ModelUnsupported)):
        read_piece_words(path, [])


@pytest.mark.parametrize(
    "document",
    [
        {"model": {"type": "BPE", "vocab": {"a": 0}}, "pre_tokenizer": OWN},
        {"model": {"type": "BPE", "vocab": [1], "merges": []}, "pre_tokenizer": OWN},
        {"model": 3, "pre_tokenizer": OWN},
    ],
    ids=["no merges", "a list", "a number"],
)
def test_a_broken_tokenizer_is_damage(tmp_path: Path, document: dict[str, Any]) -> None:
    (tmp_path / "tokenizer.json").write_text(json.dumps(document), encoding="utf-8")
    with pytest.raises(ModelDamaged, match=r"tokenizer\.json"):
        tokenizer_values(tmp_path, {"eos_token_id": 2}, 10)


def test_no_tokenizer_is_damage(tmp_path: Path) -> None:
    with pytest.raises(ModelDamaged, match=r"tokenizer\.json"):
        tokenizer_values(tmp_path, {"eos_token_id": 2}, 10)
