"""Hardware as JSON: what `doctor --json` prints and `plan --hardware` reads (DESIGN section 6)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

from backends.errors import SettingInvalid
from backends.hardware import known
from backends.hardware.fields import MISSING, BadValue, JsonObject, dotted, is_whole
from backends.hardware.locate import line_of
from backends.hardware.types import Cpu, Disk, Gpu, GpuProcess, HardwareSnapshot, OsName, Ram
from backends.text import Text, Value, shown_name

# What is taken for a part that a description leaves out: an ordinary desktop.
_CORES, _FEATURES = 4, ("avx", "avx2", "fma", "f16c")
_DISK_BYTES = 100 * 1024**3
_EXAMPLE = Text("cli.hardware_remedy", '`doctor --json` prints such a description under "hardware".')


def to_json(snapshot: HardwareSnapshot) -> dict[str, Any]:
    """Return the description with exactly the keys of DESIGN section 6; unknown figures are None."""
    return {
        "os": snapshot.os,
        "gpus": [
            {
                "index": gpu.index,
                "name": gpu.name,
                "total_bytes": gpu.total_bytes,
                "free_bytes": gpu.free_bytes,
                "compute_capability": list(gpu.compute_capability) if gpu.compute_capability else None,
                "utilization": gpu.utilization,
                "display": gpu.display,
                "memory_gbps": gpu.memory_gbps,
                "pcie_gbps": gpu.pcie_gbps,
                "nvlink_peers": list(gpu.nvlink_peers),
                "processes": [
                    {"pid": held.pid, "name": held.name, "bytes": held.bytes} for held in gpu.processes
                ],
            }
            for gpu in snapshot.gpus
        ],
        "ram": {
            "total_bytes": snapshot.ram.total_bytes,
            "available_bytes": snapshot.ram.available_bytes,
            "commit_limit_bytes": snapshot.ram.commit_limit_bytes,
            "memory_gbps": snapshot.ram.memory_gbps,
            **_commit_left(snapshot.ram),
        },
        "cpu": {
            "name": snapshot.cpu.name,
            "cores": snapshot.cpu.cores,
            "features": list(snapshot.cpu.features),
            "gflops_fp32": snapshot.cpu.gflops_fp32,
        },
        "disk": {
            "path": snapshot.disk.path,
            "free_bytes": snapshot.disk.free_bytes,
            "read_gbps": snapshot.disk.read_gbps,
        },
    }


def read_file(path: Path) -> HardwareSnapshot:
    """Read a description file.

    Raises SettingInvalid, naming the key and the line, when it can't be read, is not JSON, or says
    something impossible. The whole output of `doctor --json` is understood too.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        raise _invalid("--hardware", path, _reason(error), _EXAMPLE) from None
    return read_text(text, "--hardware", path, path.name)


def read_text(text: str, name: Value, value: Value | Path, source: Value) -> HardwareSnapshot:
    """Read a description; errors say that `name` can't be `value`, or name the key and the line of `source`.

    Raises SettingInvalid.
    """
    try:
        document = json.loads(text, parse_constant=_no_constant)
    except RecursionError:
        raise _invalid(
            name, value, Text("hardware.file.nested", "It is nested too deeply."), _EXAMPLE
        ) from None
    except json.JSONDecodeError as error:
        where = Text.of(
            "hardware.file.not_json",
            "Line {line}, column {column} is not JSON: {message}.",
            line=error.lineno,
            column=error.colno,
            message=error.msg,
        )
        raise _invalid(name, value, where, Text("hardware.file.correct_line", "Correct that line.")) from None
    except _NotANumber as error:
        raise _invalid(
            name,
            value,
            Text.of("hardware.file.not_a_number", "{word} is not a number that JSON knows.", word=str(error)),
            Text("hardware.file.null_remedy", "Write a number, or null."),
        ) from None
    except ValueError:
        endless = Text("hardware.file.endless", "It holds a number of thousands of digits.")
        raise _invalid(
            name, value, endless, Text("hardware.file.correct_number", "Correct the number.")
        ) from None
    try:
        return _snapshot(document)
    except BadValue as bad:
        line = line_of(text, bad.path) or 1
        where = Text.of(
            "hardware.file.at_line",
            "{detail} (line {line} of {source})",
            detail=bad.detail,
            line=line,
            source=source,
        )
        raise _invalid(dotted(bad.path), bad.value, where, bad.suggestion) from None


