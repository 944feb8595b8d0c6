"""Watch transformers load: how many bytes of the checkpoint are in place, and stop it when asked to."""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Event as Flag
from typing import Any

from transformers.utils import logging as transformers_logging

from backends.engines.base import ProgressSink
from backends.errors import Cancelled, ModelDamaged
from backends.messages import Progress
from backends.text import Text

_LOADING_BAR = "Loading weights"
_NO_HEADER = Text("engine.no_header", "It has no readable header.")
_STEPS = 200  # progress messages a load: often enough to look smooth, seldom enough to cost nothing


def weight_files(folder: Path) -> tuple[Path, ...]:
    """The safetensors files that make up the checkpoint. Raises ModelDamaged when one is missing."""
    index = folder / "model.safetensors.index.json"
    names = ["model.safetensors"]
    # As transformers has it: a single file wins over an index.
    if index.is_file() and not (folder / names[0]).is_file():
        document = json.loads(index.read_text(encoding="utf-8"))
        names = sorted(set(document["weight_map"].values()))
    for name in names:
        if not (folder / name).is_file():
            raise ModelDamaged(
                path=str(folder),
                file=name,
                detail=Text.of("checkpoint.missing", "{file} is missing.", file=name),
            )
    return tuple(folder / name for name in names)


def tensor_sizes(files: Iterable[Path]) -> dict[str, int]:
    """Bytes of every tensor by its key. Raises ModelDamaged when a file is shorter than its header says."""
    sizes: dict[str, int] = {}
    for file in files:
        with file.open("rb") as stream:
            prefix = stream.read(8)
            length = struct.unpack("<Q", prefix)[0] if len(prefix) == 8 else 0
            present = file.stat().st_size - 8
            if not 2 <= length <= present:
                raise ModelDamaged(path=str(file.parent), file=file.name, detail=_NO_HEADER)
            try:
                header: dict[str, Any] = json.loads(stream.read(length))
            except ValueError as error:
                raise ModelDamaged(path=str(file.parent), file=file.name, detail=_NO_HEADER) from error
        header.pop("__metadata__", None)
        ends = [entry["data_offsets"][1] for entry in header.values()]
        if ends and length + max(ends) > present:
            detail = Text.of(
                "engine.ends_early",
                "{file} ends after {have:count} of {whole:count} bytes.",
                file=file.name,
                have=present + 8,
                whole=8 + length + max(ends),
            )
            raise ModelDamaged(path=str(file.parent), file=file.name, detail=detail)
        sizes |= {k: e["data_offsets"][1] - e["data_offsets"][0] for k, e in header.items()}
    return sizes


def read_ahead(files: Iterable[Path]) -> None:
    """Ask the system to read the files already now; a hint, nothing waits for it."""
    if not hasattr(os, "posix_fadvise"):
        return
    for file in files:
        with file.open("rb") as stream:
            os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_WILLNEED)


@contextmanager
def watched(sizes: dict[str, int], progress: ProgressSink, cancel: Flag) -> Iterator[None]:
    """Report the bytes in place while transformers loads inside the block, up to the total.

    transformers hands every progress bar it makes to a hook; the bar of its loading loop walks over the
    target tensors and what they are made of. Raises `Cancelled` between two tensors.
    """
    total = sum(sizes.values())

    def hook(factory: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if kwargs.get("desc") != _LOADING_BAR or not args:
            return factory(*args, **kwargs)
        return _walk(args[0], sizes, total, progress, cancel)

    if cancel.is_set():
        raise Cancelled
    progress(Progress("read", 0, total))
    previous = transformers_logging.set_tqdm_hook(hook)
    try:
        yield
    finally:
        transformers_logging.set_tqdm_hook(previous)
    if cancel.is_set():
        raise Cancelled
    progress(Progress("read", total, total))


def _walk(
    items: Iterable[tuple[str, Any]],
    sizes: dict[str, int],
    total: int,
    progress: ProgressSink,
    cancel: Flag,
) -> Iterator[tuple[str, Any]]:
    """Yield the loop's items unchanged, counting each one when the loop comes back for the next."""
    listed = list(items)
    exact = [_source_bytes(mapping, sizes) for _, mapping in listed]
    merged = sum(1 for count in exact if count is None)
    share = (total - sum(count or 0 for count in exact)) // merged if merged else 0
    done = reported = 0
    for item, count in zip(listed, exact, strict=True):
        if cancel.is_set():
            raise Cancelled
        yield item
        done = min(total, done + (share if count is None else count))
        if done - reported >= total // _STEPS:
            progress(Progress("read", done, total))
            reported = done


def _source_bytes(mapping: Any, sizes: dict[str, int]) -> int | None:
    """Bytes of the one checkpoint tensor behind `mapping`, None when it is made of several."""
    sources: Sequence[str] = getattr(mapping, "source_patterns", ())
    return sizes.get(sources[0]) if len(sources) == 1 else None
