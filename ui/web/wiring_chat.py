"""Events of the conversation: ask, stop, ask again, edit, delete, pictures, the card's button."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import gradio as gr

from backends.errors import Action, NotLoaded, SnugError
from backends.messages import ImagePart, Progress, TextDelta
from ui.web import chat_flow
from ui.web.context import Context, say_for
from ui.web.panels import generation as generation_panel
from ui.web.panels.generation import Generation
from ui.web.sessions import Session
from ui.web.transcript import live_html, past_html
from ui.web.wiring_model import Page, act_on_model, current_notice, refresh

# The page is redrawn at most this often while an answer streams: a word's worth of time.
_REDRAW_S = 0.05
_LOADING_POLL_S = 0.1


def import_pictures(
    context: Context, session: Session, paths: list[str]
) -> tuple[list[str], SnugError | None]:
    """Read the message box's pictures once each; returns the paths that could be read and the last error."""
    kept: dict[str, ImagePart] = {}
    error: SnugError | None = None
    for path in paths:
        try:
            kept[path] = session.draft_images.get(path) or context.service.import_image(
                Path(path), Path(path).name
            )
        except SnugError as problem:
            error = problem
    session.draft_images = kept
    return list(kept), error


def answer(context: Context, session: Session, system: str | None, sampling: Any) -> Iterator[bool]:  # noqa: ANN401 - SamplingParams
    """Answer the last question, yielding whenever the page should be redrawn."""
    drawn = 0.0
    try:
        yield from _wait_until_loaded(context, session)
        if session.stopping.is_set():
            session.turns = chat_flow.stop_waiting(session.turns)
            return
        messages = chat_flow.to_messages(session.turns, system)
        for event in context.service.chat(session.ident, messages, sampling):
            session.turns = chat_flow.advance(session.turns, event)
            now = time.monotonic()
            if not isinstance(event, TextDelta) or now - drawn >= _REDRAW_S:
                drawn = now
                yield True
    except SnugError as error:
        session.turns = chat_flow.fail(session.turns, error)
        session.error = error


def _wait_until_loaded(context: Context, session: Session) -> Iterator[bool]:
    """A question that comes before the model is ready waits, and shows how far the model is."""
    shown: Progress | None = None
    while not session.stopping.is_set():
        state = context.service.state()
        if state.status != "loading" and not context.loader.busy:
            if state.status == "empty":
                raise context.loader.error or NotLoaded()
            return
        progress = state.progress or Progress("start", 0, 0)
        if progress != shown:
            shown = progress
            session.turns = chat_flow.advance(session.turns, progress)
            yield True
        session.stopping.wait(_LOADING_POLL_S)


