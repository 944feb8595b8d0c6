"""What comes back after a process ends, and when."""

from __future__ import annotations

import subprocess
import sys

import pytest

from backends.worker.memory import FreeMemory, available_ram, private_bytes, release

MIB = 2**20


class Machine:
    """Free memory that comes back step by step, with a clock that only sleeping moves."""

    def __init__(self, steps: list[FreeMemory]) -> None:
        self.steps, self.now = steps, 0.0

    def read(self) -> FreeMemory:
        return self.steps.pop(0) if len(self.steps) > 1 else self.steps[0]

    def clock(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.mark.parametrize(
    ("steps", "held", "freed", "seconds"),
    [
        pytest.param([(100, 0), (300, 0)], (200, 0), (200, 0), 0.0, id="at once"),
        pytest.param([(100, 0), (150, 0), (300, 0)], (200, 0), (200, 0), 0.01, id="after a moment"),
        pytest.param([(0, 5), (200, 5), (200, 95)], (200, 90), (200, 90), 0.01, id="the GPU comes later"),
        pytest.param([(0, 5), (200, 45)], (200, 90), (200, 40), 0.0, id="half of the GPU's never comes"),
        pytest.param([(0, 5), (200, 195)], (200, 90), (200, 90), 0.0, id="others free GPU memory, too"),
        pytest.param([(100, 0), (60, 0)], (200, 0), (200, 0), 0.0, id="another program takes RAM meanwhile"),
        pytest.param([(100, 0), (500, 0)], (200, 0), (200, 0), 0.0, id="another program gives RAM meanwhile"),
        pytest.param([(100, 0), (100, 0)], (0, 0), (0, 0), 0.0, id="nothing was held"),
    ],
)
def test_release_waits_until_the_system_has_it(
    steps: list[tuple[int, int]], held: tuple[int, int], freed: tuple[int, int], seconds: float
) -> None:
    machine = Machine([FreeMemory(*step) for step in steps])
    ended: list[bool] = []
    report = release(
        lambda: ended.append(True),
        held=FreeMemory(*held),
        read=machine.read,
        clock=machine.clock,
        sleep=machine.sleep,
        limit_s=1.0,
    )
    assert ended == [True]
    assert (report.freed_ram_bytes, report.freed_gpu_bytes) == freed
    assert report.seconds == pytest.approx(seconds, abs=0.011)


def test_release_does_not_wait_for_ever() -> None:
    trickle = Machine([FreeMemory(0, step) for step in range(10_000)])
    report = release(
        lambda: None,
        held=FreeMemory(0, 10_000),
        read=trickle.read,
        clock=trickle.clock,
        sleep=trickle.sleep,
        limit_s=1.0,
    )
    assert report.freed_gpu_bytes == pytest.approx(100, abs=5)
    assert trickle.now == pytest.approx(1.0, abs=0.02)


def test_a_real_process_gives_its_memory_back() -> None:
    size = 256 * MIB
    code = f"import sys; ballast = b'x' * {size}; print('held', flush=True); sys.stdin.read()"
    child = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    with child:
        assert child.stdout is not None
        assert child.stdout.readline().strip() == b"held"
        held = private_bytes(child.pid)
        assert size <= held < size + 100 * MIB

        def end() -> None:
            child.kill()
            child.wait()

        report = release(end, held=FreeMemory(held), read=lambda: FreeMemory(available_ram()))
    assert report.freed_ram_bytes == held
    assert private_bytes(child.pid) == 0
