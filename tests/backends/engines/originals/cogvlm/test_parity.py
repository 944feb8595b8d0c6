"""CogVLM and CogVLM2 are, token by token and number by number, what the authors' code computes, in fp32.

The reference values come with the tiny checkpoints in `tests/fixtures`.
"""

from __future__ import annotations

from threading import Event as Flag

import pytest
import torch

from backends.engines.originals.cogvlm.pictures import pixel_values
from backends.engines.originals.cogvlm.places import inputs_of, positions, token_types
from backends.engines.originals.cogvlm.prompts import written
from backends.engines.pictures import open_picture
from tests.support.original_cogvlm import CPU, ROOT, Case, cases, chunked, named

CASES = cases()
SEEING = [case for case in CASES if "pixel_values" in case.arrays]

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")
every_case = pytest.mark.parametrize("case", CASES, ids=named)
every_picture = pytest.mark.parametrize("case", SEEING, ids=named)


@every_case
def test_the_prompt_has_the_originals_ids(case: Case) -> None:
    assert list(case.voice.prompts.build(case.messages).ids) == case.expected["input_ids"]


@every_case
def test_tokens_have_the_originals_types(case: Case) -> None:
    prompt = case.voice.prompts.build(case.messages)
    assert token_types(prompt)[0].tolist() == case.expected["token_type_ids"]


@every_case
def test_tokens_stand_where_the_original_puts_them(case: Case) -> None:
    prompt = case.voice.prompts.build(case.messages)
    assert positions(token_types(prompt))[0].tolist() == case.expected["position_ids"]
    whole = inputs_of(prompt, 0, len(prompt), CPU)
    assert whole["position_ids"][0].tolist() == case.expected["position_ids"]


@every_picture
def test_pixels_are_the_originals(case: Case) -> None:
    (picture,) = case.messages[0].images
    side = case.model.config.vision_config.image_size
    difference = pixel_values(open_picture(picture), side) - case.tensor("pixel_values")
    assert difference.abs().max() <= 1e-6


@every_picture
def test_the_tower_sees_what_the_originals_does(case: Case) -> None:
    with torch.inference_mode():
        features = case.model.get_image_features(case.tensor("pixel_values")[None]).pooler_output
    assert (features[0] - case.tensor("image_features")).abs().max() <= 1e-4


@every_case
def test_the_last_eight_logits_are_the_originals(case: Case) -> None:
    with torch.inference_mode():
        logits = case.model(**case.inputs(), logits_to_keep=8).logits[0]
    assert (logits - case.tensor("logits_last8")).abs().max() <= 2e-4


@every_case
def test_sixteen_greedy_tokens_are_the_originals(case: Case) -> None:
    """On the path that the engine takes: chunks, then token by token from the cache."""
    path = chunked(case.model, case.voice.prompts, text_chunk=16)
    path.open("tab", case.messages, 16)
    drawn = [int(path.first(Flag()).argmax())]
    while len(drawn) < 16:
        drawn.append(int(path.step(drawn[-1]).argmax()))
    path.shut()
    assert drawn == case.expected["greedy_ids"]
    assert not case.voice.stop_ids.intersection(drawn)


@every_case
@pytest.mark.parametrize("use_cache", [True, False], ids=["with a cache", "computing all anew"])
def test_generate_gives_the_same_tokens(case: Case, use_cache: bool) -> None:
    inputs = case.inputs()
    whole = case.model.generate(**inputs, max_new_tokens=16, do_sample=False, use_cache=use_cache)
    assert whole[0, inputs["input_ids"].shape[1] :].tolist() == case.expected["greedy_ids"]


@every_picture
def test_generate_finds_the_picture_by_its_placeholders(case: Case) -> None:
    """Without token types; those of a picture are the tokens that stand for one."""
    inputs = case.inputs()
    del inputs["token_type_ids"]
    whole = case.model.generate(**inputs, max_new_tokens=4, do_sample=False)
    assert whole[0, -4:].tolist() == case.expected["greedy_ids"][:4]


@every_case
def test_answers_read_as_the_originals_do(case: Case) -> None:
    words = case.voice.tokenizer
    text = words.decode(
        case.expected["greedy_ids"], skip_special_tokens=True, clean_up_tokenization_spaces=False
    )
    assert text == case.expected["greedy_text_raw"]


@every_case
def test_prompts_are_written_as_the_original_writes_them(case: Case) -> None:
    file = ROOT / case.fixture / "inputs" / f"{case.name}.prompt.txt"
    assert written(case.messages, case.template or "chat") == file.read_text(encoding="utf-8")


@every_case
def test_sizes_of_a_prompt_that_a_plan_counts(case: Case) -> None:
    prompt = case.voice.prompts.build(case.messages)
    assert len(prompt) == case.expected["sequence_length"]
    assert prompt.image_tokens == case.expected["vision_tokens"]
