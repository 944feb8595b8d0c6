"""The child process: receives commands on a thread of its own, runs the engine on the main thread."""

from __future__ import annotations

import contextlib
import faulthandler
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping
from io import TextIOWrapper
from multiprocessing.connection import Connection
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING

from backends.errors import Cancelled, InternalError, OutOfRam, SnugError
from backends.hardware.threads import enter
from backends.messages import Done, Event, TextDelta
from backends.settings import LEAVE_ROOM
from backends.text import Text
from backends.worker.allocator import give_large_blocks_back
from backends.worker.environment import show_gpus
from backends.worker.peak import RamPeak
from backends.worker.priority import give_way
from backends.worker.protocol import (
    Cancel,
    Chat,
    ChatEvents,
    Close,
    Command,
    Downward,
    Failed,
    Load,
    Loaded,
    LoadProgress,
    Memory,
    Move,
    Prime,
    PrimeDone,
    Ready,
    Replace,
    Upward,
)
from backends.worker.stages import stage_of

if TYPE_CHECKING:
    from backends.engines.base import Engine
    from backends.placement.types import Plan

LOG = logging.getLogger("snug.worker")

# How long an orphan may take to stop by itself once its parent is gone.
_ORPHAN_GRACE_S = 3.0

# A screen shows 60 pictures a second: answers that come faster than that travel in groups.
_GROUP_S = 1 / 60


def main(connection: Connection, engine: str, environment: Mapping[str, str], log: str) -> None:
    """Serve one parent until it says Close or is gone. The target of a spawned process."""
    enter(environment)
    if os.environ.get(LEAVE_ROOM) == "1":
        give_way()
    give_large_blocks_back()
    # Ctrl+C reaches every process of the terminal; the parent decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _write_to(Path(log))
    inbox = Inbox(connection)
    _Child(connection, engine, log, inbox).run()
    inbox.finished.set()
    # Taking an interpreter with native libraries apart takes time and can crash; the system does it better.
    with contextlib.suppress(OSError):  # a full disk
        sys.stdout.flush()
    os._exit(0)


def _write_to(log: Path) -> None:
    """Send everything that libraries print, and a native crash's stack, to the log."""
    file = log.open("a", encoding="utf-8", errors="replace", buffering=1)
    for standard in (1, 2):
        try:
            os.dup2(file.fileno(), standard)
        except OSError:  # a Windows program without a console has no standard streams
            continue
    sys.stdout = sys.stderr = file
    faulthandler.enable(file)
    _configure_logging(file)


def _configure_logging(file: TextIOWrapper) -> None:
    logging.basicConfig(
        stream=file, level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s", force=True
    )


