"""What a case of `benchmarks.memory_cpu` found, and the table of all cases."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from backends.placement.types import DeviceShare, Plan
from benchmarks.report import Row

MEMORY_SHARE, MEMORY_BYTES, SPEED_SHARE = 0.10, 150e6, 0.25
MIB = 1024**2


@dataclass(frozen=True, slots=True)
class Measured:
    """Bytes and seconds of one case, predicted and measured.

    `finished` is None where it was not limited, measured speeds are where it was not timed.
    """

    name: str
    parameters: int
    prompt_tokens: int
    predicted_peak: int
    measured_peak: int
    predicted_load_peak: int
    measured_load_peak: int
    predicted_first_s: float
    measured_first_s: float | None
    predicted_tokens_per_s: float
    measured_tokens_per_s: float | None
    predicted_load_s: float
    measured_load_s: float
    parts: dict[str, int]
    held: dict[str, int]
    limit: str | None = None
    finished: bool | None = None

    @property
    def memory_error(self) -> int:
        """Predicted less measured, of the larger of load and answer."""
        return max(self.predicted_peak, self.predicted_load_peak) - max(
            self.measured_peak, self.measured_load_peak
        )

    def memory_met(self, untouched: int = 0) -> bool:
        """Whether the error is within the goal, with `untouched` more bytes measured."""
        measured = max(self.measured_peak + untouched, self.measured_load_peak)
        stated = max(self.predicted_peak, self.predicted_load_peak)
        return abs(stated - measured) <= max(MEMORY_SHARE * measured, MEMORY_BYTES)


def untouched(found: Plan, ram: DeviceShare, resident: int) -> int:
    """Bytes of weights that are used from their mapped files and that no question has touched yet.

    Only half precision is: float32 is converted into memory of its own.
    """
    return max(0, ram.weights_bytes - max(0, resident)) if found.precision == "bf16" else 0


def speed_met(predicted: float, measured: float | None) -> bool:
    """Whether a prediction is within the goal."""
    return measured is not None and abs(predicted - measured) <= SPEED_SHARE * measured


def rows(found: Sequence[Measured], failed: int) -> list[Row]:
    """The table: how many cases meet each goal, and the worst one; `failed` ones meet none."""
    worst = max(found, key=lambda one: abs(one.memory_error) / max(one.measured_peak, 1))
    total = len(found) + failed
    memory = sum(one.memory_met() for one in found)
    counted = sum(one.memory_met(one.held["untouched"]) for one in found)
    limited_runs = [one for one in found if one.finished is not None]
    finished = sum(one.finished is True for one in limited_runs)
    firsts = [speed_met(one.predicted_first_s, one.measured_first_s) for one in found]
    speeds = [speed_met(one.predicted_tokens_per_s, one.measured_tokens_per_s) for one in found]
    under = min((one.memory_error for one in found), default=0)
    return [
        Row(
            "CPU cases whose predicted peak RAM is within 10 % or 150 MB of the measured one",
            f"{memory} of {total}",
            "all",
            memory == total,
        ),
        Row("the same with the mapped weights counted that no question has touched", f"{counted} of {total}"),
        Row("the furthest off", f"{worst.name}: {worst.memory_error / 1e6:+.0f} MB"),
        Row("the furthest below the measured peak", f"{under / 1e6:+.0f} MB"),
        Row(
            "cases that finish with the predicted peak as a hard limit",
            f"{finished} of {len(limited_runs) + failed}",
            "all",
            finished == len(limited_runs) + failed,
        ),
        Row("tokens/s within 25 %", f"{sum(speeds)} of {total}", "all", sum(speeds) == total),
        Row("first token within 25 %", f"{sum(firsts)} of {total}", "all", sum(firsts) == total),
    ]


def line(one: Measured) -> str:
    """One case in one line."""
    memory = (
        f"{max(one.predicted_peak, one.predicted_load_peak) / MIB:6.0f} {one.memory_error / MIB:+6.0f} MiB"
    )
    load_peak = f"load {one.predicted_load_peak / MIB:6.0f}/{one.measured_load_peak / MIB:6.0f}"
    answer = f"answer {one.predicted_peak / MIB:6.0f}/{one.measured_peak / MIB:6.0f}"
    first = f"first {one.predicted_first_s:7.3f}/{one.measured_first_s or 0:7.3f} s"
    speed = f"{one.predicted_tokens_per_s:6.1f}/{one.measured_tokens_per_s or 0:6.1f} tok/s"
    limit = {None: "", True: " limit ok", False: " LIMIT FAILED"}[one.finished]
    return f"{one.name:28s} {memory} {load_peak} {answer} {first} {speed}{limit}"
