"""The page on a pretended machine with two GPUs: `python -m tests.support.planned_page PORT HOME`.

Plans are real, of models of published shapes (headers only, written into HOME/models) and of tiny ones in
their authors' layouts; the engine that "loads" them is the fake one, and HOME/worker.pid holds its process.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.support import checkpoints, machines, served_page

FIXTURES = Path(__file__).resolve().parents[1] / "fixtures"

HOME = Path(sys.argv[2]) if len(sys.argv) > 2 else Path()
HARDWARE = machines.machine(
    machines.gpu(0, "NVIDIA GeForce RTX 3060", 12, memory_gbps=360.0, tflops_bf16=25.5),
    machines.gpu(1, "NVIDIA GeForce RTX 3060", 12, memory_gbps=360.0, tflops_bf16=25.5),
    ram=32,
)


def main() -> None:
    from backends.hardware.types import HardwareSnapshot
    from backends.presets import Preset
    from backends.service import ModelState, Service
    from backends.service.machine import Machine
    from backends.settings import load_settings
    from ui.i18n import Translator
    from ui.web.server import serve

    class PretendedMachine(Machine):
        def snapshot(self, ours: Sequence[int] = (), *, fresh: bool = False) -> HardwareSnapshot:
            return HARDWARE

        def usable(self, ours: Sequence[int] = ()) -> HardwareSnapshot:
            return HARDWARE

        def calibrate(self) -> None:
            """There is nothing to measure."""

    class PretendedService(Service):
        def __init__(self) -> None:
            super().__init__(settings, engine="fake", preload=False)
            self._machine.__class__ = PretendedMachine

        def state(self) -> ModelState:
            state = super().state()
            (HOME / "worker.pid").write_text(str(state.worker_pid or ""), encoding="utf-8")
            return state

    folder = HOME / "models"
    checkpoints.llava_15_7b(folder / "llava-1.5-7b")
    checkpoints.llava_15_7b(folder / "llava-slow-move")
    for how in ("slow", "stuck", "unfit", "full-disk"):
        checkpoints.llava_15_7b(folder / f"llava-{how}-conversion")
    checkpoints.qwen25_vl_7b(folder / "qwen2.5-vl-7b")
    checkpoints.llama(folder / "text-6b")
    # In their authors' layouts: a LoRA with what it leans on, one without a tokenizer, one that only reads.
    shutil.copytree(FIXTURES / "llava-v1.5-lora" / "checkpoint", folder, dirs_exist_ok=True)
    shutil.copytree(FIXTURES / "cogvlm-chat" / "checkpoint" / "cogvlm-chat-hf-tiny", folder / "cogvlm-tiny")
    shutil.copytree(FIXTURES / "chatglm3-6b" / "checkpoint" / "chatglm3-6b-tiny", folder / "chatglm3-tiny")
    settings = load_settings({**os.environ, "SNUG_HOME": str(HOME)})
    with PretendedService() as service:
        serve(service, settings, host="127.0.0.1", port=int(sys.argv[1]), open_browser=False,
              model="starter", preset=Preset.AUTO, say=Translator("en"))  # fmt: skip


if __name__ == "__main__":
    served_page.HOME = HOME
    sys.addaudithook(served_page.watch_sockets)
    main()
