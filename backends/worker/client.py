"""The parent's side of one child process: spawn, submit tasks, notice its end, never leave it behind."""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path

import psutil

from backends.errors import KernelsMissing, NotLoaded, RamKilled, SnugError, WorkerCrashed, WorkerHung
from backends.hardware.cgroup import oom_kills
from backends.messages import Done, Message, SamplingParams
from backends.placement.types import Plan
from backends.text import Text
from backends.worker.causes import lacked_kernels, ran_out_of_ram, why_it_ended
from backends.worker.logs import tail
from backends.worker.process import main
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
    TaskReply,
    Upward,
)
from backends.worker.stages import CONVERTING, IDLE, LOADING, MOVING, STARTING, stage_now, stage_of
from backends.worker.task import Task, stop_timer

LOG = logging.getLogger("snug.client")

# What a load may be at; broken off, it ends its process anyway.
_OF_A_LOAD = (LOADING.code, CONVERTING.code)


@dataclass(frozen=True, slots=True)
class Patience:
    """How many seconds to wait before a child is given up.

    `ready_s` covers a slow disk and a virus scanner on the first start; `cancel_s` the longest single
    call into native code (a long prefill on a slow CPU) that can't be interrupted; `cancel_load_s` is
    short because a broken-off load ends its process anyway; `cancel_move_s` covers the way back of what was
    moved, from a slow disk; `close_s` covers the clean-up.
    """

    ready_s: float = 120.0
    cancel_s: float = 30.0
    cancel_load_s: float = 5.0
    cancel_move_s: float = 120.0
    close_s: float = 5.0


