"""Large blocks leave the process when they are freed, whatever lies behind them."""

from __future__ import annotations

import subprocess
import sys

import pytest

_GAPS = """
import ctypes, psutil, sys
from backends.worker.allocator import give_large_blocks_back
if sys.argv[1] == "told":
    assert give_large_blocks_back()
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, (ctypes.c_size_t,)
libc.free.argtypes = (ctypes.c_void_p,)
size = 8 << 20
libc.free(libc.malloc(31 << 20))  # what raises the limit by itself
before = psutil.Process().memory_info().rss
blocks = [libc.malloc(size) for _ in range(10)]
for block in blocks:
    ctypes.memset(block, 1, size)
for block in blocks[:-1]:  # the last one holds the heap's end
    libc.free(block)
print((psutil.Process().memory_info().rss - before) // size)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only glibc keeps gaps")
@pytest.mark.parametrize(("told", "kept"), [("told", range(3)), ("not told", range(9, 12))])
def test_blocks_between_others_are_given_back(told: str, kept: range) -> None:
    done = subprocess.run([sys.executable, "-c", _GAPS, told], capture_output=True, text=True, check=True)
    assert int(done.stdout) in kept
