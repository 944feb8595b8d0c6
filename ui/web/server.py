"""Serves the page on this machine, with the model loading meanwhile."""

from __future__ import annotations

import os
import webbrowser
from typing import Any

import fastapi
import uvicorn

from backends.presets import Preset
from backends.service import Service
from backends.settings import Settings
from ui.i18n import Translator


def quiet_gradio(settings: Settings) -> None:
    """Switch off every call home before Gradio is imported, and keep uploads in our own folder."""
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    os.environ["GRADIO_TEMP_DIR"] = str(settings.uploads)


def make_asgi(
    service: Service, settings: Settings, *, port: int, model: str, preset: Preset, say: Translator
) -> Any:  # noqa: ANN401 - an ASGI app
    """The guarded page as an ASGI app; the model starts to load."""
    quiet_gradio(settings)
    # Gradio takes seconds to import: whoever only needs the rest of this module does not wait for it.
    import gradio as gr

    from backends.placement.types import PlanRequest
    from ui.web.app import build_app
    from ui.web.context import Loader
    from ui.web.early import EarlyHead
    from ui.web.guard import Guard
    from ui.web.theme import build_theme, early, head

    loader = Loader(service)
    loader.start_with(PlanRequest(model, preset))
    blocks = build_app(service, settings, loader=loader, model=model, preset=preset, language=say.language)
    outer = fastapi.FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    gr.mount_gradio_app(
        outer,
        blocks,
        path="/",
        server_name="127.0.0.1",
        server_port=port,
        footer_links=[],
        run_history=False,
        show_error=False,
        # Larger than what we decode, so that our own message says what is wrong with a large picture.
        max_file_size=4 * settings.max_image_bytes,
        ssr_mode=False,
        pwa=False,
        enable_monitoring=False,
        mcp_server=False,
        theme=build_theme(),
        head=head(),
        allowed_paths=[str(settings.images), str(settings.examples)],
    )
    return Guard(EarlyHead(outer, early(say.language)), port)


class _Server(uvicorn.Server):
    """Says where the page is as soon as it answers."""

    def __init__(self, config: uvicorn.Config, ready: Any) -> None:  # noqa: ANN401 - a callback
        super().__init__(config)
        self._ready = ready

    async def startup(self, sockets: Any = None) -> None:  # noqa: ANN401 - uvicorn's signature
        """Start to listen, then tell."""
        await super().startup(sockets)
        if self.started:
            self._ready()


def serve(
    service: Service,
    settings: Settings,
    *,
    host: str,
    port: int,
    open_browser: bool,
    model: str,
    preset: Preset,
    say: Translator,
) -> None:
    """Serve until Ctrl+C."""
    app = make_asgi(service, settings, port=port, model=model, preset=preset, say=say)
    address = f"http://{host}:{port}"

    def ready() -> None:
        print(say("web.ready", address=address), flush=True)  # noqa: T201 - this line is for the person
        if open_browser:
            webbrowser.open(address)

    config = uvicorn.Config(app, host=host, port=port, log_level="warning", timeout_graceful_shutdown=1)
    _Server(config, ready).run()