class WorkerClient:
    """One child process. It starts at once; tasks sent before it is ready wait in its pipe.

    `on_exit` is called once, on the listener's thread, when the process ends unasked, before any task
    learns of it. Methods may be called from any thread.
    """

    def __init__(
        self,
        engine: str,
        environment: Mapping[str, str],
        log: Path,
        *,
        on_exit: Callable[[WorkerClient, SnugError], None] = lambda _client, _error: None,
        patience: Patience = Patience(),
    ) -> None:
        self.engine = engine
        self.log = log
        self._on_exit = on_exit
        self._patience = patience
        self._lock = threading.Lock()
        self._send_lock = threading.Lock()
        self._tasks: dict[int, Task] = {}
        self._next_task = 0
        self._closing = False
        self._failure: SnugError | None = None
        self._hung: tuple[Text, float] | None = None
        self._plan: Plan | None = None  # what the process holds, or is loading
        self._asked: Plan | None = None  # what it shall hold next
        self._oom_kills = oom_kills()
        self._ready = threading.Event()
        self._gone = threading.Event()
        self._connection, self._process = _spawn(engine, environment, log)
        assert self._process.pid is not None
        self.pid = self._process.pid
        self._sentinel = self._process.sentinel
        self._start_limit = threading.Timer(patience.ready_s, self._give_up, (STARTING, patience.ready_s))
        self._start_limit.daemon = True
        self._start_limit.start()
        self._listener = threading.Thread(target=self._listen, name="snug-worker", daemon=True)
        self._listener.start()

    @property
    def alive(self) -> bool:
        """Whether the process runs and takes tasks."""
        return not self._gone.is_set() and not self._closing

    @property
    def busy(self) -> bool:
        """Whether a task is under way or waits."""
        with self._lock:
            return bool(self._tasks)

    @property
    def failure(self) -> SnugError | None:
        """Why the process ended, once it has."""
        with self._lock:
            return self._failure

    def load(self, plan: Plan) -> Task:
        """Start loading; the task gives `Progress` and then has a `report`, or `replace` set."""
        self._plan = self._asked = plan
        return self._submit(lambda number: Load(number, plan))

    def move(self, plan: Plan) -> Task:
        """Start rearranging the loaded model; the task gives `Progress` and then has a `report`.

        When it raises with the process alive, the model answers as before, unless the task says `lost`.
        """
        self._asked = plan
        return self._submit(lambda number: Move(number, plan))

    def chat(self, conversation: str, messages: Sequence[Message], sampling: SamplingParams) -> Task:
        """Start an answer; the task gives its events, `Done` last."""
        return self._submit(lambda number: Chat(number, conversation, tuple(messages), sampling))

    def prime(
        self, conversation: str, messages: Sequence[Message], *, on_end: Callable[[Task], None]
    ) -> Task:
        """Start preparing a conversation; `on_end` is called on the listener's thread."""
        return self._submit(lambda number: Prime(number, conversation, tuple(messages)), on_end)

    def close(self) -> None:
        """End the process: first by asking, then by telling, then by force. Returns when it is gone."""
        with self._lock:
            self._closing = True
            untouched = self._next_task == 0
        if untouched:
            self._process.terminate()  # it may be in the middle of an import, with nothing to clean up
        self._send(Close())
        if not self._gone.wait(self._patience.close_s):
            LOG.warning("Worker %d did not close in time.", self.pid)
            self._process.terminate()
            if not self._gone.wait(self._patience.close_s):
                self._process.kill()
                self._gone.wait()
        if threading.current_thread() is not self._listener:
            self._listener.join()

    def kill(self) -> None:
        """End the process by force, as something that was not asked for."""
        self._process.kill()

    def _submit(
        self, command: Callable[[int], Command], on_end: Callable[[Task], None] | None = None
    ) -> Task:
        with self._lock:
            if self._failure is not None:
                raise self._failure
            if self._closing:
                raise NotLoaded
            number = self._next_task
            self._next_task += 1
            self._oom_kills = oom_kills()
            message = command(number)
            task = Task(number, stage_of(message), self._cancel, on_end)
            self._tasks[number] = task
        self._send(message)
        return task

    def _send(self, message: Downward) -> None:
        # A pipe without a reader means that the process is ending; the listener tells why.
        with self._send_lock, contextlib.suppress(OSError):
            self._connection.send(message)

    def _cancel(self, task: Task) -> None:
        patience = self._patience
        special = {
            **dict.fromkeys(_OF_A_LOAD, patience.cancel_load_s),
            MOVING.code: patience.cancel_move_s,
        }
        seconds = special.get(task.stage.code, patience.cancel_s)
        task.limit(seconds, lambda: self._give_up(task.stage, seconds))
        self._send(Cancel(task.number))

    def _give_up(self, stage: Text, seconds: float) -> None:
        LOG.error("Worker %d does not react while %s; it is ended.", self.pid, stage)
        self._hung = (stage, seconds)
        self.kill()

    def _listen(self) -> None:
        try:
            while (reply := self._next_reply()) is not None:
                if isinstance(reply, Ready):
                    stop_timer(self._start_limit)
                    self._ready.set()
                elif (task := self._tasks.get(reply.task)) is not None:
                    self._handle(task, reply)
        finally:
            self._ended()

    def _next_reply(self) -> Upward | None:
        """Wait for the child's next word; None once it has ended."""
        try:
            # What the child said before it ended is still in the pipe: read that first.
            if (
                self._connection not in wait([self._connection, self._sentinel])
                and not self._connection.poll()
            ):
                return None
            reply: Upward = self._connection.recv()
        except (EOFError, OSError):
            return None
        return reply

    def _handle(self, task: Task, reply: TaskReply) -> None:
        match reply:
            case LoadProgress():
                task.stage = stage_now(task.stage, reply.progress)
                task.give(reply.progress)
            case ChatEvents():
                for event in reply.events:
                    task.give(event)
                if isinstance(reply.events[-1], Done):
                    self._finish(task)
            case Memory():
                task.memory = reply.peaks
            case Loaded():
                task.report, self._plan = reply.report, self._asked
                self._finish(task)
            case Replace():
                task.replace = True
                self._finish(task)
            case PrimeDone():
                self._finish(task)
            case Failed():
                task.lost = reply.lost
                self._finish(task, reply.error)

    def _finish(self, task: Task, error: SnugError | None = None) -> None:
        with self._lock:
            self._tasks.pop(task.number, None)
        task.end(error)

    def _ended(self) -> None:
        stop_timer(self._start_limit)
        exit_code = _exit_code(self._process)
        with self._lock:
            closing, pending = self._closing, list(self._tasks.values())
            self._tasks.clear()
            stage = pending[0].stage if pending else (IDLE if self._ready.is_set() else STARTING)
            failure = NotLoaded() if closing else self._why(stage, exit_code)
            self._failure = failure
        self._gone.set()
        if not closing:
            LOG.error("Worker %d ended: %s", self.pid, failure)
            self._on_exit(self, failure)
        for task in pending:
            task.end(failure)
        with self._send_lock:
            self._connection.close()

    def _why(self, stage: Text, exit_code: int | None) -> SnugError:
        if self._hung is not None:
            hung_stage, seconds = self._hung
            return WorkerHung(stage=hung_stage, seconds=seconds)
        said = tail(self.log)
        if ran_out_of_ram(exit_code, said, oom_kills=oom_kills() - self._oom_kills):
            shares = self._plan.devices if self._plan is not None else ()
            return RamKilled(
                stage=stage,
                needed_bytes=sum(share.total_bytes for share in shares if share.device == "cpu"),
                free_bytes=psutil.virtual_memory().available,
            )
        if lacked_kernels(exit_code, said):
            gpus = self._plan.visible_gpus if self._plan is not None else ()
            return KernelsMissing(
                device=f"GPU {gpus[0]}" if len(gpus) == 1 else Text("engine.a_gpu", "A GPU")
            )
        return WorkerCrashed(stage=stage, detail=why_it_ended(exit_code, said))


