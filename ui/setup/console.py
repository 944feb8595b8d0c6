"""What a person sees on the console while setting up, and whether it closes when we end."""

import ctypes
import ntpath
import re
import shutil
import sys
import time


class Report:
    """One line a step on stderr, as stdout belongs to the command; a terminal also shows how far it is."""

    def __init__(self, verbose: bool = False) -> None:
        self.verbose = verbose
        self.live = bool(sys.stderr and sys.stderr.isatty())
        self.line, self.began = "", 0.0

    def write(self, text: str) -> None:
        """Print at once."""
        if sys.stderr:
            sys.stderr.write(text)
            sys.stderr.flush()

    def begin(self, line: str) -> None:
        """Name the step."""
        self.line, self.began = line, time.monotonic()
        self.write(line + " ...")

    def update(self, text: str) -> None:
        """Say how far the step is, where that can be overwritten."""
        if self.live:
            room = max(20, shutil.get_terminal_size().columns - 1)
            self.write("\r" + f"{self.line} ... {text}"[:room].ljust(room))

    def quote(self, line: str) -> None:
        """Show what the installer said to a person who asked for it."""
        if self.verbose:
            self.write("\n    " + line.rstrip())

    def end(self, word: str = "done") -> None:
        """Close the step's line."""
        text = f"{word} ({time.monotonic() - self.began:.0f} s)"
        self.update(text)
        self.write("\n" if self.live else f" {text}\n")


def progress_of(line: str, context: str) -> tuple[str, str]:
    """Turn a line of pip's output into what a person sees, and the download it is about."""
    words = line.split()
    if line.startswith("Progress ") and len(words) == 4 and words[3].isdigit() and int(words[3]):
        return f"{context} {int(words[1]) / int(words[3]):.0%} of {int(words[3]) / 1e6:.0f} MB", context
    for start, say, end in (
        ("Collecting", "looking for ", r"[<>=!~;\[(]"),
        ("Downloading", "downloading ", "-"),
    ):
        if words[:1] == [start] and len(words) > 1:
            context = say + re.split(end, words[1].rpartition("/")[2])[0]
            return context, context
    if line.startswith("Installing collected packages: "):
        context = f"unpacking {line.count(',') + 1} packages"
    return context, context


def console_is_ours() -> bool:
    """Whether only Python sits on this Windows console: started by double-click, it closes when we end."""
    names: list[str] = []
    if sys.platform == "win32" and sys.stdin and sys.stdin.isatty():
        kernel = ctypes.windll.kernel32
        kernel.OpenProcess.restype = ctypes.c_void_p
        pids = (ctypes.c_uint32 * 32)()
        for pid in pids[: kernel.GetConsoleProcessList(pids, 32)]:
            name, size = ctypes.create_unicode_buffer(1024), ctypes.c_uint32(1024)
            process = ctypes.c_void_p(kernel.OpenProcess(0x1000, False, pid))  # noqa: FBT003 - a Windows call
            kernel.QueryFullProcessImageNameW(process, 0, name, ctypes.byref(size))
            kernel.CloseHandle(process)
            names.append(ntpath.basename(name.value))
    return only_python(names)


def only_python(names: list[str]) -> bool:
    """Whether all the programs on a console are Python or its launcher: no shell, so nobody reads on."""
    return bool(names) and all(re.match(r"(py|python[\d.]*)\.exe$", name, re.IGNORECASE) for name in names)


def keep_window(code: int) -> int:
    """Leave a person who double-clicked the time to read an error; 0xC000013A is Ctrl+C on Windows."""
    if code not in (0, 130, 0xC000013A) and console_is_ours():
        input("Press Enter to close this window.")
    return code
