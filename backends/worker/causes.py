"""Why a child process ended, in plain words, from its exit code and the end of its log."""

from __future__ import annotations

import re

from backends.text import Text
from backends.worker.logs import last_exception

_SIGNALS = {
    4: Text("worker.cause.illegal", "The processor met an instruction that it does not know (signal 4)."),
    6: Text("worker.cause.abort", "A library gave up (signal 6)."),
    7: Text("worker.cause.bus", "A file or memory it was reading went away (signal 7)."),
    9: Text("worker.cause.killed", "The system ended it (signal 9), often because memory ran out."),
    11: Text("worker.cause.segfault", "A library read memory that is not its own (signal 11)."),
    15: Text("worker.cause.terminated", "Another program ended it (signal 15)."),
}

# NTSTATUS values that Windows gives as exit codes (winnt.h / ntstatus.h).
_NTSTATUS = {
    0xC0000005: Text("worker.cause.segfault_windows", "A library read memory that is not its own."),
    0xC0000017: Text("worker.cause.no_memory", "Windows had no memory left for it."),
    0xC000001D: Text("worker.cause.illegal_windows", "The processor met an instruction it does not know."),
    0xC000012D: Text("worker.cause.page_file", "Windows' page file is too small for it."),
    0xC0000409: Text("worker.cause.abort_windows", "A library gave up."),
    0xC000013A: Text("worker.cause.console", "Its console window was closed."),
    0xC0000135: Text("worker.cause.dll", "A system library that it needs is missing."),
}

# Exit codes of a process that ended because no memory was left.
_NO_MEMORY = frozenset({0xC0000017, 0xC000012D})
_KILLED = -9

# What bitsandbytes prints before it ends the process: it raises nothing.
_NO_KERNEL = re.compile(
    r"^Error no kernel image is available\b.* at line \d+ in file .*\bcsrc\b", re.MULTILINE
)

_MEMORY_ERRORS = frozenset({"MemoryError", "OutOfMemoryError"})


def ran_out_of_ram(exit_code: int | None, log_tail: str, *, oom_kills: int) -> bool:
    """Whether a process ended because main memory was used up.

    `oom_kills` is how many processes the kernel has ended for that since the task began: a process that
    anybody may have killed is not counted as one without it.
    """
    if exit_code is None:
        return False
    if exit_code < 0:
        return exit_code == _KILLED and oom_kills > 0
    if exit_code & 0xFFFFFFFF in _NO_MEMORY:
        return True
    return exit_code > 0 and last_exception(log_tail) == "MemoryError"


def lacked_kernels(exit_code: int | None, log_tail: str) -> bool:
    """Whether bitsandbytes ended a process because it has no code for the GPU."""
    return exit_code is not None and exit_code > 0 and _NO_KERNEL.search(log_tail) is not None


def why_it_ended(exit_code: int | None, log_tail: str) -> Text:
    """Name the cause of an unasked end; never raw output.

    `exit_code` is multiprocessing's: negative for a POSIX signal, None when the system did not tell.
    """
    if exit_code is None:
        return Text("worker.cause.unknown", "The system did not say why.")
    if exit_code < 0:
        other = Text.of("worker.cause.signal", "It was ended by signal {signal}.", signal=-exit_code)
        return _SIGNALS.get(-exit_code, other)
    if exit_code & 0xFFFFFFFF in _NTSTATUS:
        return _NTSTATUS[exit_code & 0xFFFFFFFF]
    kind = last_exception(log_tail)
    if kind in _MEMORY_ERRORS:
        return Text("worker.cause.memory", "It ran out of memory.")
    if kind is not None:
        return Text.of(
            "worker.cause.exception", "It stopped with an unexpected {kind}; its log has more.", kind=kind
        )
    return Text.of(
        "worker.cause.exit", "It ended with code {exit_code}; its log may say more.", exit_code=exit_code
    )
