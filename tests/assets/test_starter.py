"""The bundled starter model: its files, its layout, what it says."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
STARTER = ROOT / "assets" / "starter"
EXAMPLES = ROOT / "assets" / "examples"
GIVEN: list[dict[str, Any]] = json.loads((EXAMPLES / "examples.json").read_text(encoding="utf-8"))


def header() -> dict[str, Any]:
    """The safetensors header: name -> dtype, shape, offsets."""
    with (STARTER / "model.safetensors").open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        found: dict[str, Any] = json.loads(file.read(length))
    found.pop("__metadata__", None)
    return found


@pytest.fixture(scope="module")
def processor() -> Any:
    from transformers import AutoProcessor

    return AutoProcessor.from_pretrained(STARTER)


@pytest.fixture(scope="module")
def loaded() -> tuple[Any, dict[str, Any]]:
    from transformers import AutoModelForImageTextToText

    model, info = AutoModelForImageTextToText.from_pretrained(
        STARTER, dtype=torch.float32, output_loading_info=True
    )
    return model.eval(), info


@pytest.fixture(scope="module")
def model(loaded: tuple[Any, dict[str, Any]]) -> Any:
    return loaded[0]


def say(model: Any, processor: Any, messages: list[dict[str, Any]], *images: Image.Image) -> str:
    """The greedy answer to a conversation."""
    text = processor.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    inputs = processor(text=text, images=list(images) or None, return_tensors="pt")
    out = model.generate(**inputs, max_new_tokens=100, do_sample=False)
    new = out[0, inputs["input_ids"].shape[1] :]
    answer: str = processor.decode(new, skip_special_tokens=True)
    return answer


def user(text: str, images: int = 0) -> dict[str, Any]:
    """One user message with pictures before its text."""
    return {
        "role": "user",
        "content": [{"type": "image"}] * images + [{"type": "text", "text": text}],
    }


class TestFiles:
    def test_is_small_enough_to_ship(self) -> None:
        assert (STARTER / "model.safetensors").stat().st_size <= 32 * 2**20

    def test_has_between_4_and_16_million_parameters_in_16_bits(self) -> None:
        tensors = header().values()
        assert {t["dtype"] for t in tensors} <= {"F16", "BF16"}
        assert 4e6 <= sum(int(np.prod(t["shape"])) for t in tensors) <= 16e6

    @pytest.mark.parametrize(
        "name",
        [
            "README.md",
            "LICENSE",
            "config.json",
            "generation_config.json",
            "tokenizer.json",
            "tokenizer_config.json",
            "preprocessor_config.json",
            "processor_config.json",
            "chat_template.jinja",
        ],
    )
    def test_folder_is_complete(self, name: str) -> None:
        assert (STARTER / name).stat().st_size > 0

    def test_nothing_in_it_can_run_code(self) -> None:
        allowed = {".json", ".safetensors", ".jinja", ".md", ""}
        assert {path.suffix for path in STARTER.iterdir()} <= allowed

    @pytest.mark.parametrize(
        "key",
        [
            "vision_tower.vision_model.embeddings.patch_embedding.weight",
            "vision_tower.vision_model.encoder.layers.5.mlp.fc2.weight",
            "multi_modal_projector.linear_1.weight",
            "language_model.model.embed_tokens.weight",
            "language_model.model.layers.0.self_attn.q_proj.weight",
            "language_model.lm_head.weight",
        ],
    )
    def test_keys_are_those_that_llava_hf_publishes(self, key: str) -> None:
        assert key in header()

    def test_every_width_is_a_multiple_of_64(self) -> None:
        config = json.loads((STARTER / "config.json").read_text(encoding="utf-8"))
        text, vision = config["text_config"], config["vision_config"]
        widths = [part[k] for part in (text, vision) for k in ("hidden_size", "intermediate_size")]
        widths += [text["vocab_size"], text["head_dim"]]
        widths.append(vision["hidden_size"] // vision["num_attention_heads"])
        assert [width % 64 for width in widths] == [0] * len(widths)

    def test_context_holds_several_pictures(self) -> None:
        config = json.loads((STARTER / "config.json").read_text(encoding="utf-8"))
        assert config["text_config"]["max_position_embeddings"] >= 1024


class TestLoading:
    def test_transformers_finds_every_weight_and_no_other(self, loaded: tuple[Any, dict[str, Any]]) -> None:
        _, info = loaded
        assert {name: list(found) for name, found in info.items() if found} == {}

    def test_last_vision_layer_changes_nothing(self, model: Any) -> None:
        pixels = torch.randn(1, 3, 128, 128, generator=torch.Generator().manual_seed(1))
        with torch.inference_mode():
            hidden = model.model.vision_tower(pixels, output_hidden_states=True).hidden_states
        assert torch.equal(hidden[-1], hidden[-2])

    def test_training_code_computes_what_transformers_computes(self, model: Any, processor: Any) -> None:
        from safetensors.torch import load_file

        from assets.training.model import Sizes, Starter

        own = Starter(Sizes())
        weights = {k: v.float() for k, v in load_file(STARTER / "model.safetensors").items()}
        missing = own.load_state_dict(weights, strict=False).missing_keys
        assert {name.split(".")[0] for name in missing} <= {"patch_head"}
        text = processor.apply_chat_template(
            [user("How many shapes?", 1)], add_generation_prompt=True, tokenize=False
        )
        picture = Image.open(EXAMPLES / GIVEN[0]["file"])
        inputs = processor(text=text, images=[picture], return_tensors="pt")
        ids = inputs["input_ids"]
        with torch.inference_mode():
            expected = model(**inputs).logits[0]
            embedded = own.language_model.model.embed_tokens(ids).clone()
            embedded[0, ids[0] == 3] = own.see(inputs["pixel_values"])[1][0]
            mask = torch.full((1, ids.shape[1], ids.shape[1]), -1e9).triu(1)
            positions = torch.arange(ids.shape[1])[None]
            hidden = own.language_model.model(embedded, positions, mask)
            found = own.language_model.lm_head(hidden)[0]
        torch.testing.assert_close(found, expected, atol=2e-3, rtol=1e-3)


class TestTemplate:
    def test_conversation_with_a_system_prompt_and_several_pictures(self, processor: Any) -> None:
        messages = [
            {"role": "system", "content": "Be brief."},
            user("First?", 2),
            {"role": "assistant", "content": "Yes."},
            user(" Second? "),
        ]
        text = processor.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
        assert text == (
            "<|im_start|>system\nBe brief.<|im_end|>\n"
            "<|im_start|>user\n<image>\n<image>\nFirst?<|im_end|>\n"
            "<|im_start|>assistant\nYes.<|im_end|>\n"
            "<|im_start|>user\nSecond?<|im_end|>\n"
            "<|im_start|>assistant\n"
        )

    def test_pictures_come_before_the_text_of_their_message(self, processor: Any) -> None:
        content = [{"type": "text", "text": "What?"}, {"type": "image"}]
        text = processor.apply_chat_template([{"role": "user", "content": content}], tokenize=False)
        assert text == "<|im_start|>user\n<image>\nWhat?<|im_end|>"

    def test_a_longer_conversation_starts_with_the_shorter_one(self, processor: Any) -> None:
        first = [user("One?", 1)]
        later = [*first, {"role": "assistant", "content": "Yes."}, user("Two?")]
        short = processor.apply_chat_template(first, add_generation_prompt=True, tokenize=False)
        long = processor.apply_chat_template(later, add_generation_prompt=True, tokenize=False)
        assert long.startswith(short)

    @pytest.mark.parametrize("size", [(64, 64), (300, 200), (90, 400)])
    def test_every_picture_is_64_tokens(self, processor: Any, size: tuple[int, int]) -> None:
        inputs = processor(text="<image>\nHi", images=[Image.new("RGB", size, "white")], return_tensors="pt")
        assert int((inputs["input_ids"] == 3).sum()) == 64
        assert tuple(inputs["pixel_values"].shape) == (1, 3, 128, 128)

    def test_an_answer_ends_with_the_end_of_turn(self, processor: Any, model: Any) -> None:
        assert processor.tokenizer.eos_token == "<|im_end|>"
        assert model.generation_config.eos_token_id == processor.tokenizer.eos_token_id


class TestAnswers:
    @pytest.mark.parametrize("example", GIVEN, ids=lambda e: e["file"])
    def test_example_is_answered(self, model: Any, processor: Any, example: dict[str, Any]) -> None:
        picture = Image.open(EXAMPLES / example["file"])
        assert say(model, processor, [user(example["question"], 1)], picture) == example["answer"]

    def test_follow_up_about_the_same_picture(self, model: Any, processor: Any) -> None:
        picture = Image.open(EXAMPLES / "circles.png")
        messages = [
            user("How many red circles are there?", 1),
            {"role": "assistant", "content": "There are 2 red circles."},
            user("What colour is the square?"),
        ]
        assert say(model, processor, messages, picture) == "It is blue."

    def test_without_a_picture_it_asks_for_one(self, model: Any, processor: Any) -> None:
        from assets.training.smalltalk import NO_PICTURE

        assert say(model, processor, [user("How many circles are there?")]) == NO_PICTURE

    @pytest.mark.parametrize("question", ["Who won the match yesterday?", "What is the capital of Brazil?"])
    def test_unknown_topics_are_declined(self, model: Any, processor: Any, question: str) -> None:
        assert say(model, processor, [user(question)]).startswith("Sorry, I don't know.")

    def test_held_out_drawings(self) -> None:
        from assets.training.evaluate import Answerer, held_out, judge

        cases = [c for c in held_out(6, seed=99) if c.group not in {"description, 4", "description, 5"}]
        answers = Answerer(STARTER)(cases)
        right = sum(judge(case, answer) for case, answer in zip(cases, answers, strict=True))
        assert right / len(cases) >= 0.88


class TestExamples:
    @pytest.mark.parametrize("example", GIVEN, ids=lambda e: e["file"])
    def test_picture_is_large_enough_to_look_at(self, example: dict[str, Any]) -> None:
        with Image.open(EXAMPLES / example["file"]) as picture:
            assert min(picture.size) >= 256

    @pytest.mark.parametrize("example", GIVEN, ids=lambda e: e["file"])
    def test_has_a_label_in_both_languages_and_a_question(self, example: dict[str, Any]) -> None:
        assert set(example["label"]) == {"en", "zh"}
        assert all(example["label"].values())
        assert example["question"]

    def test_there_are_three(self) -> None:
        assert len(GIVEN) == 3
