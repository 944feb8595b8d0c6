"""Which files the library is to load for a plan: a model's own, or those that are made of it first."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Event as Flag

from backends.conversion.cache import in_use, stem
from backends.conversion.convert import convert
from backends.conversion.repair import Flaws, flaws, repair
from backends.conversion.types import Conversion, Layout, Request
from backends.engines.base import ProgressSink
from backends.engines.heap import give_gaps_back
from backends.engines.llamacpp.layout import choose, choose_for_library
from backends.engines.llamacpp.threads import choose_threads
from backends.errors import DiskFull, FolderReadOnly, SnugError
from backends.messages import Progress
from backends.models.gguf import identify_gguf
from backends.models.gguf_header import read_gguf_header
from backends.models.identify import ensure_loadable
from backends.models.types import ModelInfo
from backends.placement.types import Plan
from backends.text import Text

# Messages of a conversion: often enough to look smooth, seldom enough to cost nothing.
_STEPS = 400


@dataclass(frozen=True, slots=True)
class Source:
    """The files to load, as read from their headers. `notes` tell what was done to them."""

    info: ModelInfo
    mmproj: Path | None
    notes: tuple[Text, ...] = ()


def prepare(plan: Plan, cache: Path | None, progress: ProgressSink, cancel: Flag) -> Source:
    """Make what is missing of the files of `plan`, and read their headers.

    Picture parts that were published with a flaw are repaired into `cache` (None: they stay). Raises what
    `convert` and `identify_gguf` raise, and ModelDamaged for a copy of headers only.
    """
    if plan.conversion is not None:
        return _converted(plan, plan.conversion, progress, cancel)
    info = identify_gguf(Path(plan.model_path))
    ensure_loadable(info)
    mmproj = info.gguf.mmproj if info.gguf is not None else None
    if mmproj is None:
        return Source(info, None)
    own = Source(info, info.path.parent / mmproj)
    return own if cache is None else _repaired(own, info.path.parent / mmproj, cache, progress, cancel)


@contextmanager
def kept(plan: Plan) -> Iterator[None]:
    """Have the converted files of `plan` stay until they are loaded, whoever clears them meanwhile."""
    with ExitStack() as stack:
        if plan.conversion is not None:
            stack.enter_context(in_use(Path(plan.conversion.cache), stem(Path(plan.model_path))))
        yield


def _repaired(own: Source, mmproj: Path, cache: Path, progress: ProgressSink, cancel: Flag) -> Source:
    """The same model with a picture part that the library reads right; its own where that can't be kept."""
    found = flaws(read_gguf_header(mmproj))
    if found is None:
        return own
    try:
        layout = choose_for_library(cache, progress, cancel).layout
        if layout is Layout.PLAIN and not found.cut:
            return own
        made = repair(mmproj, cache, layout, _reporting(progress), cancel)
    except (DiskFull, FolderReadOnly) as error:
        return replace(own, notes=(_unrepaired(mmproj, error),))
    give_gaps_back()
    return Source(identify_gguf(own.info.path, made), made, (_repaired_note(mmproj, found, layout),))


def _repaired_note(mmproj: Path, found: Flaws, layout: Layout) -> Text:
    if not found.cut:
        return Text.of(
            "llamacpp.repaired_order",
            "A repaired copy of {file} is used: this llama.cpp misreads the order of its positions.",
            file=mmproj.name,
        )
    if layout is Layout.PLAIN:
        return Text.of(
            "llamacpp.repaired_layers",
            "A repaired copy of {file} is used: with it, llama.cpp would leave out one layer too many.",
            file=mmproj.name,
        )
    return Text.of(
        "llamacpp.repaired_both",
        "A repaired copy of {file} is used: with it, llama.cpp would leave out one layer too many, and "
        "misread the order of its positions.",
        file=mmproj.name,
    )


def _unrepaired(mmproj: Path, error: SnugError) -> Text:
    return Text.of(
        "llamacpp.unrepaired",
        "{file} has a flaw that makes the model see pictures less well, and its repair could not be kept: "
        "{cause}",
        file=mmproj.name,
        cause=error.what_text,
    )


def _converted(plan: Plan, conversion: Conversion, progress: ProgressSink, cancel: Flag) -> Source:
    request = Request(
        folder=Path(plan.model_path),
        cache=Path(conversion.cache),
        kind=conversion.kind,
        threads=choose_threads(),
    )
    if conversion.vision_kind is not None:
        request = replace(request, vision_kind=conversion.vision_kind)
        layout = choose(request, progress, cancel).layout if conversion.compares else conversion.layout
        request = replace(request, layout=layout)
    made = convert(request, _reporting(progress), cancel)
    give_gaps_back()
    info = identify_gguf(made.text, made.mmproj, search=False)
    ensure_loadable(info)
    return Source(info, made.mmproj)


def _reporting(progress: ProgressSink) -> Callable[[int, int], None]:
    """Pass on what `convert` tells, seldom enough to cost nothing."""
    reported = -1

    def report(done: int, total: int) -> None:
        nonlocal reported
        if reported < 0 or done == total or abs(done - reported) * _STEPS >= total:
            progress(Progress("converting", done, total))
            reported = done

    return report
