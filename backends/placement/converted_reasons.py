"""Says why a plan converts a checkpoint, to what, and what that takes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from backends.placement import converted_words, gguf_words
from backends.placement.candidates import Candidate
from backends.placement.case import ENGINE, Case
from backends.placement.gguf_speed import making_seconds
from backends.placement.labels import precision_label
from backends.placement.rejected import missing
from backends.presets import Preset
from backends.text import Text


def why(case: Case, chosen: Candidate, others: Sequence[Candidate], source_bytes: int) -> Iterator[Text]:
    """Why llama.cpp, in which precision, and what has to be made for it first."""
    conversion, outcome = case.conversion, chosen.outcome
    if conversion is None or chosen.variant is None:
        return
    name = outcome.layout.precision.name
    beside = [other.outcome for other in others if other.engine == ENGINE and other.outcome.fits]
    if case.request.overrides.engine is None and not outcome.layout.gpus:
        best = max((other.expected.tokens_per_s for other in beside if not other.layout.gpus), default=None)
        mine = outcome.expected.tokens_per_s
        yield converted_words.chosen() if best is None else converted_words.chosen_beside(mine, best)
    weights = sum(share.weights_bytes for share in outcome.devices)
    yield converted_words.written_as(precision_label(name), weights, source_bytes)
    if case.request.preset is Preset.CPU:
        wider = next((other for other in others if other.variant and other.choice == "q8_0"), None)
        if wider is not None and not wider.outcome.fits:
            yield converted_words.no_room_for(precision_label("q8_0"), missing(wider.outcome)[0])
    if outcome.layout.mode == "compute":
        yield gguf_words.rest_computes()
    if conversion.ready:
        yield converted_words.ready(conversion.nbytes)
    elif not conversion.nbytes:
        yield converted_words.compare_once(making_seconds(case))
    else:
        yield converted_words.once(making_seconds(case), conversion.nbytes)
    if conversion.layout is not None:
        yield converted_words.layout(conversion.layout.value, conversion.compared, conversion.gap)
    elif conversion.vision_kind is not None:
        yield converted_words.layout_later()
