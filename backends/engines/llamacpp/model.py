"""A GGUF model as the engine has it in memory, and how it gets there."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from threading import Event as Flag

import psutil

from backends.engines.base import ProgressSink
from backends.engines.llamacpp.gpus import gpu_share
from backends.engines.llamacpp.library import load_library
from backends.engines.llamacpp.pictures import Geometry, PictureStore, picture_geometry
from backends.engines.llamacpp.prompt import Spelling, Writer, make_writer
from backends.engines.llamacpp.reading import read_through
from backends.engines.llamacpp.server import Server, ServerSettings
from backends.engines.llamacpp.sources import Source, prepare
from backends.engines.llamacpp.threads import choose_threads, rows_per_pass
from backends.engines.llamacpp.vocabulary import Vocabulary, read_fragments, read_vocabulary
from backends.engines.stages import LOADING
from backends.errors import OutOfRam, SettingInvalid
from backends.hardware.llama_build import computes_on_gpus
from backends.messages import Progress
from backends.models.gguf_header import GgufHeader, read_gguf_header
from backends.models.types import ModelInfo
from backends.placement.gguf_kept import MIB, kept_bytes
from backends.placement.types import Plan
from backends.text import Text

# Types that the library arranges anew for this processor: their pages of the file are read once and no more.
_ARRANGED_X86 = frozenset({"q4_0", "q4_k", "iq4_nl", "mxfp4"})
_ARRANGED_ARM = _ARRANGED_X86 | {"q5_k", "q6_k", "q8_0"}
_ARRANGED_ROWS = 8


@dataclass(slots=True, frozen=True)
class Files:
    """What was read of the files before anything is loaded."""

    info: ModelInfo
    parts: tuple[Path, ...]
    mmproj: Path | None
    headers: tuple[GgufHeader, ...]
    notes: tuple[Text, ...] = ()

    @property
    def text_bytes(self) -> int:
        """The language model's tensors."""
        return sum(tensor.nbytes for header in self.headers for tensor in header.tensors)

    @property
    def is_mapped(self) -> bool:
        """Whether the file is mapped: not where most of its tensors are arranged anew.

        Their pages would stay beside them, read once and counted as the process's memory.
        """
        return 2 * self._arranged_bytes <= self.text_bytes

    @property
    def mapped_bytes(self) -> int:
        """Those of its tensors that are used where the file is mapped."""
        return self.text_bytes - self._arranged_bytes if self.is_mapped else 0

    @property
    def _arranged_bytes(self) -> int:
        arm = platform.machine().lower() in ("aarch64", "arm64")
        arranged = _ARRANGED_ARM if arm else _ARRANGED_X86
        return sum(
            tensor.nbytes
            for header in self.headers
            for tensor in header.tensors
            if tensor.dtype in arranged
            and len(tensor.shape) > 1
            and tensor.shape[-2] % _ARRANGED_ROWS == 0
            and not tensor.name.startswith("token_embd")
        )


def look_at(source: Source) -> Files:
    """Read the headers once more, of all files."""
    info, folder = source.info, source.info.path.parent
    names = [file.path for file in info.files]
    if source.mmproj is not None:
        names.remove(source.mmproj.name)
    parts = tuple(folder / name for name in names)
    return Files(info, parts, source.mmproj, tuple(map(read_gguf_header, parts)), source.notes)


@dataclass
class LoadedModel:
    """What answers. Pictures' numbers of tokens are known from the file, or counted once for each picture."""

    files: Files
    server: Server
    writer: Writer
    store: PictureStore | None
    context_tokens: int
    rows: int
    threads: int
    repetition_penalty: float
    counted: dict[str, int] = field(default_factory=dict)

    @property
    def fixed_picture_tokens(self) -> int | None:
        """Tokens of every picture; None where they depend on its size."""
        vision = self.files.info.vision
        if vision is None or self.store is None or self.store.geometry.side is None:
            return None
        return vision.tokens_per_image

    @cached_property
    def fragments(self) -> Mapping[int, bytes]:
        """Tokens that hold parts of characters."""
        return read_fragments(self.files.info.path, self.files.headers[0])


