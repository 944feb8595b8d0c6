"""What the library's words mean to a person."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from backends.engines.stages import ANSWERING, LOADING
from backends.errors import (
    ContextExceeded,
    ImageUnreadable,
    InternalError,
    ModelDamaged,
    ModelUnsupported,
    OutOfRam,
    PackageMissing,
    SnugError,
)
from backends.text import Text, shown_name

_log = logging.getLogger(__name__)
_LOGS = Text("engine.logs", "the logs folder")
_MEMORY = ("failed to allocate", "unable to allocate", "cannot allocate memory", "bad_alloc", "out of memory")
_BYTES = re.compile(r"size (\d+)|of (\d+) bytes")
_ARCHITECTURE = re.compile(r"(?:unknown|unsupported) model architecture: '([^']*)'")
_PRE_TOKENIZER = re.compile(r"unknown pre-tokenizer type: '([^']*)'")
_PROJECTOR = re.compile(r"unknown projector type: (\S+)")
_PICTURES = ("clip_model_loader", "Failed to load CLIP model", "failed to load multimodal model", "mtmd")
_DAMAGED = (
    *("failed to seek", "not within the file bounds", "corrupted or incomplete", "failed to read key-value"),
    *("invalid magic", "failed to open GGUF", "missing tensor", "wrong shape", "check_tensor_dims"),
    *("wrong number of tensors", "key not found in model", "unable to find tensor"),
)


def why_not_loaded(errors: Sequence[str], text: Path, mmproj: Path | None) -> SnugError:
    """The error that tells why the server did not start; `errors` are the library's own words."""
    _log.error("llama.cpp did not load %s: %s", text, "; ".join(errors))
    said = "\n".join(errors)
    if any(word in said.lower() for word in _MEMORY):
        return out_of_ram(said, LOADING)
    if found := _ARCHITECTURE.search(said):
        kind = Text.of("llamacpp.kind_architecture", "the architecture {name}", name=shown_name(found[1]))
        return _unknown(text, kind)
    if found := _PRE_TOKENIZER.search(said):
        kind = Text.of("llamacpp.kind_tokenizer", "the tokenizer {name}", name=shown_name(found[1]))
        return _unknown(text, kind)
    if found := _PROJECTOR.search(said):
        kind = Text.of("llamacpp.kind_projector", "the picture part {name}", name=shown_name(found[1]))
        return _unknown(mmproj or text, kind)
    eyes = mmproj is not None and any(word in said for word in _PICTURES)
    guilty = mmproj if eyes and mmproj is not None else text
    if eyes or any(word in said for word in _DAMAGED):
        return ModelDamaged(
            path=str(guilty.parent),
            file=guilty.name,
            detail=Text.of(
                "llamacpp.rejected",
                "llama.cpp rejects {file}: something in it is missing or has another size than its metadata "
                "say.",
                file=guilty.name,
            ),
        )
    return InternalError(
        detail=Text("llamacpp.no_start", "llama.cpp could not load the model and gave no reason known here."),
        log=_LOGS,
    )


def _unknown(path: Path, kind: Text) -> ModelUnsupported:
    return ModelUnsupported(
        path=str(path),
        detail=Text.of("llamacpp.unknown", "The installed llama.cpp does not know {kind}.", kind=kind),
        suggestion=Text(
            "llamacpp.unknown_remedy",
            "Use the same model with config.json and .safetensors files, or a newer version of Snug.",
        ),
    )


def out_of_ram(said: str, stage: Text) -> OutOfRam:
    """Memory ran out; `needed_bytes` where the library told."""
    found = _BYTES.search(said)
    needed = int(next(filter(None, found.groups()))) if found else 0
    return OutOfRam(stage=stage, needed_bytes=needed, free_bytes=psutil.virtual_memory().available)


def why_not_answered(error: Mapping[str, Any], context_tokens: int) -> SnugError:
    """The error that tells what the server's error document means."""
    message = str(error.get("message", ""))
    if error.get("type") == "exceed_context_size_error":
        needed = error.get("n_prompt_tokens")
        needed_tokens = needed + 1 if type(needed) is int else context_tokens + 1
        return ContextExceeded(needed_tokens=needed_tokens, context_tokens=context_tokens)
    _log.error("llama.cpp refused a request: %s", error)
    if any(word in message.lower() for word in _MEMORY):
        return out_of_ram(message, ANSWERING)
    if "load image" in message:
        return ImageUnreadable(
            name=Text("llamacpp.a_picture", "A picture"),
            detail=Text("image.lost_copy", "Its stored copy is gone or broken."),
        )
    return InternalError(
        detail=Text("llamacpp.refused", "llama.cpp refused to go on with this conversation."), log=_LOGS
    )


@contextmanager
def as_snug_errors(stage: Text) -> Iterator[None]:
    """Re-raise what Python itself raises as a `SnugError`."""
    try:
        yield
    except (SnugError, GeneratorExit, KeyboardInterrupt, SystemExit):
        raise
    except ImportError as error:
        raise PackageMissing(
            package=(error.name or "xllamacpp").split(".")[0],
            detail=Text.of("engine.import_failed", "Importing it failed: {kind}.", kind=type(error).__name__),
        ) from error
    except MemoryError as error:
        raise out_of_ram("", stage) from error
    except Exception as error:
        _log.exception("while %s", stage)
        raise InternalError(
            detail=Text.of(
                "engine.unexpected",
                "An unexpected {kind} came while {stage}.",
                kind=type(error).__name__,
                stage=stage,
            ),
            log=_LOGS,
        ) from error
