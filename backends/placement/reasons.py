"""The sentences that say where a plan puts the model, and what it keeps room for."""

from __future__ import annotations

from backends.placement.labels import preset_label
from backends.placement.types import ANSWER_TOKENS, Expected
from backends.text import Text, Value, reads_alike


def one_gpu(device: str, name: str, used: int, budget: int) -> Text:
    """Everything is on one GPU."""
    return Text.of(
        "reason.one_gpu",
        "The whole model fits on {device} ({name}): {used:bytes} of {budget:bytes}.",
        device=device,
        name=name,
        used=used,
        budget=budget,
    )


def layers_on_gpu(device: str, name: str, used: int, budget: int) -> Text:
    """All layers are on one GPU, and something else is not."""
    return Text.of(
        "reason.layers_on_gpu",
        "All layers are on {device} ({name}): {used:bytes} of {budget:bytes}.",
        device=device,
        name=name,
        used=used,
        budget=budget,
    )


def parts_elsewhere(rest: Text, parts: Value) -> Text:
    """Parts beside the layers that no GPU holds; `rest` is where they are."""
    return Text.of("reason.parts_elsewhere", "What is {rest}: {parts}.", rest=rest, parts=parts)


def several_gpus(count: int, devices: str) -> Text:
    """Several GPUs share the layers."""
    return Text.of(
        "reason.several_gpus",
        "One GPU is not enough, so the layers run in order over {count} GPUs ({devices}), "
        "shared by what each has left.",
        count=count,
        devices=devices,
    )


def several_by_hand(devices: str) -> Text:
    """The person spread the layers over GPUs."""
    return Text.of("reason.several_by_hand", "The layers are on {devices}, as you set it.", devices=devices)


def hybrid(gpu_layers: int, layers: int, devices: str, rest: Text) -> Text:
    """Some layers on GPUs, as many as fit; `rest` is where the others are."""
    return Text.of(
        "reason.hybrid",
        "{gpu_layers} of {layers} layers fit on {devices} beside what answering needs there; the others are "
        "{rest}.",
        gpu_layers=gpu_layers,
        layers=layers,
        devices=devices,
        rest=rest,
    )


def hybrid_by_hand(gpu_layers: int, layers: int, devices: str, rest: Text) -> Text:
    """Some layers on GPUs, as many as the person set; `rest` is where the others are."""
    return Text.of(
        "reason.hybrid_by_hand",
        "{gpu_layers} of {layers} layers are on {devices}, as you set it; the others are {rest}.",
        gpu_layers=gpu_layers,
        layers=layers,
        devices=devices,
        rest=rest,
    )


def compute_mode(compute: float, stream: float) -> Text:
    """Layers in RAM compute on the CPU."""
    if reads_alike(compute, stream, "rate"):
        return Text.of(
            "reason.compute_same",
            "Layers in RAM compute on the CPU: about {rate:rate} tokens/s, as many as if they were sent to "
            "the GPU for every token.",
            rate=compute,
        )
    return Text.of(
        "reason.compute",
        "Layers in RAM compute on the CPU: about {compute:rate} tokens/s, against {stream:rate} if they were "
        "sent to the GPU for every token.",
        compute=compute,
        stream=stream,
    )


def stream_mode(compute: float, stream: float) -> Text:
    """Layers in RAM are sent to the GPU."""
    if reads_alike(compute, stream, "rate"):
        return Text.of(
            "reason.stream_same",
            "Layers in RAM are sent to the GPU when they are needed: about {rate:rate} tokens/s, as many as "
            "if the CPU computed them.",
            rate=stream,
        )
    return Text.of(
        "reason.stream",
        "Layers in RAM are sent to the GPU when they are needed: about {stream:rate} tokens/s, against "
        "{compute:rate} if the CPU computed them.",
        compute=compute,
        stream=stream,
    )


def compute_only(compute: float, stream: float) -> Text:
    """Layers in RAM compute on the CPU, because sending them to the GPU does not fit."""
    if reads_alike(compute, stream, "rate"):
        return Text(
            "reason.compute_only_same",
            "Layers in RAM compute on the CPU: there is no room for sending them to the GPU, which would be "
            "as fast.",
        )
    return Text.of(
        "reason.compute_only",
        "Layers in RAM compute on the CPU: about {compute:rate} tokens/s, against {stream:rate} if they were "
        "sent to the GPU for every token, for which there is no room.",
        compute=compute,
        stream=stream,
    )


