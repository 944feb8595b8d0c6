"""Finds the weight files of a folder (one file, or shards with an index) and reads their headers."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path, PureWindowsPath
from typing import Any

from backends.errors import ModelDamaged, ModelNotFound, ModelUnsupported
from backends.models.safetensors_header import Header, read_header
from backends.text import Text, shown_name

_SINGLE = "model.safetensors"
_INDEX = "model.safetensors.index.json"
# A config is a page of text; more than this is not one.
_MAX_JSON_BYTES = 50_000_000
# What file systems take.
_LONGEST_NAME = 255


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object. Raises ModelDamaged when `path` is not one, ModelNotFound when it is absent."""
    try:
        if path.stat().st_size > _MAX_JSON_BYTES:
            raise _damaged(
                path, Text.of("checkpoint.huge", "{file} is larger than any such file.", file=path.name)
            )
        value = json.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError as error:
        raise ModelNotFound(path=str(path.parent), detail=_missing(path.name)) from error
    except (OSError, ValueError, RecursionError) as error:  # ValueError: not UTF-8, not JSON, endless digits
        raise _damaged(
            path, Text.of("checkpoint.not_json", "{file} can't be read as JSON.", file=path.name)
        ) from error
    if not isinstance(value, dict):
        raise _damaged(path, Text.of("checkpoint.not_object", "{file} is not a JSON object.", file=path.name))
    return value


def read_json_if_there(path: Path) -> dict[str, Any]:
    """Read an optional JSON object; absent means empty."""
    return read_json(path) if path.is_file() else {}


def has_safetensors(folder: Path) -> bool:
    """Whether `folder` has weight files in the layout of transformers."""
    return (folder / _SINGLE).is_file() or (folder / _INDEX).is_file()


def read_headers(folder: Path) -> tuple[Header, ...]:
    """Read the header of every weight file that transformers would load from `folder`.

    Raises ModelDamaged (missing shard, tensor not where the index says), ModelUnsupported (weights in
    a format that Snug does not read yet) or ModelNotFound (no weights at all).
    """
    # Pickled weights stay refused here: what loads these models would open them itself.
    headers = read_layout(folder, _SINGLE, read_header)
    if headers is None:
        raise explain_absence(folder)
    return headers


def read_layout(folder: Path, single: str, read: Callable[[Path], Header]) -> tuple[Header, ...] | None:
    """Read by `read` the header of the file `single` of `folder`, or of the shards that its index names.

    None when there is neither. A tensor that lies in two shards is kept in the first. Raises ModelDamaged for
    a missing shard, or a tensor that is not where the index says, and whatever `read` raises.
    """
    index = folder / f"{single}.index.json"
    if (folder / single).is_file():
        return (read(folder / single),)
    return _read_shards(folder, index, read) if index.is_file() else None


def _read_shards(folder: Path, index: Path, read: Callable[[Path], Header]) -> tuple[Header, ...]:
    weight_map = read_json(index).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise _damaged(
            index, Text.of("checkpoint.no_weight_map", "{file} has no weight_map.", file=index.name)
        )
    wanted: dict[str, set[str]] = {}
    for tensor, file in weight_map.items():
        if not isinstance(file, str) or not _is_beside(file):
            raise _damaged(
                index,
                Text.of(
                    "checkpoint.invalid_name",
                    "{file} places {tensor} in an invalid file name.",
                    file=index.name,
                    tensor=shown_name(tensor),
                ),
            )
        wanted.setdefault(file, set()).add(tensor)
    missing = sorted(file for file in wanted if not (folder / file).is_file())
    if missing:
        names = ", ".join(missing[:4]) + (", ..." if len(missing) > 4 else "")
        detail = Text.of(
            "checkpoint.missing_files",
            "{missing} of {count} weight files are missing: {names}.",
            count=len(wanted),
            missing=len(missing),
            names=names,
        )
        raise ModelDamaged(path=str(folder), detail=detail, file=names)
    headers: list[Header] = []
    seen: set[str] = set()
    for file in sorted(wanted):
        header = read(folder / file)
        absent = wanted[file] - {tensor.name for tensor in header.tensors}
        if absent:
            detail = Text.of(
                "checkpoint.missing_tensors",
                "{file} lacks {count} tensors that the index places in it, such as {tensor}.",
                file=file,
                count=len(absent),
                tensor=shown_name(min(absent)),
            )
            raise _damaged(folder / file, detail)
        # A tensor that lies in two files is loaded once.
        fresh = [number for number, tensor in enumerate(header.tensors) if tensor.name not in seen]
        seen.update(tensor.name for tensor in header.tensors)
        kept = tuple(header.tensors[number] for number in fresh)
        begins = tuple(header.begins[number] for number in fresh)
        headers.append(replace(header, tensors=kept, begins=begins))
    return tuple(headers)


def _is_beside(file: str) -> bool:
    """Whether a shard's name is that of a file in its index's folder, on any system."""
    if not file or not file.isprintable() or len(file) > _LONGEST_NAME:
        return False
    return PureWindowsPath(file).name == file and file not in (".", "..") and ":" not in file


def _missing(file: str) -> Text:
    return Text.of("checkpoint.missing", "{file} is missing.", file=file)


def explain_absence(folder: Path) -> ModelUnsupported | ModelNotFound:
    """The error about a folder without weights that Snug reads, by what lies there instead."""
    names = sorted(path.name for path in folder.iterdir() if path.is_file())

    def some(*endings: str) -> str | None:
        return next((name for name in names if name.endswith(endings)), None)

    where = str(folder)
    if "adapter_config.json" in names:
        return ModelUnsupported(
            path=where,
            detail=Text(
                "checkpoint.adapter",
                "It holds an adapter (LoRA), which is an addition to a model and not a model.",
            ),
            suggestion=Text("checkpoint.adapter_remedy", "Open the model that the adapter belongs to."),
        )
    if name := some(".bin", ".pt", ".pth", ".bin.index.json"):
        return ModelUnsupported(
            path=where,
            detail=Text.of(
                "checkpoint.pickle",
                "Its weights are in the older pickle format ({file}), which can run code when opened.",
                file=name,
            ),
            suggestion=Text(
                "checkpoint.pickle_remedy",
                "Get the same model with .safetensors files; most publishers offer them.",
            ),
        )
    if name := some(".safetensors"):
        return ModelUnsupported(
            path=where,
            detail=Text.of(
                "checkpoint.layout",
                "There is {file}, but neither {single} nor {index}.",
                file=name,
                single=_SINGLE,
                index=_INDEX,
            ),
            suggestion=Text(
                "checkpoint.layout_remedy", "Download all files of the model in the layout of its publisher."
            ),
        )
    detail = Text("checkpoint.no_weights", "The folder has a config.json but no .safetensors weights.")
    return ModelNotFound(path=where, detail=detail)


def _damaged(path: Path, detail: Text) -> ModelDamaged:
    return ModelDamaged(path=str(path.parent), detail=detail, file=path.name)
