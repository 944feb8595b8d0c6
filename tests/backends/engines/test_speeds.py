"""What torch reaches: no GPU is asked that must not be."""

from __future__ import annotations

from backends.engines import speeds


def test_without_gpus_nothing_is_asked() -> None:
    assert speeds.gpu_speeds([], 1.0) == {}


def test_the_cpus_figures_carry_the_names_of_its_fields() -> None:
    from dataclasses import fields

    from backends.hardware.types import Cpu

    found = speeds.cpu_speeds(0.04)

    assert set(found) <= {field.name for field in fields(Cpu)}
    assert all(figure > 0 for figure in found.values())
