"""What articles recommend and libraries do not have is recognised and put right."""

from __future__ import annotations

import pytest

from backends.errors import SettingInvalid
from backends.placement.hearsay import put_right
from ui.overrides import parse_overrides


@pytest.mark.parametrize(
    ("pasted", "sentence"),
    [
        ("load_in_8bit_fp32_cpu_offload=True", "does not exist and is ignored silently"),
        ("llm_int8_enable_fp32_cpu_offload=True", "Snug sets it exactly when"),
        ('model.to("auto")', "auto is not a device"),
        ("model = model.to('auto')", "auto is not a device"),
        ('dispatch_model(model, device_map="auto")', "takes a finished map"),
        ("auto", "counts weights alone"),
        ('"balanced"', "counts weights alone"),
        ("load_in_4bit=True", "set precision=int8 or precision=nf4"),
        ("offload_folder=/tmp/x", "need not be named"),
    ],
)
def test_known_advice(pasted: str, sentence: str) -> None:
    assert sentence in str(put_right(pasted))


@pytest.mark.parametrize("pasted", ["model.layers.0", "cuda:0", "cpu", "", "automatic", "precision=nf4"])
def test_anything_else_is_left_alone(pasted: str) -> None:
    assert put_right(pasted) is None


@pytest.mark.parametrize(
    "setting", ["load_in_8bit_fp32_cpu_offload=True", "device_map=auto", "load_in_8bit=1"]
)
def test_on_the_command_line(setting: str) -> None:
    with pytest.raises(SettingInvalid):
        parse_overrides([setting])


def test_the_command_line_names_the_real_flag() -> None:
    with pytest.raises(SettingInvalid, match="llm_int8_enable_fp32_cpu_offload"):
        parse_overrides(["load_in_8bit_fp32_cpu_offload=True"])
