"""Events of the conversation: ask, stop, ask again, edit, delete, pictures, the card's button."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeAlias

import gradio as gr

from backends.errors import Action
from backends.placement.types import PlanRequest
from ui.i18n import Translator
from ui.web import chat_flow, climbing, theme
from ui.web.answering import answer, import_pictures, prime
from ui.web.context import Context, say_for
from ui.web.notices import Notice
from ui.web.panels import generation as generation_panel
from ui.web.panels.generation import Generation
from ui.web.seeing import sees
from ui.web.sessions import Session
from ui.web.transcript import live_html, past_html
from ui.web.wiring_model import Page, act_on_model, current_notice, refresh

# What Gradio's message box hands over: {"text": str, "files": [path]}.
Draft: TypeAlias = "dict[str, Any] | None"


def _parts(draft: Draft) -> tuple[str, list[str]]:
    filled = draft or {}
    return filled.get("text") or "", list(filled.get("files") or [])


def conversation_view(context: Context, session: Session) -> list[Any]:
    """Both halves of the conversation; the finished half is sent only when it changed."""
    # Also in the moment between a question and the start of its answer nothing may be changed.
    say, busy = say_for(session), session.answering or chat_flow.waiting(session.turns)
    past = past_html(session.turns, say, busy=busy)
    return [
        past if session.changed("past", past) else gr.skip(),
        live_html(session.turns, context.examples, say, busy=busy),
    ]


@dataclass(frozen=True, slots=True)
class Handlers:
    """What each event does. Outputs begin with the conversation and end with `Page.live`.

    What was asked, or can't be read, is named to the page, which takes it out of the message box: the words
    that stand there by then are newer than those that we know.
    """

    context: Context
    live_count: int

    def _whole(self, session: Session, *between: Any) -> list[Any]:  # noqa: ANN401 - updates of components
        view = conversation_view(self.context, session)
        return [*view, *between, *refresh(self.context, session)]

    def submit(self, draft: Draft, request: gr.Request) -> list[Any]:
        """Take the draft as a question; a picture that can't be read leaves it in the box."""
        session = self.context.session(request)
        text, files = _parts(draft)
        # What was said to be unreadable may not have left the box yet.
        files = [path for path in files if path not in session.refused]
        readable, problem = import_pictures(self.context, session, files)
        session.error = problem
        if problem is not None:
            return self._whole(session, gr.skip(), _refuse(session, files, readable))
        with session.deciding:
            # Pictures stay in the box, unseen, for a model that looks at them.
            kept = [] if sees(self.context, session) else readable
            if chat_flow.waiting(session.turns) or not (text.strip() or len(kept) < len(readable)):
                return self._whole(session, gr.skip(), gr.skip())
            # A picture that left the box meanwhile leaves the question, too.
            drafted = session.draft_images
            pictures = [drafted[path] for path in readable if path in drafted and path not in kept]
            session.ask(chat_flow.ask(session.turns, chat_flow.question(text, pictures)))
            session.draft_images = {path: drafted[path] for path in kept if path in drafted}
            leaving = [path for path in _parts(draft)[1] if path not in kept]
            return self._whole(session, _box(session), _leaving(text, leaving))

    def stream(  # noqa: PLR0917 - Gradio passes inputs by position
        self,
        system: str | None,
        temperature: float,
        top_p: float,
        max_tokens: float,
        seed: str,
        request: gr.Request,
    ) -> Iterator[list[Any]]:
        """Answer the waiting question, if there is one."""
        session = self.context.session(request)
        same: list[Any] = [gr.skip()] * self.live_count
        if not chat_flow.unserved(session.turns) or not session.begin():
            yield [gr.skip(), gr.skip(), _box(session), *same]
            return
        try:
            yield [*conversation_view(self.context, session), _box(session), *same]
            drawing = partial(generation_panel.sampling, temperature, top_p, max_tokens, seed)
            for _ in answer(self.context, session, system, drawing):
                yield [*conversation_view(self.context, session), gr.skip(), *same]
        finally:
            session.end()
        if session.draft_images:
            # A picture that was added while the answer came can be prepared now that the answer is known.
            prime(self.context, session, system)
        yield self._whole(session, _box(session))

    def draft_changed(self, draft: Draft, system: str | None, request: gr.Request) -> list[Any]:
        """A picture came or went: read it now and let the model look at it while the person types."""
        session = self.context.session(request)
        _, files = _parts(draft)
        if list(session.draft_images) == files:
            return [gr.skip()] * (1 + self.live_count)
        readable, problem = import_pictures(self.context, session, files)
        prime(self.context, session, system)
        if problem is None:
            return [gr.skip()] * (1 + self.live_count)
        session.error = problem
        return [_refuse(session, files, readable), *refresh(self.context, session)]

    def stop(self, request: gr.Request) -> None:
        """End the running answer within a token."""
        session = self.context.session(request)
        session.stopping.set()
        self.context.service.cancel(session.ident)

    def turn_act(self, event: gr.EventData, draft: Draft, request: gr.Request) -> list[Any]:
        """A turn's button, or an example."""
        session = self.context.session(request)
        given_back: Draft = None
        with session.deciding:
            if not chat_flow.waiting(session.turns):
                given_back = self._change_turn(session, event, draft)
            return self._whole(session, _box(session, given_back))

    def _change_turn(self, session: Session, event: gr.EventData, draft: Draft) -> Draft:
        """Carry out the button; returns what the message box gets back."""
        action, turns = str(event.action), session.turns
        session.error = None
        if action == "example":
            self._take_example(session, str(event.turn))
            return None
        index = chat_flow.find(turns, str(event.turn))
        if index is None:
            return None
        if action == "regenerate":
            session.ask(chat_flow.regenerate(turns, index))
        elif action == "edit" and str(event.text).strip():
            session.ask(chat_flow.edit(turns, index, str(event.text)))
        elif action == "delete":
            session.turns = chat_flow.delete(turns, index)
            return _given_back(turns, index, draft)
        return None

    def _take_example(self, session: Session, number: str) -> None:
        if not number.isdecimal() or int(number) >= len(self.context.examples):
            return
        example = self.context.examples[int(number)]
        draft = session.draft_images
        readable, session.error = import_pictures(self.context, session, [str(example.picture)])
        pictures = [session.draft_images[path] for path in readable]
        session.draft_images = draft
        if pictures:
            session.ask(chat_flow.ask(session.turns, chat_flow.question(example.question, pictures)))

    def clear(self, request: gr.Request) -> list[Any]:
        """Begin a new conversation; a running answer ends first, and takes the old one with it."""
        session = self.context.session(request)
        with session.deciding:
            if session.clear():
                self.stop(request)
            session.error = None
            return self._whole(session)

    def act(self, draft: Draft, request: gr.Request, said: str | None = None) -> list[Any]:
        """The card's button, which `said` that (None: whatever it says now).

        Outputs: the conversation, message box, model, preset, then `Page.live`.
        """
        return self._act(draft, request, said=said)

    def step(self, event: gr.EventData, draft: Draft, request: gr.Request) -> list[Any]:
        """Another step than the one that the card's button takes. Outputs as of `act`."""
        return self._act(draft, request, rung=str(event.rung))

    def _act(
        self, draft: Draft, request: gr.Request, *, rung: str | None = None, said: str | None = None
    ) -> list[Any]:
        session = self.context.session(request)
        with session.deciding:
            card = current_notice(self.context, session)
            given_back: Draft = None
            model, preset = gr.skip(), gr.skip()
            if card is not None and not _meant(card, say_for(session), rung, said):
                session.forget_shown()  # what the page shows is not what we think it does
            elif card is not None:
                changed, given_back = self._carry_out(session, card, draft, rung)
                if changed is not None:
                    session.request = changed
                    model, preset = gr.update(value=changed.model), gr.update(value=changed.preset.value)
            return self._whole(session, _box(session, given_back), model, preset)

    def _carry_out(
        self, session: Session, card: Notice, draft: Draft, rung: str | None
    ) -> tuple[PlanRequest | None, Draft]:
        """Do what the card's button says; what is asked for instead, and what the message box gets back."""
        if card.action is None:
            return None, None
        given_back: Draft = None
        session.dismissed, session.error = card.error, None
        if card.action is Action.MORE_PICTURES:
            changed = climbing.make_room(self.context, session, card.error)
        elif rung is None:
            changed = act_on_model(self.context, session, card.action, card.error)
        else:
            changed = climbing.take(self.context, session, rung)
        if card.action is Action.SHORTEN:
            given_back = _given_back(session.turns, len(session.turns) - 1, draft)
            session.turns = ()
        if card.action is Action.RETRY and session.turns and not chat_flow.waiting(session.turns):
            session.ask(chat_flow.regenerate(session.turns))
        # The question that ran out of memory is asked again as soon as the next plan is loaded.
        room = card.action in (Action.STEP_DOWN, Action.MORE_PICTURES)
        if room and changed and chat_flow.unanswered(session.turns):
            session.ask(chat_flow.regenerate(session.turns))
        return changed, given_back

    def dismiss(self, request: gr.Request) -> list[Any]:
        """Put the card away."""
        session = self.context.session(request)
        with session.deciding:
            card = current_notice(self.context, session)
            if card is not None:
                if card.taken is not None:
                    session.climb.seen = card.taken
                elif card.error is None and session.turns:
                    session.turns = (*session.turns[:-1], replace(session.turns[-1], status="done"))
                session.dismissed, session.error = card.error, None
            return refresh(self.context, session)


