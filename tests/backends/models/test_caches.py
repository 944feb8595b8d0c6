"""What a conversation keeps in memory, layer by layer, as transformers' own caches keep it.

A child process builds the families from their default configs without memory, runs a prompt longer than any
window through them, and measures the storage of every layer of `DynamicCache`.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from backends.models.caches import layer_kinds
from backends.models.defaults import completed
from backends.models.geometry import text_config
from backends.models.types import LayerCache
from tests.support.all_families import FACTS
from tests.support.family_check import differences, read

REPOSITORY = Path(__file__).parents[3]
MEASURED = (
    *("llama", "qwen2", "mistral", "mixtral", "phi3", "gemma2", "gemma3", "cohere2", "gpt_oss", "llama4"),
    *(
        "qwen3_next",
        "lfm2",
        "falcon_h1",
        "kimi_linear",
        "deepseek_v3",
        "glm_moe_dsa",
        "falcon",
        "gpt_bigcode",
    ),
    *("gemma4", "qwen2_vl", "llava_next", "exaone4"),
)
# Configs that transformers itself can't make or ask, or that describe two models in one.
UNTOLD = frozenset(
    {
        *("blt", "gemma4_assistant", "gemma4_unified_assistant", "pi0"),
        *("blenderbot", "prophetnet", "t5gemma2", "vision-encoder-decoder", "musicgen", "musicgen_melody"),
    }
)


def told(*arguments: str) -> dict[str, dict[str, Any]]:
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.all_families", *arguments],
        capture_output=True,
        check=True,
        timeout=240,
        cwd=REPOSITORY,
    )
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    return {line["family"]: line for line in lines}


@pytest.fixture(scope="module")
def built() -> dict[str, dict[str, Any]]:
    return told(*MEASURED)


@pytest.fixture(scope="module")
def configs() -> dict[str, dict[str, Any]]:
    return told("--configs")


@pytest.mark.parametrize("family", MEASURED)
def test_each_layer_keeps_what_was_measured(
    family: str, built: dict[str, dict[str, Any]], tmp_path: Path
) -> None:
    found = built[family]

    assert found["cache"]
    assert differences(found, read(found, tmp_path / "m")) == []


def test_every_family_s_class_is_read_as_it_is(configs: dict[str, dict[str, Any]]) -> None:
    """The defaults, the kind of each layer and its window, for all that transformers can load."""
    wrong: dict[str, Any] = {}
    for family, facts in configs.items():
        if family in UNTOLD:
            continue
        real = facts["defaults"]
        text = text_config(completed({"model_type": family}))
        kinds = layer_kinds(text, len(real["kinds"]))
        as_cached = ["full_attention" if kind == "cross_attention" else kind for kind in kinds]
        if as_cached != real["kinds"]:
            wrong[family] = (as_cached, real["kinds"])
        for name in FACTS:
            if isinstance(text.get(name), int) and isinstance(real[name], int) and text[name] != real[name]:
                wrong[f"{family} {name}"] = (text[name], real[name])
    assert wrong.keys() <= {"hrm_text num_hidden_layers"}  # its layers are run through several times
    assert len(configs) > 200


def sparse(family: str, **text: Any) -> dict[str, Any]:
    return {"model_type": family, **text}


@pytest.mark.parametrize(
    ("config", "kinds"),
    [
        pytest.param(sparse("llama"), {"full_attention"}, id="Llama keeps everything"),
        pytest.param(sparse("mistral"), {"sliding_attention"}, id="Mistral 7B v0.1 leaves its window out"),
        pytest.param(sparse("mistral", sliding_window=None), {"full_attention"}, id="v0.2 has none"),
        pytest.param(
            sparse("qwen2", sliding_window=32768, use_sliding_window=False),
            {"full_attention"},
            id="Qwen2 states a window and does not use it",
        ),
        pytest.param(
            sparse("qwen2", sliding_window=64, use_sliding_window=True, max_window_layers=8),
            {"full_attention", "sliding_attention"},
            id="Qwen2 with windows in its upper layers",
        ),
        pytest.param(
            sparse("gemma3_text", sliding_window=1024),
            {"full_attention", "sliding_attention"},
            id="Gemma 3 as published: no word of its pattern",
        ),
        pytest.param(
            sparse("qwen3_next"), {"linear_attention", "full_attention"}, id="Qwen3-Next: mostly recurrent"
        ),
        pytest.param(sparse("my_own", num_hidden_layers=4), {"full_attention"}, id="an unknown family"),
        pytest.param(
            sparse("my_own", sliding_window=64), {"sliding_attention"}, id="an unknown family with a window"
        ),
    ],
)
def test_kinds_of_layers_from_the_config_alone(config: dict[str, Any], kinds: set[str]) -> None:
    text = text_config(completed(config))
    assert set(layer_kinds(text, text.get("num_hidden_layers") or 4)) == kinds


def test_mllama_s_crossing_layers_keep_pictures_and_no_words() -> None:
    text = text_config(completed(sparse("mllama")))
    kinds = layer_kinds(text, 40)

    assert [index for index, kind in enumerate(kinds) if kind == "cross_attention"] == list(range(3, 40, 5))
    # Four tiles of 1,601 patches in every picture (560 px in patches of 14, one class token).
    cache = LayerCache(2048, picture_tokens=4 * 1601)
    assert cache.nbytes(tokens=8000, images=0, width=2) == 0
    assert cache.nbytes(tokens=8000, images=2, width=2) == 2 * 4 * 1601 * 2048 * 2


@pytest.mark.parametrize(
    ("tokens", "numbers"),
    [
        pytest.param(10, 10 * 256, id="not yet full"),
        pytest.param(64, 64 * 256, id="full"),
        pytest.param(5000, 64 * 256, id="long since"),
    ],
)
def test_a_window_keeps_its_last_tokens(tokens: int, numbers: int) -> None:
    assert LayerCache(256, window=64).nbytes(tokens, 1, 2) == 2 * numbers


def test_a_state_is_kept_whatever_the_length() -> None:
    cache = LayerCache(0, state=1000, state_fp32=500)
    assert cache.nbytes(0, 0, 2) == cache.nbytes(100_000, 4, 2) == 4000


@pytest.mark.parametrize(
    "broken",
    [
        pytest.param({"layer_types": "all"}, id="a word"),
        pytest.param({"layer_types": [1, None]}, id="numbers"),
        pytest.param({"sliding_window": -5}, id="a negative window"),
        pytest.param({"sliding_window": "wide"}, id="a window in words"),
        pytest.param({"cross_attention_layers": [999, "x", -1]}, id="layers that are not there"),
        pytest.param({"num_hidden_layers": {}}, id="a count that is none"),
        pytest.param({"text_config": 7}, id="a part that is none"),
    ],
)
@pytest.mark.parametrize("family", ["gemma3", "mistral", "mllama", "qwen3_next"])
def test_configs_that_say_nonsense_are_survived(family: str, broken: dict[str, Any]) -> None:
    text = text_config(completed({"model_type": family, **broken, "text_config": {**broken}}))
    assert len(layer_kinds(text, 6)) == 6
