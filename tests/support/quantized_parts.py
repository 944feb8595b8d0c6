"""Quantizes every family on torch's meta device and tells where a plan says something else; run as a script.

    python -m tests.support.quantized_parts FOLDER [MODEL_TYPE ...]

For each family: the default config, cut to its first few layers, is built without memory, its header-only
copy written to FOLDER and read like any model; then transformers puts bitsandbytes' layers into the real
model with the options of the engine. Prints one JSON document a line: {"family", "wrong": {module:
[counted, real]}}, each being (parameters, rows) of quantized matrices; "refused" or "error" where nothing
can be compared.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from backends.models.types import ModelInfo, ModuleKind


def real(model: Any, info: ModelInfo) -> dict[str, list[int]]:
    """Name of a module -> parameters and rows of the matrices in it that transformers quantizes."""
    import bitsandbytes
    import transformers

    from backends.engines.options import all_but
    from backends.placement.precision import quantizable

    options = transformers.BitsAndBytesConfig(
        load_in_8bit=True, llm_int8_skip_modules=all_but(quantizable(info.modules))
    )
    quantizer = transformers.quantizers.AutoHfQuantizer.from_config(options)
    quantizer._process_model_before_weight_loading(model, device_map={"": "cpu"})
    found: dict[str, list[int]] = {}
    for path, module in model.named_modules():
        if isinstance(module, bitsandbytes.nn.Linear8bitLt):
            owner = next(
                (m.name for m in info.modules if path == m.name or path.startswith(f"{m.name}.")), ""
            )
            sums = found.setdefault(owner, [0, 0])
            sums[0] += module.in_features * module.out_features
            sums[1] += module.out_features
    return found


def counted(info: ModelInfo) -> dict[str, list[int]]:
    """The same by the plan."""
    return {
        module.name: [module.linear_parameters, module.linear_rows]
        for module in info.modules
        if module.kind is ModuleKind.LAYER and module.linear_parameters
    }


def check(family: str, folder: Path) -> dict[str, Any]:
    """Where both differ for one family."""
    import torch
    import transformers

    from backends.errors import ModelUnsupported
    from tests.support.all_families import all_types, cut
    from tests.support.family_check import read
    from tests.support.real_trees import describe

    config = transformers.models.auto.configuration_auto.CONFIG_MAPPING[family]()
    cut(config)
    name = all_types()[family]
    kind = getattr(transformers, name[0] if isinstance(name, tuple) else name)
    with torch.device("meta"):
        model = kind(config)
    try:
        info = read(describe(model), folder / family)
    except ModelUnsupported as refusal:
        return {"refused": str(refusal.values["detail"])}
    ours, theirs = counted(info), real(model, info)
    names = sorted(ours.keys() | theirs.keys())
    return {
        "layers": len(ours),
        "wrong": {n: [ours.get(n), theirs.get(n)] for n in names if ours.get(n) != theirs.get(n)},
    }


def main(folder: Path, wanted: list[str]) -> None:
    """Tell of `wanted` (default: every family)."""
    import transformers

    from tests.support.all_families import all_types

    transformers.logging.set_verbosity_error()
    for family in wanted or sorted(all_types()):
        try:
            found = check(family, folder)
        except Exception as error:  # noqa: BLE001 - one family's trouble is not the others'
            found = {"error": f"{type(error).__name__}: {error}"[:300]}
        sys.stdout.write(json.dumps({"family": family, **found}) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    os.environ["TRANSFORMERS_VERBOSITY"] = "critical"
    main(Path(sys.argv[1]), sys.argv[2:])
