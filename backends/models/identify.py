"""Turns a model's folder into a ModelInfo: config.json and file headers, never a weight, never torch."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from backends.errors import ModelDamaged, ModelNotFound, ModelUnsupported
from backends.models import structure
from backends.models.adapter import Finder, is_adapter
from backends.models.alternatives import nearest_native
from backends.models.caches import layer_shapes, with_caches
from backends.models.checkpoint import has_safetensors, read_headers, read_json, read_json_if_there
from backends.models.consistency import check_sizes
from backends.models.conversions import with_conversions
from backends.models.defaults import completed
from backends.models.geometry import number, rotates, text_config, text_geometry, visited_experts
from backends.models.gguf import identify_gguf
from backends.models.gguf_files import holds_gguf
from backends.models.gguf_header import is_gguf
from backends.models.linears import are_turned, kept_linears
from backends.models.originals.described import added_by, is_complete, recipe_tensors, with_merged
from backends.models.originals.headers import Headers
from backends.models.originals.opening import check_tokenizer, open_recipe
from backends.models.originals.types import Recipe
from backends.models.registry import known_types
from backends.models.runnable import ensure_runnable
from backends.models.tensor_names import architecture, tensor_names
from backends.models.types import Companions, ModelFile, ModelFormat, ModelInfo, Tensor
from backends.models.vision import vision_geometry
from backends.text import Text, shown_name

# Classes of one architecture that label, rank or fill gaps, and never write an answer.
_OTHER_TASKS = (
    *("ForMaskedLM", "ForSequenceClassification", "ForTokenClassification", "ForQuestionAnswering"),
    *("ForMultipleChoice", "ForNextSentencePrediction", "ForImageClassification"),
)
_ANSWERING = ("ForCausalLM", "LMHeadModel", "ForConditionalGeneration", "Decoder", "ModelWithLMHead")
_FLOATS = ("bfloat16", "float16", "float32", "float64")
_NONE = Companions()


def _nowhere(_name: str) -> None:
    """Look for what a checkpoint leans on in no other place."""


def identify(path: Path, *, companions: Companions = _NONE, elsewhere: Finder = _nowhere) -> ModelInfo:
    """Read what the model in the folder `path` is; a weight file beside its config.json stands for it.

    A GGUF file, or a folder with one and no safetensors, is read with the mmproj beside it. A LoRA's folder
    is read as its base model, and checkpoints in their authors' own layouts as the native model that they
    become; what they lean on is in `companions` or lies where the checkpoint says, beside it, or `elsewhere`.
    Copies that hold only the headers of the weight files are accepted (`weights_present` is False).
    Raises ModelNotFound (no such folder, no config), ModelDamaged (truncated or inconsistent files) or
    ModelUnsupported (an architecture that does not chat, or needs code of its own).
    """
    if path.is_file() and path.suffix == ".safetensors" and (path.parent / "config.json").is_file():
        path = path.parent
    if is_gguf(path) or (holds_gguf(path) and not has_safetensors(path)):
        return identify_gguf(path)
    _check_folder(path)
    recipe = open_recipe(path, companions, elsewhere)
    return _whole(path) if recipe is None else _of_recipe(recipe)


def _of_recipe(recipe: Recipe) -> ModelInfo:
    """The native model that a checkpoint in another layout, or one with a LoRA, becomes."""
    if recipe.layout == "native":
        family = _check_family(recipe.folder, recipe.config)
        named = architecture(recipe.config, family)
        ensure_runnable(str(recipe.folder), completed(recipe.config), family, named)
    headers = Headers()
    tensors = recipe_tensors(recipe, headers)
    config, family = dict(recipe.config), str(recipe.config["model_type"])
    found = _described(
        recipe.folder,
        config,
        family,
        tensors,
        tensor_names(list(recipe.sources), config, family)
        if recipe.layout == "native"
        else {name: name for name in recipe.sources},
        processor=picture_processor(recipe.tokenizer or recipe.folder)
        if recipe.layout == "native"
        else recipe.pictures,
        own=recipe.layout == "cogvlm",
    )
    sizes = {file: file.stat().st_size for file in recipe.weights}
    return replace(
        found,
        family="chatglm" if recipe.layout == "chatglm" else family,
        format=_format(sizes),
        modules=with_merged(found.modules, recipe, headers),
        files=tuple(ModelFile(file.name, nbytes) for file, nbytes in sizes.items()),
        weights_present=is_complete(recipe, headers, sizes),
        adapter=added_by(recipe, headers),
        layout=recipe.layout,
        companions=recipe.companions,
        templates=recipe.templates,
    )


def _format(sizes: Mapping[Path, int]) -> ModelFormat:
    """The format of most of the weights: a vision tower beside them may be in another one."""
    newer = sum(nbytes for file, nbytes in sizes.items() if file.suffix == ".safetensors")
    return "safetensors" if 2 * newer > sum(sizes.values()) else "bin"


def _whole(path: Path) -> ModelInfo:
    """A folder with a config and complete safetensors files, or their headers."""
    config = read_json(path / "config.json")
    family = _check_family(path, config)
    ensure_runnable(str(path), completed(config), family, architecture(config, family))
    headers = read_headers(path)
    tensors = [tensor for header in headers for tensor in header.tensors]
    if not tensors:
        detail = Text("model.no_tensors", "The weight files hold no tensor.")
        raise ModelDamaged(path=str(path), detail=detail, file=headers[0].file)
    names = tensor_names([tensor.name for tensor in tensors], config, family)
    return replace(
        _described(path, config, family, tensors, names, processor=picture_processor(path)),
        files=tuple(ModelFile(header.file, header.file_bytes) for header in headers),
        weights_present=all(header.complete for header in headers),
    )


def _described(
    path: Path,
    config: Mapping[str, Any],
    family: str,
    tensors: Sequence[Tensor],
    names: Mapping[str, str],
    *,
    processor: Mapping[str, Any],
    own: bool = False,
) -> ModelInfo:
    """What config and tensors tell; `own` where the class is Snug's, of which transformers knows nothing."""
    whole = dict(config) if own else completed(config)
    layers = number(text_config(config), "num_hidden_layers", "n_layer", "num_layers")
    text_family = str(text_config(config).get("model_type", family))
    built = structure.build(
        tensors,
        names,
        layers=layers,
        tied=_tied(config),
        visited_experts=visited_experts(whole),
        rotary=not own and rotates(whole),
        kept_linears=kept_linears(family) | kept_linears(text_family),
        turned=are_turned(text_family),
    )
    _check_layers(path, built.layers, layers)
    if not own:
        check_sizes(path, config, tensors, names, built)
    text = text_geometry(whole, tensors, names, built, folder=str(path), stated=config)
    vision = vision_geometry(whole, processor, tensors, names)
    shapes = layer_shapes(tensors, names, built)
    modules = with_caches(built.modules, text_config(whole), text, vision, shapes)
    return ModelInfo(
        path=path,
        name=path.name,
        family=family,
        architecture=architecture(config, family),
        format="safetensors",
        dtype=_dtype(tensors),
        parameters=sum(module.parameters for module in built.modules),
        weights_bytes=sum(module.nbytes for module in built.modules),
        text=text,
        vision=vision,
        modules=with_conversions(modules, tensors, names, config),
        files=(),
    )


