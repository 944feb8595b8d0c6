"""How long something takes at best: other programs only ever make a run slower."""

from __future__ import annotations

import math
import time
from collections.abc import Callable


def shortest(run: Callable[[], object], seconds: float) -> float:
    """Return the shortest duration of `run` in seconds, tried for `seconds` and at least twice."""
    least, tries, end = math.inf, 0, time.perf_counter() + seconds
    while tries < 2 or time.perf_counter() < end:
        start = time.perf_counter()
        run()
        least = min(least, time.perf_counter() - start)
        tries += 1
    return least
