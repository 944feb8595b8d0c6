"""Turns a model's folder into a ModelInfo: config.json and file headers, never a weight, never torch."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from backends.errors import ModelDamaged, ModelNotFound, ModelUnsupported
from backends.models import structure
from backends.models.checkpoint import read_headers, read_json, read_json_if_there
from backends.models.geometry import number, text_config, text_geometry
from backends.models.naming import loaded_names
from backends.models.registry import known_types
from backends.models.types import ModelFile, ModelInfo, Tensor
from backends.models.vision import has_vision, vision_geometry

_FLOATS = ("bfloat16", "float16", "float32", "float64")


def identify(path: Path) -> ModelInfo:
    """Read what the model in the folder `path` is.

    Copies that hold only the headers of the weight files are accepted (`weights_present` is False).
    Raises ModelNotFound (no such folder, no config), ModelDamaged (truncated or inconsistent files) or
    ModelUnsupported (an architecture that does not chat, or needs code of its own).
    """
    _check_folder(path)
    config = read_json(path / "config.json")
    family = _check_family(path, config)
    headers = read_headers(path)
    tensors = [tensor for header in headers for tensor in header.tensors]
    if not tensors:
        raise ModelDamaged(path=str(path), detail="The weight files hold no tensor.", file=headers[0].file)
    names = loaded_names((tensor.name for tensor in tensors), multimodal=has_vision(config))
    built = structure.build(
        tensors,
        names,
        layers=number(text_config(config), "num_hidden_layers", "n_layer", "num_layers"),
        tied=_tied(config),
    )
    return ModelInfo(
        path=path,
        name=path.name,
        family=family,
        architecture=_architecture(config, family),
        format="safetensors",
        dtype=_dtype(tensors),
        parameters=sum(module.parameters for module in built.modules),
        weights_bytes=sum(module.nbytes for module in built.modules),
        text=text_geometry(config, tensors, names, built, folder=str(path)),
        vision=vision_geometry(config, _processor(path), tensors, names),
        modules=built.modules,
        files=tuple(ModelFile(header.file, header.file_bytes) for header in headers),
        weights_present=all(header.complete for header in headers),
    )


def ensure_loadable(model: ModelInfo) -> None:
    """Check that `model` has its weights. Raises ModelDamaged for a copy of headers only."""
    if model.weights_present:
        return
    have = sum(file.nbytes for file in model.files)
    raise ModelDamaged(
        path=str(model.path),
        detail=f"The weight files hold their headers only: {have:,} bytes of about "
        f"{have + model.weights_bytes:,}. That is enough to plan with, not to load.",
        file=", ".join(file.path for file in model.files[:4]),
    )


def _check_folder(path: Path) -> None:
    if path.is_file():
        raise ModelUnsupported(
            path=str(path),
            detail=f"{path.name} is a single file; Snug reads folders with config.json and .safetensors.",
            suggestion="Give the folder of the model.",
        )
    if not path.is_dir():
        raise ModelNotFound(path=str(path), detail="The folder does not exist.")
    if (path / "config.json").is_file():
        return
    try:
        inside = sorted(path.iterdir())
    except OSError as error:
        raise ModelNotFound(path=str(path), detail="The folder can't be read.") from error
    if not inside:
        raise ModelNotFound(path=str(path), detail="The folder is empty.")
    below = [child.name for child in inside if (child / "config.json").is_file()]
    hint = f" There is a model in its subfolder {below[0]}." if below else ""
    raise ModelNotFound(path=str(path), detail=f"The folder has no config.json.{hint}")


def _check_family(path: Path, config: Mapping[str, Any]) -> str:
    """Return the model type after making sure that transformers can chat with it, with its own code."""
    family = config.get("model_type")
    known = known_types()
    if not isinstance(family, str) or not family:
        raise ModelUnsupported(
            path=str(path),
            detail="Its config.json names no model_type.",
            suggestion="Download config.json again; if the publisher's has none, use another model.",
        )
    if family in known.chat or family in known.text or not known.chat:
        return family
    if family in known.other:
        raise ModelUnsupported(
            path=str(path),
            detail=f"{family} does not answer in words (it is a part of a model, or for other tasks).",
            suggestion="Use a vision-language model, such as a LLaVA or Qwen2.5-VL.",
        )
    near = difflib.get_close_matches(family, known.chat | known.text, n=1, cutoff=0.75)
    if "auto_map" in config:
        raise ModelUnsupported(
            path=str(path),
            detail=f"{family} runs only with program code from its folder, which Snug never executes.",
            suggestion="Look for a conversion that transformers supports itself (often named -hf).",
        )
    raise ModelUnsupported(
        path=str(path),
        detail=f"{family} is not an architecture that the installed transformers knows.",
        suggestion=f"The nearest known one is {near[0]}." if near else "Use a LLaVA or Qwen-VL model.",
    )


def _architecture(config: Mapping[str, Any], family: str) -> str:
    names = config.get("architectures")
    return str(names[0]) if isinstance(names, list) and names else family


def _tied(config: Mapping[str, Any]) -> bool:
    """Only the outer config ties the head of the model that is loaded."""
    stated = config.get("tie_word_embeddings")
    return stated is True


def _dtype(tensors: Sequence[Tensor]) -> str:
    """The dtype that holds most of the weights."""
    sizes: Counter[str] = Counter()
    for tensor in tensors:
        if tensor.dtype in _FLOATS:
            sizes[tensor.dtype] += tensor.nbytes
    return sizes.most_common(1)[0][0] if sizes else tensors[0].dtype


def _processor(path: Path) -> Mapping[str, Any]:
    """The picture part of the processor's settings, in the place of its version."""
    whole = read_json_if_there(path / "processor_config.json").get("image_processor")
    if isinstance(whole, dict):
        return whole
    return read_json_if_there(path / "preprocessor_config.json")
