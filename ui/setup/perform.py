"""Carries a plan out step by step; interrupted at any moment it leaves nothing that looks finished."""

import os
import shutil
import subprocess

from ui.setup.console import Report, progress_of
from ui.setup.environment import ask_python
from ui.setup.failures import explain
from ui.setup.lock import Lock
from ui.setup.places import LOCK, LOG, STAMP, site_packages
from ui.setup.stamp import write_stamp
from ui.setup.torch_build import numbers
from ui.setup.types import Plan, Step


def carry_out(chosen: Plan, lock: Lock, report: Report, root: str, groups: list[str]) -> None:
    """Do the steps before the start; the stamp goes first and comes back last. Raises Problem."""
    shown = [step for step in chosen.steps if step.action not in ("stamp", "start")]
    if shown:
        clear(chosen.venv, [STAMP])
        fresh = any(step.action == "create" for step in shown)
        words = "Setting up Snug, once, in" if fresh else "Bringing Snug up to date in"
        report.write(f"{words} {chosen.venv}\n")
        for note in chosen.notes:
            report.write(f"note: {note}\n")
    for number, step in enumerate(shown, 1):
        report.begin(f"[{number}/{len(shown)}] {step.title}")
        code, output = 0, ""
        if step.action == "clear":
            clear(chosen.venv)
        elif step.action == "sweep":
            clear(site_packages(chosen.venv), step.command)
        else:
            code, output = run_step(step, chosen.venv, lock, report)
        if code and step.action != "renew":  # an old pip works too
            report.end("failed")
            raise explain(step.title, output, chosen.venv, shutil.disk_usage(chosen.venv).free)
        report.end("skipped" if code else "done")
    write_stamp(root, chosen.venv, groups)


def clear(folder: str, names: list[str] | None = None) -> None:
    """Delete entries of a folder: the named ones, or all but our lock and log."""
    for name in names if names is not None else sorted(set(os.listdir(folder)) - {LOCK, LOG}):
        path = os.path.join(folder, name)
        if os.path.isdir(path) and not os.path.islink(path):
            shutil.rmtree(path)
        elif os.path.lexists(path):
            os.remove(path)


def run_step(step: Step, folder: str, lock: Lock, report: Report) -> tuple[int, str]:
    """Run one command to its end, its output into the log; whatever happens, no child stays behind."""
    command = step.command + (pip_options(step.command[0]) if step.action in ("torch", "packages") else [])
    output, context = [], ""
    with (
        open(os.path.join(folder, LOG), "a", encoding="utf-8") as log,
        subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=clean_environment(),
            pass_fds=() if os.name == "nt" else (lock.file.fileno(),),
            encoding="utf-8",
            errors="replace",
        ) as child,
    ):
        try:
            log.write(f"$ {' '.join(command)}\n")
            for line in child.stdout or ():
                text, context = progress_of(line, context)
                if text:
                    report.update(text)
                if not line.startswith("Progress "):
                    log.write(line)
                    output.append(line)
                    report.quote(line)
            code = child.wait()
        finally:
            stop(child)
    return code, "".join(output) + ("Killed" if code == -9 else "")


def stop(child: subprocess.Popen[str]) -> None:
    """End a child that still runs, kindly first."""
    if child.poll() is None:
        child.terminate()
        try:
            child.wait(10)
        except subprocess.TimeoutExpired:
            child.kill()


def pip_options(python: str) -> list[str]:
    """Return what this pip offers for telling how far it is and for going on after a broken download."""
    version = numbers(ask_python(python, "-I", "-c", "import pip; print(pip.__version__)"))
    progress = ["--progress-bar", "raw" if version >= (24, 1) else "off"]
    return progress + (["--resume-retries", "20"] if version >= (25, 1) else [])


def clean_environment() -> dict[str, str]:
    """Return the environment variables for a step, without those that would send packages elsewhere."""
    unwanted = {"PYTHONHOME", "PYTHONPATH", "__PYVENV_LAUNCHER__", "PIP_REQUIRE_VIRTUALENV"}
    ours = {"PIP_USER": "0", "PIP_NO_INPUT": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PYTHONUTF8": "1"}
    return {name: value for name, value in os.environ.items() if name not in unwanted} | ours
