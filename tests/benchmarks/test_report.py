"""The README quotes what the benchmarks wrote, and nothing else."""

from __future__ import annotations

from dataclasses import asdict

from benchmarks.report import README, Row, insert, stored, table

ROWS = [Row("load", "1.02 x", "<= 1.15 x", met=True), Row("first token", "40 %", "<= 30 %", met=False)]


def test_a_missed_goal_is_said() -> None:
    assert "| load | 1.02 x | <= 1.15 x |" in table(ROWS)
    assert "| first token | 40 % (missed) | <= 30 % |" in table(ROWS)


def test_a_table_is_put_in_its_place_and_only_there() -> None:
    readme = "a\n<!-- figures:x -->\nold\n<!-- /figures -->\nb\n<!-- figures:y -->\nkept\n<!-- /figures -->\n"
    new = insert(readme, {"x": {"rows": [asdict(row) for row in ROWS]}, "z": {"rows": []}})
    assert "old" not in new
    assert "kept" in new
    assert "40 % (missed)" in new
    assert insert(new, {"x": {"rows": [asdict(row) for row in ROWS]}}) == new


def test_a_table_says_when_and_on_what() -> None:
    about = {"cpu": "AMD EPYC", "cores": 2, "ram_gib": 23, "system": "Linux"}
    document = {"rows": [asdict(ROWS[0])], "date": "2026-11-21", "machine": about}
    new = insert("<!-- figures:x -->\n<!-- /figures -->\n", {"x": document})
    assert "\n\n*2026-11-21, AMD EPYC, 2 cores, 23 GiB, Linux*\n<!-- /figures -->" in new


def test_the_readme_is_up_to_date() -> None:
    text = README.read_text(encoding="utf-8")
    results = stored()
    assert results, "there are stored figures"
    assert insert(text, results) == text, "run python -m benchmarks.report"
