"""Plans written out by hand, for tests of engines and workers."""

from __future__ import annotations

from pathlib import Path

from backends.placement.types import CpuLayersMode, DeviceShare, Expected, Plan, PlanRequest


def make_plan(
    path: Path | str,
    *,
    device_map: dict[str, str] | None = None,
    precision: str = "fp32",
    context_tokens: int = 512,
    offload_dir: str | None = None,
    int8_fp32_cpu_offload: bool = False,
    visible_gpus: tuple[int, ...] = (),
    weights_bytes: int = 1_000_000,
    cpu_layers_mode: CpuLayersMode | None = None,
) -> Plan:
    """A plan for `path` that puts everything on the CPU unless `device_map` says otherwise."""
    chosen = device_map if device_map is not None else {"": "cpu"}
    return Plan(
        request=PlanRequest(str(path)),
        model_path=str(path),
        family="llava",
        parameters=1,
        layers=2,
        format="safetensors",
        engine="transformers",
        precision=precision,
        verdict="fits",
        device_map=tuple(chosen.items()),
        gpu_layers=0,
        cpu_layers_mode=cpu_layers_mode,
        context_tokens=context_tokens,
        images=1,
        image_tokens=16,
        offload_dir=offload_dir,
        int8_fp32_cpu_offload=int8_fp32_cpu_offload,
        visible_gpus=visible_gpus,
        devices=(DeviceShare("cpu", "CPU", 1 << 33, weights_bytes, 1 << 24, 0, 0, 0),),
        load_peak_ram_bytes=0,
        disk_needed_bytes=0,
        expected=Expected(1.0, 1.0, 1.0),
        reasons=(),
        alternatives=(),
        quantized=tuple(f"model.language_model.layers.{index}" for index in range(3)),
    )