def _spawn(engine: str, environment: Mapping[str, str], log: Path) -> tuple[Connection, BaseProcess]:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=True)
    # daemon: multiprocessing ends it when this interpreter exits, whatever happens.
    process = context.Process(
        target=main, args=(theirs, engine, dict(environment), str(log)), name="snug-model", daemon=True
    )
    try:
        with _without_interrupts():
            process.start()
    except OSError as error:
        ours.close()
        LOG.exception("No process could be started.")
        reason = Text("worker.cause.not_started", "The system could not start another process.")
        raise WorkerCrashed(stage=STARTING, detail=reason) from error
    except KeyboardInterrupt:
        ours.close()  # the child ends with its pipe
        raise
    finally:
        theirs.close()
    return ours, process


@contextlib.contextmanager
def _without_interrupts() -> Iterator[None]:
    """Keep Ctrl+C from a child that has not yet learnt to ignore it (a blocked signal is inherited)."""
    with _interrupted_afterwards():
        if sys.platform == "win32":
            yield
            return
        from multiprocessing import resource_tracker  # POSIX only

        resource_tracker.ensure_running()  # the first start would do it, and unblocks the signal afterwards
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            yield
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextlib.contextmanager
def _interrupted_afterwards() -> Iterator[None]:
    """Let Ctrl+C raise what it raises after the block: a child that is half started shows a traceback.

    Blocking the signal is not enough: the system gives it to any other thread, of a library's for one, and
    Python raises in the main thread all the same.
    """
    before = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or before is None:
        yield
        return
    heard: list[int] = []
    signal.signal(signal.SIGINT, lambda number, _frame: heard.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        if heard:
            signal.raise_signal(signal.SIGINT)


def _exit_code(process: BaseProcess) -> int | None:
    """Reap the process; one that closed its pipe and lives on is ended."""
    process.join(5.0)
    if process.exitcode is None:
        process.kill()
        process.join(5.0)
    return process.exitcode
