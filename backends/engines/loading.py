"""Carry out a plan: the model and its processor in memory, exactly where and how the plan says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event as Flag
from typing import Any

import transformers
from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES

from backends.engines.base import ProgressSink
from backends.engines.detail import limit_detail
from backends.engines.errors import USE_LLAVA
from backends.engines.odd_widths import leave_unpacked
from backends.engines.one_by_one import encode_alone
from backends.engines.options import load_options
from backends.engines.originals.building import build, configuration
from backends.engines.originals.voice import Voice
from backends.engines.originals.voices import voice_of
from backends.engines.progress import read_ahead, tensor_sizes, watched, weight_files
from backends.engines.tensors import Stored
from backends.engines.windows import keep_windows_small
from backends.errors import ModelDamaged, ModelNotFound, ModelUnsupported
from backends.messages import Progress
from backends.models.originals.opening import check_tokenizer, open_recipe
from backends.models.originals.types import Recipe
from backends.placement.types import Plan
from backends.text import Text

# Files that hold a tokenizer's words, in the formats that transformers reads.
_TOKENIZERS = (
    *("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model"),
    *("sentencepiece.bpe.model", "tekken.json"),
)


@dataclass(frozen=True, slots=True)
class Loaded:
    """A model ready to run. `processor` is the tokenizer itself for models without eyes.

    `voice` writes prompts in place of a chat template, and of the processor, which is None then. `stored` is
    where tensors lie in files of other layouts.
    """

    model: Any
    processor: Any
    tokenizer: Any
    supports_images: bool
    voice: Voice | None = None
    stored: Mapping[str, Stored] = field(default_factory=dict)


def load_model(
    plan: Plan, progress: ProgressSink, cancel: Flag, offload_folder: Path | None = None
) -> Loaded:
    """Load what `plan` describes; what is to rest on the disk and is no file's own goes to `offload_folder`.

    Weights that rest elsewhere than they run still have transformers' hooks afterwards. Raises
    `SnugError`s of its own; upstream ones pass through.
    """
    folder = Path(plan.model_path)
    recipe = open_recipe(folder, plan.companions)
    if recipe is not None:
        return _load_recipe(plan, recipe, progress, cancel, offload_folder)
    if not (folder / "config.json").is_file():
        raise ModelNotFound(
            path=str(folder), detail=Text("model.no_config", "The folder has no config.json.")
        )
    _check_tokenizer(folder)
    progress(Progress("start", 0, 0))
    files = weight_files(folder)
    sizes = tensor_sizes(files)
    config = _config(folder)
    read_ahead(files)
    with watched(sizes, progress, cancel):
        model, info = _auto_class(config).from_pretrained(
            folder,
            config=config,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # transformers then tells which ones; they are refused below
            **load_options(plan, offload_folder),
        )
    progress(Progress("place", 0, 0))
    _refuse_gaps(info, folder)
    model.eval()
    leave_unpacked(model)
    encode_alone(model)
    processor = _processor(folder, config)
    limit_detail(processor, plan.image_tokens)
    keep_windows_small()
    tokenizer = getattr(processor, "tokenizer", processor)
    return Loaded(model, processor, tokenizer, hasattr(processor, "image_processor"))


def _load_recipe(
    plan: Plan, recipe: Recipe, progress: ProgressSink, cancel: Flag, offload_folder: Path | None
) -> Loaded:
    """Load a checkpoint in another layout, or one with a LoRA, as a model of today's classes."""
    check_tokenizer(recipe)
    # Before weights are read: what is wrong with a tokenizer is said at once.
    voice = voice_of(recipe, configuration(recipe))
    progress(Progress("start", 0, 0))
    model, info, stored = build(plan, recipe, progress, cancel, offload_folder)
    progress(Progress("place", 0, 0))
    _refuse_gaps(info, recipe.folder)
    model.eval()
    leave_unpacked(model)
    keep_windows_small()
    if voice is not None:
        return Loaded(model, None, voice.tokenizer, voice.sees, voice, stored)
    encode_alone(model)
    processor = _processor(recipe.tokenizer or recipe.folder, model.config)
    limit_detail(processor, plan.image_tokens)
    tokenizer = getattr(processor, "tokenizer", processor)
    return Loaded(model, processor, tokenizer, hasattr(processor, "image_processor"), stored=stored)


def _config(folder: Path) -> Any:
    try:
        return transformers.AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except (ValueError, KeyError, TypeError, AttributeError, OSError) as error:
        raise ModelUnsupported(
            path=str(folder),
            detail=Text(
                "engine.no_architecture",
                "Its config.json names no architecture that transformers can build by itself.",
            ),
            suggestion=USE_LLAVA,
        ) from error


def _auto_class(config: Any) -> Any:
    if config.model_type in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES:
        return transformers.AutoModelForImageTextToText
    return transformers.AutoModelForCausalLM


def _processor(folder: Path, config: Any) -> Any:
    """The processor with Pillow's resizing: the torchvision one differs from what models were trained on."""
    options = {"local_files_only": True, "trust_remote_code": False}
    if config.model_type in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES:
        return _completed(
            transformers.AutoProcessor.from_pretrained(folder, backend="pil", **options), config
        )
    return transformers.AutoTokenizer.from_pretrained(folder, **options)


def _completed(processor: Any, config: Any) -> Any:
    """Fill in what LLaVA processors saved before late 2024 lack and need to count a picture's tokens."""
    if getattr(processor, "patch_size", 0) is None:
        processor.patch_size = config.vision_config.patch_size
        processor.vision_feature_select_strategy = config.vision_feature_select_strategy
        processor.num_additional_image_tokens = 1  # the class token of CLIP, which those models all have
    return processor


def _refuse_gaps(info: dict[str, Any], folder: Path) -> None:
    """Refuse an incomplete checkpoint: transformers fills the gaps with random numbers."""
    if missing := sorted(info["missing_keys"]):
        detail = Text.of(
            "engine.missing_tensors",
            "{count} tensors are missing, the first is {tensor}.",
            count=len(missing),
            tensor=missing[0],
        )
        # Either may be the wrong one: weights that are cut short, or another model's config.json.
        files = Text("model.all_files", "config.json and the weight files")
        raise ModelDamaged(path=str(folder), file=files, detail=detail)
    if wrong := sorted(info["mismatched_keys"], key=str):
        detail = Text.of(
            "engine.wrong_sizes",
            "{count} tensors have other sizes than config.json says, the first is {tensor}.",
            count=len(wrong),
            tensor=wrong[0][0],
        )
        files = Text("model.all_files", "config.json and the weight files")
        raise ModelDamaged(path=str(folder), file=files, detail=detail)


def _check_tokenizer(folder: Path) -> None:
    """Refuse a copy without the tokenizer before its weights are read: transformers' words are no help."""
    if any((folder / name).is_file() for name in _TOKENIZERS) or any(folder.glob("*.tiktoken")):
        return
    detail = Text("engine.no_tokenizer", "The folder holds no tokenizer, which turns words into tokens.")
    raise ModelDamaged(path=str(folder), file="tokenizer.json", detail=detail)
