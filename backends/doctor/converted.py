"""How much the models take that were converted for llama.cpp."""

from __future__ import annotations

from backends.conversion.cache import entries, source_of
from backends.doctor.finding import Finding
from backends.settings import Settings
from backends.storage import unwritable
from backends.text import Text


def check_converted(settings: Settings) -> Finding:
    """Tell what is kept, and how it can go."""
    title, folder = Text("doctor.converted", "Converted models"), str(settings.converted)
    if (detail := unwritable(settings.converted)) is not None:
        return Finding(
            "warning",
            title,
            Text.of(
                "doctor.converted.read_only",
                "{path} can't be written, so no model can be converted for llama.cpp: {detail}.",
                path=folder,
                detail=detail,
            ),
            Text(
                "doctor.converted.remedy",
                "Make that folder writable, or set SNUG_HOME to a folder that you may write to.",
            ),
        )
    found = entries(settings.converted)
    if not found:
        none = Text.of("doctor.converted.none", "None; they would lie in {path}.", path=folder)
        return Finding("ok", title, none)
    kept = Text.of(
        "doctor.converted.kept",
        "{count}, which take {size:bytes} of at most {limit:bytes} in {path}; --clear-converted "
        "removes them.",
        count=len({source_of(entry) for entry in found}),
        size=sum(entry.nbytes for entry in found),
        limit=settings.converted_limit_bytes,
        path=folder,
    )
    return Finding("ok", title, kept)
