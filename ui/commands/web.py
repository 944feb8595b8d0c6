"""Open the web page."""

from __future__ import annotations

import argparse
import socket
from collections.abc import Iterator

from backends.errors import PortInUse, SettingInvalid
from backends.presets import Preset
from backends.service import Service
from backends.settings import Settings
from backends.storage import ensure_writable
from backends.text import Text
from ui.i18n import Translator

HOST = "127.0.0.1"
PORT = 7860


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the web page."""
    parser.add_argument("--port", type=int, default=PORT)
    parser.add_argument("--no-browser", action="store_true", help="print the address only")
    parser.add_argument("--model", default="starter", help="the model to open with")
    parser.add_argument("--preset", choices=[preset.value for preset in Preset], default=Preset.AUTO.value)


def run(options: argparse.Namespace, settings: Settings, say: Translator) -> int:
    """Serve the page until Ctrl+C."""
    check_port(HOST, options.port)
    # Gradio writes there while the page is built, and would stop with an error of its own.
    ensure_writable(settings.uploads)
    # The service first: its worker imports torch while this process imports Gradio.
    service = Service(settings)
    try:
        service.inspect(options.model)
        from ui.web.server import serve

        serve(
            service,
            settings,
            host=HOST,
            port=options.port,
            open_browser=not options.no_browser,
            model=options.model,
            preset=Preset(options.preset),
            say=say,
        )
    finally:
        service.close()
    return 0


def check_port(host: str, port: int) -> None:
    """Raise `PortInUse` with a free port to use instead, or `SettingInvalid`."""
    if not 1 <= port <= 65535:
        raise SettingInvalid(
            name="--port",
            value=port,
            detail=Text("cli.port", "A port is a number from 1 to 65535."),
            suggestion=Text("cli.port_remedy", "Leave it out to use 7860."),
        )
    if _is_free(host, port):
        return
    raise PortInUse(host=host, port=port, free_port=next(_free_ports(host, port)))


def _is_free(host: str, port: int) -> bool:
    with socket.socket() as probe:
        # As the server itself will do; on Windows this option would let two programs share a port.
        if hasattr(socket, "SO_EXCLUSIVEADDRUSE"):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_EXCLUSIVEADDRUSE, 1)
        else:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def _free_ports(host: str, port: int) -> Iterator[int]:
    yield from (other for other in range(port + 1, 65536) if _is_free(host, other))
    with socket.socket() as probe:
        probe.bind((host, 0))
        yield int(probe.getsockname()[1])
