"""A plan as the JSON that `plan --json` prints (the keys are a contract: DESIGN section 6)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from backends.conversion.types import Conversion
from backends.placement.needs import CardNeed, Needs
from backends.placement.types import Alternative, DeviceShare, Plan
from backends.text import Text


def plan_to_json(plan: Plan, say: Callable[[Text], str] = str) -> dict[str, Any]:
    """Return `plan` as JSON values; `say` turns sentences into the person's language."""
    return {
        "model": {
            "path": plan.model_path,
            "family": plan.family,
            "parameters": plan.parameters,
            "layers": plan.layers,
            "format": plan.format,
        },
        "preset": plan.request.preset.value,
        "engine": plan.engine,
        "precision": plan.precision,
        "verdict": plan.verdict,
        "device_map": device_map_json(plan),
        "gpu_layers": plan.gpu_layers,
        "cpu_layers_mode": plan.cpu_layers_mode,
        "context_tokens": plan.context_tokens,
        "image_tokens": plan.image_tokens,
        "offload_dir": plan.offload_dir,
        "devices": [_device(share) for share in plan.devices],
        "load_peak_ram_bytes": plan.load_peak_ram_bytes,
        "expected": {
            "load_s": plan.expected.load_s,
            "first_token_s": plan.expected.first_token_s,
            "tokens_per_s": plan.expected.tokens_per_s,
        },
        "reasons": [say(reason) for reason in plan.reasons],
        "alternatives": [_alternative(other, say) for other in plan.alternatives],
        "conversion": _conversion(plan.conversion),
    }


def device_map_json(plan: Plan) -> dict[str, str]:
    """Return module -> device, in execution order."""
    return dict(plan.device_map)


def _conversion(found: Conversion | None) -> dict[str, Any] | None:
    """What llama.cpp needs made of the checkpoint first; null where the model's own files are loaded."""
    if found is None:
        return None
    return {
        "weights": found.kind.value,
        "pictures": found.vision_kind.value if found.vision_kind is not None else None,
        "bytes": found.nbytes,
        "source_bytes": found.source_bytes,
        "ready": found.ready,
        "layout": found.layout.value if found.layout is not None else None,
        "compared": found.compared,
        "gap": found.gap,
    }


def _device(share: DeviceShare) -> dict[str, Any]:
    return {
        "id": share.device,
        "name": share.name,
        "budget_bytes": share.budget_bytes,
        "weights_bytes": share.weights_bytes,
        "kv_cache_bytes": share.kv_cache_bytes,
        "activation_bytes": share.activation_bytes,
        "staging_bytes": share.staging_bytes,
        "overhead_bytes": share.overhead_bytes,
        "total_bytes": share.total_bytes,
    }


def _alternative(other: Alternative, say: Callable[[Text], str]) -> dict[str, Any]:
    return {
        "engine": other.engine,
        "precision": other.precision,
        "verdict": other.verdict,
        "tokens_per_s": other.tokens_per_s,
        "why_not": say(other.why_not),
    }


def needs_to_json(found: Needs, say: Callable[[Text], str] = str) -> dict[str, Any]:
    """Return the answer to "what would I need?" as JSON values; `change` and cards are null where none is."""
    change = None
    if found.change is not None and found.change_plan is not None:
        change = {
            "preset": found.change.preset.value,
            "context_tokens": found.change_plan.context_tokens,
            "precision": found.change_plan.precision,
            "verdict": found.change_plan.verdict,
            "tokens_per_s": found.change_plan.expected.tokens_per_s,
        }
    return {
        "runs": found.runs,
        "full_precision": found.full_precision,
        "change": change,
        "card": _card(found.card),
        "instead": _card(found.instead),
        "ram_bytes": found.ram_bytes,
        "page_file_bytes": found.page_file_bytes,
        "sentences": [say(sentence) for sentence in found.sentences],
    }


def _card(card: CardNeed | None) -> dict[str, Any] | None:
    if card is None:
        return None
    return {
        "name": card.name,
        "count": card.count,
        "total_bytes": card.bytes_each,
        "precision": card.precision,
        "tokens_per_s": card.tokens_per_s,
    }
