"""The launcher's own options are told from those of the command."""

from __future__ import annotations

import pytest

from ui.cli import overview
from ui.setup.options import COMMANDS, HELP, read_arguments
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
        (["test", "--dry-run", "-k", "launch"], ["test", "-k", "launch"], {"dry_run"}),
        (["test", "--json", "--dry-run"], ["test"], {"dry_run", "as_json"}),
        (["test", "--system", "mac.json"], ["test"], {"dry_run", "system"}),
        (["test", "--json", "--repair"], ["test", "--json", "--repair"], set()),
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


@pytest.mark.parametrize("typed", [["--system"], ["test", "--system"]], ids=" ".join)
def test_a_description_must_be_named(typed: list[str]) -> None:
    with pytest.raises(Problem, match="--system needs a file"):
        read_arguments(typed)


def test_only_commands_that_exist_are_offered() -> None:
    """The launcher knows `test` and `check` itself; every other command is one of the command line's."""
    assert {command for command in COMMANDS if f"  {command} " in overview() + "\n"} == {
        command for command in COMMANDS if command not in ("test", "check")
    }
    assert "serve" not in HELP
