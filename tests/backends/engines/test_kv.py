"""The cache with room: what it holds is what transformers' own holds, and decoding copies nothing."""

from __future__ import annotations

import pytest
import torch
from transformers import DynamicCache, Gemma3TextConfig, LlamaForCausalLM, MllamaTextConfig
from transformers.cache_utils import DynamicLayer

from backends.engines.kv import RoomyLayer, empty_cache, make_room
from tests.support.tiny_models import text_config

HEADS, WIDTH = 2, 16


def states(tokens: int) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.randn(1, HEADS, tokens, WIDTH), torch.randn(1, HEADS, tokens, WIDTH)


def storage(layer: DynamicLayer) -> tuple[int, int]:
    assert layer.keys is not None
    assert layer.values is not None
    return layer.keys.untyped_storage().data_ptr(), layer.values.untyped_storage().data_ptr()


@pytest.mark.parametrize("room", [0, 7, 40, 400], ids=["no room", "too little", "some is missing", "enough"])
@pytest.mark.parametrize(
    "steps",
    [(5,), (5, 1, 1), (30, -10, 3), (30, -30, 8), (3, 4, -2, 60, -1, 1), (128, 1, -1, 1)],
    ids=["a prompt", "tokens", "cut back and on", "cut to nothing", "back and forth", "an answer taken back"],
)
def test_it_holds_what_the_plain_layer_holds(room: int, steps: tuple[int, ...]) -> None:
    roomy, plain = RoomyLayer(room), DynamicLayer()
    for step in steps:
        if step < 0:
            roomy.crop(step)
            plain.crop(step)
        else:
            new = states(step)
            for mine, theirs in zip(roomy.update(*new), plain.update(*new), strict=True):
                assert torch.equal(mine, theirs)
    assert roomy.get_seq_length() == plain.get_seq_length() == sum(steps)
    assert plain.keys is not None
    assert torch.equal(roomy.keys, plain.keys)
    assert torch.equal(roomy.values, plain.values)


def test_an_answer_is_written_in_place() -> None:
    layer = RoomyLayer(120)
    layer.update(*states(20))
    there = storage(layer)
    for _ in range(100):
        layer.update(*states(1))
    assert storage(layer) == there
    layer.update(*states(1))
    assert storage(layer) != there


def test_room_made_later_is_taken_at_the_next_token() -> None:
    kv = empty_cache(text_config(layers=2))
    for index in range(2):
        kv.update(*states(10), index)
    make_room(kv, 50)
    kv.update(*states(1), 0)
    there = storage(kv.layers[0])
    for _ in range(39):
        kv.update(*states(1), 0)
    assert storage(kv.layers[0]) == there


def test_trimming_gives_the_room_back_and_keeps_the_tokens() -> None:
    layer = RoomyLayer(500)
    keys, values = (part.clone() for part in layer.update(*states(20)))
    layer.crop(-5)
    layer.trim()
    assert layer.keys.untyped_storage().nbytes() == layer.keys.nbytes
    assert torch.equal(layer.keys, keys[..., :15, :])
    assert torch.equal(layer.values, values[..., :15, :])
    RoomyLayer().trim()  # one that nothing was put in


def test_a_layer_that_was_reset_begins_anew() -> None:
    layer = RoomyLayer(50)
    layer.update(*states(20))
    layer.reset()
    assert layer.get_seq_length() == 0
    keys, _ = layer.update(*states(3))
    assert keys.shape[-2] == 3


def test_layers_of_another_kind_stay_as_transformers_makes_them() -> None:
    windows = Gemma3TextConfig(num_hidden_layers=6, sliding_window=8)
    kinds = [type(layer) for layer in empty_cache(windows, 100).layers]
    assert kinds.count(RoomyLayer) == 1
    assert [kind for kind in kinds if kind is not RoomyLayer] == [
        type(layer) for layer in DynamicCache(config=windows).layers if type(layer) is not DynamicLayer
    ]
    crossing = MllamaTextConfig(num_hidden_layers=4, cross_attention_layers=[1, 3])
    assert [isinstance(layer, RoomyLayer) for layer in empty_cache(crossing).layers] == [
        True,
        False,
        True,
        False,
    ]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("kv_heads", [1, 2, 4], ids=lambda heads: f"{heads} of 4 heads kept")
@torch.inference_mode()
def test_a_model_answers_alike_to_the_last_bit(dtype: torch.dtype, kv_heads: int) -> None:
    torch.manual_seed(3)
    config = text_config(layers=2)
    config.num_attention_heads, config.num_key_value_heads = 4, kv_heads
    config.head_dim = config.hidden_size // 4
    model = LlamaForCausalLM(config).to(dtype).eval()
    ids = torch.randint(0, config.vocab_size, (1, 60))
    roomy, plain = empty_cache(config, 100), DynamicCache(config=config)
    for start, end in [(0, 32), (32, 50), *((at, at + 1) for at in range(50, 60))]:
        mine, theirs = (
            model(input_ids=ids[:, start:end], past_key_values=kv, use_cache=True).logits
            for kv in (roomy, plain)
        )
        assert torch.equal(mine, theirs)
