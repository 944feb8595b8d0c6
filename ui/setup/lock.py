"""Keeps two starts from installing into one environment."""

import os
import sys
import time
from typing import Self

from ui.setup.console import Report
from ui.setup.places import LOCK
from ui.setup.problems import Problem


class Lock:
    """One installation at a time; children inherit the lock, so it lasts while one left behind works."""

    def __init__(self, folder: str, report: Report) -> None:
        try:
            os.makedirs(folder, exist_ok=True)
            self.file = open(os.path.join(folder, LOCK), "a+", encoding="utf-8")  # noqa: SIM115 - until closed
        except OSError as error:
            why = f"{folder} can't be written ({error.strerror})"
            remedy = "name a folder that can be written in SNUG_VENV"
            raise Problem("the environment can't be made", why, remedy) from error
        waiting = False
        while not self.take():
            if not waiting:
                report.write("Another start of Snug is installing; waiting for it.\n")
            waiting = True
            time.sleep(0.3)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()

    def take(self) -> bool:
        """Try once; the system gives the lock back when its owners end, however they end."""
        try:
            if sys.platform == "win32":
                import msvcrt

                self.file.seek(0)
                msvcrt.locking(self.file.fileno(), msvcrt.LK_NBLCK, 1)
            else:
                import fcntl

                fcntl.flock(self.file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        return True
