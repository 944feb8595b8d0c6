"""How long a stage still takes, told from how fast its bytes went."""

from __future__ import annotations

import pytest

from backends.messages import Progress
from backends.service.pace import Pace


class Clock:
    """Seconds that a test sets."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def told(*steps: tuple[float, str, int, int]) -> list[float | None]:
    """What is said after each (seconds since the last, stage, done, total)."""
    clock = Clock()
    pace = Pace(clock)
    said = []
    for seconds, stage, done, total in steps:
        clock.now += seconds
        left = pace.left(Progress(stage, done, total))  # type: ignore[arg-type]
        said.append(None if left is None else round(left, 2))
    return said


@pytest.mark.parametrize(
    ("steps", "said"),
    [
        ([(0, "converting", 0, 100), (2, "converting", 20, 100)], [None, 8.0]),
        ([(0, "converting", 0, 100), (0.5, "converting", 20, 100)], [None, None]),
        ([(0, "converting", 0, 100), (5, "converting", 0, 100)], [None, None]),
        ([(0, "converting", 0, 0), (5, "converting", 0, 0)], [None, None]),
        ([(0, "comparing", 0, 4), (5, "comparing", 1, 4), (9, "comparing", 1, 4)], [None, None, None]),
        ([(0, "comparing", 0, 4), (9, "comparing", 1, 4), (3, "comparing", 2, 4)], [None, None, 6.0]),
        (
            [(9, "comparing", 1, 4), (3, "comparing", 2, 4), (1, "comparing", 2, 4), (6, "comparing", 2, 4)],
            [None, 6.0, 5.0, None],
        ),
        ([(9, "comparing", 1, 4), (3, "comparing", 3, 4), (9, "comparing", 0, 4)], [None, 1.5, None]),
        ([(0, "converting", 50, 100), (2, "converting", 60, 100)], [None, 8.0]),
        ([(0, "read", 0, 100), (2, "read", 50, 100), (2, "converting", 5, 100)], [None, 2.0, None]),
        (
            [(0, "converting", 0, 100), (2, "converting", 90, 100), (2, "converting", 5, 100)],
            [None, 0.22, None],
        ),
        ([(0, "converting", 0, 100), (4, "converting", 100, 100)], [None, 0.0]),
    ],
    ids=[
        "as fast as so far",
        "the first moment tells little",
        "nothing has moved",
        "no total",
        "a comparison's first step is of another kind",
        "its steps tell of each other",
        "time goes on within a step, until it takes longer than those before",
        "a comparison that begins anew",
        "what was there already does not count",
        "each stage has its own pace",
        "a second try counts anew",
        "the end",
    ],
)
def test_time_left(steps: list[tuple[float, str, int, int]], said: list[float | None]) -> None:
    assert told(*steps) == said


def test_a_stage_that_slows_down_is_judged_by_its_last_seconds() -> None:
    fast = [(1.0, "converting", 100 * step, 10_000) for step in range(11)]
    slow = [(1.0, "converting", 1000 + 10 * step, 10_000) for step in range(1, 21)]
    assert told(*fast)[-1] == 90.0
    assert told(*fast, *slow)[-1] == 880.0


def test_how_long_a_stage_has_lasted() -> None:
    clock = Clock()
    pace = Pace(clock)
    pace.left(Progress("comparing", 0, 0))
    clock.now += 4
    pace.left(Progress("comparing", 1, 4))
    assert pace.lasted == 4
    pace.left(Progress("converting", 0, 9))
    assert pace.lasted == 0
