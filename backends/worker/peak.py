"""The most RAM this process has held since a moment of our choice."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import psutil

from backends.reports import DevicePeak

_SELF = Path("/proc/self")
# Linux: makes the kernel's own peak begin anew (man 5 proc, clear_refs).
_RESET_PEAK = "5"
# Elsewhere the peak is sampled while a task runs: as long as a small prefill, at no cost worth naming.
_SAMPLE_S = 0.02
_WEIGHT_FILES = (".safetensors", ".bin", ".gguf")
_PEAK = re.compile(r"^VmHWM:\s+(\d+) kB", re.MULTILINE)
_AREA = re.compile(r"^[0-9a-f]+-[0-9a-f]+ ")


class RamPeak:
    """Linux keeps the peak and can reset it; other systems are sampled between `begin` and `read`."""

    def __init__(self, proc: Path = _SELF) -> None:
        self._proc = proc
        self._process = psutil.Process()
        self._sampled = 0
        self._begun = self._resets = False

    def begin(self) -> None:
        """Forget the peak so far."""
        self._begun, self._sampled = True, self._now()
        try:
            (self._proc / "clear_refs").write_text(_RESET_PEAK, encoding="ascii")
        except OSError:
            self._resets = False
        else:
            self._resets = True

    def read(self) -> int:
        """Peak of resident bytes since `begin`."""
        peak = self._kernel_peak() if self._resets else 0
        return max(peak, self._sampled, self._now())

    def completed(self, peak: DevicePeak) -> DevicePeak:
        """`peak` with what this process knows, where it is the CPU's."""
        if peak.device != "cpu":
            return peak
        mapped = resident_weights(self._proc) if peak.mapped_weights_bytes else 0
        return replace(peak, peak_bytes=self.read(), mapped_bytes=mapped)

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Sample while the block runs, where the kernel does not keep a peak that can be reset."""
        if self._resets or not self._begun:
            yield
            return
        done = threading.Event()
        sampler = threading.Thread(target=self._sample, args=(done,), name="snug-ram", daemon=True)
        sampler.start()
        try:
            yield
        finally:
            done.set()
            sampler.join()

    def _sample(self, done: threading.Event) -> None:
        while not done.wait(_SAMPLE_S):
            self._sampled = max(self._sampled, self._now())

    def _now(self) -> int:
        return int(self._process.memory_info().rss)

    def _kernel_peak(self) -> int:
        found = _PEAK.search((self._proc / "status").read_text(encoding="utf-8", errors="replace"))
        return int(found[1]) * 1024 if found else 0


def resident_weights(proc: Path = _SELF) -> int:
    """Resident bytes of mapped weight files; 0 where the system does not tell (only Linux does)."""
    found, ours = 0, False
    try:
        with (proc / "smaps").open(encoding="utf-8", errors="replace") as lines:
            for line in lines:
                if _AREA.match(line):
                    ours = line.rstrip().endswith(_WEIGHT_FILES)
                elif ours and line.startswith("Rss:"):
                    found += int(line.split()[1]) * 1024
    except OSError:
        return 0
    return found
