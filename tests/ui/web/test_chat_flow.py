"""What a conversation becomes when people ask, correct and stop."""

from __future__ import annotations

from pathlib import Path

import pytest

from backends.errors import WorkerCrashed
from backends.messages import (
    Done,
    ImagePart,
    Message,
    Progress,
    Queued,
    TextDelta,
    TextPart,
    Timings,
    Usage,
)
from ui.web import chat_flow
from ui.web.chat_flow import Conversation, Turn

CAT = ImagePart(Path("cat.png"), "c" * 64, 640, 480)
DOG = ImagePart(Path("dog.png"), "d" * 64, 640, 480)
DONE = Done("stop", Usage(600, 576, 3), Timings(0.4, 38.0, 1.0), (1, 2, 3))


def answered(text: str, answer: str, *images: ImagePart) -> Turn:
    return Turn(chat_flow.question(text, images), answer, "done", done=DONE)


def roles(messages: tuple[Message, ...]) -> str:
    return " ".join(message.role for message in messages)


def test_pictures_come_before_the_words() -> None:
    assert chat_flow.question("  what?  ", [CAT, DOG]).parts == (CAT, DOG, TextPart("what?"))


def test_a_picture_alone_is_a_question() -> None:
    assert chat_flow.question("   ", [CAT]).parts == (CAT,)


def test_an_answer_grows_and_ends() -> None:
    turns = chat_flow.ask((), chat_flow.question("what?", ()))
    assert chat_flow.unserved(turns)
    for event in (Queued(2), Progress("prefill", 0, 10)):
        turns = chat_flow.advance(turns, event)
        assert turns[-1].status == "waiting"
    assert turns[-1].position == 0
    for event in (TextDelta("A "), TextDelta("cat.")):
        turns = chat_flow.advance(turns, event)
        assert turns[-1].status == "answering"
    turns = chat_flow.advance(turns, DONE)
    assert (turns[-1].answer, turns[-1].status, turns[-1].done) == ("A cat.", "done", DONE)
    assert not chat_flow.waiting(turns)


def test_a_failure_keeps_what_had_come() -> None:
    turns = chat_flow.advance(chat_flow.ask((), chat_flow.question("what?", ())), TextDelta("A c"))
    error = WorkerCrashed(stage="answering", detail="It was ended.")
    turns = chat_flow.fail(turns, error)
    assert (turns[-1].answer, turns[-1].error) == ("A c", error)
    assert chat_flow.unanswered(turns)


THREE: Conversation = (answered("one", "1", CAT), answered("two", "2"), answered("three", "3", DOG))


@pytest.mark.parametrize(
    ("index", "kept", "asked"),
    [(None, 2, "three"), (2, 2, "three"), (0, 0, "one")],
    ids=["the last by default", "the last by its number", "an earlier one drops the later ones"],
)
def test_answering_again(index: int | None, kept: int, asked: str) -> None:
    turns = chat_flow.regenerate(THREE, index)
    assert turns[:kept] == THREE[:kept]
    assert len(turns) == kept + 1
    assert turns[-1] == Turn(chat_flow.question(asked, THREE[kept].question.images))


def test_an_edit_keeps_the_pictures_and_drops_what_came_later() -> None:
    turns = chat_flow.edit(THREE, 0, "uno")
    assert turns == (Turn(chat_flow.question("uno", [CAT])),)


def test_deleting_takes_one_question_with_its_answer() -> None:
    assert chat_flow.delete(THREE, 1) == (THREE[0], THREE[2])


def test_the_model_reads_the_system_prompt_first_and_roles_take_turns() -> None:
    turns = (THREE[0], Turn(chat_flow.question("lost", ()), status="failed"), Turn(THREE[2].question))
    messages = chat_flow.to_messages(turns, "  Be brief. ")
    assert roles(messages) == "system user assistant user"
    assert messages[0].text == "Be brief."
    assert messages[-1].images == (DOG,)


@pytest.mark.parametrize("system", [None, "", "  \n"])
def test_an_empty_system_prompt_is_none(system: str | None) -> None:
    assert roles(chat_flow.to_messages(THREE[:1], system)) == "user"


def test_a_draft_is_prepared_without_its_words() -> None:
    messages = chat_flow.primer(THREE[:1], [DOG])
    assert roles(messages) == "user assistant user"
    assert messages[-1].parts == (DOG,)
    asked = chat_flow.to_messages(chat_flow.ask(THREE[:1], chat_flow.question("what?", [DOG])))
    assert asked[:-1] == messages[:-1]
    assert asked[-1].parts[:1] == messages[-1].parts


def test_a_running_answer_counts_as_stopped_in_the_tab_that_takes_over() -> None:
    running = chat_flow.advance(chat_flow.ask((), chat_flow.question("what?", ())), TextDelta("A"))
    assert chat_flow.settled(running)[-1].status == "done"
    assert chat_flow.settled(THREE) == THREE
    assert chat_flow.settled(()) == ()