def stream_only(compute: float, stream: float) -> Text:
    """Layers in RAM are sent to the GPU, because computing them on the CPU does not fit."""
    if reads_alike(compute, stream, "rate"):
        return Text(
            "reason.stream_only_same",
            "Layers in RAM are sent to the GPU when they are needed: there is no room for computing them on "
            "the CPU, which would be as fast.",
        )
    return Text.of(
        "reason.stream_only",
        "Layers in RAM are sent to the GPU when they are needed: about {stream:rate} tokens/s, against "
        "{compute:rate} if the CPU computed them, for which there is no room.",
        compute=compute,
        stream=stream,
    )


def mode_answer(mine: Expected, other: Expected) -> Text:
    """Where layers in RAM run is decided by the time of a whole answer."""
    if reads_alike(mine.answer_s, other.answer_s, "seconds"):
        figures: dict[str, Value] = {
            "tokens": ANSWER_TOKENS,
            "answer": mine.answer_s,
            "first": mine.first_token_s,
        }
        if reads_alike(mine.first_token_s, other.first_token_s, "seconds"):
            return Text.of(
                "reason.mode_same",
                "An answer of {tokens} tokens, the first after {first:seconds}, takes {answer:seconds} in "
                "all either way.",
                **figures,
            )
        return Text.of(
            "reason.mode_first",
            "An answer of {tokens} tokens takes {answer:seconds} either way, the first after "
            "{first:seconds}; the other way it comes after {other_first:seconds}.",
            other_first=other.first_token_s,
            **figures,
        )
    return Text.of(
        "reason.mode_answer",
        "An answer of {tokens} tokens, the first after {first:seconds}, takes {answer:seconds} in all; the "
        "other way it takes {other:seconds}, the first after {other_first:seconds}.",
        tokens=ANSWER_TOKENS,
        first=mine.first_token_s,
        answer=mine.answer_s,
        other=other.answer_s,
        other_first=other.first_token_s,
    )


def disk_layers(layers: int, nbytes: int) -> Text:
    """Some layers are read from the disk."""
    return Text.of(
        "reason.disk",
        "The memory is full, so {nbytes:bytes} are read from the disk for every token: {layers} of the "
        "layers.",
        layers=layers,
        nbytes=nbytes,
    )


def disk_within_limits(layers: int, nbytes: int) -> Text:
    """Some layers are read from the disk, because the person limits the memory."""
    return Text.of(
        "reason.disk_within_limits",
        "More than the limits that you set does not go into memory, so {nbytes:bytes} are read from the disk "
        "for every token: {layers} of the layers.",
        layers=layers,
        nbytes=nbytes,
    )


def disk_by_hand(nbytes: int) -> Text:
    """Weights are on the disk because the person's map says so."""
    return Text.of(
        "reason.disk_by_hand",
        "As you set it, {nbytes:bytes} are read from the disk whenever they are needed.",
        nbytes=nbytes,
    )


def disk_in_place() -> Text:
    """The disk holds them already."""
    return Text(
        "reason.disk_in_place", "They are read from the model's own files, which takes no space on the disk."
    )


def disk_written(nbytes: int, folder: str) -> Text:
    """Weights that are in no file as they are used."""
    return Text.of(
        "reason.disk_written",
        "This model's weights are put together while they are loaded, so {nbytes:bytes} are written to "
        "{folder} first, and removed afterwards.",
        nbytes=nbytes,
        folder=folder,
    )


def no_gpu() -> Text:
    """There is no GPU."""
    return Text.of("reason.no_gpu", "No usable GPU was found, so the model runs on the CPU.")


def cpu_chosen() -> Text:
    """There is a GPU, and the CPU is the better or only choice."""
    return Text.of("reason.cpu_chosen", "The GPU does not hold enough of this model, so it runs on the CPU.")


def cpu_by_hand() -> Text:
    """The person put everything on the CPU."""
    return Text.of("reason.cpu_by_hand", "The model runs on the CPU, as you set it.")


def cpu_preset() -> Text:
    """The preset uses no GPU."""
    return Text.of("reason.cpu_preset", "This preset uses no GPU.")


def preset_needs_gpu(preset: str) -> Text:
    """The preset is meant for GPUs, and there is none."""
    return Text.of(
        "reason.preset_needs_gpu",
        'The preset "{preset}" is meant for a GPU, and none was found, so the model runs on the CPU.',
        preset=preset_label(preset),
    )


