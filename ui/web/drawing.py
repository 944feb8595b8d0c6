"""How a panel's components look, as values, and the updates that make them look so."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import gradio as gr

from ui.web.sessions import Session


@dataclass(frozen=True, slots=True)
class Shown:
    """How a component looks. `value` is None where it stays as it is."""

    props: Mapping[str, Any]
    value: Any = None


def updates(
    panel: str,
    names: Iterable[str],
    view: Mapping[str, Shown],
    session: Session,
    touched: Collection[str] = (),
) -> list[Any]:
    """What to send for each of `names`, in their order; what the tab shows already is skipped.

    `touched` are the components that a person is using: they keep their value, which is newer than ours.
    """
    sent: list[Any] = []
    for name in names:
        shown, key = view[name], f"{panel}.{name}"
        changed: dict[str, Any] = {}
        if session.changed(key, dict(shown.props)):
            changed |= shown.props
        before = session.shown.get(f"{key}=", "")  # fields begin empty
        if shown.value is not None and session.changed(f"{key}=", shown.value) and name not in touched:
            changed["value"] = shown.value
            if shown.value != before:  # a field that holds it already tells of no change
                session.write(f"{key}=", shown.value)
        sent.append(gr.update(**changed) if changed else gr.skip())
    return sent
