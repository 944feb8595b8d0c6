"""What a start does when the environment is not ready, and what --dry-run prints instead."""

import dataclasses
import json
import subprocess

from ui.setup.console import Report
from ui.setup.decide import plan
from ui.setup.lock import Lock
from ui.setup.observe import described, observe
from ui.setup.options import Options, command_of, groups_for
from ui.setup.perform import carry_out
from ui.setup.stamp import read_requirements
from ui.setup.types import Plan


def install(root: str, options: Options, arguments: list[str]) -> list[str]:
    """Make or mend the environment; return the command that starts Snug in it. Raises Problem."""
    report = Report(options.verbose)
    first = plan(
        observe(root, options.repair), read_requirements(root), arguments
    )  # says no before it writes
    with Lock(first.venv, report) as lock:
        # another start may have done it meanwhile
        chosen = plan(observe(root, options.repair), read_requirements(root), arguments)
        carry_out(chosen, lock, report, root, groups_for(command_of(arguments)))
    return chosen.steps[-1].command


def dry_run(root: str, options: Options, arguments: list[str]) -> None:
    """Print what would be done, on this machine or a described one. Raises Problem."""
    system = described(root, options.system) if options.system else observe(root, options.repair)
    chosen = plan(system, read_requirements(root), arguments)
    if options.as_json:
        print(json.dumps(dataclasses.asdict(chosen) | {"problem": None}, indent=2))
    else:
        print_plan(chosen)


def print_plan(chosen: Plan) -> None:
    """Print a plan for a person."""
    print(f"Environment: {chosen.venv}\nPyTorch build: {chosen.torch}")
    for note in chosen.notes:
        print(f"Note: {note}")
    for number, step in enumerate(chosen.steps, 1):
        print(f"{number}. {step.title}")
        if step.command and step.action not in ("sweep", "start"):
            print("   " + subprocess.list2cmdline(step.command).replace("\n", "; "))
