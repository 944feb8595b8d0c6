"""The page's handlers against the in-memory service, and what building the page costs."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gradio as gr
import pytest
from PIL import Image

from backends.errors import (
    ContextExceeded,
    DoesNotFit,
    ImageUnreadable,
    InternalError,
    ModelNotFound,
    NotLoaded,
    SettingInvalid,
    WorkerCrashed,
)
from backends.messages import SamplingParams
from backends.placement.types import PlanRequest
from backends.presets import Preset
from tests.support.fake_service import FakeService, fake_settings
from ui.web import chat_flow, notices
from ui.web.answering import answer, import_pictures
from ui.web.context import Context, Loader
from ui.web.examples import read_examples
from ui.web.panels.generation import sampling
from ui.web.panels.setup import model_choices, model_named
from ui.web.sessions import Session, Sessions
from ui.web.wiring_chat import Handlers

ROOT = Path(__file__).resolve().parents[3]
LIVE = 11


class Tab:
    """One tab of the page over the in-memory service."""

    def __init__(self, home: Path) -> None:
        settings = fake_settings(home)
        self.service = FakeService(settings)
        self.loader = Loader(self.service)  # type: ignore[arg-type]
        start = PlanRequest("starter")
        self.context = Context(self.service, settings, self.loader, start, read_examples(settings.examples))  # type: ignore[arg-type]
        self.handlers = Handlers(self.context, LIVE)
        self.request: Any = SimpleNamespace(session_hash="one")
        self.session = self.context.session(self.request)

    def load(self) -> None:
        for _ in self.service.load(self.service.plan(PlanRequest("starter"))):
            pass

    def ask(self, text: str, *files: Path) -> list[Any]:
        return self.handlers.submit({"text": text, "files": [str(file) for file in files]}, self.request)

    def stream(self, **kwargs: Any) -> list[Any]:
        values: dict[str, Any] = {
            "system": None,
            "temperature": 0.2,
            "top_p": 1,
            "max_tokens": 64,
            "seed": "",
        }
        return list(self.handlers.stream(**values | kwargs, request=self.request))

    def act(self, action: str, turn: int = 0, text: str = "") -> list[Any]:
        turns = self.session.turns
        ident = turns[turn].ident if action != "example" and 0 <= turn < len(turns) else str(turn)
        return self.press(action, ident, text)

    def press(self, action: str, ident: str, text: str = "") -> list[Any]:
        """What the page sends: the name of a turn, or the number of an example."""
        event: Any = SimpleNamespace(action=action, turn=ident, text=text)
        return self.handlers.turn_act(event, {"text": "", "files": []}, self.request)


def given(update: Any) -> dict[str, Any]:
    """What a handler sets of a component."""
    return dict(update.constructor_args)


@pytest.fixture
def tab(tmp_path: Path) -> Iterator[Tab]:
    made = Tab(tmp_path)
    yield made
    made.service.close()


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "a picture.png"
    Image.new("RGB", (32, 24), "red").save(path)
    return path


def test_a_question_is_answered_and_the_box_is_empty(tab: Tab, picture: Path) -> None:
    tab.load()
    outputs = tab.ask("What is it?", picture)
    assert given(outputs[2])["value"] == {"text": "", "files": []}
    tab.stream(system="Be brief.", temperature=0, max_tokens=16, seed="7")
    (_, messages, drawing), turn = tab.service.asked[0], tab.session.turns[0]
    assert [message.role for message in messages] == ["system", "user"]
    assert len(messages[1].images) == 1
    assert drawing == SamplingParams(0.0, 1.0, 16, 7)
    assert (turn.answer, turn.status) == ("The answer is **three**.", "done")
    assert not tab.session.answering


def test_a_second_question_waits_for_the_first(tab: Tab) -> None:
    tab.load()
    tab.ask("one")
    tab.ask("two")
    assert len(tab.session.turns) == 1


@pytest.mark.parametrize("text", ["", "   \n "])
def test_nothing_is_not_a_question(tab: Tab, text: str) -> None:
    tab.ask(text)
    assert tab.session.turns == ()


def test_a_broken_picture_stays_out_and_the_draft_stays(tab: Tab, picture: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"not a picture")
    outputs = tab.ask("What is it?", picture, broken)
    assert outputs[2] == {"text": "What is it?", "files": [str(picture)]}
    assert tab.session.turns == ()
    assert tab.session.error is not None
    assert "broken.png" in str(tab.session.error)


def test_a_picture_is_prepared_while_the_person_types(tab: Tab, picture: Path) -> None:
    tab.load()
    draft: dict[str, Any] = {"text": "", "files": [str(picture)]}
    tab.handlers.draft_changed(draft, None, tab.request)
    draft["text"] = "Wha"
    tab.handlers.draft_changed(draft, None, tab.request)
    assert len(tab.service.primed) == 1
    session, messages = tab.service.primed[0]
    assert session == tab.session.ident
    assert messages[-1].text == ""
    assert len(messages[-1].images) == 1
    tab.handlers.draft_changed({"text": "Wha", "files": []}, None, tab.request)
    assert tab.service.unprimed == [tab.session.ident]


def test_a_picture_added_during_an_answer_is_prepared_after_it(tab: Tab, picture: Path) -> None:
    tab.load()
    tab.ask("one")
    tab.handlers.draft_changed({"text": "", "files": [str(picture)]}, None, tab.request)
    assert tab.service.primed == []
    tab.stream()
    assert [message.role for message in tab.service.primed[0][1]] == ["user", "assistant", "user"]


def test_a_picture_waits_for_a_model_that_is_loading(tab: Tab, picture: Path) -> None:
    loading = tab.service.load(tab.service.plan(PlanRequest("starter")))
    next(loading)
    tab.handlers.draft_changed({"text": "", "files": [str(picture)]}, None, tab.request)
    assert len(tab.service.primed) == 1


def test_an_unreadable_file_goes_from_the_box_and_takes_no_words_with_it(tab: Tab, tmp_path: Path) -> None:
    tab.load()
    document = tmp_path / "notes.pdf"
    document.write_bytes(b"%PDF-1.4")
    sent = tab.handlers.draft_changed({"text": "go", "files": [str(document)]}, None, tab.request)
    # Not the box's value: the person may have written more meanwhile.
    assert json.loads(sent[0])[1:] == [str(document)]
    assert isinstance(tab.session.error, ImageUnreadable)
    again = tab.handlers.draft_changed({"text": "go", "files": [str(document)]}, None, tab.request)
    assert again[0] != sent[0], "the page hears of it each time"
    # Asked before the page has taken it out: it has been said, the question goes without it.
    tab.handlers.submit({"text": "go on", "files": [str(document)]}, tab.request)
    assert tab.session.turns[-1].question.text == "go on"
    assert not tab.session.turns[-1].question.images


def test_a_picture_is_read_once(tab: Tab, picture: Path) -> None:
    import_pictures(tab.context, tab.session, [str(picture)])
    picture.unlink()
    readable, error = import_pictures(tab.context, tab.session, [str(picture)])
    assert (readable, error) == ([str(picture)], None)


def test_an_answer_breaks_off_and_keeps_its_words(tab: Tab) -> None:
    tab.load()
    tab.service.hold = True
    tab.ask("one")
    redraws = answer(tab.context, tab.session, None, SamplingParams)
    next(redraws)
    next(redraws)
    tab.service.crash()
    assert list(redraws) == []
    turn = tab.session.turns[-1]
    assert (turn.status, turn.answer) == ("failed", "The ")
    assert isinstance(tab.session.error, WorkerCrashed)


def test_a_wrong_seed_is_said_and_the_question_stays(tab: Tab) -> None:
    tab.load()
    tab.ask("one")
    tab.stream(seed="many")
    assert isinstance(tab.session.error, SettingInvalid)
    assert tab.session.turns[-1].status == "failed"
    assert tab.service.asked == []


def test_a_mistake_of_ours_does_not_leave_the_tab_waiting(
    tab: Tab, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def slip(*_: object) -> None:
        raise IndexError

    tab.load()
    monkeypatch.setattr(tab.service, "chat", slip)
    tab.ask("one")
    tab.stream()
    assert isinstance(tab.session.error, InternalError)
    assert "IndexError" in str(tab.session.error)
    assert not tab.session.answering
    assert "an answer broke off" in caplog.text


def test_stopping_before_the_model_is_there(tab: Tab) -> None:
    tab.service.load_hold = True
    tab.loader.start_with(PlanRequest("starter"))
    tab.ask("one")
    tab.session.begin()
    redraws = answer(tab.context, tab.session, None, SamplingParams)
    tab.handlers.stop(tab.request)
    assert list(redraws) == []
    assert tab.session.turns[-1].status == "done"


def test_why_a_load_failed_says_more_than_that_nothing_is_loaded(tab: Tab) -> None:
    tab.service.fail_with = DoesNotFit(model="m", preset="high", detail="Too big.", suggestion="Take less.")
    tab.loader.start_with(PlanRequest("starter"))
    tab.ask("one")
    tab.stream()
    assert isinstance(tab.session.error, DoesNotFit)


@pytest.mark.parametrize(
    ("action", "turn", "text", "expected"),
    [
        ("regenerate", 1, "", ["one", "two"]),
        ("edit", 0, "uno", ["uno"]),
        ("edit", 0, "  ", ["one", "two"]),
        ("delete", 0, "", ["two"]),
        ("delete", 7, "", ["one", "two"]),
        ("delete", -1, "", ["one", "two"]),
        ("explode", 0, "", ["one", "two"]),
        ("example", 99, "", ["one", "two"]),
    ],
)
def test_buttons_of_a_turn(tab: Tab, action: str, turn: int, text: str, expected: list[str]) -> None:
    tab.load()
    for asked in ("one", "two"):
        tab.ask(asked)
        tab.stream()
    tab.act(action, turn, text)
    assert [turn.question.text for turn in tab.session.turns] == expected


@pytest.mark.parametrize("action", ["delete", "edit"])
def test_a_second_press_on_the_same_turn_does_nothing(tab: Tab, action: str) -> None:
    tab.load()
    for asked in ("one", "two", "three"):
        tab.ask(asked)
        tab.stream()
    ident = tab.session.turns[0].ident
    tab.press(action, ident, "other words")
    tab.stream()
    once = tab.session.turns
    tab.press(action, ident, "other words")
    assert tab.session.turns == once


def test_a_stop_right_after_the_question_counts(tab: Tab) -> None:
    tab.load()
    tab.ask("one")
    tab.handlers.stop(tab.request)
    tab.stream()
    assert tab.session.turns[-1].status == "done"
    assert tab.service.asked == []
    tab.ask("two")
    tab.stream()
    assert [turn.status for turn in tab.session.turns] == ["done", "done"]
    assert len(tab.service.asked) == 1


def test_the_stop_button_is_there_from_the_question_on(tab: Tab) -> None:
    tab.load()
    empty = {"text": "", "files": []}
    assert given(tab.ask("one")[2]) == {"submit_btn": False, "stop_btn": True, "value": empty}
    assert given(tab.stream()[-1][2]) == {"submit_btn": True, "stop_btn": False}


def test_an_example_asks_its_question_and_leaves_the_draft_alone(tab: Tab, picture: Path) -> None:
    tab.load()
    tab.handlers.draft_changed({"text": "", "files": [str(picture)]}, None, tab.request)
    tab.act("example", 0)
    assert tab.session.turns[0].question.text == tab.context.examples[0].question
    assert list(tab.session.draft_images) == [str(picture)]


def test_a_new_conversation_stops_the_running_answer_and_takes_it_away(tab: Tab) -> None:
    tab.load()
    tab.ask("one")
    tab.session.begin()
    tab.handlers.clear(tab.request)
    assert tab.session.stopping.is_set()
    assert len(tab.session.turns) == 1
    tab.session.end()
    assert tab.session.turns == ()
    # The next answer is not swept away with it.
    tab.ask("two")
    tab.stream()
    assert len(tab.session.turns) == 1
    tab.handlers.clear(tab.request)
    assert tab.session.turns == ()


@pytest.mark.parametrize(
    ("draft", "box"),
    [("", {"text": "one", "files": []}), ("typed meanwhile", None)],
    ids=["the question comes back", "a newer draft stays"],
)
def test_a_conversation_that_got_too_long_ends_without_losing_words(
    draft: str, box: dict[str, Any] | None, tab: Tab
) -> None:
    too_long = ContextExceeded(needed_tokens=5000, context_tokens=2048)
    tab.session.turns, tab.session.error = chat_flow.fail(ASKED, too_long), too_long
    outputs = tab.handlers.act({"text": draft, "files": []}, tab.request)
    assert tab.session.turns == ()
    assert given(outputs[2]).get("value") == box


# The card above the message box.

CRASH = WorkerCrashed(stage="idle", detail="It was ended.")
ASKED = chat_flow.ask((), chat_flow.question("one", ()))


@pytest.mark.parametrize(
    ("turns", "status", "of_tab", "of_model", "label"),
    [
        ((), "ready", None, None, None),
        ((), "crashed", None, CRASH, "action.restart"),
        ((), "crashed", NotLoaded(), CRASH, "action.restart"),
        ((), "empty", NotLoaded(), None, "action.load"),
        (chat_flow.fail(ASKED, CRASH), "ready", None, None, "action.ask_again"),
        (chat_flow.fail(ASKED, CRASH), "loading", None, None, None),
        ((), "empty", None, ModelNotFound(path="/x", detail="No."), "action.pick_model"),
        (chat_flow.fail(ASKED, CRASH), "ready", CRASH, None, "action.ask_again"),
        (chat_flow.fail(ASKED, CRASH), "loading", CRASH, None, None),
        ((), "ready", NotLoaded(), None, None),
    ],
    ids=[
        "all is well",
        "a crash",
        "a crash outranks the tab",
        "not loaded",
        "back again",
        "coming back",
        "lost",
        "another tab started it again",
        "another tab is starting it again",
        "loaded meanwhile",
    ],
)
def test_the_card_that_helps_most(
    turns: Any, status: str, of_tab: Any, of_model: Any, label: str | None
) -> None:
    card = notices.choose(turns, status, of_tab, of_model)
    assert (card.label if card else None) == label


@pytest.mark.parametrize("preset", list(Preset))
def test_less_memory_always_ends_on_the_cpu(preset: Preset) -> None:
    steps = [preset]
    while notices.lower_preset(steps[-1]) is not steps[-1]:
        steps.append(notices.lower_preset(steps[-1]))
        assert len(steps) < 8
    assert steps[-1] is Preset.CPU


# Settings of the side bar.


@pytest.mark.parametrize(
    ("written", "model"),
    [(None, "starter"), ("  ", "starter"), ('"C:\\模型\\llava 1.5"', "C:\\模型\\llava 1.5"), ("m", "m")],
    ids=["nothing chosen", "blanks", "a quoted path", "a name"],
)
def test_the_model_that_is_meant(written: str | None, model: str) -> None:
    assert model_named(written) == model


@pytest.mark.parametrize("seed", ["many", "-1", "1.5", "9" * 20, "9" * 5000], ids=lambda seed: seed[:6])
def test_a_seed_that_is_none_is_named(seed: str) -> None:
    with pytest.raises(SettingInvalid):
        sampling(0.2, 1, 64, seed)


def test_emptied_sliders_mean_their_defaults() -> None:
    nothing: Any = None
    assert sampling(nothing, nothing, nothing, "") == SamplingParams()


def test_a_model_given_by_its_folder_stands_in_the_list(tab: Tab) -> None:
    assert ("my model", "/somewhere/my model") in model_choices(tab.service.models(), "/somewhere/my model")


NO_SUCH_PICTURE = '[{"file": "no.png", "label": {"en": "a", "zh": "b"}, "question": "?"}]'


@pytest.mark.parametrize("content", [None, "{", "[]", '[{"file": "x.png"}]', NO_SUCH_PICTURE])
def test_examples_that_cannot_be_read_are_left_out(content: str | None, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "examples.json").write_text(content, encoding="utf-8")
    assert read_examples(tmp_path) == ()


def test_the_bundled_examples_are_three() -> None:
    assert len(read_examples(ROOT / "assets" / "examples")) == 3


# Tabs.


def test_tabs_keep_apart_and_a_reload_keeps_the_conversation() -> None:
    sessions = Sessions()
    first, other = sessions.of("a"), sessions.of("b")
    assert first.ident != other.ident
    assert sessions.of("a") is first
    sessions.adopt(first, "tab 1")
    first.turns = ASKED
    sessions.close("a")
    again = sessions.of("c")
    sessions.adopt(again, "tab 1")
    assert [turn.question for turn in again.turns] == [turn.question for turn in ASKED]
    assert not chat_flow.waiting(again.turns)
    assert other.turns == ()


def test_a_page_that_reloads_before_it_is_seen_to_leave_gets_its_newest_conversation() -> None:
    sessions = Sessions()
    old, again = sessions.of("a"), sessions.of("b")
    sessions.adopt(old, "tab 1")
    old.begin()
    old.turns = ASKED
    sessions.adopt(again, "tab 1")
    sessions.close("a")
    again.begin()
    again.turns = (*again.turns, *ASKED)
    last = sessions.of("c")
    sessions.adopt(last, "tab 1")
    assert len(last.turns) == 2


def test_a_duplicated_tab_gets_a_copy_and_reloads_its_own() -> None:
    sessions = Sessions()
    first, twin = sessions.of("a"), sessions.of("b")
    sessions.adopt(first, "tab 1")
    first.turns = ASKED
    sessions.adopt(twin, "tab 2", source="tab 1")
    assert len(twin.turns) == 1
    first.begin()
    first.turns = (*ASKED, *ASKED)
    twin.begin()
    twin.turns = ()
    sessions.close("a")
    again = sessions.of("c")
    sessions.adopt(again, "tab 1")
    assert len(again.turns) == 2


def test_a_copy_of_a_closed_tab_leaves_it_its_conversation() -> None:
    sessions = Sessions()
    first = sessions.of("a")
    sessions.adopt(first, "tab 1")
    first.turns = ASKED
    sessions.close("a")
    for number, (tab, source) in enumerate((("tab 2", "tab 1"), ("tab 1", "tab 1"))):
        session = sessions.of(f"new {number}")
        sessions.adopt(session, tab, source)
        assert len(session.turns) == 1


def test_only_so_many_closed_tabs_are_remembered() -> None:
    sessions = Sessions()
    for number in range(60):
        session = sessions.of(str(number))
        sessions.adopt(session, f"tab {number}")
        session.turns = ASKED
        sessions.close(str(number))
    late, early = sessions.of("x"), sessions.of("y")
    sessions.adopt(late, "tab 59")
    sessions.adopt(early, "tab 0")
    assert late.turns
    assert early.turns == ()


def test_one_answer_at_a_time() -> None:
    session = Session("one")
    assert session.begin()
    assert not session.begin()
    session.end()
    assert session.begin()


# Building.


def test_building_the_page_leaves_the_heavy_libraries_out_and_calls_nobody(tmp_path: Path) -> None:
    script = f"""
