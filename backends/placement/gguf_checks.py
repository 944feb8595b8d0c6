"""What a person can't set for a GGUF file or a conversion, because llama.cpp does not have it."""

from __future__ import annotations

from backends.errors import SettingInvalid
from backends.models.types import ModelInfo
from backends.placement.labels import precision_label
from backends.placement.types import Overrides
from backends.text import Text

_GPU_LAYERS = Text("check.gguf_leave_out", "Leave this setting out, or set gpu_layers.")
_LEAVE_OUT = Text("check.leave_out", "Leave this setting out.")


def check(model: ModelInfo, overrides: Overrides) -> None:
    """Raise SettingInvalid for the first setting that a GGUF file can't take."""
    if overrides.precision not in (None, model.dtype):
        raise SettingInvalid(
            name="precision",
            value=str(overrides.precision),
            detail=Text.of(
                "check.gguf_fixed",
                "A GGUF file has the precision it was made with, and this one is {precision}.",
                precision=precision_label(model.dtype),
            ),
            suggestion=Text("check.gguf_other_file", "Get the model's file in the precision that you want."),
        )
    check_rest(overrides)


def check_rest(overrides: Overrides) -> None:
    """The same for what llama.cpp can't take in any model."""
    if overrides.device_map is not None:
        why = Text("check.gguf_map", "llama.cpp places whole runs of layers, not single modules.")
        raise SettingInvalid(name="device_map", value="...", detail=why, suggestion=_GPU_LAYERS)
    if overrides.cpu_layers_mode == "stream":
        why = Text("check.gguf_stream", "With llama.cpp, layers in RAM compute there.")
        raise SettingInvalid(name="cpu_layers_mode", value="stream", detail=why, suggestion=_LEAVE_OUT)
    if overrides.offload_dir is not None:
        why = Text("check.gguf_offload", "llama.cpp keeps nothing in an offload folder.")
        raise SettingInvalid(
            name="offload_dir", value=overrides.offload_dir, detail=why, suggestion=_LEAVE_OUT
        )