def pictures(images: int, image_tokens: int, context_tokens: int) -> Text:
    """What the context holds."""
    return Text.of(
        "reason.pictures",
        "Room is kept for {context_tokens:count} tokens: pictures ({images}, up to {image_tokens:count} "
        "tokens each), text and the answer.",
        images=images,
        image_tokens=image_tokens,
        context_tokens=context_tokens,
    )


def no_pictures(context_tokens: int) -> Text:
    """What the context holds when the person set it to no picture."""
    return Text.of(
        "reason.no_pictures",
        "Room is kept for {context_tokens:count} tokens: text and the answer, no pictures.",
        context_tokens=context_tokens,
    )


def text_context(context_tokens: int) -> Text:
    """What the context of a text model holds."""
    return Text.of(
        "reason.text_context",
        "Room is kept for {context_tokens:count} tokens. The model reads text only.",
        context_tokens=context_tokens,
    )


def picture_scaled(image_tokens: int, most: int) -> Text:
    """Large pictures are made smaller."""
    return Text.of(
        "reason.picture_scaled",
        "Large pictures are scaled to {image_tokens:count} tokens each; the model could take {most:count}.",
        image_tokens=image_tokens,
        most=most,
    )


def slow(tokens_per_s: float, reading: float) -> Text:
    """It runs, but slower than one reads."""
    if reads_alike(tokens_per_s, reading, "rate"):
        return Text.of(
            "reason.slow_barely",
            "It is just below reading speed ({reading:.0f} tokens/s), which counts as slow.",
            reading=reading,
        )
    return Text.of(
        "reason.slow",
        "About {tokens_per_s:rate} tokens/s is slower than reading speed ({reading:.0f}).",
        tokens_per_s=tokens_per_s,
        reading=reading,
    )


def late(first: float, longest: float) -> Text:
    """It runs, but the first word lets one wait."""
    if reads_alike(first, longest, "seconds"):
        return Text.of(
            "reason.late_barely",
            "An answer's first word takes just over {longest:seconds}, which counts as slow.",
            longest=longest,
        )
    return Text.of(
        "reason.late",
        "An answer's first word takes about {first:seconds}; more than {longest:seconds} counts as slow.",
        first=first,
        longest=longest,
    )


def lora_merged(name: str, rank: int, weights: int, cache: int) -> Text:
    """A LoRA is merged, so that it takes nothing afterwards."""
    return Text.of(
        "reason.lora_merged",
        "The LoRA {name} (rank {rank}) is merged into the weights one after the other while they are loaded, "
        "so nothing of it remains: {weights:bytes} of weights and {cache:bytes} of cache.",
        name=name,
        rank=rank,
        weights=weights,
        cache=cache,
    )


def lora_wide(wide: int) -> Text:
    """What articles ask for a LoRA is the size of float32 weights."""
    return Text.of("reason.lora_wide", "Twice as much ({wide:bytes}) is needed only in fp32.", wide=wide)


def mode_without_use(mode: str) -> Text:
    """A mode for layers in RAM was set, and no layer is there."""
    return Text.of(
        "reason.mode_without_use",
        "Where layers in RAM run ({mode}) makes no difference: all layers fit on GPUs.",
        mode=mode,
    )


def mode_without_gpu(mode: str) -> Text:
    """A mode for layers in RAM was set, and no GPU takes part."""
    return Text.of(
        "reason.mode_without_gpu",
        "Where layers in RAM run ({mode}) makes no difference: this plan uses no GPU.",
        mode=mode,
    )


def limit_without_use(device: str) -> Text:
    """A limit was set for a GPU that the plan may not use."""
    return Text.of(
        "reason.limit_without_use",
        "The limit for {device} makes no difference: this plan does not use it.",
        device=device,
    )


def limit_not_met(device: str) -> Text:
    """A limit was set for a GPU that this plan leaves alone, be it for that limit or for something else."""
    return Text.of("reason.limit_not_met", "{device}, for which you set a limit, is not used.", device=device)


def headers_only() -> Text:
    """The folder has no weights."""
    return Text.of(
        "reason.headers_only",
        "The folder holds only the headers of the weight files: enough to plan, not to load.",
    )


def by_hand(what: Value) -> Text:
    """The person decided something."""
    return Text.of("reason.by_hand", "Set by hand: {what}.", what=what)
