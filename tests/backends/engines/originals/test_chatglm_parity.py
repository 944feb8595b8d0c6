"""ChatGLM3 answers as its authors' code does: the same ids, the same logits, the same words."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from transformers import BitsAndBytesConfig, GlmForCausalLM

from backends.engines.cache import PrefixStore
from backends.engines.odd_widths import leave_unpacked
from backends.engines.originals.chatglm import voice
from backends.engines.originals.chatglm.words import read_words
from backends.engines.paths import ChunkedPath
from backends.engines.pictures import FeatureStore
from backends.engines.runner import ChunkRunner
from backends.engines.sampling import Detokenizer
from backends.errors import ModelDamaged
from backends.messages import Message, Role, TextPart
from backends.models.originals.chatglm import chatglm_recipe
from backends.models.originals.types import Companions, Recipe
from tests.support.chatglm_reference import reference_logits
from tests.support.recipes import load, nowhere, read_part

FIXTURE = Path(__file__).parents[3] / "fixtures" / "chatglm3-6b"
CHECKPOINT = FIXTURE / "checkpoint" / "chatglm3-6b-tiny"
EXPECTED: dict[str, Any] = json.loads((FIXTURE / "expected.json").read_text(encoding="utf-8"))
CASES = {
    case["case"]: case
    for case in json.loads((FIXTURE / "inputs" / "conversation.json").read_text(encoding="utf-8"))
}
CPU = torch.device("cpu")


def read(folder: Path = CHECKPOINT) -> Recipe:
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    return chatglm_recipe(folder, config, Companions(), nowhere)


@cache
def native(dtype: torch.dtype = torch.float32) -> Any:
    return load(read(), GlmForCausalLM, dtype)


def said(role: str, text: str) -> Message:
    return Message(Role(role), (TextPart(text),))


def _offered(text: str, tools: object) -> str:
    """A system message that offers `tools`, as `ask --messages` reads it."""
    return f"{text}\n{json.dumps(tools, indent=4, ensure_ascii=False)}"


def messages(case: str) -> list[Message]:
    found = []
    for turn in CASES[case]["history"]:
        text = turn["content"]
        found.append(said(turn["role"], _offered(text, turn["tools"]) if "tools" in turn else text))
    return [*found, said(CASES[case]["role"], CASES[case]["query"])]


def expected(case: str, name: str) -> torch.Tensor:
    with np.load(FIXTURE / "expected.npz") as arrays:
        return torch.from_numpy(arrays[f"{case}/{name}"])


def last_8(model: Any, ids: list[int]) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model(input_ids=torch.tensor([ids])).logits[0, -8:].float()
    return found


def distance(one: torch.Tensor, other: torch.Tensor) -> float:
    return float((one - other).abs().max())


@pytest.mark.parametrize("case", CASES)
def test_prompts_are_the_original_s_token_by_token(case: str) -> None:
    prompt = voice(read(), None).prompts.build(messages(case))

    assert list(prompt.ids) == EXPECTED["cases"][case]["input_ids"]
    assert prompt.keys == prompt.ids


@pytest.mark.parametrize("sample", EXPECTED["tokenizer_samples"], ids=lambda sample: repr(sample["text"]))
def test_texts_become_the_original_s_tokens(sample: dict[str, Any]) -> None:
    words = read_words(CHECKPOINT)

    assert words.encode(sample["text"]) == sample["encode_no_special"]
    assert [words.special("[gMASK]"), words.special("sop")] == sample["encode"][:2]


def test_special_tokens_follow_the_words_in_their_order() -> None:
    words = read_words(CHECKPOINT / "tokenizer.model")

    assert {name: words.special(name) for name in EXPECTED["special_tokens"]} == EXPECTED["special_tokens"]


@pytest.mark.parametrize("case", CASES)
def test_tokens_become_the_original_s_text(case: str) -> None:
    words, case_ = read_words(CHECKPOINT), EXPECTED["cases"][case]

    assert words.decode(case_["input_ids"], skip_special_tokens=False) == case_["input_ids_decoded"]
    assert words.decode(case_["greedy_ids"]) == case_["greedy_text"]


def test_special_tokens_and_padding_have_no_text_in_an_answer() -> None:
    words = read_words(CHECKPOINT)
    ids = words.encode("你好")

    assert words.decode([2, *ids, 645, 0, 703, 10_000]) == "你好"
    assert words.decode([]) == ""


def test_half_a_character_waits_for_its_other_half() -> None:
    words = read_words(CHECKPOINT)
    shown = Detokenizer(words)

    pieces = [shown.push(token) for token in words.encode("a 😀 b")]

    assert "".join(pieces) == "a 😀 b"
    assert all("\ufffd" not in piece for piece in pieces)


@pytest.mark.parametrize(
    "text", ["<|user|>", "[gMASK]sop<|assistant|>", "<|observation|>\n{}", "\ud83d", "\0"]
)
def test_what_a_person_types_is_never_markup(text: str) -> None:
    words = read_words(CHECKPOINT)
    ids = voice(read(), None).prompts.build([said("user", text)]).ids

    specials = [token for token in ids if token >= words.special("[MASK]")]
    assert specials == [words.special(name) for name in ("[gMASK]", "sop", "<|user|>", "<|assistant|>")]


def test_an_answer_s_own_empty_line_of_metadata_is_not_written_twice() -> None:
    prompts = voice(read(), None).prompts
    plain, as_generated = ([said("user", "a"), said("assistant", text)] for text in ("好\n的", "\n 好\n的"))

    assert prompts.build(plain).ids == prompts.build(as_generated).ids


def test_a_draft_changes_nothing_before_its_own_turn() -> None:
    prompts = voice(read(), None).prompts
    history = messages("history")

    prompt, settled = prompts.settled(history)

    earlier = prompts.build(history[:-1]).ids[:-1]
    assert settled >= len(earlier)
    assert prompt.ids[: len(earlier)] == earlier


def test_a_turn_of_somebody_else_ends_an_answer() -> None:
    found = voice(read(), None)

    assert found.stop_ids == set(EXPECTED["cases"]["single"]["eos_token_ids"])
    assert not found.sees


def test_without_a_tokenizer_the_file_is_named() -> None:
    recipe = read()
    bare = Recipe(recipe.folder, "chatglm", recipe.config, {}, (), None, "chatglm3")

    with pytest.raises(ModelDamaged, match=r"tokenizer\.model is missing"):
        voice(bare, None)


def test_a_broken_tokenizer_is_damage(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.model").write_bytes(b"\x0a\x03abc")

    with pytest.raises(ModelDamaged, match=r"tokenizer\.model is not a file of SentencePiece"):
        read_words(tmp_path)


@pytest.mark.parametrize("case", CASES)
def test_logits_are_the_original_s(case: str) -> None:
    found = last_8(native(), EXPECTED["cases"][case]["input_ids"])

    assert distance(found, expected(case, "logits_last8")) <= 2e-4


@pytest.mark.parametrize("case", CASES)
def test_answers_are_the_original_s_with_and_without_a_cache(case: str) -> None:
    ids = EXPECTED["cases"][case]["input_ids"]
    path = chunked(native())

    path.open("c", messages(case), 16)
    written: list[int] = []
    logits = path.first(Event())
    for _ in range(16):
        anew = last_8(native(), [*ids, *written])[-1]
        assert distance(logits[0], anew) <= 2e-4
        written.append(int(logits[0].argmax()))
        logits = path.step(written[-1])
    path.shut()

    assert written == expected(case, "greedy_ids").tolist()


def chunked(model: Any) -> ChunkedPath:
    """The engine's own way, in pieces of 16 tokens."""
    features = FeatureStore(model, torch.float32, CPU)
    prompts: Any = voice(read(), model).prompts
    return ChunkedPath(prompts, ChunkRunner(model, features, CPU), PrefixStore(model.config, 512), 512, 16)


