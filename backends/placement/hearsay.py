"""Advice of articles that does not exist in the libraries: recognised when pasted, and put right."""

from __future__ import annotations

import re

from backends.text import Text

_AUTO_MAP = re.compile(r"[\"']?(auto|balanced|balanced_low_0|sequential)[\"']?")
# What is pasted -> what is true, in the order in which they are tried.
_ADVICE: tuple[tuple[re.Pattern[str], Text], ...] = (
    (
        re.compile(r"load_in_8bit_fp32_cpu_offload"),
        Text(
            "hearsay.fp32_offload",
            "load_in_8bit_fp32_cpu_offload does not exist and is ignored silently; the real name is "
            "llm_int8_enable_fp32_cpu_offload, and Snug sets it exactly when a plan needs it.",
        ),
    ),
    (
        re.compile(r"llm_int8_enable_fp32_cpu_offload"),
        Text(
            "hearsay.flag",
            "llm_int8_enable_fp32_cpu_offload is nothing to set: Snug sets it exactly when a plan needs it.",
        ),
    ),
    (
        re.compile(r"\.to\(\s*[\"']auto[\"']\s*\)"),
        Text(
            "hearsay.to_auto",
            'model.to("auto") does not exist: auto is not a device. Snug decides where modules go before it '
            "loads them, and can place a loaded model anew.",
        ),
    ),
    (
        re.compile(r"dispatch_model"),
        Text(
            "hearsay.dispatch_auto",
            'dispatch_model(device_map="auto") does not exist: dispatch_model takes a finished map. Leave '
            "the map out and Snug makes one that counts cache and pictures, too.",
        ),
    ),
    (
        re.compile(r"^\s*load_in_[48]bit\b"),
        Text(
            "hearsay.load_in",
            "load_in_8bit and load_in_4bit are refused by today's transformers; set precision=int8 or "
            "precision=nf4.",
        ),
    ),
    (
        re.compile(r"^\s*offload_(folder|directory)\b"),
        Text(
            "hearsay.offload_folder",
            "An offload folder need not be named: Snug makes one where a plan uses the disk, and clears it. "
            "To choose it, set offload_dir.",
        ),
    ),
)


def put_right(pasted: str) -> Text | None:
    """Say what is wrong with a pasted setting, device or line of code; None when it is not known advice."""
    strategy = _AUTO_MAP.fullmatch(pasted.strip())
    if strategy is not None:
        return Text.of(
            "hearsay.auto_map",
            "{name} is not a device but a strategy that counts weights alone. Leave the map out and Snug "
            "decides.",
            name=strategy[1],
        )
    return next((truth for pattern, truth in _ADVICE if pattern.search(pasted)), None)