def load(
    plan: Plan, progress: ProgressSink, cancel: Flag, *, cache: Path | None = None, exact: bool = False
) -> LoadedModel:
    """Load the model of `plan`; `cache` takes repaired files.

    Raises what `prepare` raises, CpuUnsupported, OutOfRam, Cancelled, ModelUnsupported, InternalError, and
    SettingInvalid for a plan with a GPU that the library can't use.
    """
    progress(Progress("start", 0, 0))
    _check_devices(plan)
    library = load_library()
    _check_memory(plan)
    files = look_at(prepare(plan, cache, progress, cancel))
    if plan.conversion is not None:
        _check_memory(plan)  # a conversion may have taken its time
    words = read_vocabulary(files.info.path, files.headers[0])
    writer = make_writer(
        _template(files.headers[0]),
        words,
        sees=files.mmproj is not None,
        spelling=_spelling(files.headers[0], words),
    )
    store = _store(files)
    threads = choose_threads(parameters=files.info.parameters)
    rows = _rows(files, store, threads)
    context = min(plan.context_tokens, files.info.text.max_context)
    read_through([*files.parts, *([files.mmproj] if files.mmproj else [])], progress, cancel)
    progress(Progress("place", 0, 0))
    vision = files.info.vision
    settings = ServerSettings(
        text=files.info.path,
        mmproj=files.mmproj,
        context_tokens=context,
        threads=threads,
        rows=rows,
        most_picture_tokens=plan.image_tokens if vision and vision.dynamic and plan.image_tokens else None,
        exact=exact,
        kept_mib=kept_bytes(files.info, context) // MIB,
        gpus=gpu_share(plan),
        mapped=files.is_mapped,
    )
    return LoadedModel(
        files=files,
        server=Server(library, settings),
        writer=writer,
        store=store,
        context_tokens=context,
        rows=rows,
        threads=threads,
        repetition_penalty=_penalty(files.headers[0]),
    )


def _template(header: GgufHeader) -> str | None:
    found = header.text("tokenizer.chat_template")
    return found if found and found.strip() else None


def _spelling(header: GgufHeader, words: Vocabulary) -> Spelling:
    """What our own conversions say of the tokenizer beside llama.cpp's keys (conversion.words)."""
    return Spelling(
        leading_space=header.text("snug.space_prefix") == "first",
        composed=header.values.get("snug.composed_text") is True,
        markup=words.added,
    )


def _penalty(header: GgufHeader) -> float:
    """What the file asks for, as a checkpoint's generation_config.json does."""
    found = header.values.get("general.sampling.penalty_repeat")
    return float(found) if isinstance(found, float) and 0 < found < 100 else 1.0


def _store(files: Files) -> PictureStore | None:
    if files.mmproj is None:
        return None
    return PictureStore(picture_geometry(read_gguf_header(files.mmproj)))


def _rows(files: Files, store: PictureStore | None, threads: int) -> int:
    """Tokens of a pass. Some models attend in both directions within a picture: it is read as a whole."""
    vision, rows = files.info.vision, rows_per_pass(files.info.active_parameters, threads)
    if vision is None or store is None or store.geometry != Geometry(None):
        return rows
    tile = -(-vision.tokens_per_image // vision.max_tiles)
    return max(rows, min(2048, 1 << max(0, tile - 1).bit_length())) if not vision.dynamic else max(rows, 512)


def _check_devices(plan: Plan) -> None:
    """Refuse a plan with a GPU where the build that is installed computes on the processor only."""
    for _, device in plan.device_map:
        if device.startswith("cuda") and not computes_on_gpus():
            raise SettingInvalid(
                name=Text("llamacpp.this_plan", "This plan"),
                value=Text("cli.used", "used"),
                detail=Text.of(
                    "llamacpp.no_gpu",
                    "It puts layers on {device}, and the installed llama.cpp computes on the processor only.",
                    device=device,
                ),
                suggestion=Text("llamacpp.no_gpu_remedy", "Choose the preset CPU only."),
            )


def _check_memory(plan: Plan) -> None:
    """Raise OutOfRam when less is free now than the plan will take, its overhead (this process) left out."""
    share = next((one for one in plan.devices if one.device == "cpu"), None)
    if share is None:
        return
    needed = max(0, max(share.total_bytes, plan.load_peak_ram_bytes) - share.overhead_bytes)
    free = int(psutil.virtual_memory().available)
    if needed > free:
        raise OutOfRam(stage=LOADING, needed_bytes=needed, free_bytes=free)