def wire(page: Page, generation: Generation, context: Context) -> None:
    """Attach the handlers."""
    chat = page.chat
    quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
    at_once = quiet | {"queue": False}

    def view(session: Session) -> list[Any]:
        return conversation_view(context, session)

    def stream(
        system: str | None,
        temperature: float,
        top_p: float,
        max_tokens: float,
        seed: float | None,
        request: gr.Request,
    ) -> Iterator[list[Any]]:
        session = context.session(request)
        unchanged = [gr.skip()] * len(page.live)
        if not session.turns or session.turns[-1].status != "waiting" or not session.begin():
            yield [gr.skip()] * 3 + unchanged
            return
        try:
            yield [*view(session), gr.MultimodalTextbox(submit_btn=False, stop_btn=True), *unchanged]
            sampling = generation_panel.sampling(temperature, top_p, max_tokens, seed)
            for _ in answer(context, session, system, sampling):
                yield [*view(session), gr.skip(), *unchanged]
        finally:
            session.end()
        ready = gr.MultimodalTextbox(submit_btn=True, stop_btn=False)
        yield [*view(session), ready, *refresh(context, session)]

    def submit(draft: dict[str, Any] | None, request: gr.Request) -> list[Any]:
        session = context.session(request)
        text, files = (draft or {}).get("text", ""), list((draft or {}).get("files", []))
        readable, problem = import_pictures(context, session, files)
        session.error = problem
        busy = session.answering or (session.turns and session.turns[-1].status == "waiting")
        if problem is not None or busy or not (text.strip() or readable):
            box = gr.skip() if problem is None else {"text": text, "files": readable}
            return [gr.skip(), gr.skip(), box, *refresh(context, session)]
        pictures = [session.draft_images[path] for path in readable]
        session.turns = chat_flow.ask(session.turns, chat_flow.question(text, pictures))
        session.draft_images = {}
        return [*view(session), {"text": "", "files": []}, *refresh(context, session)]

    def draft_changed(draft: dict[str, Any] | None, system: str | None, request: gr.Request) -> list[Any]:
        session = context.session(request)
        text, files = (draft or {}).get("text", ""), list((draft or {}).get("files", []))
        if list(session.draft_images) == files:
            return [gr.skip()] * (1 + len(page.live))
        readable, problem = import_pictures(context, session, files)
        prime(context, session, system)
        if problem is None:
            return [gr.skip()] * (1 + len(page.live))
        session.error = problem
        return [{"text": text, "files": readable}, *refresh(context, session)]

    def stop(request: gr.Request) -> None:
        session = context.session(request)
        session.stopping.set()
        context.service.cancel(session.ident)

    def turn_act(event: gr.EventData, draft: dict[str, Any] | None, request: gr.Request) -> list[Any]:
        session = context.session(request)
        box = gr.skip()
        if not session.answering:
            box = change_turn(context, session, event.action, int(event.turn), str(event.text), draft)
        return [*view(session), box, *refresh(context, session)]

    def clear(request: gr.Request) -> list[Any]:
        session = context.session(request)
        stop(request)
        if not session.answering:
            session.turns = ()
        session.error = None
        return [*view(session), *refresh(context, session)]

    def act(request: gr.Request) -> list[Any]:
        session = context.session(request)
        card = current_notice(context, session)
        model, preset = gr.skip(), gr.skip()
        if card is not None and card.action is not None:
            session.dismissed, session.error = card.error, None
            changed = act_on_model(context, session, card.action)
            if changed is not None:
                session.request = changed
                model, preset = gr.Dropdown(value=changed.model), gr.Dropdown(value=changed.preset.value)
            if card.action is Action.SHORTEN:
                session.turns = ()
            if card.action is Action.RETRY and session.turns and not session.answering:
                session.turns = chat_flow.regenerate(session.turns)
        return [*view(session), model, preset, *refresh(context, session)]

    def dismiss(request: gr.Request) -> list[Any]:
        session = context.session(request)
        card = current_notice(context, session)
        if card is not None:
            if card.error is None and session.turns:
                session.turns = (*session.turns[:-1], replace(session.turns[-1], status="done"))
            session.dismissed, session.error = card.error, None
        return refresh(context, session)

    def shoot(picture: str | None, draft: dict[str, Any] | None) -> list[Any]:
        if not picture:
            return [gr.skip(), gr.skip(), gr.skip()]
        files = [*(draft or {}).get("files", []), picture]
        return [{"text": (draft or {}).get("text", ""), "files": files}, None, gr.Column(visible=False)]

    conversation = [chat.past, chat.live]
    whole = [*conversation, chat.message, *page.live]
    shown = [*conversation, *page.live]
    answering = {
        "fn": stream,
        "inputs": generation.inputs,
        "outputs": whole,
        "concurrency_limit": None,
    } | quiet
    chat.message.submit(submit, chat.message, whole, **at_once).then(**answering)
    chat.message.change(
        draft_changed, [chat.message, generation.system], [chat.message, *page.live],
        trigger_mode="always_last", **at_once,
    )  # fmt: skip
    chat.message.stop(stop, None, None, **at_once)
    for half in conversation:
        half.act(turn_act, chat.message, whole, **at_once).then(**answering)
    chat.clear.click(clear, None, shown, **at_once)
    chat.act.click(
        act, None, [*conversation, page.setup.model, page.setup.preset, *page.live], **at_once
    ).then(**answering)
    chat.dismiss.click(dismiss, None, page.live, **at_once)
    chat.camera_open.click(lambda: gr.Column(visible=True), None, chat.camera_box, **at_once)
    chat.camera_close.click(
        lambda: [gr.Column(visible=False), None], None, [chat.camera_box, chat.camera], **at_once
    )
    chat.camera.input(
        shoot, [chat.camera, chat.message], [chat.message, chat.camera, chat.camera_box], **at_once
    )


def prime(context: Context, session: Session, system: str | None) -> None:
    """Let the model look at the draft's pictures while the person types; stop when there are none."""
    if not session.draft_images:
        context.service.cancel_prime(session.ident)
    elif context.service.state().status == "ready" and not session.answering:
        messages = chat_flow.primer(session.turns, list(session.draft_images.values()), system)
        context.service.prime(session.ident, messages)


def conversation_view(context: Context, session: Session) -> list[Any]:
    """Both halves of the conversation; the finished half is sent only when it changed."""
    say, busy = say_for(session), session.answering
    past = past_html(session.turns, say, busy=busy)
    return [
        past if session.changed("past", past) else gr.skip(),
        live_html(session.turns, context.examples, say, busy=busy),
    ]


def change_turn(
    context: Context, session: Session, action: str, index: int, text: str, draft: dict[str, Any] | None
) -> Any:  # noqa: ANN401 - an update of the message box
    """Carry out a turn's button; returns what the message box is to hold."""
    turns = session.turns
    if action == "example" and index < len(context.examples):
        example = context.examples[index]
        readable, session.error = import_pictures(context, session, [str(example.picture)])
        pictures = [session.draft_images.pop(path) for path in readable]
        if pictures:
            session.turns = chat_flow.ask(turns, chat_flow.question(example.question, pictures))
        return gr.skip()
    if index >= len(turns):
        return gr.skip()
    session.error = None
    match action:
        case "regenerate":
            session.turns = chat_flow.regenerate(turns, index)
        case "edit" if text.strip():
            session.turns = chat_flow.edit(turns, index, text)
        case "delete":
            session.turns = chat_flow.delete(turns, index)
            unused = not (draft or {}).get("text") and not (draft or {}).get("files")
            if unused and index == len(turns) - 1:
                asked = turns[index].question
                return {"text": asked.text, "files": [str(image.path) for image in asked.images]}
    return gr.skip()
