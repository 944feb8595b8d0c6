"""Ask one question about pictures and print the answer as it comes."""

from __future__ import annotations

import argparse
import json
import math
import sys
from dataclasses import dataclass, replace
from pathlib import Path

from backends.errors import Cancelled, DoesNotFit, MmprojMissing, PicturesUnseen, SettingInvalid
from backends.messages import (
    Done,
    Message,
    Part,
    Progress,
    Role,
    SamplingParams,
    TextDelta,
    TextPart,
    asks_about_pictures,
)
from backends.placement.pictures import ONE_PICTURE, encoded_alone
from backends.placement.types import Plan, PlanRequest
from backends.reports import LoadReport
from backends.service import Service
from backends.settings import Settings
from backends.text import Text
from ui.commands.next_step import Given, repeated, saying_the_next_step
from ui.commands.plan import add_model_arguments, request
from ui.conversation_file import read_messages
from ui.i18n import Translator
from ui.loading import preparing_text, progress_text

_DEFAULTS = SamplingParams()
# Stages of a first load only, which can take minutes.
_ONCE = ("comparing", "converting")
_NO_QUESTION = Text("cli.no_question", "There is no question.")


@dataclass(frozen=True, slots=True)
class Answer:
    """A finished answer."""

    text: str
    done: Done


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `ask`."""
    add_model_arguments(parser)
    parser.add_argument("question", nargs="?", help="the question; read from standard input when it is `-`")
    parser.add_argument("--image", dest="images", action="append", type=Path, default=[], metavar="FILE")
    parser.add_argument("--messages", type=Path, metavar="FILE.json", help="a whole conversation")
    parser.add_argument("--system", metavar="TEXT", help="the system prompt")
    parser.add_argument("--max-tokens", type=int, default=_DEFAULTS.max_tokens)
    parser.add_argument("--temperature", type=float, default=_DEFAULTS.temperature, help="0 is greedy")
    parser.add_argument("--seed", type=int)


def run(options: argparse.Namespace, settings: Settings, say: Translator) -> int:
    """Load, ask, print, unload."""
    sampling = sampling_params(options)
    asked = request(options)
    _check_question(options)
    service = Service(settings)
    try:
        messages = conversation(options, service)
        if asks_about_pictures(messages):
            check_sight(service, asked)
        asked = with_room(service, asked, messages)
        with saying_the_next_step(service, given(options), messages, say):
            report, plan = load(service, service.plan(asked), say)
            answer = stream(service, messages, sampling, echo=not options.json)
    finally:
        service.close()
    if answer.done.finish_reason == "cancelled":
        raise Cancelled
    if options.json:
        print(json.dumps(answer_to_json(answer, plan, report), indent=2, ensure_ascii=False))
    else:
        print()
    return 0


def given(options: argparse.Namespace) -> Given:
    """The command as it was given, to be run again with another request."""
    rest = [word for image in options.images for word in ("--image", str(image))]
    rest += repeated(options, "messages", "system", "max_tokens", "temperature", "seed")
    rest += ["--json"] if options.json else []
    rest += [options.question] if options.question is not None else []
    return Given("ask", options.settings, rest)


def sampling_params(options: argparse.Namespace) -> SamplingParams:
    """Check and collect the sampling arguments. Raises `SettingInvalid`."""
    for name, value, least, takes in (
        ("--max-tokens", options.max_tokens, 1, "1 or more"),
        ("--temperature", options.temperature, 0, "a number of 0 (always the most likely word) or more"),
        ("--seed", options.seed, 0, "0 or more"),
    ):
        if value is not None and not least <= value < math.inf:
            raise SettingInvalid(
                name=name,
                value=value,
                detail=f"It takes {takes}.",
                suggestion=Text("cli.setting_remedy", "Correct it and run the command again."),
            )
    return SamplingParams(temperature=options.temperature, max_tokens=options.max_tokens, seed=options.seed)


def _check_question(options: argparse.Namespace) -> None:
    given = [options.question is not None or bool(options.images), options.messages is not None]
    if all(given):
        detail = Text("cli.two_questions", "A conversation file already holds the pictures and the question.")
    elif not any(given):
        detail = _NO_QUESTION
    else:
        return
    raise _wrong_question(detail)


def _wrong_question(detail: Text) -> SettingInvalid:
    return SettingInvalid(
        name="ask",
        value=Text("cli.used", "used"),
        detail=detail,
        suggestion=Text(
            "cli.ask_remedy", 'Write: ask MODEL --image FILE "question", or: ask MODEL --messages FILE.'
        ),
    )


def _from_stdin() -> str:
    """All of standard input; UTF-8 (as files are), else in the console's own encoding (as Windows pipes)."""
    data = sys.stdin.buffer.read()
    try:
        return data.decode("utf-8-sig").strip()
    except UnicodeDecodeError:
        return data.decode(sys.stdin.encoding, "replace").strip()


