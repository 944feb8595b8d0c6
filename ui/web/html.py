"""Pure building blocks of the page's own HTML: escaping, sections, bars. Everything is escaped here."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote


def esc(value: object) -> str:
    """Escape for HTML text and quoted attributes."""
    return html.escape(str(value), quote=True)


def file_url(path: Path) -> str:
    """The address of a file that the page may show."""
    return "/gradio_api/file=" + quote(str(path))


def section(title: str, body: str, *, side: str = "") -> str:
    """A titled block of the side bar; `side` (HTML) stands at the right end of the title's line."""
    aside = f'<span class="sn-side">{side}</span>' if side else ""
    return f'<section class="sn-section"><h2 class="sn-h">{esc(title)}{aside}</h2>{body}</section>'


@dataclass(frozen=True, slots=True)
class Segment:
    """A piece of a bar: its CSS class (its colour), its name and its size in the bar's unit."""

    kind: str
    name: str
    size: float


def bar(segments: Sequence[Segment], total: float, description: str, *, limit: float | None = None) -> str:
    """A stacked bar as SVG, 1000 units wide; `limit` draws a line where the budget ends.

    Screen readers get `description`; the mouse gets each segment's name.
    """
    scale = 1000.0 / max(total, sum(segment.size for segment in segments), 1e-9)
    drawn, x = [], 0.0
    for segment in segments:
        width = segment.size * scale
        if width <= 0:
            continue
        drawn.append(
            f'<rect class="{segment.kind}" x="{x:.1f}" y="0" width="{max(width, 2):.1f}" height="10">'
            f"<title>{esc(segment.name)}</title></rect>"
        )
        x += width
    mark = ""
    if limit is not None and 0 < limit * scale < 999:
        mark = f'<rect class="sn-limit" x="{limit * scale - 2:.1f}" y="0" width="4" height="10"/>'
    return (
        f'<svg class="sn-bar" viewBox="0 0 1000 10" preserveAspectRatio="none" role="img" '
        f'aria-label="{esc(description)}">'
        f'<rect class="sn-track" x="0" y="0" width="1000" height="10"/>{"".join(drawn)}{mark}</svg>'
    )


def undo_chip(setting: str, name: str, value: str, title: str) -> str:
    """A button that takes back the `setting` of that name; `title` says so."""
    return (
        f'<button type="button" class="sn-chip" data-undo="{esc(setting)}" title="{esc(title)}" '
        f'aria-label="{esc(f"{name}: {value}. {title}")}">{esc(name)}: <b>{esc(value)}</b>'
        '<span aria-hidden="true"> ×</span></button>'
    )


def badge(kind: str, text: str) -> str:
    """A small label with a coloured dot; the colour repeats what the text says."""
    return f'<span class="sn-badge sn-{kind}"><i aria-hidden="true"></i>{esc(text)}</span>'
