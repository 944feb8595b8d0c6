"""The table of measurements: a real SQLite file, damaged, read-only, and written by two processes at once."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from backends.history.measurements import Measurements, Row
from backends.placement.correction import Run, correction
from backends.placement.types import DeviceShare
from tests.support.programs import Program, running

SHARE = DeviceShare("cpu", "A CPU", 8 << 30, 1 << 30, 1 << 20, 2 << 20, 0, 400 << 20)
ROOT = Path(__file__).resolve().parents[3]


def row(run: str = "a", at: float = 1.0, **values: object) -> Row:
    made = Row(
        run=run,
        device="cpu",
        at=at,
        engine="transformers",
        precision="fp32",
        kind="cpu",
        model="0123456789abcdef",
        placement="fedcba9876543210",
        context_tokens=115,
        images=1,
        predicted=SHARE,
        expected_bytes=1000,
        measured_bytes=1100,
        facts='{"load_s": 1.5}',
    )
    return replace(made, **values)  # type: ignore[arg-type]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "家 home" / "measurements.sqlite3"


def test_what_is_kept_comes_back_newest_first(file: Path) -> None:
    rows = [row("a", 1.0), row("b", 3.0, failed=True), row("c", 2.0, device="cuda:0", kind="A card")]
    Measurements(file).add(tuple(rows))
    assert Measurements(file).rows() == (rows[1], rows[2], rows[0])


def test_a_higher_measurement_takes_the_place_of_its_run(file: Path) -> None:
    store = Measurements(file)
    store.add((row("a", 1.0),))
    store.add((row("a", 2.0, measured_bytes=1300),))
    assert [(one.at, one.measured_bytes) for one in store.rows()] == [(2.0, 1300)]


def test_rows_are_what_the_correction_takes(file: Path) -> None:
    store = Measurements(file)
    store.add((row("a", measured_bytes=1100), row("b", failed=True)))
    runs = [one.as_run() for one in store.rows()]
    assert Run("transformers", "fp32", "cpu", 1000, 1100, failed=True) in runs
    assert correction(runs).factor("transformers", "fp32", "cpu").factor == 1.1


def test_nothing_is_written_before_there_is_something(file: Path) -> None:
    store = Measurements(file)
    assert store.rows() == ()
    store.add(())
    assert not file.parent.exists()


def test_the_journal_is_written_ahead(file: Path) -> None:
    Measurements(file).add((row(),))
    with sqlite3.connect(file) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    connection.close()


@pytest.mark.parametrize(
    "content",
    [
        b"this is no database, but long enough to be taken for one " * 40,
        b"SQLite format 3\x00" + b"\xff" * 4096,
    ],
    ids=["text", "a header and garbage"],
)
def test_a_damaged_file_is_set_aside(file: Path, content: bytes) -> None:
    file.parent.mkdir()
    file.write_bytes(content)
    store = Measurements(file)
    assert store.rows() == ()
    store.add((row(),))
    assert Measurements(file).rows() == (row(),)
    assert file.with_name(file.name + ".damaged").read_bytes() == content


def test_a_file_damaged_while_it_is_used(file: Path) -> None:
    store = Measurements(file)
    store.add(tuple(row(str(number), number) for number in range(200)))
    data = bytearray(file.read_bytes())
    data[4096 : len(data) - 100] = b"\x00" * (len(data) - 4196)
    file.write_bytes(data)
    store.add((row("new", 999.0),))
    assert row("new", 999.0) in store.rows()


def test_a_file_that_was_cut_off(file: Path) -> None:
    store = Measurements(file)
    store.add(tuple(row(str(number), number) for number in range(200)))
    file.write_bytes(file.read_bytes()[:5000])
    assert Measurements(file).rows() == ()
    store.add((row("new", 999.0),))
    assert row("new", 999.0) in Measurements(file).rows()


def test_an_empty_file_is_filled(file: Path) -> None:
    file.parent.mkdir()
    file.touch()
    store = Measurements(file)
    assert store.rows() == ()
    store.add((row(),))
    assert Measurements(file).rows() == (row(),)


def test_a_table_of_another_version_is_set_aside(file: Path) -> None:
    file.parent.mkdir()
    with sqlite3.connect(file) as connection:
        connection.execute("CREATE TABLE measurements (something TEXT)")
    connection.close()
    store = Measurements(file)
    assert store.rows() == ()
    store.add((row(),))
    assert Measurements(file).rows() == (row(),)


@pytest.mark.parametrize(
    ("column", "value"),
    [("predicted", "no JSON"), ("predicted", "{}"), ("predicted", "[]"), ("at", "yesterday")],
)
def test_a_row_that_something_else_wrote_is_passed_over(file: Path, column: str, value: str) -> None:
    Measurements(file).add((row("good"), row("odd")))
    with sqlite3.connect(file) as connection:
        connection.execute(f"UPDATE measurements SET {column} = ? WHERE run = 'odd'", (value,))
    connection.close()
    assert Measurements(file).rows() == (row("good"),)


def test_where_nothing_can_be_written_rows_last_as_long_as_the_process(tmp_path: Path) -> None:
    blocker = tmp_path / "file"
    blocker.touch()
    store = Measurements(blocker / "measurements.sqlite3")
    store.add((row("a", 1.0),))
    store.add((row("b", 2.0),))
    store.add((row("a", 3.0),))
    assert [one.run for one in store.rows()] == ["a", "b"]
    assert Measurements(blocker / "measurements.sqlite3").rows() == ()


@pytest.mark.skipif(
    sys.platform == "win32" or os.geteuid() == 0, reason="folders can't be made read-only for root or Windows"
)
def test_a_read_only_folder_is_read(file: Path) -> None:
    Measurements(file).add((row(),))
    file.chmod(0o444)
    file.parent.chmod(0o555)
    try:
        store = Measurements(file)
        assert store.rows() == (row(),)
        store.add((row("new", 2.0),))
        assert [one.run for one in store.rows()] == ["new", "a"]
    finally:
        file.parent.chmod(0o755)


def test_a_locked_table_keeps_nobody_waiting_for_long(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("backends.history.measurements._BUSY_S", 0.05)
    store = Measurements(file)
    store.add((row("a", 1.0),))
    holder = sqlite3.connect(file, isolation_level=None)
    try:
        holder.execute("BEGIN IMMEDIATE")
        store.add((row("b", 2.0),))
        assert [one.run for one in store.rows()] == ["b", "a"], "kept in memory meanwhile"
    finally:
        holder.close()
    store.add((row("c", 3.0),))
    assert {one.run for one in Measurements(file).rows()} == {"a", "b", "c"}, "and written with the next"


_WRITER = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from tests.backends.history.test_measurements import row
from backends.history.measurements import Measurements
store = Measurements(Path(sys.argv[2]))
print("ready", flush=True)
sys.stdin.readline()
for number in range(40):
    store.add((row(f"{sys.argv[3]}{number}", float(number)),))
"""


def test_two_processes_write_at_once(file: Path) -> None:
    def writer(name: str) -> contextlib.AbstractContextManager[Program]:
        command = [sys.executable, "-c", _WRITER, str(ROOT), str(file), name]
        return running(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    with writer("x") as first, writer("y") as second:
        for one in (first, second):
            assert one.stdout is not None
            assert one.stdout.readline() == "ready\n"
        for one in (first, second):
            one.communicate("go\n", timeout=60)
        assert [first.returncode, second.returncode] == [0, 0]
    found = {one.run for one in Measurements(file).rows()}
    assert found == {f"{name}{number}" for name in "xy" for number in range(40)}


def test_what_another_process_learnt_is_seen_soon(file: Path) -> None:
    now = [0.0]
    store = Measurements(file, clock=lambda: now[0])
    store.add((row("a", 1.0),))
    before = store.rows()
    Measurements(file).add((row("b", 2.0),))
    assert store.rows() is before, "nobody looks at the disk for every click"
    now[0] = 60.0
    assert [one.run for one in store.rows()] == ["b", "a"]