def conversation(options: argparse.Namespace, service: Service) -> tuple[Message, ...]:
    """Messages from the arguments or from the file they name."""
    if options.messages is not None:
        messages = read_messages(options.messages, service.import_image)
    else:
        question = _from_stdin() if options.question == "-" else options.question
        parts: list[Part] = [service.import_image(path, path.name) for path in options.images]
        if question:
            parts.append(TextPart(question))
        if not parts:
            raise _wrong_question(_NO_QUESTION)
        messages = (Message(Role.USER, tuple(parts)),)
    if options.system:
        spoken = tuple(message for message in messages if message.role is not Role.SYSTEM)
        messages = (Message(Role.SYSTEM, (TextPart(options.system),)), *spoken)
    return messages


def check_sight(service: Service, asked: PlanRequest) -> None:
    """Refuse a model without eyes before it is loaded. Raises `PicturesUnseen`."""
    model = service.inspect(asked.model, asked.overrides)
    if model.vision is None and model.format == "gguf":
        raise MmprojMissing(model=model.name, file=model.path.name)
    if model.vision is None:
        raise PicturesUnseen(model=model.name)


def with_room(service: Service, asked: PlanRequest, messages: tuple[Message, ...]) -> PlanRequest:
    """Plan for all pictures that are asked about, where their number takes memory and nobody set it."""
    pictures = sum(len(message.images) for message in messages)
    if pictures < 2 or asked.overrides.images is not None:
        return asked
    model = service.inspect(asked.model, asked.overrides)
    if model.vision is None or encoded_alone(model.family) or model.family in ONE_PICTURE:
        return asked
    return replace(asked, overrides=replace(asked.overrides, images=pictures))


def load(service: Service, plan: Plan, say: Translator) -> tuple[LoadReport, Plan]:
    """Load as planned, with a progress line on a terminal. Raises `DoesNotFit` for the verdict `no`.

    Elsewhere, what is done only once, and may take long, is named once.
    """
    if plan.verdict == "no":
        raise DoesNotFit(
            model=plan.model_path,
            preset=plan.request.preset.value,
            detail=" ".join(say.text(reason) for reason in plan.reasons),
            suggestion=Text("cli.fit_remedy", "`plan` shows what would fit instead."),
        )
    watched = sys.stderr.isatty()
    named = set()
    for progress in service.load(plan):
        if not watched and progress.stage in _ONCE and progress.stage not in named:
            named.add(progress.stage)
            print(say(f"stage.{progress.stage}"), file=sys.stderr, flush=True)
        if watched:
            state = service.state()
            line = progress_line(progress, state.left_s, say, lasted_s=state.lasted_s)
            print(f"\r\x1b[K{line}", end="", file=sys.stderr, flush=True)
    if watched:
        print("\r\x1b[K", end="", file=sys.stderr, flush=True)
    report = service.state().report
    assert report is not None, "a load that ends without an error leaves its report"
    return report, plan


def progress_line(
    progress: Progress, left_s: float | None, say: Translator, *, lasted_s: float | None = None
) -> str:
    """`reading 1.2 GB of 13.5 GB`; what is done only once says how long it still takes, or took so far."""
    return preparing_text(progress, left_s, say, lasted_s=lasted_s) or progress_text(progress, say)


def stream(
    service: Service, messages: tuple[Message, ...], sampling: SamplingParams, *, echo: bool
) -> Answer:
    """Ask and collect the answer, printing it as it comes."""
    pieces: list[str] = []
    for event in service.chat("command line", messages, sampling):
        if isinstance(event, TextDelta):
            pieces.append(event.text)
            if echo:
                print(event.text, end="", flush=True)
        elif isinstance(event, Done):
            return Answer("".join(pieces), event)
    raise Cancelled


def answer_to_json(answer: Answer, plan: Plan, report: LoadReport) -> dict[str, object]:
    """The document of `ask --json` (DESIGN section 6)."""
    usage, timings = answer.done.usage, answer.done.timings
    return {
        "answer": answer.text,
        "token_ids": list(answer.done.token_ids),
        "finish_reason": answer.done.finish_reason,
        "engine": report.engine,
        "precision": report.precision,
        "preset": plan.request.preset.value,
        "usage": {
            "prompt_tokens": usage.prompt_tokens,
            "image_tokens": usage.image_tokens,
            "completion_tokens": usage.completion_tokens,
        },
        "timings": {
            "load_s": round(report.seconds, 4),
            "first_token_s": round(timings.first_token_s, 4),
            "tokens_per_s": round(timings.tokens_per_s, 2),
        },
    }
