"""Writes published picture parts (mmproj) of LLaVA's make anew, so that llama.cpp sees what was trained.

Their last block was cut away, although llama.cpp stops before the last one by itself, and their positions are
in an order that the library may misread (see `Layout`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Event as Flag
from typing import TypeAlias

import numpy as np
from gguf import GGUFReader, GGUFValueType, GGUFWriter, Keys, ReaderTensor
from numpy.typing import NDArray

from backends.conversion.cache import touch
from backends.conversion.fingerprint import file_samples
from backends.conversion.making import MARGIN_BYTES, make
from backends.conversion.types import Layout
from backends.errors import Cancelled
from backends.models.gguf_header import GgufHeader, read_gguf_header
from backends.storage import ensure_writable, flush_to_disk, storage_error

# Blocks of the CLIP towers by their width: B, L, H and bigG.
_DEPTHS = {768: 12, 1024: 24, 1280: 32, 1664: 48}
_CLASS, _POSITIONS = "v.class_embd", "v.position_embd.weight"
_PROJECTOR = ("mm.0.weight", "mm.2.weight")
_LAYERS, _BLOCKS, _LAYOUT = "clip.vision.feature_layer", "clip.vision.block_count", "snug.layout"
# LLaVA takes the features before it.
_UNUSED = "v.post_ln."
_VERSION = 2
_CHUNK = 16 << 20

Numbers: TypeAlias = "NDArray[np.generic]"


@dataclass(frozen=True, slots=True)
class Flaws:
    """What is wrong with a picture part. `cut`: its last block is missing, of `blocks` it should have."""

    cut: bool
    blocks: int


def flaws(header: GgufHeader) -> Flaws | None:
    """What is to be repaired in a file, by its header; None for one of another make, and for our own."""
    kind = header.text("clip.projector_type") or "mlp"
    names = {tensor.name: tensor for tensor in header.tensors}
    width = header.number("clip.vision.embedding_length") or 0
    positions = names.get(_POSITIONS)
    if (
        header.text("general.architecture") != "clip"
        or kind != "mlp"
        or _LAYOUT in header.values
        or _LAYERS in header.values
        or _CLASS not in names
        or not all(name in names for name in _PROJECTOR)
        or positions is None
        or positions.dtype not in ("float32", "float16", "f32", "f16")
        or not header.complete
    ):
        return None
    blocks = header.number(_BLOCKS) or 0
    return Flaws(cut=blocks == _DEPTHS.get(width, 0) - 1, blocks=blocks)


def target(mmproj: Path, header: GgufHeader, cache: Path, layout: Layout) -> Path:
    """Where the repaired file lies, made or not: named by the file's header, its size and samples of it."""
    tensors = [replace(tensor, file="") for tensor in header.tensors]
    said = f"version {_VERSION} {header.file_bytes}\n{tensors!r}\n"
    values = sorted((key, repr(value)) for key, value in header.values.items())
    digest = hashlib.sha256((said + repr(values)).encode())
    digest.update(file_samples(mmproj))
    return cache / f"mmproj-{digest.hexdigest()[:20]}-repaired-{layout.value}.gguf"


def repair(
    mmproj: Path, cache: Path, layout: Layout, progress: Callable[[int, int], None], cancel: Flag
) -> Path:
    """The repaired form of `mmproj`, which has `flaws`, in `layout`; made unless it is there.

    Raises Cancelled, DiskFull, FolderReadOnly, ModelDamaged; what is unfinished is removed then.
    """
    header = read_gguf_header(mmproj)
    made, found = target(mmproj, header, cache, layout), flaws(header)
    assert found is not None
    if made.is_file():
        touch(made)
        return made
    ensure_writable(cache)
    total = sum(tensor.nbytes for tensor in header.tensors)
    progress(0, total)
    make(
        made,
        lambda part: _write(
            mmproj, part, layout, found, report=lambda done: progress(done, total), cancel=cancel
        ),
        room=header.file_bytes + MARGIN_BYTES,
        waiting=lambda _: progress(0, total),
        cancel=cancel,
    )
    progress(total, total)
    return made


def _write(
    mmproj: Path, path: Path, layout: Layout, found: Flaws, *, report: Callable[[int], None], cancel: Flag
) -> None:
    try:
        reader = GGUFReader(mmproj)
        kept = [tensor for tensor in reader.tensors if not _is_dropped(tensor.name, layout)]
        with closing(_begun(reader, path, layout, found, kept)) as writer:
            assert writer.fout is not None
            out = writer.fout[0]
            done = 0
            out.write(bytes(-out.tell() % 32))
            for tensor in kept:
                for chunk in _chunks(tensor, layout):
                    if cancel.is_set():
                        raise Cancelled
                    out.write(chunk.data)
                    done += chunk.nbytes
                    report(done)
                out.write(bytes(-out.tell() % 32))
            flush_to_disk(out)
    except OSError as error:
        raise storage_error(error, path.parent, mmproj.stat().st_size) from error


def _is_dropped(name: str, layout: Layout) -> bool:
    return name.startswith(_UNUSED) or (name == _CLASS and layout is Layout.NO_CLASS)


def _begun(
    reader: GGUFReader, path: Path, layout: Layout, found: Flaws, kept: list[ReaderTensor]
) -> GGUFWriter:
    """A file that is written up to where the weights begin: the old metadata, and what is new."""
    writer = GGUFWriter(None, "clip")
    for name, value in reader.fields.items():
        if name == Keys.General.ARCHITECTURE or name.startswith("GGUF.") or not value.types:
            continue
        kind = value.types[0]
        inner = value.types[-1] if kind == GGUFValueType.ARRAY else None
        writer.add_key_value(name, value.contents(), kind, sub_type=inner)
    writer.add_string(_LAYOUT, layout.value)
    if found.cut:
        # All blocks that are there: the features that LLaVA takes are those before the one that was cut away.
        writer.add_array(_LAYERS, (found.blocks,))
    for tensor in kept:
        raw = _rows(tensor, layout)
        shape = [int(size) for size in reversed(tensor.shape.tolist())]
        if tensor.name == _POSITIONS:
            shape[0] = len(raw)
        writer.add_tensor_info(
            tensor.name, shape, np.dtype(np.float32), raw.nbytes, raw_dtype=tensor.tensor_type
        )
    try:
        writer.write_header_to_file(path)
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
    except OSError:
        writer.close()
        raise
    return writer


def _rows(tensor: ReaderTensor, layout: Layout) -> Numbers:
    """A tensor's numbers; the table of positions begins at row 1 where the class token comes last, or not."""
    data: Numbers = tensor.data
    if tensor.name != _POSITIONS or layout is Layout.PLAIN:
        return data
    return data[1:] if layout is Layout.NO_CLASS else np.roll(data, -1, axis=0)


def _chunks(tensor: ReaderTensor, layout: Layout) -> Iterator[NDArray[np.uint8]]:
    raw = np.ascontiguousarray(_rows(tensor, layout)).reshape(-1).view(np.uint8)
    for begin in range(0, raw.size, _CHUNK):
        yield raw[begin : begin + _CHUNK]
