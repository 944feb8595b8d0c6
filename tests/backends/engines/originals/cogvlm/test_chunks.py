"""Chunked prefill of CogVLM is exact: every token stands where it stands in the whole, wherever one ends."""

from __future__ import annotations

from pathlib import Path
from threading import Event as Flag

import pytest
import torch
from PIL import Image
from transformers import DynamicCache

from backends.engines.cache import PICTURE_CHUNK, borders
from backends.engines.originals.cogvlm.configuration import CogVLMConfig
from backends.engines.originals.cogvlm.modeling import CogVLMForCausalLM
from backends.engines.originals.cogvlm.pictures import CogVLMPictures
from backends.engines.originals.cogvlm.places import inputs_of, positions, takes_vision, token_types
from backends.engines.originals.cogvlm.prompts import CogVLMPrompts
from backends.engines.paths import ChunkedPath
from backends.engines.pictures import FeatureStore
from backends.engines.prompt import Prompt
from backends.engines.runner import ChunkRunner
from backends.messages import Message, Role
from tests.support.original_cogvlm import CPU, Case, cases, chunked, named, said, shown, voice_of

CASES = cases()
LONG = "the small boat is near the other boat and the sky is blue. " * 3


def whole_logits(model: CogVLMForCausalLM, prompt: Prompt, answer: tuple[int, ...] = ()) -> torch.Tensor:
    """Of the last token, computed in one pass without a cache."""
    types = torch.cat([token_types(prompt), torch.zeros(1, len(answer), dtype=torch.long)], dim=1)
    inputs = {"input_ids": torch.tensor([[*prompt.ids, *answer]]), "token_type_ids": types}
    for span in prompt.spans:
        inputs |= span.picture.inputs
    with torch.inference_mode():
        logits: torch.Tensor = model(**inputs, use_cache=False, logits_to_keep=1).logits[:, -1]
    return logits


@pytest.mark.parametrize("case", CASES, ids=named)
@pytest.mark.parametrize("text_chunk", [1, 5, 128])
def test_chunks_give_the_logits_of_the_whole(case: Case, text_chunk: int) -> None:
    path = chunked(case.model, case.voice.prompts, text_chunk)
    prompt = case.voice.prompts.build(case.messages)
    path.open("tab", case.messages, 16)
    difference = path.first(Flag()) - whole_logits(case.model, prompt)
    path.shut()
    assert difference.abs().max() <= 2e-5


@pytest.mark.parametrize("case", CASES, ids=named)
def test_decoding_from_the_cache_is_computing_anew(case: Case) -> None:
    path = chunked(case.model, case.voice.prompts, 16)
    prompt = case.voice.prompts.build(case.messages)
    answer = tuple(case.expected["greedy_ids"])
    path.open("tab", case.messages, 16)
    path.first(Flag())
    for index, token in enumerate(answer):
        anew = whole_logits(case.model, prompt, answer[: index + 1])
        assert (path.step(token) - anew).abs().max() <= 2e-5
    path.shut()


@pytest.mark.parametrize("case", CASES, ids=named)
def test_transformers_own_cache_serves_as_well(case: Case) -> None:
    prompt = case.voice.prompts.build(case.messages)
    kv, ids = DynamicCache(config=case.model.config), torch.tensor([prompt.ids])
    inputs = case.inputs()
    with torch.inference_mode():
        case.model(**inputs, past_key_values=kv)
        after = inputs_of(prompt, ids.shape[1], ids.shape[1] + 1, CPU)
        step = case.model(torch.tensor([[5]]), past_key_values=kv, **after).logits[:, -1]
    assert (step - whole_logits(case.model, prompt, (5,))).abs().max() <= 2e-5


@pytest.mark.parametrize("fixture", ["cogvlm-chat", "cogvlm2-llama3-chat"])
def test_turns_reuse_what_was_read_to_the_last_bit(fixture: str) -> None:
    case = next(case for case in CASES if case.fixture == fixture and case.name == "chat")
    prompts = voice_of(fixture).prompts
    asked = [said(Role.USER, LONG, *case.messages[0].images)]
    then = [*asked, said(Role.ASSISTANT, LONG), said(Role.USER, "And now?")]
    alone, _ = first_logits(chunked(case.model, prompts, 32), then)
    path = chunked(case.model, prompts, 32)
    first_logits(path, asked)
    path.prime("tab", [*then[:-1], said(Role.USER, "An")], Flag())
    again, reused = first_logits(path, then)
    assert reused >= 128
    assert torch.equal(alone, again)


