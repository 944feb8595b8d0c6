"""What a GGUF file says of rotary positions: the base, and how a context was stretched."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from backends.conversion.refusal import POSITIONS, refused
from backends.conversion.types import Value

_DEFAULT_BASE = 10_000.0


@dataclass(frozen=True, slots=True)
class Positions:
    """Metadata below `<architecture>.rope.`, and a divisor for each pair of a head's numbers, if any."""

    values: Mapping[str, Value]
    divisors: tuple[float, ...] = ()


def rotary_positions(folder: Path, config: Mapping[str, Any], head_dim: int) -> Positions:
    """Read the positions of a language model's config, in the form of any version.

    Raises ModelUnsupported for a stretching that llama.cpp computes otherwise, or not at all.
    """
    stated = _dict(config.get("rope_parameters")) or _dict(config.get("rope_scaling"))
    base = float(stated.get("rope_theta") or config.get("rope_theta") or _DEFAULT_BASE)
    partial = stated.get("partial_rotary_factor", config.get("partial_rotary_factor"))
    if partial not in {None, 1}:
        raise refused(folder, POSITIONS, f"partial_rotary_factor {partial}")
    values: dict[str, Value] = {"freq_base": base, "dimension_count": head_dim}
    kind = stated.get("rope_type", stated.get("type", "default"))
    match kind:
        # A dynamic base stays as it is within the context that the file states.
        case "default" | "dynamic" | None:
            return Positions(values)
        case "linear":
            return Positions(values | {"scaling.type": "linear", "scaling.factor": float(stated["factor"])})
        case "yarn" if not any(key in stated for key in ("mscale", "mscale_all_dim", "attention_factor")):
            return Positions(values | _yarn(stated, config))
        case "llama3":
            return Positions(values, _llama3(stated, config, base, head_dim))
    raise refused(folder, POSITIONS, kind)


def _dict(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _original(stated: Mapping[str, Any], config: Mapping[str, Any]) -> int:
    """The context before it was stretched."""
    return int(stated.get("original_max_position_embeddings") or config["max_position_embeddings"])


def _yarn(stated: Mapping[str, Any], config: Mapping[str, Any]) -> dict[str, Value]:
    return {
        "scaling.type": "yarn",
        "scaling.factor": float(stated["factor"]),
        "scaling.original_context_length": _original(stated, config),
        "scaling.yarn_beta_fast": float(stated.get("beta_fast") or 32),
        "scaling.yarn_beta_slow": float(stated.get("beta_slow") or 1),
    }


def _llama3(
    stated: Mapping[str, Any], config: Mapping[str, Any], base: float, head_dim: int
) -> tuple[float, ...]:
    """By what Llama 3.1 divides each frequency: long waves by the factor, short ones by nothing.

    The formula is that of Meta's `apply_scaling`, in "The Llama 3 Herd of Models" code.
    """
    factor, old = float(stated["factor"]), _original(stated, config)
    low, high = float(stated["low_freq_factor"]), float(stated["high_freq_factor"])
    found = []
    for pair in range(head_dim // 2):
        wave = 2 * math.pi * base ** (2 * pair / head_dim)
        if wave < old / high:
            found.append(1.0)
        elif wave > old / low:
            found.append(factor)
        else:
            smooth = (old / wave - low) / (high - low)
            found.append(1 / ((1 - smooth) / factor + smooth))
    return tuple(found)
