"""Formats in which LLaVA's checkpoints were taught conversations, as values, and which one is whose."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from backends.errors import SettingInvalid
from backends.text import Text, shown_name

_POLITE = (
    "A chat between a curious {person} and an artificial intelligence assistant. The assistant gives "
    "helpful, detailed, and polite answers to the {person}'s questions."
)
_HUMAN, _USER = _POLITE.format(person="human"), _POLITE.format(person="user")
_LLAMA_2 = (
    "You are a helpful language and vision assistant. You are able to understand the visual content that the "
    "user provides, and assist the user with a variety of tasks using natural language."
)
_MPT = (
    "A conversation between a user and an LLM-based AI assistant. "
    "The assistant gives helpful and honest answers."
)


class Style(StrEnum):
    """How turns are put together."""

    NAMED = "named"  # `USER: question` + separator
    INSTRUCT = "instruct"  # `[INST] question [/INST] answer` + separator, the system text in the first turn
    MARKED = "marked"  # `<|im_start|>user` + line break + question + separator
    BARE = "bare"  # question + separator


@dataclass(frozen=True, slots=True)
class Template:
    """A format: `system` sentence, the words before a question and before an answer, and what follows them.

    `stop` is the text that ends an answer where it is not the tokenizer's end token.
    """

    name: str
    style: Style
    system: str = ""
    roles: tuple[str, str] = ("", "")
    after: tuple[str, str] = ("", "")
    stop: str = ""


_IM_ROLES = ("<|im_start|>user\n", "<|im_start|>assistant\n")
_IM_AFTER = ("<|im_end|>", "<|im_end|>")
_V1 = Template("v1", Style.NAMED, _HUMAN, ("USER", "ASSISTANT"), (" ", "</s>"))
_V0 = Template("v0", Style.NAMED, _HUMAN, ("Human", "Assistant"), ("###", "###"), "###")
TEMPLATES: tuple[Template, ...] = (
    _V1,
    Template("vicuna_v1", Style.NAMED, _USER, ("USER", "ASSISTANT"), (" ", "</s>")),
    _V0,
    Template("llava_llama_2", Style.INSTRUCT, _LLAMA_2, after=("<s>", "</s>")),
    Template("mistral_instruct", Style.INSTRUCT, after=("", "</s>")),
    Template("chatml_direct", Style.MARKED, "Answer the questions.", _IM_ROLES, _IM_AFTER, "<|im_end|>"),
    Template("mpt", Style.MARKED, _MPT, _IM_ROLES, _IM_AFTER, "<|im_end|>"),
    Template("plain", Style.BARE, after=("\n", "\n"), stop="\n"),
)
# Other names under which people know them.
_ALIASES = {
    "llava_v1": "v1",
    "llava_v0": "v0",
    "llama_2": "llava_llama_2",
    "llava_mistral_instruct": "mistral_instruct",
    "mistral": "mistral_instruct",
    "chatml": "chatml_direct",
    "mistral_direct": "chatml_direct",
    "llava_plain": "plain",
    "v0_plain": "plain",
}
_SAID_IN = ("conv_mode", "conv_template", "conversation_template", "version")


def template_named(name: str) -> Template:
    """The format called `name`. Raises SettingInvalid, with the names that there are, for another."""
    found = _find(name)
    if found is not None:
        return found
    raise SettingInvalid(
        name="template",
        value=shown_name(name),
        detail=Text("template.unknown", "Snug knows no format of conversations by that name for this model."),
        suggestion=Text.of(
            "template.known", "Choose one of these: {names}.", names=", ".join(one.name for one in TEMPLATES)
        ),
    )


def choose_llava_template(
    config: Mapping[str, Any], words: Mapping[str, Any], family: str, names: Sequence[str]
) -> str:
    """The name of the format that a checkpoint was taught.

    What it says itself decides: its `config`, then `words` (tokenizer_config.json), then the family of its
    language model. `names` of the model and of what it was made from are the last hint; else it is `v1`.
    """
    for key in _SAID_IN:
        stated = config.get(key)
        if isinstance(stated, str) and (found := _find(stated)) is not None:
            return found.name
    marks = f"{words.get('chat_template') or ''} {words.get('eos_token') or ''}"
    if "<|im_start|>" in marks or "<|im_end|>" in marks:
        return "chatml_direct"
    if family == "mistral":
        return "mistral_instruct"
    if "<<SYS>>" in marks:
        return "llava_llama_2"
    return next((hint for name in names if (hint := _hinted(name))), "v1")


def _hinted(name: str) -> str | None:
    """The format that a model's name tells of."""
    name = name.lower().replace("_", "-").replace("\\", "/").rstrip("/").rpartition("/")[2]
    if "llama-2" in name and "vicuna" not in name:
        return "llava_llama_2"
    parts = name.split("-")
    if "v1.6" in parts and "34b" in parts:
        return "chatml_direct"
    return "v0" if "v0" in parts else None


def _find(name: str) -> Template | None:
    name = name.strip().lower()
    name = _ALIASES.get(name, name)
    return next((one for one in TEMPLATES if one.name == name), None)
