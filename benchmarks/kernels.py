"""Kernels by themselves: where constants of `backends.placement.speed` come from, beside calibrated figures.

Attention on the CPU while decoding (one row) and while reading a prompt (many rows), and reading a file past
the cache into memory of two kinds. Shares are of what calibrating measures in the same run.

    python -m benchmarks.kernels
"""

from __future__ import annotations

import mmap
import os
import tempfile
import time
from pathlib import Path

import torch

from backends.engines.devices import use_physical_cores
from backends.engines.speeds import cpu_speeds
from backends.hardware.timing import shortest
from backends.hardware.uncached import aligned_memory, open_uncached
from benchmarks.report import Row, publish

_SECONDS, _LAYERS, _KEYS = 0.5, 12, 4096
_BLOCK, _FILE_BLOCKS = 8 * 1024**2, 128
# Query heads, heads of keys and values, numbers of a head.
_SHAPES = ((16, 16, 64), (16, 4, 64), (32, 4, 64), (16, 16, 128))


def one_row_gbps(dtype: torch.dtype, heads: int, kv_heads: int, dim: int) -> float:
    """GB/s of keys and values, counted for every head that reads them; as many layers as fill the caches."""
    kept = [torch.randn(2, 1, kv_heads, _KEYS, dim).to(dtype) for _ in range(_LAYERS)]
    query = torch.randn(1, heads, 1, dim).to(dtype)

    def decode() -> None:
        for keys, values in kept:
            torch.nn.functional.scaled_dot_product_attention(
                query, keys, values, enable_gqa=heads != kv_heads
            )

    read = sum(layer.nbytes for layer in kept) * (heads // kv_heads)
    return read / shortest(decode, _SECONDS) / 1e9


def many_rows_gflops(dtype: torch.dtype, rows: int, keys: int) -> float:
    """GFLOP/s of a prompt's piece: `rows` that see all of `keys` before them."""
    heads, dim = 16, 64
    query = torch.randn(1, heads, rows, dim).to(dtype)
    key, value = torch.randn(2, 1, heads, keys, dim).to(dtype)
    mask = torch.ones(rows, keys, dtype=torch.bool).tril(keys - rows)[None, None]

    def read() -> None:
        torch.nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)

    return 4 * rows * keys * heads * dim / shortest(read, _SECONDS) / 1e9


def file_gbps(path: Path, memory: memoryview) -> float:
    """GB/s of one pass over `path`, past the cache, into `memory`; 0 where that can't be."""
    stream = open_uncached(path)
    if stream is None:
        return 0.0
    done, begun = 0, time.perf_counter()
    with stream:
        while count := stream.readinto(memory):
            done += count
    return done / (time.perf_counter() - begun) / 1e9


def disk_rows() -> list[Row]:
    """The same file into ordinary and into huge pages, in turns."""
    found: dict[str, list[float]] = {"ordinary pages": [], "huge pages": []}
    with tempfile.TemporaryDirectory(prefix="snug-bench-") as folder:
        path = Path(folder) / "file"
        with path.open("wb") as file:
            for _ in range(_FILE_BLOCKS):
                file.write(os.urandom(_BLOCK))
            file.flush()
            os.fsync(file.fileno())
        for _ in range(5):
            found["ordinary pages"].append(file_gbps(path, memoryview(mmap.mmap(-1, _BLOCK))))
            found["huge pages"].append(file_gbps(path, aligned_memory(_BLOCK)))
    return [
        Row(f"reading 1 GB past the cache into {kind}", f"{min(rates):.1f} to {max(rates):.1f} GB/s")
        for kind, rates in found.items()
    ]


def attention_rows(speeds: dict[str, float]) -> list[Row]:
    """Shares of the rates that calibrating finds."""
    vectors, products = speeds["vector_gbps_fp32"], speeds["gflops_fp32"]
    rows = []
    for name, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        for heads, kv_heads, dim in _SHAPES:
            rate = one_row_gbps(dtype, heads, kv_heads, dim)
            what = f"one row, {heads} heads of {dim}, {kv_heads} of keys, {name}"
            rows.append(Row(what, f"{rate:.1f} GB/s, {rate / vectors:.2f} of fp32 vectors"))
        for count, keys in ((577, 577), (576, 2304), (1024, _KEYS)):
            rate = many_rows_gflops(dtype, count, keys)
            what = f"{count} rows, {keys} keys, {name}"
            rows.append(Row(what, f"{rate:.0f} GFLOP/s, {rate / products:.2f} of fp32 products"))
    return rows


def main() -> None:
    use_physical_cores()
    speeds = cpu_speeds(1.0)
    with torch.inference_mode():
        rows = attention_rows(speeds)
    publish("kernels", [*rows, *disk_rows()], {"calibrated": speeds})


if __name__ == "__main__":
    main()
