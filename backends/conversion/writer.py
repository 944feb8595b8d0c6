"""Writes a document as a GGUF file, chunk by chunk: some hundred megabytes of memory for any model."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from threading import Event as Flag
from typing import Any, BinaryIO, TypeAlias

import numpy as np
from gguf import GGMLQuantizationType, GGUFWriter
from numpy.typing import NDArray

from backends.conversion.encode import Bytes, NotFiniteError, encoded, interleaved
from backends.conversion.source import Rows, Stored
from backends.conversion.types import Document, Piece, Value, WeightType
from backends.errors import Cancelled, ModelDamaged
from backends.storage import flush_to_disk, storage_error
from backends.text import Text, shown_name

# Called with the bytes of source weights that are read so far.
Report: TypeAlias = Callable[[int], None]

_TYPES = {
    WeightType.F32: GGMLQuantizationType.F32,
    WeightType.F16: GGMLQuantizationType.F16,
    WeightType.Q8_0: GGMLQuantizationType.Q8_0,
    WeightType.Q4_0: GGMLQuantizationType.Q4_0,
}
# Numbers of a chunk: 16 MB at 32 bits, long enough that reading and writing are long runs.
_CHUNK = 1 << 22


def source_bytes(document: Document, tensors: Mapping[str, Stored]) -> int:
    """Bytes of weights that are read for `document`."""
    return sum(tensors[piece.source].tensor.nbytes for piece in document.pieces if piece.source)


def write_document(
    document: Document,
    folder: Path,
    tensors: Mapping[str, Stored],
    path: Path,
    *,
    threads: int,
    report: Report,
    cancel: Flag,
    durable: bool = True,
) -> None:
    """Write `document` to `path` from the `tensors` of the checkpoint in `folder`.

    It is on the disk then, unless it need not be `durable`.

    On an error the file is left as it is, unfinished. Raises Cancelled within a chunk of `cancel`, DiskFull
    or FolderReadOnly, and ModelDamaged for weights that can't be read or are no numbers.
    """
    try:
        with closing(_begun(document, path)) as writer, Rows(folder, tensors) as rows:
            assert writer.fout is not None
            out = writer.fout[0]
            _write_pieces(document, folder, rows, out, threads=threads, report=report, cancel=cancel)
            if durable:
                flush_to_disk(out)
    except OSError as error:
        raise storage_error(error, path.parent, document.nbytes) from error


def _begun(document: Document, path: Path) -> GGUFWriter:
    """A file that is written up to where the weights begin."""
    writer = GGUFWriter(None, document.architecture)
    for key, value in document.values.items():
        _add(writer, key, value)
    for piece in document.pieces:
        writer.add_tensor_info(
            piece.name, piece.shape, np.dtype(np.float32), piece.nbytes, raw_dtype=_TYPES[piece.kind]
        )
    try:
        writer.write_header_to_file(path)
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
    except OSError:
        _close(writer)
        raise
    return writer


def _close(writer: GGUFWriter) -> None:
    try:
        writer.close()
    except OSError:  # what is still in its buffer has no place either
        return


def _add(writer: GGUFWriter, key: str, value: Value) -> None:
    match value:
        case bool():
            writer.add_bool(key, value)
        case int():
            writer.add_uint32(key, value)
        case float():
            writer.add_float32(key, value)
        case str():
            writer.add_string(key, value)
        case _:
            writer.add_array(key, value)


def _write_pieces(
    document: Document,
    folder: Path,
    rows: Rows,
    out: BinaryIO,
    *,
    threads: int,
    report: Report,
    cancel: Flag,
) -> None:
    """Read and write in this thread, convert in others, as many chunks ahead as there are of them."""
    waiting: deque[tuple[Piece, bool, int, Future[Bytes]]] = deque()
    read = 0

    def write_first() -> None:
        piece, last, done, chunk = waiting.popleft()
        try:
            out.write(chunk.result().data)
        except NotFiniteError as error:
            raise _not_finite(folder, piece) from error
        if last:
            out.write(bytes(-out.tell() % 32))
        report(done)

    with ThreadPoolExecutor(max(1, threads), thread_name_prefix="convert") as pool:
        out.write(bytes(-out.tell() % 32))
        try:
            for piece, begin, end in _chunks(document):
                if cancel.is_set():
                    raise Cancelled
                stored, dtype = _stored(piece, rows, begin, end)
                read += stored.nbytes if piece.source else 0
                chunk = pool.submit(_converted, piece, stored, dtype)
                waiting.append((piece, end == piece.rows, read, chunk))
                if len(waiting) > threads:
                    write_first()
            while waiting:
                write_first()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _chunks(document: Document) -> Iterator[tuple[Piece, int, int]]:
    """Every piece's rows in runs of about a chunk; rows of one head stay together."""
    for piece in document.pieces:
        unit = piece.rows // piece.heads if piece.heads and len(piece.shape) > 1 else 1
        step = max(1, _CHUNK // max(1, piece.width * unit)) * unit
        for begin in range(0, piece.rows, step):
            yield piece, begin, min(begin + step, piece.rows)


def _stored(piece: Piece, rows: Rows, begin: int, end: int) -> tuple[NDArray[Any], str]:
    """The numbers of a piece's rows as they lie in the checkpoint, and torch's name for them."""
    if not piece.source:
        return np.array(piece.values, np.float32), "float32"
    dtype = rows.dtype(piece.source)
    if not piece.shift:
        return rows.read(piece.source, begin, end), dtype
    # Rows move up by `shift`; the first ones come last, where they are kept at all.
    turn = rows.rows(piece.source) - piece.shift
    parts = [(begin + piece.shift, min(end, turn) + piece.shift), (max(begin - turn, 0), end - turn)]
    found = [rows.read(piece.source, first, last) for first, last in parts if first < last]
    return np.concatenate(found), dtype


def _converted(piece: Piece, stored: NDArray[Any], dtype: str) -> Bytes:
    if piece.heads:
        width = piece.width if len(piece.shape) > 1 else 1
        head_dim = piece.shape[0] // piece.heads
        stored = interleaved(stored.reshape(-1, width), head_dim).reshape(-1)
    return encoded(stored, dtype, piece.kind)


def _not_finite(folder: Path, piece: Piece) -> ModelDamaged:
    detail = Text.of(
        "convert.not_finite",
        "{tensor} holds values that are infinite, no numbers, or too large for {kind}.",
        tensor=shown_name(piece.source),
        kind=piece.kind.value.upper(),
    )
    return ModelDamaged(path=str(folder), detail=detail, file="*.safetensors")
