"""What the installed transformers can run is read from its source."""

from __future__ import annotations

from backends.models.registry import known_types


def test_families_are_sorted_by_what_they_do() -> None:
    known = known_types()

    assert {
        "llava",
        "llava_next",
        "qwen2_vl",
        "qwen2_5_vl",
        "smolvlm",
        "gemma3",
        "paligemma",
        "internvl",
    } <= known.chat
    assert {"llama", "qwen2", "mistral"} <= known.text
    assert {"clip", "vit", "bert"} <= known.other | known.text
    assert "clip" not in known.chat
    assert "llava" in known
    assert "no_such_type" not in known