def from_json(document: object, source: Value) -> HardwareSnapshot:
    """Check a parsed description and complete it; `source` names it in errors.

    Optional figures that are absent or null are filled from `known` and listed in `assumed`. Raises
    SettingInvalid with the key and what is wrong.
    """
    try:
        return _snapshot(document)
    except BadValue as bad:
        raise _invalid(
            dotted(bad.path),
            bad.value,
            Text.of("hardware.file.in_source", "{detail} ({source})", detail=bad.detail, source=source),
            bad.suggestion,
        ) from None


def _snapshot(document: object) -> HardwareSnapshot:
    root = JsonObject(document, ())
    if root.get("gpus") is None and root.get("hardware") is not None:
        root = root.child("hardware")  # the whole output of `doctor --json`
    root.check_names("os", "gpus", "ram", "cpu", "disk")
    system = root.choice("os", get_args(OsName))
    assumed: list[str] = []
    gpus = tuple(
        _gpu(JsonObject(entry, (*root.path, "gpus", position)), position, assumed)
        for position, entry in enumerate(root.items("gpus"))
    )
    _check_indices(gpus)
    cpu = _cpu(root, assumed)
    ram = _ram(root, cpu, assumed)
    return HardwareSnapshot(
        os=system, gpus=gpus, ram=ram, cpu=cpu, disk=_disk(root, assumed), assumed=tuple(assumed)
    )


