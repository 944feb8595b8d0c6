"""One of each sentence that can explain a plan, for the tests of wording and translations."""

from __future__ import annotations

from backends.placement import reasons
from backends.text import Text


def samples() -> tuple[Text, ...]:
    """One of each, for the tests of translations."""
    gib = 1024**3
    return (
        reasons.one_gpu("cuda:0", "NVIDIA GeForce RTX 3090", 15 * gib, 23 * gib),
        reasons.several_gpus(2, "cuda:2, cuda:3"),
        reasons.hybrid(12, 32, "cuda:0"),
        reasons.compute_mode(5.0, 1.0),
        reasons.stream_mode(1.0, 5.0),
        reasons.disk_layers(4, gib, "D:\\Snug\\offload"),
        reasons.no_gpu(),
        reasons.cpu_preset(),
        reasons.cpu_chosen(),
        reasons.preset_needs_gpu("high"),
        reasons.gpu_only("high"),
        reasons.checkpoint_precision("bf16"),
        reasons.quantized("4-bit (NF4)", gib),
        reasons.cpu_full_width("fp16"),
        reasons.cpu_fp32("AMD Ryzen 5"),
        reasons.cpu_fp32_small(),
        reasons.cpu_bf16("AMD EPYC"),
        reasons.cpu_bf16_no_room(28 * gib, 14 * gib),
        reasons.cpu_quantized("4-bit (NF4)"),
        reasons.gpu_busy(0, "NVIDIA GeForce RTX 4090", gib, "python.exe", 4321),
        reasons.gpu_busy_unknown(0, "NVIDIA GeForce RTX 4090", gib),
        reasons.pictures(1, 576, 2048),
        reasons.text_context(2048),
        reasons.picture_scaled(1280, 5350),
        reasons.slow(2.5, 5.0),
        reasons.short("cuda:0", 2 * gib, gib),
        reasons.short_loading(2 * gib, gib),
        reasons.short_commit(2 * gib, gib, gib),
        reasons.would_run("4-bit (NF4)", 12.0),
        reasons.no_room_anywhere("high"),
        reasons.assumed("ram.memory_gbps"),
        reasons.headers_only(),
        reasons.by_hand("precision"),
        reasons.why_slower(1.0, 5.0),
        reasons.not_in_preset(12.0),
        reasons.why_lower_quality("4-bit (NF4)"),
        reasons.why_below_reading(1.0, 5.0),
        reasons.why_no_gain(5.0),
    )


ALL_REASONS: tuple[Text, ...] = samples()
