"""A child process computes with Snug's number of threads, whatever its terminal says."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from backends.hardware.threads import enter

_COUNT = """
from backends.hardware.threads import enter
enter({})
from backends.engines.devices import use_physical_cores
from backends.engines.llamacpp.threads import choose_threads
print(use_physical_cores(), choose_threads())
"""


@pytest.mark.parametrize(
    ("ours", "expected"),
    [
        pytest.param({}, {"PATH": "/bin"}, id="engines count"),
        pytest.param({"OMP_NUM_THREADS": "3"}, {"PATH": "/bin", "OMP_NUM_THREADS": "3"}, id="a setting"),
    ],
)
def test_an_inherited_number_goes(ours: dict[str, str], expected: dict[str, str]) -> None:
    environ = {"PATH": "/bin", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OMP_THREAD_LIMIT": "1"}
    enter(ours, environ)
    assert environ == expected


def test_both_engines_count_alike_with_and_without_one() -> None:
    def counted(**inherited: str) -> str:
        clean = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
        command = [sys.executable, "-c", _COUNT]
        done = subprocess.run(command, env=clean | inherited, capture_output=True, text=True, check=True)
        return done.stdout

    assert counted(OMP_NUM_THREADS="97", MKL_NUM_THREADS="97", OMP_THREAD_LIMIT="1") == counted()
