"""The sentences of plans that convert a checkpoint for llama.cpp, and of settings that these can't take."""

from __future__ import annotations

from collections.abc import Iterable

from backends.text import Text, reads_alike

# A mean divergence in nats at which one answer in some dozens starts with another word.
_FAR = 0.05
_LAYOUTS = {
    "plain": Text("converted.layout_plain", "as they are"),
    "rotated": Text("converted.layout_rotated", "moved by one"),
    "no_class": Text("converted.layout_no_class", "without the class token"),
}


def chosen() -> Text:
    """Why llama.cpp runs the model."""
    return Text("converted.chosen", "llama.cpp runs it: on a processor it answers soonest.")


def chosen_beside(mine: float, other: float) -> Text:
    """Why llama.cpp runs the model, beside what transformers would reach."""
    if mine <= other or reads_alike(mine, other, "rate"):
        return chosen()
    return Text.of(
        "converted.faster",
        "llama.cpp runs it: on a processor it writes about {mine:rate} tokens/s, transformers {other:rate}.",
        mine=mine,
        other=other,
    )


def written_as(label: str, size: int, before: int) -> Text:
    """What the weights become."""
    if reads_alike(size, before, "bytes"):
        return Text.of(
            "converted.written_same",
            "Its weights are written as {precision} ({size:bytes}).",
            precision=label,
            size=size,
        )
    return Text.of(
        "converted.written",
        "Its weights are written as {precision}: {size:bytes} instead of {before:bytes}.",
        precision=label,
        size=size,
        before=before,
    )


def no_room_for(label: str, missing: Text) -> Text:
    """Why a smaller conversion than the preferred one."""
    return Text.of(
        "converted.no_room_for", "{precision} does not fit: {missing}", precision=label, missing=missing
    )


def once(seconds: float, size: int) -> Text:
    """A conversion that is still to be done."""
    return Text.of(
        "converted.once",
        "For that it is converted once, which takes about {seconds:seconds} and {size:bytes} of disk; later "
        "loads don't wait for it.",
        seconds=seconds,
        size=size,
    )


def ready(size: int) -> Text:
    """A conversion that has been done."""
    return Text.of("converted.ready", "It has been converted already ({size:bytes} on the disk).", size=size)


def layout(name: str, compared: str | None, gap: float | None) -> Text:
    """Which order of picture positions was chosen, and what that rests on."""
    if compared == "library":
        return Text.of(
            "converted.layout_library",
            "Its own view could not be compared with that of transformers. With a small random model, the "
            "picture positions come nearest {layout}.",
            layout=_LAYOUTS[name],
        )
    if gap is not None and gap > _FAR:
        return Text.of(
            "converted.layout_far",
            "Compared with transformers on test pictures, the picture positions come nearest {layout}, but "
            "answers about pictures may still differ.",
            layout=_LAYOUTS[name],
        )
    return Text.of(
        "converted.layout",
        "Compared with transformers on test pictures, the picture positions come nearest {layout}.",
        layout=_LAYOUTS[name],
    )


def compare_once(seconds: float) -> Text:
    """The files are there, and only comparing is left to do."""
    return Text.of(
        "converted.compare_once",
        "It has been converted already; comparing it with transformers once takes about {seconds:seconds}.",
        seconds=seconds,
    )


def layout_later() -> Text:
    """Nobody has compared yet."""
    return Text(
        "converted.layout_later",
        "Before the first answer, its view of test pictures is compared with that of transformers.",
    )


def short_disk(needed: int, have: int) -> Text:
    """The disk has no room for the new files."""
    if reads_alike(needed, have, "bytes"):
        return Text.of(
            "short.converting_barely",
            "Converting it for llama.cpp needs {missing:bytes} more than the {have:bytes} of disk that may "
            "be used.",
            missing=needed - have,
            have=have,
        )
    return Text.of(
        "short.converting",
        "Converting it for llama.cpp needs {needed:bytes} of disk, and {have:bytes} may be used.",
        needed=needed,
        have=have,
    )


def cant(why: Text) -> Text:
    """Why another engine runs a model on the processor."""
    return Text.of(
        "converted.cant", "llama.cpp, which is faster on a processor, can't run this model. {why}", why=why
    )


def not_installed() -> Text:
    """The package is missing."""
    return Text("converted.not_installed", "llama.cpp (the package xllamacpp) is not installed.")


def no_avx2(name: str) -> Text:
    """The processor is too old."""
    return Text.of("converted.no_avx2", "llama.cpp needs AVX2, which {name} does not have.", name=name)


def short_context(most: int) -> Text:
    """A window that slides in transformers ends llama.cpp's context."""
    return Text.of(
        "converted.short_context",
        "llama.cpp has no sliding window for it, and reads at most {most:count} tokens.",
        most=most,
    )


def not_offered(family: str) -> Text:
    """Nothing more is known."""
    return Text.of(
        "converted.not_offered",
        "Models of the family {family} can't be converted for llama.cpp.",
        family=family,
    )


def only_llamacpp(precision: str) -> Text:
    """A precision of llama.cpp's with another engine."""
    return Text.of("converted.only_llamacpp", "{precision} is a precision of llama.cpp.", precision=precision)


def only_transformers(precision: str) -> Text:
    """A precision of transformers' with llama.cpp."""
    return Text.of(
        "converted.only_transformers",
        "llama.cpp gets no {precision}; it is a precision of transformers.",
        precision=precision,
    )


def kinds(choices: Iterable[str]) -> Text:
    """What may be set instead."""
    return Text.of("check.choose", "Choose one of {choices}.", choices=", ".join(choices))


def other_precision() -> Text:
    """What may be set instead, for transformers."""
    return Text("converted.other_precision", "Leave the precision out, or choose bf16, fp16 or fp32.")


def shorter_context() -> Text:
    """What may be set instead of a context that is longer than llama.cpp's."""
    return Text(
        "converted.shorter_context",
        "Set a shorter context, or leave out precision and engine: transformers reads longer ones.",
    )


def use_transformers() -> Text:
    """What may be set instead of llama.cpp."""
    return Text("converted.use_transformers", "Leave the engine out, or set engine=transformers.")
