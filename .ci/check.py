"""Run every check of the code, report each one, fail when one does: what a person and CI run alike."""

# ruff: noqa: INP001, T201 - a script, started by `launch.py check`

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CHECKS: dict[str, tuple[str, ...]] = {
    "format": ("-m", "ruff", "format", "--check", "."),
    "lint": ("-m", "ruff", "check", "."),
    "types": ("-m", "mypy"),
    "imports": ("-c", "from importlinter.cli import lint_imports_command; lint_imports_command()"),
}


def main() -> int:
    """Return 0 when all is well, 1 otherwise."""
    failed = []
    for name, arguments in CHECKS.items():
        print(f"--- {name}", flush=True)
        if subprocess.run((sys.executable, *arguments), cwd=ROOT, check=False).returncode:
            failed.append(name)
    print(f"failed: {', '.join(failed)}" if failed else "all checks pass", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