def ensure_loadable(model: ModelInfo) -> None:
    """Check that `model` can be loaded.

    Raises ModelDamaged for a copy of headers only, and what `check_tokenizer` does.
    """
    if model.weights_present:
        if model.layout != "native" and (recipe := open_recipe(model.path, model.companions)) is not None:
            check_tokenizer(recipe)
        return
    have = sum(file.nbytes for file in model.files)
    raise ModelDamaged(
        path=str(model.path),
        detail=Text.of(
            "model.headers_only",
            "The weight files hold their headers only: {have:count} bytes of about {whole:count}. That is "
            "enough to plan with, not to load.",
            have=have,
            whole=have + model.weights_bytes,
        ),
        file=", ".join(file.path for file in model.files[:4]),
    )


def _check_folder(path: Path) -> None:
    if path.is_file():
        raise ModelUnsupported(
            path=str(path),
            detail=Text.of(
                "model.single_file",
                "{file} is a single file; Snug reads .gguf files and folders with .safetensors.",
                file=path.name,
            ),
            suggestion=Text("model.single_file_remedy", "Give the folder of the model."),
        )
    if not path.is_dir():
        raise ModelNotFound(path=str(path), detail=Text("model.no_folder", "The folder does not exist."))
    try:
        if (path / "config.json").is_file() or is_adapter(path):
            return
        inside = sorted(path.iterdir())
    except OSError as error:
        detail = Text("model.closed_folder", "The folder can't be read.")
        raise ModelNotFound(path=str(path), detail=detail) from error
    if not inside:
        raise ModelNotFound(path=str(path), detail=Text("model.empty_folder", "The folder is empty."))
    below = [child.name for child in inside if (child / "config.json").is_file()]
    if below:
        deeper = Text.of(
            "model.deeper",
            "The folder has no config.json. There is a model in its subfolder {folder}.",
            folder=below[0],
        )
        raise ModelNotFound(path=str(path), detail=deeper)
    raise ModelNotFound(path=str(path), detail=Text("model.no_config", "The folder has no config.json."))