class Inbox:
    """Reads the pipe while the engine works, so that Cancel and the parent's end are seen at once."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._work: SimpleQueue[tuple[Command, threading.Event] | None] = SimpleQueue()
        self._flags: dict[int, threading.Event] = {}
        self._lock = threading.Lock()
        self._busy = threading.Event()
        self.finished = threading.Event()
        threading.Thread(target=self._read, name="snug-inbox", daemon=True).start()

    def next(self) -> tuple[Command, threading.Event] | None:
        """Wait for the next task and its cancel flag; None when the process shall end."""
        return self._work.get()

    def until_work(self) -> threading.Event:
        """A flag that is set as soon as there is a task to carry out, or the process shall end."""
        with self._lock:
            self._busy = threading.Event()
            if not self._work.empty():
                self._busy.set()
            return self._busy

    def done(self, task: int) -> None:
        """Forget a task that has ended."""
        with self._lock:
            self._flags.pop(task, None)

    def _read(self) -> None:
        while True:
            try:
                command: Downward = self._connection.recv()
            except (EOFError, OSError):
                break
            self._take(command)
        # The parent is gone or has closed the pipe. Engines get a moment to clean up; native code that
        # does not return in that time is ended with the process.
        self._stop()
        if not self.finished.wait(_ORPHAN_GRACE_S):
            os._exit(1)

    def _take(self, command: Downward) -> None:
        match command:
            case Cancel(task):
                with self._lock:
                    flag = self._flags.get(task)
                if flag is not None:
                    flag.set()
            case Close():
                self._stop()
            case Load() | Move() | Chat() | Prime():
                flag = threading.Event()
                with self._lock:
                    self._flags[command.task] = flag
                self._put((command, flag))

    def _put(self, work: tuple[Command, threading.Event] | None) -> None:
        self._work.put(work)
        with self._lock:
            self._busy.set()

    def _stop(self) -> None:
        with self._lock:
            for flag in self._flags.values():
                flag.set()
        self._put(None)


class _Child:
    def __init__(self, connection: Connection, engine_name: str, log: str, inbox: Inbox) -> None:
        self._connection = connection
        self._engine_name = engine_name
        self._log = log
        self._inbox = inbox
        self._engine: Engine | None = None
        self._plan: Plan | None = None
        self._unrehearsed = False
        self._ram = RamPeak()

    def run(self) -> None:
        """Carry out tasks in order until there are no more."""
        self._send(Ready(os.getpid()))
        self._warm_up()
        while (work := self._inbox.next()) is not None:
            command, flag = work
            with self._ram.watched():
                self._carry_out(command, flag)
            self._inbox.done(command.task)
            if self._unrehearsed:
                self._rehearse()
        if self._engine is not None:
            self._engine.close()

    def _send(self, reply: Upward) -> None:
        try:
            self._connection.send(reply)
        except OSError:
            LOG.warning("The parent is gone; a reply was dropped.")

    def _warm_up(self) -> None:
        """Import the engine's libraries before anyone asks; a failure shows again at the load."""
        from backends.engines.registry import warm_up

        begun = time.perf_counter()
        try:
            warm_up(self._engine_name)
        except Exception:
            LOG.exception("Importing the engine %s failed.", self._engine_name)
        LOG.info("Engine %s imported in %.2f s.", self._engine_name, time.perf_counter() - begun)

    def _rehearse(self) -> None:
        """Spare the first answer what only the first one costs; a question ends it at once."""
        self._unrehearsed = False
        begun = time.perf_counter()
        try:
            self._loaded().rehearse(self._inbox.until_work())
        except SnugError as error:
            LOG.info("No rehearsal: %s", error)
        except Exception:
            LOG.exception("The rehearsal failed.")
        LOG.info("Rehearsed for %.2f s.", time.perf_counter() - begun)

    def _carry_out(self, command: Command, cancel: threading.Event) -> None:
        try:
            match command:
                case Load():
                    self._load(command, cancel)
                case Move():
                    self._move(command, cancel)
                case Chat():
                    self._chat(command, cancel)
                case Prime():
                    self._prime(command, cancel)
        except SnugError as error:
            LOG.info("%s failed: %s", type(command).__name__, error, exc_info=error)
            self._fail(command, error)
        except MemoryError:
            LOG.exception("Out of memory.")
            self._fail(command, self._out_of_ram(command))
        except Exception as error:
            LOG.exception("%s failed unexpectedly.", type(command).__name__)
            unexpected = InternalError(
                detail=Text.of(
                    "cli.unexpected", "An unexpected {kind} stopped it.", kind=type(error).__name__
                ),
                log=self._log,
            )
            self._fail(command, unexpected)

    def _fail(self, command: Command, error: SnugError) -> None:
        """Say that `command` failed, and whether that cost the model."""
        lost = isinstance(command, Move) and not (self._engine is not None and self._engine.loaded)
        self._send(Failed(command.task, error, lost))

    def _load(self, command: Load, cancel: threading.Event) -> None:
        from backends.engines.registry import create

        if cancel.is_set():
            raise Cancelled
        if not show_gpus(command.plan):
            self._send(Replace(command.task))
            return
        self._engine, self._plan = create(self._engine_name), command.plan
        report = self._engine.load(
            command.plan, lambda progress: self._send(LoadProgress(command.task, progress)), cancel
        )
        self._ram.begin()
        self._send(Loaded(command.task, report))
        self._unrehearsed = True

    def _move(self, command: Move, cancel: threading.Event) -> None:
        if cancel.is_set():
            raise Cancelled
        try:
            report = self._loaded().move(
                command.plan, lambda progress: self._send(LoadProgress(command.task, progress)), cancel
            )
        finally:
            # What moving itself took is no need of the answers, also where everything went back.
            self._ram.begin()
        self._plan = command.plan
        self._send(Loaded(command.task, report))

    def _chat(self, command: Chat, cancel: threading.Event) -> None:
        from backends.engines.base import ChatRequest

        request = ChatRequest(command.conversation, command.messages, command.sampling)
        outbox = Outbox(lambda events: self._send(ChatEvents(command.task, events)))
        event: Event | None = None
        try:
            for event in self._loaded().chat(request, cancel):
                if isinstance(event, Done):
                    self._tell_memory(command.task)
                outbox.add(event)
        finally:
            outbox.flush()
        if not isinstance(event, Done):
            raise InternalError(
                detail=Text("worker.no_end", "The engine ended an answer without saying so."), log=self._log
            )

    def _tell_memory(self, task: int) -> None:
        """Say what the devices have held; a measurement that fails spoils no answer."""
        try:
            peaks = tuple(self._ram.completed(peak) for peak in self._loaded().memory())
        except Exception:
            LOG.exception("The memory could not be measured.")
        else:
            self._send(Memory(task, peaks))

    def _prime(self, command: Prime, cancel: threading.Event) -> None:
        if not cancel.is_set():
            self._loaded().prime(command.conversation, command.messages, cancel)
        self._send(PrimeDone(command.task))

    def _loaded(self) -> Engine:
        if self._engine is None:
            raise InternalError(
                detail=Text("worker.no_model", "A question came before a model."), log=self._log
            )
        return self._engine

    def _out_of_ram(self, command: Command) -> OutOfRam:
        """Python's own MemoryError, with what the plan expected the task to need."""
        import psutil

        shares = [share for share in self._plan.devices if share.device == "cpu"] if self._plan else []
        needed = sum(share.total_bytes for share in shares)
        return OutOfRam(
            stage=stage_of(command), needed_bytes=needed, free_bytes=psutil.virtual_memory().available
        )


class Outbox:
    """Groups text that comes faster than a screen shows it; everything else leaves at once.

    A piece of text waits for the next event at most: the first one after a pause is never held back.
    """

    def __init__(
        self, send: Callable[[tuple[Event, ...]], None], clock: Callable[[], float] = time.perf_counter
    ) -> None:
        self._send = send
        self._clock = clock
        self._text: list[str] = []
        self._sent = float("-inf")

    def add(self, event: Event) -> None:
        """Send `event` now, or keep its text for the next group."""
        if not isinstance(event, TextDelta):
            self._leave(event)
            return
        self._text.append(event.text)
        if self._clock() - self._sent >= _GROUP_S:
            self._leave()

    def flush(self) -> None:
        """Send what is left."""
        if self._text:
            self._leave()

    def _leave(self, last: Event | None = None) -> None:
        text = (TextDelta("".join(self._text)),) if self._text else ()
        self._text.clear()
        self._send(text if last is None else (*text, last))
        self._sent = self._clock()