def test_a_conversation_goes_on_where_it_was() -> None:
    path = chunked(native())
    turns = messages("tools")
    first = path.open("c", turns, 4)
    path.first(Event())
    path.shut()

    again = path.open("c", [*turns, said("assistant", "好"), said("user", "谢谢")], 4)
    logits = path.first(Event())
    path.shut()

    assert first.reused == 0
    assert again.reused >= 288
    assert distance(logits[0], last_8(native(), list(again.ids))[-1]) <= 2e-4


def test_both_forms_of_files_give_the_same(tmp_path: Path) -> None:
    recipe = read()
    keys = {(part.file, part.key) for part in (source.part for source in recipe.sources.values())}
    tensors: dict[str, torch.Tensor] = {}
    for file, key in keys:
        tensors |= {key: torch.load(file, weights_only=True)[key]}
    save_file(tensors, tmp_path / "model.safetensors")
    for name in ("config.json", "tokenizer.model", "tokenizer_config.json"):
        (tmp_path / name).write_bytes((CHECKPOINT / name).read_bytes())

    twin = read(tmp_path)

    assert twin.config == recipe.config
    for name, source in recipe.sources.items():
        assert torch.equal(read_part(source.part), read_part(twin.sources[name].part)), name


@pytest.mark.parametrize("case", ["single", "history"])
def test_half_precision_differs_no_more_than_the_original_s_own(case: str) -> None:
    """The authors' steps, written down in the test, tell how far bfloat16 is from float32 with them."""
    ids, exact = EXPECTED["cases"][case]["input_ids"], expected(case, "logits_last8")
    weights = {key: read_part(source.part) for key, source in read().sources.items()}
    assert distance(reference_logits(weights, ids, torch.float32), exact) <= 2e-4

    own = distance(reference_logits(weights, ids, torch.bfloat16), exact)

    assert distance(last_8(native(torch.bfloat16), ids), exact) <= 1.5 * own


@pytest.mark.parametrize(
    "quantization",
    [
        BitsAndBytesConfig(load_in_8bit=True),
        BitsAndBytesConfig(
            load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.bfloat16
        ),
    ],
    ids=["8 bits", "4 bits"],
)
def test_it_runs_quantized_on_the_cpu(quantization: BitsAndBytesConfig) -> None:
    model = load(
        read(), GlmForCausalLM, torch.bfloat16, quantization_config=quantization, device_map={"": "cpu"}
    )

    leave_unpacked(model)

    found = last_8(model, EXPECTED["cases"]["single"]["input_ids"])

    assert torch.isfinite(found).all()
    exact = expected("single", "logits_last8")
    assert float(torch.nn.functional.cosine_similarity(found.flatten(), exact.flatten(), dim=0)) > 0.9
