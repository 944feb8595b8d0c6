"""Whose number of threads counts in a child process: Snug's, not one that its terminal happens to have."""

from __future__ import annotations

import os
from collections.abc import Mapping, MutableMapping

# Shells, notebooks and other programs set these for themselves. A 1 that is left over there would make a
# model several times slower, a number of hyperthreads a bit.
_COUNTS = (
    *("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "OMP_THREAD_LIMIT"),
    "VECLIB_MAXIMUM_THREADS",
)


def enter(environment: Mapping[str, str], environ: MutableMapping[str, str] = os.environ) -> None:
    """Take `environment` over into this process, before anything that computes is imported.

    Numbers of threads that were inherited go: those in `environment`, which settings of Snug's give, stand
    alone, and without them engines count the cores that affinity and a quota leave.
    """
    for name in _COUNTS:
        environ.pop(name, None)
    environ.update(environment)
