"""`--set key=value` arguments -> Overrides, with a clear error for each way to get them wrong."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from backends.errors import SettingInvalid
from backends.placement.hearsay import put_right
from backends.placement.types import Overrides, PlanRequest
from backends.text import Text
from ui.device_map import device_name

# As much of a wrong value as an error repeats.
_SHOWN = 100
_UNITS = {"": 1, "b": 1, "kib": 2**10, "mib": 2**20, "gib": 2**30, "tib": 2**40}
_UNITS |= {"kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12, "k": 2**10, "m": 2**20, "g": 2**30}
_MOST_BYTES = 1 << 60
_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([a-z]*)\s*", re.IGNORECASE)
_DEVICE = re.compile(r"cuda:\d+|cpu|disk")


def parse_size(text: str) -> int:
    """Read `6GiB`, `500 MB` or plain bytes. Raises ValueError."""
    match = _SIZE.fullmatch(text)
    unit = _UNITS.get(match[2].lower()) if match else None
    if match is None or unit is None:
        raise ValueError(text)
    size = float(match[1]) * unit
    if size > _MOST_BYTES:
        raise ValueError(text)
    return int(size)


def _count(minimum: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        number = int(text)
        if number < minimum:
            raise ValueError(text)
        return number

    return parse


def _gpus(text: str) -> tuple[int, ...]:
    numbers = tuple(_count(0)(part) for part in text.split(",") if part.strip())
    if not numbers or len(set(numbers)) != len(numbers):
        raise ValueError(text)
    return numbers


def _one_of(*allowed: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text not in allowed:
            raise ValueError(text)
        return text

    return parse


def _precision(text: str) -> str:
    if not re.fullmatch(r"[a-z0-9_]+", text):
        raise ValueError(text)
    return text


# key: (field of Overrides, parser, what it takes)
_KEYS: dict[str, tuple[str, Callable[[str], Any], str]] = {
    "gpus": ("gpus", _gpus, "GPU numbers separated by commas, such as 2,3"),
    "gpu_layers": ("gpu_layers", _count(0), "a whole number, 0 or more"),
    "precision": ("precision", _precision, "bf16, fp16, fp32, int8, nf4, f16, q8_0 or q4_0"),
    "context": ("context_tokens", _count(1), "a number of tokens, such as 4096"),
    "images": ("images", _count(0), "a number of pictures, such as 1"),
    "image_tokens": ("image_tokens", _count(1), "a number of tokens for one picture, such as 640"),
    "engine": ("engine", _one_of("transformers", "llamacpp", "remote"), "transformers, llamacpp or remote"),
    "cpu_layers_mode": ("cpu_layers_mode", _one_of("compute", "stream"), "compute or stream"),
    "offload_dir": ("offload_dir", str, "a folder"),
    "base": ("base", str, "the folder of the model that a LoRA or a bare projector belongs to"),
    "vision_tower": ("vision_tower", str, "the folder of a CLIP vision tower"),
    "tokenizer": ("tokenizer", str, "the folder of a tokenizer"),
    "template": ("template", str, "the name of a conversation format, such as v1 or vqa"),
}
_CORRECT = Text("cli.setting_remedy", "Correct it and run the command again.")


def parse_overrides(settings: Iterable[str]) -> Overrides:
    """Build the overrides from `key=value` strings. Raises `SettingInvalid`."""
    overrides = Overrides()
    for setting in settings:
        key, equals, value = setting.partition("=")
        advice = put_right(setting) if key not in _KEYS else None
        if advice is not None:
            raise _refused(key, value, advice)
        if not equals or not value:
            raise _invalid(key, value, "a setting is written key=value, such as precision=nf4")
        if key == "device_map":
            overrides = replace(overrides, device_map=_device_map(Path(value)))
        elif key.startswith("max_memory."):
            limit = (_device(key), _parsed(parse_size, key, value, "a size, such as 6GiB"))
            if limit[0] in dict(overrides.max_memory):
                raise _invalid(key, value, "this device's limit is set twice")
            overrides = replace(overrides, max_memory=(*overrides.max_memory, limit))
        elif key in _KEYS:
            field, parse, takes = _KEYS[key]
            overrides = replace(overrides, **{field: _parsed(parse, key, value, takes)})
        else:
            known = [*_KEYS, "device_map", "max_memory.cuda:0"]
            near = difflib.get_close_matches(key, known, n=1)
            hint = f"did you mean {near[0]}?" if near else "known settings are " + ", ".join(known)
            raise _invalid(key, value, f"there is no such setting; {hint}")
    return overrides


def to_settings(overrides: Overrides) -> tuple[str, ...]:
    """Write overrides as the `key=value` strings that `parse_overrides` reads.

    A device map is named as the file device_map.json, which `ui.device_map.to_json` fills.
    """
    written: list[str] = []
    for key, (field, _, _) in _KEYS.items():
        value = getattr(overrides, field)
        if value is not None:
            written.append(f"{key}={','.join(map(str, value)) if isinstance(value, tuple) else value}")
    written += [f"max_memory.{device}={_size(nbytes)}" for device, nbytes in overrides.max_memory]
    if overrides.device_map is not None:
        written.append("device_map=device_map.json")
    return tuple(written)


def command_line(request: PlanRequest, command: str = "plan") -> str:
    """The command that asks for the same as `request`, to be pasted into a terminal."""
    words = ["python", "launch.py", command, request.model, "--preset", request.preset.value]
    for setting in to_settings(request.overrides):
        words += ["--set", setting]
    return " ".join(_quoted(word) for word in words)


def _size(nbytes: int) -> str:
    for unit, factor in (("GiB", 2**30), ("MiB", 2**20)):
        if nbytes and nbytes % factor == 0:
            return f"{nbytes // factor}{unit}"
    return str(nbytes)


def _quoted(word: str) -> str:
    """Double quotes hold a path together in every usual shell, Windows' included."""
    return word if re.fullmatch(r"[\w./:=,\\~-]+", word) else '"' + word.replace('"', '\\"') + '"'


