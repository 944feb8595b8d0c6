"""The sentences of plans for GGUF files."""

from __future__ import annotations

from backends.text import Text


def precision(label: str) -> Text:
    """Nothing is quantized on the way."""
    return Text.of(
        "gguf.precision", "The weights stay as the file holds them ({precision}).", precision=label
    )


def rest_computes() -> Text:
    """How layers in RAM run beside a GPU."""
    return Text(
        "gguf.rest_computes",
        "The first layers compute in RAM and the last ones on the GPU; long prompts borrow the GPU for all.",
    )


def no_mmproj() -> Text:
    """Why a model that may have eyes reads text only."""
    return Text(
        "gguf.no_mmproj",
        "No mmproj file that fits it lies beside the file; with one, some models see pictures.",
    )


def no_template() -> Text:
    """The file does not say how a conversation is written."""
    return Text(
        "gguf.no_template",
        "The file has no chat template, so answers may be poor: how questions are put is guessed.",
    )