def _meant(card: Notice, say: Translator, rung: str | None, said: str | None) -> bool:
    """Whether a press is for this card: it may have changed before the press arrived, by a press before."""
    if rung is not None:
        return card.action is Action.STEP_DOWN
    return not said or said == card.button(say)


def _box(session: Session, value: Draft = None) -> Any:  # noqa: ANN401 - the box's update
    """The message box with the button that fits, from the question on: a stop may follow at once."""
    busy = session.answering or chat_flow.waiting(session.turns)
    filled: dict[str, Any] = {} if value is None else {"value": value}
    return gr.MultimodalTextbox(submit_btn=not busy, stop_btn=busy, **filled)


def _refuse(session: Session, files: Sequence[str], readable: Sequence[str]) -> str:
    """What of `files` can't be read leaves the message box."""
    session.refused = {path for path in files if path not in readable}
    return _leaving("", session.refused)


def _leaving(text: str, files: Iterable[str]) -> str:
    """What the page takes out of the message box; each order is another one, so that the page hears of it."""
    return json.dumps({"order": uuid.uuid4().hex, "text": text, "files": list(files)})


def _given_back(turns: chat_flow.Conversation, index: int, draft: Draft) -> Draft:
    """The last question in the message box again, unless something new stands there."""
    if index < 0 or index < len(turns) - 1 or any(_parts(draft)):
        return None
    asked = turns[index].question
    return {"text": asked.text, "files": [str(image.path) for image in asked.images]}


