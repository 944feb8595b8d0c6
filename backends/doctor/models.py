"""The bundled model and the folders in which models are looked for."""

from __future__ import annotations

from collections.abc import Iterator

from backends.doctor.finding import Finding
from backends.errors import SnugError
from backends.models import catalog
from backends.models.identify import identify
from backends.settings import Settings
from backends.text import Text

_NEEDED = ("tokenizer.json", "preprocessor_config.json")
_COPY_AGAIN = Text("doctor.starter.remedy", "Copy or clone Snug's folder again; assets/starter is not whole.")


def check_starter(settings: Settings) -> Finding:
    """Read the starter model's headers, as a load would first."""
    title = Text("doctor.starter", "Starter model")
    try:
        found = identify(catalog.resolve(catalog.STARTER, settings))
    except SnugError as error:
        return Finding("broken", title, error.why_text, _COPY_AGAIN)
    if not found.weights_present:
        cut = Text("doctor.starter.cut", "The file with its weights is cut off.")
        return Finding("broken", title, cut, _COPY_AGAIN)
    missing = [name for name in _NEEDED if not (settings.starter / name).is_file()]
    if missing:
        text = Text.of("doctor.starter.missing", "Files are missing: {names}.", names=", ".join(missing))
        return Finding("broken", title, text, _COPY_AGAIN)
    return Finding(
        "ok",
        title,
        Text.of(
            "doctor.starter.ok",
            "Complete: {parameters:count} parameters, {size:bytes}.",
            parameters=found.parameters,
            size=found.weights_bytes,
        ),
    )


def check_folders(settings: Settings) -> Iterator[Finding]:
    """Tell how many models are found, and which folder of SNUG_MODELS does not exist."""
    title = Text("doctor.models", "Models")
    own = settings.home / "models"
    for folder in settings.model_folders:
        if folder != own and not folder.is_dir():
            yield Finding(
                "warning",
                title,
                Text.of(
                    "doctor.models.no_folder", "The model folder {path} does not exist.", path=str(folder)
                ),
                Text("doctor.models.remedy", "Make that folder, or correct SNUG_MODELS."),
            )
    count = len(catalog.entries(settings))
    yield Finding(
        "ok",
        title,
        Text.of("doctor.models.count", "{count} found; put more into {path}.", count=count, path=str(own)),
    )
