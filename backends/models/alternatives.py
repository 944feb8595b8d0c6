"""Which model of today's transformers comes nearest to one that runs only with its publisher's code."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from backends.models.geometry import text_config


class Native(NamedTuple):
    """A repository on the Hub whose weights need no code, and transformers' name of its architecture."""

    repository: str
    model_type: str


_QWEN_VL = Native("Qwen/Qwen2.5-VL-7B-Instruct", "qwen2_5_vl")
_INTERNVL = Native("OpenGVLab/InternVL3-1B-hf", "internvl")
_ONEVISION = Native("llava-hf/llava-onevision-qwen2-7b-ov-hf", "llava_onevision")
_SMOL = Native("HuggingFaceTB/SmolVLM2-2.2B-Instruct", "smolvlm")
_PHI = Native("microsoft/Phi-4-multimodal-instruct", "phi4_multimodal")
_GLM_SEES = Native("zai-org/GLM-4.1V-9B-Thinking", "glm4v")
_GLM = Native("zai-org/GLM-4-9B-0414", "glm4")
_QWEN = Native("Qwen/Qwen3-8B", "qwen3")

# By the beginning of the model type or class in lower case, longer ones first where they share one. The
# repositories are those that the model's own documentation in transformers 5.23 loads, or its successors'.
_NEAREST: Mapping[str, Native] = MappingProxyType(
    {
        "qwenlmheadmodel": _QWEN,
        "qwen": _QWEN,
        "internvl_chat": _INTERNVL,
        "internvlchat": _INTERNVL,
        "internlmxcomposer": _INTERNVL,
        "internlm": Native("internlm/internlm3-8b-instruct", "internlm3"),
        "h2ovl": _INTERNVL,
        "nvlm": _INTERNVL,
        "minicpmv": Native("openbmb/MiniCPM-V-4.6", "minicpmv4_6"),
        "minicpm-v": Native("openbmb/MiniCPM-V-4.6", "minicpmv4_6"),
        "phi3_v": _PHI,
        "phi3v": _PHI,
        "phi4mm": _PHI,
        "deepseek_vl": Native("deepseek-community/deepseek-vl-1.3b-chat", "deepseek_vl"),
        "molmo": Native("allenai/Molmo2-8B", "molmo2"),
        "florence": Native("florence-community/Florence-2-base", "florence2"),
        "kimi": Native("moonshotai/Kimi-K2.6", "kimi_k25"),
        "ovis": Native("thisisiron/Ovis2-1B-hf", "ovis2"),
        "cogagent": _GLM_SEES,
        "cogvlm": _GLM_SEES,
        "chatglm": _GLM,
        "glm": _GLM,
        "llava_qwen": _ONEVISION,
        "llavaqwen": _ONEVISION,
        "mplug_owl": _ONEVISION,
        "mplugowl": _ONEVISION,
        "vila": _ONEVISION,
        "moondream": _SMOL,
        "bunny": _SMOL,
        "imp": _SMOL,
        "baichuan": _QWEN,
        "yi": _QWEN,
    }
)
# Text models by the beginning of their name whose namesakes see.
_SEEING: Mapping[Native, Native] = MappingProxyType({_GLM: _GLM_SEES, _QWEN: _QWEN_VL})


def nearest_native(config: Mapping[str, Any]) -> Native | None:
    """The nearest model that transformers runs with its own code; None for a family that nobody knows."""
    stated = config.get("architectures")
    names = [config.get("model_type"), *(stated if isinstance(stated, list) else [])]
    lowered = [name.lower() for name in names if isinstance(name, str)]
    fitting = [key for key in _NEAREST if any(name.startswith(key) for name in lowered)]
    if not fitting:
        return None
    found = _NEAREST[max(fitting, key=len)]
    return _SEEING.get(found, found) if _sees(config) else found


def _sees(config: Mapping[str, Any]) -> bool:
    """Whether the model looks at pictures: some part of its config is about them."""
    parts = {**text_config(config), **config}
    return any("visi" in key or "visual" in key or "image" in key for key in parts)
