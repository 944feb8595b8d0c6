"""The launcher's own options are told from those of the command."""

from __future__ import annotations

import pytest

from ui.setup.options import read_arguments
from ui.setup.problems import Problem


@pytest.mark.parametrize(
    ("typed", "rest", "flags"),
    [
        ([], [], set()),
        (["--port", "8000"], ["--port", "8000"], set()),
        (["doctor", "--json"], ["doctor", "--json"], set()),
        (["--dry-run", "--json", "doctor"], ["doctor"], {"dry_run", "as_json"}),
        (["doctor", "--dry-run"], ["doctor"], {"dry_run"}),
        (["--verbose", "plan", "starter"], ["plan", "starter"], {"verbose"}),
        (["test", "--verbose", "-k", "launch"], ["test", "--verbose", "-k", "launch"], set()),
        (["--repair"], [], {"repair"}),
        (["ask", "starter", "what is --dry-run ?"], ["ask", "starter", "what is --dry-run ?"], set()),
    ],
)
def test_own_options_are_told_from_the_commands(typed: list[str], rest: list[str], flags: set[str]) -> None:
    options, left = read_arguments(typed)
    assert left == rest
    assert {name for name, value in options._asdict().items() if value} == flags


@pytest.mark.parametrize(
    ("typed", "hint"), [("tset", "launch.py test"), ("docter", "launch.py doctor"), ("x", "--help")]
)
def test_a_mistyped_command_is_refused(typed: str, hint: str) -> None:
    with pytest.raises(Problem, match="there is no command") as caught:
        read_arguments([typed])
    assert hint in str(caught.value)
    assert caught.value.code == 2


def test_a_description_must_be_named() -> None:
    with pytest.raises(Problem, match="--system needs a file"):
        read_arguments(["--system"])
