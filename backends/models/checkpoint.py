"""Finds the weight files of a folder (one file, or shards with an index) and reads their headers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from backends.errors import ModelDamaged, ModelNotFound, ModelUnsupported
from backends.models.safetensors_header import Header, read_header

_SINGLE = "model.safetensors"
_INDEX = "model.safetensors.index.json"
# A config is a page of text; more than this is not one.
_MAX_JSON_BYTES = 50_000_000


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object. Raises ModelDamaged when `path` is not one, ModelNotFound when it is absent."""
    try:
        if path.stat().st_size > _MAX_JSON_BYTES:
            raise _damaged(path, f"{path.name} is larger than any such file.")
        value = json.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError as error:
        raise ModelNotFound(path=str(path.parent), detail=f"{path.name} is missing.") from error
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise _damaged(path, f"{path.name} can't be read as JSON.") from error
    if not isinstance(value, dict):
        raise _damaged(path, f"{path.name} is not a JSON object.")
    return value


def read_json_if_there(path: Path) -> dict[str, Any]:
    """Read an optional JSON object; absent means empty."""
    return read_json(path) if path.is_file() else {}


def read_headers(folder: Path) -> tuple[Header, ...]:
    """Read the header of every weight file that transformers would load from `folder`.

    Raises ModelDamaged (missing shard, tensor not where the index says), ModelUnsupported (weights in
    a format that Snug does not read yet) or ModelNotFound (no weights at all).
    """
    index = folder / _INDEX
    if (folder / _SINGLE).is_file():
        return (read_header(folder / _SINGLE),)
    if index.is_file():
        return _read_shards(folder, index)
    raise _explain_absence(folder)


def _read_shards(folder: Path, index: Path) -> tuple[Header, ...]:
    weight_map = read_json(index).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise _damaged(index, f"{index.name} has no weight_map.")
    wanted: dict[str, set[str]] = {}
    for tensor, file in weight_map.items():
        # A shard lies beside its index; a path would reach outside the model's folder.
        if not isinstance(file, str) or Path(file).name != file or "\\" in file:
            raise _damaged(index, f"{index.name} places {tensor} in an invalid file name.")
        wanted.setdefault(file, set()).add(tensor)
    missing = sorted(file for file in wanted if not (folder / file).is_file())
    if missing:
        detail = f"{len(missing)} of {len(wanted)} weight files are missing: {', '.join(missing[:4])}."
        raise ModelDamaged(path=str(folder), detail=detail, file=", ".join(missing[:4]))
    headers: list[Header] = []
    for file in sorted(wanted):
        header = read_header(folder / file)
        absent = wanted[file] - {tensor.name for tensor in header.tensors}
        if absent:
            detail = f"{file} lacks {len(absent)} tensors that the index places in it, such as {min(absent)}."
            raise _damaged(folder / file, detail)
        headers.append(header)
    return tuple(headers)


def _explain_absence(folder: Path) -> ModelUnsupported | ModelNotFound:
    names = sorted(path.name for path in folder.iterdir() if path.is_file())

    def some(*endings: str) -> str | None:
        return next((name for name in names if name.endswith(endings)), None)

    where = str(folder)
    if "adapter_config.json" in names:
        return ModelUnsupported(
            path=where,
            detail="It holds an adapter (LoRA), which is an addition to a model and not a model.",
            suggestion="Open the model that the adapter belongs to.",
        )
    if name := some(".bin", ".pt", ".pth"):
        return ModelUnsupported(
            path=where,
            detail=f"Its weights are in the older pickle format ({name}), which can run code when opened.",
            suggestion="Get the same model with .safetensors files; most publishers offer them.",
        )
    if name := some(".gguf"):
        return ModelUnsupported(
            path=where,
            detail=f"Its weights are in GGUF format ({name}), which this version does not read.",
            suggestion="Get the same model with config.json and .safetensors files.",
        )
    if name := some(".safetensors"):
        return ModelUnsupported(
            path=where,
            detail=f"There is {name}, but neither {_SINGLE} nor {_INDEX}.",
            suggestion="Download all files of the model in the layout of its publisher.",
        )
    return ModelNotFound(path=where, detail="The folder has a config.json but no .safetensors weights.")


def _damaged(path: Path, detail: str) -> ModelDamaged:
    return ModelDamaged(path=str(path.parent), detail=detail, file=path.name)
