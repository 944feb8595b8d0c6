"""Say what will fit and how fast it will be, before anything is loaded.

The plan is an answer also when its verdict is "no": the exit code is 0 whenever the question could be
answered.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from backends.hardware.describe import read_file
from backends.placement.export import plan_to_json
from backends.placement.types import Plan, PlanRequest
from backends.presets import Preset
from backends.service import Service
from backends.settings import Settings
from backends.text import human_bytes, human_seconds
from ui.i18n import Translator
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
    finally:
        service.close()
    if options.json:
        print(json.dumps(plan_to_json(plan, say.text), indent=2, ensure_ascii=False))
    else:
        print("\n".join(describe(plan, say)))
    return 0


def describe(plan: Plan, say: Translator) -> list[str]:
    """Lines of a plan for a terminal."""
    speed = say(
        "plan.speed",
        tokens=f"{plan.expected.tokens_per_s:.1f}",
        first=human_seconds(plan.expected.first_token_s),
        load=human_seconds(plan.expected.load_s),
    )
    lines = [
        f"{plan.model_path} ({plan.family}, {plan.parameters:,})",
        f"{say('verdict.' + plan.verdict)} · {plan.engine} · {plan.precision} · {speed}",
    ]
    lines += [
        f"  {share.device:8} {human_bytes(share.total_bytes):>9} / "
        f"{human_bytes(share.budget_bytes):<9} {share.name}"
        for share in plan.devices
    ]
    lines += [f"- {say.text(reason)}" for reason in plan.reasons]
    lines += [
        f"  {say('plan.instead')}: {other.engine} {other.precision} ({say('verdict.' + other.verdict)}): "
        f"{say.text(other.why_not)}"
        for other in plan.alternatives
    ]
    return lines
