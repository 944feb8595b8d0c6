"""The model card claims what was measured, and nothing else."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from assets.training.card import KINDS, card, claims, described, limits, measured, run_figures
from assets.training.evaluate import Score
from assets.training.questions import MAKERS

GOOD = {kind: Score(kind, 95, 100) for kind in KINDS}


def scores(**descriptions: int) -> dict[str, Score]:
    found = {f"description, {name[1:]}": right for name, right in descriptions.items()}
    missing = {f"description, {count}": 0 for count in range(1, 6)}
    return GOOD | {group: Score(group, right, 100) for group, right in (missing | found).items()}


def test_every_kind_of_question_has_its_words() -> None:
    assert set(MAKERS) - {"description"} <= set(KINDS)


@pytest.mark.parametrize(
    ("right", "claimed"), [(90, True), (89, False), (100, True)], ids=["just", "just not", "always"]
)
def test_a_kind_is_claimed_from_ninety_of_a_hundred_on(right: int, claimed: bool) -> None:
    found = scores() | {"size": Score("size", right, 100)}
    assert (KINDS["size"] in claims(found)) == claimed
    assert (KINDS["size"] in limits(found)) != claimed


def test_descriptions_count_up_to_the_first_gap() -> None:
    assert described(scores(n1=99, n2=85, n3=84, n4=99)) == 2
    assert described(scores()) == 0
    assert "up to 2 shapes" in claims(scores(n1=99, n2=85))
    assert "describing 3 shapes: right in 0 of 100" in limits(scores(n1=99, n2=85))


def test_steps_and_minutes_come_from_the_logs(tmp_path: Path) -> None:
    for stage, step, minutes in (("vision", 4000, 29.98), ("joint", 3000, 50.02), ("polish", 700, 11.99)):
        (tmp_path / stage).mkdir()
        lines = [{"step": 25, "minutes": 1}, {"step": step, "minutes": minutes}]
        text = "\n".join(json.dumps(line) for line in lines)
        (tmp_path / stage / "log.jsonl").write_text(text, encoding="utf-8")
    figures = run_figures(tmp_path)
    assert (figures["vision"], figures["total"]) == ("4,000", "92")
    assert "joint --minutes 50" in figures["commands"]
    assert "$" not in card(scores(), figures)


def test_the_published_card_says_what_the_published_figures_say() -> None:
    published = (Path(__file__).parents[2] / "assets" / "starter" / "README.md").read_text(encoding="utf-8")
    assert claims(measured()) in published
    assert limits(measured()) in published
