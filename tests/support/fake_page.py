"""Serves the page on the in-memory service: `python -m tests.support.fake_page PORT HOME [cpu]`."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path

from backends.presets import Preset
from tests.support.fake_service import CPU_MACHINE, GPU_MACHINE, FakeService, fake_settings
from ui.i18n import Translator
from ui.web.server import serve

if __name__ == "__main__":
    settings = fake_settings(Path(sys.argv[2]))
    machine = CPU_MACHINE if "cpu" in sys.argv[3:] else GPU_MACHINE
    service = FakeService(settings, machine=machine)
    with contextlib.suppress(KeyboardInterrupt):
        serve(service, settings, host="127.0.0.1", port=int(sys.argv[1]), open_browser=False, model="starter",
              preset=Preset.AUTO, say=Translator("en"))  # fmt: skip
    sys.exit(130)
