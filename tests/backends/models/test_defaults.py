"""What published configs leave to their class, and where they put what they state."""

from __future__ import annotations

from typing import Any

import pytest

from backends.models.defaults import completed

QWEN2_5_VL = {
    "model_type": "qwen2_5_vl",
    "hidden_size": 3584,
    "intermediate_size": 18944,
    "max_position_embeddings": 128000,
    "num_attention_heads": 28,
    "num_hidden_layers": 28,
    "num_key_value_heads": 4,
    "tie_word_embeddings": False,
    "vocab_size": 152064,
    "vision_config": {"depth": 32, "hidden_size": 1280, "num_heads": 16},
}


@pytest.mark.parametrize("model_type", ["qwen2_5_vl", "qwen2_vl"])
@pytest.mark.parametrize("nested", [False, True], ids=["beside the eyes", "in a part of its own"])
def test_a_decoder_s_sizes_are_its_own_wherever_they_stand(model_type: str, nested: bool) -> None:
    config: dict[str, Any] = QWEN2_5_VL | {"model_type": model_type}
    if nested:
        own = ("model_type", "vision_config", "tie_word_embeddings")
        config = {key: config[key] for key in own} | {
            "text_config": {key: value for key, value in config.items() if key not in own}
        }

    text = completed(config)["text_config"]

    stated = ("hidden_size", "num_attention_heads", "num_hidden_layers", "max_position_embeddings")
    assert [text[key] for key in stated] == [3584, 28, 28, 128000]
    assert text["num_key_value_heads"] == 4
    assert text["vocab_size"] == 152064
    assert text["rms_norm_eps"] > 0  # not stated: the class's


@pytest.mark.parametrize("bad", [["llama"], {"a": 1}, 7, None], ids=repr)
def test_a_type_that_is_no_name_is_completed_by_nothing(bad: object) -> None:
    config = QWEN2_5_VL | {"vision_config": {"model_type": bad}}
    assert completed(config)["text_config"]["num_attention_heads"] == 28
    assert completed({"model_type": bad, "hidden_size": 8})["hidden_size"] == 8


def test_millions_of_layers_are_not_made_a_list_of() -> None:
    config = {"model_type": "gemma3_text", "num_hidden_layers": 10**12}
    assert completed(config) == config
