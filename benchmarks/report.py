"""One shape for every figure: scripts write rows, this prints and stores them and fills the README.

`python -m benchmarks.report` rewrites its tables from `benchmarks/results/*.json`.
"""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

import psutil

RESULTS = Path(__file__).parent / "results"
README = Path(__file__).parents[1] / "README.md"


@dataclass(frozen=True, slots=True)
class Row:
    """One figure. `goal` reads as in the README, such as `<= 30 %`; None where there is none."""

    measure: str
    value: str
    goal: str | None = None
    met: bool | None = None


def machine() -> dict[str, object]:
    """What the figures were measured on."""
    return {
        "cpu": _cpu_name(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "ram_gib": round(psutil.virtual_memory().total / 2**30),
        "python": platform.python_version(),
        "system": platform.system(),
    }


def _cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor()


def publish(name: str, rows: Sequence[Row], details: Mapping[str, object] | None = None) -> Path:
    """Print `rows` as a table and write `results/<name>.json`."""
    print(table(rows))
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    document = {
        "name": name,
        "date": datetime.now(UTC).date().isoformat(),
        "machine": machine(),
        "rows": [asdict(row) for row in rows],
        "details": dict(details or {}),
    }
    path.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return path


def table(rows: Iterable[Row]) -> str:
    """Markdown table of `rows`."""
    lines = ["| figure | measured | goal |", "|---|---|---|"]
    for row in rows:
        mark = {True: "", False: " (missed)", None: ""}[row.met]
        lines.append(f"| {row.measure} | {row.value}{mark} | {row.goal or ''} |")
    return "\n".join(lines)


def insert(readme: str, results: Mapping[str, Mapping[str, object]]) -> str:
    """Replace what stands between `<!-- figures:NAME -->` and `<!-- /figures -->` by NAME's table."""
    for name, document in results.items():
        start, end = f"<!-- figures:{name} -->\n", "<!-- /figures -->"
        if start not in readme:
            continue
        head, _, rest = readme.partition(start)
        _, _, tail = rest.partition(end)
        rows = document["rows"]
        assert isinstance(rows, list)
        found = "\n\n".join([table(Row(**row) for row in rows), *_where(document)])
        readme = f"{head}{start}{found}\n{end}{tail}"
    return readme


def _where(document: Mapping[str, object]) -> list[str]:
    """When and on what it was measured."""
    about = document.get("machine")
    if not isinstance(about, dict):
        return []
    told = (
        f"{about.get('cpu')}, {about.get('cores')} cores, {about.get('ram_gib')} GiB, {about.get('system')}"
    )
    return [f"*{document.get('date')}, {told}*"]


def stored() -> dict[str, Mapping[str, object]]:
    """Every result that was published, by name."""
    documents = (json.loads(path.read_text(encoding="utf-8")) for path in sorted(RESULTS.glob("*.json")))
    return {document["name"]: document for document in documents if "rows" in document and "name" in document}


if __name__ == "__main__":
    README.write_text(insert(README.read_text(encoding="utf-8"), stored()), encoding="utf-8")
