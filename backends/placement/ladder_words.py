"""The sentences of the ladder: what a step does, and what it costs."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from backends.placement.types import Plan
from backends.text import Text, reads_alike

# Speeds that differ by less are the same to a person.
_SAME = 0.05
# A first word that takes this much longer is worth saying.
_LATER = 1.25

_NAMES = {
    "context": Text("ladder.context", "Keep less room for the answer"),
    "detail": Text("ladder.detail", "Look at pictures in less detail"),
    "layers": Text("ladder.layers", "Move layers off the GPU"),
    "llamacpp": Text("ladder.llamacpp", "Use llama.cpp"),
    "half": Text("ladder.half", "Use 16-bit weights"),
    "int8": Text("ladder.int8", "Load in 8-bit"),
    "nf4": Text("ladder.nf4", "Load in 4-bit"),
    "cpu": Text("ladder.cpu", "Use the processor only"),
    "disk": Text("ladder.disk", "Keep part of the model on the disk"),
}
_RAM = Text("ladder.ram", "main memory")


def name(rung: str) -> Text:
    """What the step does; short enough for a button."""
    return _NAMES[rung]


def device_name(plan: Plan, device: str) -> str | Text:
    """What a person calls `device`."""
    if device == "cpu":
        return _RAM
    named = next((share.name for share in plan.devices if share.device == device and share.name), "")
    if not named:
        return device
    return Text.of("ladder.gpu", "{name} (GPU {index})", name=named, index=device.removeprefix("cuda:"))


def costs(
    rung: str, failed: Plan, plan: Plan, device: str, layers_on: Callable[[Plan], int]
) -> tuple[Text, ...]:
    """What is given up, then speed, then memory."""
    return (
        *_given_up(rung, failed, plan, device, layers_on),
        *_speed(failed, plan),
        _freed(failed, plan, device),
    )


def nothing_left_gpu(device: str | Text) -> Text:
    """Every step was tried or does not help: the GPU."""
    return Text.of(
        "ladder.nothing_gpu",
        "There is nothing more to try with this model here. Close other programs that use {device}, or "
        "choose a smaller model.",
        device=device,
    )


def nothing_left_ram() -> Text:
    """Every step was tried or does not help: main memory."""
    return Text(
        "ladder.nothing_ram",
        "There is nothing more to try with this model here. Close other programs, or choose a smaller model.",
    )


def _given_up(
    rung: str, failed: Plan, plan: Plan, device: str, layers_on: Callable[[Plan], int]
) -> Iterator[Text]:
    if plan.image_tokens < failed.image_tokens:
        yield Text.of(
            "ladder.cost.detail",
            "A picture is seen with {after:count} tokens instead of {before:count}: small print may be "
            "missed.",
            after=plan.image_tokens,
            before=failed.image_tokens,
        )
    if plan.context_tokens < failed.context_tokens:
        yield Text.of(
            "ladder.cost.context",
            "There is room for {after:count} tokens instead of {before:count}: pictures, conversation and "
            "answer together.",
            after=plan.context_tokens,
            before=failed.context_tokens,
        )
    if rung in ("layers", "int8", "nf4") and layers_on(plan) != layers_on(failed):
        yield Text.of(
            "ladder.cost.layers",
            "{after} instead of {before} of the {total} layers are on {device}.",
            after=layers_on(plan),
            before=layers_on(failed),
            total=plan.layers,
            device=device_name(failed, device),
        )
    if plan.precision != failed.precision:
        yield _precision(failed.precision, plan.precision)
    if plan.conversion is not None and not plan.conversion.ready and failed.conversion is None:
        yield Text.of(
            "ladder.cost.convert",
            "The model is converted for llama.cpp first, once, which takes {size:bytes} on the disk.",
            size=plan.conversion.nbytes,
        )
    on_disk = sum(share.weights_bytes for share in plan.devices if share.device == "disk")
    if on_disk:
        yield Text.of(
            "ladder.cost.disk",
            "{size:bytes} of weights are read from the disk for every word.",
            size=on_disk,
        )


def _precision(before: str, after: str) -> Text:
    if after == "int8":
        return Text.of(
            "ladder.cost.int8", "int8 instead of {before}: answers may differ a little.", before=before
        )
    if after == "nf4":
        return Text.of("ladder.cost.nf4", "nf4 instead of {before}: answers get rougher.", before=before)
    if after == "q8_0":
        return Text.of(
            "ladder.cost.q8_0", "q8_0 instead of {before}: answers may differ a little.", before=before
        )
    if after == "q4_0":
        return Text.of("ladder.cost.q4_0", "q4_0 instead of {before}: answers get rougher.", before=before)
    return Text.of(
        "ladder.cost.same_quality",
        "{after} instead of {before}: the answers are as good.",
        after=after,
        before=before,
    )


def _speed(failed: Plan, plan: Plan) -> Iterator[Text]:
    before, after = failed.expected, plan.expected
    near = abs(after.tokens_per_s - before.tokens_per_s) <= _SAME * before.tokens_per_s
    if near or reads_alike(after.tokens_per_s, before.tokens_per_s, "rate"):
        yield Text.of(
            "ladder.cost.same_speed",
            "The speed stays at about {after:rate} tokens/s.",
            after=after.tokens_per_s,
        )
    else:
        yield Text.of(
            "ladder.cost.speed",
            "About {after:rate} tokens/s instead of {before:rate}.",
            after=after.tokens_per_s,
            before=before.tokens_per_s,
        )
    alike = reads_alike(after.first_token_s, before.first_token_s, "seconds")
    if after.first_token_s > _LATER * before.first_token_s and after.first_token_s > 1.0 and not alike:
        yield Text.of(
            "ladder.cost.first",
            "The first word comes after about {after:seconds} instead of {before:seconds}.",
            after=after.first_token_s,
            before=before.first_token_s,
        )


def _freed(failed: Plan, plan: Plan, device: str) -> Text:
    before, after = (
        sum(share.total_bytes for share in one.devices if share.device == device) for one in (failed, plan)
    )
    name = device_name(failed, device)
    if after == before:
        return Text.of("ladder.cost.kept", "It needs as much of {device} as before.", device=name)
    if after < before and reads_alike(after, before, "bytes"):
        return Text.of(
            "ladder.cost.freed_little",
            "It needs {freed:bytes} less of {device}.",
            freed=before - after,
            device=name,
        )
    return Text.of(
        "ladder.cost.freed",
        "It needs {after:bytes} instead of {before:bytes} of {device}.",
        after=after,
        before=before,
        device=name,
    )
