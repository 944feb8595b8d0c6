"""What building the page costs, and what it opens."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import gradio as gr

from tests.support.tab import Tab

ROOT = Path(__file__).resolve().parents[3]


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
