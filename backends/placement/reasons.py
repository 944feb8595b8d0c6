"""Every sentence that explains a plan: one function a sentence, so that all can be translated."""

from __future__ import annotations

from backends.text import Text

_FORMAT = {
    "bf16": "bf16",
    "fp16": "fp16",
    "fp32": "fp32",
    "int8": "8-bit (LLM.int8)",
    "nf4": "4-bit (NF4)",
}


def precision_label(name: str) -> str:
    """The field's name of a precision, the same in every language."""
    return _FORMAT.get(name, name)


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


def several_gpus(count: int, devices: str) -> Text:
    """Several GPUs share the layers."""
    return Text.of(
        "reason.several_gpus",
        "One GPU is not enough, so the layers run in order over {count} GPUs ({devices}), "
        "shared by what each has left.",
        count=count,
        devices=devices,
    )


def hybrid(gpu_layers: int, layers: int, devices: str) -> Text:
    """Some layers on GPUs, the rest in RAM."""
    return Text.of(
        "reason.hybrid",
        "{gpu_layers} of {layers} layers fit on {devices} beside cache and picture; the rest stays in RAM.",
        gpu_layers=gpu_layers,
        layers=layers,
        devices=devices,
    )


def compute_mode(compute: float, stream: float) -> Text:
    """Layers in RAM compute on the CPU."""
    return Text.of(
        "reason.compute",
        "Layers in RAM compute on the CPU: about {compute:.1f} tokens/s, against {stream:.1f} if they were "
        "sent to the GPU for every token.",
        compute=compute,
        stream=stream,
    )


def stream_mode(compute: float, stream: float) -> Text:
    """Layers in RAM are sent to the GPU."""
    return Text.of(
        "reason.stream",
        "Layers in RAM are sent to the GPU when they are needed: about {stream:.1f} tokens/s, against "
        "{compute:.1f} if the CPU computed them.",
        compute=compute,
        stream=stream,
    )


def disk_layers(layers: int, nbytes: int, folder: str) -> Text:
    """Some layers are read from the disk."""
    return Text.of(
        "reason.disk",
        "{layers} layers ({nbytes:bytes}) are read from the disk ({folder}) for every token: memory is full.",
        layers=layers,
        nbytes=nbytes,
        folder=folder,
    )


def no_gpu() -> Text:
    """There is no GPU."""
    return Text.of("reason.no_gpu", "No usable GPU was found, so the model runs on the CPU.")


def cpu_chosen() -> Text:
    """There is a GPU, and the CPU is the better or only choice."""
    return Text.of("reason.cpu_chosen", "The GPU does not hold enough of this model, so it runs on the CPU.")


def cpu_preset() -> Text:
    """The preset uses no GPU."""
    return Text.of("reason.cpu_preset", "This preset leaves every GPU alone.")


def preset_needs_gpu(preset: str) -> Text:
    """The preset is meant for GPUs, and there is none."""
    return Text.of(
        "reason.preset_needs_gpu",
        'The preset "{preset}" is meant for a GPU, and none was found, so the model runs on the CPU.',
        preset=preset,
    )


def gpu_only(preset: str) -> Text:
    """The preset uses GPUs only, and there is none."""
    return Text.of(
        "reason.gpu_only",
        'The preset "{preset}" uses GPUs only, and this machine has no usable one.',
        preset=preset,
    )


def checkpoint_precision(precision: str) -> Text:
    """Full quality: half precision."""
    return Text.of(
        "reason.checkpoint",
        "The weights are in half precision ({precision}), not quantized.",
        precision=precision,
    )


def quantized(precision: str, saved: int) -> Text:
    """Weights are quantized."""
    return Text.of(
        "reason.quantized",
        "Decoder layers on the GPU are stored in {precision}, which saves {saved:bytes}; the vision part, "
        "embeddings and head keep half precision.",
        precision=precision,
        saved=saved,
    )


def cpu_full_width(precision: str) -> Text:
    """Quantization does not reach the CPU."""
    return Text.of(
        "reason.cpu_full_width",
        "Layers in RAM or on the disk are not quantized: they are counted, and loaded, in {precision}.",
        precision=precision,
    )


def cpu_fp32(cpu: str) -> Text:
    """fp32 because the CPU has no bf16 instructions."""
    return Text.of(
        "reason.cpu_fp32",
        "{cpu} has no bf16 instructions; fp32 answers several times sooner there, at twice the memory.",
        cpu=cpu,
    )


def cpu_fp32_small() -> Text:
    """fp32 because the model is so small that conversion costs more than it saves."""
    return Text.of(
        "reason.cpu_fp32_small",
        "The model is so small that fp32 costs little memory and is the fastest on this CPU.",
    )


def cpu_bf16(cpu: str) -> Text:
    """bf16 because the CPU multiplies it itself."""
    return Text.of(
        "reason.cpu_bf16",
        "{cpu} multiplies bf16 itself: half the memory to read for every token.",
        cpu=cpu,
    )


