"""A device map as text that a person can read and edit: a line for each module, or range of blocks."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence

from backends.errors import DeviceMapInvalid
from backends.text import Text

Placed = tuple[tuple[str, str], ...]

_GPU = re.compile(r"[0-9]{1,4}")
_NUMBERED = re.compile(r"(?P<above>.*\.)?(?P<number>\d{1,6})")
_RANGE = re.compile(r"(?P<above>.*\.)?(?P<first>\d{1,6})\s*-\s*(?P<last>\d{1,6})")
_LINE = re.compile(r"(?P<module>\S.*?)\s*(?:=|->|→|:|\s)\s*(?P<device>(?:cuda:)?\d+|[^\s:=]+)")
# No model has more numbered blocks; a longer range is a slip of the finger.
_LONGEST_RANGE = 4096


def device_name(device: object) -> str:
    """PyTorch writes GPU 0 as 0, people as "cuda:0" or "cuda"."""
    if isinstance(device, int) and not isinstance(device, bool):
        return f"cuda:{device}"
    return "cuda:0" if device == "cuda" else str(device)


def to_text(placed: Iterable[tuple[str, str]]) -> str:
    """Write a map with one line for each run of numbered blocks on one device (`layers.0-15 = cuda:0`)."""
    lines: list[str] = []
    run: tuple[str, int, int, str] | None = None
    for module, device in placed:
        block = _NUMBERED.fullmatch(module)
        if run is not None:
            above, first, last, where = run
            if block and (block["above"] or "", int(block["number"]), device) == (above, last + 1, where):
                run = (above, first, last + 1, where)
                continue
            lines.append(_run_line(run))
            run = None
        if block:
            run = (block["above"] or "", int(block["number"]), int(block["number"]), device)
        else:
            lines.append(f"{module or '*'} = {device}")
    if run is not None:
        lines.append(_run_line(run))
    return "\n".join(lines)


def _run_line(run: tuple[str, int, int, str]) -> str:
    above, first, last, device = run
    return f"{above}{first if first == last else f'{first}-{last}'} = {device}"


def to_json(placed: Sequence[tuple[str, str]]) -> str:
    """Write a map as the JSON that `--set device_map=FILE.json` reads."""
    return json.dumps(dict(placed), indent=1, ensure_ascii=False)


def from_text(text: str) -> Placed:
    """Read lines of `module = device`, or pasted JSON. Raises DeviceMapInvalid, naming the line.

    A module is a path, a path above others (`model.vision_tower`), a range of blocks
    (`model.layers.0-15`), or `*` for everything. What a module may be called is the planner's to check.
    """
    if text.lstrip().startswith("{"):
        return _from_json(text)
    placed: list[tuple[str, str]] = []
    for number, line in enumerate(text.splitlines(), 1):
        bare = re.sub("[\"']", "", line.partition("#")[0]).strip().rstrip(", ")
        if bare:
            placed.extend(_placements(bare, number))
    if not placed:
        raise DeviceMapInvalid(
            detail=Text("map.empty", "It places nothing."),
            suggestion=Text("map.line_remedy", "Write lines such as model.layers.0-15 = cuda:0."),
        )
    return tuple(placed)


def _from_json(text: str) -> Placed:
    try:
        # As pairs, so that a module that stands there twice is still seen.
        pairs = json.loads(text, object_pairs_hook=list)
    except (ValueError, RecursionError) as error:
        line = error.lineno if isinstance(error, json.JSONDecodeError) else 1
        raise DeviceMapInvalid(
            detail=Text.of("map.not_json", "It begins like JSON, but line {line} is not.", line=line),
            suggestion=Text("map.line_remedy", "Write lines such as model.layers.0-15 = cuda:0."),
        ) from error
    if not pairs or any(isinstance(device, list | dict | float) for _, device in pairs):
        raise DeviceMapInvalid(
            detail=Text("map.empty", "It places nothing."),
            suggestion=Text("map.line_remedy", "Write lines such as model.layers.0-15 = cuda:0."),
        )
    return tuple((str(module), device_name(device)) for module, device in pairs)


def _placements(line: str, number: int) -> Iterator[tuple[str, str]]:
    found = _LINE.fullmatch(line)
    if found is None:
        raise DeviceMapInvalid(
            detail=Text.of("map.line", "Line {line} places nothing: {text}", line=number, text=line[:60]),
            suggestion=Text("map.line_remedy", "Write lines such as model.layers.0-15 = cuda:0."),
        )
    module, written = found["module"].removesuffix(".*"), found["device"]
    device = device_name(int(written) if _GPU.fullmatch(written) else written)
    blocks = _RANGE.fullmatch(module)
    if blocks is None:
        yield "" if module == "*" else module, device
        return
    first, last = int(blocks["first"]), int(blocks["last"])
    if not 0 <= last - first < _LONGEST_RANGE:
        raise DeviceMapInvalid(
            detail=Text.of(
                "map.range", "Line {line} counts from {first} to {last}.", line=number, first=first, last=last
            ),
            suggestion=Text("map.range_remedy", "Write the smaller number first."),
        )
    for block in range(first, last + 1):
        yield f"{blocks['above'] or ''}{block}", device
