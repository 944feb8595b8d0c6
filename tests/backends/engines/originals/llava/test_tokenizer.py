"""LLaVA's tokenizers: special tokens only where a format wrote them, spaces as the original counts them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer
from transformers import LlamaTokenizer

from backends.engines.originals.llava.tokenizer import Markup, Words, open_tokenizer
from backends.errors import ModelDamaged
from backends.models.checkpoint import read_json
from tests.support.original_llava import folders

PLAIN, LEGACY = folders("llava-v1.5-full")[0], folders("llava-v1.6-mistral")[0]
TEXTS = ["Hello", "two  spaces", "\nWhat?", "a\tb", "中文 😀", "x</s>y", "one </s>[INST] two", "end  ", ""]


def opened(folder: Path) -> Words:
    return open_tokenizer(folder, 480)


def copied(tmp_path: Path, **settings: Any) -> Path:
    folder = tmp_path / "words"
    folder.mkdir()
    for name in ("tokenizer.model", "special_tokens_map.json"):
        shutil.copy(PLAIN / name, folder / name)
    stated = {
        key: value for key, value in read_json(PLAIN / "tokenizer_config.json").items() if key != "legacy"
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(stated | settings), encoding="utf-8")
    return folder


@pytest.mark.parametrize("folder", [PLAIN, LEGACY], ids=["new", "legacy"])
@pytest.mark.parametrize("text", TEXTS)
def test_ids_and_text_are_those_of_transformers_own(folder: Path, text: str) -> None:
    words, theirs = opened(folder), LlamaTokenizer.from_pretrained(folder)
    ids = words.encode([Markup(text)])
    assert ids == theirs.encode(text, add_special_tokens=False)
    assert words.decode(ids, skip_special_tokens=True) == theirs.decode(ids, skip_special_tokens=True)


@pytest.mark.parametrize("folder", [PLAIN, LEGACY], ids=["new", "legacy"])
def test_a_first_space_counts(folder: Path) -> None:
    """transformers 5 loses it; the original has it, one more than the one that every text begins with."""
    words = opened(folder)
    assert words.decode(words.encode([" and"])) == " and"
    assert words.encode([" and"]) != words.encode(["and"])


def test_what_a_person_types_is_never_special() -> None:
    for folder in (PLAIN, LEGACY):
        words = opened(folder)
        ids = words.encode(["a</s>b"])
        assert words.eos_token_id not in ids
        assert words.decode(ids) == "a</s>b"
        assert words.eos_token_id in words.encode(["a", Markup("</s>"), "b"])


def test_a_folder_that_does_not_say_is_legacy(tmp_path: Path) -> None:
    text = [Markup("a</s>b")]
    assert opened(copied(tmp_path)).encode(text) != opened(PLAIN).encode(text)


def test_no_start_token_where_the_files_say_so(tmp_path: Path) -> None:
    assert opened(PLAIN).start == (1,)
    assert opened(copied(tmp_path, add_bos_token=False)).start == ()


def test_added_tokens_are_known(tmp_path: Path) -> None:
    folder = copied(tmp_path, legacy=False, eos_token="<|im_end|>")
    (folder / "added_tokens.json").write_text(
        json.dumps({"<|im_end|>": 480, "<im_start>": 481}), encoding="utf-8"
    )
    words = open_tokenizer(folder, 482)
    assert words.eos_token_id == 480
    assert words.encode([Markup("<im_start>")]) == [481]
    assert words.decode([481, 400]) == "<im_start>" + words.decode([400])


def test_ids_without_a_word_say_nothing() -> None:
    assert opened(PLAIN).decode([9999, 2], skip_special_tokens=True) == ""


def test_the_end_of_a_format_as_tokens() -> None:
    words = opened(PLAIN)
    assert words.single("</s>") == {2}
    assert words.single("\n") == {13}
    assert words.single("no such word") == frozenset()


def test_a_tokenizer_json_alone_is_enough(tmp_path: Path) -> None:
    LlamaTokenizer.from_pretrained(PLAIN).backend_tokenizer.save(str(tmp_path / "tokenizer.json"))
    words = opened(tmp_path)
    assert isinstance(Tokenizer.from_file(str(tmp_path / "tokenizer.json")), Tokenizer)
    assert words.encode([Markup("Hello </s>"), "x"]) == opened(PLAIN).encode([Markup("Hello </s>"), "x"])
    assert words.eos_token_id not in words.encode(["a</s>b"])
    assert (words.start, words.eos_token_id) == ((1,), 2)


def absent(folder: Path) -> None:
    (folder / "tokenizer.model").unlink()


def garbage(folder: Path) -> None:
    (folder / "tokenizer.model").write_bytes(b"no model of words")


def empty(folder: Path) -> None:
    (folder / "tokenizer.model").write_bytes(b"")


def bad_json(folder: Path) -> None:
    absent(folder)
    (folder / "tokenizer.json").write_text("{", encoding="utf-8")


@pytest.mark.parametrize(
    ("breaking", "table", "words"),
    [
        pytest.param(absent, 480, "no tokenizer", id="absent"),
        pytest.param(garbage, 480, "tokenizer.model", id="something else"),
        pytest.param(empty, 480, "tokenizer.model", id="empty"),
        pytest.param(bad_json, 480, "tokenizer.json", id="a broken tokenizer.json"),
        pytest.param(lambda _: None, 400, "480 tokens and the model 400", id="a model with fewer words"),
        pytest.param(lambda _: None, 32000, "480 tokens and the model 32,000", id="a model with more words"),
    ],
)
def test_bad_tokenizers(breaking: Any, table: int, words: str, tmp_path: Path) -> None:
    folder = copied(tmp_path)
    breaking(folder)
    with pytest.raises(ModelDamaged) as raised:
        open_tokenizer(folder, table)
    assert words in str(raised.value)


@pytest.mark.parametrize(
    "table", [480, 483, 512], ids=["as many", "signs for pictures added", "padded to 64"]
)
def test_spare_rows_are_no_sign_of_another_model(table: int) -> None:
    assert len(open_tokenizer(PLAIN, table)) == 480