def first_logits(path: ChunkedPath, messages: list[Message]) -> tuple[torch.Tensor, int]:
    """With an answer after it, so that decoded tokens are in the cache too."""
    opened = path.open("tab", messages, 16)
    first = path.first(Flag()).clone()
    for token in (50, 60, 70):
        path.step(token)
    path.shut()
    return first, opened.reused


def test_a_picture_larger_than_a_chunk_is_cut_exactly(tmp_path: Path) -> None:
    """As the real ones are: 1,227 and 2,306 tokens. The first part ends on a token with a patch behind it."""
    torch.manual_seed(1)
    model = CogVLMForCausalLM(large()).eval()
    torch.nn.init.normal_(model.model.vision.boi)
    torch.nn.init.normal_(model.model.vision.eoi)
    side = model.config.vision_config.image_size
    tokens = (side // 14) ** 2 + 2
    words = voice_of("cogvlm-chat").tokenizer
    prompts = CogVLMPrompts(words, CogVLMPictures(side, tokens, 0), "chat", 1)
    Image.effect_noise((60, 40), 90).convert("RGB").save(tmp_path / "noise.png")
    messages = [said(Role.USER, LONG, shown(tmp_path / "noise.png"))]
    prompt = prompts.build(messages)
    ends = borders(prompt, 128)
    assert tokens > PICTURE_CHUNK
    assert ends[:2] == (PICTURE_CHUNK, tokens + 1)
    cut = inputs_of(prompt, 0, PICTURE_CHUNK, CPU)
    assert cut["vision_tokens"][0].tolist() == [False] + [True] * (PICTURE_CHUNK - 1)
    path = chunked(model, prompts)
    path.open("tab", messages, 16)
    difference = path.first(Flag()) - whole_logits(model, prompt)
    assert difference.abs().max() <= 2e-5
    moved = path.step(7) - whole_logits(model, prompt, (7,))
    assert moved.abs().max() <= 2e-5


def large() -> CogVLMConfig:
    """Tiny but for its pictures, of 33 x 33 patches."""
    tower = {
        "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_heads": 2,
        "num_positions": 33 * 33 + 1, "image_size": 33 * 14, "patch_size": 14,
    }  # fmt: skip
    return CogVLMConfig(
        vocab_size=480,
        hidden_size=32,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        vision_config=tower,
    )


@pytest.mark.parametrize(
    ("types", "stand", "vision"),
    [
        ("0", [0], "0"),
        ("000", [0, 1, 2], "000"),
        ("0111", [0, 1, 2, 3], "0110"),
        ("011110", [0, 1, 2, 2, 3, 4], "011100"),
        ("01111110 00", [0, 1, 2, 2, 2, 2, 3, 4, 5, 6], "0111110000"),
        ("001111100", [0, 1, 2, 3, 3, 3, 4, 5, 6], "001111000"),
    ],
)
def test_positions_and_experts_by_token_types(types: str, stand: list[int], vision: str) -> None:
    given = torch.tensor([[int(kind) for kind in types.replace(" ", "")]])
    assert positions(given)[0].tolist() == stand
    assert takes_vision(given)[0].int().tolist() == [int(kind) for kind in vision]


@pytest.mark.parametrize("case", CASES, ids=named)
def test_every_piece_of_a_prompt_stands_where_it_does_in_the_whole(case: Case) -> None:
    prompt = case.voice.prompts.build(case.messages)
    whole = positions(token_types(prompt))[0].tolist()
    vision = takes_vision(token_types(prompt))[0].tolist()
    for start in range(len(prompt)):
        for end in range(start + 1, len(prompt) + 1):
            piece = inputs_of(prompt, start, end, CPU)
            assert piece["position_ids"][0].tolist() == whole[start:end]
            chosen = piece.get("vision_tokens", torch.zeros(1, end - start, dtype=torch.bool))
            assert chosen[0].tolist() == vision[start:end]


def test_an_answer_counts_on_from_the_prompts_last_position() -> None:
    case = CASES[0]
    prompt = case.voice.prompts.build(case.messages)
    behind = inputs_of(prompt, len(prompt), len(prompt) + 2, CPU)
    last = case.expected["position_ids"][-1]
    assert behind["position_ids"][0].tolist() == [last + 1, last + 2]
    assert "vision_tokens" not in behind


def test_other_families_get_nothing_beside_their_tokens() -> None:
    class Plain:
        class config:  # noqa: N801 - where models keep it
            model_type = "llava"

    prompt = Prompt((1, 2, 3), (1, 2, 3), ())
    runner = ChunkRunner(Plain(), FeatureStore(Plain(), torch.float32, CPU), CPU)
    assert runner._more(prompt, 0, 3, CPU) == {}