def cpu_bf16_no_room(needed: int, budget: int) -> Text:
    """bf16 although slow, because fp32 does not fit."""
    return Text.of(
        "reason.cpu_bf16_no_room",
        "fp32 would be faster on this CPU but needs {needed:bytes} of {budget:bytes}, so bf16 is used: slow.",
        needed=needed,
        budget=budget,
    )


def cpu_quantized(precision: str) -> Text:
    """Bitsandbytes on a CPU."""
    return Text.of(
        "reason.cpu_quantized",
        "{precision} on a CPU saves memory but is slow: below one token a second at a billion parameters.",
        precision=precision,
    )


def gpu_busy(index: int, name: str, held: int, process: str, pid: int) -> Text:
    """Another program holds a GPU, and the driver says which."""
    return Text.of(
        "reason.gpu_busy",
        "GPU {index} ({name}) comes last: {process} (process {pid}) holds {held:bytes} of it.",
        index=index,
        name=name,
        held=held,
        process=process,
        pid=pid,
    )


def gpu_busy_unknown(index: int, name: str, held: int) -> Text:
    """Somebody holds a GPU, and the driver does not say who."""
    return Text.of(
        "reason.gpu_busy_unknown",
        "GPU {index} ({name}) comes last: other programs hold {held:bytes} of it or keep it computing; the "
        "driver does not say which.",
        index=index,
        name=name,
        held=held,
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
    return Text.of(
        "reason.slow",
        "About {tokens_per_s:.1f} tokens/s is slower than reading speed ({reading:.0f}).",
        tokens_per_s=tokens_per_s,
        reading=reading,
    )


def short(device: str, needed: int, budget: int) -> Text:
    """A device is over its budget."""
    return Text.of(
        "reason.short",
        "{device} would need {needed:bytes} and has {budget:bytes}: {missing:bytes} too little.",
        device=device,
        needed=needed,
        budget=budget,
        missing=needed - budget,
    )


def short_loading(needed: int, budget: int) -> Text:
    """RAM is enough to run but not to load."""
    return Text.of(
        "reason.short_loading",
        "Loading would need {needed:bytes} of RAM for a moment and {budget:bytes} are free.",
        needed=needed,
        budget=budget,
    )


def short_commit(needed: int, budget: int, page_file: int) -> Text:
    """Windows would not promise the memory."""
    return Text.of(
        "reason.short_commit",
        "Windows would have to promise {needed:bytes} and can promise {budget:bytes}. Set the page file to "
        "{page_file:bytes} or more.",
        needed=needed,
        budget=budget,
        page_file=page_file,
    )


def would_run(precision: str, tokens_per_s: float) -> Text:
    """What would run instead."""
    return Text.of(
        "reason.would_run",
        "{precision} would run instead, at about {tokens_per_s:.1f} tokens/s.",
        precision=precision,
        tokens_per_s=tokens_per_s,
    )


def no_room_anywhere(preset: str) -> Text:
    """Nothing within the preset fits."""
    return Text.of(
        "reason.no_room",
        'Nothing that the preset "{preset}" may use holds this model.',
        preset=preset,
    )


def assumed(figures: str) -> Text:
    """Speeds rest on assumed figures."""
    return Text.of(
        "reason.assumed",
        "Taken from a table or a rule and not measured here: {figures}.",
        figures=figures,
    )


def headers_only() -> Text:
    """The folder has no weights."""
    return Text.of(
        "reason.headers_only",
        "The folder holds only the headers of the weight files: enough to plan, not to load.",
    )


def by_hand(what: str) -> Text:
    """The person decided something."""
    return Text.of("reason.by_hand", "Set by hand: {what}.", what=what)


def why_slower(tokens_per_s: float, chosen: float) -> Text:
    """An alternative is slower."""
    return Text.of(
        "why.slower",
        "It would answer at about {tokens_per_s:.1f} tokens/s instead of {chosen:.1f}.",
        tokens_per_s=tokens_per_s,
        chosen=chosen,
    )


def not_in_preset(tokens_per_s: float) -> Text:
    """An alternative would run, but the preset does not allow it."""
    return Text.of(
        "why.not_in_preset",
        "It would run at about {tokens_per_s:.1f} tokens/s, but the preset or your settings don't allow it.",
        tokens_per_s=tokens_per_s,
    )


def why_lower_quality(precision: str) -> Text:
    """An alternative loses quality without need."""
    return Text.of("why.lower_quality", "{precision} loses quality without need here.", precision=precision)


def why_below_reading(tokens_per_s: float, reading: float) -> Text:
    """An alternative of higher quality is too slow."""
    return Text.of(
        "why.below_reading",
        "At about {tokens_per_s:.1f} tokens/s it would be slower than reading speed ({reading:.0f}).",
        tokens_per_s=tokens_per_s,
        reading=reading,
    )


def why_no_gain(tokens_per_s: float) -> Text:
    """An alternative of the same quality is no better."""
    return Text.of(
        "why.no_gain",
        "It brings nothing more here (about {tokens_per_s:.1f} tokens/s).",
        tokens_per_s=tokens_per_s,
    )