def _shoot(picture: str | None, draft: Draft) -> list[Any]:
    """Put the camera's picture into the message box and close the camera."""
    if not picture:
        return [gr.skip(), gr.skip(), gr.skip()]
    text, files = _parts(draft)
    return [{"text": text, "files": [*files, picture]}, None, gr.Column(visible=False)]


def wire(page: Page, generation: Generation, context: Context) -> None:
    """Attach the handlers."""
    chat, handlers = page.chat, Handlers(context, len(page.live))
    quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
    at_once = quiet | {"queue": False}
    conversation = [chat.past, chat.live]
    whole = [*conversation, chat.message, *page.live]
    answering = {
        "fn": handlers.stream, "inputs": generation.inputs, "outputs": whole, "concurrency_limit": None
    } | quiet  # fmt: skip

    asked = [*conversation, chat.message, chat.leaving, *page.live]
    chat.message.submit(handlers.submit, chat.message, asked, **at_once).then(**answering)
    chat.message.change(
        handlers.draft_changed,
        [chat.message, generation.system],
        [chat.leaving, *page.live],
        trigger_mode="always_last",
        **at_once,
    )
    chat.leaving.change(None, [chat.message, chat.leaving], chat.message, js=theme.ON_LEAVING)
    chat.message.stop(handlers.stop, None, None, **at_once)
    for half in conversation:
        half.act(handlers.turn_act, chat.message, whole, **at_once).then(**answering)
    chat.clear.click(handlers.clear, None, [*conversation, *page.live], **at_once)
    acted = [*conversation, chat.message, page.setup.model, page.setup.preset, *page.live]
    chat.act.click(handlers.act, [chat.message, chat.act], acted, **at_once).then(**answering)
    chat.notice.step(handlers.step, chat.message, acted, **at_once).then(**answering)
    chat.dismiss.click(handlers.dismiss, None, page.live, **at_once)

    camera = [chat.camera_box, chat.camera]
    opened = chat.camera_open.click(lambda: gr.Column(visible=True), None, chat.camera_box, **at_once)
    opened.then(None, None, None, js=theme.ON_CAMERA)
    chat.camera_close.click(lambda: [gr.Column(visible=False), None], None, camera, **at_once)
    chat.camera.change(
        _shoot, [chat.camera, chat.message], [chat.message, chat.camera, chat.camera_box], **at_once
    )
