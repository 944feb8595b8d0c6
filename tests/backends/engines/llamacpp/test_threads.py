"""How many threads compute, and which processors can run the library at all."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from backends.engines.llamacpp.library import check_features
from backends.engines.llamacpp.threads import (
    choose_threads,
    fast_cores_linux,
    fast_cores_of,
    parse_cpus,
    rows_per_pass,
)
from backends.errors import (
    CpuUnsupported,
)
from backends.hardware.cpu import leaving_room


class TestThreads:
    def test_a_setting_wins(self) -> None:
        assert choose_threads({"OMP_NUM_THREADS": "3"}) == 3
        assert choose_threads({"OMP_NUM_THREADS": "3"}, parameters=6_000_000) == 3

    def test_a_tiny_model_gets_one(self) -> None:
        assert choose_threads({}, parameters=6_000_000) == 1
        assert choose_threads({}, parameters=500_000_000) == choose_threads({})

    @pytest.mark.parametrize("value", ["", "0", "many"])
    def test_else_it_is_at_most_every_core(self, value: str) -> None:
        import psutil

        assert 1 <= choose_threads({"OMP_NUM_THREADS": value}) <= (psutil.cpu_count() or 1)

    def test_room_is_left_for_other_programs(self) -> None:
        usual = choose_threads({})
        assert choose_threads({"SNUG_LEAVE_ROOM": "1"}) == leaving_room(usual)
        assert choose_threads({"SNUG_LEAVE_ROOM": "0"}) == usual

    def test_a_hybrid_processor_computes_with_its_fast_cores(self, tmp_path: Path) -> None:
        listed = tmp_path / "cpus"
        listed.write_text("0-3,6\n", encoding="ascii")
        for cpu in range(4):  # two cores of two threads each; cpu 6 tells nothing
            (tmp_path / str(cpu)).write_text(f"{cpu // 2 * 2}-{cpu // 2 * 2 + 1}", encoding="ascii")
        assert fast_cores_linux(listed, str(tmp_path / "{cpu}")) == 3
        assert fast_cores_linux(tmp_path / "absent") is None

    def test_a_list_of_cpus(self) -> None:
        assert parse_cpus("0-2,8,10-11\n") == [0, 1, 2, 8, 10, 11]
        with pytest.raises(ValueError, match="x"):
            parse_cpus("0-x")

    def test_windows_records(self) -> None:
        def record(relation: int, efficiency: int) -> bytes:
            return struct.pack("<IIBB", relation, 32, 1, efficiency).ljust(32, b"\0")

        assert fast_cores_of(record(0, 1) * 6 + record(3, 9) + record(0, 0) * 8) == 6
        assert fast_cores_of(record(0, 0) * 4) == 4
        assert fast_cores_of(b"") is None
        assert fast_cores_of(bytes(64)) is None

    @pytest.mark.parametrize(
        ("parameters", "threads", "rows"),
        [(3_000_000, 2, 512), (1_100_000_000, 2, 128), (7_000_000_000, 16, 128), (70_000_000_000, 8, 64)],
    )
    def test_passes_take_about_two_seconds(self, parameters: int, threads: int, rows: int) -> None:
        assert rows_per_pass(parameters, threads) == rows


class TestProcessor:
    def test_one_without_avx2_is_refused(self) -> None:
        with pytest.raises(CpuUnsupported, match="AVX2, FMA, F16C"):
            check_features(("avx",))

    @pytest.mark.parametrize("features", [("avx", "avx2", "fma", "f16c"), ()])
    def test_a_capable_or_an_unknown_one_is_not(self, features: tuple[str, ...]) -> None:
        check_features(features)
