"""Which format of conversations a LLaVA checkpoint was taught."""

from __future__ import annotations

from typing import Any

import pytest

from backends.errors import SettingInvalid
from backends.models.originals.templates import TEMPLATES, choose_llava_template, template_named


@pytest.mark.parametrize(
    ("config", "words", "family", "names", "expected"),
    [
        pytest.param({}, {}, "llama", [], "v1", id="nothing tells"),
        pytest.param({}, {}, "llama", ["llava-v1.5-7b"], "v1", id="v1.5"),
        pytest.param({}, {}, "mistral", ["whatever"], "mistral_instruct", id="Mistral"),
        pytest.param({}, {}, "llama", ["mistral-like"], "v1", id="a name does not make a Mistral"),
        pytest.param({}, {"eos_token": "<|im_end|>"}, "llama", ["x"], "chatml_direct", id="the end token"),
        pytest.param(
            {},
            {"chat_template": "{{'<|im_start|>'}}"},
            "llama",
            ["x"],
            "chatml_direct",
            id="the tokenizer's format",
        ),
        pytest.param(
            {}, {"chat_template": "<<SYS>>"}, "llama", ["x"], "llava_llama_2", id="LLaMA 2's format"
        ),
        pytest.param({"conv_mode": "vicuna_v1"}, {}, "llama", ["x"], "vicuna_v1", id="the config says it"),
        pytest.param(
            {"version": "v1"}, {"eos_token": "<|im_end|>"}, "llama", ["x"], "v1", id="the config first"
        ),
        pytest.param({"version": "4.31.0"}, {}, "llama", ["x"], "v1", id="another kind of version"),
        pytest.param(
            {}, {}, "llama", ["", "meta-llama/Llama-2-7b-chat-hf"], "llava_llama_2", id="its base's name"
        ),
        pytest.param({}, {}, "llama", ["LLaVA-7B-v0"], "v0", id="a first release"),
        pytest.param({}, {}, "llama", ["C:\\models\\llava-v1.6-34b"], "chatml_direct", id="34B"),
    ],
)
def test_the_format_of_a_checkpoint(
    config: dict[str, Any], words: dict[str, Any], family: str, names: list[str], expected: str
) -> None:
    assert choose_llava_template(config, words, family, names) == expected


def test_every_format_has_its_own_name() -> None:
    names = [template.name for template in TEMPLATES]
    assert len(set(names)) == len(names)
    assert all(template_named(name).name == name for name in names)


@pytest.mark.parametrize(("alias", "name"), [("llava_v1", "v1"), ("V1", "v1"), ("llama_2", "llava_llama_2")])
def test_other_names_mean_the_same(alias: str, name: str) -> None:
    assert template_named(alias).name == name


@pytest.mark.parametrize("name", ["", "vqa", "v1\x1b[31m", "x" * 500])
def test_unknown_names_are_refused_with_the_known_ones(name: str) -> None:
    with pytest.raises(SettingInvalid) as raised:
        template_named(name)
    assert all(template.name in str(raised.value) for template in TEMPLATES)
    assert "\x1b" not in str(raised.value)