def _check_layers(path: Path, have: int, stated: int | None) -> None:
    """Refuse weights that lack the decoder, or its last layers: loading would fill them with noise."""
    if have and have >= (stated or 0):
        return
    detail = Text.of(
        "model.layers_missing",
        "The weight files hold {have} decoder layers, and config.json says {stated}.",
        have=have,
        stated=stated or "?",
    )
    files = Text("model.all_files", "config.json and the weight files")
    raise ModelDamaged(path=str(path), detail=detail, file=files)


def _check_family(path: Path, config: Mapping[str, Any]) -> str:
    """Return the model type after making sure that transformers can chat with it, with its own code."""
    family = config.get("model_type")
    known = known_types()
    if not isinstance(family, str) or not family:
        if "auto_map" in config:
            raise _needs_code(path, config, architecture(config, "The model"))
        raise ModelUnsupported(
            path=str(path),
            detail=Text("model.no_type", "Its config.json names no model_type."),
            suggestion=Text(
                "model.no_type_remedy",
                "Download config.json again; if the publisher's has none, use another model.",
            ),
        )
    if not known.chat:
        return family
    if family in known.chat or family in known.text:
        _check_task(path, config, family, fills_gaps=family in known.masked)
        return family
    if family in known.other or family in known.masked:
        raise _not_answering(path, family)
    near = difflib.get_close_matches(family, known.chat | known.text, n=1, cutoff=0.75)
    if "auto_map" in config:
        raise _needs_code(path, config, family)
    raise ModelUnsupported(
        path=str(path),
        detail=Text.of(
            "model.unknown_type",
            "{family} is not an architecture that the installed transformers knows.",
            family=shown_name(family),
        ),
        suggestion=Text.of("model.nearest_type", "The nearest known one is {near}.", near=near[0])
        if near
        else _USE_A_VLM,
    )


def _needs_code(path: Path, config: Mapping[str, Any], name: str) -> ModelUnsupported:
    nearest = nearest_native(config)
    remedy = Text(
        "model.remote_code_remedy",
        "Look for a conversion that transformers supports itself (often named -hf).",
    )
    if nearest is not None:
        remedy = Text.of(
            "model.remote_code_nearest",
            "The nearest model that needs no code is {repository}; or look for a conversion of this one that "
            "transformers supports itself (often named -hf).",
            repository=nearest.repository,
        )
    return ModelUnsupported(
        path=str(path),
        detail=Text.of(
            "model.remote_code",
            "{family} runs only with program code from its folder, which Snug never executes.",
            family=shown_name(name),
        ),
        suggestion=remedy,
    )


_USE_A_VLM = Text("model.use_a_vlm", "Use a vision-language model, such as a LLaVA or Qwen2.5-VL.")


def _check_task(path: Path, config: Mapping[str, Any], family: str, *, fills_gaps: bool) -> None:
    """Refuse checkpoints of a known family that were made for another task: a BertForMaskedLM, a classifier.

    Of families that fill gaps, only the classes that continue text answer.
    """
    stated = config.get("architectures")
    classes = [name for name in stated if isinstance(name, str)] if isinstance(stated, list) else []
    if any(name.endswith(_ANSWERING) for name in classes):
        return
    if fills_gaps or (classes and all(name.endswith(_OTHER_TASKS) for name in classes)):
        raise _not_answering(path, shown_name(classes[0]) if classes else family)


def _not_answering(path: Path, name: str) -> ModelUnsupported:
    return ModelUnsupported(
        path=str(path),
        detail=Text.of(
            "model.not_answering",
            "{name} does not answer questions: it is a part of a model, or made for other tasks.",
            name=name,
        ),
        suggestion=_USE_A_VLM,
    )


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


def picture_processor(path: Path) -> Mapping[str, Any]:
    """The picture part of the processor's settings, in the place of its version."""
    whole = read_json_if_there(path / "processor_config.json").get("image_processor")
    if isinstance(whole, dict):
        return whole
    return read_json_if_there(path / "preprocessor_config.json")
