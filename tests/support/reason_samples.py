"""One of each sentence that can explain a plan, for the tests of wording and translations."""

from __future__ import annotations

from backends.hardware.types import Gpu
from backends.models.types import ModuleKind
from backends.placement import machine_words, precision_words, reasons, shortages, why_not
from backends.placement.labels import device_label, parts_label, rest_label
from backends.placement.types import Expected
from backends.text import Text


def samples() -> tuple[Text, ...]:
    """One of each, for the tests of translations."""
    gib = 1024**3
    return (
        reasons.one_gpu("cuda:0", "NVIDIA GeForce RTX 3090", 15 * gib, 23 * gib),
        reasons.layers_on_gpu("cuda:0", "NVIDIA GeForce RTX 3090", 15 * gib, 23 * gib),
        reasons.parts_elsewhere(rest_label(ram=True, disk=False), parts_label(list(ModuleKind))),
        reasons.several_gpus(2, "cuda:2, cuda:3"),
        reasons.several_by_hand("cuda:2, cuda:3"),
        reasons.hybrid(12, 32, "cuda:0", rest_label(ram=True, disk=False)),
        reasons.hybrid_by_hand(12, 32, "cuda:0", rest_label(ram=True, disk=True)),
        reasons.compute_mode(5.0, 1.0),
        reasons.stream_mode(1.0, 5.0),
        reasons.compute_only(5.0, 1.0),
        reasons.stream_only(1.0, 5.0),
        reasons.mode_answer(Expected(4.0, 2.0, 5.0), Expected(4.0, 95.0, 6.0)),
        reasons.disk_layers(4, gib),
        reasons.disk_within_limits(4, gib),
        reasons.disk_by_hand(gib),
        reasons.disk_in_place(),
        reasons.disk_written(gib, "D:\\Snug\\offload"),
        reasons.no_gpu(),
        reasons.cpu_by_hand(),
        reasons.cpu_preset(),
        reasons.cpu_chosen(),
        reasons.preset_needs_gpu("high"),
        shortages.gpu_only("high"),
        precision_words.checkpoint_precision("bf16"),
        precision_words.quantized("4-bit (NF4)", gib),
        precision_words.cpu_full_width("fp16"),
        precision_words.cpu_fp32("AMD Ryzen 5"),
        precision_words.cpu_fp32_small(),
        precision_words.cpu_bf16("AMD EPYC"),
        precision_words.cpu_bf16_no_room(28 * gib, 14 * gib),
        precision_words.cpu_quantized("4-bit (NF4)"),
        precision_words.gpu_too_old("int8", Gpu(0, "Tesla V100", gib, gib, (7, 0))),
        precision_words.fp16_for_bf16(Gpu(0, "NVIDIA GeForce RTX 2060", gib, gib, (7, 5))),
        machine_words.gpu_busy(0, "NVIDIA GeForce RTX 4090", gib, "python.exe", 4321),
        machine_words.gpu_busy_together(0, "NVIDIA GeForce RTX 4090", gib, "python.exe", 4321),
        machine_words.busy_last(),
        machine_words.gpu_busy_unknown(0, "NVIDIA GeForce RTX 4090", gib),
        reasons.pictures(1, 576, 2048),
        reasons.no_pictures(2048),
        reasons.text_context(2048),
        reasons.picture_scaled(1280, 5350),
        reasons.slow(2.5, 5.0),
        reasons.late(95.0, 30.0),
        shortages.short(device_label("cpu", "AMD EPYC"), 2 * gib, gib),
        shortages.short_loading(2 * gib, gib),
        shortages.short_commit(2 * gib, gib, gib),
        shortages.with_more_ram(16 * gib, 4 * gib),
        shortages.with_more_ram_only(16 * gib),
        shortages.would_run("4-bit (NF4)", 12.0),
        shortages.would_run_on(
            "4-bit (NF4)", device_label("cuda:1", "NVIDIA GeForce RTX 3090"), 9 * gib, 23 * gib, 12.0
        ),
        reasons.lora_merged("my-lora", 16, 13 * gib, gib),
        reasons.lora_wide(26 * gib),
        reasons.mode_without_use("stream"),
        reasons.mode_without_gpu("stream"),
        reasons.limit_without_use("cuda:0"),
        shortages.no_room_anywhere("high"),
        machine_words.assumed(("gpus[0].pcie_gbps", "gpus[1].pcie_gbps", "ram.memory_gbps")),
        reasons.headers_only(),
        reasons.by_hand("precision"),
        why_not.why_slower(1.0, 5.0),
        why_not.not_in_preset(12.0),
        why_not.not_in_preset_on(device_label("cpu", "AMD EPYC"), 9 * gib, 23 * gib, 12.0),
        why_not.why_lower_quality("4-bit (NF4)"),
        why_not.why_below_reading(1.0, 5.0),
        why_not.why_later(6.0, 95.0, 2.0),
        why_not.why_resort(95.0, 120.0),
        why_not.why_no_gain(5.0),
    )
