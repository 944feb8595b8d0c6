"""Puts packages into small environments, as pip does."""

from __future__ import annotations

from pathlib import Path

from ui.setup.places import site_packages


def put_package(folder: Path, name: str, files: dict[str, str]) -> Path:
    """Put a package into an environment as pip does; returns its folder."""
    site = Path(site_packages(str(folder)))
    info = site / f"{name}-1.0.dist-info"
    for path, text in (files | {f"{info.name}/METADATA": "Name: x"}).items():
        (site / path).parent.mkdir(parents=True, exist_ok=True)
        (site / path).write_text(text, encoding="utf-8")
    rows = [f"{path},sha256=x,{len(text)}" for path, text in files.items()]
    (info / "RECORD").write_text("\n".join([*rows, f"{name}/__pycache__/a.pyc,,", f"{info.name}/RECORD,,"]))
    (info / "INSTALLER").write_text("pip\n")
    return site / name
