"""RAM, page file, disk space, and the folder that Snug writes to."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator

from backends.doctor.finding import Finding
from backends.hardware.others import nearest_existing
from backends.hardware.types import HardwareSnapshot
from backends.settings import Settings
from backends.text import Text

GIB = 1024**3

# The page, torch and the starter model together take about 1.5 GiB.
_LEAST_RAM = 2 * GIB
# Pictures and logs need some hundred MiB; a 7B model to download or to offload needs about 15 GiB.
_LEAST_DISK, _GOOD_DISK = GIB // 2, 10 * GIB
# While a model loads, Windows promises memory for the file and for its copy; with less than this beyond
# RAM, loading a model of RAM's size ends with error 1455.
_GOOD_PAGE_FILE = 8 * GIB
_ENOUGH_COMMIT = 48 * GIB


def check_ram(snapshot: HardwareSnapshot) -> Iterator[Finding]:
    """Tell how much memory is free."""
    title, ram = Text("doctor.ram", "Memory"), snapshot.ram
    figures = {"available": ram.available_bytes, "total": ram.total_bytes}
    if ram.available_bytes >= _LEAST_RAM:
        yield Finding(
            "ok", title, Text.of("doctor.ram.ok", "{available:bytes} of {total:bytes} are free.", **figures)
        )
        return
    yield Finding(
        "warning",
        title,
        Text.of(
            "doctor.ram.low",
            "Only {available:bytes} of {total:bytes} are free; even small models need {least:bytes}.",
            **figures,
            least=_LEAST_RAM,
        ),
        Text("doctor.ram.low.remedy", "Close other programs, browsers with many tabs first."),
    )


def check_page_file(snapshot: HardwareSnapshot) -> Iterator[Finding]:
    """Tell whether Windows' page file lets a large model load."""
    limit = snapshot.ram.commit_limit_bytes
    if limit is None:
        return
    title = Text("doctor.page_file", "Page file")
    size = max(0, limit - snapshot.ram.total_bytes)
    if size >= _GOOD_PAGE_FILE or limit >= _ENOUGH_COMMIT:
        yield Finding("ok", title, Text.of("doctor.page_file.ok", "{size:bytes}.", size=size))
        return
    yield Finding(
        "warning",
        title,
        Text.of(
            "doctor.page_file.small",
            "Windows has a page file of {size:bytes}; large models may fail to load (error 1455).",
            size=size,
        ),
        Text.of(
            "doctor.page_file.small.remedy",
            "Open 'Adjust the appearance and performance of Windows', Advanced, Virtual memory, and set at "
            "least {megabytes} MB.",
            megabytes=_GOOD_PAGE_FILE // 1024**2,
        ),
    )


def check_disk(snapshot: HardwareSnapshot) -> Finding:
    """Tell how much space is left where Snug writes."""
    title, disk = Text("doctor.disk", "Disk"), snapshot.disk
    text = Text.of(
        "doctor.disk.free", "{free:bytes} are free in {path}.", free=disk.free_bytes, path=disk.path
    )
    if disk.free_bytes >= _GOOD_DISK:
        return Finding("ok", title, text)
    remedy = Text("doctor.disk.remedy", "Free some space, or set SNUG_HOME to a folder on another disk.")
    return Finding("broken" if disk.free_bytes < _LEAST_DISK else "warning", title, text, remedy)


def check_home(settings: Settings) -> Finding:
    """Write a file that vanishes at once into Snug's folder, or where that would be made."""
    title = Text("doctor.home", "Snug's folder")
    folder = nearest_existing(settings.home)
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"snug")
    except OSError as error:
        return Finding(
            "broken",
            title,
            Text.of(
                "doctor.home.read_only",
                "{path} can't be written: {detail}.",
                path=str(settings.home),
                detail=error.strerror or "no access",
            ),
            Text("doctor.home.remedy", "Set SNUG_HOME to a folder that you may write to."),
        )
    return Finding("ok", title, Text.of("doctor.home.ok", "{path} can be written.", path=str(settings.home)))
