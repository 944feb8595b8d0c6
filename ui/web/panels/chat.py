"""The conversation and the message box."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr

from ui.i18n import Translator
from ui.web import theme
from ui.web.examples import Example
from ui.web.transcript import live_html

# Gradio makes a file of a longer text; a question is never one.
_LONGEST_PASTE = 10_000_000

_STEP = """element.addEventListener('click', (event) => {
  const button = event.target.closest('[data-step]');
  if (button) trigger('step', { rung: button.dataset.step });
});"""


@dataclass(frozen=True, slots=True)
class Chat:
    """Components of the panel."""

    past: gr.HTML
    live: gr.HTML
    notice_box: gr.Column
    notice: gr.HTML
    act: gr.Button
    dismiss: gr.Button
    reading: gr.HTML
    camera_box: gr.Column
    camera: gr.Image
    camera_close: gr.Button
    message: gr.MultimodalTextbox
    camera_open: gr.Button
    clear: gr.Button
    hint: gr.HTML
    leaving: gr.Textbox


def build(say: Translator, examples: Sequence[Example]) -> Chat:
    """Lay the panel out."""
    with gr.Column(elem_id="transcript", min_width=0):
        past = gr.HTML("", apply_default_css=False, elem_id="past", js_on_load=theme.transcript_script())
        live = gr.HTML(
            live_html((), examples, say, busy=False),
            apply_default_css=False,
            elem_id="live",
            html_template='<div role="log" aria-live="polite">${value}</div>',
            js_on_load=theme.transcript_script(),
        )
    with gr.Column(visible=False, elem_id="notice", min_width=0) as notice_box:
        notice = gr.HTML("", apply_default_css=False, js_on_load=_STEP)
        with gr.Row(elem_id="notice-row"):
            act = gr.Button("", variant="primary", size="sm", min_width=0, scale=0, elem_id="notice-act")
            dismiss = gr.Button(
                say("action.dismiss"), size="sm", min_width=0, scale=0, elem_id="notice-dismiss"
            )
    reading = gr.HTML("", apply_default_css=False, elem_id="reading")
    with gr.Column(visible=False, elem_id="camera-box") as camera_box:
        camera = gr.Image(
            sources=["webcam"],
            type="filepath",
            format="png",
            label=say("camera.label"),
            show_label=False,
            elem_id="camera",
            height=300,
            buttons=[],
        )
        camera_close = gr.Button(say("camera.close"), size="sm", elem_id="camera-close")
    with gr.Row(elem_id="composer"):
        message = gr.MultimodalTextbox(
            label=say("chat.message"),
            show_label=False,
            placeholder=say("chat.placeholder"),
            # Any file, so that what is no picture is refused in our words and not by a code 500.
            file_types=None,
            file_count="multiple",
            sources=["upload"],
            lines=1,
            max_lines=8,
            max_plain_text_length=_LONGEST_PASTE,
            container=False,
            elem_id="message",
            submit_btn=True,
            stop_btn=False,
        )
    with gr.Row(elem_id="composer-tools"):
        camera_open = gr.Button(say("camera.open"), size="sm", min_width=0, scale=0, elem_id="camera-open")
        clear = gr.Button(say("chat.new"), size="sm", min_width=0, scale=0, elem_id="new-chat")
        hint = gr.HTML(hint_html(say), apply_default_css=False, elem_id="hint")
    return Chat(
        past, live, notice_box, notice, act, dismiss, reading, camera_box, camera, camera_close, message,
        camera_open, clear, hint, gr.Textbox(visible=False),
    )  # fmt: skip


def hint_html(say: Translator) -> str:
    """How to use the message box with the keyboard."""
    return f'<p class="sn-note">{say("chat.hint")}</p>'


def texts(chat: Chat) -> tuple[Any, ...]:
    """Components whose words change with the language; `translate` gives their updates in this order."""
    return (
        chat.dismiss, chat.camera, chat.camera_close, chat.message, chat.camera_open,
        chat.clear, chat.hint,
    )  # fmt: skip


def translate(say: Translator) -> tuple[Any, ...]:
    """The updates of `texts`."""
    return (
        gr.Button(say("action.dismiss")),
        gr.Image(label=say("camera.label")),
        gr.Button(say("camera.close")),
        gr.MultimodalTextbox(label=say("chat.message"), placeholder=say("chat.placeholder")),
        gr.Button(say("camera.open")),
        gr.Button(say("chat.new")),
        gr.HTML(hint_html(say)),
    )
