"""Programs that a test starts, ended with everything that they have started themselves.

A grandchild that outlives its parent keeps the pipe open that a test reads, and with it the whole run: it is
found by a variable that every program passes on to what it starts, also when its parent has long gone.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil

MARK = "SNUG_TEST_PROGRAM"


class Program(subprocess.Popen[str]):
    """A program and its descendants."""

    def __init__(
        self, command: Sequence[str], *, cwd: Path, env: Mapping[str, str] | None = None, **options: Any
    ) -> None:
        self._mark = uuid.uuid4().hex
        self._readers: list[threading.Thread] = []
        marked = {**(os.environ if env is None else env), MARK: self._mark}
        super().__init__(command, cwd=cwd, env=marked, text=True, encoding="utf-8", **options)

    def family(self) -> list[psutil.Process]:
        """Itself and what it or its descendants started, as far as they still run."""
        found = []
        for one in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if one.pid == self.pid or one.environ().get(MARK) == self._mark:
                    found.append(one)
        return [one for one in found if one.is_running() and one.status() != psutil.STATUS_ZOMBIE]

    def read_lines(self, take: Callable[[str], None], *, at_end: Callable[[], None]) -> None:
        """Hand over each line of its output, in a thread of their own."""
        stdout = self.stdout
        assert stdout is not None

        def read() -> None:
            for line in stdout:
                take(line)
            at_end()

        reader = threading.Thread(target=read, daemon=True)
        self._readers.append(reader)
        reader.start()

    def end(self, patience_s: float = 20) -> list[str]:
        """End it as a service manager does; what had to be killed is returned: nobody may be left behind."""
        self.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.wait(patience_s)
        _, alive = psutil.wait_procs(self.family(), timeout=patience_s)
        left = [f"{one.pid} {' '.join(one.cmdline())}" for one in alive if one.is_running()]
        self.finish()
        return left

    def finish(self) -> None:
        """Kill what still runs; only then is nobody left who could hold a pipe, and the pipes are closed."""
        while family := self.family():
            for one in family:
                with contextlib.suppress(psutil.NoSuchProcess):
                    one.kill()
            psutil.wait_procs(family, timeout=20)
        self.wait(20)
        for reader in self._readers:
            reader.join(20)
            assert not reader.is_alive(), "somebody outside the family writes to the program's output"
        for pipe in (self.stdin, self.stdout, self.stderr):
            if pipe is not None and not pipe.closed:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()


@contextlib.contextmanager
def hearing_ctrl_c() -> Iterator[None]:
    """Have this process hear Ctrl+C, and what is started inside the block.

    A shell starts what runs in its background deaf to it, and deafness is inherited.
    """
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextlib.contextmanager
def running(command: Sequence[str], **options: Any) -> Iterator[Program]:
    """A program that has ended, with its descendants, when the block has; it may end before by itself."""
    program = Program(command, **options)
    try:
        yield program
    finally:
        program.finish()