def _gpu(entry: JsonObject, position: int, assumed: list[str]) -> Gpu:
    entry.check_names(
        *("index", "name", "total_bytes", "free_bytes", "compute_capability", "utilization", "display"),
        *("memory_gbps", "pcie_gbps", "nvlink_peers", "processes"),
    )
    name = shown_name(entry.text("name"))
    facts = known.gpu_facts(name)
    table_bytes = int(facts.gib * known.GIB) if facts else None
    if entry.get("total_bytes") is None and table_bytes:
        assumed.append(f"gpus[{position}].total_bytes")
    total = entry.size("total_bytes", table_bytes, least=1)
    if entry.get("free_bytes") is None:
        assumed.append(f"gpus[{position}].free_bytes")
    # A GPU at rest: the driver and a desktop hold a few per cent.
    free = entry.size("free_bytes", total - total // 32)
    if free > total:
        raise entry.bad(
            "free_bytes",
            Text("hardware.file.free", "More memory is free than the GPU has."),
            Text.of("hardware.file.at_most", "Give at most {total}.", total=total),
        )
    load = entry.whole("utilization", None, 0, 100)
    gpu = Gpu(
        index=entry.whole("index", position, 0, 1023) or 0,
        name=name,
        total_bytes=total,
        free_bytes=free,
        compute_capability=_capability(entry),
        utilization=load,
        display=entry.flag("display"),
        memory_gbps=entry.speed("memory_gbps"),
        pcie_gbps=entry.speed("pcie_gbps"),
        nvlink_peers=tuple(
            JsonObject.number(peer, (*entry.path, "nvlink_peers", place))
            for place, peer in enumerate(entry.items("nvlink_peers", ()))
        ),
        processes=tuple(
            _process(JsonObject(held, (*entry.path, "processes", place)))
            for place, held in enumerate(entry.items("processes", ()))
        ),
    )
    filled, missing = known.fill_gpu(gpu)
    assumed.extend(f"gpus[{position}].{figure}" for figure in missing)
    return filled


def _capability(entry: JsonObject) -> tuple[int, int] | None:
    given = entry.get("compute_capability")
    if given is None:
        return None
    if isinstance(given, list) and len(given) == 2 and all(is_whole(part) and part >= 0 for part in given):
        return given[0], given[1]
    raise entry.bad(
        "compute_capability",
        Text("hardware.file.pair", "It is not a pair of whole numbers."),
        Text("hardware.file.pair_remedy", "Write it like [8, 6]."),
    )


def _process(entry: JsonObject) -> GpuProcess:
    entry.check_names("pid", "name", "bytes")
    return GpuProcess(
        entry.whole("pid", 0, 0, 2**32) or 0,
        shown_name(entry.text("name", "a process")),
        entry.size("bytes", 0),
    )


def _check_indices(gpus: Sequence[Gpu]) -> None:
    indices = [gpu.index for gpu in gpus]
    for position, index in enumerate(indices):
        if index in indices[:position]:
            path = ("gpus", position, "index")
            raise BadValue(
                path,
                index,
                Text("hardware.file.index", "Another GPU has this index."),
                Text("hardware.file.index_remedy", "Number the GPUs 0, 1, ..."),
            )
    for position, gpu in enumerate(gpus):
        for place, peer in enumerate(gpu.nvlink_peers):
            if peer not in indices or peer == gpu.index:
                detail = Text("hardware.file.peer", "It is not the index of another GPU.")
                raise BadValue(
                    ("gpus", position, "nvlink_peers", place),
                    peer,
                    detail,
                    Text("hardware.file.peer_remedy", "Name a GPU of this description."),
                )


def _cpu(root: JsonObject, assumed: list[str]) -> Cpu:
    entry = root.child("cpu")
    entry.check_names("name", "cores", "features", "gflops_fp32")
    absent = (key for key in ("cores", "features", "gflops_fp32") if entry.get(key) is None)
    assumed.extend(f"cpu.{key}" for key in absent)
    cores = entry.whole("cores", _CORES, 1, 4096) or _CORES
    features = tuple(
        JsonObject.word(feature, (*entry.path, "features", place))
        for place, feature in enumerate(entry.items("features", _FEATURES))
    )
    gflops = entry.speed("gflops_fp32")
    return Cpu(
        shown_name(entry.text("name", "CPU")),
        cores,
        features,
        known.assumed_gflops(cores, features) if gflops is None else gflops,
    )


def _ram(root: JsonObject, cpu: Cpu, assumed: list[str]) -> Ram:
    entry = root.child("ram", required=True)
    entry.check_names(
        "total_bytes", "available_bytes", "commit_limit_bytes", "commit_available_bytes", "memory_gbps"
    )
    total = entry.size("total_bytes", least=1)
    absent = (key for key in ("available_bytes", "memory_gbps") if entry.get(key) is None)
    assumed.extend(f"ram.{key}" for key in absent)
    available = entry.size("available_bytes", total - total // 4)
    if available > total:
        raise entry.bad(
            "available_bytes",
            Text("hardware.file.available", "More is available than there is."),
            Text.of("hardware.file.at_most", "Give at most {total}.", total=total),
        )
    given = entry.get("commit_limit_bytes")
    speed = entry.speed("memory_gbps")
    return Ram(
        total,
        available,
        None if given is None else entry.size("commit_limit_bytes", least=1),
        known.assumed_ram_gbps(cpu.name, cpu.cores) if speed is None else speed,
        None if entry.get("commit_available_bytes") is None else entry.size("commit_available_bytes"),
    )


def _commit_left(ram: Ram) -> dict[str, int]:
    """What Windows still promises, where it tells."""
    left = ram.commit_available_bytes
    return {} if left is None else {"commit_available_bytes": left}


def _disk(root: JsonObject, assumed: list[str]) -> Disk:
    entry = root.child("disk")
    entry.check_names("path", "free_bytes", "read_gbps")
    assumed.extend(f"disk.{key}" for key in ("free_bytes", "read_gbps") if entry.get(key) is None)
    speed = entry.speed("read_gbps")
    return Disk(
        entry.text("path", "."),
        entry.size("free_bytes", _DISK_BYTES),
        known.ASSUMED_DISK_GBPS if speed is None else speed,
    )


class _NotANumber(ValueError):
    """NaN and Infinity, which Python's reader would take."""


def _no_constant(word: str) -> float:
    raise _NotANumber(word)


def _invalid(name: Value, value: object, detail: Value, suggestion: Value) -> SettingInvalid:
    shown: Value
    if isinstance(value, Text):
        shown = value
    elif value is MISSING:
        shown = Text("cli.left_out", "left out")
    elif isinstance(value, Path):
        shown = str(value)
    else:
        shown = json.dumps(value, ensure_ascii=False, default=str)
        shown = shown if len(shown) <= 60 else shown[:57] + "..."
    return SettingInvalid(name=name, value=shown, detail=detail, suggestion=suggestion)


def _reason(error: Exception) -> Text:
    if isinstance(error, FileNotFoundError):
        return Text("hardware.file.no_file", "There is no such file.")
    if isinstance(error, OSError):
        return Text.of(
            "hardware.file.unreadable", "It can't be read: {detail}.", detail=error.strerror or str(error)
        )
    if isinstance(error, UnicodeDecodeError):
        return Text("hardware.file.utf8", "It is not a UTF-8 text.")
    return Text("hardware.file.bad_path", "That is not a valid path.")