def _device(key: str) -> str:
    device = key.partition(".")[2]
    if not _DEVICE.fullmatch(device):
        raise _invalid(key, device, "a device is cuda:0, cuda:1, ..., cpu or disk")
    return device


def _parsed(parse: Callable[[str], Any], key: str, value: str, takes: str) -> Any:  # noqa: ANN401 - any field's type
    try:
        return parse(value)
    except ValueError as error:
        raise _invalid(key, value, f"it takes {takes}") from error


def _device_map(path: Path) -> tuple[tuple[str, str], ...]:
    try:
        # Objects as pairs: a module that stands there twice is the planner's to refuse.
        content = json.loads(path.read_text(encoding="utf-8-sig"), object_pairs_hook=tuple)
    except OSError as error:
        if (advice := put_right(str(path))) is not None:
            raise _refused("device_map", str(path), advice) from error
        raise _invalid("device_map", str(path), f"the file can't be read ({error.strerror})") from error
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}: {error.msg}"
        raise _invalid("device_map", str(path), f"the file is not JSON ({where})") from error
    except (ValueError, RecursionError) as error:  # not UTF-8, no valid path, endless digits or nesting
        raise _invalid("device_map", str(path), "the file is not JSON") from error
    if not isinstance(content, tuple) or not content:
        raise _invalid("device_map", str(path), "the file must hold an object of module: device")
    return tuple((module, device_name(device)) for module, device in content)


def _invalid(key: str, value: str, detail: str) -> SettingInvalid:
    return _refused(key, value, Text.of("cli.setting", "{detail}.", detail=detail[:1].upper() + detail[1:]))


def _refused(key: str, value: str, detail: Text, remedy: Text = _CORRECT) -> SettingInvalid:
    return SettingInvalid(
        name=f"--set {key}",
        value=f'"{value}"' if len(value) <= _SHOWN else f'"{value[:_SHOWN]}..."',
        detail=detail,
        suggestion=remedy,
    )
