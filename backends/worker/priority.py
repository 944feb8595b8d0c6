"""Lets other programs go first, where a person wants to go on working while a model answers."""

from __future__ import annotations

import logging
import sys

import psutil

LOG = logging.getLogger("snug.worker")
_NICE = 10


def give_way(process: psutil.Process | None = None) -> bool:
    """Lower the priority of this process; False where the system does not let it."""
    process = process or psutil.Process()
    try:
        # Only a lower one: whoever started Snug may have chosen one already.
        if sys.platform == "win32":
            process.nice(psutil.BELOW_NORMAL_PRIORITY_CLASS)
        elif process.nice() < _NICE:
            process.nice(_NICE)
    except (psutil.Error, OSError) as error:
        LOG.warning("The priority stays as it is: %s", error)
        return False
    return True
