"""Checks whether this machine can run Snug, and says what to do about what is not as it should be."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from backends.doctor import gpus, machine, models, software
from backends.doctor.converted import check_converted
from backends.doctor.finding import Finding, Level
from backends.hardware.torch_build import torch_build
from backends.hardware.types import HardwareSnapshot
from backends.settings import Settings
from backends.text import Text

__all__ = ["Finding", "Level", "examine", "exit_code", "findings_to_json"]


def examine(snapshot: HardwareSnapshot, settings: Settings) -> tuple[Finding, ...]:
    """Run every check, in the order in which a person would look.

    Imports no heavy library here; torch is asked in a child process, and only where the driver reports a
    GPU and torch was built for CUDA.
    """
    build = torch_build()
    return (
        software.check_python(),
        software.check_torch(build),
        software.check_packages(),
        software.check_llama(snapshot.cpu),
        *gpus.check(snapshot, build),
        *machine.check_ram(snapshot),
        *machine.check_page_file(snapshot),
        machine.check_disk(snapshot),
        machine.check_home(settings),
        models.check_starter(settings),
        *models.check_folders(settings),
        check_converted(settings),
    )


def exit_code(findings: Sequence[Finding]) -> int:
    """0 when all is fine, 1 with warnings, 2 when something is broken."""
    order: tuple[Level, ...] = ("ok", "warning", "broken")
    return max((order.index(finding.level) for finding in findings), default=0)


def findings_to_json(findings: Sequence[Finding], say: Callable[[Text], str] = str) -> list[dict[str, Any]]:
    """Return the findings as `doctor --json` prints them; `say` renders the sentences."""
    return [
        {
            "level": finding.level,
            "title": say(finding.title),
            "detail": say(finding.detail),
            "remedy": None if finding.remedy is None else say(finding.remedy),
        }
        for finding in findings
    ]
