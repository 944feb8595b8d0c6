"""Compares what headers tell of a family with what the family really is; run as a script for all of them.

    python -m tests.support.family_check [MODEL_TYPE ...]

Prints a line for each family that transformers has: read right, refused, not to be built, or what is wrong.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

from backends.errors import ModelUnsupported, SnugError
from backends.models.identify import identify
from backends.models.types import ModelInfo, ModuleKind
from tests.support.shapes import write_model

# What `all_families` runs: a prompt, and one token more. Named here too, so that torch stays out.
TOKENS = 9001


def read(family: dict[str, Any], folder: Path) -> ModelInfo:
    """The model of header-only copies of what was built."""
    shapes = {name: tuple(shape) for name, shape in family["shapes"].items()}
    return identify(write_model(folder, family["config"], shapes, dtype="BF16", shards=2))


def differences(family: dict[str, Any], model: ModelInfo) -> list[str]:
    """Where `model` is not what was built: modules, parameters, blocks that are never split, the cache."""
    return [*_tree(family, model), *_cache(family, model)]


def _tree(family: dict[str, Any], model: ModelInfo) -> list[str]:
    found: list[str] = []
    for module in model.modules:
        inside = family["modules"].get(module.name, family["names"].get(module.name))
        if inside is None:
            found.append(f"no module {module.name}")
        elif inside != module.parameters and not (
            module.kind is ModuleKind.HEAD and model.text.tied_embeddings
        ):
            found.append(f"{module.name} has {inside} parameters, not {module.parameters}")
    places = [module.name for module in model.modules]
    for name in family["names"]:
        owners = [place for place in places if name == place or name.startswith(f"{place}.")]
        if len(owners) != 1:
            found.append(f"{name} is in {owners or 'no module'}")
    found += [
        f"{path} is split"
        for path in family["no_split"]
        if not any(path == place or path.startswith(f"{place}.") for place in places)
    ]
    if model.parameters != family["parameters"]:
        found.append(f"{family['parameters']} parameters, not {model.parameters}")
    return found


def _cache(family: dict[str, Any], model: ModelInfo) -> list[str]:
    """Layers that keep something else; none where the family can't be run without memory."""
    layers = [module for module in model.modules if module.kind is ModuleKind.LAYER]
    usual = 2 * model.text.kv_heads * model.text.head_dim * 2 * TOKENS
    counted = [layer.cache.nbytes(TOKENS, 0, 2) if layer.cache else usual for layer in layers]
    real = [half * 2 + full * 4 for half, full in family.get("cache", [])]
    pairs = zip(counted, real, strict=False)
    return [f"layer {index} keeps {b}, not {a}" for index, (a, b) in enumerate(pairs) if a != b]


def main(wanted: list[str]) -> None:
    """Check `wanted` (default: every family)."""
    command = [sys.executable, "-m", "tests.support.all_families", *wanted]
    lines = subprocess.run(command, capture_output=True, check=True, text=True).stdout.splitlines()
    verdicts: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as temporary:
        for family in map(json.loads, lines):
            verdict, words = _verdict(family, Path(temporary) / family["family"])
            verdicts[verdict] += 1
            print(f"{family['family']:28} {verdict:10} {words[:150]}")
    print(dict(verdicts))


def _verdict(family: dict[str, Any], folder: Path) -> tuple[str, str]:
    if "error" in family:
        return "not built", family["error"].splitlines()[0]
    try:
        found = differences(family, read(family, folder))
    except ModelUnsupported as refusal:
        return "refused", str(refusal.values["detail"])
    except SnugError as error:
        return "wrong", str(error)
    unrun = "cache not measured" if "cache" not in family else ""
    return ("wrong", "; ".join(found)) if found else ("right", unrun)


if __name__ == "__main__":
    main(sys.argv[1:])
