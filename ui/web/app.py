"""The page: arranges the panels, then wires them."""

from __future__ import annotations

from typing import Any

import gradio as gr

from backends.placement.types import PlanRequest
from backends.presets import Preset
from backends.service import Service
from backends.settings import Settings
from ui.i18n import LANGUAGES, Language, Translator
from ui.web import theme, wiring_chat, wiring_converted, wiring_custom, wiring_model, wiring_whatif
from ui.web.context import Context, Loader, say_for
from ui.web.examples import read_examples
from ui.web.panels import chat as chat_panel
from ui.web.panels import converted as converted_panel
from ui.web.panels import custom as custom_panel
from ui.web.panels import generation as generation_panel
from ui.web.panels import hardware as hardware_panel
from ui.web.panels import header as header_panel
from ui.web.panels import placement as placement_panel
from ui.web.panels import setup as setup_panel
from ui.web.panels import whatif as whatif_panel
from ui.web.panels.generation import Generation
from ui.web.planning import restore
from ui.web.wiring_model import Page, refresh

# Uploads that nobody sent are removed after an hour, looked for every ten minutes.
_UPLOADS_KEPT_S = (600, 3600)


def build_app(
    service: Service,
    settings: Settings,
    *,
    loader: Loader | None = None,
    model: str = "starter",
    preset: Preset = Preset.AUTO,
    language: Language = "en",
) -> gr.Blocks:
    """Build the page. Nothing is loaded and nothing is served yet."""
    context = Context(
        service,
        settings,
        loader or Loader(service),
        PlanRequest(model, preset),
        read_examples(settings.examples),
    )
    say = Translator(language)
    gr.set_static_paths([settings.images, settings.examples])
    with gr.Blocks(
        title="Snug", fill_width=True, fill_height=True, analytics_enabled=False, delete_cache=_UPLOADS_KEPT_S
    ) as app:
        page, generation = _arrange(context, say)
        _wire(app, page, generation, context)
    app.queue(default_concurrency_limit=None, api_open=False, max_size=64)
    return app


def _arrange(context: Context, say: Translator) -> tuple[Page, Generation]:
    header = header_panel.build(say)
    with gr.Row(elem_id="shell"):
        with gr.Column(elem_id="side", min_width=0):
            hardware = hardware_panel.build(context.service.snapshot(), say)
            choices = setup_panel.build_choices(say, context.service.models(), context.start)
            back = whatif_panel.build_back(say)
            plan = placement_panel.build()
            setup = setup_panel.Setup(*choices, *setup_panel.build_buttons(say))
            details = gr.HTML("", apply_default_css=False, elem_id="plan-details")
            custom = custom_panel.build(say)
            whatif = whatif_panel.build(say, back)
            generation = generation_panel.build(say)
            converted = converted_panel.build(say)
        with gr.Column(elem_id="main", min_width=0):
            chat = chat_panel.build(say, context.examples)
    timer = gr.Timer(wiring_model.TICK_S)
    return Page(header, setup, chat, hardware, plan, details, custom, whatif, converted, timer), generation


def _wire(app: gr.Blocks, page: Page, generation: Generation, context: Context) -> None:
    wiring_model.wire(page, context)
    wiring_custom.wire(page, context)
    wiring_whatif.wire(page, context)
    wiring_converted.wire(page, context)
    wiring_chat.wire(page, generation, context)
    worded = [
        *header_panel.texts(page.header),
        *setup_panel.texts(page.setup),
        *generation_panel.texts(generation),
        *chat_panel.texts(page.chat),
        page.chat.past,
        page.chat.live,
        *page.live,
    ]

    def reword(language: str, request: gr.Request) -> list[Any]:
        session = context.session(request)
        session.language = next((known for known in LANGUAGES if known == language), "en")
        say = say_for(session)
        asked = session.request or context.start
        return [
            *header_panel.translate(say),
            *setup_panel.translate(say, asked, context.service.models()),
            *generation_panel.translate(say),
            *chat_panel.translate(say),
            *wiring_chat.conversation_view(context, session),
            *refresh(context, session),
        ]

    def arrive(language: str, tabs: str, kept: str, request: gr.Request) -> list[Any]:
        tab, _, source = tabs.partition(" ")
        session = context.session(request)
        context.sessions.adopt(session, tab, source)
        restore(context, session, kept)
        return reword(language, request)

    def chosen(request: gr.Request) -> list[Any]:
        asked = context.session(request).request or context.start
        return [gr.update(value=asked.model), gr.update(value=asked.preset.value)]

    def leave(request: gr.Request) -> None:
        session = context.sessions.close(request.session_hash)
        if session is not None:
            session.stopping.set()
            context.service.cancel(session.ident)
            context.service.cancel_prime(session.ident)

    quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private", "queue": False}
    tab = gr.Textbox(visible=False)
    inputs = [page.header.language, tab, page.custom.kept]
    arrived = app.load(arrive, inputs, worded, js=theme.ON_ARRIVAL, **quiet)
    # Both at once and nothing else, so that neither is taken for a choice against the other.
    arrived = arrived.then(chosen, None, page.setup.inputs, **quiet)
    arrived.then(None, None, None, js=theme.ON_ARRIVED)
    page.header.language.input(reword, page.header.language, worded, js=theme.ON_LANGUAGE, **quiet)
    page.header.theme.click(None, None, None, js=theme.ON_THEME)
    page.header.setup.click(None, None, None, js=theme.ON_SETUP)
    app.unload(leave)
