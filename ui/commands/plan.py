"""Say what will fit and how fast it will be, before anything is loaded.

The plan is an answer also when its verdict is "no": the exit code is 0 whenever the question could be
answered.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from backends.hardware.describe import read_file
from backends.placement.export import needs_to_json, plan_to_json
from backends.placement.types import Plan, PlanRequest
from backends.presets import Preset
from backends.reports import DeviceMeasured, Measurement
from backends.service import Service
from backends.settings import Settings
from backends.text import human_bytes, human_rate, plain
from ui.i18n import Translator
from ui.naming import engine_name, exact_name, precision_name
from ui.overrides import parse_overrides


def add_model_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments that `plan` and `ask` share."""
    parser.add_argument("model", help="`starter`, a model folder, a GGUF file or a Hub id")
    presets = [preset.value for preset in Preset]
    parser.add_argument("--preset", choices=presets, default=Preset.AUTO.value)
    parser.add_argument(
        "--set",
        dest="settings",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="a setting by hand, such as precision=nf4 or gpus=2,3; may be repeated",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON document")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `plan`."""
    add_model_arguments(parser)
    parser.add_argument(
        "--hardware", type=Path, metavar="FILE", help="plan for the machine that FILE describes"
    )
    parser.add_argument(
        "--needs", action="store_true", help="also say which change here or which card would run it whole"
    )


def request(options: argparse.Namespace) -> PlanRequest:
    """What the arguments ask for. Raises `SettingInvalid`."""
    return PlanRequest(options.model, Preset(options.preset), parse_overrides(options.settings))


def run(options: argparse.Namespace, settings: Settings, say: Translator) -> int:
    """Plan and print."""
    asked = request(options)
    hardware = read_file(options.hardware) if options.hardware else None
    service = Service(settings, preload=False)
    try:
        plan = service.plan(asked, hardware)
        measured = None if hardware else service.measured(plan)
        needs = service.needs(asked, hardware) if options.needs else None
    finally:
        service.close()
    if options.json:
        document = plan_to_json(plan, say.text) | {"measured": measured_to_json(measured)}
        if needs is not None:
            document["needs"] = needs_to_json(needs, say.text)
        print(json.dumps(document, indent=2, ensure_ascii=False))
    else:
        lines = describe(plan, say, measured[1] if measured else None)
        if needs is not None:
            lines += [f"? {say.text(sentence)}" for sentence in needs.sentences]
        print("\n".join(map(plain, lines)))
    return 0


def measured_to_json(measured: tuple[float, Measurement] | None) -> dict[str, Any] | None:
    """What was measured when just this plan was last loaded and used; None when it never was.

    `expected_bytes` is the formula's figure for the tokens and pictures that were there, so it compares
    with `held_bytes`; a plan's total is for its whole context.
    """
    if measured is None:
        return None
    when, found = measured
    return {
        "when": datetime.fromtimestamp(when, UTC).isoformat(timespec="seconds"),
        "context_tokens": found.context_tokens,
        "images": found.images,
        "load_s": None if found.load_s is None else round(found.load_s, 4),
        "first_token_s": round(found.first_token_s, 4),
        "tokens_per_s": round(found.tokens_per_s, 2),
        "load_peak_ram_bytes": found.load_peak_ram_bytes,
        "devices": [{"id": one.device} | _without_device(asdict(one)) for one in found.devices],
    }


def _without_device(values: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if key != "device"}


def _held(one: DeviceMeasured, tokens: int, say: Translator) -> str:
    key = "plan.held_torch" if one.source == "allocator" else "plan.held"
    figures = {"held": human_bytes(one.held_bytes), "expected": human_bytes(one.expected_bytes)}
    return say(key, tokens=tokens, **figures)


def describe(plan: Plan, say: Translator, measured: Measurement | None = None) -> list[str]:
    """Lines of a plan for a terminal; under each device what was `measured` on it."""
    held = {one.device: one for one in measured.devices} if measured else {}
    speed = say(
        "plan.speed",
        tokens=human_rate(plan.expected.tokens_per_s),
        first=plan.expected.first_token_s,
        load=plan.expected.load_s,
    )
    precision = precision_name(plan.precision, say) if plan.engine == "llamacpp" else plan.precision
    how = f"{engine_name(plan.engine)} · {precision}"
    lines = [
        f"{plan.model_path} ({plan.family}, {plan.parameters:,})",
        f"{say('verdict.' + plan.verdict)} · {how} · {speed}",
    ]
    for share in plan.devices:
        lines.append(
            f"  {share.device:8} {human_bytes(share.total_bytes):>9} / "
            f"{human_bytes(share.budget_bytes):<9} {share.name}"
        )
        if measured and (one := held.get(share.device)):
            lines.append(f"  {'':8} {_held(one, measured.context_tokens, say)}")
    lines += [f"- {say.text(reason)}" for reason in plan.reasons]
    lines += [
        f"  {say('plan.instead')}: {engine_name(other.engine)} {exact_name(other.engine, other.precision)} "
        f"({say('verdict.' + other.verdict)}): {say.text(other.why_not)}"
        for other in plan.alternatives
    ]
    return lines
