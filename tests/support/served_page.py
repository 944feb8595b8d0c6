"""The page as `launch.py` serves it, watched: `python -m tests.support.served_page PORT HOME [ENGINE]`.

Every connection that leaves this machine is refused and noted in HOME/escapes.txt; HOME/worker.pid holds
the process of the loaded model. ENGINE `fake` answers by command words (see backends/engines/fake.py).
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

HOME = Path(sys.argv[2]) if len(sys.argv) > 2 else Path()
LOCAL = ("127.", "::1", "localhost")


def watch_sockets(event: str, arguments: tuple[Any, ...]) -> None:
    """An audit hook that lets nobody out."""
    if event not in ("socket.connect", "socket.sendto", "socket.getaddrinfo"):
        return
    address = arguments[0] if event == "socket.getaddrinfo" else arguments[-1]
    host = address[0] if isinstance(address, tuple) else address
    if host is None or isinstance(host, bytes | int):
        return
    # A path is a Unix socket, which stays on the machine.
    if not str(host).startswith(LOCAL) and not str(host).startswith(("/", "\x00")) and str(host):
        with (HOME / "escapes.txt").open("a", encoding="utf-8") as file:
            file.write(f"{event} {address}\n")
        raise PermissionError(f"{event} to {address}")


def main() -> None:
    from backends.presets import Preset
    from backends.service import ModelState, Service
    from backends.settings import load_settings
    from ui.i18n import Translator
    from ui.web.server import serve

    class WatchedService(Service):
        def state(self) -> ModelState:
            state = super().state()
            (HOME / "worker.pid").write_text(str(state.worker_pid or ""), encoding="utf-8")
            return state

    settings = load_settings({**os.environ, "SNUG_HOME": str(HOME)})
    engine = sys.argv[3] if len(sys.argv) > 3 else None
    with WatchedService(settings, engine=engine) as service:
        serve(service, settings, host="127.0.0.1", port=int(sys.argv[1]), open_browser=False,
              model="starter", preset=Preset.AUTO, say=Translator("en"))  # fmt: skip


if __name__ == "__main__":
    sys.addaudithook(watch_sockets)
    main()
