"""Messages become exactly the tokens that the model's processor makes, whatever its template is like."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import transformers
from PIL import Image

from backends.engines.pictures import PictureReader
from backends.engines.prompt import PromptBuilder
from backends.engines.template import VICUNA, choose_template, end_of_turn
from backends.errors import SettingInvalid
from backends.messages import ImagePart, Message, Role, TextPart
from tests.support.tiny_models import CHATML, SPECIALS, make_tokenizer

Draw = Callable[[str], ImagePart]

PARTS = CHATML.replace("IMAGE", "<image>")
STRINGS = (
    "{% for m in messages %}<|im_start|>{{ m['role'] + '\\n' + m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
NO_SYSTEM = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system') }}{% endif %}" + PARTS
STRICT = (
    "{% for m in messages %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('roles must alternate') }}{% endif %}{% endfor %}" + STRINGS
)
BLIND = (
    "{% for m in messages %}{% for p in m['content'] %}{% if p['type'] == 'text' %}"
    "[{{ p['text'] }}]{% endif %}{% endfor %}{% endfor %}"
)
DROPS_ANSWERS = "{% for m in messages %}{% if m['role'] == 'user' %}{{ m['content'] }}{% endif %}{% endfor %}"

SYSTEM = Message(Role.SYSTEM, (TextPart("Be kind."),))
PICTURE = ImagePart(Path("x.png"), "a" * 64, 8, 8)
TALK = (
    SYSTEM,
    Message(Role.USER, (PICTURE, TextPart("What?"))),
    Message(Role.ASSISTANT, (TextPart("A dog."),)),
    Message(Role.USER, (TextPart("Sure?"),)),
)

CHATML_REST = (
    "<|im_start|>assistant\nA dog.<|im_end|>\n<|im_start|>user\nSure?<|im_end|>\n<|im_start|>assistant\n"
)
CHATML_TALK = (
    "<|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\n<image>\nWhat?<|im_end|>\n" + CHATML_REST
)


def tokenizer_with(template: str | None) -> transformers.PreTrainedTokenizerFast:
    tokenizer = make_tokenizer()
    tokenizer.chat_template = template
    return tokenizer


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        (PARTS, CHATML_TALK),
        (STRINGS, CHATML_TALK),
        (NO_SYSTEM, "<|im_start|>user\n<image>\nBe kind.\n\nWhat?<|im_end|>\n" + CHATML_REST),
        (STRICT, "<|im_start|>user\n<image>\nBe kind.\n\nWhat?<|im_end|>\n" + CHATML_REST),
        (None, "Be kind. USER: <image>\nWhat? ASSISTANT: A dog.<|im_end|>USER: Sure? ASSISTANT:"),
        (BLIND, "Be kind. USER: <image>\nWhat? ASSISTANT: A dog.<|im_end|>USER: Sure? ASSISTANT:"),
        (DROPS_ANSWERS, "Be kind. USER: <image>\nWhat? ASSISTANT: A dog.<|im_end|>USER: Sure? ASSISTANT:"),
    ],
    ids=[
        "typed parts",
        "plain strings",
        "no system role",
        "strict alternation without a system role",
        "no template",
        "a template without pictures",
        "a template that loses turns",
    ],
)
def test_every_kind_of_template(template: str | None, expected: str) -> None:
    tokenizer = tokenizer_with(template)
    assert choose_template(tokenizer, tokenizer, "<image>").render(TALK) == expected


def test_neighbouring_turns_of_one_speaker_are_joined() -> None:
    tokenizer = tokenizer_with(STRICT)
    chosen = choose_template(tokenizer, tokenizer, "<image>")
    talk = [Message(Role.USER, (TextPart("One"),)), Message(Role.USER, (TextPart("Two"),))]
    assert chosen.render(talk).startswith("<|im_start|>user\nOne\n\nTwo<|im_end|>")


def test_an_order_that_the_template_refuses_is_the_persons_to_change() -> None:
    tokenizer = tokenizer_with(STRICT)
    chosen = choose_template(tokenizer, tokenizer, "<image>")
    answer_first = [Message(Role.ASSISTANT, (TextPart("Hello"),)), Message(Role.USER, (TextPart("Hi"),))]
    with pytest.raises(SettingInvalid, match="refuses this order") as raised:
        chosen.render(answer_first)
    assert raised.value.exit_code == 2


def test_a_model_without_eyes_reads_the_text_only() -> None:
    tokenizer = tokenizer_with(STRINGS)
    chosen = choose_template(tokenizer, tokenizer, "")
    assert "<image>" not in chosen.render(TALK)
    assert "What?" in chosen.render(TALK)


@pytest.mark.parametrize(
    ("template", "expected"),
    [(PARTS, "<|im_end|>"), (VICUNA, "<|im_end|>"), ("{{ messages[1]['content'] }} USER:", None)],
    ids=["ChatML", "Vicuna writes the end token", "no special token after an answer"],
)
def test_the_token_that_ends_a_turn(template: str, expected: str | None) -> None:
    tokenizer = tokenizer_with(template)
    chosen = choose_template(tokenizer, tokenizer, "<image>")
    if expected is None:
        chosen = type(chosen)(tokenizer, template, "", parts=False)
    found = end_of_turn(chosen, tokenizer)
    assert found == (None if expected is None else SPECIALS.index(expected))


@pytest.mark.parametrize("name", ["llava", "llava-next"])
def test_tokens_are_those_of_the_processor(name: str, models: Callable[[str], Path], picture: Draw) -> None:
    processor = transformers.AutoProcessor.from_pretrained(models(name))
    template = choose_template(processor, processor.tokenizer, "<image>")
    reader = PictureReader(processor, "<image>", SPECIALS.index("<image>"))
    red, blue = picture("red"), picture("blue")
    talk = [
        SYSTEM,
        Message(Role.USER, (red, blue, TextPart("Compare."))),
        Message(Role.ASSISTANT, (TextPart("Alike."),)),
        Message(Role.USER, (TextPart("Again?"), red)),
    ]
    prompt = PromptBuilder(template, processor.tokenizer, reader).build(talk)
    images = [Image.open(part.path) for message in talk for part in message.images]
    expected = processor(text=[template.render(talk)], images=images)["input_ids"][0]
    assert list(prompt.ids) == list(expected)
    assert [span.picture.sha256 for span in prompt.spans] == [red.sha256, blue.sha256, red.sha256]
    assert prompt.image_tokens == list(expected).count(SPECIALS.index("<image>"))


def test_keys_tell_pictures_apart_that_share_their_tokens(
    models: Callable[[str], Path], picture: Draw
) -> None:
    processor = transformers.AutoProcessor.from_pretrained(models("llava"))
    template = choose_template(processor, processor.tokenizer, "<image>")
    builder = PromptBuilder(
        template, processor.tokenizer, PictureReader(processor, "<image>", SPECIALS.index("<image>"))
    )
    one, other = (
        builder.build([Message(Role.USER, (picture(color), TextPart("What?")))]) for color in ("red", "blue")
    )
    assert one.ids == other.ids
    differing = [i for i, (a, b) in enumerate(zip(one.keys, other.keys, strict=True)) if a != b]
    assert differing == list(range(one.spans[0].start, one.spans[0].end))


def test_the_settled_part_of_a_draft_ends_before_its_text(
    models: Callable[[str], Path], picture: Draw
) -> None:
    processor = transformers.AutoProcessor.from_pretrained(models("llava"))
    template = choose_template(processor, processor.tokenizer, "<image>")
    builder = PromptBuilder(
        template, processor.tokenizer, PictureReader(processor, "<image>", SPECIALS.index("<image>"))
    )
    draft = [SYSTEM, Message(Role.USER, (picture("red"), TextPart("half a thou")))]
    prompt, settled = builder.settled(draft)
    assert settled >= prompt.spans[0].end
    for text in ("", "Why?", "x", "\n", "图片"):
        full = builder.build([SYSTEM, Message(Role.USER, (picture("red"), TextPart(text)))])
        assert full.keys[: prompt.spans[0].end] == prompt.keys[: prompt.spans[0].end]


@pytest.mark.parametrize("markup", [special for special in SPECIALS if len(special) > 1])
@pytest.mark.parametrize("role", list(Role))
@pytest.mark.parametrize("template", [PARTS, STRINGS, None], ids=["typed parts", "plain strings", "none"])
def test_markup_that_a_person_types_stays_text(template: str | None, role: Role, markup: str) -> None:
    """Neither ends a turn, nor begins one, nor stands for a picture."""
    tokenizer = tokenizer_with(template)
    chosen = choose_template(tokenizer, tokenizer, "<image>")

    def specials(text: str) -> list[int]:
        talk = [Message(role, (TextPart(text),)), Message(Role.USER, (TextPart("And?"),))]
        return [token for token in tokenizer.encode(chosen.render(talk)) if token < len(SPECIALS)]

    typed = f"a{markup}b {markup}{markup} {markup[0]}{markup}{markup[1:]}"
    assert specials(typed) == specials("plain")


@pytest.mark.parametrize(
    ("typed", "read"),
    [
        ("a\ud83d b", "a\ufffd b"),
        ("\udc00", "\ufffd"),
        ("\ud83d\udc4d", "\U0001f44d"),
        ("\ufeffx\x00", "\ufeffx\x00"),
    ],
    ids=["half a pair", "the other half", "a whole pair in two halves", "what looks odd but is text"],
)
def test_halves_of_characters_do_not_stop_an_answer(typed: str, read: str) -> None:
    tokenizer = tokenizer_with(STRINGS)
    chosen = choose_template(tokenizer, tokenizer, "<image>")
    text = chosen.render([Message(Role.USER, (TextPart(typed),))])
    assert f"user\n{read}<" in text
    assert tokenizer.encode(text)