import sys
calls = []
sys.addaudithook(lambda event, args: calls.append((event, args)) if event in
                 ("socket.connect", "socket.getaddrinfo", "subprocess.Popen") else None)
sys.path.insert(0, {str(ROOT)!r})
from pathlib import Path
from backends.presets import Preset
from tests.support.fake_service import FakeService, fake_settings
from ui.i18n import Translator
from ui.web.server import make_asgi
settings = fake_settings(Path({str(tmp_path)!r}))
service = FakeService(settings)
make_asgi(service, settings, port=7860, model="starter", preset=Preset.AUTO, say=Translator("en"))
heavy = {{"torch", "transformers", "accelerate", "bitsandbytes", "matplotlib"}} & set(sys.modules)
assert not heavy, heavy
assert not calls, calls
import psutil
assert psutil.Process().memory_info().rss < 300 * 2**20
print("built")
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.stdout.strip().endswith("built"), done.stderr


def test_every_handler_is_private_and_unlimited(tab: Tab) -> None:
    from ui.web.app import build_app

    async def build() -> gr.Blocks:
        # Gradio asks for the event loop while it builds; as in the server, there is one.
        return build_app(tab.service, tab.context.settings)  # type: ignore[arg-type]

    app = asyncio.run(build())
    functions = list(app.fns.values())
    assert len(functions) > 10
    assert {function.api_visibility for function in functions if function.fn is not None} == {"private"}
    assert isinstance(app, gr.Blocks)
    queued = [function for function in functions if function.queue and function.fn is not None]
    assert {function.concurrency_limit for function in queued} <= {None, "default"}
