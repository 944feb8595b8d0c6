"""Answer a file of questions about a folder of pictures (LLaVA's question-file format).

Each answer is appended and flushed as it comes. A run that was interrupted goes on where it stopped: what
the answer file holds is not asked again, and a line that was cut short is taken off and asked again.
"""

from __future__ import annotations

import argparse
import json
import sys
import uuid
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from tqdm import tqdm

from backends.errors import (
    AnswersDiskFull,
    AnswersUnwritable,
    ContextExceeded,
    DiskFull,
    ImageTooLarge,
    ImageUnreadable,
    InputError,
    SettingInvalid,
)
from backends.messages import Message, Part, Role, TextPart
from backends.service import Service
from backends.settings import Settings
from backends.storage import storage_error
from backends.text import Text
from ui.commands.accuracy import accuracy
from ui.commands.ask import check_sight, load, sampling_params, stream
from ui.commands.next_step import Given, repeated, saying_the_next_step
from ui.commands.plan import add_model_arguments, request
from ui.i18n import Translator


@dataclass(frozen=True, slots=True)
class Question:
    """One line of the question file; `image` is None for a question without a picture.

    Any of `answers` is right; none where the file does not say.
    """

    id: str | int
    image: str | None
    text: str
    answers: tuple[str, ...] = ()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `batch`."""
    add_model_arguments(parser)
    parser.add_argument("--questions", type=Path, required=True, metavar="Q.jsonl")
    parser.add_argument("--images", type=Path, required=True, metavar="DIR")
    parser.add_argument("--out", type=Path, required=True, metavar="A.jsonl")
    parser.add_argument("--max-tokens", type=int, default=128)
    parser.add_argument("--temperature", type=float, default=0.0, help="0 is greedy")
    parser.add_argument("--seed", type=int)


def run(options: argparse.Namespace, settings: Settings, say: Translator) -> int:
    """Answer what is not answered yet. Returns 2 when pictures could not be read, else 0."""
    sampling = sampling_params(options)
    asked = request(options)
    questions = read_questions(options.questions, options.images)
    open_questions = unanswered(questions, options.out)
    failed, again = 0, given(options)
    service = Service(settings)
    try:
        if any(question.image for question in open_questions):
            check_sight(service, asked)
        chosen = service.plan(asked)
        # Opened before the load, which may take minutes.
        with _append(options.out) as out, _bar(len(questions), len(open_questions)) as bar:
            with saying_the_next_step(service, again, (), say):
                _, plan = load(service, chosen, say)
            name = Path(plan.model_path).name
            for question in open_questions:
                line: dict[str, object] = {"question_id": question.id, "prompt": question.text, "text": ""}
                line |= {"answer_id": uuid.uuid4().hex, "model_id": name, "metadata": {}}
                try:
                    messages = (_message(question, options.images, service),)
                    with saying_the_next_step(service, again, messages, say):
                        answer = stream(service, messages, sampling, echo=False)
                    if answer.done.finish_reason == "cancelled":
                        raise KeyboardInterrupt
                    line["text"] = answer.text
                except (ImageUnreadable, ImageTooLarge, ContextExceeded) as error:
                    failed += 1
                    line["metadata"] = {"error": str(error)}
                _write(out, line)
                bar.update()
    finally:
        service.close()
    _tell_accuracy(questions, options, say)
    if failed:
        print(say("batch.failed", count=failed), file=sys.stderr)
    return InputError.exit_code if failed else 0


def _tell_accuracy(questions: list[Question], options: argparse.Namespace, say: Translator) -> None:
    found = accuracy(questions, options.out)
    if found is not None and options.json:
        print(json.dumps({"accuracy": found.share, "right": found.right, "judged": found.judged}))
    elif found is not None:
        share = f"{100 * found.share:.2f} %"
        print(say("batch.accuracy", share=share, right=found.right, judged=found.judged))


def given(options: argparse.Namespace) -> Given:
    """The command as it was given: with another request it goes on where it stopped."""
    rest = repeated(options, "questions", "images", "out", "max_tokens", "temperature", "seed")
    return Given("batch", options.settings, [*rest, *(["--json"] if options.json else [])])


def read_questions(path: Path, images: Path) -> list[Question]:
    """Read and check the whole file before anything is loaded. Raises `SettingInvalid`."""
    try:
        # Not splitlines: JSON may hold the characters U+0085 and U+2028, at which it would cut.
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except OSError as error:
        raise _invalid("--questions", path, f"The file can't be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise _invalid("--questions", path, "The file is not UTF-8 text.") from error
    questions = [_question(path, number, line) for number, line in enumerate(lines, start=1) if line.strip()]
    if not questions:
        raise _invalid("--questions", path, "The file holds no question.")
    missing = [name for name in {q.image for q in questions} if name and not (images / name).is_file()]
    if missing:
        raise _invalid("--images", images, f"{len(missing)} pictures are missing, such as {min(missing)}.")
    return questions


def _question(path: Path, number: int, line: str) -> Question:
    try:
        item = json.loads(line)
    except ValueError as error:
        raise _invalid("--questions", path, f"Line {number} is not JSON: {error}.") from error
    match item:
        case {"question_id": str() | int() as key, "text": str(text)}:
            image = item.get("image")
            return Question(
                key, image if isinstance(image, str) else None, text, _answers(item.get("answer"))
            )
        case _:
            raise _invalid("--questions", path, f"Line {number} needs question_id and text.")


def _answers(stated: object) -> tuple[str, ...]:
    several = stated if isinstance(stated, list) else [stated]
    return tuple(one for one in several if isinstance(one, str))


def unanswered(questions: list[Question], out: Path) -> list[Question]:
    """Questions without an answer in `out`; a cut last line of `out` is removed."""
    answered = Counter(_answered(out))
    rest: list[Question] = []
    for question in questions:
        if answered[question.id]:
            answered[question.id] -= 1
        else:
            rest.append(question)
    return rest


def _answered(out: Path) -> Iterator[str | int]:
    if not out.exists():
        return
    if not out.is_file():
        raise _invalid("--out", out, "It is not a file.")
    kept = 0
    with out.open("rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                key = json.loads(line)["question_id"]
            except (ValueError, KeyError, TypeError) as error:
                if line.endswith(b"\n"):
                    raise _invalid("--out", out, f"Line {number} is not an answer: {error}.") from error
                break
            if not line.endswith(b"\n"):
                break
            kept += len(line)
            yield key
    if kept < out.stat().st_size:
        with out.open("rb+") as file:
            file.truncate(kept)


def _write(out: IO[str], line: dict[str, object]) -> None:
    """One write a line, so that an interruption can cut at most the last line."""
    try:
        out.write(json.dumps(line, ensure_ascii=False) + "\n")
        out.flush()
    except OSError as error:
        raise _unwritable(error, Path(out.name), len(str(line))) from error


def _append(out: Path) -> IO[str]:
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        return out.open("a", encoding="utf-8", errors="backslashreplace", newline="\n")
    except OSError as error:
        raise _unwritable(error, out, 0) from error


def _unwritable(error: OSError, out: Path, needed: int) -> AnswersDiskFull | AnswersUnwritable:
    """As for Snug's own folders, with what helps for a file that the person named."""
    found = storage_error(error, out, needed)
    kind = AnswersDiskFull if isinstance(found, DiskFull) else AnswersUnwritable
    return kind(**found.values)


def _bar(total: int, rest: int) -> tqdm[Any]:
    return tqdm(total=total, initial=total - rest, unit="", disable=None, file=sys.stderr)


def _message(question: Question, images: Path, service: Service) -> Message:
    parts: list[Part] = []
    if question.image:
        parts.append(service.import_image(images / question.image, question.image))
    return Message(Role.USER, (*parts, TextPart(question.text)))


def _invalid(name: str, path: Path, detail: str) -> SettingInvalid:
    return SettingInvalid(
        name=name,
        value=str(path),
        detail=detail,
        suggestion=Text("cli.setting_remedy", "Correct it and run the command again."),
    )
