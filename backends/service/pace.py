"""How long a stage of a load still takes, by how fast its bytes or steps went so far."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

from backends.messages import IN_BYTES, Progress

# What is looked back at: a disk or a busy machine changes its speed, and the first moments tell little.
_WINDOW_S, _LEAST_S = 10.0, 1.0
_IN_STEPS = "comparing"


class Pace:
    """Follows the progress of one load; `clock` gives seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._stage = ""
        self._began = clock()
        self._seen: deque[tuple[float, int]] = deque()

    def left(self, progress: Progress) -> float | None:
        """Seconds until the stage's last byte or step; None where these are not counted, or for too short."""
        now = self._clock()
        if progress.stage != self._stage:
            self._stage, self._began = progress.stage, now
            self._seen.clear()
        if progress.stage == _IN_STEPS:
            return self._steps_left(progress, now)
        if progress.stage not in IN_BYTES or not progress.total:
            return None
        # A stage may count anew, as a second try does.
        if self._seen and progress.done < self._seen[-1][1]:
            self._seen.clear()
        self._seen.append((now, progress.done))
        # One that is older than the window stays, so that it is covered.
        while len(self._seen) > 2 and now - self._seen[1][0] >= _WINDOW_S:
            self._seen.popleft()
        began, first = self._seen[0]
        took, went = now - began, progress.done - first
        if took < _LEAST_S or went <= 0:
            return None
        return took * max(0, progress.total - progress.done) / went

    @property
    def lasted(self) -> float:
        """Seconds since the stage began that was told of last."""
        return self._clock() - self._began

    def _steps_left(self, progress: Progress, now: float) -> float | None:
        """By the steps after the first, which is of another kind: it imports libraries.

        None while none of these is done, and while one takes longer than those before it.
        """
        if self._seen and progress.done < self._seen[-1][1]:
            self._seen.clear()
        if progress.done and (not self._seen or progress.done > self._seen[-1][1]):
            self._seen.append((now, progress.done))
        if len(self._seen) < 2:
            return None
        (began, first), (reached, last) = self._seen[0], self._seen[-1]
        left = (reached - began) / (last - first) * (progress.total - last) - (now - reached)
        return left if left > 0 else None
